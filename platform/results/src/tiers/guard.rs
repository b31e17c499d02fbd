//! A lower tier under guard: with a deadline, a breaker, its own measured latency, and writes behind the call's back.
//!
//! Whatever happens to the tier costs hits and never an error: a question that fails is a miss, a write that finds no room is
//! dropped, and both are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_core::{FunctionId, ResultKey, TenantId, TimestampUs};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::envelope::{Sealer, Unreadable};
use super::{Entry, LowerTier, TierError};
use crate::purges::Purge;
use crate::result::StoredResult;

/// How long a tier may take to answer one question. Less than most computations that are worth keeping there.
const ASK_WITHIN: Duration = Duration::from_millis(100);

/// How long one batch of writes may take.
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// Failures in a row that open the breaker …
const FAILURES_TO_OPEN: u32 = 3;

/// … for this long the first time, doubled by each further failure …
const OPEN_FOR: Duration = Duration::from_millis(500);

/// … up to this.
const OPEN_FOR_MAX: Duration = Duration::from_secs(30);

/// Of the questions that do not seem worth it one in so many is asked.
const ASKED_ANYWAY: u32 = 64;

/// How long what was measured counts: a tier that was slow once must not be taken for a slow one while nobody asks it.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// Bytes of entries that are written at once: what is asked meanwhile waits for no more.
const BATCH_MAX_BYTES: usize = 1 << 20;

/// Entries that wait to be written; more are dropped.
const WRITES_WAITING_MAX: usize = 4_096;

/// Bytes of results that wait to be written, together.
const WRITES_WAITING_MAX_BYTES: u64 = 64 << 20;

/// Entries written at once.
const BATCH_MAX: usize = 256;

/// What has happened to a tier since the platform started.
#[derive(Debug, Default)]
pub struct TierCounts {
    /// Questions that found an entry.
    pub hits: AtomicU64,
    /// Questions that found none.
    pub misses: AtomicU64,
    /// Questions and writes that failed, or took too long.
    pub failures: AtomicU64,
    /// Questions that were not asked because the breaker was open.
    pub skipped: AtomicU64,
    /// Entries that were found and could not be read.
    pub unreadable: AtomicU64,
    /// Entries written.
    pub written: AtomicU64,
    /// Entries that found no room among those that wait to be written, or whose writing failed.
    pub dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
}

/// A tier under guard.
pub struct GuardedTier {
    tier: Arc<dyn LowerTier>,
    /// What a question takes, moving average, microseconds, and when that was measured last, milliseconds after `made_at`.
    latency_us: AtomicU32,
    measured_at_ms: AtomicU64,
    made_at: Instant,
    breaker: Mutex<Breaker>,
    /// Questions that did not seem worth it.
    asked: AtomicU32,
    sealer: Arc<Sealer>,
    writes: mpsc::Sender<(ResultKey, Arc<StoredResult>)>,
    waiting_bytes: AtomicU64,
    /// Whether the last write failed: said once, not for every batch.
    writes_fail: AtomicBool,
    /// What has happened to it.
    pub counts: TierCounts,
}

/// Writes what waits, until it is told to end and nothing waits any more.
pub struct TierWriter {
    tier: Arc<GuardedTier>,
    results: mpsc::Receiver<(ResultKey, Arc<StoredResult>)>,
}

impl GuardedTier {
    /// A tier, and what must run for it to be written to.
    pub fn new(tier: Arc<dyn LowerTier>, sealer: Arc<Sealer>) -> (Arc<Self>, TierWriter) {
        let (writes, results) = mpsc::channel(WRITES_WAITING_MAX);
        let latency_us = AtomicU32::new(tier.expected_latency_us());
        let guarded = Arc::new(Self {
            tier,
            latency_us,
            measured_at_ms: AtomicU64::new(0),
            made_at: Instant::now(),
            breaker: Mutex::default(),
            asked: AtomicU32::new(1),
            sealer,
            writes,
            waiting_bytes: AtomicU64::new(0),
            writes_fail: AtomicBool::new(false),
            counts: TierCounts::default(),
        });
        (Arc::clone(&guarded), TierWriter { tier: guarded, results })
    }

