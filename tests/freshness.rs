//! Results past their time: who gets an old one, who computes a new one, which errors are kept, and what a purge drops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, in_parallel, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("results", Options::new)
}

/// Counts its own calls in its one instance, for each event; the first `good` of them succeed, the others raise what the event
/// says.
const COUNTS: &str = "
import json, time
seen = {}
class NotFound(Exception): pass
def handler(event, context):
    key = json.dumps(event, sort_keys=True)
    seen[key] = seen.get(key, 0) + 1
    time.sleep(event.get('s', 0))
    if seen[key] > event.get('good', 10**9):
        raise {'NotFound': NotFound, 'RuntimeError': RuntimeError}[event['raises']](f'call {seen[key]}')
    return seen[key]
";

fn counts(client: &Client, cache: &str) {
    let manifest = format!("[scaling]\nmax = 1\n[cache]\nmode = \"declared\"\n{cache}");
    client.deploy(&Function::python("counts", &manifest, COUNTS));
}

fn age(client: &Client, event: &Value) -> Duration {
    let begun = Instant::now();
    wait_for("the result to be past its time", SOON, || {
        let reply = client.invoke_cached("counts", event, "only-if-cached");
        (reply.status != 200 || reply.served_by() == "stale").then_some(())
    });
    begun.elapsed()
}

#[test]
fn an_old_result_is_served_while_it_is_computed_anew() {
    let client = platform().tenant("revalidate");
    counts(&client, "ttl_s = 1\nstale_while_revalidate_s = 60\n");
    let event = json!({"s": 0.2});
    assert_eq!(client.value("counts", &event), 1);
    let stale = wait_for("a stale answer", SOON, || {
        let begun = Instant::now();
        let reply = client.invoke("counts", &event).expect(200);
        assert!(reply.served_by() != "computed", "nobody waits");
        (reply.served_by() == "stale").then(|| (reply, begun.elapsed()))
    });
    assert_eq!(stale.0.json(), 1);
    assert_eq!(stale.0.header("cache-status").split(';').next(), Some("raas"));
    assert!(stale.0.header("cache-status").starts_with("raas; hit; ttl="), "{}", stale.0.header("cache-status"));
    let fresh = wait_for("the new result", SOON, || {
        let reply = client.invoke("counts", &event).expect(200);
        (reply.json() != 1).then_some(reply)
    });
    assert_eq!((fresh.json(), fresh.served_by()), (json!(2), "hit"), "one computation, and nobody waited for it");
    let usage = client.usage();
    assert_eq!(usage.iter().filter(|item| item["served_by"] == "computed").count(), 1, "refreshes are nobody's calls");
}

#[test]
fn an_old_result_is_served_where_no_new_one_can_be_had() {
    let client = platform().tenant("on-error");
    counts(&client, "ttl_s = 1\nstale_if_error_s = 600\n");
    let event = json!({"good": 1, "raises": "RuntimeError"});
    assert_eq!(client.value("counts", &event), 1);
    age(&client, &event);
    let replies = in_parallel(4, |_| client.invoke("counts", &event).expect(200));
    for reply in replies {
        assert_eq!((reply.json(), reply.served_by()), (json!(1), "stale"));
        let ttl = reply.header("cache-status").trim_start_matches("raas; hit; ttl=").to_owned();
        assert!(ttl.parse::<i64>().is_ok_and(|ttl| ttl <= 0), "{ttl}");
    }
    client.invoke_cached("counts", &event, "no-cache").problem(502, "function-error", "function");
}

