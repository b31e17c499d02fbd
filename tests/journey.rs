//! The main journey: deploy, call, be served from what is kept, move aliases, read logs, usage and costs.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("journey", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

/// Answers with its own environment variable `GREETING`; its results are kept.
fn greeter(greeting: &str) -> Function {
    let manifest = format!("[cache]\nmode = \"declared\"\n[env]\nGREETING = \"{greeting}\"\n");
    Function::python(
        "greeter",
        &manifest,
        "import os\ndef handler(event, context):\n    return os.environ['GREETING']\n",
    )
}

#[test]
fn a_python_example_is_computed_cold_then_warm_then_served_from_what_is_kept() {
    let client = tenant("route");
    client.deploy(&Function::found("examples/route"));
    let event = json!({"from": "SEA", "to": "MIA", "range_km": 1500});

    let cold = client.invoke("route", &event).expect(200);
    assert_eq!(
        (cold.served_by(), cold.header("raas-cold-start"), cold.header("raas-version")),
        ("computed", "true", "1")
    );
    assert_eq!(cold.header("cache-status"), "raas; fwd=miss; stored");
    assert_eq!(cold.header("content-type"), "application/json");
    assert!(cold.header("raas-compute-ms").parse::<f64>().unwrap() > 0.0);
    for part in ["auth;dur=", "queue;dur=", "cold;dur=", "exec;dur=", "total;dur="] {
        assert!(cold.header("server-timing").contains(part), "{}", cold.header("server-timing"));
    }
    let route = cold.json()["route"].as_array().unwrap().clone();
    assert_eq!((route.first().unwrap(), route.last().unwrap()), (&json!("SEA"), &json!("MIA")));
    assert!(cold.json()["total_km"].as_f64().unwrap() > 4300.0);

    let warm = client.invoke("route", &json!({"from": "SEA", "to": "BOS", "range_km": 1500})).expect(200);
    assert_eq!((warm.served_by(), warm.header("raas-cold-start")), ("computed", "false"));

    // The request id is not among the declared key, so it does not spoil the hit.
    let again = json!({"to": "MIA", "from": "SEA", "range_km": 1500, "request_id": "a-7"});
    let hit = client.invoke("route", &again).expect(200);
    assert_eq!((hit.served_by(), hit.header("raas-cold-start"), hit.header("raas-version")), ("hit", "false", "1"));
    assert!(hit.header("age").parse::<u32>().unwrap() <= 30, "{:?}", hit.headers);
    let ttl = hit.header("cache-status").strip_prefix("raas; hit; ttl=").unwrap().parse::<u32>().unwrap();
    assert!((3500..=3600).contains(&ttl), "{ttl}");
    assert_eq!(hit.body, cold.body);
    assert_eq!(
        hit.header("raas-compute-ms"),
        cold.header("raas-compute-ms"),
        "what computing it took, whoever is served"
    );
    assert_ne!(hit.id(), cold.id(), "every call has an id of its own");
    assert!(warm.header("age").is_empty(), "only a kept result has an age");
}

#[test]
fn a_node_example_answers_and_is_kept() {
    let client = tenant("weather");
    client.deploy(&Function::found("examples/seattle-weather"));
    let novembers = client.invoke("seattle-weather", &json!({"month": 11})).expect(200);
    assert_eq!((novembers.served_by(), novembers.header("raas-cold-start")), ("computed", "true"));
    assert_eq!(novembers.json()["summary"]["days"], 120);
    assert_eq!(novembers.json()["months"].as_array().unwrap().len(), 4);
    let hit = client.invoke("seattle-weather", &json!({"month": 11})).expect(200);
    assert_eq!(hit.served_by(), "hit");
    assert_eq!(hit.body, novembers.body);
    let problem = client.invoke("seattle-weather", &json!({"month": 13})).problem(502, "function-error", "function");
    assert_eq!(problem["error"]["type"], "RangeError");
    assert!(problem["error"]["stack"].as_str().unwrap().contains("main.js"), "{problem}");
}

