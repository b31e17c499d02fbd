//! Results that are there before anybody asks: who predicted them, who used them, and what they cost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("precompute", || Options::new().settings("[pool]\npython3 = 2\nnode = 0\n"))
}

/// Takes twenty milliseconds, and tells in which sandbox it ran.
const SLOW: &str = "
import os, time
def handler(event, context):
    time.sleep(0.02)
    if event.get('n') == -1:
        raise ValueError('no')
    return [event, context.invocation_id]
";

fn slow(client: &Client, manifest: &str) {
    let manifest = format!("[cache]\nmode = \"declared\"\n{manifest}");
    client.deploy(&Function::python("slow", &manifest, SLOW));
}

const ENABLED: &str = "[precompute]\nenabled = true\ncpu_share = 1.0\n";

fn books(client: &Client) -> Value {
    client.get("/v1/functions/slow/results").expect(200).json()["precomputed"][0].clone()
}

fn source<'a>(books: &'a Value, name: &str) -> &'a Value {
    books["sources"].as_array().unwrap().iter().find(|source| source["source"] == name).unwrap()
}

#[test]
fn a_field_that_moves_in_steps_is_computed_ahead() {
    let client = platform().tenant("stride");
    slow(&client, &format!("key = [\"/n\", \"/unit\"]\n{ENABLED}"));
    let mut next = 0;
    let first = wait_for("an answer that was there before it was asked for", 2 * SOON, || {
        next += 5;
        let event = json!({"n": next, "unit": "km", "request": next * 7});
        let reply = client.invoke("slow", &event).expect(200);
        // Somebody who asks at his leisure.
        std::thread::sleep(Duration::from_millis(30));
        (reply.served_by() == "precomputed").then_some((event, reply))
    });
    let (event, reply) = first;
    assert_eq!((&reply.json()[0]["n"], &reply.json()[0]["unit"]), (&event["n"], &event["unit"]));
    assert!(reply.header("raas-compute-ms").parse::<f64>().unwrap() >= 20.0, "what it took when it was computed");
    assert!(reply.header("server-timing").contains("exec;dur=0.000"), "{}", reply.header("server-timing"));
    let again = client.invoke("slow", &event).expect(200);
    assert_eq!((again.served_by(), &again.body), ("hit", &reply.body), "only the first is precomputed");

    let books =
        wait_for("the books", SOON, || Some(books(&client)).filter(|books| books["total"]["used"].as_u64() >= Some(1)));
    let stride = source(&books, "stride");
    assert_eq!(stride["on"], true, "{books:#}");
    assert!(stride["used"].as_u64() >= Some(1) && stride["saved_ms"].as_f64() >= Some(20.0), "{books:#}");
    assert!(stride["compute_ms"].as_f64() >= stride["saved_ms"].as_f64(), "{books:#}");
    assert!(books["spent"].as_str().unwrap().parse::<f64>().unwrap() > 0.0, "{books:#}");
    let usage = wait_for("the usage", SOON, || {
        let usage = client.usage();
        (usage.len() as i64 > next / 5).then_some(usage)
    });
    assert_eq!(usage.len() as i64, next / 5 + 1, "nobody pays for what nobody asked for");
    assert_eq!(client.show("slow")["served"]["precomputed"].as_u64(), Some(1));
}

#[test]
fn random_arguments_are_not_computed_ahead() {
    let client = platform().tenant("random");
    slow(&client, ENABLED);
    let mut state = 12_345_u64;
    for _ in 0..150 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        client.invoke("slow", &json!({"n": state >> 20})).expect(200);
    }
    let books =
        wait_for("all calls to be learnt from", SOON, || Some(books(&client)).filter(|books| books["calls"] == 150));
    assert!(books["sources"].as_array().unwrap().iter().all(|source| source["on"] == false), "{books:#}");
    assert!(books["total"]["computed"].as_u64() <= Some(2), "{books:#}");
}

#[test]
fn what_reaches_outside_or_does_not_want_it_is_never_computed_ahead() {
    let client = platform().tenant("unwanted");
    slow(&client, "");
    assert_eq!(client.get("/v1/functions/slow/results").expect(200).json()["precomputed"], json!([]));
    let manifest = format!("network = \"egress\"\n[cache]\nmode = \"declared\"\n{ENABLED}");
    client.deploy(&Function::python("slow", &manifest, SLOW));
    for n in 0..20 {
        assert_eq!(client.invoke("slow", &json!({"n": n})).expect(200).served_by(), "computed");
    }
    assert_eq!(client.get("/v1/functions/slow/results").expect(200).json()["precomputed"], json!([]));
}

