//! The result store: a lookup in memory, what an expiring result costs under load, and what proofs let through.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use raas_core::{FunctionId, ResultKey, TenantId, TimestampUs};
use raas_results::{MemoryPolicy, MemoryTier, MemoryTierOptions, ResultKind, StoredResult};
use serde_json::{Value, json};

use super::histogram::Histogram;
use super::http::Exchanges;
use super::platform::{Function, Platform};
use super::report::{Row, Series, Target};
use super::{Plan, alternate};

/// Results in memory for the lookup, and the bytes of each.
const ENTRIES: u32 = 100_000;
const BODY_BYTES: usize = 1_000;

/// Lookups in each run.
const LOOKUPS: usize = 200_000;

/// Times to live over which an expiring result is asked for, and how long one is.
const TIMES_TO_LIVE: u32 = 10;
const TTL: Duration = Duration::from_secs(2);

/// Calls a second meanwhile.
const CALLS_A_SECOND: u32 = 1_000;

/// Functions of each kind in which a part of the runs is odd.
const MUTANTS: usize = 25;

/// Hits after which such a one must be caught.
const MUTANT_HITS: usize = 1_000;

/// Copies of each pure function: each is run again some 850 times.
const PURE_COPIES: usize = 12;

/// How long what waits to be run again may take.
const RUN_AGAIN_WITHIN: Duration = Duration::from_secs(120);

