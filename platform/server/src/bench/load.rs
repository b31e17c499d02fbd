//! The load generator: keep-alive connections on one thread, each sending its next request when the answer is there.
//!
//! It costs every side the same: requests are bytes built beforehand, an answer is a status line, a Content-Length and a
//! comparison with the body that is expected. Anything else than the expected answer ends the load with an error.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::histogram::Histogram;
use super::http::{Exchanges, parse};

/// How long before the measuring begins, so that connections, caches and clock rates have settled.
const WARM_UP: Duration = Duration::from_millis(500);

/// How much longer than planned a load may take before it is given up.
const GRACE: Duration = Duration::from_secs(30);

/// A request and what must come back.
#[derive(Debug, Clone)]
pub struct Sample {
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Sample {
    /// Sends the request once and takes what comes back for what must come back, if it is the value expected.
    ///
    /// # Errors
    /// No answer, or another value.
    pub fn probe(exchanges: &mut Exchanges, request: Vec<u8>, expected: &serde_json::Value) -> anyhow::Result<Self> {
        let reply = exchanges.exchange(&request)?;
        let value: serde_json::Value = serde_json::from_slice(&reply.body).context("the answer is not JSON")?;
        ensure!(value == *expected, "the answer is {value}, not {expected}");
        Ok(Self { request, body: reply.body })
    }
}

/// A server under load.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is asked, in turn.
    pub samples: Rc<[Sample]>,
}

/// What a load came to.
pub struct Measured {
    /// Answers a second.
    pub rate: f64,
    /// Their latencies.
    pub latencies: Histogram,
}

impl Measured {
    /// The median latency, microseconds.
    pub fn p50_us(&self) -> f64 {
        self.latencies.quantile(0.5) / 1000.0
    }
}

/// Puts a load on a server for so long and counts what it answers.
///
/// # Errors
/// An answer is not the one expected, a connection ends, or the server hangs.
pub fn load(target: &Target, connections: usize, lasting: Duration) -> anyhow::Result<Measured> {
    ensure!(!target.samples.is_empty(), "there is nothing to ask");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let from = Instant::now() + WARM_UP;
    let until = from + lasting;
    let work = async {
        let mut running = JoinSet::new();
        for place in 0..connections {
            running.spawn_local(ask(target.clone(), place, from, until));
        }
        let mut latencies = Histogram::default();
        while let Some(ended) = running.join_next().await {
            latencies.merge(&ended??);
        }
        anyhow::Ok(latencies)
    };
    let latencies = local
        .block_on(&runtime, async { tokio::time::timeout(WARM_UP + lasting + GRACE, work).await })
        .context("the server under load hangs")??;
    ensure!(latencies.count() > 0, "the server under load answered nothing");
    Ok(Measured { rate: latencies.count() as f64 / lasting.as_secs_f64(), latencies })
}

/// One connection: asks until the time is over.
async fn ask(target: Target, place: usize, from: Instant, until: Instant) -> anyhow::Result<Histogram> {
    let mut stream =
        TcpStream::connect(target.address).await.with_context(|| format!("cannot connect to {}", target.address))?;
    stream.set_nodelay(true)?;
    let mut latencies = Histogram::default();
    let mut buffer = vec![0; 64 * 1024];
    let samples = &target.samples;
    // Connections begin at different places, so that they do not ask the same at the same time.
    let mut next = place * samples.len() / 7;
    let mut asked = Instant::now();
    while asked < until {
        let sample = &samples[next % samples.len()];
        next += 1;
        stream.write_all(&sample.request).await?;
        let mut filled = 0;
        let extent = loop {
            match stream.read(&mut buffer[filled..]).await? {
                0 => anyhow::bail!("the server under load closed a connection"),
                read => filled += read,
            }
            match parse(&buffer[..filled])? {
                Some(extent) => break extent,
                None => ensure!(filled < buffer.len(), "an answer under load is over {} bytes", buffer.len()),
            }
        };
        let answered = Instant::now();
        let body = &buffer[extent.body..extent.end];
        ensure!(
            extent.status == 200 && body == sample.body && extent.end == filled,
            "under load an answer was {}: {}",
            extent.status,
            String::from_utf8_lossy(&body[..body.len().min(500)])
        );
        if asked >= from && answered <= until {
            latencies.record(u64::try_from((answered - asked).as_nanos()).unwrap_or(u64::MAX));
        }
        asked = answered;
    }
    Ok(latencies)
}
