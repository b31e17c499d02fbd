//! When a kept result is served, when it must not be, and what happens when many ask for the same at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, Reply, SOON, in_parallel, send_and_leave, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("results", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

/// Answers with a new random text each time it runs, after `event["s"]` seconds; fails where told to.
const DRAWS: &str = "
import uuid, time
def handler(event, context):
    if isinstance(event, dict):
        time.sleep(event.get('s', 0))
        if event.get('fail'):
            raise RuntimeError(str(uuid.uuid4()))
        if event.get('bytes'):
            return str(uuid.uuid4()) + 'x' * event['bytes']
    return str(uuid.uuid4())
";

fn draws(cache: &str) -> Function {
    Function::python("draws", &format!("[cache]\nmode = \"declared\"\n{cache}"), DRAWS)
}

#[test]
fn nothing_is_kept_unless_the_author_says_so() {
    let client = tenant("off");
    client.deploy(&Function::python("draws", "", DRAWS));
    let (one, two) = (client.invoke("draws", &json!(1)).expect(200), client.invoke("draws", &json!(1)).expect(200));
    assert_ne!(one.body, two.body);
    assert_eq!((two.served_by(), two.header("cache-status")), ("computed", "raas; fwd=bypass"));
    assert_eq!(client.get("/v1/functions/draws/results").expect(200).json()["entries"], 0);
}

#[test]
fn a_result_past_its_time_is_computed_anew() {
    let client = tenant("ttl");
    client.deploy(&draws("ttl_s = 1\n"));
    let first = client.invoke("draws", &json!(1)).expect(200);
    let begun = std::time::Instant::now();
    let anew = wait_for("a new computation", SOON, || {
        let reply = client.invoke("draws", &json!(1)).expect(200);
        if reply.served_by() == "hit" {
            assert_eq!(reply.body, first.body);
            assert_eq!(reply.header("age"), "0", "a result that is fresh for a second is never a second old");
            return None;
        }
        Some(reply)
    });
    assert!(begun.elapsed() > Duration::from_millis(700), "it was kept for its time");
    assert!(begun.elapsed() < Duration::from_millis(2500), "and no longer");
    assert_ne!(anew.body, first.body);
}

#[test]
fn only_what_the_author_names_tells_calls_apart() {
    let client = tenant("pointers");
    client.deploy(&draws("key = [\"/a\", \"/b/0\"]\n"));
    let first = client.value("draws", &json!({"a": 1, "b": [2, 3], "request_id": "x"}));
    let same = [
        json!({"a": 1, "b": [2, 4]}),
        json!({"b": [2], "a": 1, "other": {}}),
        json!({"b": [2, null], "request_id": "y", "a": 1}),
    ];
    for event in same {
        assert_eq!(client.value("draws", &event), first, "{event}");
    }
    let other = [
        json!({"a": 2, "b": [2]}),
        json!({"a": 1, "b": [3]}),
        json!({"a": 1, "b": []}),
        json!({"a": null, "b": [2]}),
        json!({"b": [2]}),
        json!([1, 2]),
        json!(1),
    ];
    let mut seen = vec![first];
    for event in other {
        let value = client.value("draws", &event);
        // The last two have neither field, so to the key they are the same.
        if event != json!(1) {
            assert!(!seen.contains(&value), "{event}");
        }
        seen.push(value);
    }
    assert_eq!(seen[seen.len() - 1], seen[seen.len() - 2]);
}

#[test]
fn values_of_different_types_are_different_events() {
    let client = tenant("types");
    client.deploy(&draws(""));
    let events = [
        "1",
        "1.0",
        "\"1\"",
        "true",
        "[1]",
        "{\"1\":1}",
        "null",
        "\"\"",
        "\"null\"",
        "{}",
        "[]",
        "[[]]",
        "{\"a\":null}",
        "0",
        "false",
        "-1",
        "[1,2]",
        "[2,1]",
        "[12]",
        "{\"a\":{\"b\":1}}",
        "{\"a\":1,\"b\":2}",
        "\"a\\u0000b\"",
        "\"ab\"",
        "1e400",
        "12345678901234567890",
        "12345678901234567891",
    ];
    let mut seen = BTreeMap::new();
    for event in events {
        let reply = client.invoke_text("draws", event, &[]);
        if reply.status == 400 {
            assert_eq!(event, "1e400", "only a number that no double can hold may be refused");
            continue;
        }
        let reply = reply.expect(200);
        assert_eq!(reply.served_by(), "computed", "{event} was taken for another event");
        if let Some(other) = seen.insert(reply.text(), event) {
            panic!("{event} and {other} have the same result");
        }
    }
}

