//! What functions do wrong, and that the next call does not notice: errors, crashes, timeouts, garbage, floods.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, in_parallel, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("runtimes", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

/// What a problem says of the function's own error.
fn error(problem: &Value) -> (&str, &str, &str) {
    let part = |name: &str| problem["error"][name].as_str().unwrap_or_default();
    (part("type"), part("message"), part("stack"))
}

const PYTHON: &str = r#"
import json, os, sys, time, signal, ctypes, threading

class Odd:
    pass

def deeper(event):
    raise LookupError("no such thing: " + event["what"])

def handler(event, context):
    do = event.get("do")
    if do == "raise": return deeper(event)
    if do == "exit": sys.exit(3)
    if do == "quit": quit()
    if do == "os-exit": os._exit(7)
    if do == "abort": os.abort()
    if do == "segfault": ctypes.string_at(0)
    if do == "interrupt": raise KeyboardInterrupt()
    if do == "base": raise BaseException("base")
    if do == "sleep": time.sleep(event["s"])
    if do == "spin":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                while True: pass
            except BaseException: pass
    if do == "odd": return Odd()
    if do == "nan": return float("nan")
    if do == "keys": return {(1, 2): 3}
    if do == "loop":
        value = []; value.append(value); return value
    if do == "surrogate": return "\ud800"
    if do == "huge": return "x" * (7 << 20)
    if do == "limit": return "x" * ((6 << 20) - 2)
    if do == "recurse": return handler(event, context)
    if do == "garbage":
        os.write(1, bytes(range(256)) * 100)
        os.write(2, b"\xff\xfe\x00" * 1000 + b"\n")
        for fd in range(3, 21):
            try: os.write(fd, b"\x00\x00\x00\x01\x84garbage" * 10)
            except OSError: pass
        print("x" * 200000)
        print("\x00\x1b[31m\udcff")
    if do == "close":
        for fd in range(0, 64):
            try: os.close(fd)
            except OSError: pass
    if do == "stdout":
        sys.stdout = sys.stderr = None
    return {"pid": os.getpid(), "value": event.get("value")}
"#;

const NODE: &str = r#"
const fs = require("node:fs");
function deeper(event) { throw new TypeError("no such thing: " + event.what); }
exports.handler = async (event) => {
  switch (event.do) {
    case "raise": return deeper(event);
    case "exit": process.exit(3);
    case "abort": process.abort();
    case "sleep": await new Promise((done) => setTimeout(done, event.s * 1000)); break;
    case "spin": for (;;) {}
    case "never": await new Promise(() => {}); break;
    case "loop": { const value = {}; value.value = value; return value; }
    case "bigint": return 10n;
    case "throw-null": throw null;
    case "throw-text": throw "only a text";
    case "rejection": Promise.reject(new RangeError("nobody listens")); await new Promise((done) => setTimeout(done, 300)); break;
    case "late": setTimeout(() => { throw new RangeError("thrown from a timer"); }, 1); await new Promise((done) => setTimeout(done, 300)); break;
    case "huge": return "x".repeat(7 << 20);
    case "undefined": return undefined;
    case "garbage":
      fs.writeSync(1, Buffer.from([...Array(256).keys()]));
      for (let fd = 3; fd <= 20; fd += 1) { try { fs.writeSync(fd, "\0\0\0\1garbage"); } catch {} }
      console.log("x".repeat(200000));
  }
  return { pid: process.pid, value: event.value ?? null };
};
"#;

/// Deploys both under test, with a timeout of two seconds.
fn both(label: &str) -> Client {
    let client = tenant(label);
    client.deploy(&Function::python("py", "timeout_s = 2\n", PYTHON));
    client.deploy(&Function::node("js", "timeout_s = 2\n", NODE));
    client
}

#[track_caller]
fn still_answers(client: &Client, function: &str) {
    assert_eq!(client.value(function, &json!({"value": 5}))["value"], 5);
}

