//! Results beyond one process' memory: found again after a restart, shared over Redis, and never wrong or in the way whatever
//! happens to what keeps them.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Client, DataFolder, Function, Options, Platform, PostgresServer, Redis, SOON, in_parallel, wait_for,
};

/// Answers with a new random text each time it runs, after `event["s"]` seconds.
const DRAWS: &str = "
import uuid, time
def handler(event, context):
    time.sleep(event.get('s', 0))
    return str(uuid.uuid4())
";

fn draws() -> Function {
    Function::python("draws", "[cache]\nmode = \"declared\"\ntags = [\"all\"]\n", DRAWS)
}

/// A figure of a tier.
fn figure(platform: &Platform, name: &str, tier: &str) -> u64 {
    let text = platform.admin.get("/metrics").expect(200).text();
    let line = format!("raas_result_tier_{name}_total{{tier=\"{tier}\"}} ");
    let found = text.lines().find_map(|found| found.strip_prefix(line.as_str()));
    found.unwrap_or_else(|| panic!("no {line}in:\n{text}")).parse().unwrap()
}

fn written(platform: &Platform, tier: &str, at_least: u64) {
    wait_for("results to be written", SOON, || (figure(platform, "written", tier) >= at_least).then_some(()));
}

#[test]
fn dear_results_outlive_the_platform_and_purges_do_too() {
    let data = DataFolder::new();
    let platform = Options::new().data(&data).start();
    let client = platform.tenant("restarts");
    client.deploy(&draws());
    let events = [0.05, 0.06, 0.07].map(|s| json!({ "s": s }));
    let first = events.each_ref().map(|event| client.value("draws", event));
    client.value("draws", &json!({}));
    written(&platform, "database", 3);
    platform.kill();

    let platform = Options::new().data(&data).start();
    let again = |platform: &Platform| Client::new(&platform.admin.url, &client.key, "restarts");
    let found = again(&platform).invoke("draws", &events[0]).expect(200);
    assert_eq!((found.served_by(), found.json()), ("hit", first[0].clone()), "after kill -9");
    assert_eq!(again(&platform).invoke("draws", &events[0]).expect(200).served_by(), "hit", "from memory now");
    assert_eq!(again(&platform).invoke("draws", &json!({})).served_by(), "computed", "what is cheap is not written");
    again(&platform).delete("/v1/functions/draws/results?tag=all").expect(204);
    assert_ne!(again(&platform).value("draws", &events[0]), first[0]);
    platform.stop().unwrap();

    let platform = Options::new().data(&data).start();
    let purged = again(&platform).invoke("draws", &events[1]).expect(200);
    assert_eq!(purged.served_by(), "computed", "a purge holds for what was not in memory, and after a restart");
    written(&platform, "database", 1);
    platform.stop().unwrap();

    let spoil = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
        db.execute(\"UPDATE result_entries SET entry = CAST(substr(entry, 1, 60) || x'00' || substr(entry, 62) AS BLOB)\")\ndb.commit()";
    let spoilt = Command::new("python3").args(["-c", spoil]).arg(data.path().join("raas.db")).status().unwrap();
    assert!(spoilt.success());
    let platform = Options::new().data(&data).start();
    let other = again(&platform).invoke("draws", &events[1]).expect(200);
    assert_eq!(other.served_by(), "computed", "what is corrupt is not there");
    assert_ne!(other.json(), purged.json());
    assert_eq!(figure(&platform, "unreadable", "database"), 1);
    platform.finish();
}

/// Two platforms on one database and one Redis.
struct Pair {
    one: Platform,
    two: Platform,
    clients: [Client; 2],
}

fn pair(database: &str, redis: &Redis) -> Pair {
    let url = PostgresServer::shared().create(database);
    let options = || {
        let options = Options::new().env("RAAS_DATABASE_URL", &url).env("RAAS_REDIS_URL", &redis.url());
        options.settings("[pool]\npython3 = 1\nnode = 0\n")
    };
    let one = options().start();
    let two = options().start();
    let mine = one.tenant("pair");
    let theirs = Client::new(&two.admin.url, &mine.key, "pair");
    wait_for("the other platform to know the key", SOON, || (theirs.get("/v1/functions").status == 200).then_some(()));
    mine.deploy(&draws());
    assert_eq!(theirs.deploy(&draws()), 1, "it is the same version");
    Pair { one, two, clients: [mine, theirs] }
}

#[test]
fn two_platforms_on_one_redis_compute_once() {
    const CALLERS: usize = 1_000;
    let redis = Redis::start();
    let Pair { one, two, clients } = pair("once", &redis);
    let event = json!({"s": 0.5});
    let replies = in_parallel(CALLERS, |at| clients[at % 2].invoke("draws", &event).expect(200));
    assert!(replies.iter().all(|reply| reply.body == replies[0].body), "one execution over both");
    let computed = replies.iter().filter(|reply| reply.served_by() == "computed").count();
    assert_eq!(computed, 1);
    for client in &clients {
        wait_for("the usage of both in the one database", SOON, || {
            (client.served("draws").values().sum::<usize>() == CALLERS).then_some(())
        });
    }

    let second = json!({"s": 0.01});
    let mine = clients[0].value("draws", &second);
    wait_for("the other platform to find it", SOON, || {
        let reply = clients[1].invoke_cached("draws", &second, "");
        (reply.served_by() == "hit" && reply.json() == mine).then_some(())
    });
    clients[0].delete("/v1/functions/draws/results").expect(204);
    wait_for("the purge to count over there", SOON, || (clients[1].value("draws", &second) != mine).then_some(()));

    // The one that computes is killed: the other takes over.
    let long = json!({"s": 2.0});
    let (caller, event) = (clients[0].clone(), long.clone());
    let leader = std::thread::spawn(move || {
        caller.try_request("POST", "/v1/functions/draws/invocations", &[], event.to_string().as_bytes()).is_ok()
    });
    wait_for("the lease", SOON, || (redis.keys("raas:l:*") > 0).then_some(()));
    let (caller, event) = (clients[1].clone(), long.clone());
    let follower = std::thread::spawn(move || caller.invoke("draws", &event).expect(200).served_by().to_owned());
    wait_for("the call to arrive", SOON, || {
        let text = two.admin.get("/metrics").expect(200).text();
        text.lines().any(|line| line == "raas_calls_in_flight 1").then_some(())
    });
    one.kill();
    let _ = leader.join().unwrap();
    assert_eq!(follower.join().unwrap(), "computed", "it waits no longer than a lease lasts");
    two.finish();
    one.finish();
}

#[test]
fn whatever_happens_to_redis_costs_hits_and_nothing_else() {
    let mut redis = Redis::start();
    let platform = Options::new()
        .env("RAAS_REDIS_URL", &redis.url())
        .settings("[results]\ndatabase_mb = 0\nmemory_mb = 1\nentry_max_kb = 64\n[pool]\npython3 = 1\nnode = 0\n")
        .start();
    let client = platform.tenant("faults");
    client.deploy(&draws());
    let draw = |n: u32| client.invoke("draws", &json!({"s": 0.02, "n": n})).expect(200);
    let timed = |n: u32| {
        let begun = Instant::now();
        draw(n);
        begun.elapsed()
    };
    draw(0);
    written(&platform, "redis", 1);
    assert_eq!(redis.results(), 1);
    let memory_only = |n: u32, value: &Value| assert_eq!(&draw(n).json(), value, "memory still has it");

    // Killed in between, hung, emptied: every call is answered.
    let kept = draw(1).json();
    redis.kill();
    for n in 10..20 {
        draw(n);
    }
    memory_only(1, &kept);
    redis.restart();
    wait_for("Redis to be used again", SOON, || {
        draw(rand(1000));
        (redis.results() > 0).then_some(())
    });

    redis.signal(Signal::SIGSTOP);
    let slowest = (20..40).map(timed).max().unwrap();
    assert!(slowest < Duration::from_secs(5), "a hung Redis is left alone: {slowest:?}");
    let failures = figure(&platform, "failures", "redis");
    assert!(failures >= 3 && figure(&platform, "skipped", "redis") > 0, "{failures}");
    redis.signal(Signal::SIGCONT);
    wait_for("Redis to be used again", SOON, || {
        let before = redis.results();
        draw(rand(100_000));
        (redis.results() > before).then_some(())
    });

    redis.ask(&["FLUSHALL"]);
    memory_only(1, &kept);

    // Entries of others, and what is cut short.
    let spoil = "for _, key in ipairs(redis.call('KEYS', 'raas:r:*')) do redis.call('SET', key, ARGV[1]) end";
    draw(50);
    wait_for("it to be written", SOON, || (redis.results() > 0).then_some(()));
    redis.ask(&["EVAL", spoil, "0", "RaaR-something-else"]);
    platform.stop().unwrap();
    let again = Options::new()
        .data(&platform.data)
        .env("RAAS_REDIS_URL", &redis.url())
        .settings("[results]\ndatabase_mb = 0\n[pool]\npython3 = 1\nnode = 0\n")
        .start();
    let client = Client::new(&again.admin.url, &client.key, "faults");
    assert_eq!(client.invoke("draws", &json!({"s": 0.02, "n": 50})).expect(200).served_by(), "computed");
    assert!(figure(&again, "unreadable", "redis") >= 1);
    again.finish();
}

#[test]
fn a_platform_starts_without_its_redis_and_refuses_what_is_no_address_of_one() {
    let platform = Options::new().env("RAAS_REDIS_URL", "redis://127.0.0.1:1/").start();
    let client = platform.tenant("none");
    client.deploy(&draws());
    assert_eq!(client.invoke("draws", &json!({"s": 0.01})).expect(200).served_by(), "computed");
    assert_eq!(client.invoke("draws", &json!({"s": 0.01})).expect(200).served_by(), "hit");
    platform.finish();
    let refused = Options::new().env("RAAS_REDIS_URL", "http://127.0.0.1/").command().output().unwrap();
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(told.contains("redis_url"), "{told}");
}

/// A number that no other call of this test has used.
fn rand(from: u32) -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    from + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Reads one member of its event, and another only sometimes.
const READS_TWO: &str = "
import time
def handler(event, context):
    time.sleep(0.005)
    if event['n'] % 10 == 3:
        return ['three', event.get('more')]
    return event['n'] * 2
";

#[test]
fn runs_that_read_different_parts_do_not_meet_in_redis() {
    let redis = Redis::start();
    let platform = Options::new()
        .env("RAAS_REDIS_URL", &redis.url())
        .settings("[results]\ndatabase_mb = 0\n[pool]\npython3 = 1\nnode = 0\n")
        .start();
    let client = platform.tenant("parts");
    client.deploy(&Function::python("two", "[cache]\nmode = \"proven\"\n", READS_TWO));
    let mut request = 0;
    let mut call = |n: i64, more: i64| {
        request += 1;
        let reply = client.invoke("two", &json!({"n": n, "more": more, "request": request})).expect(200);
        (reply.served_by().to_owned(), reply.json())
    };
    let mut n = 0;
    wait_for("both ways through it to be known", 2 * SOON, || {
        n += 1;
        call(n, 0);
        (call(1_000_001, 0).0 == "hit" && call(1_000_003, 0).0 == "hit").then_some(())
    });
    for more in 1..5 {
        let (served, value) = call(2_000_003, more);
        assert_eq!((served.as_str(), value), ("computed", json!(["three", more])));
        let (served, value) = call(2_000_003, more);
        assert_eq!((served.as_str(), value), ("hit", json!(["three", more])));
    }
    written(&platform, "redis", 5);
    platform.stop().unwrap();

    // With nothing in memory, what lies in Redis is found by whole events only until parts are known again, and never mixed up.
    let again = Options::new().data(&platform.data).env("RAAS_REDIS_URL", &redis.url()).start();
    let client = Client::new(&again.admin.url, &client.key, "parts");
    for more in [3, 1, 7] {
        let reply = client.invoke("two", &json!({"n": 2_000_003, "more": more, "request": -more})).expect(200);
        assert_eq!(reply.json(), json!(["three", more]));
    }
    again.finish();
}
