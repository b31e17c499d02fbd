//! Routing with 10,000 functions against routing with ten: the time of a cached answer.
//!
//! Ten functions are called on either platform, the same ten; the others are registered and never called. They are Node
//! functions, because a Python package is compiled in a sandbox at its deployment, which ten thousand times over takes long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::anyhow;

use super::cached::kept_answers;
use super::load::{Target, load};
use super::platform::{Function, Platform};
use super::report::{self, Row};
use super::warm::NODE_SOURCE;
use super::{Plan, alternate};

/// The function, but for its name.
const FUNCTION: Function<'_> = Function {
    name: "routed",
    manifest: "runtime = \"node\"\nhandler = \"main.handler\"\n[cache]\nmode = \"declared\"\nttl_s = 86400\n",
    file: "main.js",
    source: NODE_SOURCE,
};

/// Functions on the large platform …
const MANY: usize = 10_000;

/// … and on the small one, and those that are called on either.
const FEW: usize = 10;

/// Uploads at once.
const UPLOADS: usize = 8;

/// How much longer an answer may take.
const RATIO_MAX: f64 = 1.1;

/// Measures.
///
/// # Errors
/// A platform fails.
pub fn measure(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let small = Platform::start("raas up with few functions", &[("RAAS_POOL_PYTHON3", "0")])?;
    let large = Platform::start("raas up with many functions", &[("RAAS_POOL_PYTHON3", "0")])?;
    register(plan, &small, FEW)?;
    let begun = Instant::now();
    register(plan, &large, MANY)?;
    let took = begun.elapsed();
    let registered =
        format!("registering {MANY} functions with {UPLOADS} uploads at once took {:.1} s", took.as_secs_f64());
    let few = called(&small)?;
    let many = called(&large)?;
    for connections in [1, 32] {
        let p50 = |target: &Target| Ok(load(target, connections, plan.lasting)?.p50_us());
        let series = alternate(
            plan,
            "routing",
            vec![("10,000 functions", Box::new(|| p50(&many))), ("10 functions", Box::new(|| p50(&few)))],
        )?;
        if let [many, few] = &series[..] {
            let what = format!("cached answer with {MANY} functions against {FEW}, connections: {connections}, p50");
            let target = report::Target::TimesPeerAtMost(RATIO_MAX);
            rows.push(
                Row::new("routing", what, "µs", target, many.clone(), Some(few.clone())).note(registered.clone()),
            );
        }
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("{}-{number}", FUNCTION.name)
}

fn register(plan: &Plan, platform: &Platform, count: usize) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let upload = || -> anyhow::Result<()> {
        let client = platform.client().clone();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            if number > 0 && number.is_multiple_of(1000) {
                plan.say(&format!("routing: {number} functions registered"));
            }
            client.deploy(&Function { name: &name(number), ..FUNCTION }.pack()?)?;
        }
    };
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..UPLOADS.min(count)).map(|_| scope.spawn(upload)).collect();
        uploads.into_iter().try_for_each(|upload| upload.join().map_err(|_| anyhow!("an upload broke off"))?)
    })
}

fn called(platform: &Platform) -> anyhow::Result<Target> {
    let mut samples = Vec::new();
    for number in 0..FEW {
        samples.extend(kept_answers(platform, &name(number))?.samples.iter().cloned());
    }
    Ok(Target { address: platform.address, samples: samples.into() })
}