#[test]
fn an_exception_comes_back_with_the_functions_own_stack() {
    let client = both("raise");
    let problem =
        client.invoke("py", &json!({"do": "raise", "what": "tea"})).problem(502, "function-error", "function");
    let (kind, message, stack) = error(&problem);
    assert_eq!((kind, problem["retryable"].as_bool()), ("LookupError", Some(false)));
    assert!(
        message.contains("no such thing: tea") && stack.contains("in deeper") && stack.contains("main.py"),
        "{problem}"
    );
    assert!(!stack.contains("/opt/raas"), "the runtime's own frames are nobody's business: {stack}");
    let problem =
        client.invoke("js", &json!({"do": "raise", "what": "tea"})).problem(502, "function-error", "function");
    let (kind, message, stack) = error(&problem);
    assert_eq!(kind, "TypeError");
    assert!(
        message.contains("no such thing: tea") && stack.contains("deeper") && stack.contains("main.js"),
        "{problem}"
    );
    assert!(!stack.contains("/opt/raas"), "{stack}");
    // The instance is the same one: an exception is no reason to start another.
    for function in ["py", "js"] {
        let before = client.value(function, &json!({}))["pid"].clone();
        client.invoke(function, &json!({"do": "raise", "what": "x"})).expect(502);
        assert_eq!(client.value(function, &json!({}))["pid"], before);
        assert_eq!(client.instances(function), 1);
    }
}

#[test]
fn what_is_raised_in_odd_ways_is_an_error_like_any_other() {
    let client = both("odd");
    for (function, what, expected) in [
        ("py", "exit", "SystemExit"),
        ("py", "quit", "SystemExit"),
        ("py", "interrupt", "KeyboardInterrupt"),
        ("py", "base", "BaseException"),
        ("py", "recurse", "RecursionError"),
        ("js", "exit", "ProcessExit"),
        ("js", "throw-text", ""),
        ("js", "throw-null", ""),
    ] {
        let reply = client.invoke(function, &json!({"do": what}));
        assert_eq!(reply.status, 502, "{what}: {}", reply.text());
        let problem = reply.json();
        assert_eq!(problem["origin"], "function", "{problem}");
        if problem["code"] == "function-error" {
            assert!(error(&problem).0.contains(expected), "{problem}");
        }
        still_answers(&client, function);
    }
}

#[test]
fn a_crash_is_told_and_the_next_call_works() {
    let client = both("crash");
    for (function, what, how) in [
        ("py", "os-exit", "exit status 7"),
        // The first process of a pid namespace cannot be ended by its own signals, so abort(3) ends it in another way.
        ("py", "abort", "signal"),
        ("py", "segfault", "signal 11"),
        ("js", "abort", "signal"),
    ] {
        let problem = client.invoke(function, &json!({"do": what})).problem(502, "crashed", "function");
        assert!(problem["title"].as_str().unwrap().contains(how), "{what}: {problem}");
        still_answers(&client, function);
    }
}

#[test]
fn a_call_past_its_timeout_is_answered_then_and_its_instance_replaced() {
    let client = both("timeout");
    for (function, event) in [
        ("py", json!({"do": "sleep", "s": 60})),
        ("py", json!({"do": "spin"})),
        ("js", json!({"do": "spin"})),
        ("js", json!({"do": "never"})),
    ] {
        still_answers(&client, function);
        let begun = Instant::now();
        let problem = client.invoke(function, &event).problem(504, "timeout", "function");
        assert!(
            (Duration::from_millis(1950)..Duration::from_secs(4)).contains(&begun.elapsed()),
            "{event}: {:?}",
            begun.elapsed()
        );
        assert!(problem["title"].as_str().unwrap().contains("2 s"), "{problem}");
        still_answers(&client, function);
        assert_eq!(client.instances(function), 1, "{event}: what overran is gone");
    }
    let items = client.usage();
    assert_eq!(items.iter().filter(|item| item["status"] == 504).count(), 4);
}

#[test]
fn a_value_that_is_not_json_is_an_error_that_says_so() {
    let client = both("values");
    for (function, what) in
        [("py", "odd"), ("py", "nan"), ("py", "keys"), ("py", "loop"), ("js", "loop"), ("js", "bigint")]
    {
        let problem = client.invoke(function, &json!({"do": what})).problem(502, "function-error", "function");
        assert!(!error(&problem).1.is_empty(), "{what}: {problem}");
        still_answers(&client, function);
    }
    assert_eq!(client.value("js", &json!({"do": "undefined"})), Value::Null);
    let surrogate = client.invoke("py", &json!({"do": "surrogate"}));
    assert!(matches!(surrogate.status, 200 | 502), "{}", surrogate.text());
    still_answers(&client, "py");
}