    /// Its name, for people and metrics.
    pub fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// What a question takes at the moment, microseconds.
    pub fn latency_us(&self) -> u64 {
        self.measured_us(self.made_at.elapsed()).unwrap_or_else(|| u64::from(self.tier.expected_latency_us()))
    }

    /// The moving average, where it is not too old at a time after `made_at`.
    fn measured_us(&self, now: Duration) -> Option<u64> {
        let at = Duration::from_millis(self.measured_at_ms.load(Ordering::Relaxed));
        (now < at + MEASURED_FOR).then(|| u64::from(self.latency_us.load(Ordering::Relaxed)))
    }

    fn measured(&self, took_us: u64) {
        let now = self.made_at.elapsed();
        let average = self.measured_us(now).map_or(took_us, |before| (before * 7 + took_us) / 8);
        self.latency_us.store(u32::try_from(average).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
        self.measured_at_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether a result that took so long to compute is worth asking for, or writing, here: fetching it must take clearly less.
    pub fn is_worth(&self, compute_us: u64) -> bool {
        // One in so many is asked all the same: what a question takes now is known by asking only.
        compute_us >= 2 * self.latency_us() || self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(ASKED_ANYWAY)
    }

    /// Whether the breaker keeps questions back. Once it has been open for its time it lets one through, and the others wait for
    /// how that one ends.
    fn holds_back(&self) -> bool {
        let mut breaker = self.breaker.lock();
        match breaker.open_until {
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                // The next ones wait for how this one ends.
                breaker.open_until = Some(Instant::now() + ASK_WITHIN);
                false
            }
            None => false,
        }
    }

    fn note(&self, failed: bool) {
        let mut breaker = self.breaker.lock();
        if !failed {
            if breaker.open_until.is_some() {
                tracing::info!(tier = self.name(), "the tier answers again");
            }
            *breaker = Breaker::default();
            return;
        }
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        breaker.failures = breaker.failures.saturating_add(1);
        if let Some(beyond) = breaker.failures.checked_sub(FAILURES_TO_OPEN) {
            let open_for = OPEN_FOR.saturating_mul(2u32.saturating_pow(beyond.min(16))).min(OPEN_FOR_MAX);
            if beyond == 0 {
                tracing::warn!(
                    tier = self.name(),
                    "the tier does not answer and is left alone for a while: results are computed instead"
                );
            }
            breaker.open_until = Some(Instant::now() + open_for);
        }
    }

    /// Asks the tier something within its deadline. Nothing where it failed, or the breaker is open.
    pub async fn ask<T>(&self, question: impl Future<Output = Result<T, TierError>>) -> Option<T> {
        if self.holds_back() {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let begun = Instant::now();
        let answer = match tokio::time::timeout(ASK_WITHIN, question).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(tier = self.name(), error = %error, "a tier failed");
                None
            }
            Err(_) => None,
        };
        self.note(answer.is_none());
        if answer.is_some() {
            self.measured(begun.elapsed().as_micros() as u64);
        }
        answer
    }

