//! How many instances run, for whom, and for how long.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{
    Function, Options, Platform, SOON, in_parallel, invocation, kill, last_answer, marked, sandbox_processes, send,
    shared, wait_for,
};

/// A platform whose pools are off, so that every sandbox is some function's.
fn platform() -> Arc<Platform> {
    shared("scheduler", || Options::new().settings("[pool]\npython3 = 0\nnode = 0\n"))
}

/// Sleeps `event` seconds; says which process ran it and from when to when.
const SLEEPER: &str = "
import time, uuid, os
ME = str(uuid.uuid4())
def handler(event, context):
    begun = time.time()
    if isinstance(event, dict):
        open('/tmp/' + event['mark'], 'w').close()
        time.sleep(event['s'])
    else:
        time.sleep(event)
    return {'me': ME, 'begun': begun, 'ended': time.time()}
";

fn sleeper(manifest: &str) -> Function {
    Function::python("sleeper", manifest, SLEEPER)
}

#[test]
fn a_burst_on_a_cold_function_is_answered_within_its_maximum() {
    let client = platform().tenant("burst");
    client.deploy(&sleeper("[scaling]\nmax = 2\n"));
    let (most, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let replies = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(client.instances("sleeper"), Ordering::Relaxed);
            }
        });
        let replies = in_parallel(30, |_| client.invoke("sleeper", &json!(0.05)));
        over.store(true, Ordering::Relaxed);
        replies
    });
    assert!(replies.iter().all(|reply| reply.status == 200), "none is refused");
    let instances: HashSet<_> = replies.iter().map(|reply| reply.json()["me"].to_string()).collect();
    assert_eq!(instances.len(), 2, "both instances had work");
    assert_eq!(most.into_inner(), 2, "never more than the maximum");
    // Those that waited for a start-up are cold, those that waited for a place are not.
    let cold = replies.iter().filter(|reply| reply.header("raas-cold-start") == "true").count();
    assert!((1..=4).contains(&cold), "{cold}");
    let queued = client.usage().iter().filter(|item| item["queue_ms"].as_f64().unwrap() > 50.0).count();
    assert!(queued >= 20, "{queued}");
}

#[test]
fn an_exclusive_instance_never_runs_two_calls_at_once() {
    let client = platform().tenant("exclusive");
    client.deploy(&sleeper("[scaling]\nmax = 3\n"));
    let mut runs: Vec<_> = in_parallel(16, |_| client.value("sleeper", &json!(0.05)))
        .into_iter()
        .map(|run| (run["me"].to_string(), run["begun"].as_f64().unwrap(), run["ended"].as_f64().unwrap()))
        .collect();
    runs.sort_by(|a, b| (&a.0, a.1).partial_cmp(&(&b.0, b.1)).unwrap());
    for pair in runs.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, "{pair:?}");
    }
}

#[test]
fn an_unused_instance_is_gone_within_a_second_after_its_time() {
    let platform = platform();
    let client = platform.tenant("idle");
    client.deploy(&sleeper("[scaling]\nidle_s = 1\n"));
    client.value("sleeper", &json!({"mark": "idle-one", "s": 0}));
    let begun = Instant::now();
    assert!(marked(&platform.path(), "idle-one").is_some());
    wait_for("the instance's end", SOON, || marked(&platform.path(), "idle-one").is_none().then_some(()));
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_millis(2100)).contains(&took), "{took:?}");
    assert_eq!(client.instances("sleeper"), 0);
    assert_eq!(client.invoke("sleeper", &json!(0)).expect(200).header("raas-cold-start"), "true");
}

#[test]
fn the_minimum_runs_before_any_call_and_is_replaced_when_it_dies() {
    let platform = platform();
    let client = platform.tenant("minimum");
    client.deploy(&sleeper("[scaling]\nmin = 1\nmax = 2\nidle_s = 0\n"));
    let ready = |client: &crate::harness::Client| {
        let shown = client.show("sleeper")["instances"].clone();
        (shown.as_array().unwrap().len() == 1 && shown[0]["phase"] == "ready").then(|| shown[0]["id"].clone())
    };
    let first = wait_for("the minimum", SOON, || ready(&client));
    let call = client.invoke("sleeper", &json!({"mark": "minimum", "s": 0})).expect(200);
    assert_eq!(call.header("raas-cold-start"), "false");
    kill(marked(&platform.path(), "minimum").unwrap());
    let second = wait_for("another instance", SOON, || ready(&client).filter(|id| *id != first));
    assert_ne!(second, first);
    let call = client.invoke("sleeper", &json!(0)).expect(200);
    assert_eq!(call.header("raas-cold-start"), "false");

    // With the next version the old one's minimum is nobody's any more.
    client.deploy(&sleeper("memory_mb = 128\n[scaling]\nmin = 1\nidle_s = 0\n"));
    wait_for("only the new version's instance", SOON, || {
        let shown = client.show("sleeper")["instances"].clone();
        let versions: Vec<_> = shown.as_array().unwrap().iter().map(|instance| instance["version"].clone()).collect();
        (versions == [json!(2)]).then_some(())
    });
    client.delete("/v1/functions/sleeper").expect(204);
}

#[test]
fn a_call_in_an_instance_that_dies_is_told_and_the_others_are_served() {
    let platform = platform();
    let client = platform.tenant("dies");
    client.deploy(&sleeper("[scaling]\nmax = 2\n"));
    let call = |mark: &'static str, s: f64| {
        let client = client.clone();
        std::thread::spawn(move || client.invoke("sleeper", &json!({"mark": mark, "s": s})))
    };
    let (victim, other) = (call("victim", 30.0), call("other", 1.5));
    let pid = wait_for("the victim", SOON, || marked(&platform.path(), "victim"));
    wait_for("the other", SOON, || marked(&platform.path(), "other"));
    let waiting: Vec<_> = (0..4).map(|_| call("waiting", 0.0)).collect();
    kill(pid);
    let problem = victim.join().unwrap().problem(502, "crashed", "function");
    assert!(problem["title"].as_str().unwrap().contains("signal 9"), "{problem}");
    other.join().unwrap().expect(200);
    for call in waiting {
        call.join().unwrap().expect(200);
    }
}