#[test]
fn results_up_to_the_limit_arrive_whole_and_larger_ones_are_refused() {
    let client = both("size");
    let limit = client.invoke("py", &json!({"do": "limit"})).expect(200);
    assert_eq!(limit.body.len(), 6 << 20);
    for function in ["py", "js"] {
        client.invoke(function, &json!({"do": "huge"})).problem(502, "response-too-large", "function");
        still_answers(&client, function);
    }
}

#[test]
fn events_up_to_the_limit_are_taken_and_larger_ones_refused() {
    let client = both("events");
    let event = |size: usize| {
        let frame = r#"{"value":""}"#.len();
        format!(r#"{{"value":"{}"}}"#, "x".repeat(size - frame))
    };
    for function in ["py", "js"] {
        let value = client.invoke_text(function, &event((6 << 20) - 100), &[]).expect(200);
        assert!(value.body.len() > 6_000_000);
        let problem =
            client.invoke_text(function, &event((6 << 20) + 1), &[]).problem(413, "event-too-large", "caller");
        assert!(problem["title"].as_str().unwrap().contains("6291456"), "{problem}");
        still_answers(&client, function);
    }
}

#[test]
fn garbage_on_every_descriptor_breaks_nothing() {
    let client = both("garbage");
    for function in ["py", "js"] {
        for number in 0..3 {
            // Writing to the platform's own descriptor may end the instance, but nobody else's call, and is told as the function's.
            let reply = client.invoke(function, &json!({"do": "garbage", "value": number}));
            if reply.status == 200 {
                assert_eq!(reply.json()["value"], number);
            } else {
                assert_eq!(
                    (reply.status, reply.json()["origin"].as_str()),
                    (502, Some("function")),
                    "{}",
                    reply.text()
                );
            }
            still_answers(&client, function);
        }
        let reply = wait_for("the garbage in the log", SOON, || {
            let logs = client.list(&format!("/v1/functions/{function}/logs?limit=100&since=2000-01-01T00:00:00Z"));
            logs.iter().any(|log| log["line"].as_str().unwrap().starts_with("xxxx")).then_some(logs)
        });
        assert!(reply.iter().all(|log| log["line"].as_str().unwrap().len() <= 64 << 10));
    }
    for what in ["close", "stdout"] {
        let reply = client.invoke("py", &json!({"do": what}));
        assert!(matches!(reply.status, 200 | 502), "{what}: {}", reply.text());
        still_answers(&client, "py");
    }
}

#[test]
fn code_that_does_not_load_is_told_with_its_stack() {
    let client = tenant("load");
    let cases = [
        Function::python("f", "", "import no_such_module\ndef handler(event, context):\n    return 1\n"),
        Function::python("f", "", "def handler(event, context:\n    return 1\n"),
        Function::python("f", "", "def hander(event, context):\n    return 1\n"),
        Function::python("f", "", "handler = 5\n"),
        Function::python("f", "", "import sys\nsys.exit(1)\n"),
        Function::python("f", "", "def load():\n    return {}['tea']\nhandler = load()\n"),
        Function::node("f", "", "require('no-such-module'); exports.handler = () => 1;"),
        Function::node("f", "", "exports.handler = () => {"),
        Function::node("f", "", "exports.hander = () => 1;"),
        Function::node("f", "", "function load() { throw new RangeError('tea'); }\nload();"),
    ];
    let expected = [
        "no_such_module",
        "SyntaxError",
        "handler",
        "handler",
        "SystemExit",
        "in load",
        "no-such-module",
        "main.js",
        "handler",
        "load",
    ];
    for (function, expected) in cases.iter().zip(expected) {
        client.deploy(function);
        for _ in 0..2 {
            let problem = client.invoke("f", &json!({})).problem(502, "init-failed", "function");
            assert!(problem["error"].to_string().contains(expected), "{expected}: {problem}");
            assert_eq!(problem["retryable"], false);
        }
    }
    client.deploy(&Function::python("f", "", "def handler(event, context):\n    return 1\n"));
    assert_eq!(client.value("f", &json!({})), 1, "a deploy of good code heals it");
}

#[test]
fn slow_loading_counts_as_the_cold_start_and_not_as_the_call() {
    let client = tenant("slow-import");
    client.deploy(&Function::python(
        "f",
        "timeout_s = 1\n",
        "import time\ntime.sleep(1.5)\ndef handler(event, context):\n    return 1\n",
    ));
    let reply = client.invoke("f", &json!({})).expect(200);
    assert_eq!(reply.header("raas-cold-start"), "true");
    let item = &client.usage()[0];
    assert!(item["cold_ms"].as_f64().unwrap() > 1500.0 && item["exec_ms"].as_f64().unwrap() < 1000.0, "{item}");
}

#[test]
fn errors_that_nobody_waits_for_do_not_reach_another_call() {
    let client = both("late");
    for what in ["rejection", "late"] {
        let reply = client.invoke("js", &json!({"do": what, "value": 1}));
        assert!(matches!(reply.status, 200 | 502), "{}", reply.text());
        if reply.status == 502 {
            assert_eq!(reply.json()["origin"], "function", "{}", reply.text());
        }
        still_answers(&client, "js");
        wait_for("the error in the log, or in the answer", SOON, || {
            let told = reply.text().contains("nobody listens") || reply.text().contains("thrown from a timer");
            let logged = client.logs("js").iter().any(|log| log["line"].as_str().unwrap().contains("RangeError"));
            (told || logged).then_some(())
        });
    }
}

#[test]
fn a_shared_instance_runs_its_calls_side_by_side() {
    let client = tenant("shared");
    let scaling = "[scaling]\nmax = 1\nconcurrency = 8\n";
    client.deploy(&Function::python("threads", scaling, "import time\ndef handler(event, context):\n    print('for', event)\n    time.sleep(0.6)\n    return [event, context.invocation_id]\n"));
    client.deploy(&Function::python("tasks", scaling, "import asyncio\nasync def handler(event, context):\n    print('for', event)\n    await asyncio.sleep(0.6)\n    return [event, context.invocation_id]\n"));
    client.deploy(&Function::node("node", scaling, "exports.handler = async (event, context) => { console.log('for', event); await new Promise((done) => setTimeout(done, 600)); return [event, context.invocation_id]; };"));
    for name in ["threads", "tasks", "node"] {
        client.value(name, &json!("first"));
        let begun = Instant::now();
        let replies = in_parallel(8, |number| client.invoke(name, &json!(number)).expect(200));
        assert!(
            begun.elapsed() < Duration::from_millis(2400),
            "{name}: eight calls of 0.6 s took {:?}",
            begun.elapsed()
        );
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(reply.json(), json!([number, reply.id()]), "{name}: each has its own answer");
        }
        assert_eq!(client.instances(name), 1, "{name}");
        let logs = wait_for("the lines", SOON, || Some(client.logs(name)).filter(|logs| logs.len() == 9));
        for (number, reply) in replies.iter().enumerate() {
            let line = logs.iter().find(|log| log["invocation_id"] == reply.id()).unwrap();
            assert_eq!(line["line"], format!("for {number}"), "{name}: each line belongs to the call that printed it");
        }
    }
}

