//! Functions, their versions, aliases and kept results.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::arguments::AliasTarget;
use super::client::{Answer, Call, Client, encode};
use super::failure::Outcome;
use super::format::{bytes, list as items, moment, number, targets, text};
use super::screen::Screen;
use super::table::{Table, facts};

/// Where a function is.
pub(super) fn path(name: &str) -> String {
    format!("/v1/functions/{}", encode(name))
}

/// Lists functions.
///
/// # Errors
/// No answer, or a problem.
pub fn list(screen: Screen, client: &Client) -> Outcome {
    let answer = client.list("/v1/functions", &[("limit", Some("100"))])?;
    screen.answer(&answer, |functions| {
        let mut table = Table::new(&["NAME", "RUNTIME", ">LATEST", "LIVE", "CREATED"]);
        for function in items(functions, "items") {
            table.row([
                text(function, "name").to_owned(),
                text(function, "runtime").to_owned(),
                number(function, "latest_version"),
                targets(items(function, "live")),
                moment(text(function, "created_at")),
            ]);
        }
        table.render(|head| screen.bold(head), "no functions yet; raas deploy DIR makes one")
    })
}

/// Shows a function.
///
/// # Errors
/// No answer, or a problem.
pub fn show(screen: Screen, client: &Client, name: &str) -> Outcome {
    let answer = client.get(path(name))?;
    screen.answer(&answer, |function| {
        let manifest = &function["manifest"];
        let mut shown = facts([
            ("name", text(function, "name").to_owned()),
            ("id", text(function, "id").to_owned()),
            ("runtime", text(function, "runtime").to_owned()),
            ("handler", text(manifest, "handler").to_owned()),
            ("latest version", number(function, "latest_version")),
            ("memory", format!("{} MiB", number(manifest, "memory_mb"))),
            ("timeout", format!("{} s", number(manifest, "timeout_s"))),
            ("network", text(manifest, "network").to_owned()),
            ("cache", cache(&manifest["cache"])),
            ("created", moment(text(function, "created_at"))),
            ("served", served(&function["served"])),
        ]);
        shown += &format!("\n\n{}", alias_table(screen, items(function, "aliases")));
        let mut table = Table::new(&["INSTANCE", ">VERSION", "PHASE", ">IN FLIGHT", "STARTED"]);
        for instance in items(function, "instances") {
            table.row([
                text(instance, "id").to_owned(),
                number(instance, "version"),
                text(instance, "phase").to_owned(),
                number(instance, "in_flight"),
                moment(text(instance, "started_at")),
            ]);
        }
        shown + "\n\n" + &table.render(|head| screen.bold(head), "no instance runs")
    })
}

fn cache(cache: &Value) -> String {
    match text(cache, "mode") {
        "" | "off" => "off".to_owned(),
        mode => {
            let key: Vec<_> = items(cache, "key").iter().filter_map(Value::as_str).collect();
            let key = match (key.is_empty(), mode) {
                (false, _) => key.join(" "),
                (true, "proven") => "what the handler reads".to_owned(),
                (true, _) => "the whole event".to_owned(),
            };
            format!("{mode}, {} s, by {key}", number(cache, "ttl_s"))
        }
    }
}

/// Counts of answers by what served them, on a line.
pub(super) fn served(counts: &Value) -> String {
    let shown = ["computed", "hit", "coalesced", "precomputed", "stale", "errors"];
    let parts: Vec<_> = shown
        .into_iter()
        .filter(|name| counts[name].as_u64().unwrap_or(0) > 0)
        .map(|name| match (name, counts[name].as_u64()) {
            ("errors", Some(1)) => "1 error".to_owned(),
            _ => format!("{} {name}", counts[name]),
        })
        .collect();
    if parts.is_empty() { "nothing since the platform started".to_owned() } else { parts.join(", ") }
}

fn alias_table(screen: Screen, aliases: &[Value]) -> String {
    let mut table = Table::new(&["ALIAS", "VERSION"]);
    for alias in aliases {
        table.row([text(alias, "name").to_owned(), targets(items(alias, "targets"))]);
    }
    table.render(|head| screen.bold(head), "no aliases")
}