/// A lookup in memory, in process, the clock's own time included.
///
/// # Errors
/// None.
pub fn lookup(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let p50 = |policy| {
        let tier = MemoryTier::new(MemoryTierOptions { capacity_bytes: 1 << 30, entry_max_bytes: 1 << 20, policy });
        let keys: Vec<_> =
            (0..ENTRIES).map(|n| ResultKey::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect();
        let now = TimestampUs(1_000_000);
        keys.iter().for_each(|key| _ = tier.put(*key, Arc::new(result(now))));
        let mut times = Histogram::default();
        let mut found = 0;
        for lookup in 0..LOOKUPS {
            let key = &keys[(lookup * 7_919) % keys.len()];
            let begun = Instant::now();
            found += usize::from(tier.get(key, now, || 0.5).is_some());
            times.record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        ensure!(found == LOOKUPS, "{found} of {LOOKUPS} lookups found their result");
        Ok(times.quantile(0.5) / 1000.0)
    };
    let series = alternate(
        plan,
        "result-lookup",
        vec![
            ("the store's policy", Box::new(|| p50(MemoryPolicy::Cost))),
            ("moka", Box::new(|| p50(MemoryPolicy::Moka))),
        ],
    )?;
    if let [ours, moka] = &series[..] {
        let what = format!("lookup among {ENTRIES} results in memory, in process, p50, against moka");
        rows.push(Row::new("result-lookup", what, "µs", Target::AtMost(5.0), ours.clone(), Some(moka.clone())));
    }
    Ok(())
}

fn result(now: TimestampUs) -> StoredResult {
    let later = TimestampUs(now.0 + 3_600_000_000);
    StoredResult {
        kind: ResultKind::Value,
        body: vec![b'x'; BODY_BYTES].into(),
        tenant: TenantId::from_bytes([1; 16]),
        function: FunctionId::from_bytes([2; 16]),
        version: 1,
        compute_us: 10_000,
        tags: Box::default(),
        began_at: now,
        stored_at: now,
        fresh_until: later,
        stale_until: later,
        on_error_until: later,
        unasked: AtomicBool::new(false),
    }
}

/// Counts its runs in its one instance.
const COUNTS: Function<'_> = Function {
    name: "counts",
    manifest: "runtime = \"python3\"\nhandler = \"main.handler\"\n[scaling]\nmin = 1\nmax = 1\n[cache]\nmode = \"declared\"\nttl_s = 2\n",
    file: "main.py",
    source: "import time\nruns = 0\n\ndef handler(event, context):\n    global runs\n    runs += 1\n    time.sleep(0.02)\n    return runs\n",
};

/// One result that expires while it is asked for all the time.
///
/// # Errors
/// A call fails.
pub fn expiry(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let platform = Platform::start("raas up", &[("RAAS_POOL_PYTHON3", "1"), ("RAAS_POOL_NODE", "0")])?;
    platform.deploy(&COUNTS)?;
    let request = platform.invocation(COUNTS.name, "1");
    let mut exchanges = platform.connect()?;
    let mut runs = || -> anyhow::Result<f64> { Ok(serde_json::from_slice(&exchanges.exchange(&request)?.body)?) };
    let before = runs()?;
    let begun = Instant::now();
    let mut calls = 0;
    while begun.elapsed() < TTL * TIMES_TO_LIVE {
        runs()?;
        calls += 1;
        let due = Duration::from_secs(1) * calls / CALLS_A_SECOND;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let computed = runs()? - before;
    plan.say(&format!("result-expiry: {computed} computations for {calls} calls"));
    let what = format!(
        "computations of one result in its time to live of {} s, 20 ms each, {CALLS_A_SECOND} calls a second",
        TTL.as_secs()
    );
    let ours = Series::new("raas", vec![computed / f64::from(TIMES_TO_LIVE)]);
    rows.push(Row::new("result-expiry", what, "", Target::AtMost(1.1), ours, None));
    Ok(())
}

/// Pure functions, each in its own way.
const PURE: [&str; 10] = [
    "def handler(event, context):\n    return [n * n for n in range(event['n'] % 50)]",
    "import math\ndef handler(event, context):\n    return [math.sin(event['n'] + k) / 3 for k in range(20)]",
    "import hashlib\ndef handler(event, context):\n    return hashlib.sha256(str(event['n']).encode()).hexdigest()",
    "import random\ndef handler(event, context):\n    return random.Random(event['n']).random()",
    "import json\ndef handler(event, context):\n    return json.dumps({str(k): k for k in range(event['n'] % 9)})",
    "import re\ndef handler(event, context):\n    return re.findall(r'\\d', str(event['n'] ** 5))",
    "import datetime\ndef handler(event, context):\n    return (datetime.date(2020, 1, 1) + datetime.timedelta(days=event['n'])).isoformat()",
    "import decimal\ndef handler(event, context):\n    return str(decimal.Decimal(event['n']).sqrt())",
    "def handler(event, context):\n    return sorted({str(event['n'] + k) for k in range(30)})",
    "def handler(event, context):\n    seen = {}\n    for k in range(event['n'] % 20):\n        seen['k%d' % k] = {'v': k / 7}\n    return seen",
];

const PROVEN: &str =
    "runtime = \"python3\"\nhandler = \"main.handler\"\n[scaling]\nmax = 1\n[cache]\nmode = \"proven\"\n";

/// Pure functions, which must never be suspected, and such of whose runs a part is odd, which must be caught.
///
/// # Errors
/// A call fails.
pub fn proof(plan: &Plan, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let platform = Platform::start("raas up", &[("RAAS_POOL_PYTHON3", "4"), ("RAAS_POOL_NODE", "0")])?;
    for (part, what, most) in [
        (0.1, "hits of functions of whose runs a tenth is odd, before they were caught", 0.0),
        (0.01, "functions of whose runs a hundredth is odd that were not caught within 1,000 hits, of 25", 0.25),
    ] {
        let mut missed = 0.0;
        for mutant in 0..MUTANTS {
            let name = format!("mutant-{mutant}");
            let source = format!(
                "import random\ndef handler(event, context):\n    if random.random() < {part}:\n        return random.random()\n    return event['n'] + {mutant}"
            );
            platform.deploy(&Function { name: &name, manifest: PROVEN, file: "main.py", source: &source })?;
            let played = Played::of(&platform, &name, MUTANT_HITS)?;
            let caught = played.proof["state"] == "quarantined";
            missed += if most > 0.0 { f64::from(u8::from(!caught)) } else { played.hits as f64 };
            platform.client().delete(&name)?;
        }
        plan.say(&format!("result-proof: {missed}: {what}"));
        rows.push(Row::new("result-proof", what, "", Target::AtMost(most), Series::new("raas", vec![missed]), None));
    }

    let (mut agreed, mut suspected) = (0, 0);
    for copy in 0..PURE_COPIES {
        for (number, source) in PURE.iter().enumerate() {
            let name = format!("pure-{copy}-{number}");
            platform.deploy(&Function { name: &name, manifest: PROVEN, file: "main.py", source })?;
            let proof = Played::of(&platform, &name, MUTANT_HITS)?.proof;
            agreed += proof["agreed"].as_u64().unwrap_or(0);
            suspected += proof["differed"].as_u64().unwrap_or(0);
            platform.client().delete(&name)?;
        }
        plan.say(&format!("result-proof: {agreed} runs of pure functions agreed, {suspected} differed"));
    }
    let note = format!("{agreed} runs of {} deployments of pure functions were compared", PURE_COPIES * PURE.len());
    let what = "pure functions that were suspected, runs";
    let ours = Series::new("raas", vec![suspected as f64]);
    rows.push(Row::new("result-proof", what, "", Target::AtMost(0.0), ours, None).note(note));
    Ok(())
}

/// What came of calling a function until it was shown or caught, and then for so many hits.
struct Played {
    hits: usize,
    proof: Value,
}

impl Played {
    fn of(platform: &Platform, name: &str, hits_wanted: usize) -> anyhow::Result<Self> {
        let mut exchanges = platform.connect()?;
        let mut hits = 0;
        let begun = Instant::now();
        let mut n = 0;
        let proof = loop {
            n += 1;
            call(platform, &mut exchanges, name, n)?;
            let proof = proof_of(platform, name)?;
            if proof["state"] != "shadow" {
                break proof;
            }
            ensure!(begun.elapsed() < RUN_AGAIN_WITHIN, "`{name}` is still being shown: {proof}");
        };
        if proof["state"] == "quarantined" {
            return Ok(Self { hits, proof });
        }
        let mut asked = 0;
        while hits < hits_wanted && asked < 2 * hits_wanted {
            asked += 1;
            hits += usize::from(call(platform, &mut exchanges, name, 1_000_000 + n + asked / 50)?);
        }
        // What was sampled is compared by and by.
        let begun = Instant::now();
        let mut before = Value::Null;
        loop {
            let proof = proof_of(platform, name)?;
            if proof["state"] == "quarantined" || (before == proof && begun.elapsed() > Duration::from_millis(500)) {
                return Ok(Self { hits, proof });
            }
            ensure!(begun.elapsed() < RUN_AGAIN_WITHIN, "`{name}` is still being looked at: {proof}");
            before = proof;
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Whether a call was answered with a kept result.
fn call(platform: &Platform, exchanges: &mut Exchanges, name: &str, n: usize) -> anyhow::Result<bool> {
    let reply = exchanges.exchange(&platform.invocation(name, &json!({ "n": n }).to_string()))?;
    Ok(reply.header("raas-served-by") == Some("hit"))
}

fn proof_of(platform: &Platform, name: &str) -> anyhow::Result<Value> {
    let results = platform.client().results(name)?;
    results["proofs"].get(0).cloned().context("no proof is shown")
}
