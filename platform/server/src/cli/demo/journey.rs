//! The calls of the demo, each measured as its caller sees it.

use std::collections::HashMap;
use std::sync::Barrier;
use std::time::Instant;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::examples::{ROUTE, WEATHER};
use super::money::Amount;
use crate::cli::client::{Call, Client, WORK_WITHIN, encode};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::format::{as_ms, list, text};

/// Callers that ask for the same at once.
pub const CALLERS: usize = 50;

/// One answered call.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The function.
    pub function: &'static str,
    /// The event, which tells which computation the answer stands for.
    pub event: String,
    /// Its id.
    pub id: String,
    /// What served it.
    pub served_by: String,
    /// Whether a sandbox had to be assigned or started.
    pub cold: bool,
    /// From sending the request to having the whole answer, milliseconds.
    pub client_ms: f64,
    /// From arrival to answer, as the platform says, milliseconds.
    pub server_ms: f64,
    /// What computing the result took, then or now, milliseconds.
    pub compute_ms: f64,
    /// The result.
    pub body: Value,
    /// What it cost; known at the end.
    pub cost: Option<Amount>,
}

impl Answered {
    /// Whether the function ran for this very call.
    pub fn is_computed(&self) -> bool {
        self.served_by == "computed"
    }
}

/// One line of the report: a call, or the calls of all callers at once.
#[derive(Debug)]
pub struct Step {
    /// What it shows.
    pub what: String,
    /// The calls.
    pub calls: Vec<Answered>,
    /// From the first request to the last answer, milliseconds.
    pub wall_ms: f64,
}

/// Plays it all. `doing` is told what comes next; `settle` waits until what the last call set off in the background is over,
/// so that refilling the warming pool is not measured with a call that has nothing to do with it.
///
/// # Errors
/// A call has no result.
pub fn play(client: &Client, doing: impl Fn(&str), settle: impl Fn() -> Outcome) -> Outcome<Vec<Step>> {
    let route = |from: &str, to: &str| json!({ "from": from, "to": to, "range_km": 250 });
    let november = json!({ "month": 11, "like": { "temp_max": 12, "wind": 4 } });
    let mut steps = Vec::new();
    let mut one = |what: &str, function: &'static str, event: Value| -> Outcome {
        doing(&format!("{function}: {what}"));
        settle()?;
        let answered = call(client, function, &event)?;
        steps.push(Step { what: what.to_owned(), wall_ms: answered.client_ms, calls: vec![answered] });
        Ok(())
    };
    one("first call", ROUTE, route("SEA", "MIA"))?;
    one("another event", ROUTE, route("SEA", "BOS"))?;
    one("the first event again", ROUTE, route("SEA", "MIA"))?;
    one("first call", WEATHER, november.clone())?;
    one("another event", WEATHER, json!({ "month": 7 }))?;
    one("the first event again", WEATHER, november)?;
    doing(&format!("{ROUTE}: {CALLERS} callers ask for the same at once"));
    settle()?;
    let together = at_once(client, ROUTE, &route("SAN", "BGR"))?;
    // After the other calls of the same function.
    steps.insert(3, together);
    Ok(steps)
}

/// The same new event from many callers at the same moment.
fn at_once(client: &Client, function: &'static str, event: &Value) -> Outcome<Step> {
    let start = Barrier::new(CALLERS);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let caller = |_| {
            scope.spawn(|| {
                start.wait();
                let began = Instant::now();
                call(client, function, event).map(|answered| (began, Instant::now(), answered))
            })
        };
        let callers: Vec<_> = (0..CALLERS).map(caller).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or_else(|_| Err(Failure::local("broken", "a caller broke"))))
            .collect()
    });
    let outcomes = outcomes.into_iter().collect::<Outcome<Vec<_>>>()?;
    let began = outcomes.iter().map(|(began, ..)| *began).min();
    let ended = outcomes.iter().map(|(_, ended, _)| *ended).max();
    let wall_ms = began.zip(ended).map_or(0.0, |(began, ended)| as_ms(ended - began));
    let calls = outcomes.into_iter().map(|(.., answered)| answered).collect();
    Ok(Step { what: format!("{CALLERS} callers at once, one new event"), calls, wall_ms })
}

/// One call, measured.
///
/// # Errors
/// It has no result.
pub fn call(client: &Client, function: &'static str, event: &Value) -> Outcome<Answered> {
    let event = event.to_string();
    let call = Call::new(Method::POST, format!("/v1/functions/{}/invocations", encode(function)))
        .body("application/json", event.as_bytes())
        .within(Some(WORK_WITHIN));
    let began = Instant::now();
    let answer = client.call(&call)?;
    let client_ms = as_ms(began.elapsed());
    let header = |name: &str| header(&answer.headers, name);
    Ok(Answered {
        function,
        id: header("Raas-Invocation-Id").to_owned(),
        served_by: header("Raas-Served-By").to_owned(),
        cold: header("Raas-Cold-Start") == "true",
        client_ms,
        server_ms: timing(header("Server-Timing"), "total").unwrap_or(0.0),
        compute_ms: header("Raas-Compute-Ms").parse().unwrap_or(0.0),
        body: answer.value()?,
        cost: None,
        event,
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// One duration of a `Server-Timing` header.
fn timing(header: &str, name: &str) -> Option<f64> {
    header.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix(";dur=")?.parse().ok())
}

/// Looks up what each call cost. Returns the currency.
///
/// # Errors
/// The platform has no usage of a call.
pub fn price(client: &Client, steps: &mut [Step]) -> Outcome<String> {
    let usage = client.list("/v1/usage", &[("limit", Some("100"))])?.value()?;
    let costs: HashMap<&str, &str> =
        list(&usage, "items").iter().map(|item| (text(item, "invocation_id"), text(item, "cost"))).collect();
    for answered in steps.iter_mut().flat_map(|step| &mut step.calls) {
        let cost = costs.get(answered.id.as_str()).and_then(|cost| Amount::parse(cost));
        answered.cost = Some(cost.ok_or_else(|| Failure::unexpected(format!("no cost for the call {}", answered.id)))?);
    }
    Ok(text(&client.get("/v1/costs")?.value()?, "currency").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_duration_is_read_from_server_timing() {
        let header = "auth;dur=0.010, queue;dur=1.5, total;dur=12.034";
        assert_eq!(timing(header, "total"), Some(12.034));
        assert_eq!(timing(header, "auth"), Some(0.01));
        assert_eq!(timing(header, "exec"), None);
    }
}