/// Lists a function's versions.
///
/// # Errors
/// No answer, or a problem.
pub fn versions(screen: Screen, client: &Client, name: &str) -> Outcome {
    let answer = client.list(&format!("{}/versions", path(name)), &[("limit", Some("100"))])?;
    screen.answer(&answer, |versions| {
        let mut table = Table::new(&[">VERSION", "DIGEST", ">SIZE", ">MEMORY", ">TIMEOUT", "CACHE", "CREATED"]);
        for version in items(versions, "items") {
            let manifest = &version["manifest"];
            table.row([
                number(version, "version"),
                text(version, "digest").chars().take(12).collect(),
                bytes(version["size_bytes"].as_u64().unwrap_or(0)),
                format!("{} MiB", number(manifest, "memory_mb")),
                format!("{} s", number(manifest, "timeout_s")),
                cache(&manifest["cache"]),
                moment(text(version, "created_at")),
            ]);
        }
        table.render(|head| screen.bold(head), "no versions")
    })
}

/// Points aliases at versions, or lists them where nothing is to be pointed.
///
/// # Errors
/// No answer, or a problem; aliases named before the refused one are moved.
pub fn alias(screen: Screen, client: &Client, name: &str, wanted: &[AliasTarget]) -> Outcome {
    if wanted.is_empty() {
        let answer = client.list(&format!("{}/aliases", path(name)), &[])?;
        return screen.answer(&answer, |aliases| alias_table(screen, items(aliases, "items")));
    }
    let mut texts = Vec::new();
    for (alias, targets) in by_alias(wanted) {
        let body = json!({ "targets": targets }).to_string();
        let call = Call::new(Method::PUT, format!("{}/aliases/{}", path(name), encode(alias)))
            .body("application/json", body.as_bytes());
        texts.push(client.call(&call)?.text);
    }
    let joined = match texts.as_slice() {
        [one] => one.clone(),
        several => format!("{{\"items\":[{}]}}", several.join(",")),
    };
    let answer = Answer { text: joined, headers: Default::default() };
    screen.answer(&answer, |moved| {
        let moved = if moved.get("items").is_some() { items(moved, "items") } else { std::slice::from_ref(moved) };
        let line = |alias: &Value| format!("{name} {} → {}", text(alias, "name"), targets(items(alias, "targets")));
        moved.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// The targets of each alias, in the order in which they were given.
fn by_alias(wanted: &[AliasTarget]) -> BTreeMap<&str, Vec<Value>> {
    let mut aliases: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for target in wanted {
        aliases.entry(&target.alias).or_default().push(json!({ "version": target.version, "weight": target.weight }));
    }
    aliases
}

/// Deletes an alias.
///
/// # Errors
/// No answer, or a problem.
pub fn delete_alias(screen: Screen, client: &Client, name: &str, alias: &str) -> Outcome {
    client.call(&Call::new(Method::DELETE, format!("{}/aliases/{}", path(name), encode(alias))))?;
    done(
        screen,
        json!({ "name": name, "alias": alias, "deleted": true }),
        &format!("alias {alias} of {name} is deleted"),
    )
}

/// Deletes a function.
///
/// # Errors
/// No answer, or a problem.
pub fn delete(screen: Screen, client: &Client, name: &str) -> Outcome {
    client.call(&Call::new(Method::DELETE, path(name)))?;
    done(screen, json!({ "name": name, "deleted": true }), &format!("{name} is deleted"))
}

/// Says that something is done of which the API says nothing.
///
/// # Errors
/// Standard output is closed.
pub fn done(screen: Screen, value: Value, text: &str) -> Outcome {
    if screen.json { screen.value(&value) } else { screen.line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_grouped_by_alias() {
        let target = |alias: &str, version, weight| AliasTarget { alias: alias.into(), version, weight };
        let wanted = [target("live", 1, 90), target("canary", 3, 1), target("live", 2, 10)];
        let grouped = by_alias(&wanted);
        assert_eq!(grouped["live"], [json!({"version": 1, "weight": 90}), json!({"version": 2, "weight": 10})]);
        assert_eq!(grouped["canary"].len(), 1);
    }

    #[test]
    fn counts_that_are_zero_are_left_out() {
        assert_eq!(served(&json!({"computed": 2, "hit": 0, "errors": 1})), "2 computed, 1 error");
        assert_eq!(cache(&json!({"mode": "declared", "ttl_s": 60, "key": ["/a"]})), "declared, 60 s, by /a");
    }
}
