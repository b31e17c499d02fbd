//! The first call of a function that was never called: with sandboxes waiting in the warming pool, and without.

use std::time::Instant;

use super::Plan;
use super::platform::{Figures, Function, Platform};
use super::report::{Row, Series, Target};
use super::warm::PYTHON_SOURCE;

/// First calls with the pool on in each round. With five rounds, more than a hundred in all.
const CALLS_POOLED: usize = 24;

/// First calls with the pool off in each round.
const CALLS_UNPOOLED: usize = 8;

/// Sandboxes that wait in the pool.
const POOL: u64 = 2;

/// What the median may be, milliseconds.
const P50_MAX_MS: f64 = 15.0;

/// What share of the time without a pool the slowest calls may take.
const P99_RATIO_MAX: f64 = 0.15;

/// Measures.
///
/// # Errors
/// A platform fails.
pub fn measure(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let pool = POOL.to_string();
    let pooled = Platform::start("raas up", &[("RAAS_POOL_PYTHON3", &pool), ("RAAS_POOL_NODE", "0")])?;
    let unpooled = Platform::start("raas up without pool", &[("RAAS_POOL_PYTHON3", "0"), ("RAAS_POOL_NODE", "0")])?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        for (platform, times, calls, full) in
            [(&pooled, &mut with, CALLS_POOLED, POOL), (&unpooled, &mut without, CALLS_UNPOOLED, 0)]
        {
            for _ in 0..calls {
                times.push(first_call(platform, times.len(), full)?);
            }
        }
        plan.say(&format!(
            "cold {}/{}: {} first calls with the pool, {} without",
            round + 1,
            plan.rounds,
            with.len(),
            without.len()
        ));
    }
    let quantile = |times: &[f64], share: f64| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    let counts = format!("{} first calls with the pool full, {} with the pool off", with.len(), without.len());
    let half = Series::new("raas", with.clone());
    let p99 = |side: &str, times: &[f64]| Series::new(side, vec![quantile(times, 0.99)]);
    let (on, off) = (p99("pool on", &with), p99("pool off", &without));
    rows.push(
        Row::new(
            "cold",
            "first call of a Python function, pool full, p50",
            "ms",
            Target::AtMost(P50_MAX_MS),
            half,
            None,
        )
        .note(counts.clone()),
    );
    rows.push(
        Row::new(
            "cold",
            "the same, p99, against the pool off",
            "ms",
            Target::TimesPeerAtMost(P99_RATIO_MAX),
            on,
            Some(off),
        )
        .note(format!("p50 with the pool off: {:.1} ms", quantile(&without, 0.5))),
    );
    Ok(())
}

/// One first call, milliseconds as its caller sees it. The connection is open already.
fn first_call(platform: &Platform, number: usize, full: u64) -> anyhow::Result<f64> {
    let name = format!("cold-{number}");
    let source = format!("# {number}: code that no sandbox has seen\n{PYTHON_SOURCE}");
    let manifest = "runtime = \"python3\"\nhandler = \"main.handler\"\n";
    platform.deploy(&Function { name: &name, manifest, file: "main.py", source: &source })?;
    // Only the pool is there, and it is full: nothing else happens on the machine while the call is made.
    let quiet = |figures: &Figures| figures.pool_python >= full && figures.sandboxes == figures.pool_python;
    platform.settle("a full pool and nothing else", quiet)?;
    let request = platform.invocation(&name, r#"{"n":1}"#);
    let mut exchanges = platform.connect()?;
    let asked = Instant::now();
    let reply = exchanges.exchange(&request)?;
    let took = asked.elapsed();
    anyhow::ensure!(reply.header("raas-cold-start") == Some("true"), "a first call was not a cold start");
    platform.client().delete(&name)?;
    Ok(took.as_secs_f64() * 1000.0)
}
