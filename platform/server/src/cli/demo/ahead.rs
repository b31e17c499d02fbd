//! The part of the demo in which an answer is there before it is asked for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::examples::ROUTE;
use super::journey::{Answered, Step, call};
use crate::cli::client::{Client, encode};
use crate::cli::failure::Outcome;
use crate::cli::format::{float, ms, number, text};

/// The first range that is asked for, km, and by how much each next one is longer.
const FIRST_KM: u32 = 300;
const STEP_KM: u32 = 50;

/// Ranges that are asked for at most until one was there before.
const RANGES_MAX: u32 = 20;

/// How often it is looked whether the platform is still computing ahead …
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// … and how long at most.
const AHEAD_WITHIN: Duration = Duration::from_secs(5);

/// What was played, and the platform's books of what it computed ahead.
pub struct Played {
    /// The calls.
    pub steps: Vec<Step>,
    books: Value,
}

/// Asks for one range after another until one was computed before it was asked for.
///
/// # Errors
/// A call has no result.
pub fn play(client: &Client, doing: impl Fn(&str)) -> Outcome<Played> {
    doing(&format!("{ROUTE}: one range after another"));
    let mut asked: Vec<Answered> = Vec::new();
    let mut there = None;
    let mut range_km = FIRST_KM;
    while there.is_none() && asked.len() < RANGES_MAX as usize {
        let answered = call(client, ROUTE, &json!({ "from": "SEA", "to": "MIA", "range_km": range_km }))?;
        range_km += STEP_KM;
        match answered.served_by.as_str() {
            "precomputed" => there = Some(answered),
            _ => asked.push(answered),
        }
        rest(client)?;
    }
    let last_km = range_km - STEP_KM * (1 + u32::from(there.is_some()));
    let step = |what: String, calls: Vec<Answered>| Step {
        what,
        wall_ms: calls.iter().map(|call| call.client_ms).sum::<f64>(),
        calls,
    };
    let mut steps = vec![step(format!("ranges of {FIRST_KM} to {last_km} km, {STEP_KM} apart"), asked)];
    steps.extend(there.map(|there| step("the next range: there before it was asked for".to_owned(), vec![there])));
    Ok(Played { steps, books: books(client)? })
}

fn books(client: &Client) -> Outcome<Value> {
    let results = client.get(format!("/v1/functions/{}/results", encode(ROUTE)))?.value()?;
    Ok(results["precomputed"][0].clone())
}

/// Waits until the platform has computed what it expects.
fn rest(client: &Client) -> Outcome {
    let begun = Instant::now();
    let mut before = None;
    while begun.elapsed() < AHEAD_WITHIN {
        let computed = books(client)?["total"]["computed"].as_u64();
        if before == Some(computed) {
            return Ok(());
        }
        before = Some(computed);
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

impl Played {
    /// What computing ahead cost, and what it was good for so far.
    pub fn render(&self) -> String {
        let (books, total) = (&self.books, &self.books["total"]);
        format!(
            "\n\ncomputed ahead: {} routes for ranges that nobody had asked for, {} ms of compute worth {} {currency}, in what the machine had to\nspare; \
             of these {} has been asked for so far, which saved its caller {} ms. The platform carries it; the call is charged as a kept answer.",
            number(total, "computed"),
            ms(float(total, "compute_ms")),
            text(books, "spent"),
            number(total, "used"),
            ms(float(total, "saved_ms")),
            currency = text(books, "currency"),
        )
    }

    /// The books, for scripts.
    pub fn to_json(&self) -> Value {
        self.books.clone()
    }
}
