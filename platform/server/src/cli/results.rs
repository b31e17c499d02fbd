//! `raas results`: what is kept of functions' results, and dropping it.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{Call, Client, encode};
use super::failure::Outcome;
use super::format::{bytes, float, list as items, ms, number, text};
use super::functions::{done, path, served};
use super::screen::Screen;
use super::table::{Table, facts};

/// Whose results, and what to do with them.
#[derive(Debug, Args)]
pub struct ResultsArguments {
    /// The function. Only `--purge --tag` does without one: it is then about all functions.
    #[arg(required_unless_present = "tag")]
    name: Option<String>,
    /// Drop them: all, or those that the next three name.
    #[arg(long)]
    purge: bool,
    /// Only those with this tag.
    #[arg(long, requires = "purge")]
    tag: Option<String>,
    /// Only those of this version.
    #[arg(long, requires = "purge", conflicts_with = "tag", value_name = "N")]
    version: Option<u32>,
    /// Only that of this event.
    #[arg(long, requires = "purge", conflicts_with_all = ["tag", "version"], value_name = "JSON")]
    event: Option<String>,
}

/// Shows what is kept of a function's results, or drops results.
///
/// # Errors
/// No answer, or a problem.
pub fn run(screen: Screen, client: &Client, arguments: &ResultsArguments) -> Outcome {
    let path = match &arguments.name {
        Some(name) => format!("{}/results", path(name)),
        None => "/v1/results".to_owned(),
    };
    if !arguments.purge {
        return show(screen, client, path);
    }
    let version = arguments.version.map(|number| number.to_string());
    let chosen = [("tag", &arguments.tag), ("version", &version), ("event", &arguments.event)];
    let chosen = chosen.into_iter().find_map(|(name, value)| value.as_ref().map(|value| (name, value)));
    let query = chosen.map(|(name, value)| format!("?{name}={}", encode(value))).unwrap_or_default();
    client.call(&Call::new(Method::DELETE, format!("{path}{query}")))?;
    let whose = arguments.name.as_deref().map_or_else(|| "all functions".to_owned(), ToOwned::to_owned);
    let text = match chosen {
        None => format!("all results of {whose} are dropped"),
        Some((kind, value)) => format!("results of {whose} with {kind} {value} are dropped"),
    };
    done(screen, json!({ "name": arguments.name, "purged": true }), &text)
}

fn show(screen: Screen, client: &Client, path: String) -> Outcome {
    screen.answer(&client.get(path)?, |results| {
        facts([
            ("results in memory", number(results, "entries")),
            ("their bodies", bytes(results["bytes"].as_u64().unwrap_or(0))),
            ("compute time they stand for", format!("{} ms", ms(float(results, "compute_ms")))),
            ("served since start", served(&results["served"])),
        ]) + &proofs(screen, items(results, "proofs"))
            + &precomputed(screen, items(results, "precomputed"))
    })
}

/// What is known of whether results depend on nothing but the event, and the differences that were found.
fn proofs(screen: Screen, proofs: &[Value]) -> String {
    if proofs.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[">VERSION", "STATE", ">RUN AGAIN", ">DIFFERED", ">UNDECIDED", ">WRONG AT MOST"]);
    let mut notes = String::new();
    for proof in proofs {
        let version = number(proof, "version");
        table.row([
            version.clone(),
            state(proof),
            ["agreed", "differed", "inconclusive"]
                .map(|runs| proof[runs].as_u64().unwrap_or(0))
                .iter()
                .sum::<u64>()
                .to_string(),
            number(proof, "differed"),
            number(proof, "inconclusive"),
            proof["wrong_at_most"].as_f64().map_or_else(|| "-".to_owned(), |most| format!("{:.3} %", most * 100.0)),
        ]);
        if let Some(reason) = proof["reason"].as_str() {
            notes += &format!("\nversion {version} cannot be proven: {reason}");
        }
        for reads in items(proof, "reads") {
            let parts: Vec<_> = reads.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let parts = if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") };
            notes += &format!("\nversion {version} reads {parts} of its events: nothing else tells results apart");
        }
        let difference = &proof["difference"];
        if difference.is_object() {
            let place = text(difference, "pointer");
            let place = if place.is_empty() { "as its result" } else { place };
            notes += &format!(
                "\nversion {version}: the same event gave {} and then {} {}{place}",
                text(difference, "first"),
                text(difference, "again"),
                if place.starts_with('/') { "at " } else { "" },
            );
        }
    }
    format!("\n\n{}{notes}", table.render(|head| screen.bold(head), ""))
}

fn state(proof: &Value) -> String {
    match text(proof, "state") {
        "shadow" => format!("shadow, {} of 30 calls", number(proof, "shadow_calls")),
        state => state.to_owned(),
    }
}

/// What was computed before anybody asked, by what predicted it; predictors that have said nothing are left out.
fn precomputed(screen: Screen, versions: &[Value]) -> String {
    let mut shown = String::new();
    for version in versions {
        let mut table = Table::new(&[
            "PREDICTED BY",
            "NOW",
            ">CHECKED",
            ">COMPUTED",
            ">USED",
            ">LATE",
            ">WASTED",
            ">SPENT",
            ">SAVED",
        ]);
        let spoke = |source: &&Value| source["predicted"].as_u64().unwrap_or(0) > 0;
        for source in items(version, "sources").iter().filter(spoke) {
            table.row([
                text(source, "source").to_owned(),
                if source["on"] == true { "on" } else { "off" }.to_owned(),
                number(source, "predicted"),
                number(source, "computed"),
                number(source, "used"),
                number(source, "late"),
                number(source, "wasted"),
                format!("{} ms", ms(float(source, "compute_ms"))),
                format!("{} ms", ms(float(source, "saved_ms"))),
            ]);
        }
        let count = |name: &str| version["total"][name].as_u64().unwrap_or(0);
        let waiting = count("computed").saturating_sub(count("used") + count("wasted"));
        shown += &format!(
            "\n\ncomputed ahead, version {}: {} of {} calls found their result there; {} results computed, of these {} used, {} never, {waiting} open; spent {} {}, saved {}\n{}",
            number(version, "version"),
            count("used"),
            number(version, "calls"),
            count("computed"),
            count("used"),
            count("wasted"),
            text(version, "currency"),
            text(version, "spent"),
            text(version, "saved"),
            table.render(|head| screen.bold(head), "nothing is expected yet"),
        );
    }
    shown
}
