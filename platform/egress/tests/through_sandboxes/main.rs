//! Real sandboxes that reach a real server through their network, and do not reach what they must not.
//!
//! The server is this binary again, in a network namespace that the test makes and removes, connected by a pair of virtual
//! interfaces with addresses that nothing else has. This binary is the spawner too, so it has its own small harness, like
//! the sandboxes' own tests. As root every test runs, and then once more as an ordinary user; started by an ordinary user,
//! those that need no peer do, and where TUN devices cannot be opened only the one that says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bed;
mod peer;
mod refusals;
mod rootless;
mod traffic;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bed::Bed;

/// A test's name and what it does.
type Test = (&'static str, fn(&Bed));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(raas_sandbox::SPAWNER_ARGUMENT) => raas_sandbox::spawner_main(&args),
        Some(peer::ARGUMENT) => peer::serve(&args[1]),
        _ => {}
    }
    let filter = args.iter().find(|a| !a.starts_with("--")).cloned().unwrap_or_default();
    let tests: Vec<Test> = [refusals::TESTS, traffic::TESTS, rootless::TESTS].concat();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let selected: Vec<Test> = tests.into_iter().filter(|(name, _)| name.contains(&filter)).collect();
    println!("\nrunning {} tests", selected.len());
    let bed = Bed::new();
    let mut failed = 0;
    for (name, test) in &selected {
        if let Some(why) = bed.cannot_run(name) {
            println!("test {name} ... ignored, {why}");
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| test(&bed))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    let clean = catch_unwind(AssertUnwindSafe(|| bed.close())).is_ok();
    let good = failed == 0 && clean;
    println!("\ntest result: {}. {} run; {failed} failed", if good { "ok" } else { "FAILED" }, selected.len());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
