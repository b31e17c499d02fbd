//! Persistent helpers: what a call costs from inside a function, what training costs the calls beside it, what is lost when
//! replicas come and go, what a model that is loaded once saves, and what of the state survives kills.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::http::post;
use super::load::{Sample, Target, load};
use super::peers::Peers;
use super::platform::{Client, Function, Platform};
use super::report::{self, Row, Series};
use super::{Plan, alternate};

/// Calls in each run from inside a function.
const CALLS: u32 = 3_000;

/// Calls over the changes that must lose none.
const CALLS_OVER_CHANGES: usize = 1_000;

/// Callers at once meanwhile.
const CALLERS: usize = 4;

/// Writes that are acknowledged before the next kill, at least.
const WRITES_BEFORE_A_KILL: usize = 20;

/// How often everything is killed to see what survives.
const KILLS: usize = 100;

const ECHO_MANIFEST: &str = "version = \"1.0.0\"\nsummary = \"Echo\"\nruntime = \"python3\"\nentry = \"main:Echo\"\n\
    [scaling]\nmin = 1\nmax = 2\nconcurrency = 4\n[methods.echo]\nidempotent = true\n[methods.kept]\ncache_ttl_s = 86400\n\
    [methods.mark]\n[train]\ncpu_share = 0.5\ntimeout_s = 60\n";

/// What is called: an echo, the same kept, and what the other figures need.
const ECHO_SOURCE: &str = r#"
import time
from raas import Helper, method

class Echo(Helper):
    @method
    def echo(self, value):
        return value

    @method
    def kept(self, value):
        return value

    @method
    def mark(self, file):
        open("/tmp/" + file, "w").close()

    @method
    def write(self, key, value):
        self.state.put(key, value)
        return value

    def train(self):
        end = time.monotonic() + self.config.get("train_s", 1)
        while time.monotonic() < end:
            sum(range(1000))
"#;

/// Calls a method so many times, and tells the median of what its own clock said, in microseconds.
const CALLER: Function<'_> = Function {
    name: "caller",
    manifest: "runtime = \"python3\"\nhandler = \"main.handler\"\ntimeout_s = 120\n[scaling]\nmin = 1\nmax = 1\n[helpers]\necho = \"echo\"\n",
    file: "main.py",
    source: "from time import perf_counter_ns\n\ndef handler(event, context):\n    call = getattr(context.helper('echo'), event['method'])\n    \
             times = []\n    for number in range(event['calls']):\n        value = number if event['method'] == 'echo' else 0\n        \
             begun = perf_counter_ns()\n        call(value=value)\n        times.append(perf_counter_ns() - begun)\n    \
             times.sort()\n    return times[len(times) // 2] / 1000\n",
};

/// A platform with the echo and its caller, and no pools that could stir meanwhile.
fn platform(config: &Value) -> anyhow::Result<Platform> {
    let platform = Platform::start("raas up", &[("RAAS_POOL_PYTHON3", "0"), ("RAAS_POOL_NODE", "0")])?;
    publish_echo(platform.client(), "1.0.0")?;
    platform.client().create_helper("echo", "echo", config)?;
    Ok(platform)
}

fn publish_echo(client: &Client, version: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let manifest = format!("name = \"echo\"\n{}", ECHO_MANIFEST.replace("1.0.0", version));
    std::fs::write(folder.path().join("helper.toml"), manifest)?;
    std::fs::write(folder.path().join("main.py"), ECHO_SOURCE)?;
    client.publish(&raas_packages::pack_folder(folder.path())?.archive)
}

