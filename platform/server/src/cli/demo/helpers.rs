//! The persistent helpers' part of the demo: called from two functions, killed under load, and trained anew.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::Method;
use raas_core::{Clock, SystemClock, TimestampUs};
use serde_json::{Value, json};

use super::platform::ThrowAway;
use crate::cli::client::{Call, Client, WORK_WITHIN, encode};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::format::{as_ms, float, ms, text};
use crate::cli::screen::Screen;
use crate::cli::table::Table;

/// The spatial index and routes.
pub const GEO: &str = "geo";
/// The temperatures.
pub const FORECAST: &str = "forecast";
/// The functions that call them.
pub const FUNCTIONS: [&str; 3] = ["trip", "nearby", "coat"];

/// A file of the helper's own by which its replicas are told.
const GEO_FILE: &str = "var/task/spatial_index.py";
/// Calls while a replica is killed.
const CALLS: usize = 200;
/// Callers at once.
const CALLERS: usize = 4;
/// Between which the trips go.
const CITIES: [&str; 10] = ["SEA", "MIA", "BOS", "SAN", "DEN", "ORD", "ATL", "DFW", "PHX", "MSP"];
/// Readings that are pushed: two days that are far warmer than any of that season.
const PUSHED_HOURS: i64 = 48;
/// Microseconds.
const HOUR_US: i64 = 3_600_000_000;

/// One line of the report.
struct Line {
    helper: &'static str,
    what: String,
    calls: usize,
    failed: usize,
    served_by: String,
    took_ms: f64,
}

/// What happened.
pub struct Played {
    lines: Vec<Line>,
    /// Whether a replica could be killed.
    killed: bool,
    before: Value,
    after: Value,
    train_ms: f64,
    data_version: u64,
}

/// Plays it. The helpers and the functions are there already.
///
/// # Errors
/// A call has no result that must have one.
pub fn play(platform: &ThrowAway, doing: impl Fn(&str)) -> Outcome<Played> {
    let client = &platform.client;
    let mut lines = Vec::new();
    let mut one = |what: &str, helper, function: &str, event: Value| -> Outcome<Value> {
        doing(&format!("{helper}: {what}"));
        let (served_by, took_ms, body) = invoke(client, function, &event)?;
        lines.push(Line { helper, what: what.to_owned(), calls: 1, failed: 0, served_by, took_ms });
        Ok(body)
    };
    one("trip, in Python, asks for a route", GEO, "trip", json!({ "from": "SEA", "to": "MIA", "range_km": 700 }))?;
    one("nearby, in Node, asks what is near", GEO, "nearby", json!({ "latitude": 47.6, "longitude": -122.3 }))?;
    doing(&format!("{GEO}: {CALLERS} callers, and its replica is killed"));
    let (line, killed) = under_load(platform);
    lines.push(line);

    let at = noon(client)?;
    let ask = json!({ "at": at });
    let mut one = |what: &str| -> Outcome<Value> {
        doing(&format!("{FORECAST}: {what}"));
        let (served_by, took_ms, body) = invoke(client, "coat", &ask)?;
        lines.push(Line { helper: FORECAST, what: what.to_owned(), calls: 1, failed: 0, served_by, took_ms });
        Ok(body)
    };
    let before = one("coat asks for a temperature")?;
    doing(&format!("{FORECAST}: training it with {PUSHED_HOURS} new readings"));
    method(client, FORECAST, "observe", &json!({ "readings": readings(&before) }))?;
    let began = Instant::now();
    let trained = post(client, &format!("/v1/helper-instances/{FORECAST}/training"), &json!({}))?;
    let train_ms = as_ms(began.elapsed());
    let after = one("coat asks again, after training")?;
    Ok(Played { lines, killed, before, after, train_ms, data_version: trained["data_version"].as_u64().unwrap_or(0) })
}

/// Different trips from several callers; in the middle of them the process of the replica is killed.
fn under_load(platform: &ThrowAway) -> (Line, bool) {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = &platform.client;
    let began = Instant::now();
    let killed = std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    let from = CITIES[number % CITIES.len()];
                    let to = CITIES[(number + 1 + number / CITIES.len() % (CITIES.len() - 1)) % CITIES.len()];
                    let event = json!({ "from": from, "to": to, "range_km": 900 + number });
                    if invoke(client, "trip", &event).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        while next.load(Ordering::Relaxed) < CALLS / 2 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        platform.kill_sandbox_with(Path::new(GEO_FILE))
    });
    let what = match killed {
        true => format!("{CALLERS} callers ask for trips; its replica is killed with kill -9"),
        false => format!("{CALLERS} callers ask for trips"),
    };
    let failed = failed.into_inner();
    let took_ms = as_ms(began.elapsed());
    (Line { helper: GEO, what, calls: CALLS, failed, served_by: "computed".into(), took_ms }, killed)
}

