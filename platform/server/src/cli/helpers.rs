//! `raas helper`: publishing helpers, and their instances from making to deleting.

use std::io::Read;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::arguments::HelperCommand;
use super::client::{Answer, Call, Client, WORK_WITHIN, encode};
use super::deploy::pack_and_publish;
use super::failure::{Failure, Outcome};
use super::format::{bytes, list as items, moment, ms, number, text};
use super::helper_state;
use super::invoke::show_headers;
use super::logs;
use super::screen::Screen;
use super::table::{Table, facts};
use super::usage;

/// The largest configuration that is read, bytes.
const CONFIG_MAX_BYTES: u64 = 1 << 20;

pub(super) fn path(instance: &str) -> String {
    format!("/v1/helper-instances/{}", encode(instance))
}

/// Does what the command says.
///
/// # Errors
/// No answer, or a problem.
pub fn run(screen: Screen, command: HelperCommand) -> Outcome {
    let client = Client::from_environment;
    let change = |instance: &str, doing: &str, body: Value| change(screen, &client()?, instance, doing, &body);
    match command {
        HelperCommand::Publish { folder } => publish(screen, &client()?, &folder),
        HelperCommand::Published => published(screen, &client()?),
        HelperCommand::Create { helper, name, config, bindings } => {
            let config = config.as_deref().map_or(Ok(json!({})), read_config)?;
            let mut bound = serde_json::Map::new();
            for (name, instance) in bindings {
                if bound.insert(name.clone(), instance.into()).is_some() {
                    return Err(Failure::Usage(format!("`{name}` is bound twice")));
                }
            }
            let bindings = bound;
            let body = json!({ "helper": helper, "name": name, "config": config, "bindings": bindings });
            create(screen, &client()?, &name, &body)
        }
        HelperCommand::List => list(screen, &client()?),
        HelperCommand::Show { instance } => show(screen, &client()?, &instance),
        HelperCommand::Call { instance, method, data, no_cache, verbose } => {
            let arguments = arguments(data)?;
            call(screen, &client()?, &instance, &method, &arguments, no_cache, verbose)
        }
        HelperCommand::Upgrade { instance, version, config } => {
            let mut body = json!({ "version": version });
            if let Some(config) = config {
                body["config"] = read_config(&config)?;
            }
            change(&instance, &format!("upgrading {instance} to {version}"), body)
        }
        HelperCommand::Rollback { instance } => {
            change(&instance, &format!("rolling {instance} back"), json!({ "rollback": true }))
        }
        HelperCommand::Configure { instance, config } => {
            change(&instance, &format!("configuring {instance}"), json!({ "config": read_config(&config)? }))
        }
        HelperCommand::Train { instance, list: true } => training(screen, &client()?, &instance),
        HelperCommand::Train { instance, list: false } => train(screen, &client()?, &instance),
        HelperCommand::Drain { instance, kill } => {
            let state = if kill { "killed" } else { "stopped" };
            change(&instance, &format!("draining {instance}"), json!({ "state": state }))
        }
        HelperCommand::Start { instance } => {
            change(&instance, &format!("starting {instance}"), json!({ "state": "serving" }))
        }
        HelperCommand::Delete { instance, force } => delete(screen, &client()?, &instance, force),
        HelperCommand::Logs { instance, follow, since, invocation } => {
            let path = format!("{}/logs", path(&instance));
            logs::logs(screen, &client()?, &path, follow, since.as_deref(), invocation.as_deref())
        }
        HelperCommand::Usage { instance } => usage::helpers(screen, &client()?, instance.as_deref()),
        HelperCommand::Share { instance, tenants } => {
            change(&instance, &format!("sharing {instance}"), json!({ "shared_with": tenants }))
        }
        HelperCommand::State(command) => helper_state::run(screen, &client()?, command),
    }
}

fn publish(screen: Screen, client: &Client, folder: &Path) -> Outcome {
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("{} is not a folder", folder.display())));
    }
    let progress = screen.progress(&format!("packing {}", folder.display()));
    let answer = pack_and_publish(client, folder, &progress)?;
    drop(progress);
    screen.answer(&answer, |published| {
        let (publisher, name) = (text(published, "publisher"), text(published, "name"));
        let version = text(published, "version");
        let what = match published["existed"].as_bool() {
            Some(true) => format!("{publisher}/{name} {version} is what was published before"),
            _ => format!("{publisher}/{name} {version} is published"),
        };
        let digest: String = text(published, "digest").chars().take(12).collect();
        let size = bytes(published["size_bytes"].as_u64().unwrap_or(0));
        format!(
            "{}\n{}",
            screen.green(&what),
            screen.dim(&format!("digest {digest} · {size} · raas helper create {publisher}/{name} --name my-{name}"))
        )
    })
}

