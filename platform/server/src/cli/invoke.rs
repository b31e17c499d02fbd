//! `raas invoke` and `raas invocation`: calling a function, now or later.

use std::io::Read;
use std::path::Path;

use http::{HeaderMap, Method};

use super::arguments::InvokeArguments;
use super::client::{Answer, Call, Client, WORK_WITHIN, encode};
use super::failure::{Failure, Outcome};
use super::format::{moment, number, text};
use super::screen::Screen;
use super::table::facts;

/// What is sent where no event is given.
const EMPTY_EVENT: &[u8] = b"{}";

/// The headers that say how an answer was come by, in the order in which they are shown.
const SHOWN_HEADERS: [&str; 8] = [
    "Raas-Invocation-Id",
    "Raas-Served-By",
    "Raas-Compute-Ms",
    "Raas-Cold-Start",
    "Raas-Version",
    "Cache-Status",
    "Age",
    "Server-Timing",
];

/// Calls a function.
///
/// # Errors
/// The event cannot be read, or the call has no result.
pub fn invoke(screen: Screen, arguments: InvokeArguments) -> Outcome {
    // Read before a platform is looked for, so that a wrong path is reported as such.
    let event = event(&arguments)?;
    let client = Client::from_environment()?;
    let mut call = Call::new(Method::POST, format!("/v1/functions/{}/invocations", encode(&arguments.name)))
        .query_if("version", arguments.version.map(|version| version.to_string()).as_deref())
        .query_if("alias", arguments.alias.as_deref())
        .body("application/json", &event)
        .within(Some(WORK_WITHIN));
    if arguments.no_cache {
        call = call.header("Cache-Control", "no-cache");
    }
    if arguments.asynchronous {
        call = call.header("Prefer", "respond-async");
    }
    let progress = screen.progress(&format!("calling {}", arguments.name));
    let response = client.send(&call);
    let (parts, body) = response?.into_parts();
    let bytes = client.read(body);
    drop(progress);
    if arguments.verbose {
        show_headers(screen, parts.status, &parts.headers);
    }
    let bytes = bytes?;
    if !parts.status.is_success() {
        return Err(client.problem(parts.status, &bytes));
    }
    if !arguments.asynchronous {
        return screen.bytes(&bytes);
    }
    let answer = Answer { text: String::from_utf8(bytes).map_err(Failure::unexpected)?, headers: parts.headers };
    let location = answer.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    screen.answer(&answer, |queued| {
        let id = text(queued, "id");
        format!("{id} {}\n{}", screen.dim(location), screen.dim(&format!("ask with: raas invocation {id}")))
    })
}

fn event(arguments: &InvokeArguments) -> Outcome<Vec<u8>> {
    match (&arguments.data, &arguments.file) {
        (Some(text), _) => Ok(text.clone().into_bytes()),
        (None, Some(path)) if path != Path::new("-") => std::fs::read(path)
            .map_err(|error| Failure::Usage(format!("the event cannot be read from {}: {error}", path.display()))),
        (None, None) if arguments.stdin.is_none() => Ok(EMPTY_EVENT.to_vec()),
        _ => {
            let mut event = Vec::new();
            // One byte beyond the limit is enough for the platform to refuse it.
            let limit = raas_core::limits::BODY_MAX_BYTES as u64 + 1;
            std::io::stdin()
                .lock()
                .take(limit)
                .read_to_end(&mut event)
                .map_err(|error| Failure::Usage(format!("the event cannot be read from standard input: {error}")))?;
            Ok(event)
        }
    }
}

pub(super) fn show_headers(screen: Screen, status: http::StatusCode, headers: &HeaderMap) {
    screen.note(&screen.err_dim(&format!("HTTP {status}")));
    for name in SHOWN_HEADERS {
        for value in headers.get_all(name).iter().filter_map(|value| value.to_str().ok()) {
            screen.note(&screen.err_dim(&format!("{name}: {value}")));
        }
    }
}

/// Shows what became of an asynchronous invocation.
///
/// # Errors
/// There is none of that id.
pub fn invocation(screen: Screen, client: &Client, id: &str) -> Outcome {
    let answer = client.get(format!("/v1/invocations/{}", encode(id)))?;
    screen.answer(&answer, |invocation| {
        let mut lines = vec![
            ("id", text(invocation, "id").to_owned()),
            ("state", text(invocation, "state").to_owned()),
            ("attempt", number(invocation, "attempt")),
            ("accepted", moment(text(invocation, "created_at"))),
        ];
        if let Some(finished) = invocation["finished_at"].as_str() {
            lines.push(("finished", moment(finished)));
            lines.push(("status", number(invocation, "status")));
        }
        if let Some(served_by) = invocation["served_by"].as_str() {
            lines.push(("served by", served_by.to_owned()));
        }
        let mut shown = facts(lines);
        if let Some(result) = invocation.get("result") {
            shown += &format!("\n{}\n{result}", screen.bold("result"));
        }
        if let Some(problem) = invocation.get("problem") {
            let block = Failure::Problem(problem.clone()).render(str::to_owned, str::to_owned);
            shown += &format!("\n{}\n{block}", screen.bold("problem"));
        }
        shown
    })
}