#[test]
fn a_sweep_over_a_grid_is_finished_by_the_platform() {
    let client = platform().tenant("grid");
    slow(&client, ENABLED);
    // A corner of the grid, in an order that moves all three.
    let kinds = ["x", "y", "z"];
    let event = |a: i64, b: i64, c: i64| json!({"a": a * 10, "b": b, "c": (kinds[c as usize])});
    let all: Vec<_> = (0..4).flat_map(|a| (0..4).flat_map(move |b| (0..3).map(move |c| (a, b, c)))).collect();
    let mut order = all.clone();
    let mut state = 7_u64;
    for at in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    let mut found = 0;
    for (asked, (a, b, c)) in order.iter().enumerate() {
        let reply = client.invoke("slow", &event(*a, *b, *c)).expect(200);
        std::thread::sleep(Duration::from_millis(100));
        found += usize::from(asked >= 24 && reply.served_by() == "precomputed");
    }
    assert!(found >= 12, "{found} of the last 24: {:#}", books(&client));
}

#[test]
fn the_authors_candidates_are_computed_with_the_first_call() {
    let client = platform().tenant("candidates");
    let candidates = "candidates = [{ n = 1, unit = \"km\" }, { n = 2, unit = \"km\" }, { n = -1, unit = \"km\" }]\n";
    slow(&client, &format!("{ENABLED}{candidates}"));
    client.invoke("slow", &json!({"n": 1000})).expect(200);
    wait_for("the candidates to be computed", SOON, || {
        (source(&books(&client), "candidates")["computed"].as_u64() == Some(3)).then_some(())
    });
    for n in [1, 2] {
        assert_eq!(client.invoke("slow", &json!({"n": n, "unit": "km"})).expect(200).served_by(), "precomputed");
    }
    let failed = client.invoke("slow", &json!({"n": -1, "unit": "km"}));
    assert_eq!(failed.served_by(), "computed");
    failed.problem(502, "function-error", "function");
    let stacks = wait_for("the failure in the log", SOON, || Some(client.logs("slow")).filter(|logs| !logs.is_empty()));
    let raised = stacks.iter().filter(|log| log["line"].as_str().unwrap().contains("ValueError: no")).count();
    assert_eq!(raised, 1, "what nobody asked for is not in the log: {stacks:?}");
}

#[test]
fn a_manifest_says_what_is_wrong_with_its_candidates() {
    let client = platform().tenant("bad-candidates");
    let manifest = "[cache]\nmode = \"declared\"\n[precompute]\nenabled = true\ncandidates = 7\n";
    let refused = client.upload(&Function::python("slow", manifest, SLOW).archive()).text();
    assert!(refused.contains("precompute.candidates"), "{refused}");
}

#[test]
fn the_books_outlive_the_platform() {
    let settings = "[pool]\npython3 = 1\nnode = 0\n";
    let platform = Options::new().settings(settings).start();
    let client = platform.tenant("books");
    slow(&client, ENABLED);
    let mut next = 0;
    let used = |client: &Client| books(client)["total"]["used"].as_u64().unwrap();
    wait_for("an answer that was computed ahead", 2 * SOON, || {
        next += 1;
        client.invoke("slow", &json!({"n": next})).expect(200);
        std::thread::sleep(Duration::from_millis(30));
        (used(&client) >= 3).then_some(())
    });
    platform.stop().unwrap();
    let again = Options::new().data(&platform.data).settings(settings).start();
    let client = Client::new(&again.admin.url, &client.key, "books");
    let kept = books(&client);
    assert!(used(&client) >= 3 && kept["calls"].as_i64() >= Some(next - 1), "{kept:#}");
    assert!(kept["saved"].as_str().unwrap().parse::<f64>().unwrap() > 0.0, "{kept:#}");
    client.invoke("slow", &json!({"n": -7})).expect(200);
    wait_for("more calls in the same books", SOON, || {
        (books(&client)["calls"].as_i64() > kept["calls"].as_i64()).then_some(())
    });
    again.finish();
}