    /// The result of a key, whatever may be done with it. One that cannot be read is none.
    pub async fn get(&self, tenant: TenantId, function: FunctionId, key: &ResultKey) -> Option<StoredResult> {
        if !self.tier.may_hold(function) {
            return None;
        }
        let Some(entry) = self.ask(self.tier.get(key)).await? else {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        match self.sealer.open(key, tenant, &entry) {
            Ok(result) => {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                Some(result)
            }
            Err(unreadable) => {
                self.counts.unreadable.fetch_add(1, Ordering::Relaxed);
                if unreadable == Unreadable::Corrupt {
                    tracing::warn!(tier = self.name(), "a kept result is corrupt and is computed instead");
                    self.remove(key).await;
                }
                None
            }
        }
    }

    /// Removes the entry of a key, if the tier answers.
    pub async fn remove(&self, key: &ResultKey) {
        self.ask(self.tier.remove(key)).await;
    }

    /// Removes what it can find of a purge.
    pub async fn purge(&self, purge: Purge) {
        match purge {
            Purge::Key(_, key) => self.ask(self.tier.remove(&key)).await,
            Purge::Function(function) => self.ask(self.tier.remove_function(function)).await,
            Purge::Version(..) | Purge::Tag(..) | Purge::TenantTag(..) | Purge::Tenant(_) => None,
        };
    }

    /// Whether a result is worth keeping here.
    fn keeps(&self, result: &StoredResult, now: TimestampUs) -> bool {
        self.is_worth(result.compute_us) && result.keep_until().since(now) >= self.tier.least_time_left()
    }

    /// Has a result written soon, if it is worth it and there is room among those that wait.
    pub fn put_behind(&self, key: ResultKey, result: &Arc<StoredResult>, now: TimestampUs) {
        if !self.keeps(result, now) {
            return;
        }
        let bytes = result.body.len() as u64;
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > WRITES_WAITING_MAX_BYTES || self.writes.try_send((key, Arc::clone(result))).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a result at once, within the deadline of a question, whatever it is worth. Returns whether it is there.
    pub async fn put_now(&self, key: &ResultKey, result: &StoredResult) -> bool {
        let Some(entry) = self.entry(key, result) else { return false };
        let written = self.ask(self.tier.put(vec![entry])).await.is_some();
        let count = if written { &self.counts.written } else { &self.counts.dropped };
        count.fetch_add(1, Ordering::Relaxed);
        written
    }

    fn entry(&self, key: &ResultKey, result: &StoredResult) -> Option<Entry> {
        Some(Entry {
            key: *key,
            function: result.function,
            bytes: self.sealer.seal(key, result)?,
            compute_us: result.compute_us,
            stored_at: result.stored_at,
            keep_until: result.keep_until(),
        })
    }

    async fn write(self: &Arc<Self>, batch: Vec<(ResultKey, Arc<StoredResult>)>) {
        let (count, bytes) = (batch.len() as u64, batch.iter().map(|(_, result)| result.body.len() as u64).sum());
        let failure =
            if self.holds_back() { Some("it is left alone for a while".to_owned()) } else { self.put(batch).await };
        match (&failure, self.writes_fail.swap(failure.is_some(), Ordering::Relaxed)) {
            (Some(failure), false) => {
                tracing::warn!(tier = self.name(), error = %failure, "results cannot be written: they stay in memory only");
            }
            (None, true) => tracing::info!(tier = self.name(), "results are written again"),
            _ => {}
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let counted = if failure.is_none() { &self.counts.written } else { &self.counts.dropped };
        counted.fetch_add(count, Ordering::Relaxed);
    }

    /// Seals and puts; tells what went wrong.
    async fn put(self: &Arc<Self>, batch: Vec<(ResultKey, Arc<StoredResult>)>) -> Option<String> {
        let guard = Arc::clone(self);
        // Large ones take milliseconds each.
        let sealing = tokio::task::spawn_blocking(move || {
            batch.iter().filter_map(|(key, result)| guard.entry(key, result)).collect::<Vec<_>>()
        });
        let Ok(entries) = sealing.await else { return Some("sealing was cut off".to_owned()) };
        let failure = match tokio::time::timeout(WRITE_WITHIN, self.tier.put(entries)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("nothing was written within {} s", WRITE_WITHIN.as_secs())),
        };
        self.note(failure.is_some());
        failure
    }
}

impl TierWriter {
    /// Runs until `ended`, and then until nothing waits.
    pub async fn run(mut self, ended: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // Ends: after `ended` nothing is added any more, and each round takes something.
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.results.recv_many(&mut batch, BATCH_MAX) => taken,
                () = ended.cancelled() => 0,
            };
            if taken == 0 {
                return;
            }
            let mut part = Vec::new();
            let mut bytes = 0;
            for (key, result) in batch.drain(..) {
                bytes += result.body.len();
                part.push((key, result));
                if bytes >= BATCH_MAX_BYTES {
                    self.tier.write(std::mem::take(&mut part)).await;
                    bytes = 0;
                }
            }
            if !part.is_empty() {
                self.tier.write(part).await;
            }
            // What comes together is written together.
            tokio::select! {
                () = tokio::time::sleep(self.tier.tier.gather_for()) => {}
                () = ended.cancelled() => {}
            }
        }
    }
}
