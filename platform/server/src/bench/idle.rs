//! What a platform costs that does nothing: memory and processor time of the gateway and the spawner, sandboxes apart.

use std::time::{Duration, Instant};

use super::Plan;
use super::machine::{processor_time, resident_kib};
use super::platform::Platform;
use super::report::{Row, Series, Target};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// How long after its start it is left alone before.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// What its memory may be, MiB.
const RESIDENT_MAX_MB: f64 = 60.0;

/// What share of one processor it may use, percent.
const PROCESSOR_MAX_PERCENT: f64 = 1.0;

/// Measures.
///
/// # Errors
/// The platform fails.
pub fn measure(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let platform = Platform::start("raas up", &[])?;
    platform.settle("full pools", |figures| figures.pool_python >= 2 && figures.pool_node >= 1)?;
    std::thread::sleep(SETTLED_AFTER);
    let processes = platform.processes()?;
    let used = || processes.iter().map(|pid| processor_time(*pid)).sum::<anyhow::Result<Duration>>();
    plan.say(&format!("idle: watching for {} s", WATCHED.as_secs()));
    let (before, begun) = (used()?, Instant::now());
    std::thread::sleep(WATCHED);
    let percent = (used()?.saturating_sub(before)).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let resident =
        processes.iter().map(|pid| Ok(resident_kib(*pid)? as f64 / 1024.0)).collect::<anyhow::Result<Vec<_>>>()?;
    let total = resident.iter().sum();
    let one = |value: f64| Series::new("raas", vec![value]);
    let what = "resident memory of gateway and spawner, no functions, pools full";
    let parts = resident.iter().map(|part| format!("{part:.1}")).collect::<Vec<_>>().join(" + ");
    rows.push(
        Row::new("idle", what, "MiB", Target::AtMost(RESIDENT_MAX_MB), one(total), None)
            .note(format!("gateway + spawner: {parts} MiB")),
    );
    let what = format!("processor time of both over {} s, of one processor", WATCHED.as_secs());
    rows.push(Row::new("idle", what, "%", Target::AtMost(PROCESSOR_MAX_PERCENT), one(percent), None));
    Ok(())
}
