//! `self.state`: over calls, over the API, over restarts and kills.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{counter, tenant, with_counter};
use crate::harness::{Client, Function, Options, SOON, in_parallel, wait_for};

fn at(client: &Client, key: &str) -> crate::harness::Reply {
    client.get(&format!("/v1/helper-instances/mine/state/{key}"))
}

#[test]
fn state_is_listed_read_written_and_deleted() {
    let client = with_counter("state-api");
    client.method("mine", "add", &json!({"key": "a/b", "by": 3})).expect(200);
    assert_eq!(at(&client, "a/b").expect(200).json(), 3);
    at(&client, "nothing").problem(404, "not-found", "caller");
    client.put("/v1/helper-instances/mine/state/a/c", &json!({"x": [1]})).expect(204);
    assert_eq!(client.method("mine", "read", &json!({"key": "a/c"})).expect(200).json(), json!({"x": [1]}));
    let keys: Vec<_> = client.list("/v1/helper-instances/mine/state?prefix=a/&limit=1");
    assert_eq!(keys.iter().map(|entry| entry["key"].as_str().unwrap()).collect::<Vec<_>>(), ["a/b", "a/c"]);
    client.delete("/v1/helper-instances/mine/state/a/b").expect(204);
    at(&client, "a/b").expect(404);
    assert_eq!(client.method("mine", "add", &json!({"key": "a/b"})).expect(200).json(), 1);
    let long = "k".repeat(600);
    assert_eq!(
        client.put(&format!("/v1/helper-instances/mine/state/{long}"), &json!(1)).expect(413).json()["origin"],
        "caller"
    );
    client
        .request("PUT", "/v1/helper-instances/mine/state/x", &[("content-type", "application/json")], b"{nonsense")
        .expect(400);
}

#[test]
fn what_has_a_time_to_live_is_gone_after_it() {
    let client = with_counter("state-ttl");
    client.put("/v1/helper-instances/mine/state/brief?ttl_s=1", &json!("here")).expect(204);
    assert_eq!(at(&client, "brief").expect(200).json(), "here");
    wait_for("the end of its time", Duration::from_secs(10), || (at(&client, "brief").status == 404).then_some(()));
    assert_eq!(client.method("mine", "read", &json!({"key": "brief"})).expect(200).json(), Value::Null);
}

#[test]
fn a_full_quota_refuses_the_call_that_would_pass_it_and_keeps_the_rest() {
    let client = tenant("state-quota");
    let source = "from raas import Helper, method\n\nclass Hoard(Helper):\n    @method\n    def fill(self, key, kib):\n        self.state.put(key, 'x' * (kib * 1024))\n        self.state.put(key + '-too', 1)\n";
    client.publish(&Function::helper("hoard", "state_mb = 1\n", source));
    client.create_helper("hoard", "mine", &json!({}));
    client.method("mine", "fill", &json!({"key": "a", "kib": 600})).expect(200);
    let problem =
        client.method("mine", "fill", &json!({"key": "b", "kib": 600})).problem(502, "helper-error", "helper");
    assert!(problem["error"]["message"].as_str().unwrap().contains("quota"), "{problem}");
    at(&client, "b").expect(404);
    at(&client, "b-too").expect(404);
    at(&client, "a-too").expect(200);
    client.put("/v1/helper-instances/mine/state/c", &json!("x".repeat(600 << 10))).problem(
        507,
        "state-quota",
        "caller",
    );
    client.delete("/v1/helper-instances/mine/state/a").expect(204);
    client.method("mine", "fill", &json!({"key": "b", "kib": 600})).expect(200);
}

#[test]
fn a_call_that_was_given_up_writes_nothing_later() {
    let client = tenant("given-up");
    let source = "import time\nfrom raas import Helper, method\n\nclass Late(Helper):\n    @method\n    def write(self, s):\n        time.sleep(s)\n        self.state.put('late', True)\n\n    @method\n    def ping(self):\n        return 'pong'\n";
    client.publish(&Function::helper("late", "timeout_s = 1\n[scaling]\nconcurrency = 2\n", source));
    client.create_helper("late", "mine", &json!({}));
    client.method("mine", "write", &json!({"s": 2})).expect(504);
    // The same replica goes on, and so does the code of the call that was given up.
    let begun = std::time::Instant::now();
    wait_for("the end of the call that was given up", SOON, || {
        client.method("mine", "ping", &json!({})).expect(200);
        (begun.elapsed() > Duration::from_secs(2)).then_some(())
    });
    at(&client, "late").expect(404);
    client.method("mine", "write", &json!({"s": 0})).expect(200);
    at(&client, "late").expect(200);
}

