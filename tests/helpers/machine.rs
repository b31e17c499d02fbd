//! What helpers have of the machine: a folder, devices, health, sleep, logs, and the meters of it all.

use std::time::Duration;

use serde_json::json;

use super::tenant;
use crate::harness::{Client, Function, Options, SOON, in_parallel, wait_for};

fn helper(client: &Client, manifest: &str, body: &str) {
    let source = format!("import os, time\nfrom raas import Helper, method\n\nclass Thing(Helper):\n{body}");
    client.publish(&Function::helper("thing", manifest, &source));
    client.create_helper("thing", "mine", &json!({}));
}

#[test]
fn a_folder_is_kept_over_replicas_versions_and_kills() {
    let client = tenant("disk");
    let body = "    @method\n    def add(self, line):\n        with open(self.dir + '/lines', 'a') as file:\n            file.write(line + '\\n')\n\n    @method\n    def lines(self):\n        with open(self.dir + '/lines') as file:\n            return file.read().split()\n\n    @method\n    def die(self):\n        os._exit(1)\n";
    helper(&client, "state = \"disk\"\n[scaling]\nmax = 2\n", body);
    client.method("mine", "add", &json!({"line": "one"})).expect(200);
    client.method("mine", "die", &json!({})).expect(502);
    client.method("mine", "add", &json!({"line": "two"})).expect(200);
    client.change_helper("mine", &json!({"config": {"another": 1}})).expect(200);
    client.method("mine", "add", &json!({"line": "three"})).expect(200);
    assert_eq!(client.method("mine", "lines", &json!({})).expect(200).json(), json!(["one", "two", "three"]));
    // Another instance has another folder, and a deleted one's is gone.
    let other = client.create_helper("thing", "other", &json!({}));
    client.method("other", "lines", &json!({})).expect(502);
    let folder = super::platform().path().join("helpers").join(other["id"].as_str().unwrap());
    assert!(folder.is_dir());
    assert_eq!(client.show_helper("mine")["disk_bytes"], "one\ntwo\nthree\n".len());
    client.delete("/v1/helper-instances/other").expect(204);
    assert!(!folder.exists());
}

#[test]
fn devices_are_shown_as_their_vendor_describes_them() {
    let vendor = tempfile::tempdir().unwrap();
    let description = json!({
        "cdiVersion": "0.6.0", "kind": "example.com/gpu",
        "devices": [{"name": "0", "containerEdits": {
            "deviceNodes": [{"path": "/dev/made-up", "hostPath": "/dev/zero"}], "env": ["MADE_UP=yes"]}}]
    });
    std::fs::write(vendor.path().join("made-up.json"), description.to_string()).unwrap();
    let settings = format!("[helpers]\ncdi_folders = [{:?}]\n[pool]\npython3 = 1\nnode = 0\n", vendor.path());
    let platform = Options::new().settings(&settings).start();
    let client = platform.tenant("devices");
    let body = "    @method\n    def look(self):\n        with open('/dev/made-up', 'rb') as device:\n            return len(device.read(5)), os.environ['MADE_UP']\n";
    helper(&client, "devices = [\"example.com/gpu=0\"]\n", body);
    assert_eq!(client.method("mine", "look", &json!({})).expect(200).json(), json!([5, "yes"]));
    let used = wait_for("accelerator time", SOON, || {
        let rows = client.list("/v1/helper-usage");
        rows.into_iter().find(|row| row["gpu_s"].as_f64().unwrap() > 0.0)
    });
    assert_eq!(used["gpu_s"], used["replica_s"]);
    let source = "from raas import Helper\n\nclass Greedy(Helper):\n    pass\n";
    client.publish(&Function::helper("greedy", "gpu = 1\n", source));
    let body = json!({"helper": format!("{}/greedy", client.tenant), "name": "greedy"});
    let problem = client.post("/v1/helper-instances", &body).problem(422, "no-device", "caller");
    let title = problem["title"].as_str().unwrap();
    assert!(title.contains("nvidia.com/gpu=0") && title.contains("example.com/gpu=0"), "{title}");
    platform.finish();
}

