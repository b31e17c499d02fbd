//! Calls of a trivial handler that is loaded already, nothing cached: Python against functions-framework, Node against workerd.

use std::rc::Rc;

use serde_json::{Value, json};

use super::http::{Exchanges, post};
use super::load::{Sample, Target, load};
use super::peers::{Peer, Peers};
use super::platform::{Function, Platform};
use super::report::{self, Row};
use super::{Plan, alternate};

/// The Python handler.
pub const PYTHON_SOURCE: &str = "def handler(event, context):\n    return {\"ok\": True, \"n\": event[\"n\"]}\n";

/// The Node handler.
pub const NODE_SOURCE: &str = "exports.handler = (event) => ({ ok: true, n: event.n });\n";

/// Connections where more than one is asked for.
const CONNECTIONS: usize = 16;

/// One instance that takes one call at a time: what a call costs, alone.
const PYTHON_ALONE: Function<'_> = Function {
    name: "python-alone",
    manifest: "runtime = \"python3\"\nhandler = \"main.handler\"\n[scaling]\nmin = 1\nmax = 1\nconcurrency = 1\n",
    file: "main.py",
    source: PYTHON_SOURCE,
};

/// Two instances for sixteen connections, eight each, so that no call waits in the gateway.
const PYTHON_SHARED: Function<'_> = Function {
    name: "python-shared",
    manifest: "runtime = \"python3\"\nhandler = \"main.handler\"\n[scaling]\nmin = 2\nmax = 2\nconcurrency = 8\n",
    file: "main.py",
    source: PYTHON_SOURCE,
};

/// The same for Node.
const NODE_SHARED: Function<'_> = Function {
    name: "node-shared",
    manifest: "runtime = \"node\"\nhandler = \"main.handler\"\n[scaling]\nmin = 2\nmax = 2\nconcurrency = 8\n",
    file: "main.js",
    source: NODE_SOURCE,
};

/// One connection, the median latency.
///
/// # Errors
/// The peer is missing, or a server fails.
pub fn python_latency(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let peer = peers.functions_framework()?;
    let platform = platform_with(&PYTHON_ALONE, 1)?;
    let (ours, theirs) = (called(&platform, PYTHON_ALONE.name)?, asked(&peer)?);
    let p50 = |target: &Target| Ok(load(target, 1, plan.lasting)?.p50_us());
    let series = alternate(
        plan,
        "python",
        vec![("raas", Box::new(|| p50(&ours))), ("functions-framework", Box::new(|| p50(&theirs)))],
    )?;
    if let [ours, theirs] = &series[..] {
        let what = "warm Python handler, 1 connection, p50";
        rows.push(Row::new(
            "python",
            what,
            "µs",
            report::Target::TimesPeerAtMost(0.35),
            ours.clone(),
            Some(theirs.clone()),
        ));
    }
    Ok(())
}

/// Sixteen connections, answers a second.
///
/// # Errors
/// The peer is missing, or a server fails.
pub fn python_rate(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let peer = peers.functions_framework()?;
    let target = report::Target::TimesPeerAtLeast(8.0);
    rate(plan, "python-rate", &PYTHON_SHARED, ("functions-framework", &peer), target, rows)
}

/// Sixteen connections, answers a second.
///
/// # Errors
/// The peer is missing, or a server fails.
pub fn node_rate(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let peer = peers.workerd()?;
    rate(plan, "node", &NODE_SHARED, ("workerd", &peer), report::Target::TimesPeerAbove(1.0), rows)
}

fn rate(
    plan: &Plan,
    figure: &'static str,
    function: &Function<'_>,
    (name, peer): (&'static str, &Peer),
    target: report::Target,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let platform = platform_with(function, 2)?;
    let (ours, theirs) = (called(&platform, function.name)?, asked(peer)?);
    let rate = |target: &Target| Ok(load(target, CONNECTIONS, plan.lasting)?.rate);
    let series = alternate(plan, figure, vec![("raas", Box::new(|| rate(&ours))), (name, Box::new(|| rate(&theirs)))])?;
    if let [ours, theirs] = &series[..] {
        let what = format!("warm handler, {CONNECTIONS} connections, 2 instances of concurrency 8, against {name}");
        rows.push(Row::new(figure, what, "req/s", target, ours.clone(), Some(theirs.clone())));
    }
    Ok(())
}

/// A platform with this function and so many instances of it, and no pools that could stir meanwhile.
fn platform_with(function: &Function<'_>, instances: u64) -> anyhow::Result<Platform> {
    let platform = Platform::start("raas up", &[("RAAS_POOL_PYTHON3", "0"), ("RAAS_POOL_NODE", "0")])?;
    platform.deploy(function)?;
    platform.settle("its instances", |figures| figures.instances == instances)?;
    Ok(platform)
}

fn called(platform: &Platform, function: &str) -> anyhow::Result<Target> {
    target(platform.address, |event| platform.invocation(function, event))
}

fn asked(peer: &Peer) -> anyhow::Result<Target> {
    target(peer.address, |event| post(peer.address, "/", None, event))
}

fn target(address: std::net::SocketAddr, request: impl Fn(&str) -> Vec<u8>) -> anyhow::Result<Target> {
    let mut exchanges = Exchanges::connect(address)?;
    let sample = |n: u32| -> anyhow::Result<Sample> {
        let event = json!({ "n": n });
        let expected: Value = json!({ "ok": true, "n": n });
        Sample::probe(&mut exchanges, request(&event.to_string()), &expected)
    };
    let samples = super::cached::EVENTS.map(sample).collect::<anyhow::Result<Rc<[_]>>>()?;
    Ok(Target { address, samples })
}
