//! Continuous training: apart from calls, versioned, and never half.

use serde_json::{Value, json};

use super::{COUNTER, tenant, with_counter};
use crate::harness::{Client, Function, SOON, wait_for};

fn train(client: &Client) -> crate::harness::Reply {
    client.post("/v1/helper-instances/mine/training", &json!({}))
}

fn model(client: &Client) -> Value {
    client.method("mine", "square", &json!({"n": 2})).expect(200).json()["model"].clone()
}

#[test]
fn training_makes_a_data_version_and_old_answers_unreachable() {
    let client = with_counter("trained");
    assert_eq!(model(&client), 0);
    assert_eq!(client.method("mine", "square", &json!({"n": 2})).expect(200).served_by(), "hit");
    let trained = train(&client).expect(200).json();
    assert_eq!((&trained["data_version"], &trained["value"]), (&json!(2), &json!({"model": 1})));
    let reply = client.method("mine", "square", &json!({"n": 2})).expect(200);
    assert_eq!((reply.served_by(), &reply.json()["model"]), ("computed", &json!(1)));
    let runs = client.list("/v1/helper-instances/mine/training");
    assert_eq!((&runs[0]["outcome"], &runs[0]["data_version"]), (&json!("succeeded"), &json!(2)), "{runs:?}");
    assert!(runs[0]["started_at"].is_string() && runs[0]["ended_at"].is_string(), "{runs:?}");
}

#[test]
fn instances_of_one_helper_answer_from_what_each_keeps() {
    let client = with_counter("two-instances");
    client.create_helper("counter", "other", &json!({}));
    client.put("/v1/helper-instances/other/state/model", &json!(41)).expect(204);
    for instance in ["mine", "other"] {
        client.post(&format!("/v1/helper-instances/{instance}/training"), &json!({})).expect(200);
    }
    assert_eq!(model(&client), 1);
    let other = client.method("other", "square", &json!({"n": 2})).expect(200);
    assert_eq!((other.served_by(), &other.json()["model"]), ("computed", &json!(42)));
}

#[test]
fn training_that_changes_nothing_keeps_what_is_kept() {
    let client = with_counter("train-idle");
    client.put("/v1/helper-instances/mine/state/train-idles", &json!(true)).expect(204);
    assert_eq!(model(&client), 0);
    assert_eq!(train(&client).expect(200).json()["data_version"], 1);
    assert_eq!(client.method("mine", "square", &json!({"n": 2})).expect(200).served_by(), "hit");
}

#[test]
fn training_that_fails_changes_nothing() {
    let client = with_counter("train-fails");
    assert_eq!(model(&client), 0);
    client.put("/v1/helper-instances/mine/state/train-fails", &json!(true)).expect(204);
    let problem = train(&client).expect(502).json();
    assert_eq!((&problem["origin"], &problem["error"]["message"]), (&json!("helper"), &json!("training went wrong")));
    assert_eq!(client.show_helper("mine")["data_version"], 1);
    assert_eq!(client.method("mine", "square", &json!({"n": 2})).expect(200).served_by(), "hit");
    client.get("/v1/helper-instances/mine/state/model").expect(404);
    let runs = client.list("/v1/helper-instances/mine/training");
    assert_eq!(runs[0]["outcome"], "failed", "{runs:?}");
    assert!(runs[0]["detail"].as_str().unwrap().contains("training went wrong"), "{runs:?}");
}

#[test]
fn training_happens_by_itself_where_the_manifest_says_so() {
    let client = tenant("train-every");
    client.publish(&Function::helper("counter", "[train]\nevery_s = 1\n", COUNTER));
    client.create_helper("counter", "mine", &json!({}));
    wait_for("two runs", SOON, || (client.show_helper("mine")["data_version"].as_u64().unwrap() >= 3).then_some(()));
    assert!(model(&client).as_u64().unwrap() >= 2);
}

#[test]
fn a_helper_without_train_says_so_and_one_run_at_a_time() {
    let client = tenant("train-none");
    let source = "import time\nfrom raas import Helper, method\n\nclass Plain(Helper):\n    @method\n    def x(self):\n        pass\n";
    client.publish(&Function::helper("plain", "", source));
    client.create_helper("plain", "mine", &json!({}));
    train(&client).problem(422, "no-hook", "caller");
    let slow = format!("{source}\n    def train(self):\n        time.sleep(2)\n");
    client.publish(&Function::helper("plain2", "", &slow.replace("class Plain", "class Plain2")));
    client.create_helper("plain2", "slow", &json!({}));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| client.post("/v1/helper-instances/slow/training", &json!({})));
        wait_for("the run", SOON, || (client.show_helper("slow")["training"] == true).then_some(()));
        client.method("slow", "x", &json!({})).expect(200);
        client.post("/v1/helper-instances/slow/training", &json!({})).problem(409, "busy", "caller");
        first.join().unwrap().expect(200);
    });
}