/// Tomorrow at noon, as the helper writes it.
fn noon(client: &Client) -> Outcome<String> {
    let soon = method(client, FORECAST, "predict", &json!({ "at": tomorrow() }))?;
    Ok(text(&soon, "at").to_owned())
}

fn tomorrow() -> String {
    let tomorrow = TimestampUs(SystemClock.now().0 + 24 * HOUR_US).to_string();
    format!("{}T12:00", tomorrow.get(..10).unwrap_or_default())
}

/// Readings of the last two days, far from what was expected.
fn readings(forecast: &Value) -> Vec<Value> {
    let expected = float(&forecast["forecast"], "temperature");
    // Half a day back: the helper's hours are not those of UTC, and it takes none of the future.
    let newest = SystemClock.now().0 - 12 * HOUR_US;
    (0..PUSHED_HOURS)
        .map(|hour| {
            let at = TimestampUs(newest - hour * HOUR_US).to_string();
            json!({ "at": format!("{}:00", at.get(..13).unwrap_or_default()), "temperature": expected + 20.0 })
        })
        .collect()
}

fn invoke(client: &Client, function: &str, event: &Value) -> Outcome<(String, f64, Value)> {
    let event = event.to_string();
    let call = Call::new(Method::POST, format!("/v1/functions/{}/invocations", encode(function)))
        .body("application/json", event.as_bytes())
        .within(Some(WORK_WITHIN));
    let began = Instant::now();
    let answer = client.call(&call)?;
    let took_ms = as_ms(began.elapsed());
    let served_by = answer.headers.get("Raas-Served-By").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok((served_by.to_owned(), took_ms, answer.value()?))
}

fn method(client: &Client, instance: &str, name: &str, arguments: &Value) -> Outcome<Value> {
    post(client, &format!("/v1/helper-instances/{instance}/methods/{name}"), arguments)
}

/// Posts and gives back what was answered.
///
/// # Errors
/// No answer, or a problem.
pub fn post(client: &Client, path: &str, body: &Value) -> Outcome<Value> {
    let body = body.to_string();
    let call = Call::new(Method::POST, path).body("application/json", body.as_bytes()).within(Some(WORK_WITHIN));
    client.call(&call)?.value()
}

/// Makes an instance of one of the demo's helpers.
///
/// # Errors
/// It does not start.
pub fn create(client: &Client, helper: &str) -> Outcome {
    let body = json!({ "helper": format!("admin/{helper}"), "name": helper });
    let made = post(client, "/v1/helper-instances", &body)?;
    match text(&made, "state") {
        "ready" => Ok(()),
        state => Err(Failure::unexpected(format!("the helper instance {helper} is {state}"))),
    }
}

impl Played {
    /// For people.
    pub fn render(&self, screen: Screen) -> String {
        let mut table = Table::new(&["HELPER", "WHAT", ">CALLS", ">FAILED", "SERVED BY", ">MS"]);
        for line in &self.lines {
            table.row([
                line.helper.to_owned(),
                line.what.clone(),
                line.calls.to_string(),
                line.failed.to_string(),
                line.served_by.clone(),
                ms(line.took_ms),
            ]);
        }
        let temperature = |answer: &Value| format!("{:.1} °F", float(&answer["forecast"], "temperature"));
        let mut report = format!("\n\n{}", table.render(|head| screen.bold(head), ""));
        report += &screen.dim("\nMS from the first request to the last answer, as the caller sees it.");
        if !self.killed {
            report += "\n\nNo replica was killed: its process could not be found on this machine.";
        }
        report
            + &format!(
                "\n\nForecast for {}: {} before, {} after {PUSHED_HOURS} warmer readings and {} ms of training (data version {}).",
                text(&self.before, "at"),
                temperature(&self.before),
                screen.green(&temperature(&self.after)),
                ms(self.train_ms),
                self.data_version,
            )
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let line = |line: &Line| {
            json!({
                "helper": line.helper, "what": line.what, "calls": line.calls, "failed": line.failed,
                "served_by": line.served_by, "client_ms": line.took_ms,
            })
        };
        json!({
            "rows": self.lines.iter().map(line).collect::<Vec<_>>(),
            "replica_killed": self.killed,
            "before_training": self.before, "after_training": self.after,
            "training_ms": self.train_ms, "data_version": self.data_version,
        })
    }
}
