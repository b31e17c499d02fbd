//! `raas results simulate`: what policies of keeping results would save on recorded requests. Needs no platform.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use raas_results::predict::Source;
use raas_results::simulate::{
    KeysThemselves, MadeUp, Outcome, PolicyKind, Speculation, SpeculationOutcome, Trace, TraceFormat, simulate,
    speculate,
};
use serde_json::{Value, json};

use super::failure::{Failure, Outcome as Done};
use super::format::{bytes, list, text};
use super::screen::Screen;
use super::table::Table;

/// The largest trace that is read, unpacked, bytes.
const TRACE_MAX_BYTES: u64 = 4 << 30;

/// What to simulate.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// Traces; `-` is standard input. One whose name ends in .gz or .zst is unpacked.
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
    /// Capacities in percent of what all results of a trace take together, comma-separated: of their bytes, or with `--count` of
    /// their number.
    #[arg(long, value_delimiter = ',', value_name = "P", conflicts_with_all = ["bytes", "entries"])]
    percent: Vec<f64>,
    /// Count entries where capacities are in percent: every size is 1.
    #[arg(long, requires = "percent")]
    count: bool,
    /// Compute ahead, too: with the predictors of the platform, four at once, each computation taking its time.
    #[arg(long)]
    predict: bool,
    /// Only these policies, comma-separated [default: all].
    #[arg(long = "policy", value_enum, value_delimiter = ',', value_name = "POLICY")]
    policies: Vec<Policy>,
    /// The median size of results where a trace has none, bytes. Sizes are lognormal with a sigma of 1.5, each key's its own.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    size_median: u64,
    /// The median cost of results where a trace has none, milliseconds. Costs are made up like sizes; 0 makes all equal.
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
    Gds,
    Gdsf,
    Raas,
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
            Self::Gds => PolicyKind::Gds,
            Self::Gdsf => PolicyKind::Gdsf,
            Self::Raas => PolicyKind::Raas,
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
    let in_bytes = !arguments.bytes.is_empty() || (!arguments.percent.is_empty() && !arguments.count);
    if arguments.percent.iter().any(|percent| !(0.0..=100.0).contains(percent)) {
        return Err(Failure::Usage("--percent takes numbers from 0 to 100".into()));
    }
    let made_up = MadeUp {
        size_median: if in_bytes { arguments.size_median.max(1) } else { 0 },
        cost_median_us: arguments.cost_median_ms.saturating_mul(1000),
    };
    let mut items = Vec::new();
    let progress = screen.progress("reading");
    for path in &arguments.traces {
        let name = path.display().to_string();
        progress.step(&format!("reading {name}"));
        let trace = read(path, arguments.format, made_up)?;
        let keys = trace.keys() as u64;
        for capacity in capacities(arguments, &trace) {
            for kind in &kinds {
                progress.step(&format!("{name}: {} with {capacity}", kind.as_str()));
                let mut item = json!({
                    "trace": name, "keys": keys, "capacity": capacity, "policy": kind.as_str(),
                    "capacity_unit": if in_bytes { "bytes" } else { "entries" },
                });
                if arguments.predict {
                    let outcome = speculate(&trace, *kind, capacity, &Speculation::default(), &KeysThemselves);
                    put(&mut item, &outcome.alone);
                    put_prediction(&mut item, &outcome);
                } else {
                    put(&mut item, &simulate(&trace, *kind, capacity));
                }
                items.push(item);
            }
        }
    }
    drop(progress);
    if screen.json {
        return screen.value(&json!({ "items": items }));
    }
    screen.line(&format!(
        "{}\n{}",
        table(screen, &items, in_bytes, arguments.predict),
        screen.dim(&legend(arguments, in_bytes))
    ))
}

/// The capacities that are asked for, of one trace.
fn capacities(arguments: &SimulateArguments, trace: &Trace) -> Vec<u64> {
    if !arguments.bytes.is_empty() {
        return arguments.bytes.clone();
    }
    if !arguments.entries.is_empty() {
        return arguments.entries.clone();
    }
    // Each key has one last request.
    let last = trace.requests().iter().filter(|request| request.next == trace.requests().len());
    let all: u64 = last.map(|request| request.size).sum();
    let percents = if arguments.percent.is_empty() { &[1.0, 10.0][..] } else { &arguments.percent };
    percents.iter().map(|percent| ((all as f64 * percent / 100.0) as u64).max(1)).collect()
}