fn published(screen: Screen, client: &Client) -> Outcome {
    let answer = client.list("/v1/helpers", &[])?;
    screen.answer(&answer, |helpers| {
        let mut table = Table::new(&["HELPER", "VERSION", ">VERSIONS", "SUMMARY"]);
        for helper in items(helpers, "items") {
            table.row([
                format!("{}/{}", text(helper, "publisher"), text(helper, "name")),
                text(helper, "version").to_owned(),
                items(helper, "versions").len().to_string(),
                text(helper, "summary").to_owned(),
            ]);
        }
        table.render(|head| screen.bold(head), "no helpers yet; raas helper publish DIR makes one")
    })
}

fn create(screen: Screen, client: &Client, name: &str, body: &Value) -> Outcome {
    let body = body.to_string();
    let progress = screen.progress(&format!("starting {name}"));
    let call = Call::new(Method::POST, "/v1/helper-instances")
        .body("application/json", body.as_bytes())
        .within(Some(WORK_WITHIN))
        .once();
    let answer = client.call(&call)?;
    drop(progress);
    screen.answer(&answer, |instance| {
        format!(
            "{}\n{}",
            screen.green(&format!("{} is {}", text(instance, "name"), text(instance, "state"))),
            screen.dim(&format!(
                "{} {} · {} · raas helper show {}",
                text(instance, "helper"),
                text(instance, "version"),
                text(instance, "id"),
                text(instance, "name")
            ))
        )
    })
}

fn list(screen: Screen, client: &Client) -> Outcome {
    let answer = client.list("/v1/helper-instances", &[])?;
    screen.answer(&answer, |instances| {
        let mut table = Table::new(&["NAME", "HELPER", "VERSION", "STATE", "SINCE", ">DATA", ">STATE SIZE"]);
        for instance in items(instances, "items") {
            table.row([
                text(instance, "name").to_owned(),
                text(instance, "helper").to_owned(),
                text(instance, "version").to_owned(),
                text(instance, "state").to_owned(),
                moment(text(instance, "since")),
                number(instance, "data_version"),
                bytes(instance["state_bytes"].as_u64().unwrap_or(0)),
            ]);
        }
        table.render(
            |head| screen.bold(head),
            "no instances yet; raas helper create PUBLISHER/NAME --name NAME makes one",
        )
    })
}

fn show(screen: Screen, client: &Client, instance: &str) -> Outcome {
    let answer = client.get(path(instance))?;
    screen.answer(&answer, |instance| {
        let words = |key: &str| {
            let words: Vec<_> = items(instance, key).iter().filter_map(Value::as_str).collect();
            if words.is_empty() { "none".to_owned() } else { words.join(", ") }
        };
        let mut lines = vec![
            ("name", text(instance, "name").to_owned()),
            ("id", text(instance, "id").to_owned()),
            ("helper", format!("{} {}", text(instance, "helper"), text(instance, "version"))),
            ("state", format!("{}: {}", text(instance, "state"), text(instance, "reason"))),
            ("since", moment(text(instance, "since"))),
            ("data version", number(instance, "data_version")),
            ("state size", bytes(instance["state_bytes"].as_u64().unwrap_or(0))),
            ("methods", words("methods")),
            ("called by", words("bound")),
            ("shared with", words("shared_with")),
            ("config", instance["config"].to_string()),
            ("created", moment(text(instance, "created_at"))),
        ];
        if let Some(disk) = instance["disk_bytes"].as_u64() {
            lines.push(("folder size", bytes(disk)));
        }
        if let Some(previous) = instance["previous_version"].as_str() {
            lines.push(("previous version", previous.to_owned()));
        }
        let mut table = Table::new(&["REPLICA", "PHASE", ">IN FLIGHT", "STARTED"]);
        for replica in items(instance, "replicas") {
            table.row([
                text(replica, "id").to_owned(),
                text(replica, "phase").to_owned(),
                number(replica, "in_flight"),
                moment(text(replica, "started_at")),
            ]);
        }
        facts(lines) + "\n\n" + &table.render(|head| screen.bold(head), "no replica runs")
    })
}

fn arguments(data: Option<String>) -> Outcome<Vec<u8>> {
    match data.as_deref() {
        None => Ok(b"{}".to_vec()),
        Some("-") => {
            let mut arguments = Vec::new();
            let limit = raas_core::limits::BODY_MAX_BYTES as u64 + 1;
            std::io::stdin().lock().take(limit).read_to_end(&mut arguments).map_err(|error| {
                Failure::Usage(format!("the arguments cannot be read from standard input: {error}"))
            })?;
            Ok(arguments)
        }
        Some(text) => Ok(text.as_bytes().to_vec()),
    }
}