#[test]
fn aliases_name_versions_and_split_by_weight() {
    let client = tenant("aliases");
    assert_eq!(client.deploy(&greeter("one")), 1);
    assert_eq!(client.deploy(&greeter("two")), 2);
    let at = |query: &str| client.post(&format!("/v1/functions/greeter/invocations{query}"), &json!({}));
    assert_eq!(at("").expect(200).json(), "two", "`live` moves with a deploy");
    assert_eq!(at("?version=1").expect(200).json(), "one");
    assert_eq!(at("?version=1").header("raas-version"), "1");

    let set = |alias: &str, targets: Value| {
        client.put(&format!("/v1/functions/greeter/aliases/{alias}"), &json!({ "targets": targets }))
    };
    set("blue", json!([{"version": 1}])).expect(200);
    assert_eq!(at("?alias=blue").expect(200).json(), "one");
    set("live", json!([{"version": 1}])).expect(200);
    assert_eq!(at("").expect(200).json(), "one", "the next call sees the alias moved");

    set("split", json!([{"version": 1, "weight": 1}, {"version": 2, "weight": 3}])).expect(200);
    let ones = (0..200).filter(|_| at("?alias=split").expect(200).json() == "one").count();
    // 50 are expected; the bounds are six standard deviations away.
    assert!((13..=87).contains(&ones), "{ones} of 200 calls went to a quarter of the weight");

    for (alias, targets) in
        [("live", json!([{"version": 9}])), ("bad", json!([])), ("bad", json!([{"version": 1, "weight": 0}]))]
    {
        let refused = set(alias, targets);
        assert!(matches!(refused.status, 400 | 404), "{}", refused.text());
    }
    assert_eq!(at("").expect(200).json(), "one", "a refused change changes nothing");

    let names: Vec<_> =
        client.list("/v1/functions/greeter/aliases").iter().map(|alias| alias["name"].clone()).collect();
    assert_eq!(names, ["blue", "live", "split"]);
    client.delete("/v1/functions/greeter/aliases/blue").expect(204);
    at("?alias=blue").problem(404, "not-found", "caller");
    at("?version=3").problem(404, "not-found", "caller");
    at("?version=1&alias=live").problem(400, "invalid-query", "caller");
    client.delete("/v1/functions/greeter/aliases/live").expect(204);
    at("").problem(404, "not-live", "caller");
}

#[test]
fn a_deploy_can_leave_live_alone() {
    let client = tenant("staged");
    client.deploy(&greeter("one"));
    let staged = client.request("POST", "/v1/functions?alias=next", &[], &greeter("two").archive()).expect(201).json();
    assert_eq!((staged["version"].as_u64(), staged["alias"].as_str()), (Some(2), Some("next")));
    assert_eq!(client.value("greeter", &json!({})), "one");
    assert_eq!(client.post("/v1/functions/greeter/invocations?alias=next", &json!({})).expect(200).json(), "two");
}

#[test]
fn the_same_folder_is_the_same_version_and_changed_configuration_never_serves_an_old_result() {
    let client = tenant("versions");
    let first = client.upload(&greeter("one").archive()).expect(201).json();
    assert_eq!((first["version"].as_u64(), first["existed"].as_bool()), (Some(1), Some(false)));
    assert_eq!(client.invoke("greeter", &json!({})).expect(200).served_by(), "computed");
    assert_eq!(client.invoke("greeter", &json!({})).expect(200).served_by(), "hit");

    let again = client.upload(&greeter("one").archive()).expect(201).json();
    assert_eq!((again["version"].as_u64(), again["existed"].as_bool()), (Some(1), Some(true)));
    assert_eq!(again["digest"], first["digest"]);
    assert_eq!(
        client.invoke("greeter", &json!({})).expect(200).served_by(),
        "hit",
        "the same version keeps its results"
    );

    let changed = client.upload(&greeter("two").archive()).expect(201).json();
    assert_eq!(changed["version"], 2);
    assert_ne!(changed["digest"], first["digest"]);
    let computed = client.invoke("greeter", &json!({})).expect(200);
    assert_eq!((computed.served_by(), computed.json()), ("computed", json!("two")));

    let back = client.upload(&greeter("one").archive()).expect(201).json();
    assert_eq!((back["version"].as_u64(), back["existed"].as_bool()), (Some(1), Some(true)));
    assert_eq!(client.value("greeter", &json!({})), "one", "deploying an old folder again moves `live` back");
    let numbers: Vec<_> =
        client.list("/v1/functions/greeter/versions").iter().map(|version| version["version"].clone()).collect();
    assert_eq!(numbers, [2, 1], "the newest first");
}