#[test]
fn a_deleted_function_finishes_its_call_and_leaves_no_process() {
    let platform = platform();
    let client = platform.tenant("deleted");
    client.deploy(&sleeper(""));
    let caller = client.clone();
    let call = std::thread::spawn(move || caller.invoke("sleeper", &json!({"mark": "deleted", "s": 1})));
    wait_for("the call", SOON, || marked(&platform.path(), "deleted"));
    client.delete("/v1/functions/sleeper").expect(204);
    client.invoke("sleeper", &json!(0)).expect(404);
    call.join().unwrap().expect(200);
    wait_for("the process's end", SOON, || marked(&platform.path(), "deleted").is_none().then_some(()));
}

#[test]
fn calls_over_the_limits_are_refused_with_a_time_to_come_back() {
    let settings = "[pool]\npython3 = 0\nnode = 0\n[requests]\nin_flight_max = 5\ntenant_in_flight_max = 3\n";
    let platform = Options::new().settings(settings).start();
    let (one, two) = (platform.tenant("one"), platform.tenant("two"));
    for client in [&one, &two] {
        client.deploy(&sleeper("[scaling]\nmax = 3\n"));
    }
    let hold = |client: &crate::harness::Client, count: usize| {
        let calls: Vec<_> = (0..count)
            .map(|_| {
                let client = client.clone();
                std::thread::spawn(move || client.invoke("sleeper", &json!(2)))
            })
            .collect();
        wait_for("the calls", SOON, || {
            let busy =
                client.show("sleeper")["instances"].as_array().unwrap().iter().filter(|i| i["in_flight"] == 1).count();
            (busy == count).then_some(())
        });
        calls
    };
    let mut held = hold(&one, 3);
    let refused = one.invoke("sleeper", &json!(0));
    assert_eq!(refused.header("retry-after"), "1");
    let problem = refused.problem(429, "too-many-calls", "caller");
    assert_eq!(problem["retryable"], true);
    held.extend(hold(&two, 2));
    let refused = two.invoke("sleeper", &json!(0));
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "overloaded", "platform");
    one.get("/v1/functions").expect(200);
    for call in held {
        call.join().unwrap().expect(200);
    }
    one.value("sleeper", &json!(0));
    assert_eq!(one.usage().len(), 4, "what is refused is not charged");
    platform.finish();
}

#[test]
fn a_functions_queue_is_bounded() {
    // A thousand waiting callers are a thousand connections here and there.
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard.min(16_384), hard).unwrap();
    let platform = Options::new().settings("[pool]\npython3 = 0\nnode = 0\n").start();
    let client = platform.tenant("queue");
    client.deploy(&sleeper("timeout_s = 60\n[scaling]\nmax = 1\n"));
    let text = invocation(&client, "sleeper", r#"{"mark": "first", "s": 20}"#);
    let first = send(&client, &text);
    wait_for("the first call", SOON, || marked(&platform.path(), "first"));
    let text = invocation(&client, "sleeper", "0");
    let waiting: Vec<_> = (0..1000).map(|_| send(&client, &text)).collect();
    wait_for("a thousand calls in progress", SOON, || {
        let metrics = platform.admin.get("/metrics").expect(200).text();
        let in_flight = metrics
            .lines()
            .find(|line| !line.starts_with('#') && line.contains("in_flight") && line.ends_with(" 1001"));
        in_flight.map(|_| ())
    });
    let refused = client.invoke("sleeper", &json!(0));
    assert_eq!(refused.header("retry-after"), "1");
    let problem = refused.problem(429, "queue-full", "platform");
    assert_eq!(problem["retryable"], true);
    kill(marked(&platform.path(), "first").unwrap());
    assert!(last_answer(first).starts_with("HTTP/1.1 502 "));
    let served = waiting.into_iter().map(last_answer).filter(|answer| answer.starts_with("HTTP/1.1 200 ")).count();
    assert_eq!(served, 1000, "all that waited are served by the next instance");
    platform.finish();
}

#[test]
fn a_full_platform_makes_room_for_the_next_function() {
    let platform = Options::new().settings("[pool]\npython3 = 1\nnode = 0\n[instances]\nmax = 3\n").start();
    let client = platform.tenant("room");
    platform.pool_is_full(1);
    for name in ["a", "b", "c", "d"] {
        client.deploy(&Function::python(name, "[scaling]\nidle_s = 3600\n", SLEEPER));
        client.value(name, &json!(0));
        assert!(sandbox_processes(&platform.path()).len() <= 3, "never more sandboxes than allowed");
    }
    client.value("a", &json!(0));
    platform.finish();
}

#[test]
fn functions_of_one_runtime_start_side_by_side() {
    let client = platform().tenant("side");
    let source = "import time\ntime.sleep(0.8)\ndef handler(event, context):\n    return 1\n";
    for number in 0..4 {
        client.deploy(&Function::python(&format!("f{number}"), "", source));
    }
    let begun = Instant::now();
    in_parallel(4, |number| client.value(&format!("f{number}"), &json!(0)));
    assert!(begun.elapsed() < Duration::from_millis(2800), "four start-ups of 0.8 s took {:?}", begun.elapsed());
}