#[test]
fn spelling_and_order_of_keys_do_not_matter() {
    let client = tenant("spelling");
    client.deploy(&draws(""));
    for group in [
        [r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"a":1}"#, " {\n\"a\" : 1 ,\t\"b\":{\"c\":2,\"d\":3} } "],
        [r#""é""#, r#""\u00e9""#, r#""\u00E9""#],
        ["[1,2]", "[ 1 , 2 ]", "\n[1,\r\n2]"],
    ] {
        let first = client.invoke_text("draws", group[0], &[]).expect(200);
        for event in group {
            let reply = client.invoke_text("draws", event, &[]).expect(200);
            assert_eq!((reply.served_by(), &reply.body), ("hit", &first.body), "{event}");
        }
    }
}

#[test]
fn an_event_that_is_not_strict_json_is_refused() {
    let client = tenant("strict");
    client.deploy(&draws(""));
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    client.invoke_text("draws", &deep(128), &[]).expect(200);
    let bad = [
        "",
        " ",
        "{",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{\"a\":1,\"\\u0061\":1}",
        "NaN",
        "Infinity",
        "-Infinity",
        "{\"a\":NaN}",
        "1 2",
        "{}x",
        "{},",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "01",
        "+1",
        "1.",
        ".5",
        "0x1",
        "tru",
        "\"\\x\"",
        "\"a",
        "\"\n\"",
        "// c\n1",
        &deep(129),
        &deep(100_000),
        "\u{feff}1",
    ];
    for event in bad {
        let reply = client.invoke_text("draws", event, &[]);
        let shown = &event[..event.len().min(40)];
        assert_eq!(reply.status, 400, "{shown:?} was answered {}", reply.text());
        let problem = reply.problem(400, "invalid-event", "caller");
        assert_eq!(problem["retryable"], false);
        assert!(problem["title"].as_str().unwrap().len() < 400, "{problem}");
    }
    let path = "/v1/functions/draws/invocations";
    client.request("POST", path, &[], b"\"\xff\xfe\"").problem(400, "invalid-event", "caller");
    assert_eq!(client.usage().len(), 1, "what is refused is not charged");
}

#[test]
fn fifty_identical_calls_at_once_are_one_execution() {
    let client = tenant("stampede");
    client.deploy(&draws(""));
    let replies = in_parallel(50, |_| client.invoke("draws", &json!({"s": 0.7})).expect(200));
    let bodies: std::collections::HashSet<_> = replies.iter().map(Reply::text).collect();
    assert_eq!(bodies.len(), 1, "all have the one execution's result");
    let served = client.served("draws");
    assert_eq!(served["computed"], 1, "{served:?}");
    assert_eq!(served.values().sum::<usize>(), 50, "{served:?}");
    let collapsed = replies.iter().filter(|reply| reply.served_by() == "coalesced").collect::<Vec<_>>();
    assert!(collapsed.len() >= 40, "{served:?}");
    assert!(collapsed.iter().all(|reply| reply.header("cache-status") == "raas; fwd=miss; collapsed"));
    assert_eq!(
        replies.iter().filter(|reply| reply.header("raas-cold-start") == "true").count(),
        1,
        "only one of them started something"
    );
}

#[test]
fn the_first_caller_may_leave_and_the_others_still_get_its_result() {
    let client = tenant("leaver");
    client.deploy(&draws(""));
    let event = json!({"s": 1.0});
    let mut followers = Vec::new();
    send_and_leave(&client, "draws", &event.to_string(), || {
        wait_for("the first call's beginning", SOON, || {
            let instances = client.show("draws")["instances"].clone();
            (instances[0]["in_flight"] == 1).then_some(())
        });
        for _ in 0..5 {
            let (client, event) = (client.clone(), event.clone());
            followers.push(std::thread::spawn(move || client.invoke("draws", &event).expect(200)));
        }
    });
    let bodies: std::collections::HashSet<_> =
        followers.into_iter().map(|follower| follower.join().unwrap().text()).collect();
    assert_eq!(bodies.len(), 1);
    assert_eq!(client.invoke("draws", &event).expect(200).served_by(), "hit", "and it is kept");
    assert_eq!(client.served("draws")["computed"], 1, "the leader's execution was the only one");
}

#[test]
fn a_call_whose_caller_left_is_finished_kept_and_metered() {
    let client = tenant("alone");
    client.deploy(&draws(""));
    let event = json!({"s": 0.5});
    send_and_leave(&client, "draws", &event.to_string(), || {
        wait_for("the call's beginning", SOON, || {
            (client.show("draws")["instances"][0]["in_flight"] == 1).then_some(())
        });
    });
    wait_for("the end of the call", SOON, || (client.served("draws").get("computed") == Some(&1)).then_some(()));
    assert_eq!(client.invoke("draws", &event).expect(200).served_by(), "hit");
}

#[test]
fn errors_are_never_kept_but_shared_by_those_who_wait() {
    let client = tenant("errors");
    client.deploy(&draws(""));
    let event = json!({"fail": true, "s": 0.5});
    let (one, two) = (
        client.invoke("draws", &event).problem(502, "function-error", "function"),
        client.invoke("draws", &event).problem(502, "function-error", "function"),
    );
    assert_ne!(one["error"]["message"], two["error"]["message"], "each ran by itself");
    assert_eq!(client.get("/v1/functions/draws/results").expect(200).json()["entries"], 0);
    let before = client.served("draws")["computed"];
    let messages: std::collections::HashSet<_> = in_parallel(8, |_| {
        client.invoke("draws", &event).problem(502, "function-error", "function")["error"]["message"].to_string()
    })
    .into_iter()
    .collect();
    let ran = client.served("draws")["computed"] - before;
    assert_eq!(messages.len(), ran, "those who waited for one execution share its error");
    assert!(ran < 8, "{ran}");
}

#[test]
fn callers_choose_with_cache_control() {
    let client = tenant("control");
    client.deploy(&draws(""));
    let ask = |control: &str| client.invoke_cached("draws", &json!(1), control);
    ask("only-if-cached").problem(504, "nothing-cached", "caller");
    let unkept = ask("no-store").expect(200);
    assert_eq!((unkept.served_by(), unkept.header("cache-status")), ("computed", "raas; fwd=bypass"));
    ask("only-if-cached").problem(504, "nothing-cached", "caller");

    let first = ask("").expect(200);
    assert_eq!(ask("only-if-cached").expect(200).body, first.body);
    assert_ne!(ask("no-store").expect(200).body, first.body, "no-store does not read");
    assert_eq!(ask("").expect(200).body, first.body, "nor write");

    let refreshed = ask("no-cache").expect(200);
    assert_eq!((refreshed.served_by(), refreshed.header("cache-status")), ("computed", "raas; fwd=request"));
    assert_ne!(refreshed.body, first.body);
    let kept = ask("").expect(200);
    assert_eq!((kept.served_by(), &kept.body), ("hit", &refreshed.body), "no-cache refreshes what is kept");
    assert_eq!(ask("max-age=60").expect(200).served_by(), "hit");
    wait_for("the result to be older than a second", SOON, || (ask("").header("age") >= "1").then_some(()));
    let young = ask("max-age=0").expect(200);
    assert_eq!(young.served_by(), "computed", "a result older than the caller wants is computed anew");
    assert_eq!(ask("").expect(200).body, young.body);
}

#[test]
fn purging_drops_what_is_kept_and_what_is_being_computed() {
    let client = tenant("purge");
    client.deploy(&draws(""));
    let first = client.value("draws", &json!(1));
    let held = client.get("/v1/functions/draws/results").expect(200).json();
    assert_eq!((held["entries"].as_u64(), held["bytes"].as_u64()), (Some(1), Some(38)));
    client.delete("/v1/functions/draws/results").expect(204);
    assert_eq!(client.get("/v1/functions/draws/results").expect(200).json()["entries"], 0);
    assert_ne!(client.value("draws", &json!(1)), first);

    let event = json!({"s": 1.0});
    let caller = client.clone();
    let slow = event.clone();
    let running = std::thread::spawn(move || caller.invoke("draws", &slow).expect(200).text());
    wait_for("the call's beginning", SOON, || (client.show("draws")["instances"][0]["in_flight"] == 1).then_some(()));
    client.delete("/v1/functions/draws/results").expect(204);
    assert!(!running.is_finished());
    let fresh = client.invoke("draws", &event).expect(200);
    let old = running.join().unwrap();
    assert_eq!(fresh.served_by(), "computed", "a call after the purge does not wait for an execution from before it");
    assert_ne!(fresh.text(), old);
    let now = client.invoke("draws", &event).expect(200);
    assert_eq!((now.served_by(), now.text()), ("hit", fresh.text()), "the older execution's result is not served");
}

#[test]
fn tenants_do_not_share_results() {
    let (one, two) = (tenant("mine"), tenant("yours"));
    one.deploy(&draws(""));
    two.deploy(&draws(""));
    let mine = one.value("draws", &json!(1));
    let yours = two.invoke("draws", &json!(1)).expect(200);
    assert_eq!(yours.served_by(), "computed");
    assert_ne!(yours.json(), mine);
}

#[test]
fn a_result_over_the_entry_limit_is_answered_but_not_kept() {
    let platform = shared("small-results", || {
        Options::new().settings("[results]\nmemory_mb = 1\nentry_max_kb = 100\n[pool]\npython3 = 1\nnode = 0\n")
    });
    let client = platform.tenant("large");
    client.deploy(&draws(""));
    let large = json!({"bytes": 100 * 1024});
    for _ in 0..2 {
        let reply = client.invoke("draws", &large).expect(200);
        assert_eq!((reply.served_by(), reply.header("cache-status")), ("computed", "raas; fwd=miss"));
        assert!(reply.body.len() > 100 * 1024);
    }
    client.value("draws", &json!({"bytes": 90 * 1024}));
    assert_eq!(client.invoke("draws", &json!({"bytes": 90 * 1024})).expect(200).served_by(), "hit");
}

#[test]
fn kept_results_stay_within_their_memory() {
    let platform = shared("small-results", || {
        Options::new().settings("[results]\nmemory_mb = 1\nentry_max_kb = 100\n[pool]\npython3 = 1\nnode = 0\n")
    });
    let client = platform.tenant("full");
    client.deploy(&draws(""));
    for number in 0..40 {
        client.invoke("draws", &json!({"bytes": 80 * 1024, "number": number})).expect(200);
    }
    let held = wait_for("kept results within a MiB", SOON, || {
        let held = client.get("/v1/functions/draws/results").expect(200).json();
        (held["bytes"].as_u64().unwrap() <= 1 << 20).then_some(held)
    });
    assert!(held["entries"].as_u64().unwrap() >= 1, "{held}");
    let hits = (0..40)
        .filter(|number| {
            let event = json!({"bytes": 80 * 1024, "number": number});
            // Only what is there: what is computed would push others out.
            client.invoke_cached("draws", &event, "only-if-cached").status == 200
        })
        .count();
    assert!((1..=20).contains(&hits), "{hits} of 40 results of 80 KiB in 1 MiB");
}

#[test]
fn a_follower_that_waits_pays_for_its_request_only() {
    let client = tenant("follower");
    client.deploy(&draws(""));
    in_parallel(4, |_| client.invoke("draws", &json!({"s": 0.5})).expect(200));
    let items = client.usage();
    let cost = |served: &str| {
        items.iter().filter(|item| item["served_by"] == served).map(|item| item["cost"].clone()).collect::<Vec<Value>>()
    };
    let (computed, coalesced) = (cost("computed"), cost("coalesced"));
    assert_eq!((computed.len(), coalesced.len()), (1, 3));
    assert!(coalesced.iter().all(|cost| *cost == coalesced[0] && *cost != computed[0]), "{items:?}");
    assert!(
        items
            .iter()
            .filter(|item| item["served_by"] == "coalesced")
            .all(|item| item["exec_ms"] == 0.0 && item["gb_s"] == 0.0)
    );
}