#[test]
fn functions_are_listed_shown_and_deleted() {
    let client = tenant("listing");
    let echo = "def handler(event, context):\n    return event\n";
    for name in ["c-last", "a-first", "b-middle"] {
        client.deploy(&Function::python(name, "memory_mb = 128\n", echo));
    }
    let names =
        |items: Vec<Value>| items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(client.list("/v1/functions")), ["a-first", "b-middle", "c-last"]);
    assert_eq!(names(client.list("/v1/functions?limit=1")), ["a-first", "b-middle", "c-last"], "page by page");
    client.get("/v1/functions?limit=101").problem(400, "invalid-query", "caller");
    client.get("/v1/functions?colour=red").expect(400);

    client.value("a-first", &json!(1));
    let shown = client.show("a-first");
    assert_eq!((shown["manifest"]["memory_mb"].as_u64(), shown["runtime"].as_str()), (Some(128), Some("python3")));
    assert_eq!(shown["live"], json!([{"version": 1, "weight": 1}]));
    assert_eq!(shown["served"]["computed"], 1);
    assert_eq!(shown["instances"][0]["phase"], "ready");

    client.delete("/v1/functions/a-first").expect(204);
    for path in ["", "/versions", "/aliases", "/logs", "/results"] {
        client.get(&format!("/v1/functions/a-first{path}")).problem(404, "not-found", "caller");
    }
    client.delete("/v1/functions/a-first").problem(404, "not-found", "caller");
    client.invoke("a-first", &json!(1)).problem(404, "not-found", "caller");
    assert_eq!(names(client.list("/v1/functions")), ["b-middle", "c-last"]);
    assert_eq!(client.usage().len(), 1, "what was used stays on the account");
    assert_eq!(client.deploy(&Function::python("a-first", "", echo)), 1, "the name is free again");
    assert_eq!(client.value("a-first", &json!(2)), 2);
}

#[test]
fn printed_lines_are_kept_with_the_invocation_that_printed_them() {
    let client = tenant("logs");
    client.deploy(&Function::python(
        "talks",
        "",
        "import sys, os\ndef handler(event, context):\n    print('out', event)\n    print('err', event, file=sys.stderr)\n    os.write(1, b'raw\\n')\n    print('no newline', end='')\n",
    ));
    client.deploy(&Function::node(
        "chats",
        "",
        "exports.handler = (event) => { console.log('out', event); console.error('err', event); return 1 };",
    ));
    for (name, lines) in [("talks", 4), ("chats", 2)] {
        let (one, two) = (client.invoke(name, &json!(1)).expect(200), client.invoke(name, &json!(2)).expect(200));
        let logs = wait_for("the log lines", SOON, || Some(client.logs(name)).filter(|logs| logs.len() >= 2 * lines));
        let text = |log: &Value| (log["stream"].as_str().unwrap().to_owned(), log["line"].as_str().unwrap().to_owned());
        for (call, event) in [(&one, 1), (&two, 2)] {
            let own: Vec<_> = logs.iter().filter(|log| log["invocation_id"] == call.id()).map(text).collect();
            assert!(own.contains(&("stdout".into(), format!("out {event}"))), "{own:?}");
            assert!(own.contains(&("stderr".into(), format!("err {event}"))), "{own:?}");
            let filtered =
                client.get(&format!("/v1/functions/{name}/logs?invocation={}", call.id())).expect(200).json();
            assert_eq!(filtered["items"].as_array().unwrap().len(), own.len());
        }
        assert!(logs.iter().all(|log| log["version"] == 1 && log["instance_id"].is_string()));
    }
    let raw: Vec<_> = client.logs("talks").iter().map(|log| log["line"].clone()).collect();
    assert!(raw.contains(&json!("raw")) && raw.contains(&json!("no newline")), "{raw:?}");
}

#[test]
fn a_follower_sees_a_line_while_the_call_still_runs() {
    let client = tenant("follow");
    client.deploy(&Function::python(
        "slow",
        "",
        "import time\ndef handler(event, context):\n    print('begun', event)\n    time.sleep(3)\n    print('ended')\n    return 'done'\n",
    ));
    let mut lines = client.follow("slow");
    let caller = client.clone();
    let call = std::thread::spawn(move || caller.invoke("slow", &json!(7)).expect(200));
    let line = lines.next().unwrap();
    assert_eq!(line["line"], "begun 7");
    assert!(!call.is_finished(), "the line came while the call ran");
    let id = call.join().unwrap().id();
    assert_eq!(line["invocation_id"], id);
    assert_eq!(lines.next().unwrap()["line"], "ended");
}

