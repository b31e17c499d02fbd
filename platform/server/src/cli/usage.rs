//! `raas usage` and `raas costs`: what was answered, and what it costs.

use super::client::{Answer, Call, Client, joined};
use super::failure::Outcome;
use super::format::{bytes, float, list, moment, ms, number, text};
use super::screen::Screen;
use super::table::Table;

/// What narrows a list down, by name.
pub type Narrowed = [(&'static str, Option<String>); 4];

/// Lists answered calls.
///
/// # Errors
/// No answer, or a problem.
pub fn usage(screen: Screen, client: &Client, narrowed: Narrowed, all: bool) -> Outcome {
    let mut query: Vec<_> = narrowed.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    query.push(("limit", Some("100")));
    let mut more = false;
    let answer = if all || screen.json {
        client.list("/v1/usage", &query)?
    } else {
        let (items, next) = client.page("/v1/usage", &query, None)?;
        // The last page may point at an empty one.
        more = match next {
            Some(next) => !client.page("/v1/usage", &query, Some(&next))?.0.is_empty(),
            None => false,
        };
        Answer { text: joined(&items), headers: Default::default() }
    };
    screen.answer(&answer, |usage| {
        let head = [
            "STARTED",
            "CALLED",
            "BY",
            ">VERSION",
            "SERVED BY",
            ">STATUS",
            "COLD",
            ">TOTAL MS",
            ">EXEC MS",
            ">IN",
            ">OUT",
            ">COST",
            "INVOCATION",
        ];
        let mut table = Table::new(&head);
        for item in list(usage, "items") {
            table.row([
                moment(text(item, "started_at")),
                called(item),
                text(item, "called_by").to_owned(),
                number(item, "version"),
                text(item, "served_by").to_owned(),
                number(item, "status"),
                if item["cold_start"].as_bool() == Some(true) { "cold" } else { "" }.to_owned(),
                ms(float(item, "total_ms")),
                ms(float(item, "exec_ms")),
                bytes(item["bytes_in"].as_u64().unwrap_or(0)),
                bytes(item["bytes_out"].as_u64().unwrap_or(0)),
                text(item, "cost").to_owned(),
                text(item, "invocation_id").to_owned(),
            ]);
        }
        table.render(|head| screen.bold(head), "no calls")
    })?;
    if more {
        screen.note(
            &screen
                .err_dim("these are the first 100; --all shows all, --from 15m those of the last quarter of an hour"),
        );
    }
    Ok(())
}

/// Shows what was spent.
///
/// # Errors
/// No answer, or a problem.
pub fn costs(screen: Screen, client: &Client, narrowed: Narrowed) -> Outcome {
    let call = Call::new(http::Method::GET, "/v1/costs");
    let call = narrowed.iter().fold(call, |call, (name, value)| call.query_if(name, value.as_deref()));
    screen.answer(&client.call(&call)?, |costs| {
        let mut table = Table::new(&[
            "CALLED",
            "BY",
            "SERVED BY",
            ">CALLS",
            ">ERRORS",
            ">COLD STARTS",
            ">GB-S",
            &format!(">COST {}", text(costs, "currency")),
        ]);
        for item in list(costs, "items") {
            table.row([
                called(item),
                text(item, "called_by").to_owned(),
                text(item, "served_by").to_owned(),
                number(item, "calls"),
                number(item, "errors"),
                number(item, "cold_starts"),
                format!("{:.6}", float(item, "gb_s")),
                text(item, "cost").to_owned(),
            ]);
        }
        if table.is_empty() {
            return "no calls".to_owned();
        }
        table.row(["total", "", "", "", "", "", "", text(costs, "total")].map(str::to_owned));
        table.render(|head| screen.bold(head), "")
    })
}

/// What was called: a function by its name, a helper instance as such.
fn called(item: &serde_json::Value) -> String {
    match item["helper"].as_str() {
        Some(helper) => format!("helper {helper}"),
        None => text(item, "function").to_owned(),
    }
}

/// Shows what helper instances used, hour by hour.
///
/// # Errors
/// No answer, or a problem.
pub fn helpers(screen: Screen, client: &Client, instance: Option<&str>) -> Outcome {
    let answer = client.list("/v1/helper-usage", &[("helper", instance)])?;
    screen.answer(&answer, |usage| {
        let mut table = Table::new(&[
            "HOUR",
            "HELPER",
            ">REPLICA S",
            ">CPU S",
            ">MEMORY GB-S",
            ">GPU S",
            ">TRAINING S",
            ">TRAINING CPU S",
        ]);
        for item in list(usage, "items") {
            let seconds = |key: &str| format!("{:.1}", float(item, key));
            table.row([
                moment(text(item, "hour")),
                text(item, "helper").to_owned(),
                seconds("replica_s"),
                seconds("cpu_s"),
                format!("{:.3}", float(item, "memory_gb_s")),
                seconds("gpu_s"),
                seconds("training_s"),
                seconds("training_cpu_s"),
            ]);
        }
        table.render(|head| screen.bold(head), "nothing yet; the first sums are there after some seconds")
    })
}