#[test]
fn only_errors_that_the_author_names_are_kept() {
    let client = platform().tenant("errors");
    counts(&client, "errors = [\"NotFound\"]\nerror_ttl_s = 1\n");
    let event = json!({"good": 0, "raises": "NotFound"});
    let first = client.invoke("counts", &event);
    assert_eq!(first.header("cache-status"), "raas; fwd=miss; stored");
    let first = first.problem(502, "function-error", "function");
    let kept = client.invoke("counts", &event);
    assert_eq!(kept.served_by(), "hit");
    assert_eq!(kept.problem(502, "function-error", "function"), first, "type, message and stack are the same");
    let anew = wait_for("the error to be computed anew", SOON, || {
        let reply = client.invoke("counts", &event);
        (reply.served_by() == "computed").then_some(reply)
    });
    assert_ne!(anew.problem(502, "function-error", "function")["error"]["message"], first["error"]["message"]);

    let other = json!({"good": 0, "raises": "RuntimeError"});
    for _ in 0..2 {
        assert_eq!(client.invoke("counts", &other).served_by(), "computed");
    }
}

#[test]
fn under_steady_load_a_result_is_computed_about_once_in_its_time() {
    let client = platform().tenant("steady");
    counts(&client, "ttl_s = 1\n");
    let event = json!({"s": 0.02});
    client.value("counts", &event);
    let until = Instant::now() + Duration::from_secs(4);
    let most = in_parallel(4, |_| {
        let mut last = 0;
        while Instant::now() < until {
            last = client.value("counts", &event).as_u64().unwrap();
        }
        last
    });
    // Four seconds of at least 15/16 s each, and what was there before.
    let computed = most.into_iter().max().unwrap();
    assert!((4..=6).contains(&computed), "{computed} computations in four times to live");
}

#[test]
fn a_purge_drops_what_it_names_and_nothing_else() {
    let client = platform().tenant("named-purges");
    let cache = "tags = [\"airports\", \"airport:{/from}\"]\nkey = [\"/from\"]\n";
    counts(&client, cache);
    let flights = ["JFK", "SEA", "ORD"].map(|from| json!({"from": from}));
    let kept = || flights.each_ref().map(|event| client.invoke("counts", event).expect(200).served_by() == "hit");
    assert_eq!(kept(), [false; 3]);
    assert_eq!(kept(), [true; 3]);
    client.delete("/v1/functions/counts/results?tag=airport:SEA").expect(204);
    assert_eq!(kept(), [true, false, true]);
    client.delete("/v1/functions/counts/results?event=%7B%22from%22%3A%22ORD%22%2C%22x%22%3A1%7D").expect(204);
    assert_eq!(kept(), [true, true, false], "what the key does not name does not matter");
    client.delete("/v1/results?tag=airports").expect(204);
    assert_eq!(kept(), [false; 3]);
    client.delete("/v1/functions/counts/results?version=1").expect(204);
    assert_eq!(kept(), [false; 3]);
    client.delete("/v1/results?tag=nobody").expect(204);
    assert_eq!(kept(), [true; 3]);

    let stranger = platform().tenant("named-purges-stranger");
    stranger.delete("/v1/results?tag=airports").expect(204);
    assert_eq!(kept(), [true; 3], "a tenant's tags are its own");
    client.delete("/v1/functions/counts/results?version=7").problem(404, "not-found", "caller");
    client.delete("/v1/functions/counts/results?version=1&tag=a").problem(400, "invalid-query", "caller");
    client.delete("/v1/functions/counts/results?event=%7B").problem(400, "invalid-query", "caller");
    client.delete("/v1/results").problem(400, "invalid-query", "caller");
}

#[test]
fn a_manifest_says_what_is_wrong_with_its_freshness() {
    let client = platform().tenant("bad-freshness");
    let manifest = "[cache]\nmode = \"declared\"\ntags = [\"a{b\", \"\"]\nerrors = \"NotFound\"\nerror_ttl_s = 0\n";
    let refused = client.upload(&Function::python("counts", manifest, COUNTS).archive());
    let text = refused.text();
    for problem in ["cache.tags", "cache.errors", "cache.error_ttl_s"] {
        assert!(text.contains(problem), "{problem}: {text}");
    }
}
