//! What the demo prints at its end.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::journey::{Answered, Step};
use super::money::Amount;
use crate::cli::format::{list, ms, text};
use crate::cli::screen::Screen;
use crate::cli::table::Table;

/// How "if each call had been computed" is meant.
const FORMULA: &str = "the sum, over all calls, of what the computed call with the same event cost";

/// What all calls came to.
pub struct Totals {
    calls: usize,
    computed: usize,
    cost: Amount,
    all_computed: Amount,
    saved_ms: f64,
}

impl Totals {
    /// Of these steps.
    pub fn of(steps: &[Step]) -> Self {
        let calls: Vec<&Answered> = steps.iter().flat_map(|step| &step.calls).collect();
        let computed: HashMap<_, _> =
            calls.iter().filter(|call| call.is_computed()).map(|call| (key(call), cost(call))).collect();
        let sum = |amount: &dyn Fn(&Answered) -> Amount| {
            calls.iter().fold(Amount::default(), |sum, call| sum.plus(amount(call)))
        };
        Self {
            calls: calls.len(),
            computed: calls.iter().filter(|call| call.is_computed()).count(),
            cost: sum(&cost),
            all_computed: sum(&|call| computed.get(&key(call)).copied().unwrap_or_else(|| cost(call))),
            saved_ms: calls.iter().map(|call| saved_ms(call)).sum(),
        }
    }
}

fn key(call: &Answered) -> (&'static str, &str) {
    (call.function, &call.event)
}

fn cost(call: &Answered) -> Amount {
    call.cost.unwrap_or_default()
}

/// The compute time that was not spent again for this call.
fn saved_ms(call: &Answered) -> f64 {
    if call.is_computed() { 0.0 } else { call.compute_ms }
}

