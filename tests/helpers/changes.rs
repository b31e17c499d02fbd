//! Waking, scaling, versions, configurations, stops and dead replicas: no call is lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{COUNTER, MANIFEST, counter, platform, tenant, with_counter};
use crate::harness::{Client, Function, Reply, SOON, in_parallel, kill, marked, wait_for};

/// Calls `greet` from four threads until `change` is over, which gets the count of answers; every answer must be whole.
fn under_calls(client: &Client, change: impl FnOnce(&AtomicUsize)) -> Vec<Value> {
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        answers.push(client.method("mine", "replica", &json!({})).expect(200).json());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    answers
                })
            })
            .collect();
        change(&count);
        over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn more_answers(count: &AtomicUsize, more: usize) {
    let enough = count.load(Ordering::Relaxed) + more;
    wait_for("more answers", SOON, || (count.load(Ordering::Relaxed) >= enough).then_some(()));
}

fn state_of(client: &Client) -> String {
    client.show_helper("mine")["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_call_that_arrives_while_the_helper_wakes_is_answered() {
    let client = tenant("wake");
    let manifest = "[scaling]\nmin = 0\nmax = 2\nidle_s = 1\nconcurrency = 4\n";
    client.publish(&Function::helper("counter", manifest, COUNTER));
    client.create_helper("counter", "mine", &json!({}));
    client.method("mine", "add", &json!({"key": "k"})).expect(200);
    wait_for("sleep", SOON, || (state_of(&client) == "suspended").then_some(()));
    assert!(client.show_helper("mine")["replicas"].as_array().unwrap().is_empty());
    let replies = in_parallel(16, |_| client.method("mine", "greet", &json!({})));
    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{:?}",
        replies.iter().map(Reply::text).collect::<Vec<_>>()
    );
    assert_eq!(client.method("mine", "read", &json!({"key": "k"})).expect(200).json(), 1, "and it knows what it knew");
    assert_eq!(state_of(&client), "ready");
}

#[test]
fn no_call_is_lost_while_replicas_come_and_go() {
    let client = tenant("scale");
    let manifest = "[scaling]\nmin = 1\nmax = 3\nidle_s = 1\nconcurrency = 1\n";
    client.publish(&Function::helper("counter", manifest, COUNTER));
    client.create_helper("counter", "mine", &json!({}));
    for _ in 0..2 {
        let replies = in_parallel(9, |_| client.method("mine", "sleep", &json!({"s": 0.3, "value": 1})));
        assert!(
            replies.iter().all(|reply| reply.status == 200),
            "{:?}",
            replies.iter().map(Reply::text).collect::<Vec<_>>()
        );
        assert!(client.show_helper("mine")["replicas"].as_array().unwrap().len() > 1, "it grew");
        // Calls go on while what is idle ends.
        wait_for("one replica", SOON, || {
            client.method("mine", "greet", &json!({})).expect(200);
            (client.show_helper("mine")["replicas"].as_array().unwrap().len() == 1).then_some(())
        });
    }
}

#[test]
fn no_call_is_lost_while_a_new_version_is_deployed_and_rolled_back() {
    let client = with_counter("roll");
    let newer = COUNTER.replace("return os.getpid(), self.config", "return 'newer', self.config");
    client.publish(&Function::helper_version("counter", "1.1.0", MANIFEST, &newer));
    let broken = COUNTER.replace("def start(self):", "def start(self):\n        raise RuntimeError('broken')");
    client.publish(&Function::helper_version("counter", "1.2.0", MANIFEST, &broken));
    let answers = under_calls(&client, |count| {
        more_answers(count, 20);
        let view = client.change_helper("mine", &json!({"version": "1.1.0"})).expect(200).json();
        assert_eq!((&view["version"], &view["previous_version"]), (&json!("1.1.0"), &json!("1.0.0")));
        more_answers(count, 20);
        let problem = client.change_helper("mine", &json!({"version": "1.2.0"})).expect(502).json();
        assert_eq!(problem["origin"], "helper", "{problem}");
        assert_eq!(client.show_helper("mine")["version"], "1.1.0", "what does not start changes nothing");
        more_answers(count, 20);
        assert_eq!(client.change_helper("mine", &json!({"rollback": true})).expect(200).json()["version"], "1.0.0");
        more_answers(count, 20);
    });
    let kinds = |newer: bool| answers.iter().filter(|answer| (answer[0] == "newer") == newer).count();
    assert!(kinds(true) >= 20 && kinds(false) >= 40, "{} newer, {} others", kinds(true), kinds(false));
    client.change_helper("mine", &json!({"version": "7.0.0"})).problem(404, "not-found", "caller");
}