#[test]
fn a_replica_that_is_not_well_is_replaced() {
    let client = tenant("health");
    let body = "    def start(self):\n        self.well = True\n\n    @method\n    def fall_ill(self):\n        self.well = False\n\n    @method\n    def pid_of_start(self):\n        return self.well\n\n    def health(self):\n        return self.well\n";
    helper(&client, "[scaling]\nmin = 1\n[health]\nevery_s = 1\nfailures = 2\n", body);
    let replica = || client.show_helper("mine")["replicas"][0]["id"].clone();
    let first = replica();
    client.method("mine", "fall_ill", &json!({})).expect(200);
    wait_for("another replica", SOON, || {
        let now = replica();
        (now.is_string() && now != first).then_some(())
    });
    assert_eq!(client.method("mine", "pid_of_start", &json!({})).expect(200).json(), true);
    wait_for("its owner to be told", SOON, || {
        let lines = client.list("/v1/helper-instances/mine/logs?limit=100");
        lines.iter().any(|line| line["line"].as_str().unwrap().contains("is replaced")).then_some(())
    });
}

#[test]
fn a_replica_that_answers_nothing_in_time_is_replaced_and_one_slow_call_is_forgiven() {
    let client = tenant("breaker");
    let body = "    @method\n    def sleep(self, s):\n        time.sleep(s)\n        return s\n";
    helper(&client, "timeout_s = 1\n[scaling]\nconcurrency = 4\n", body);
    let replica = || client.show_helper("mine")["replicas"][0]["id"].clone();
    let first = replica();
    client.method("mine", "sleep", &json!({"s": 1.5})).expect(504);
    client.method("mine", "sleep", &json!({"s": 0})).expect(200);
    assert_eq!(replica(), first, "what it holds in memory is worth more than one call");
    wait_for("another replica", SOON, || {
        in_parallel(4, |_| client.method("mine", "sleep", &json!({"s": 1.5})));
        (replica() != first).then_some(())
    });
    client.method("mine", "sleep", &json!({"s": 0})).expect(200);
}

#[test]
fn a_helper_is_told_that_it_sleeps_and_that_it_wakes() {
    let client = tenant("sleep");
    let body = "    def suspend(self):\n        self.state.put('suspended', self.state.get('suspended', 0) + 1)\n\n    def resume(self):\n        self.resumed = True\n\n    @method\n    def story(self):\n        return self.state.get('suspended', 0), getattr(self, 'resumed', False)\n";
    helper(&client, "[scaling]\nidle_s = 1\n", body);
    assert_eq!(client.method("mine", "story", &json!({})).expect(200).json(), json!([0, false]));
    wait_for("sleep", SOON, || (client.show_helper("mine")["state"] == "suspended").then_some(()));
    wait_for("suspend()", SOON, || {
        (client.get("/v1/helper-instances/mine/state/suspended").status == 200).then_some(())
    });
    assert_eq!(client.method("mine", "story", &json!({})).expect(200).json(), json!([1, true]));
}

#[test]
fn what_a_helper_prints_is_in_its_log() {
    let client = tenant("helper-logs");
    helper(&client, "", "    @method\n    def say(self, what):\n        print(what)\n");
    let reply = client.method("mine", "say", &json!({"what": "a line of its own"})).expect(200);
    let line = wait_for("the line", SOON, || {
        let lines = client.list("/v1/helper-instances/mine/logs?limit=100");
        lines.into_iter().find(|line| line["line"] == "a line of its own")
    });
    assert_eq!(line["invocation_id"], reply.id());
}

#[test]
fn time_processor_and_memory_are_what_the_kernel_counted() {
    let client = tenant("meters");
    let body = "    @method\n    def burn(self, s):\n        end = time.process_time() + s\n        while time.process_time() < end:\n            pass\n\n    def train(self):\n        self.burn(0.5)\n";
    helper(&client, "memory_mb = 128\n[scaling]\nmin = 1\n[train]\ncpu_share = 1\n", body);
    client.method("mine", "burn", &json!({"s": 1})).expect(200);
    client.post("/v1/helper-instances/mine/training", &json!({})).expect(200);
    let used = wait_for("the sums", Duration::from_secs(60), || {
        let rows = client.list("/v1/helper-usage?helper=mine");
        let sum = |key: &str| rows.iter().map(|row| row[key].as_f64().unwrap()).sum::<f64>();
        let done = sum("cpu_s") >= 1.0 && sum("training_cpu_s") >= 0.5;
        done.then(|| (sum("cpu_s"), sum("training_cpu_s"), sum("training_s"), sum("replica_s"), sum("memory_gb_s")))
    });
    let (cpu_s, training_cpu_s, training_s, replica_s, memory_gb_s) = used;
    assert!(cpu_s < 4.0 && training_cpu_s < 3.0, "{used:?}");
    assert!(training_s >= 0.4 && replica_s >= 1.0, "{used:?}");
    assert!(memory_gb_s > 0.0 && memory_gb_s < (replica_s + training_s) * 0.2, "{used:?}");
}
