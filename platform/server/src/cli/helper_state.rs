//! `raas helper state`: what an instance keeps, seen and changed by hand, moved by export and import.

use std::io::BufRead;

use http::{HeaderMap, Method};
use raas_core::{Clock, SystemClock, TimestampUs};
use serde_json::{Value, json};

use super::arguments::StateCommand;
use super::client::{Answer, Call, Client, encode};
use super::failure::{Failure, Outcome};
use super::format::{bytes, list as items, moment, text};
use super::helpers::path;
use super::screen::Screen;
use super::table::Table;

/// Keys of one page, and writes of one commit, of an export and an import.
const BATCH_KEYS: usize = 500;

/// Bytes of the writes of one commit of an import, approximately; a commit is refused at 4 MiB.
const BATCH_BYTES: usize = 2 << 20;

/// Does what the command says.
///
/// # Errors
/// No answer, or a problem.
pub fn run(screen: Screen, client: &Client, command: StateCommand) -> Outcome {
    let done = |what: Value, shown: &str| {
        let answer = Answer { text: what.to_string(), headers: HeaderMap::new() };
        screen.answer(&answer, |_| screen.green(shown))
    };
    match command {
        StateCommand::List { instance, prefix } => list(screen, client, &instance, &prefix),
        StateCommand::Get { instance, key } => {
            let (_, value) = client.bytes(&Call::new(Method::GET, key_path(&instance, &key)))?;
            screen.bytes(&value)
        }
        StateCommand::Put { instance, key, value, ttl_s } => {
            let call = Call::new(Method::PUT, key_path(&instance, &key))
                .query_if("ttl_s", ttl_s.map(|ttl_s| ttl_s.to_string()).as_deref())
                .body("application/json", value.as_bytes());
            client.call(&call)?;
            done(json!({ "written": key }), &format!("{key} is written"))
        }
        StateCommand::Delete { instance, key } => {
            client.call(&Call::new(Method::DELETE, key_path(&instance, &key)))?;
            done(json!({ "deleted": key }), &format!("{key} is deleted"))
        }
        StateCommand::Export { instance } => export(screen, client, &instance),
        StateCommand::Import { instance } => {
            let count = import(client, &instance)?;
            done(json!({ "written": count }), &format!("{count} keys are written"))
        }
    }
}

/// Slashes are part of a key and of the path.
fn key_path(instance: &str, key: &str) -> String {
    let key: Vec<_> = key.split('/').map(encode).collect();
    format!("{}/state/{}", path(instance), key.join("/"))
}

fn list(screen: Screen, client: &Client, instance: &str, prefix: &str) -> Outcome {
    let answer =
        client.list(&format!("{}/state", path(instance)), &[("prefix", Some(prefix)), ("limit", Some("500"))])?;
    screen.answer(&answer, |keys| {
        let mut table = Table::new(&["KEY", ">SIZE", "UPDATED", "EXPIRES"]);
        for key in items(keys, "items") {
            table.row([
                text(key, "key").to_owned(),
                bytes(key["size_bytes"].as_u64().unwrap_or(0)),
                moment(text(key, "updated_at")),
                key["expires_at"].as_str().map(moment).unwrap_or_default(),
            ]);
        }
        let nothing = if prefix.is_empty() { "it keeps nothing" } else { "it keeps nothing under keys that begin so" };
        table.render(|head| screen.bold(head), nothing)
    })
}

fn export(screen: Screen, client: &Client, instance: &str) -> Outcome {
    let limit = BATCH_KEYS.to_string();
    let query = [("values", Some("true")), ("limit", Some(limit.as_str()))];
    let mut cursor: Option<String> = None;
    loop {
        let (page, next) = client.page(&format!("{}/state", path(instance)), &query, cursor.as_deref())?;
        for entry in &page {
            screen.line(entry.get())?;
        }
        if page.is_empty() || next.is_none() || next == cursor {
            return Ok(());
        }
        cursor = next;
    }
}

