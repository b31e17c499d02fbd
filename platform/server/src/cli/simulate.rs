//! `raas results simulate`: what policies of keeping results would save on recorded requests. Needs no platform.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use raas_results::simulate::{MadeUp, Outcome, PolicyKind, Trace, TraceFormat, simulate};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome as Done};
use super::format::bytes;
use super::screen::Screen;
use super::table::Table;

/// The largest trace that is read, unpacked, bytes.
const TRACE_MAX_BYTES: u64 = 4 << 30;

/// What to simulate.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// Traces; `-` is standard input. One whose name ends in .gz is unpacked.
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// How they are written [default: by the end of the name: .lis, .trace, .bin, .csv, .jsonl].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Capacities in entries, comma-separated [default: a hundredth and a tenth of a trace's keys].
    #[arg(long, value_delimiter = ',', value_name = "N", conflicts_with = "bytes", value_parser = clap::value_parser!(u64).range(1..))]
    entries: Vec<u64>,
    /// Capacities in bytes, comma-separated.
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    bytes: Vec<u64>,
    /// Only these policies, comma-separated [default: all].
    #[arg(long = "policy", value_enum, value_delimiter = ',', value_name = "POLICY")]
    policies: Vec<Policy>,
    /// The median size of results where a trace has none, bytes. Sizes are lognormal with a sigma of 1.5, each key's its own.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    size_median: u64,
    /// The median cost of results where a trace has none, milliseconds. Costs are made up like sizes.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    cost_median_ms: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Arc,
    Lirs,
    Cache2k,
    Csv,
    Jsonl,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    Lru,
    Fifo,
    #[value(name = "s3-fifo")]
    S3Fifo,
    Sieve,
    #[value(name = "w-tinylfu")]
    WTinyLfu,
    Gdsf,
    Min,
}

impl Policy {
    fn kind(self) -> PolicyKind {
        match self {
            Self::Lru => PolicyKind::Lru,
            Self::Fifo => PolicyKind::Fifo,
            Self::S3Fifo => PolicyKind::S3Fifo,
            Self::Sieve => PolicyKind::Sieve,
            Self::WTinyLfu => PolicyKind::WTinyLfu,
            Self::Gdsf => PolicyKind::Gdsf,
            Self::Min => PolicyKind::Clairvoyant,
        }
    }
}

/// Simulates and shows.
///
/// # Errors
/// A trace cannot be read.
pub fn run(screen: Screen, arguments: &SimulateArguments) -> Done {
    let kinds: Vec<PolicyKind> = match arguments.policies.is_empty() {
        true => PolicyKind::ALL.to_vec(),
        false => arguments.policies.iter().map(|policy| policy.kind()).collect(),
    };
    let in_bytes = !arguments.bytes.is_empty();
    let made_up = MadeUp {
        size_median: if in_bytes { arguments.size_median.max(1) } else { 0 },
        cost_median_us: arguments.cost_median_ms.max(1).saturating_mul(1000),
    };
    let mut items = Vec::new();
    let progress = screen.progress("reading");
    for path in &arguments.traces {
        let name = path.display().to_string();
        progress.step(&format!("reading {name}"));
        let trace = read(path, arguments.format, made_up)?;
        let keys = trace.keys() as u64;
        let capacities = match (in_bytes, arguments.entries.is_empty()) {
            (true, _) => arguments.bytes.clone(),
            (false, false) => arguments.entries.clone(),
            (false, true) => vec![(keys / 100).max(1), (keys / 10).max(1)],
        };
        for capacity in capacities {
            for kind in &kinds {
                progress.step(&format!("{name}: {} with {capacity}", kind.as_str()));
                let outcome = simulate(&trace, *kind, capacity);
                items.push(item(&name, keys, capacity, in_bytes, *kind, &outcome));
            }
        }
    }
    drop(progress);
    if screen.json {
        return screen.value(&json!({ "items": items }));
    }
    let mut head = vec!["TRACE", ">REQUESTS", ">KEYS", ">CAPACITY", "POLICY", ">HITS %", ">SAVED %"];
    head.extend(in_bytes.then_some(">BYTES %"));
    let mut table = Table::new(&head);
    for item in &items {
        let percent = |key: &str| format!("{:.2}", item[key].as_f64().unwrap_or(0.0) * 100.0);
        let capacity = item["capacity"].as_u64().unwrap_or(0);
        let mut row = vec![
            item["trace"].as_str().unwrap_or_default().to_owned(),
            item["requests"].to_string(),
            item["keys"].to_string(),
            if in_bytes { bytes(capacity) } else { capacity.to_string() },
            item["policy"].as_str().unwrap_or_default().to_owned(),
            percent("hit_ratio"),
            percent("saved_ratio"),
        ];
        row.extend(in_bytes.then(|| percent("byte_hit_ratio")));
        table.row(row);
    }
    let made_up = format!(
        "SAVED: compute time of hits in all compute time. Where a trace has no costs{}, they are made up: lognormal, sigma 1.5, \
         seeded by key, median {} ms{}.",
        if in_bytes { " or sizes" } else { "" },
        arguments.cost_median_ms,
        if in_bytes { format!(" and {} bytes", arguments.size_median) } else { String::new() },
    );
    screen.line(&format!("{}\n{}", table.render(|head| screen.bold(head), "no requests"), screen.dim(&made_up)))
}

fn item(trace: &str, keys: u64, capacity: u64, in_bytes: bool, kind: PolicyKind, outcome: &Outcome) -> Value {
    json!({
        "trace": trace, "keys": keys, "capacity": capacity, "capacity_unit": if in_bytes { "bytes" } else { "entries" },
        "policy": kind.as_str(), "requests": outcome.requests, "hits": outcome.hits,
        "compute_us": outcome.compute_us, "saved_us": outcome.saved_us, "hit_ratio": outcome.hit_ratio(),
        "byte_hit_ratio": outcome.byte_hit_ratio(), "saved_ratio": outcome.saved_ratio(),
    })
}

fn read(path: &Path, format: Option<Format>, made_up: MadeUp) -> Done<Trace> {
    let failed = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).map_err(|error| failed(format!("cannot be opened: {error}")))?;
        if zipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) }
    };
    reader
        .take(TRACE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > TRACE_MAX_BYTES {
        return Err(failed(format!("is over {TRACE_MAX_BYTES} bytes")));
    }
    let plain = if zipped { path.with_extension("") } else { path.to_owned() };
    let by_name = plain.extension().and_then(|extension| extension.to_str());
    let format = match (format, by_name) {
        (Some(Format::Arc), _) | (None, Some("lis")) => TraceFormat::Arc,
        (Some(Format::Lirs), _) | (None, Some("trace")) => TraceFormat::Lirs,
        (Some(Format::Cache2k), _) | (None, Some("bin")) => TraceFormat::Cache2k,
        (Some(Format::Csv), _) | (None, Some("csv")) => TraceFormat::Csv,
        (Some(Format::Jsonl), _) | (None, Some("jsonl")) => TraceFormat::JsonLines,
        (None, _) => return Err(failed("its name does not say how it is written: use --format".into())),
    };
    Trace::read(format, &bytes, made_up).map_err(|error| failed(error.to_string()))
}
