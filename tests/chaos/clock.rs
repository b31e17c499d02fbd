//! The clock is set forward and back while the platform runs by it.

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, SOON, WallClock, wait_for};

const HOUR_S: i64 = 3600;

/// Answers with a new random text each time it runs.
fn draws() -> Function {
    let source =
        "import time, uuid\ndef handler(event, context):\n    time.sleep(0.01)\n    return str(uuid.uuid4())\n";
    Function::python("draws", "[cache]\nmode = \"declared\"\nttl_s = 3600\n", source)
}

/// What it answers, computed for this call and then from memory.
#[track_caller]
fn anew(client: &Client, event: &Value) -> Value {
    let computed = client.invoke("draws", event).expect(200);
    let hit = client.invoke("draws", event).expect(200);
    assert_eq!((computed.served_by(), hit.served_by()), ("computed", "hit"));
    assert_eq!(computed.json(), hit.json());
    hit.json()
}

#[test]
fn whatever_the_clock_says_nothing_is_served_past_its_time() {
    let clock = WallClock::new();
    let options = clock.drives(Options::new().settings("[pool]\npython3 = 1\nnode = 0\n"));
    let platform = options.clone().start();
    let client = platform.tenant("clock");
    client.deploy(&draws());
    let event = json!({});
    let first = anew(&client, &event);

    clock.ahead_s(2 * HOUR_S);
    let second = anew(&client, &event);
    assert_ne!(first, second, "it is past its hour");
    wait_for("it to be written", SOON, || {
        let text = platform.admin.get("/metrics").expect(200).text();
        text.lines().any(|line| line == "raas_result_tier_written_total{tier=\"database\"} 2").then_some(())
    });

    clock.ahead_s(0);
    let third = anew(&client, &event);
    assert_ne!(second, third, "nobody can tell how old that is");
    client.delete("/v1/functions/draws/results").expect(204);
    assert_ne!(third, anew(&client, &event), "a purge");

    // Two hours on, the second one's time by the clock comes, but it is two hours old.
    clock.ahead_s(2 * HOUR_S);
    anew(&client, &event);
    // Before the purge by the clock, nothing can be told from what was purged: it costs hits, and nothing else.
    clock.ahead_s(-HOUR_S);
    assert_eq!(client.invoke("draws", &event).expect(200).served_by(), "computed");
    platform.kill();

    // What lies in the database was made at all those times.
    let again = options.data(&platform.data).start();
    let client = Client::new(&again.admin.url, &client.key, "clock");
    assert_eq!(client.invoke("draws", &event).expect(200).served_by(), "computed");
    clock.ahead_s(4 * HOUR_S);
    anew(&client, &event);
    again.finish();
}
