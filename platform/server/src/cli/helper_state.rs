//! `raas helper state`: what an instance keeps, seen and changed by hand, moved by export and import.

use std::io::BufRead;

use http::{HeaderMap, Method};
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
        table.render(|head| screen.bold(head), "it keeps nothing")
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
        let unreadable = |what: &str| Failure::Usage(format!("line {} {what}", index + 1));
        let line = line.map_err(|error| unreadable(&format!("cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let entry: Value = serde_json::from_str(&line).map_err(|error| unreadable(&format!("is not JSON: {error}")))?;
        let mut write = json!({ "key": entry["key"] });
        for form in ["value", "base64"] {
            if let Some(value) = entry.get(form) {
                write[form] = value.clone();
            }
        }
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