/// Calls from inside a Python function: kept ones, and computed ones against Ray's actors.
///
/// # Errors
/// The peer is missing, or a call fails.
pub fn calls(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let platform = platform(&json!({}))?;
    platform.deploy(&CALLER)?;
    let median = |method: &str, calls: u32| -> anyhow::Result<f64> {
        let event = json!({ "method": method, "calls": calls }).to_string();
        let reply = platform.connect()?.exchange(&platform.invocation(CALLER.name, &event))?;
        Ok(serde_json::from_slice(&reply.body)?)
    };
    for method in ["kept", "echo"] {
        median(method, 200)?;
    }
    let kept = alternate(plan, "helper-calls", vec![("raas, kept", Box::new(|| median("kept", CALLS)))])?;
    if let [kept] = &kept[..] {
        let what = "kept answer of a helper, from inside a Python function, p50";
        rows.push(Row::new("helper-calls", what, "µs", report::Target::AtMost(120.0), kept.clone(), None));
    }
    let ray = peers.ray()?;
    let sides: Vec<super::Side<'_>> =
        vec![("raas", Box::new(|| median("echo", CALLS))), ("Ray actor", Box::new(|| ray.actor_call_us(CALLS)))];
    let series = alternate(plan, "helper-calls", sides)?;
    if let [ours, theirs] = &series[..] {
        let what = "computed echo of a helper, from inside a Python function, p50, against Ray's actor call";
        let target = report::Target::TimesPeerAtMost(0.35);
        rows.push(Row::new("helper-calls", what, "µs", target, ours.clone(), Some(theirs.clone())));
    }
    Ok(())
}

/// Calls over HTTP with and without training beside them.
///
/// # Errors
/// A call fails.
pub fn training(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let train_s = plan.lasting.as_secs() + 3;
    let platform = platform(&json!({ "train_s": train_s }))?;
    let mut exchanges = platform.connect()?;
    let samples = (0..100)
        .map(|n| Sample::probe(&mut exchanges, method(&platform, "echo", "echo", &json!({ "value": n })), &json!(n)))
        .collect::<anyhow::Result<Rc<[_]>>>()?;
    let target = Target { address: platform.address, samples };
    let p99 = || Ok(load(&target, 1, plan.lasting)?.latencies.quantile(0.99) / 1000.0);
    let beside = || {
        std::thread::scope(|scope| {
            let client = platform.client();
            let training = scope.spawn(|| client.train("echo"));
            client.wait_until_training("echo")?;
            let measured = p99();
            let trained = training.join().map_err(|_| anyhow::anyhow!("the training broke"))?;
            trained.and(measured)
        })
    };
    let sides: Vec<super::Side<'_>> = vec![("while train() runs", Box::new(beside)), ("without", Box::new(p99))];
    let series = alternate(plan, "helper-training", sides)?;
    if let [beside, without] = &series[..] {
        let what = "calls of a helper, 1 connection, p99, while train() runs at half a processor against without";
        let target = report::Target::TimesPeerAtMost(1.5);
        rows.push(Row::new("helper-training", what, "µs", target, beside.clone(), Some(without.clone())));
    }
    Ok(())
}

fn method(platform: &Platform, instance: &str, name: &str, arguments: &Value) -> Vec<u8> {
    let path = format!("/v1/helper-instances/{instance}/methods/{name}");
    post(platform.address, &path, Some(&platform.key), &arguments.to_string())
}

