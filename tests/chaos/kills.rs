//! `kill -9` of the platform, of its spawner and of instances, at each stage.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::sleeper;
use crate::harness::{
    Client, Function, Options, Platform, SOON, in_parallel, kill, marked, sandbox_processes, spawner_of, wait_for,
};

/// After a kill, an asynchronous invocation's lease has to run out before it is run again.
const AFTER_A_LEASE: Duration = Duration::from_secs(60);

/// What the platform acknowledged before it was killed.
#[derive(Default)]
struct Acknowledged {
    /// Invocation ids of answers that arrived whole, and what served them.
    answers: Mutex<Vec<(String, String)>>,
    locations: Mutex<Vec<String>>,
    keys: Mutex<Vec<String>>,
    /// Greetings, by version.
    versions: Mutex<Vec<(u64, String)>>,
}

fn greeter(greeting: &str) -> Function {
    Function::python("greeter", "", &format!("def handler(event, context):\n    return '{greeting}'\n"))
}

/// Uses everything until the platform is gone; `killer` is run once there is something to lose.
fn under_load(client: &Client, killer: impl FnOnce()) -> Acknowledged {
    let seen = Acknowledged::default();
    let (gone, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (seen, gone, count) = (&seen, &gone, &count);
            scope.spawn(move || {
                let mut number = thread;
                while !gone.load(Ordering::Relaxed) {
                    number += 1;
                    // Uncached calls, and cached ones of which about half are hits.
                    let (path, event) = if number % 2 == 0 { ("kept", number % 40) } else { ("plain", number) };
                    let reply = client.try_request(
                        "POST",
                        &format!("/v1/functions/{path}/invocations"),
                        &[],
                        event.to_string().as_bytes(),
                    );
                    let Ok(reply) = reply else { return };
                    seen.answers.lock().unwrap().push((reply.id(), reply.served_by().to_owned()));
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (seen, gone) = (&seen, &gone);
        scope.spawn(move || {
            let headers = [("prefer", "respond-async")];
            while !gone.load(Ordering::Relaxed) {
                let Ok(reply) = client.try_request("POST", "/v1/functions/plain/invocations", &headers, b"0") else {
                    return;
                };
                if reply.status == 202 {
                    seen.locations.lock().unwrap().push(reply.header("location").to_owned());
                }
                let Ok(reply) = client.try_request("POST", "/v1/keys", &[("content-type", "application/json")], b"{}")
                else {
                    return;
                };
                if reply.status == 201 {
                    seen.keys.lock().unwrap().push(reply.json()["key"].as_str().unwrap().to_owned());
                }
            }
        });
        scope.spawn(move || {
            for number in 0.. {
                let greeting = format!("hello {number}");
                let Ok(reply) = client.try_request("POST", "/v1/functions", &[], &greeter(&greeting).archive()) else {
                    return;
                };
                if reply.status == 201 {
                    seen.versions.lock().unwrap().push((reply.json()["version"].as_u64().unwrap(), greeting));
                }
                if gone.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        wait_for("enough to lose", SOON, || {
            let deployed = seen.versions.lock().unwrap().len();
            (count.load(Ordering::Relaxed) > 300 && deployed >= 2).then_some(())
        });
        killer();
        gone.store(true, Ordering::Relaxed);
    });
    seen
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_platform_is_killed() {
    let platform = Options::new().settings("[metering]\ndrain_every_ms = 300\n").start();
    let client = platform.tenant("load");
    let source = "import uuid\ndef handler(event, context):\n    return str(uuid.uuid4())\n";
    client.deploy(&Function::python("kept", "[cache]\nmode = \"declared\"\n[scaling]\nmax = 2\n", source));
    client.deploy(&Function::python("plain", "[scaling]\nmax = 2\n", source));
    let seen = under_load(&client, || platform.kill());
    platform.processes_are_gone();

    let again = Options::new().data(&platform.data).start();
    let client = Client::new(&again.admin.url, &client.key, "load");
    let mut metered: HashMap<String, (usize, String)> = HashMap::new();
    for item in client.usage() {
        let entry = metered.entry(item["invocation_id"].as_str().unwrap().to_owned()).or_default();
        entry.0 += 1;
        entry.1 = item["served_by"].as_str().unwrap().to_owned();
    }
    assert!(metered.values().all(|(count, _)| *count == 1), "no call is charged twice");
    let answers = seen.answers.into_inner().unwrap();
    assert!(answers.len() > 300);
    for (id, served_by) in &answers {
        let item = metered.get(id).unwrap_or_else(|| panic!("the answer {id} ({served_by}) has no usage item"));
        assert_eq!(&item.1, served_by);
    }
    for key in seen.keys.into_inner().unwrap() {
        client.with_key(&key).get("/v1/functions").expect(200);
    }
    for (version, greeting) in seen.versions.into_inner().unwrap() {
        let reply =
            client.post(&format!("/v1/functions/greeter/invocations?version={version}"), &json!({})).expect(200);
        assert_eq!(reply.json(), greeting);
    }
    for location in seen.locations.into_inner().unwrap() {
        let done = wait_for("every accepted asynchronous call's end", AFTER_A_LEASE, || {
            let view = client.get(&location).expect(200).json();
            (view["state"] == "done").then_some(view)
        });
        assert_eq!(done["status"], 200, "{done}");
    }
    again.finish();
}

#[test]
fn the_loss_of_the_spawner_fails_the_calls_in_it_and_nothing_else() {
    let platform = Options::new().expect_error("sandbox").expect_error("spawner").start();
    let client = platform.tenant("spawner");
    client.deploy(&sleeper());
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.invoke("sleeper", &json!(50)))
        })
        .collect();
    wait_for("both calls", SOON, || {
        let shown = client.show("sleeper")["instances"].clone();
        (shown.as_array().unwrap().iter().filter(|instance| instance["in_flight"] == 1).count() == 2).then_some(())
    });
    platform.note_cgroups();
    kill(spawner_of(platform.pid).expect("the platform has a spawner"));
    for call in calls {
        let reply = call.join().unwrap();
        assert!(reply.status >= 500, "{}", reply.text());
        assert_eq!(reply.json()["origin"], "platform", "{}", reply.text());
    }
    wait_for("readiness with another spawner", SOON, || {
        (platform.admin.get("/readyz").status == 200 && spawner_of(platform.pid).is_some()).then_some(())
    });
    client.invoke("sleeper", &json!(0)).expect(200);
    client.deploy(&greeter("after"));
    assert_eq!(client.value("greeter", &json!({})), "after");
    platform.note_cgroups();
    platform.finish();
}

#[test]
fn calls_during_the_loss_of_the_spawner_are_answered_one_way_or_the_other() {
    let platform = Options::new().expect_error("sandbox").expect_error("spawner").start();
    let client = platform.tenant("storm");
    client.deploy(&sleeper());
    client.invoke("sleeper", &json!(0)).expect(200);
    platform.note_cgroups();
    let killed = AtomicBool::new(false);
    let statuses = in_parallel(5, |thread| {
        if thread == 0 {
            for _ in 0..3 {
                let spawner = wait_for("a spawner", SOON, || spawner_of(platform.pid));
                kill(spawner);
                wait_for("the next spawner", SOON, || spawner_of(platform.pid).filter(|pid| *pid != spawner));
                platform.note_cgroups();
            }
            killed.store(true, Ordering::Relaxed);
            return Vec::new();
        }
        let mut statuses = Vec::new();
        while !killed.load(Ordering::Relaxed) {
            statuses.push(client.invoke("sleeper", &json!(0.02)).status);
        }
        statuses
    });
    let all: Vec<_> = statuses.into_iter().flatten().collect();
    assert!(all.iter().all(|status| matches!(status, 200 | 502 | 503)), "{all:?}");
    wait_for("a call that works", SOON, || (client.invoke("sleeper", &json!(0)).status == 200).then_some(()));
    assert_eq!(
        client.usage().len(),
        client
            .usage()
            .iter()
            .map(|item| item["invocation_id"].to_string())
            .collect::<std::collections::HashSet<_>>()
            .len()
    );
    platform.finish();
}

#[test]
fn an_instance_killed_during_a_call_costs_that_call_only() {
    let platform = Platform::start();
    let client = platform.tenant("instance");
    client.deploy(&sleeper());
    let caller = client.clone();
    let call = std::thread::spawn(move || caller.invoke("sleeper", &json!(50)));
    kill(wait_for("the call", SOON, || marked(&platform.path(), "runs")));
    call.join().unwrap().problem(502, "crashed", "function");
    client.invoke("sleeper", &json!(0)).expect(200);
    // A pool's sandbox that dies is replaced, and nobody is given a dead one.
    let mut dead = sandbox_processes(&platform.path());
    dead.iter().for_each(|pid| kill(*pid));
    wait_for("a new pool", SOON, || {
        let now = sandbox_processes(&platform.path());
        (now.len() >= 3 && !now.iter().any(|pid| dead.contains(pid))).then_some(())
    });
    dead.clear();
    client.invoke("sleeper", &json!(0)).expect(200);
    platform.finish();
}

/// Kills the platform at a moment, starts it again and checks that nothing is left and everything works.
fn killed_while(stage: &str, begin: impl FnOnce(&Platform, &Client) -> std::thread::JoinHandle<()>) {
    let platform = Platform::start();
    let client = platform.tenant("stage");
    client.deploy(&sleeper());
    client.deploy(&greeter("before"));
    let busy = begin(&platform, &client);
    platform.kill();
    busy.join().unwrap();
    platform.processes_are_gone();
    let again = Options::new().data(&platform.data).start();
    let client = Client::new(&again.admin.url, &client.key, "stage");
    assert_eq!(client.list("/v1/functions").len(), 2, "{stage}");
    for name in ["sleeper", "greeter"] {
        for version in client.list(&format!("/v1/functions/{name}/versions")) {
            let path = format!("/v1/functions/{name}/invocations?version={}", version["version"]);
            client.post(&path, &json!(0)).expect(200);
        }
    }
    assert_eq!(client.value("greeter", &json!({})), "before", "{stage}");
    client.deploy(&greeter("after"));
    assert_eq!(client.value("greeter", &json!({})), "after", "{stage}");
    again.finish();
}

#[test]
fn a_kill_during_an_installation_leaves_no_half_version() {
    killed_while("installation", |platform, client| {
        let function = greeter("installing").file("requirements.txt", "six==1.16.0\n");
        let caller = client.clone();
        let deploy = std::thread::spawn(move || {
            let _ = caller.try_request("POST", "/v1/functions", &[], &function.archive());
        });
        let installing =
            |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("pip"));
        wait_for("the installer", SOON, || sandbox_processes(&platform.path()).iter().any(installing).then_some(()));
        deploy
    });
}

#[test]
fn a_kill_during_a_cold_start_leaves_nothing() {
    killed_while("cold start", |platform, client| {
        let source = "import time\nopen('/tmp/loading', 'w').close()\ntime.sleep(20)\ndef handler(event, context):\n    return 1\n";
        client.deploy(&Function::python("slow-import", "", source));
        client.delete("/v1/functions/slow-import").expect(204);
        client.deploy(&Function::python("slow-import", "", source));
        let caller = client.clone();
        let call = std::thread::spawn(move || {
            let _ = caller.try_request("POST", "/v1/functions/slow-import/invocations", &[], b"0");
        });
        wait_for("the import", SOON, || marked(&platform.path(), "loading"));
        client.delete("/v1/functions/slow-import").expect(204);
        call
    });
}

#[test]
fn a_kill_during_an_execution_leaves_nothing() {
    killed_while("execution", |platform, client| {
        let caller = client.clone();
        let call = std::thread::spawn(move || {
            assert!(
                caller.try_request("POST", "/v1/functions/sleeper/invocations", &[], b"50").is_err(),
                "no answer is made up"
            );
        });
        wait_for("the call", SOON, || marked(&platform.path(), "runs"));
        call
    });
}

#[test]
fn a_kill_during_a_stop_leaves_nothing() {
    killed_while("stop", |platform, client| {
        let (caller, address) = (client.clone(), client.address().to_owned());
        let call = std::thread::spawn(move || {
            let _ = caller.try_request("POST", "/v1/functions/sleeper/invocations", &[], b"50");
        });
        wait_for("the call", SOON, || marked(&platform.path(), "runs"));
        platform.signal(Signal::SIGTERM);
        wait_for("the stop's beginning", SOON, || std::net::TcpStream::connect(&address).is_err().then_some(()));
        call
    });
}