fn table(screen: Screen, items: &[Value], in_bytes: bool, predict: bool) -> String {
    let mut head = vec!["TRACE", ">REQUESTS", ">KEYS", ">CAPACITY", "POLICY", ">HITS %", ">SAVED %"];
    head.extend(in_bytes.then_some(">BYTES %"));
    if predict {
        head.extend([">AHEAD: HITS %", ">SAVED %", ">SPENT %", ">WASTED %", ">LATE", "BY"]);
    }
    let mut table = Table::new(&head);
    for item in items {
        let percent = |value: &Value| format!("{:.2}", value.as_f64().unwrap_or(0.0) * 100.0);
        let capacity = item["capacity"].as_u64().unwrap_or(0);
        let mut row = vec![
            text(item, "trace").to_owned(),
            item["requests"].to_string(),
            item["keys"].to_string(),
            if in_bytes { bytes(capacity) } else { capacity.to_string() },
            text(item, "policy").to_owned(),
            percent(&item["hit_ratio"]),
            percent(&item["saved_ratio"]),
        ];
        row.extend(in_bytes.then(|| percent(&item["byte_hit_ratio"])));
        if predict {
            let ahead = &item["ahead"];
            row.extend(["hit_ratio", "saved_ratio", "spent_ratio", "wasted_ratio"].map(|key| percent(&ahead[key])));
            row.push(ahead["late"].to_string());
            row.push(most_used(ahead));
        }
        table.row(row);
    }
    table.render(|head| screen.bold(head), "no requests")
}

/// The predictors that were used, the most used first.
fn most_used(ahead: &Value) -> String {
    let used = |source: &Value| source["used"].as_u64().unwrap_or(0);
    let mut sources: Vec<_> = list(ahead, "sources").iter().filter(|source| used(source) > 0).collect();
    sources.sort_by_key(|source| std::cmp::Reverse(used(source)));
    let names: Vec<_> = sources.iter().map(|source| format!("{} {}", text(source, "source"), used(source))).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn legend(arguments: &SimulateArguments, in_bytes: bool) -> String {
    let mut legend = format!(
        "SAVED: compute time of hits in all compute time. Where a trace has no costs{}, they are made up: lognormal, sigma 1.5, \
         seeded by key, median {} ms{}.",
        if in_bytes { " or sizes" } else { "" },
        arguments.cost_median_ms,
        if in_bytes { format!(" and {} bytes", arguments.size_median) } else { String::new() },
    );
    if arguments.predict {
        legend += " AHEAD: with computing ahead, four at once, each taking its cost; where a trace has no times a request comes \
                   every median cost. SPENT and WASTED: of all compute time.";
    }
    legend
}

fn put(item: &mut Value, outcome: &Outcome) {
    item["requests"] = json!(outcome.requests);
    item["hits"] = json!(outcome.hits);
    item["compute_us"] = json!(outcome.compute_us);
    item["saved_us"] = json!(outcome.saved_us);
    item["hit_ratio"] = json!(outcome.hit_ratio());
    item["byte_hit_ratio"] = json!(outcome.byte_hit_ratio());
    item["saved_ratio"] = json!(outcome.saved_ratio());
}

fn put_prediction(item: &mut Value, outcome: &SpeculationOutcome) {
    let total = outcome.ledger.total();
    let sources = Source::ALL.map(|source| {
        let mut shown = json!(outcome.ledger.of(source));
        shown["source"] = json!(source.as_str());
        shown["precision"] = json!(outcome.ledger.of(source).precision());
        shown["last_on_after_requests"] = json!(outcome.last_on[source as usize]);
        shown
    });
    let compute_us = outcome.with.compute_us.max(1) as f64;
    item["ahead"] = json!({
        "hits": outcome.with.hits, "hit_ratio": outcome.with.hit_ratio(), "saved_ratio": outcome.with.saved_ratio(),
        "computed": total.computed, "spent_us": total.compute_us, "spent_ratio": total.compute_us as f64 / compute_us,
        "used": total.used, "late": total.late, "wasted_us": total.wasted_us, "wasted_ratio": outcome.wasted_ratio(),
        "bank_bytes": outcome.bank_bytes, "sources": sources,
    });
}

fn read(path: &Path, format: Option<Format>, made_up: MadeUp) -> Done<Trace> {
    let failed = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    let packed =
        path.extension().and_then(|extension| extension.to_str()).filter(|name| matches!(*name, "gz" | "zst" | "xz"));
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).map_err(|error| failed(format!("cannot be opened: {error}")))?;
        match packed {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some("zst") => {
                Box::new(zstd::Decoder::new(file).map_err(|error| failed(format!("cannot be unpacked: {error}")))?)
            }
            Some(_) => {
                let name = path.display();
                return Err(failed(format!(
                    "cannot be unpacked here: use `xz -dc {name} | raas results simulate - --format …`"
                )));
            }
            None => Box::new(file),
        }
    };
    reader
        .take(TRACE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > TRACE_MAX_BYTES {
        return Err(failed(format!("is over {TRACE_MAX_BYTES} bytes")));
    }
    let plain = if packed.is_some() { path.with_extension("") } else { path.to_owned() };
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