/// Calls lost over a new version, a roll back, a wake from nothing, and a kill of the replica that serves.
///
/// # Errors
/// A change fails.
pub fn changes(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let platform = platform(&json!({}))?;
    let client = platform.client();
    publish_echo(client, "1.1.0")?;
    let (answered, lost, over) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicBool::new(false));
    let call = |number: usize| {
        if let Err(error) = client.call("echo", "echo", &json!({ "value": number })) {
            lost.lock().unwrap_or_else(|poison| poison.into_inner()).push(format!("{error:#}"));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    };
    let until = |calls: usize| {
        let begun = Instant::now();
        while answered.load(Ordering::Relaxed) < calls && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for caller in 0..CALLERS {
            let (over, call) = (&over, &call);
            scope.spawn(move || {
                let mut number = caller;
                while !over.load(Ordering::Relaxed) {
                    call(number);
                    number += CALLERS;
                }
            });
        }
        let part = CALLS_OVER_CHANGES / 4;
        let changed = (|| {
            until(part / 2);
            client.change_helper("echo", &json!({ "version": "1.1.0" }))?;
            until(part);
            client.change_helper("echo", &json!({ "rollback": true }))?;
            until(2 * part);
            client.call("echo", "mark", &json!({ "file": "serving" }))?;
            kill(Pid::from_raw(marked(&platform, "serving")?), Signal::SIGKILL)?;
            until(4 * part);
            anyhow::Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        changed
    })?;
    // From nothing: stopped, started again, and called by all at the same moment.
    client.change_helper("echo", &json!({ "state": "stopped" }))?;
    client.change_helper("echo", &json!({ "state": "serving" }))?;
    client.call("echo", "mark", &json!({ "file": "asleep" }))?;
    kill(Pid::from_raw(marked(&platform, "asleep")?), Signal::SIGKILL)?;
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let call = &call;
            scope.spawn(move || call(caller));
        }
    });
    let lost = lost.into_inner().unwrap_or_else(|poison| poison.into_inner());
    let total = answered.load(Ordering::Relaxed);
    plan.say(&format!("helper-changes: {} of {total} calls lost", lost.len()));
    let what = format!("calls lost of {total} over a new version, a roll back, a kill of the replica and a wake");
    let series = Series::new("raas", vec![lost.len() as f64]);
    let row = Row::new("helper-changes", what, "calls", report::Target::AtMost(0.0), series, None);
    rows.push(lost.iter().take(3).fold(row, |row, error| row.note(error.clone())));
    Ok(())
}

/// The process of the sandbox that has this file in its `/tmp`.
fn marked(platform: &Platform, file: &str) -> anyhow::Result<i32> {
    let groups = std::fs::read_to_string(platform.data().join("run/cgroups"))?;
    let mut found =
        groups.lines().flat_map(|group| std::fs::read_dir(group).into_iter().flatten().flatten()).flat_map(|one| {
            let text = std::fs::read_to_string(one.path().join("cgroup.procs")).unwrap_or_default();
            text.lines().filter_map(|line| line.parse::<i32>().ok()).collect::<Vec<_>>()
        });
    let marked = found.find(|pid| *pid > 0 && Path::new(&format!("/proc/{pid}/root/tmp/{file}")).exists());
    marked.context("the replica's process is not found; this figure needs root and cgroups")
}