#[test]
fn no_idempotent_call_is_lost_when_a_replica_dies() {
    let client = with_counter("dead-replica");
    client.method("mine", "mark", &json!({"file": "dead-replica"})).expect(200);
    let replica = marked(&platform().path(), "dead-replica").expect("the replica runs");
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|number| {
                let client = &client;
                scope.spawn(move || client.method("mine", "sleep", &json!({"s": 1.5, "value": number})))
            })
            .collect();
        let busy =
            || client.show_helper("mine")["replicas"].as_array().unwrap().iter().any(|one| one["in_flight"] == 4);
        wait_for("four calls in it", SOON, || busy().then_some(()));
        kill(replica);
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.join().unwrap().expect(200).json(), number);
        }
    });
    // What is not declared idempotent is answered with what happened instead.
    let dead = client.method("mine", "die_once", &json!({"key": "k"})).expect(502).json();
    assert_eq!((&dead["origin"], &dead["retryable"]), (&json!("helper"), &json!(false)), "{dead}");
}

#[test]
fn a_configuration_is_changed_live_or_not_at_all() {
    let client = with_counter("reconfigure");
    let answers = under_calls(&client, |count| {
        client.change_helper("mine", &json!({"config": {"greeting": "ahoy"}})).expect(200);
        more_answers(count, 20);
        for breaks in ["reconfigure", "start"] {
            let problem = client.change_helper("mine", &json!({"config": {"breaks": breaks}})).expect(502).json();
            assert_eq!(problem["origin"], "helper", "{problem}");
        }
        client.change_helper("mine", &json!({"config": 7})).problem(422, "invalid-config", "caller");
        more_answers(count, 20);
    });
    assert_eq!(client.show_helper("mine")["config"], json!({"greeting": "ahoy"}));
    assert_eq!(client.method("mine", "greet", &json!({})).expect(200).json(), "ahoy, you");
    assert!(answers.iter().all(|answer| answer[1].get("breaks").is_none()), "no call saw what was refused");
}

#[test]
fn an_instance_is_drained_stopped_at_once_and_started_again() {
    let client = with_counter("stops");
    let stopped = std::thread::scope(|scope| {
        let running = scope.spawn(|| client.method("mine", "sleep", &json!({"s": 1, "value": "finished"})));
        wait_for("the call", SOON, || {
            let shown = client.show_helper("mine");
            shown["replicas"].as_array().unwrap().iter().any(|one| one["in_flight"] == 1).then_some(())
        });
        let view = client.change_helper("mine", &json!({"state": "stopped"})).expect(200).json();
        assert_eq!(running.join().unwrap().expect(200).json(), "finished", "a drain lets calls end");
        view
    });
    assert_eq!(stopped["state"], "draining", "{stopped}");
    wait_for("the end of its replicas", SOON, || (state_of(&client) == "stopped").then_some(()));
    let refused = client.method("mine", "greet", &json!({})).problem(409, "stopped", "caller");
    assert!(refused["title"].as_str().unwrap().contains("raas helper start"), "{refused}");
    client.change_helper("mine", &json!({"state": "serving"})).expect(200);
    assert_eq!(client.method("mine", "greet", &json!({})).expect(200).json(), "hello, you");

    let cut_off = std::thread::scope(|scope| {
        let running = scope.spawn(|| client.method("mine", "fail", &json!({"key": "k"})).status);
        let _ = running.join();
        let running = scope.spawn(|| client.method("mine", "sleep", &json!({"s": 2.5})));
        wait_for("the call", SOON, || {
            let shown = client.show_helper("mine");
            shown["replicas"].as_array().unwrap().iter().any(|one| one["in_flight"] == 1).then_some(())
        });
        client.change_helper("mine", &json!({"state": "killed"})).expect(200);
        running.join().unwrap()
    });
    assert!(cut_off.status >= 400, "an emergency stop lets nothing end: {}", cut_off.text());
    wait_for("the end of its replicas", Duration::from_secs(5), || (state_of(&client) == "stopped").then_some(()));
    client.change_helper("mine", &json!({"state": "paused"})).problem(400, "invalid-body", "caller");
    client.change_helper("mine", &json!({"state": "serving"})).expect(200);
    client.method("mine", "greet", &json!({})).expect(200);
}

#[test]
fn a_helper_that_crashes_again_and_again_is_failed_and_recovers() {
    let client = tenant("crashes");
    let source = "from raas import Helper, method\n\nclass Frail(Helper):\n    def start(self):\n        if self.state.get('broken'):\n            raise RuntimeError('it is broken')\n\n    @method\n    def die(self):\n        import os\n        os._exit(1)\n\n    @method\n    def live(self):\n        return 'alive'\n";
    client.publish(&Function::helper("frail", "[scaling]\nmin = 1\n", source));
    client.create_helper("frail", "mine", &json!({}));
    client.put("/v1/helper-instances/mine/state/broken", &json!(true)).expect(204);
    client.method("mine", "die", &json!({})).expect(502);
    let shown = wait_for("failure", SOON, || {
        let shown = client.show_helper("mine");
        (shown["state"] == "failed").then_some(shown)
    });
    assert!(shown["reason"].as_str().unwrap().contains("it is broken"), "{shown}");
    client.delete("/v1/helper-instances/mine/state/broken").expect(204);
    wait_for("recovery", SOON, || (client.method("mine", "live", &json!({})).status == 200).then_some(()));
    wait_for("readiness", SOON, || (state_of(&client) == "ready").then_some(()));
}

