//! `cache.mode = "proven"`: results are kept once they are shown to depend on the event only, and no longer when they do not.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("proof", || Options::new().settings("[pool]\npython3 = 2\nnode = 1\n"))
}

fn function(source: &str) -> Function {
    Function::python("shown", "[cache]\nmode = \"proven\"\n", source)
}

fn proof(client: &Client) -> Value {
    client.get("/v1/functions/shown/results").expect(200).json()["proofs"][0].clone()
}

/// Calls it with one event after another until it stands in one of these states.
fn reach(client: &Client, states: &[&str]) -> Value {
    let mut number = 0;
    wait_for("the version's state", 2 * SOON, || {
        number += 1;
        client.invoke("shown", &json!({"n": number})).expect(200);
        let proof = proof(client);
        states.contains(&proof["state"].as_str().unwrap()).then_some(proof)
    })
}

/// Its owner reads of it in the log.
fn logged(client: &Client, part: &str) {
    wait_for(part, SOON, || {
        let logs = client.logs("shown");
        logs.iter().any(|log| log["line"].as_str().unwrap().contains(part)).then_some(())
    });
}

const PURE: &str = "
def handler(event, context):
    return {'squares': [n * n for n in range(event['n'] % 50)], 'names': {'b': 1, 'a': 2}}
";

#[test]
fn a_pure_function_is_shown_to_be_one_and_then_its_results_are_kept() {
    let client = platform().tenant("pure");
    client.deploy(&function(PURE));
    let event = json!({"n": 7});
    let first = client.invoke("shown", &event).expect(200);
    assert_eq!((first.served_by(), first.header("cache-status")), ("computed", "raas; fwd=bypass"));
    let shown = reach(&client, &["serving", "quarantined"]);
    assert_eq!(shown["state"], "serving", "{shown}");
    assert!(shown["shadow_calls"].as_u64() >= Some(30), "{shown}");
    assert!(shown["wrong_at_most"].as_f64().is_some_and(|most| most <= 0.1), "{shown}");
    let computed = client.invoke("shown", &event).expect(200);
    let hit = client.invoke("shown", &event).expect(200);
    assert_eq!((computed.served_by(), hit.served_by()), ("computed", "hit"));
    assert_eq!((&hit.body, &first.body), (&computed.body, &computed.body));
    wait_for("the hit to be run again", SOON, || {
        (proof(&client)["agreed"].as_u64() > shown["agreed"].as_u64()).then_some(())
    });
    let usage = client.usage();
    assert!(usage.iter().all(|item| item["function"] == "shown"), "what is run again is nobody's call");
}

/// Each depends on more than its event, in its own way.
const MUTANTS: &[(&str, &str)] = &[
    ("random", "import random\ndef handler(event, context):\n    return random.random()"),
    ("order of a set", "def handler(event, context):\n    return list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'})"),
    ("clock", "import time\ndef handler(event, context):\n    return int(time.time()) // 86400"),
    ("date", "import datetime\ndef handler(event, context):\n    return datetime.date.today().isoformat()"),
    ("time zone", "import time\ndef handler(event, context):\n    return time.strftime('%H', time.localtime(0))"),
    ("what it did before", "seen = []\ndef handler(event, context):\n    seen.append(1)\n    return len(seen)"),
    ("its invocation", "def handler(event, context):\n    return context.invocation_id"),
    ("hash of a text", "def handler(event, context):\n    return hash('text') % 1000"),
    (
        "one in ten",
        "import random\ndef handler(event, context):\n    return 0 if random.random() > 0.1 else random.random()",
    ),
    (
        "raises at times",
        "import random\ndef handler(event, context):\n    if random.random() < 0.3:\n        raise OSError('busy')\n    return 1",
    ),
];

#[test]
fn what_depends_on_more_than_its_event_is_never_kept() {
    for (what, source) in MUTANTS {
        let client = platform().tenant("mutant");
        client.deploy(&function(source));
        let mut number = 0;
        let shown = wait_for(what, 2 * SOON, || {
            number += 1;
            let reply = client.invoke("shown", &json!({"n": number % 5}));
            assert_eq!(reply.served_by(), "computed", "{what}");
            let proof = proof(&client);
            (proof["state"] == "quarantined").then_some(proof)
        });
        assert!(shown["difference"]["first"] != shown["difference"]["again"], "{what}: {shown}");
        for _ in 0..2 {
            assert_eq!(client.invoke("shown", &json!({"n": 1})).served_by(), "computed", "{what}");
        }
        logged(&client, "no more are kept");
    }
}

/// Turns from one value to another when a hundred calls have been made in one instance.
const TURNS: &str = "
calls = 0
def handler(event, context):
    global calls
    calls += event['n'] > 0
    return 'late' if calls > 100 else 'early'
";