/// A sentence embedding from a helper that has loaded its model against a function that loads it first.
///
/// # Errors
/// The helper of the library is not there, or its packages cannot be installed.
pub fn embedding(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let library = Path::new("helpers/library/embed");
    ensure!(library.is_dir(), "{} is not there: run the benchmark in a checkout", library.display());
    let platform = Platform::start("raas up", &[("RAAS_POOL_NODE", "0")])?;
    let client = platform.client();
    plan.say("helper-embedding: installing the model");
    client.publish(&raas_packages::pack_folder(library)?.archive)?;
    client.create_helper("embed", "embed", &json!({}))?;
    // The same code as a function: a process for each call, which loads the model first.
    let folder = tempfile::tempdir()?;
    copy(library, folder.path())?;
    std::fs::remove_file(folder.path().join("helper.toml"))?;
    std::fs::write(folder.path().join("function.py"), EMBED_FUNCTION)?;
    std::fs::write(
        folder.path().join("raas.toml"),
        "name = \"embed-cold\"\nruntime = \"python3\"\nhandler = \"function.handler\"\nmemory_mb = 1024\ntimeout_s = 120\n[scaling]\nidle_s = 0\n",
    )?;
    client.deploy(&raas_packages::pack_folder(folder.path())?.archive)?;
    let sentence = AtomicUsize::new(0);
    let text = || format!("the {}th sentence that nobody has asked for", sentence.fetch_add(1, Ordering::Relaxed));
    let timed = |request: Vec<u8>| -> anyhow::Result<f64> {
        let mut exchanges = platform.connect()?;
        let begun = Instant::now();
        exchanges.exchange(&request)?;
        Ok(begun.elapsed().as_secs_f64() * 1000.0)
    };
    let warm = || timed(method(&platform, "embed", "embed", &json!({ "text": text() })));
    let cold = || -> anyhow::Result<f64> {
        // An instance without a call is gone within a second.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(500));
            let request = platform.invocation("embed-cold", &json!({ "text": text() }).to_string());
            let mut exchanges = platform.connect()?;
            let begun = Instant::now();
            let reply = exchanges.exchange(&request)?;
            if reply.header("raas-cold-start") == Some("true") {
                return Ok(begun.elapsed().as_secs_f64() * 1000.0);
            }
        }
        anyhow::bail!("the function does not come to start anew")
    };
    warm()?;
    let with_torch = peers.load_and_embed_ms()?.is_some();
    let mut sides: Vec<super::Side<'_>> =
        vec![("warm helper", Box::new(warm)), ("function that loads the same code and model", Box::new(cold))];
    if with_torch {
        let load = || peers.load_and_embed_ms()?.context("sentence-transformers is gone");
        sides.push(("process that loads it with sentence-transformers", Box::new(load)));
    }
    let series = alternate(plan, "helper-embedding", sides)?;
    let [warm, others @ ..] = &series[..] else { return Ok(()) };
    // The helper's own encoder is up in a fifth of a second; the package's way takes seconds.
    for (other, least) in others.iter().zip([10.0, 50.0]) {
        let what = "a sentence's embedding where the model is loaded for it, against a warm helper, computed";
        let target = report::Target::TimesPeerAtLeast(least);
        let row = Row::new("helper-embedding", what, "ms", target, other.clone(), Some(warm.clone()));
        rows.push(match with_torch {
            true => row,
            false => {
                row.note("not compared with sentence-transformers: scripts/bench-peers.sh DIR --with-torch installs it")
            }
        });
    }
    Ok(())
}

const EMBED_FUNCTION: &str = "from embed import Embed\n\nhelper = Embed()\nhelper.start()\n\n\
    def handler(event, context):\n    return helper.embed(event['text'])\n";

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// State that was acknowledged and is not there after the platform and all its replicas were killed.
///
/// # Errors
/// The platform does not start again.
pub fn kills(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let mut platform = platform(&json!({}))?;
    let acknowledged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let (mut lost, mut total) = (Vec::new(), 0);
    for round in 0..KILLS {
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (client, acknowledged, gone) = (platform.client().clone(), &acknowledged, &gone);
                scope.spawn(move || {
                    for number in 0..u64::MAX {
                        let key = format!("{round}/{writer}/{number}");
                        if client.call("echo", "write", &json!({ "key": key, "value": number })).is_err() {
                            return;
                        }
                        acknowledged.lock().unwrap_or_else(|poison| poison.into_inner()).insert(key, number);
                        if gone.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            // Once there is something to lose, at any moment of a write: the delays fall between all that it is made of.
            let told = || acknowledged.lock().unwrap_or_else(|poison| poison.into_inner()).len();
            let begun = Instant::now();
            while told() < WRITES_BEFORE_A_KILL && begun.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(Duration::from_micros((round as u64 * 7919) % 20_000));
            platform.kill();
            gone.store(true, Ordering::Relaxed);
        });
        platform = platform.start_again()?;
        let there = platform.client().state("echo", &format!("{round}/"))?;
        let told = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(|poison| poison.into_inner()));
        total += told.len();
        lost.extend(told.into_iter().filter(|(key, value)| there.get(key) != Some(value)));
        if (round + 1) % 10 == 0 {
            plan.say(&format!("helper-kills {}/{KILLS}: {} writes lost", round + 1, lost.len()));
        }
    }
    let what = format!("state writes lost of {total} acknowledged ones over {KILLS} kills of everything");
    let series = Series::new("raas", vec![lost.len() as f64]);
    rows.push(Row::new("helper-kills", what, "writes", report::Target::AtMost(0.0), series, None));
    Ok(())
}
