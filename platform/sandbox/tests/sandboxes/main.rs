//! The real spawner and real sandboxes. This binary is the spawner too, as `raas` is, so it has its own small harness:
//! it prints what the standard one prints and takes a filter as its first argument.
//!
//! Needs Linux with user namespaces, and python3 in the host's /usr. As root every test runs; as an ordinary user those
//! that need a cgroup are skipped where none can be made. Each test has its own run folder and must leave nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bed;
mod confinement;
mod lifecycle;
mod limits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bed::Bed;

/// A test's name and what it does with a fresh spawner.
type Test = (&'static str, fn(&Bed));

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == raas_sandbox::SPAWNER_ARGUMENT) {
        raas_sandbox::spawner_main(&args);
    }
    if args.first().is_some_and(|a| a == lifecycle::GATEWAY_ARGUMENT) {
        lifecycle::gateway(&args);
    }
    let filter = args.iter().find(|a| !a.starts_with("--")).cloned().unwrap_or_default();
    let tests: Vec<Test> = [lifecycle::TESTS, confinement::TESTS, limits::TESTS].concat();
    if args.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    let selected: Vec<Test> = tests.into_iter().filter(|(name, _)| name.contains(&filter)).collect();
    println!("\nrunning {} tests", selected.len());
    for (name, test) in &selected {
        let bed = Bed::new(name);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            test(&bed);
            bed.close();
        }));
        bed.tidy_up();
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    println!(
        "\ntest result: {}. {} passed; {} failed",
        if failed.is_empty() { "ok" } else { "FAILED" },
        selected.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