#[test]
fn a_difference_that_comes_late_ends_it_at_once_and_for_good() {
    let platform = platform();
    let client = platform.tenant("late");
    client.deploy(&Function::python("shown", "[scaling]\nmax = 1\n[cache]\nmode = \"proven\"\n", TURNS));
    assert_eq!(reach(&client, &["serving", "quarantined"])["state"], "serving");
    // Computed after the turn in the one instance, and run again in young ones.
    let mut number = 1_000;
    let shown = wait_for("the difference to be found", 2 * SOON, || {
        number += 1;
        let event = json!({"n": number});
        client.invoke("shown", &event).expect(200);
        client.invoke("shown", &event).expect(200);
        let proof = proof(&client);
        (proof["state"] == "quarantined").then_some(proof)
    });
    assert_eq!(
        (&shown["difference"]["first"], &shown["difference"]["again"]),
        (&json!("\"late\""), &json!("\"early\""))
    );
    let held = client.get("/v1/functions/shown/results").expect(200).json();
    assert_eq!(held["entries"], 0, "its results are gone");
    assert_eq!(client.invoke("shown", &json!({"n": number})).expect(200).served_by(), "computed");
}

#[test]
fn what_reaches_outside_cannot_be_shown() {
    let client = platform().tenant("outside");
    client.deploy(&Function::python("shown", "network = \"egress\"\n[cache]\nmode = \"proven\"\n", PURE));
    for _ in 0..2 {
        assert_eq!(client.invoke("shown", &json!({"n": 1})).expect(200).served_by(), "computed");
    }
    let proof = proof(&client);
    assert_eq!(proof["state"], "static");
    assert!(proof["reason"].as_str().unwrap().contains("network"), "{proof}");
}

#[test]
fn what_was_shown_is_known_after_a_restart() {
    let platform = Options::new().settings("[pool]\npython3 = 1\nnode = 0\n").start();
    let client = platform.tenant("restart");
    client.deploy(&function(PURE));
    assert_eq!(reach(&client, &["serving", "quarantined"])["state"], "serving");
    platform.stop().unwrap();
    let again = Options::new().data(&platform.data).settings("[pool]\npython3 = 1\nnode = 0\n").start();
    let client = Client::new(&again.admin.url, &client.key, "restart");
    assert_eq!(proof(&client)["state"], "serving");
    client.invoke("shown", &json!({"n": 1})).expect(200);
    assert_eq!(client.invoke("shown", &json!({"n": 1})).expect(200).served_by(), "hit");
    again.finish();
}

#[test]
fn authors_who_answer_for_their_results_are_warned() {
    let client = platform().tenant("declared");
    let source = "import uuid\ndef handler(event, context):\n    return str(uuid.uuid4())";
    client.deploy(&Function::python("shown", "[cache]\nmode = \"declared\"\n", source));
    let first = client.invoke("shown", &json!({})).expect(200).text();
    let shown = wait_for("the warning", SOON, || {
        assert_eq!(client.invoke("shown", &json!({})).expect(200).text(), first, "it is kept all the same");
        let proof = proof(&client);
        (proof["differed"].as_u64() > Some(0)).then_some(proof)
    });
    assert_eq!(shown["state"], "declared");
    logged(&client, "declared");
}

/// Reads two members of its event, one of them only sometimes, and nothing else.
const READS_TWO: &str = "
def handler(event, context):
    if event['n'] % 10 == 3:
        return ['three', event.get('more')]
    return event['n'] * 2
";

#[test]
fn what_a_handler_does_not_read_does_not_tell_calls_apart() {
    for (name, client, function) in [
        ("python", platform().tenant("reads"), function(READS_TWO)),
        (
            "node",
            platform().tenant("reads-node"),
            Function::node(
                "shown",
                "[cache]\nmode = \"proven\"\n",
                "exports.handler = async (event) => event.n % 10 === 3 ? ['three', event.more ?? null] : event.n * 2;",
            ),
        ),
    ] {
        client.deploy(&function);
        let mut request = 0;
        let mut call = |n: i64, more: i64| {
            request += 1;
            let reply = client.invoke("shown", &json!({"n": n, "more": more, "request": request})).expect(200);
            (reply.served_by().to_owned(), reply.json())
        };
        let mut n = 0;
        wait_for("results to be kept", 2 * SOON, || {
            n += 1;
            call(n, n);
            let proof = proof(&client);
            assert_ne!(proof["state"], "quarantined", "{name}: {proof}");
            (proof["state"] == "serving").then_some(())
        });
        assert_eq!(call(5_001, 1), ("computed".into(), json!(10_002)), "{name}");
        assert_eq!(call(5_001, 2), ("hit".into(), json!(10_002)), "{name}: neither the request nor `more` is read");
        // These calls read more; that it is all they read is verified before it is relied on.
        wait_for("what is read at times to be verified", SOON, || {
            let (served, value) = call(5_003, 1);
            assert_eq!(value, json!(["three", 1]), "{name}");
            (served == "hit").then_some(())
        });
        assert_eq!(call(5_003, 2), ("computed".into(), json!(["three", 2])), "{name}: here `more` is read");
        assert_eq!(call(5_003, 2), ("hit".into(), json!(["three", 2])), "{name}");
        assert_eq!(call(5_011, 2), ("computed".into(), json!(10_022)), "{name}");
    }
}

#[test]
fn an_event_that_escapes_whole_counts_whole() {
    let client = platform().tenant("whole");
    client.deploy(&function(
        "import json\ndef handler(event, context):\n    return len(json.dumps(event, sort_keys=True))",
    ));
    assert_eq!(reach(&client, &["serving", "quarantined"])["state"], "serving");
    for request in 0..2 {
        let reply = client.invoke("shown", &json!({"n": 7_777, "request": request})).expect(200);
        assert_eq!(reply.served_by(), "computed");
    }
}