#[test]
fn an_upgrade_that_is_repeated_keeps_the_way_back_and_a_stopped_instance_is_changed_with_proof() {
    let client = with_counter("retried");
    client.publish(&Function::helper_version("counter", "1.1.0", MANIFEST, COUNTER));
    let broken = COUNTER.replace("def start(self):", "def start(self):\n        raise RuntimeError('broken')");
    client.publish(&Function::helper_version("counter", "1.2.0", MANIFEST, &broken));
    for _ in 0..2 {
        client.change_helper("mine", &json!({"version": "1.1.0"})).expect(200);
    }
    assert_eq!(client.change_helper("mine", &json!({"rollback": true})).expect(200).json()["version"], "1.0.0");
    client.change_helper("mine", &json!({"state": "stopped"})).expect(200);
    client.change_helper("mine", &json!({"version": "1.2.0"})).expect(502);
    client.change_helper("mine", &json!({"config": {"breaks": "reconfigure"}})).expect(502);
    client.change_helper("mine", &json!({"version": "1.1.0"})).expect(200);
    assert_eq!(state_of(&client), "stopped");
    client.change_helper("mine", &json!({"state": "serving"})).expect(200);
    assert_eq!(client.show_helper("mine")["version"], "1.1.0");
}

/// Neither fits the other's schema alone.
#[test]
fn a_version_and_a_configuration_are_changed_together() {
    let client = tenant("together");
    let manifest = format!("config = \"config.json\"\n{MANIFEST}");
    let schema = |name: &str| json!({"type": "object", "required": [name], "properties": {name: {"type": "string"}}, "additionalProperties": false});
    for (version, name) in [("1.0.0", "greeting"), ("2.0.0", "salute")] {
        let helper = Function::helper_version("counter", version, &manifest, COUNTER);
        client.publish(&helper.file("config.json", &schema(name).to_string()));
    }
    let helper = format!("{}/counter@1.0.0", client.tenant);
    let body = json!({"helper": helper, "name": "mine", "config": {"greeting": "ahoy"}});
    client.post("/v1/helper-instances", &body).expect(201);
    client.change_helper("mine", &json!({"version": "2.0.0"})).problem(422, "invalid-config", "caller");
    client.change_helper("mine", &json!({"config": {"salute": "x"}})).problem(422, "invalid-config", "caller");
    let both = json!({"version": "2.0.0", "config": {"salute": "x"}});
    let view = client.change_helper("mine", &both).expect(200).json();
    assert_eq!((&view["version"], &view["config"]), (&json!("2.0.0"), &json!({"salute": "x"})));
    client.change_helper("mine", &json!({"version": "2.0.0", "colour": 1})).problem(400, "invalid-body", "caller");
    client.change_helper("mine", &json!({})).problem(400, "invalid-body", "caller");
}

/// What one version computes is never another's kept result, also where a call began before the change and ended after it.
#[test]
fn a_result_that_a_newer_version_computed_is_not_kept_as_the_older_ones() {
    let client = tenant("kept-over-change");
    let source = |name: &str| {
        format!(
            "import time\nfrom raas import Helper, method\n\nclass Slow(Helper):\n    @method\n    def name(self, n):\n        time.sleep(0.5)\n        return '{name}'\n"
        )
    };
    let manifest = "[methods.name]\ncache_ttl_s = 600\n";
    client.publish(&Function::helper_version("slow", "1.0.0", manifest, &source("one")));
    client.publish(&Function::helper_version("slow", "2.0.0", manifest, &source("two")));
    let body = json!({"helper": format!("{}/slow@1.0.0", client.tenant), "name": "mine"});
    client.post("/v1/helper-instances", &body).expect(201);
    // One runs and the others wait behind it, while the version changes.
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|n| {
                let client = &client;
                scope.spawn(move || client.method("mine", "name", &json!({"n": n})).expect(200).json())
            })
            .collect();
        let busy = || client.show_helper("mine")["replicas"][0]["in_flight"] == 1;
        wait_for("the first call", SOON, || busy().then_some(()));
        client.change_helper("mine", &json!({"version": "2.0.0"})).expect(200);
        calls.into_iter().for_each(|call| drop(call.join().unwrap()));
    });
    client.change_helper("mine", &json!({"rollback": true})).expect(200);
    for n in 0..4 {
        assert_eq!(client.method("mine", "name", &json!({"n": n})).expect(200).json(), "one", "call {n}");
    }
}

#[test]
fn two_changes_at_once_come_one_after_the_other() {
    let client = tenant("two-changes");
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({}));
    let views = in_parallel(4, |number| {
        client.change_helper("mine", &json!({"config": {"greeting": format!("g{number}")}})).expect(200).json()
    });
    let config = client.show_helper("mine")["config"].clone();
    assert!(views.iter().any(|view| view["config"] == config), "{config}");
    let greeting = format!("{}, you", config["greeting"].as_str().unwrap());
    assert_eq!(client.method("mine", "greet", &json!({})).expect(200).json(), greeting);
}