fn call(
    screen: Screen,
    client: &Client,
    instance: &str,
    method: &str,
    arguments: &[u8],
    no_cache: bool,
    verbose: bool,
) -> Outcome {
    let mut call = Call::new(Method::POST, format!("{}/methods/{}", path(instance), encode(method)))
        .body("application/json", arguments)
        .within(Some(WORK_WITHIN));
    if no_cache {
        call = call.header("Cache-Control", "no-cache");
    }
    let progress = screen.progress(&format!("calling {instance}.{method}"));
    let (parts, body) = client.send(&call)?.into_parts();
    let bytes = client.read(body);
    drop(progress);
    if verbose {
        show_headers(screen, parts.status, &parts.headers);
    }
    let bytes = bytes?;
    if !parts.status.is_success() {
        return Err(client.problem(parts.status, &bytes));
    }
    screen.bytes(&bytes)
}

fn change(screen: Screen, client: &Client, instance: &str, doing: &str, body: &Value) -> Outcome {
    let body = body.to_string();
    let progress = screen.progress(doing);
    let call =
        Call::new(Method::PATCH, path(instance)).body("application/json", body.as_bytes()).within(Some(WORK_WITHIN));
    let answer = client.call(&call)?;
    drop(progress);
    screen.answer(&answer, |instance| {
        screen.green(&format!(
            "{} runs {} {} and is {}",
            text(instance, "name"),
            text(instance, "helper"),
            text(instance, "version"),
            text(instance, "state")
        ))
    })
}

fn train(screen: Screen, client: &Client, instance: &str) -> Outcome {
    let progress = screen.progress(&format!("training {instance}"));
    let call = Call::new(Method::POST, format!("{}/training", path(instance))).within(Some(WORK_WITHIN));
    let answer = client.call(&call)?;
    drop(progress);
    screen.answer(&answer, |trained| {
        format!(
            "{}\n{}",
            screen.green(&if trained["value"] == false {
                format!("{instance} learnt nothing new: data version {} stays", number(trained, "data_version"))
            } else {
                format!("{instance} is trained: data version {}", number(trained, "data_version"))
            }),
            screen.dim(&format!(
                "took {} ms · train() returned {}",
                ms(trained["took_ms"].as_f64().unwrap_or(0.0)),
                trained["value"]
            ))
        )
    })
}

fn training(screen: Screen, client: &Client, instance: &str) -> Outcome {
    let answer = client.list(&format!("{}/training", path(instance)), &[])?;
    screen.answer(&answer, |runs| {
        let mut table = Table::new(&["STARTED", "ENDED", "OUTCOME", ">DATA", "DETAIL"]);
        for run in items(runs, "items") {
            table.row([
                moment(text(run, "started_at")),
                run["ended_at"].as_str().map(moment).unwrap_or_default(),
                text(run, "outcome").to_owned(),
                number(run, "data_version"),
                text(run, "detail").lines().last().unwrap_or_default().chars().take(80).collect(),
            ]);
        }
        table.render(|head| screen.bold(head), "it was not trained yet")
    })
}

fn delete(screen: Screen, client: &Client, instance: &str, force: bool) -> Outcome {
    client.call(&Call::new(Method::DELETE, path(instance)).query_if("force", force.then_some("true")))?;
    let answer = Answer { text: json!({ "deleted": instance }).to_string(), headers: http::HeaderMap::new() };
    screen.answer(&answer, |_| screen.green(&format!("{instance} is deleted")))
}

/// A configuration from a file: TOML where its name ends so, else JSON.
fn read_config(path: &Path) -> Outcome<Value> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("the configuration cannot be read from {}: {error}", path.display()))
    };
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(CONFIG_MAX_BYTES + 1).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(CONFIG_MAX_BYTES + 1).read_to_string(&mut text)),
    };
    read.map_err(|error| unreadable(&error))?;
    if text.len() as u64 > CONFIG_MAX_BYTES {
        return Err(unreadable(&format!("it is over {CONFIG_MAX_BYTES} bytes")));
    }
    if path.extension().is_some_and(|extension| extension == "toml") {
        let table: toml::Table = toml::from_str(&text).map_err(|error| unreadable(&error))?;
        return from_toml(toml::Value::Table(table)).map_err(|what| unreadable(&what));
    }
    serde_json::from_str(&text).map_err(|error| unreadable(&error))
}

/// TOML as JSON, where it says the same.
fn from_toml(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) if number.is_finite() => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(from_toml).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| Ok((key, from_toml(value)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("JSON has no `{other}`; write it as a text in quotes")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn toml_says_the_same_as_json_or_is_refused() {
        let of = |text: &str| from_toml(toml::Value::Table(toml::from_str(text).unwrap()));
        assert_eq!(of("a = 1\n[b]\nc = [\"x\", true, 0.5]\n"), Ok(json!({"a": 1, "b": {"c": ["x", true, 0.5]}})));
        assert!(of("d = 2020-01-01").unwrap_err().contains("2020-01-01"));
        assert!(of("d = nan").is_err());
    }
}
