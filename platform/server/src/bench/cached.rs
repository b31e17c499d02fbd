//! Cached answers over HTTP against a server that does nothing else, and against nginx's cache.

use std::rc::Rc;

use serde_json::json;

use super::bare;
use super::http::{Exchanges, post};
use super::load::{Sample, Target, load};
use super::peers::{Peers, ensure_hit};
use super::platform::{Function, Platform};
use super::report::{self, Row, Series};
use super::{Plan, Side, alternate};

/// Connections at once.
const CONNECTIONS: usize = 32;

/// Different events, all kept; their texts and their answers are equally long.
pub const EVENTS: std::ops::Range<u32> = 100..200;

/// The function: any will do, it is called once an event.
pub const FUNCTION: Function<'_> = Function {
    name: "cached",
    manifest: "runtime = \"python3\"\nhandler = \"main.handler\"\n[cache]\nmode = \"declared\"\nttl_s = 86400\n",
    file: "main.py",
    source: super::warm::PYTHON_SOURCE,
};

/// Measures.
///
/// # Errors
/// A server fails; the lack of nginx is an error only after the other row.
pub fn measure(plan: &Plan, peers: &Peers, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let platform = Platform::start("raas up", &[("RAAS_POOL_NODE", "0")])?;
    platform.deploy(&FUNCTION)?;
    let ours = kept_answers(&platform, FUNCTION.name)?;

    // The answer that the bare server gives is one of ours, byte for byte.
    let hit = platform.connect()?.exchange(&platform.invocation(FUNCTION.name, &event(EVENTS.start)))?;
    anyhow::ensure!(hit.header("raas-served-by") == Some("hit"), "the second answer is not a hit");
    let (_bare, address) = bare::start(&hit, folder.path())?;
    let path = format!("/v1/functions/{}/invocations", FUNCTION.name);
    let constant = answer(EVENTS.start);
    let mut exchanges = Exchanges::connect(address)?;
    // The key is sent along, so that the requests are the same bytes too.
    let samples = EVENTS
        .map(|n| Sample::probe(&mut exchanges, post(address, &path, Some(&platform.key), &event(n)), &constant))
        .collect::<anyhow::Result<Rc<[_]>>>()?;
    let bare = Target { address, samples };

    let nginx = peers.nginx_cache(address);
    let cache = match &nginx {
        Ok(nginx) => {
            let mut exchanges = Exchanges::connect(nginx.address)?;
            let request = |n| post(nginx.address, &path, Some(&platform.key), &event(n));
            for n in EVENTS {
                ensure_hit(&mut exchanges, &request(n))?;
            }
            let samples = EVENTS
                .map(|n| Sample::probe(&mut exchanges, request(n), &constant))
                .collect::<anyhow::Result<Rc<[_]>>>()?;
            Some(Target { address: nginx.address, samples })
        }
        Err(_) => None,
    };

    let rate = |target: &Target| Ok(load(target, CONNECTIONS, plan.lasting)?.rate);
    let mut sides: Vec<Side<'_>> = vec![("raas", Box::new(|| rate(&ours))), ("bare axum", Box::new(|| rate(&bare)))];
    if let Some(cache) = &cache {
        sides.push(("nginx proxy_cache", Box::new(|| rate(cache))));
    }
    let series: Vec<Series> = alternate(plan, "cached", sides)?;
    let what = |peer: &str| format!("cached answers, {CONNECTIONS} connections, against {peer}");
    if let [ours, bare, rest @ ..] = &series[..] {
        let target = report::Target::TimesPeerAtLeast(0.85);
        rows.push(Row::new(
            "cached",
            what("bare axum giving the same bytes"),
            "req/s",
            target,
            ours.clone(),
            Some(bare.clone()),
        ));
        if let [nginx] = rest {
            let target = report::Target::TimesPeerAbove(1.0);
            rows.push(Row::new(
                "cached",
                what("nginx proxy_cache keyed by body"),
                "req/s",
                target,
                ours.clone(),
                Some(nginx.clone()),
            ));
        }
    }
    nginx.map(|_| ())
}

/// Has every event computed once, and gives what to load the platform with.
///
/// # Errors
/// The function fails.
pub fn kept_answers(platform: &Platform, function: &str) -> anyhow::Result<Target> {
    let mut exchanges = platform.connect()?;
    let samples = EVENTS
        .map(|n| Sample::probe(&mut exchanges, platform.invocation(function, &event(n)), &answer(n)))
        .collect::<anyhow::Result<Rc<[_]>>>()?;
    Ok(Target { address: platform.address, samples })
}

fn event(n: u32) -> String {
    json!({ "n": n }).to_string()
}

fn answer(n: u32) -> serde_json::Value {
    json!({ "ok": true, "n": n })
}
