//! `raas logs` and `raas helper logs`: lines, kept ones and new ones.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};

use http::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Call, Client, encode, joined};
use super::failure::{Failure, Outcome};
use super::format::{moment, text, time_of_day};
use super::screen::Screen;
use super::table::printable;

/// Where a function's lines are.
pub fn of_function(name: &str) -> String {
    format!("/v1/functions/{}/logs", encode(name))
}

/// Shows the log lines at a path of the API.
///
/// # Errors
/// No answer, or a problem.
pub fn logs(
    screen: Screen,
    client: &Client,
    path: &str,
    follow: bool,
    since: Option<&str>,
    invocation: Option<&str>,
) -> Outcome {
    // New lines are listened for before the kept ones are read, so that none falls between.
    let stream = match follow {
        true => {
            let call =
                Call::new(Method::GET, path).query("follow", "true").query_if("invocation", invocation).within(None);
            Some(client.open(&call)?)
        }
        false => None,
    };
    let kept = kept(client, path, since, invocation)?;
    if screen.json && !follow {
        return screen.line(&joined(&kept));
    }
    let mut seen = HashSet::new();
    let mut day = String::new();
    for line in &kept {
        print(screen, line.get(), &mut day)?;
        if follow {
            seen.insert(line.get().to_owned());
        }
    }
    let Some(stream) = stream else {
        if kept.is_empty() {
            screen.note(&screen.err_dim("no lines"));
        }
        return Ok(());
    };
    for line in BufReader::new(stream.into_body().into_reader()).lines() {
        let line = line.map_err(|error| client.unreachable(&ureq::Error::Io(error)))?;
        if !line.is_empty() && !seen.remove(&line) {
            print(screen, &line, &mut day)?;
        }
    }
    screen.note(&screen.err_dim("the platform stopped; there are no more lines"));
    Ok(())
}

/// The newest lines, or all from a moment or of an invocation on.
fn kept(client: &Client, path: &str, since: Option<&str>, invocation: Option<&str>) -> Outcome<Vec<Box<RawValue>>> {
    let query = [("since", since), ("invocation", invocation), ("limit", Some("100"))];
    let (mut lines, mut cursor) = client.page(path, &query, None)?;
    if since.is_none() && invocation.is_none() {
        return Ok(lines);
    }
    while let Some(after) = cursor {
        let (page, next) = client.page(path, &query, Some(&after))?;
        if page.is_empty() {
            break;
        }
        lines.extend(page);
        cursor = next.filter(|next| *next != after);
    }
    Ok(lines)
}

fn print(screen: Screen, line: &str, day: &mut String) -> Outcome {
    if screen.json {
        return screen.line(line);
    }
    let value: Value = serde_json::from_str(line).map_err(Failure::unexpected)?;
    if let Some(lost) = value["lost_lines"].as_u64() {
        screen.warn(&format!("{lost} lines came too fast and are not shown; raas logs --since shows them"));
        return Ok(());
    }
    let time = text(&value, "time");
    let today = moment(time).chars().take(10).collect::<String>();
    if *day != today {
        screen.line(&screen.dim(&format!("{today} (UTC)")))?;
        *day = today;
    }
    let call = text(&value, "invocation_id");
    let call = call.get(call.len().saturating_sub(8)..).unwrap_or_default();
    let stream = if text(&value, "stream") == "stderr" { "!" } else { " " };
    let facts = format!("{} v{} {call:8}{stream}", time_of_day(time), value["version"]);
    screen.line(&format!("{} {}", screen.dim(&facts), printable(text(&value, "line"))))
}
