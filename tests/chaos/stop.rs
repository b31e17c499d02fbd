//! Told to stop: what runs is finished, what is new is refused, and nobody waits for ever.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use super::sleeper;
use crate::harness::{Client, Options, Platform, Reply, SOON, in_parallel, marked, wait_for};

/// A call that runs when this returns.
fn running(platform: &Platform, client: &Client, seconds: f64) -> std::thread::JoinHandle<Result<Reply, ureq::Error>> {
    let caller = client.clone();
    let call = std::thread::spawn(move || {
        caller.try_request("POST", "/v1/functions/sleeper/invocations", &[], seconds.to_string().as_bytes())
    });
    wait_for("the call", SOON, || marked(&platform.path(), "runs"));
    call
}

#[test]
fn a_graceful_stop_answers_what_runs_and_refuses_what_is_new() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let platform = Platform::start();
        let client = platform.tenant("drained");
        client.deploy(&sleeper());
        let call = running(&platform, &client, 2.0);
        platform.note_cgroups();
        platform.signal(signal);
        wait_for("refusal of new connections", SOON, || {
            std::net::TcpStream::connect(client.address()).is_err().then_some(())
        });
        assert!(!call.is_finished(), "it stopped listening while the call ran");
        let reply = call.join().unwrap().unwrap().expect(200);
        let status = platform.ended();
        assert!(status.success(), "{status}\n{}", platform.log());
        let again = Options::new().data(&platform.data).start();
        let client = Client::new(&again.admin.url, &client.key, "drained");
        let items = client.usage();
        assert_eq!((items.len(), items[0]["invocation_id"].as_str().unwrap()), (1, reply.id().as_str()));
        again.finish();
    }
}

#[test]
fn a_stop_waits_no_longer_than_it_is_told() {
    let platform = Options::new().settings("[shutdown]\ndrain_s = 1\n").start();
    let client = platform.tenant("cut");
    client.deploy(&sleeper());
    let call = running(&platform, &client, 50.0);
    let begun = Instant::now();
    platform.finish();
    assert!((Duration::from_millis(900)..Duration::from_secs(8)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let outcome = call.join().unwrap();
    assert!(outcome.is_err() || outcome.is_ok_and(|reply| reply.status == 503), "the caller is told, or cut off");
}

#[test]
fn a_second_signal_stops_at_once() {
    let platform = Options::new().settings("[shutdown]\ndrain_s = 60\n").start();
    let client = platform.tenant("twice");
    client.deploy(&sleeper());
    let call = running(&platform, &client, 50.0);
    platform.note_cgroups();
    platform.signal(Signal::SIGTERM);
    wait_for("the first signal's effect", SOON, || {
        std::net::TcpStream::connect(client.address()).is_err().then_some(())
    });
    assert!(!call.is_finished());
    let begun = Instant::now();
    platform.finish(); // sends the second
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let _ = call.join().unwrap();
}

#[test]
fn open_connections_that_ask_nothing_do_not_hold_up_a_stop() {
    let platform = Options::new().settings("[shutdown]\ndrain_s = 3\n").start();
    let idle: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(platform.admin.address()).unwrap()).collect();
    let half = crate::harness::send(&platform.admin, "POST /v1/functions HTTP/1.1\r\nhost:");
    let client = platform.tenant("open");
    client.deploy(&sleeper());
    let follower = client.follow("sleeper");
    let begun = Instant::now();
    platform.finish();
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(follower.count(), 0, "a follower's stream ends");
    drop((idle, half));
}

#[test]
fn asynchronous_calls_survive_a_restart() {
    let platform = Options::new().settings("[requests]\nasync_workers = 2\n[pool]\npython3 = 1\nnode = 0\n").start();
    let client = platform.tenant("queued");
    client.deploy(&sleeper());
    let accepted = in_parallel(12, |_| client.invoke_async("sleeper", &json!(0.4)));
    platform.finish();
    let again = Options::new().data(&platform.data).start();
    let client = Client::new(&again.admin.url, &client.key, "queued");
    for location in &accepted {
        let done = client.finished(location);
        assert_eq!((done["status"].as_u64(), done["attempt"].as_u64()), (Some(200), Some(1)), "none ran twice: {done}");
    }
    assert_eq!(client.usage().len(), accepted.len());
    again.finish();
}

#[test]
fn an_asynchronous_call_that_a_stop_cuts_off_is_run_again() {
    let platform = Options::new().settings("[shutdown]\ndrain_s = 1\n[pool]\npython3 = 1\nnode = 0\n").start();
    let client = platform.tenant("cut-async");
    client.deploy(&sleeper());
    let location = client.invoke_async("sleeper", &json!(6));
    wait_for("the call", SOON, || marked(&platform.path(), "runs"));
    platform.finish();
    let again = Options::new().data(&platform.data).start();
    let client = Client::new(&again.admin.url, &client.key, "cut-async");
    let done = wait_for("the second run, after the first one's lease", Duration::from_secs(60), || {
        let view = client.get(&location).expect(200).json();
        (view["state"] == "done").then_some(view)
    });
    assert_eq!((done["status"].as_u64(), done["attempt"].as_u64()), (Some(200), Some(2)), "{done}");
    again.finish();
}