#[test]
fn an_asynchronous_call_is_accepted_at_once_and_answered_later() {
    let client = tenant("async");
    client.deploy(&Function::python(
        "slow",
        "",
        "import time\ndef handler(event, context):\n    time.sleep(event['s'])\n    if event.get('fail'):\n        raise KeyError('gone')\n    return {'id': context.invocation_id}\n",
    ));
    let begun = std::time::Instant::now();
    let accepted = client.invoke_text("slow", r#"{"s": 1.5}"#, &[("prefer", "respond-async")]).expect(202);
    assert!(begun.elapsed().as_millis() < 1400, "it was answered before it could have run");
    let location = accepted.header("location").to_owned();
    assert_eq!(location, format!("/v1/invocations/{}", accepted.id()));
    assert!(["queued", "running"].contains(&client.get(&location).expect(200).json()["state"].as_str().unwrap()));
    let done = client.finished(&location);
    assert_eq!(
        (done["status"].as_u64(), done["attempt"].as_u64(), done["served_by"].as_str()),
        (Some(200), Some(1), Some("computed"))
    );
    assert_eq!(done["result"]["id"], accepted.id(), "the function sees the same id");

    let failed = client.finished(&client.invoke_async("slow", &json!({"s": 0, "fail": true})));
    assert_eq!((failed["status"].as_u64(), failed["problem"]["error"]["type"].as_str()), (Some(502), Some("KeyError")));
    let ids: Vec<_> =
        client.usage().iter().map(|item| (item["invocation_id"].clone(), item["status"].clone())).collect();
    assert_eq!(
        ids,
        [(json!(accepted.id()), json!(200)), (failed["id"].clone(), json!(502))],
        "they are metered like other calls"
    );
    let large = format!(r#"{{"s": 0, "fill": "{}"}}"#, "x".repeat(1 << 20));
    client.invoke_text("slow", &large, &[("prefer", "respond-async")]).problem(413, "event-too-large", "caller");
}

#[test]
fn an_asynchronous_call_with_an_idempotency_key_runs_once() {
    let client = tenant("async-once");
    client.deploy(&Function::python(
        "once",
        "",
        "def handler(event, context):\n    return {'id': context.invocation_id}\n",
    ));
    let call = |key: &str, event: &str| {
        client.invoke_text("once", event, &[("prefer", "respond-async"), ("idempotency-key", key)])
    };
    let first = call("a", r#"{"n": 1}"#).expect(202);
    let done = client.finished(first.header("location"));
    let again = call("a", r#"{"n": 1}"#).expect(202);
    assert_eq!((again.id(), again.header("location")), (first.id(), first.header("location")));
    assert_eq!(again.json(), first.json());
    assert_eq!(done["result"]["id"], first.id());
    call("a", r#"{"n": 2}"#).problem(409, "conflict", "caller");
    call("", "1").problem(400, "invalid-idempotency-key", "caller");
    let other = call("b", r#"{"n": 1}"#).expect(202);
    assert_ne!(other.id(), first.id(), "another key is another call");
    client.finished(other.header("location"));
    assert_eq!(client.usage().len(), 2);
}

#[test]
fn usage_has_one_item_for_each_answered_call_and_costs_add_up() {
    let client = tenant("usage");
    client.deploy(&Function::python(
        "kept",
        "memory_mb = 512\n[cache]\nmode = \"declared\"\n",
        "def handler(event, context):\n    return event\n",
    ));
    client.deploy(&Function::python("failing", "", "def handler(event, context):\n    raise ValueError(event)\n"));
    let mut calls = Vec::new();
    for (function, event) in [("kept", 1), ("kept", 1), ("kept", 2), ("failing", 1), ("failing", 1)] {
        calls.push(client.invoke(function, &json!(event)));
    }
    // What was not answered with a result of anybody's is no usage.
    client.invoke_text("kept", "{", &[]).expect(400);
    client.invoke("nothing", &json!(1)).expect(404);

    let items = client.usage();
    let seen: Vec<_> = items.iter().map(|item| item["invocation_id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = calls.iter().map(super::harness::Reply::id).collect();
    assert_eq!(seen, expected, "one item a call, in order, there as soon as it was answered");
    for (item, call) in items.iter().zip(&calls) {
        assert_eq!(
            (item["served_by"].as_str().unwrap(), item["status"].as_u64().unwrap()),
            (call.served_by(), u64::from(call.status))
        );
        assert_eq!(item["cold_start"].to_string(), call.header("raas-cold-start"));
    }
    let served: Vec<_> = items.iter().map(|item| item["served_by"].as_str().unwrap()).collect();
    assert_eq!(served, ["computed", "hit", "computed", "computed", "computed"]);
    assert_eq!(
        (items[0]["memory_mb"].as_u64(), items[0]["bytes_in"].as_u64(), items[0]["bytes_out"].as_u64()),
        (Some(512), Some(1), Some(1))
    );
    assert!(items[0]["gb_s"].as_f64().unwrap() > 0.0);
    assert_eq!(items[1]["exec_ms"], 0.0, "nothing ran for a hit");
    assert_eq!(client.list("/v1/usage?limit=2").len(), 5, "page by page");
    assert_eq!(client.list("/v1/usage?function=failing").len(), 2);
    assert_eq!(client.list("/v1/usage?from=2100-01-01T00:00:00Z").len(), 0);

    // Decimal texts are compared exactly, in trillionths.
    let exact = |text: &Value| {
        let (whole, fraction) = text.as_str().unwrap().split_once('.').unwrap_or((text.as_str().unwrap(), ""));
        assert!(fraction.len() <= 18, "{fraction}");
        format!("{whole}{fraction:0<18}").parse::<u128>().unwrap()
    };
    let costs = client.get("/v1/costs").expect(200).json();
    let groups = costs["items"].as_array().unwrap();
    assert_eq!(costs["currency"], "USD");
    assert_eq!(groups.iter().map(|group| exact(&group["cost"])).sum::<u128>(), exact(&costs["total"]));
    assert_eq!(
        items.iter().map(|item| exact(&item["cost"])).sum::<u128>(),
        exact(&costs["total"]),
        "items and groups cost the same"
    );
    assert!(exact(&items[1]["cost"]) < exact(&items[0]["cost"]), "a hit is cheaper");
    let counted: Vec<_> = groups
        .iter()
        .map(|g| {
            (
                g["function"].as_str().unwrap(),
                g["served_by"].as_str().unwrap(),
                g["calls"].as_u64().unwrap(),
                g["errors"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(counted, [("failing", "computed", 2, 2), ("kept", "computed", 2, 0), ("kept", "hit", 1, 0)]);
}

#[test]
fn the_callers_trace_goes_on_in_the_function() {
    let client = tenant("trace");
    client.deploy(&Function::python(
        "py",
        "",
        "def handler(event, context):\n    return [context.traceparent, context.tracestate]\n",
    ));
    client.deploy(&Function::node(
        "js",
        "",
        "exports.handler = (event, context) => [context.traceparent, context.tracestate];",
    ));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for name in ["py", "js"] {
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        let seen =
            client.invoke_text(name, "1", &[("traceparent", &parent), ("tracestate", "vendor=1")]).expect(200).json();
        let text = seen[0].as_str().unwrap();
        assert!(text.starts_with(&format!("00-{trace}-")) && text.ends_with("-01") && text != parent, "{text}");
        assert_eq!(seen[1], "vendor=1");
        let alone = client.value(name, &json!(1));
        let text = alone[0].as_str().unwrap();
        assert!(text.len() == 55 && !text.contains(trace), "a call without a trace begins one: {text}");
        assert_eq!(alone[1], "");
    }
}

#[test]
fn the_context_says_what_is_called_and_how_long_it_may_take() {
    let client = tenant("context");
    client.deploy(&Function::python(
        "py",
        "timeout_s = 20\n",
        "def handler(event, c):\n    return [c.function_name, str(c.function_version), c.invocation_id, c.get_remaining_time_in_millis(), c.deadline_ms]\n",
    ));
    client.deploy(&Function::node(
        "js",
        "timeout_s = 20\n",
        "exports.handler = async (event, c) => [c.function_name, String(c.function_version), c.invocation_id, c.get_remaining_time_in_millis(), c.deadline_ms];",
    ));
    for name in ["py", "js"] {
        let reply = client.invoke(name, &json!({})).expect(200);
        let seen = reply.json();
        assert_eq!(
            (seen[0].as_str(), seen[1].as_str(), seen[2].as_str()),
            (Some(name), Some("1"), Some(reply.id().as_str()))
        );
        assert!((10_000..=20_000).contains(&seen[3].as_u64().unwrap()), "{seen}");
    }
}