/// One exported line as a write; nothing where its time is over.
fn write_of(entry: &Value, now: TimestampUs) -> Result<Option<Value>, &'static str> {
    const FORM: &str =
        "is not a line of `raas helper state export`: {\"key\": …, \"value\": …}, or base64 instead of value";
    let fields = entry.as_object().ok_or(FORM)?;
    let known = ["key", "value", "base64", "size_bytes", "expires_at", "updated_at"];
    if !entry["key"].is_string() || fields.keys().any(|field| !known.contains(&field.as_str())) {
        return Err(FORM);
    }
    let mut write = json!({ "key": entry["key"] });
    match (fields.get("value"), fields.get("base64")) {
        (Some(value), None) => write["value"] = value.clone(),
        (None, Some(base64)) => write["base64"] = base64.clone(),
        _ => return Err(FORM),
    }
    if let Some(expires) = fields.get("expires_at").filter(|at| !at.is_null()) {
        let expires: TimestampUs =
            expires.as_str().and_then(|at| at.parse().ok()).ok_or("has an expires_at that is no time")?;
        let left_us = expires.as_micros().saturating_sub(now.as_micros());
        if left_us <= 0 {
            return Ok(None);
        }
        // To whole seconds, the later one: nothing is gone before its time.
        write["ttl_s"] = json!(left_us.saturating_add(999_999) / 1_000_000);
    }
    Ok(Some(write))
}

/// Each commit is whole or not at all; one that fails leaves those before it, and running the import again is safe.
fn import(client: &Client, instance: &str) -> Outcome<usize> {
    let mut writes: Vec<Value> = Vec::new();
    let (mut size_bytes, mut count) = (0, 0);
    let send = |writes: &mut Vec<Value>| -> Outcome {
        if writes.is_empty() {
            return Ok(());
        }
        let body = json!({ "writes": std::mem::take(writes) }).to_string();
        let call = Call::new(Method::POST, format!("{}/state", path(instance)));
        client.call(&call.body("application/json", body.as_bytes()))?;
        Ok(())
    };
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let at = |what: String| Failure::Usage(format!("line {} {what}", index + 1));
        let unreadable = |what: &'static str| at(what.to_owned());
        let line = line.map_err(|error| at(format!("cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let entry: Value = serde_json::from_str(&line).map_err(|error| at(format!("is not JSON: {error}")))?;
        let Some(write) = write_of(&entry, SystemClock.now()).map_err(unreadable)? else { continue };
        writes.push(write);
        size_bytes += line.len();
        count += 1;
        if writes.len() >= BATCH_KEYS || size_bytes >= BATCH_BYTES {
            send(&mut writes)?;
            size_bytes = 0;
        }
    }
    send(&mut writes)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_exported_line_keeps_its_value_and_what_is_left_of_its_time() {
        let now: TimestampUs = "2026-01-01T00:00:00Z".parse().unwrap();
        let of = |entry: Value| write_of(&entry, now);
        assert_eq!(
            of(json!({"key": "a", "value": null, "size_bytes": 4})),
            Ok(Some(json!({"key": "a", "value": null})))
        );
        let brief = json!({"key": "a", "base64": "AA==", "expires_at": "2026-01-01T00:00:01.5Z"});
        assert_eq!(of(brief), Ok(Some(json!({"key": "a", "base64": "AA==", "ttl_s": 2}))));
        assert_eq!(
            of(json!({"key": "a", "value": 1, "expires_at": "2025-12-31T23:59:59Z"})),
            Ok(None),
            "its time is over"
        );
        for refused in [
            json!({}),
            json!([]),
            json!({"key": "a"}),
            json!({"key": 1, "value": 1}),
            json!({"key": "a", "value": 1, "base64": ""}),
            json!({"key": "a", "value": 1, "ttl_s": 1}),
            json!({"key": "a", "value": 1, "expires_at": "soon"}),
        ] {
            assert!(of(refused.clone()).is_err(), "{refused}");
        }
    }
}