#[test]
fn state_moves_by_export_and_import() {
    let client = with_counter("moves");
    client.create_helper("counter", "other", &json!({}));
    client.put("/v1/helper-instances/mine/state/a/b", &json!({"x": null})).expect(204);
    client.put("/v1/helper-instances/mine/state/none", &Value::Null).expect(204);
    client.put("/v1/helper-instances/mine/state/brief?ttl_s=1", &json!(1)).expect(204);
    client.put("/v1/helper-instances/mine/state/long?ttl_s=1000", &json!(2)).expect(204);
    for wrong in ["0", "99999999999999"] {
        client.put(&format!("/v1/helper-instances/mine/state/k?ttl_s={wrong}"), &json!(1)).expect(400);
    }
    let raas = |arguments: &[&str], input: &[u8]| {
        use std::io::Write;
        let mut child = std::process::Command::new(crate::harness::binary())
            .args(arguments)
            .env("RAAS_URL", &client.url)
            .env("RAAS_API_KEY", &client.key)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), output.stdout)
    };
    let (_, exported) = raas(&["helper", "state", "export", "mine"], b"");
    wait_for("the end of its time", SOON, || (at(&client, "brief").status == 404).then_some(()));
    assert!(raas(&["helper", "state", "import", "other"], &exported).0);
    let there = client.list("/v1/helper-instances/other/state?values=true");
    let there: Vec<_> = there
        .iter()
        .map(|entry| (entry["key"].as_str().unwrap(), entry["value"].to_string(), entry["expires_at"].is_string()))
        .collect();
    assert_eq!(
        there,
        [("a/b", "{\"x\":null}".into(), false), ("long", "2".into(), true), ("none", "null".into(), false)]
    );
    assert!(!raas(&["helper", "state", "import", "other"], b"{\"key\": \"a\"}\n").0, "what is no export is refused");
}

#[test]
fn writes_of_calls_at_once_are_all_there() {
    let client = with_counter("state-parallel");
    in_parallel(8, |thread| {
        for number in 0..25 {
            client.method("mine", "add", &json!({"key": format!("t{thread}-{number}")})).expect(200);
        }
    });
    assert_eq!(client.list("/v1/helper-instances/mine/state?limit=100").len(), 200);
}

#[test]
fn state_and_instances_are_there_after_a_restart() {
    let data = crate::harness::DataFolder::new();
    let platform = Options::new().data(&data).start();
    let client = platform.tenant("restart");
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({"greeting": "ahoy"}));
    client.method("mine", "add", &json!({"key": "k", "by": 5})).expect(200);
    client.post("/v1/helper-instances/mine/training", &json!({})).expect(200);
    let before = client.show_helper("mine");
    platform.finish();
    let platform = Options::new().data(&data).start();
    let client = Client::new(&platform.admin.url, &client.key, &client.tenant);
    let after = client.show_helper("mine");
    for field in ["id", "version", "data_version", "config", "bindings", "created_at"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(client.method("mine", "add", &json!({"key": "k"})).expect(200).json(), 6);
    assert_eq!(client.method("mine", "greet", &json!({})).expect(200).json(), "ahoy, you");
    assert_eq!(client.method("mine", "square", &json!({"n": 1})).expect(200).json()["model"], 1);
    platform.finish();
}

/// A creation that a kill cuts off has made nothing.
#[test]
fn a_creation_that_is_cut_off_is_none() {
    let data = crate::harness::DataFolder::new();
    let platform = Options::new().data(&data).start();
    let client = platform.tenant("cut-off");
    let slow = "import time\nfrom raas import Helper\n\nclass Slow(Helper):\n    def start(self):\n        open('/tmp/starts', 'w').close()\n        time.sleep(30)\n";
    client.publish(&Function::helper("slow", "state = \"disk\"\n", slow));
    let body = json!({"helper": format!("{}/slow", client.tenant), "name": "mine"}).to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| client.try_request("POST", "/v1/helper-instances", &[], body.as_bytes()));
        wait_for("its start", SOON, || crate::harness::marked(&platform.path(), "starts"));
        platform.kill();
    });
    platform.processes_are_gone();
    let platform = Options::new().data(&data).start();
    let client = Client::new(&platform.admin.url, &client.key, &client.tenant);
    assert!(client.list("/v1/helper-instances").is_empty());
    let left: Vec<_> = std::fs::read_dir(data.path().join("helpers")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({}));
    platform.finish();
}

/// What a method returned after writing is there, whenever everything is killed.
#[test]
fn acknowledged_writes_survive_kills_of_everything() {
    let data = crate::harness::DataFolder::new();
    let platform = Options::new().data(&data).start();
    let mut client = platform.tenant("kills");
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({}));
    let mut platform = platform;
    let acknowledged: Mutex<BTreeMap<String, i64>> = Mutex::default();
    for round in 0..4 {
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (client, acknowledged, gone) = (&client, &acknowledged, &gone);
                scope.spawn(move || {
                    for number in 0.. {
                        let key = format!("r{round}-t{thread}-{number}");
                        let body = json!({"key": key, "by": number + 1}).to_string();
                        let path = "/v1/helper-instances/mine/methods/add";
                        let Ok(reply) = client.try_request("POST", path, &[], body.as_bytes()) else { return };
                        if reply.status != 200 {
                            assert!(gone.load(Ordering::Relaxed), "{}", reply.text());
                            return;
                        }
                        acknowledged.lock().unwrap().insert(key, number + 1);
                    }
                });
            }
            let enough = 40 * (round + 1);
            wait_for("acknowledged writes", SOON, || (acknowledged.lock().unwrap().len() >= enough).then_some(()));
            gone.store(true, Ordering::Relaxed);
            platform.kill();
        });
        platform.processes_are_gone();
        platform = Options::new().data(&data).start();
        client = Client::new(&platform.admin.url, &client.key, &client.tenant);
        let there: BTreeMap<_, _> = client
            .list("/v1/helper-instances/mine/state?limit=1000")
            .into_iter()
            .map(|entry| (entry["key"].as_str().unwrap().to_owned(), ()))
            .collect();
        for (key, value) in acknowledged.lock().unwrap().iter() {
            assert!(there.contains_key(key), "{key} was acknowledged");
            if key.ends_with('7') {
                assert_eq!(at(&client, key).expect(200).json(), *value);
            }
        }
    }
    platform.finish();
}