/// How many calls each source served, most first: `49 coalesced, 1 computed`.
fn served_by(step: &Step) -> String {
    let mut counts = BTreeMap::new();
    for call in &step.calls {
        *counts.entry(call.served_by.as_str()).or_insert(0usize) += 1;
    }
    if step.calls.len() == 1 {
        return counts.keys().copied().collect();
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

struct Row<'a> {
    step: &'a Step,
    cold: bool,
    server_ms: f64,
    compute_ms: f64,
    saved_ms: f64,
    cost: Amount,
}

impl<'a> Row<'a> {
    fn of(step: &'a Step) -> Self {
        // Not `sum`, whose sum of nothing is -0.0.
        let sum = |figure: &dyn Fn(&Answered) -> f64| step.calls.iter().fold(0.0, |sum, call| sum + figure(call));
        Self {
            step,
            cold: step.calls.iter().any(|call| call.cold),
            server_ms: step.calls.iter().map(|call| call.server_ms).fold(0.0, f64::max),
            compute_ms: sum(&|call| if call.is_computed() { call.compute_ms } else { 0.0 }),
            saved_ms: sum(&saved_ms),
            cost: step.calls.iter().fold(Amount::default(), |sum, call| sum.plus(cost(call))),
        }
    }
}

/// The report for people.
pub fn render(screen: Screen, steps: &[Step], currency: &str) -> String {
    let totals = Totals::of(steps);
    let head = [
        "FUNCTION",
        "WHAT",
        "SERVED BY",
        "COLD START",
        ">CALLER MS",
        ">SERVER MS",
        ">COMPUTE MS",
        ">SAVED MS",
        &format!(">COST {currency}"),
    ];
    let mut table = Table::new(&head);
    for row in steps.iter().map(Row::of) {
        let function = row.step.calls.first().map_or("", |call| call.function);
        table.row([
            function.to_owned(),
            row.step.what.clone(),
            served_by(row.step),
            if row.cold { "yes" } else { "no" }.to_owned(),
            ms(row.step.wall_ms),
            ms(row.server_ms),
            ms(row.compute_ms),
            ms(row.saved_ms),
            row.cost.to_string(),
        ]);
    }
    let mut report = format!("{}\n", table.render(|head| screen.bold(head), ""));
    report += &screen.dim(
        "\nCALLER MS from request to answer (many calls: from the first request to the last answer); SERVER MS the platform's share\n\
         (the longest); COMPUTE MS what the function itself ran; SAVED MS what it would have run again.",
    );
    for line in [route(steps), weather(steps)].into_iter().flatten() {
        report += &format!("\n\n{line}");
    }
    let ratio =
        totals.all_computed.times(totals.cost).map(|times| format!(", {times:.1} times as much")).unwrap_or_default();
    report += &format!(
        "\n\n{} calls, {} computed, {} ms of compute saved. Cost {} {currency}; had each been computed: {} {currency}{ratio}\n{}",
        totals.calls,
        totals.computed,
        ms(totals.saved_ms),
        screen.green(&totals.cost.to_string()),
        totals.all_computed,
        screen.dim(&format!("({FORMULA})")),
    );
    report
}

/// What all figures stand on.
pub fn measured_on(screen: Screen, machine: &str) -> String {
    format!("\n\n{}", screen.dim(&format!("All figures measured on this machine in this run: {machine}.")))
}

/// The route that the first call found.
fn route(steps: &[Step]) -> Option<String> {
    let body = &steps.first()?.calls.first()?.body;
    let stops: Vec<_> = list(body, "route").iter().filter_map(Value::as_str).collect();
    let total = body.get("total_km")?.as_f64()?;
    (!stops.is_empty()).then(|| {
        format!(
            "Shortest way with legs of at most 250 km, {total:.0} km in {} legs:\n  {}",
            stops.len() - 1,
            stops.join(" → ")
        )
    })
}

/// What the weather function found.
fn weather(steps: &[Step]) -> Option<String> {
    let body =
        steps.iter().flat_map(|step| &step.calls).map(|call| &call.body).find(|body| body.get("summary").is_some())?;
    let summary = &body["summary"];
    let share = summary["wet_share"].as_f64()? * 100.0;
    let coldest = text(&summary["temperature_c"]["coldest"], "date");
    Some(format!(
        "Seattle's Novembers in {} to {}: {} days, {share:.0}% of them wet, {} mm of rain, {} °C on average, coldest on {coldest}",
        text(body, "from").get(..4)?,
        text(body, "to").get(..4)?,
        summary["days"],
        summary["precipitation_mm"],
        summary["temperature_c"]["mean"],
    ))
}

/// The report for machines.
pub fn to_json(steps: &[Step], currency: &str, machine: &Value) -> Value {
    let totals = Totals::of(steps);
    let row = |step: &Step| {
        let row = Row::of(step);
        let first = step.calls.first();
        let count = |name: &str| step.calls.iter().filter(|call| call.served_by == name).count();
        json!({
            "function": first.map(|call| call.function), "what": step.what, "calls": step.calls.len(),
            "event": first.and_then(|call| serde_json::from_str::<Value>(&call.event).ok()),
            "served_by": { "computed": count("computed"), "hit": count("hit"), "coalesced": count("coalesced") },
            "cold_start": row.cold, "client_ms": rounded(step.wall_ms), "server_ms": row.server_ms,
            "compute_ms": rounded(row.compute_ms), "saved_compute_ms": rounded(row.saved_ms), "cost": row.cost.to_string(),
            "invocation_ids": step.calls.iter().map(|call| call.id.as_str()).collect::<Vec<_>>(),
        })
    };
    json!({
        "rows": steps.iter().map(row).collect::<Vec<_>>(),
        "route": steps.first().and_then(|step| step.calls.first()).map(|call| call.body["route"].clone()),
        "currency": currency,
        "totals": {
            "calls": totals.calls, "computed": totals.computed, "saved_compute_ms": rounded(totals.saved_ms),
            "cost": totals.cost.to_string(), "cost_if_each_computed": totals.all_computed.to_string(),
            "cost_if_each_computed_is": FORMULA,
        },
        "machine": machine,
    })
}

/// To the microsecond.
fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(event: &str, served_by: &str, compute_ms: f64, cost: &str) -> Answered {
        Answered {
            function: "f",
            event: event.into(),
            id: "i".into(),
            served_by: served_by.into(),
            cold: false,
            client_ms: 1.0,
            server_ms: 1.0,
            compute_ms,
            body: Value::Null,
            cost: Amount::parse(cost),
        }
    }

    #[test]
    fn what_was_saved_is_priced_by_the_same_events_computation() {
        let steps = [
            Step { what: "a".into(), calls: vec![call("1", "computed", 10.0, "0.5")], wall_ms: 1.0 },
            Step {
                what: "b".into(),
                calls: vec![call("1", "hit", 10.0, "0.1"), call("2", "computed", 5.0, "0.3")],
                wall_ms: 1.0,
            },
        ];
        let totals = Totals::of(&steps);
        assert_eq!((totals.calls, totals.computed), (3, 2));
        assert_eq!((totals.cost.to_string(), totals.all_computed.to_string()), ("0.9".into(), "1.3".into()));
        assert!((totals.saved_ms - 10.0).abs() < 1e-9);
        assert_eq!(served_by(&steps[1]), "1 computed, 1 hit");
        assert_eq!(served_by(&steps[0]), "computed");
    }
}
