//! The disk is full.

use serde_json::json;

use crate::harness::{Client, DataFolder, Function, Options, SOON, in_parallel, wait_for};

/// Answers with a new random text each time it runs.
fn draws(name: &str) -> Function {
    let source =
        "import time, uuid\ndef handler(event, context):\n    time.sleep(0.01)\n    return str(uuid.uuid4())\n";
    Function::python(name, "[cache]\nmode = \"declared\"\n", source)
}

#[test]
fn a_full_disk_costs_neither_answers_nor_usage() {
    const CALLS: usize = 100;
    let data = DataFolder::on_a_disk_of(64);
    let platform =
        Options::new().data(&data).settings("[pool]\npython3 = 1\nnode = 0\n").expect_error("the disk is full").start();
    let client = platform.tenant("full");
    client.deploy(&draws("before"));
    client.value("before", &json!("warm"));

    let filler = data.fill();
    let calls = || in_parallel(CALLS, |n| client.invoke("before", &json!(n)).expect(200));
    let computed = calls();
    let hits = calls();
    assert!(computed.iter().all(|reply| reply.served_by() == "computed"));
    for (hit, computed) in hits.iter().zip(&computed) {
        assert_eq!((hit.served_by(), &hit.body), ("hit", &computed.body), "memory keeps what cannot be written");
    }
    let refused = client.try_request("POST", "/v1/functions", &[], &draws("during").archive()).unwrap().expect(503);
    assert_eq!(refused.json()["origin"], "platform");
    assert!(refused.json()["title"].as_str().unwrap().contains("disk is full"), "{}", refused.text());

    std::fs::remove_file(filler).unwrap();
    wait_for("the usage of every call, once there is room again", SOON, || {
        (client.served("before").values().sum::<usize>() == 2 * CALLS + 1).then_some(())
    });
    client.deploy(&draws("during"));
    let written = || {
        let text = platform.admin.get("/metrics").expect(200).text();
        let found =
            text.lines().find_map(|line| line.strip_prefix("raas_result_tier_written_total{tier=\"database\"} "));
        found.unwrap().parse::<u64>().unwrap()
    };
    let before = written();
    let mut after = Vec::new();
    // The first ones meet a tier that is left alone for a while.
    wait_for("results to be written again", SOON, || {
        after.push(client.value("during", &json!(after.len())));
        // More than what waited before there was room.
        (written() > before + CALLS as u64).then_some(())
    });
    platform.kill();

    let again = Options::new().data(&data).start();
    let client = Client::new(&again.admin.url, &client.key, "full");
    let found = (0..after.len()).filter(|n| {
        let reply = client.invoke("during", &json!(n)).expect(200);
        assert!(reply.served_by() == "computed" || reply.json() == after[*n]);
        reply.served_by() == "hit"
    });
    assert!(found.count() > 0, "what was written after there was room is there after a kill");
    assert_eq!(client.served("before").values().sum::<usize>(), 2 * CALLS + 1, "nothing twice");
    again.finish();
}
