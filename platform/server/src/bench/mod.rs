//! `raas bench`: the figures that the platform promises, measured against peers on the machine it runs on.
//!
//! Each figure is taken in alternating runs, ours and the peer's in turn, so that whatever else the machine does falls on
//! both; what is compared is the median of the runs. Where to start: [`run`], then one file a figure. It uses the platform
//! as anybody does, over HTTP; it must not know the platform's parts.

mod bare;
mod cached;
mod child;
mod cold;
mod helpers;
mod histogram;
mod http;
mod idle;
mod load;
mod machine;
mod peers;
mod platform;
mod report;
mod results;
mod routing;
mod warm;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use machine::Machine;
use peers::Peers;
use report::{Report, Series};

/// How to measure.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Only these figures, comma-separated [default: all].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FIGURE")]
    pub only: Vec<Figure>,
    /// Runs of each side.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each run takes, seconds.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub seconds: u64,
    /// The folder that scripts/bench-peers.sh installed the peers in [default: target/bench-peers].
    #[arg(long, value_name = "DIR")]
    pub peers: Option<PathBuf>,
    /// Be the bare server that gives the answer in this file: what the benchmark starts as a yardstick.
    #[arg(long, value_name = "FILE", hide = true)]
    pub bare: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Cached answers a second against bare axum and nginx.
    Cached,
    /// A warm Python call's latency against functions-framework.
    Python,
    /// Warm Python calls a second against functions-framework.
    PythonRate,
    /// Warm Node calls a second against workerd.
    Node,
    /// First calls with and without the warming pool.
    Cold,
    /// An idle platform's memory and processor time.
    Idle,
    /// Cached answers with 10,000 functions against 10.
    Routing,
    /// Calls of a helper from inside a Python function, against Ray's actors.
    HelperCalls,
    /// Calls of a helper while it is trained.
    HelperTraining,
    /// Calls lost while a helper's replicas come and go.
    HelperChanges,
    /// A model that is loaded once against one that is loaded for each call.
    HelperEmbedding,
    /// What helpers keep, over kills of everything.
    HelperKills,
    /// A lookup in the memory tier, in process.
    ResultLookup,
    /// Computations of a result that expires under load.
    ResultExpiry,
    /// What proofs suspect and what they let through; takes some minutes.
    ResultProof,
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Python => "python",
            Self::PythonRate => "python-rate",
            Self::Node => "node",
            Self::Cold => "cold",
            Self::Idle => "idle",
            Self::Routing => "routing",
            Self::HelperCalls => "helper-calls",
            Self::HelperTraining => "helper-training",
            Self::HelperChanges => "helper-changes",
            Self::HelperEmbedding => "helper-embedding",
            Self::HelperKills => "helper-kills",
            Self::ResultLookup => "result-lookup",
            Self::ResultExpiry => "result-expiry",
            Self::ResultProof => "result-proof",
        }
    }
}

/// How often and how long each side is measured.
struct Plan {
    rounds: usize,
    lasting: Duration,
}

impl Plan {
    /// Tells the one who waits how far it is.
    fn say(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Measures and prints what was asked for.
///
/// # Errors
/// A figure could not be taken or is not as promised; the report has been printed by then.
pub fn run(arguments: &BenchArguments, json: bool) -> anyhow::Result<()> {
    if let Some(file) = &arguments.bare {
        return bare::serve(file);
    }
    let plan = Plan { rounds: arguments.rounds as usize, lasting: Duration::from_secs(arguments.seconds) };
    let peers = Peers::new(&arguments.peers.clone().unwrap_or_else(platform::default_peers));
    let mut report =
        Report { machine: Machine::this(), peers: peers.versions(), rows: Vec::new(), failures: Vec::new() };
    let figures = if arguments.only.is_empty() { Figure::value_variants() } else { &arguments.only };
    for figure in figures {
        let rows = &mut report.rows;
        let measured = match figure {
            Figure::Cached => cached::measure(&plan, &peers, rows),
            Figure::Python => warm::python_latency(&plan, &peers, rows),
            Figure::PythonRate => warm::python_rate(&plan, &peers, rows),
            Figure::Node => warm::node_rate(&plan, &peers, rows),
            Figure::Cold => cold::measure(&plan, rows),
            Figure::Idle => idle::measure(&plan, rows),
            Figure::Routing => routing::measure(&plan, rows),
            Figure::HelperCalls => helpers::calls(&plan, &peers, rows),
            Figure::HelperTraining => helpers::training(&plan, rows),
            Figure::HelperChanges => helpers::changes(&plan, rows),
            Figure::HelperEmbedding => helpers::embedding(&plan, &peers, rows),
            Figure::HelperKills => helpers::kills(&plan, rows),
            Figure::ResultLookup => results::lookup(&plan, rows),
            Figure::ResultExpiry => results::expiry(&plan, rows),
            Figure::ResultProof => results::proof(&plan, rows),
        };
        if let Err(error) = measured {
            plan.say(&format!("{}: {error:#}", figure.name()));
            report.failures.push((figure.name(), format!("{error:#}")));
        }
    }
    let text = if json { serde_json::to_string(&report)? + "\n" } else { report.text() };
    std::io::stdout().write_all(text.as_bytes())?;
    anyhow::ensure!(report.passed(), "not every figure is as promised");
    Ok(())
}

/// A side to measure: its name, and one run of it.
type Side<'a> = (&'a str, Box<dyn FnMut() -> anyhow::Result<f64> + 'a>);

/// Measures the sides in turn, round by round.
fn alternate(plan: &Plan, figure: &str, mut sides: Vec<Side<'_>>) -> anyhow::Result<Vec<Series>> {
    let mut runs = vec![Vec::new(); sides.len()];
    for round in 1..=plan.rounds {
        for ((name, measure), runs) in sides.iter_mut().zip(&mut runs) {
            let value = measure()?;
            plan.say(&format!("{figure} {round}/{}: {name} {value:.1}", plan.rounds));
            runs.push(value);
        }
    }
    Ok(sides.iter().zip(runs).map(|((name, _), runs)| Series::new(*name, runs)).collect())
}