#[test]
fn one_call_past_its_timeout_does_not_end_the_others_in_its_instance() {
    let client = tenant("shared-timeout");
    client.deploy(&Function::python(
        "f",
        "timeout_s = 3\n[scaling]\nmax = 2\nconcurrency = 4\n",
        "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n",
    ));
    client.value("f", &json!(0));
    let replies = in_parallel(3, |number| client.invoke("f", &json!([60.0, 1.0, 1.2][number])));
    assert_eq!(replies.iter().map(|reply| reply.status).collect::<Vec<_>>(), [504, 200, 200]);
    assert_eq!(client.value("f", &json!(0)), 0);
}

#[test]
fn an_async_handler_and_an_exclusive_one_keep_state_between_calls() {
    let client = tenant("state");
    client.deploy(&Function::python("py", "", "import asyncio\nseen = []\nasync def handler(event, context):\n    await asyncio.sleep(0)\n    seen.append(event)\n    return seen\n"));
    client.deploy(&Function::node(
        "js",
        "",
        "const seen = []; exports.handler = (event) => { seen.push(event); return seen; };",
    ));
    for name in ["py", "js"] {
        assert_eq!(client.value(name, &json!(1)), json!([1]));
        assert_eq!(
            client.value(name, &json!(2)),
            json!([1, 2]),
            "{name}: the instance stays warm with its module state"
        );
    }
}
