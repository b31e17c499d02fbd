//! A call, from a resolved version to its answer: result, flight, instance, metering. The paragraph of DESIGN's data path.
//!
//! It must not know HTTP: the gateway makes a [`Call`] of a request and a response of an [`Answer`]; asynchronous invocations
//! and, later, precomputation come in by the same door.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_core::manifest::CacheMode;
use raas_core::{Clock, ResultKey, ServedBy, UsageEvent};
use raas_results::predict::Found;
use raas_results::{
    Flights, Joined, Leader, ProofState, ResultKind, ResultStore, SharedFlight, Sought, Standing, StoredResult,
};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

mod call;
mod execute;

pub use call::{Answer, CacheOutcome, Call, CallerPolicy, KeptAs, Purpose, Times};

use crate::detached::RunToEnd;
use crate::durations::CallDurations;
use crate::logs::LogWriter;
use crate::metering::{Metering, MeteringFull};
use crate::precompute::{Observation, Precomputer};
use crate::proof::{Learnt, ProofCell, Prover, ProverTask, Sampled};
use crate::routing::VersionRoute;
use crate::scheduler::{CallError, Scheduler, micros_since};
use crate::trace::{CallSpan, TraceExport};

/// How long a call may wait for an instance at least; a function with a longer timeout has its callers wait that long.
const QUEUE_WAIT_AT_LEAST: Duration = Duration::from_secs(30);

/// How long another platform's execution is waited for at least.
const SHARED_WAIT_LEAST: Duration = Duration::from_secs(2);

/// Results that are computed anew in the background at once.
const REFRESHES_MAX: usize = 64;

/// How long a result whose refresh failed is left alone …
const REFRESH_REST: Duration = Duration::from_secs(1);

/// … and of how many results that is remembered.
const REFRESH_RESTS_MAX: u64 = 10_000;

/// Why a call has no answer at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvokeError {
    /// The caller wanted a kept result only, and there is none.
    #[error("no result of this event is kept, and the caller asked for a kept one only")]
    NothingCached,
    /// It could not be metered.
    #[error(transparent)]
    MeteringFull(#[from] MeteringFull),
    /// No outcome came within the function's own timeouts.
    #[error("no outcome came in time")]
    FollowTimeout,
}

/// What an execution came to, shared by the leader and all its followers.
#[derive(Debug, Clone)]
struct Execution {
    result: Result<Bytes, CallError>,
    times: Times,
    cold_start: bool,
    /// Whether the version that was called computed it, and not one that has taken over meanwhile.
    is_own: bool,
    /// Whether the runtime told what was read of the event.
    recorded: bool,
    /// What was read, where it was not the whole.
    learnt: Option<Learnt>,
    /// Under what it is kept.
    kept_under: Option<ResultKey>,
    /// What is kept of it, where anything is.
    kept: Option<Arc<StoredResult>>,
}

impl Execution {
    /// For those who wait for one and are given a kept result.
    fn of_kept(result: &Arc<StoredResult>) -> Self {
        Self {
            result: outcome_of(result),
            times: Times { exec_us: result.compute_us, ..Times::default() },
            cold_start: false,
            is_own: true,
            recorded: false,
            learnt: None,
            kept_under: None,
            kept: Some(Arc::clone(result)),
        }
    }
}

/// What came of computing something that nobody has asked for.
#[derive(Debug, Clone, Copy)]
pub struct Precomputed {
    /// Under what its result is kept, where it is.
    pub kept: Option<ResultKey>,
    /// What computing it took, microseconds.
    pub compute_us: u64,
}

/// All that a call needs of the platform.
pub struct Invoker {
    /// Kept results.
    pub results: ResultStore,
    /// What is being computed now.
    flights: Flights<(ResultKey, u64), Arc<Execution>>,
    /// Runs sampled calls again.
    pub prover: Prover,
    /// Computes what nobody has asked for yet.
    pub precomputer: Precomputer,
    /// Bounds what is computed anew in the background.
    refreshes: Arc<Semaphore>,
    /// Results whose refresh has just failed.
    refresh_rests: moka::sync::Cache<ResultKey, ()>,
    /// Instances.
    pub scheduler: Arc<Scheduler>,
    /// Usage events.
    pub metering: Arc<Metering>,
    /// Functions' log lines.
    pub logs: LogWriter,
    /// Spans for a collector.
    pub traces: TraceExport,
    /// How long answers took.
    pub durations: CallDurations,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Executions whose caller has gone.
    pub detached: TaskTracker,
}

impl Invoker {
    /// Puts the parts together.
    pub fn new(
        results: ResultStore,
        scheduler: Arc<Scheduler>,
        metering: Arc<Metering>,
        logs: LogWriter,
        traces: TraceExport,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            results,
            flights: Flights::default(),
            prover: Prover::default(),
            precomputer: Precomputer::default(),
            refreshes: Arc::new(Semaphore::new(REFRESHES_MAX)),
            refresh_rests: moka::sync::Cache::builder()
                .max_capacity(REFRESH_RESTS_MAX)
                .time_to_live(REFRESH_REST)
                .build(),
            scheduler,
            metering,
            logs,
            traces,
            durations: CallDurations::default(),
            clock,
            detached: TaskTracker::new(),
        }
    }

    /// Answers a call: from the store, from a flight that is under way, or by computing it.
    ///
    /// # Errors
    /// [`InvokeError`]; an error of the function is not one, but an [`Answer`].
    pub async fn invoke(self: &Arc<Self>, mut call: Call) -> Result<Answer, InvokeError> {
        let canonical = call.canonical.take();
        let cacheable = may_be_kept(&call.version) && !call.policy.no_store;
        if call.policy.only_if_cached && (!cacheable || call.policy.no_cache) {
            return Err(InvokeError::NothingCached);
        }
        let Some(canonical) = canonical.filter(|_| cacheable) else {
            return self.compute(call, None, CacheOutcome::Bypass).await;
        };
        let kept_as = KeptAs {
            key: call.version.result_key(&canonical, &call.helper_epochs),
            others: call.version.other_keys(&canonical, &call.helper_epochs),
            tags: call.version.tags(&canonical, call.function.tenant),
        };
        drop(canonical);
        if call.policy.no_cache {
            return self.compute(call, Some(kept_as), CacheOutcome::Requested).await;
        }
        loop {
            // What is handed out if there is nothing better.
            let mut old = None;
            match self.kept(&kept_as, &call) {
                Some((result, Standing::Fresh)) => return self.answer_from(&call, &result),
                Some((result, Standing::RefreshEarly | Standing::Stale)) => {
                    self.refresh(&call, &kept_as);
                    return self.answer_from(&call, &result);
                }
                Some((result, Standing::OnError)) => old = Some(result),
                None => {}
            }
            if call.policy.only_if_cached {
                return Err(InvokeError::NothingCached);
            }
            match self.flights.join(flight_key(&call, &kept_as)) {
                Joined::Leader(leader) => {
                    // A flight may have landed between the look and the join.
                    if let Some((result, Standing::Fresh)) = self.kept(&kept_as, &call) {
                        return self.answer_from(&call, &result);
                    }
                    // Boxed: it is large, and most calls never come here.
                    let flight = Box::pin(Arc::clone(self).lead(leader, call, kept_as, old));
                    return RunToEnd::new(flight, &self.detached).await;
                }
                Joined::Follower(follower) => {
                    let landed = tokio::time::timeout(follow_limit(&call.version), follower.outcome())
                        .await
                        .map_err(|_| InvokeError::FollowTimeout)?;
                    if let Some(execution) = landed {
                        // A kept one may be too old for this caller: it looks again, and computes.
                        if execution.kept.as_ref().is_some_and(|kept| !self.is_young_enough(kept, &call)) {
                            continue;
                        }
                        if execution.result.is_err() && old.is_none() {
                            old = self.kept(&kept_as, &call).map(|(result, _)| result);
                        }
                        return match old.filter(|_| old_will_do(&execution.result, &call.version)) {
                            Some(old) => self.answer_from(&call, &old),
                            None => self.answer_from_flight(&call, &execution),
                        };
                    }
                }
            }
        }
    }

    /// Comes by a result that memory does not have, for all who wait for it: from the tiers below, from another platform that
    /// is computing it, or by computing it.
    async fn lead(
        self: Arc<Self>,
        leader: Leader<(ResultKey, u64), Arc<Execution>>,
        call: Call,
        kept_as: KeptAs,
        mut old: Option<Arc<StoredResult>>,
    ) -> Result<Answer, InvokeError> {
        let compute_us = call.function.counters.compute_us.load(Ordering::Relaxed);
        let sought = Sought {
            key: kept_as.key,
            others: &kept_as.others,
            tenant: call.function.tenant,
            function: call.function.id,
            expected_us: (compute_us > 0).then_some(compute_us),
        };
        let below = self.results.get_below(&sought, self.clock.now()).await;
        match below.filter(|(result, _)| self.is_young_enough(result, &call)) {
            Some((result, Standing::OnError)) => old = Some(result),
            Some((result, standing)) => {
                leader.land(Arc::new(Execution::of_kept(&result)));
                if standing == Standing::Stale {
                    self.refresh(&call, &kept_as);
                }
                return self.answer_from(&call, &result);
            }
            None => {}
        }
        let until = Instant::now() + shared_wait(&call.version, sought.expected_us);
        let lease = match self.results.join_shared(&sought, self.clock.as_ref(), until).await {
            SharedFlight::Landed(result) if self.is_young_enough(&result, &call) => {
                leader.land(Arc::new(Execution::of_kept(&result)));
                return self.answer_from(&call, &result);
            }
            SharedFlight::Leader(lease) => Some(lease),
            SharedFlight::Landed(_) | SharedFlight::Alone => None,
        };
        let (execution, answer) =
            self.execute_and_meter(call, Some(kept_as), CacheOutcome::Miss { stored: false }, old).await;
        if let Some(lease) = lease {
            // The answer does not wait for what other platforms are to find.
            let kept = execution.kept.clone();
            self.detached.spawn(async move { lease.land(kept.as_deref()).await });
        }
        leader.land(execution);
        answer
    }

    /// Computes a result that nobody has asked for. Apart from flights: who asks meanwhile does not wait for what has no hurry.
    pub async fn precompute(&self, call: Call, kept_as: KeptAs) -> Precomputed {
        let execution = self.execute(&call, Some(&kept_as)).await;
        Precomputed { kept: execution.kept_under, compute_us: execution.times.exec_us }
    }

    fn observe_computed(&self, call: &Call, execution: &Execution) {
        if execution.result.is_ok() {
            let ttl = Duration::from_secs(u64::from(call.version.manifest.cache.ttl_s));
            self.observe(call, Found::Miss, execution.times.exec_us, ttl);
        }
    }

    /// Has a call learnt from, where its version wants to be computed ahead.
    fn observe(&self, call: &Call, found: Found, compute_us: u64, ttl: Duration) {
        if call.version.bank.is_none() || call.purpose != Purpose::Answer {
            return;
        }
        self.precomputer.observe(Observation {
            function: Arc::clone(&call.function),
            version: Arc::clone(&call.version),
            event: call.event.clone(),
            found,
            compute_us,
            ttl_us: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX),
            now_us: u64::try_from(self.clock.now().as_micros()).unwrap_or(0),
        });
    }

    /// Computes a result anew in the background, unless that is under way, or has just failed.
    fn refresh(self: &Arc<Self>, call: &Call, kept_as: &KeptAs) {
        if self.refresh_rests.contains_key(&kept_as.key) {
            return;
        }
        let Joined::Leader(leader) = self.flights.join(flight_key(call, kept_as)) else { return };
        // One may have landed between the look and the join.
        if let Some((_, Standing::Fresh)) = self.kept(kept_as, call) {
            return;
        }
        // With none to be had the next caller tries again.
        let Ok(permit) = Arc::clone(&self.refreshes).try_acquire_owned() else { return };
        let (invoker, kept_as) = (Arc::clone(self), kept_as.clone());
        let again = call.again(Purpose::Refresh, self.clock.now());
        self.detached.spawn(async move {
            let execution = invoker.execute(&again, Some(&kept_as)).await;
            if execution.kept.is_none() {
                invoker.refresh_rests.insert(kept_as.key, ());
            }
            leader.land(Arc::new(execution));
            drop(permit);
        });
    }

    async fn compute(
        self: &Arc<Self>,
        call: Call,
        kept_as: Option<KeptAs>,
        cache: CacheOutcome,
    ) -> Result<Answer, InvokeError> {
        let invoker = Arc::clone(self);
        let execution = async move { invoker.execute_and_meter(call, kept_as, cache, None).await.1 };
        // The caller may leave: the work it began is finished, kept and metered all the same.
        RunToEnd::new(execution, &self.detached).await
    }

    /// What is kept that the caller has any use for.
    fn kept(&self, kept_as: &KeptAs, call: &Call) -> Option<(Arc<StoredResult>, Standing)> {
        let mut best: Option<(Arc<StoredResult>, Standing)> = None;
        for key in std::iter::once(&kept_as.key).chain(&kept_as.others) {
            let found = self.results.get(key, self.clock.now(), fastrand::f64);
            let Some(found) = found.filter(|(result, _)| self.is_young_enough(result, call)) else { continue };
            if found.1 == Standing::Fresh {
                return Some(found);
            }
            if best.as_ref().is_none_or(|best| found.1 < best.1) {
                best = Some(found);
            }
        }
        best
    }

    fn is_young_enough(&self, result: &StoredResult, call: &Call) -> bool {
        let most = call.policy.max_age_s;
        most.is_none_or(|most| self.clock.now().since(result.stored_at).as_secs() <= most)
    }

    fn answer_from(&self, call: &Call, result: &StoredResult) -> Result<Answer, InvokeError> {
        let now = self.clock.now();
        let (left, past) = (result.fresh_until.since(now).as_secs(), now.since(result.fresh_until).as_secs());
        let cache = CacheOutcome::Hit {
            age_s: now.since(result.stored_at).as_secs(),
            ttl_s: i64::try_from(left).unwrap_or(i64::MAX) - i64::try_from(past).unwrap_or(i64::MAX),
        };
        let times = Times { total_us: micros_since(call.arrived), ..Times::default() };
        // Asked whatever it is served as: from now on it is a result like any other.
        let first_asked = call.purpose == Purpose::Answer && result.first_asked();
        let served_by = match (now < result.fresh_until, first_asked) {
            (false, _) => ServedBy::Stale,
            (true, true) => ServedBy::Precomputed,
            (true, false) => ServedBy::Hit,
        };
        let answer = Answer {
            result: outcome_of(result),
            served_by,
            compute_us: result.compute_us,
            cache,
            cold_start: false,
            times,
        };
        self.meter(call, &answer)?;
        self.observe(call, Found::Hit, result.compute_us, result.fresh_until.since(now));
        if let (Ok(body), Some(proof)) = (&answer.result, &call.version.proof)
            && served_by != ServedBy::Stale
            && proof.samples_hit()
        {
            self.offer(call, proof, body, None, Sampled::Hit);
        }
        Ok(answer)
    }

    /// Has a call run again, when there is time.
    fn offer(&self, call: &Call, proof: &Arc<ProofCell>, result: &Bytes, run: Option<&Execution>, sampled: Sampled) {
        let learnt = run.and_then(|run| run.learnt.as_ref()).filter(|learnt| !learnt.verified);
        self.prover.offer(ProverTask {
            function: Arc::clone(&call.function),
            version: Arc::clone(&call.version),
            proof: Arc::clone(proof),
            event: call.event.clone(),
            result: result.clone(),
            unverified: learnt.map(|learnt| Arc::clone(&learnt.parts)),
            recorded: run.is_some_and(|run| run.recorded),
            sampled,
        });
    }

    fn answer_from_flight(&self, call: &Call, execution: &Execution) -> Result<Answer, InvokeError> {
        let total_us = micros_since(call.arrived);
        let answer = Answer {
            result: execution.result.clone(),
            served_by: ServedBy::Coalesced,
            compute_us: execution.times.exec_us,
            cache: CacheOutcome::Collapsed,
            cold_start: false,
            // What a follower waits for is somebody else's execution: to itself it is waiting.
            times: Times { queue_us: total_us, total_us, ..Times::default() },
        };
        self.meter(call, &answer)?;
        self.observe_computed(call, execution);
        Ok(answer)
    }

    async fn execute_and_meter(
        &self,
        call: Call,
        kept_as: Option<KeptAs>,
        cache: CacheOutcome,
        old: Option<Arc<StoredResult>>,
    ) -> (Arc<Execution>, Result<Answer, InvokeError>) {
        let execution = Arc::new(self.execute(&call, kept_as.as_ref()).await);
        if let Some(old) = old.filter(|_| old_will_do(&execution.result, &call.version)) {
            let answer = self.answer_from(&call, &old);
            return (execution, answer);
        }
        let cache = match cache {
            CacheOutcome::Miss { .. } => CacheOutcome::Miss { stored: execution.kept.is_some() },
            other => other,
        };
        let answer = Answer {
            result: execution.result.clone(),
            served_by: ServedBy::Computed,
            compute_us: execution.times.exec_us,
            cache,
            cold_start: execution.cold_start,
            times: Times { total_us: micros_since(call.arrived), ..execution.times },
        };
        let metered = self.meter(&call, &answer);
        self.observe_computed(&call, &execution);
        if let (Ok(body), Some(proof)) = (&execution.result, &call.version.proof)
            && call.purpose == Purpose::Answer
            && !call.policy.no_store
            && execution.is_own
        {
            let unverified = execution.learnt.as_ref().is_some_and(|learnt| !learnt.verified);
            if proof.samples_call() {
                self.offer(&call, proof, body, Some(&execution), Sampled::Shadow);
            } else if unverified && proof.state() == ProofState::Serving {
                self.offer(&call, proof, body, Some(&execution), Sampled::Parts);
            }
        }
        (execution, metered.map(|()| answer).map_err(Into::into))
    }

    /// Records the call. Before the answer goes out: an answer that is not metered is not given.
    fn meter(&self, call: &Call, answer: &Answer) -> Result<(), MeteringFull> {
        if call.purpose != Purpose::Answer {
            return Ok(());
        }
        let counters = &call.function.counters;
        counters.served[answer.served_by.code() as usize].fetch_add(1, Ordering::Relaxed);
        let status = match &answer.result {
            Ok(_) => 200,
            Err(error) => {
                counters.errors.fetch_add(1, Ordering::Relaxed);
                error.status()
            }
        };
        if answer.result.as_ref().is_err_and(CallError::is_refusal) {
            // Nothing was answered by the function or its results: nobody pays for it.
            return Ok(());
        }
        let took = Duration::from_micros(answer.times.total_us);
        self.durations.record(answer.served_by, took);
        self.traces.record(CallSpan {
            context: &call.trace,
            invocation: call.id,
            function: &call.function.name,
            version: call.version.number,
            served_by: answer.served_by.as_str(),
            status,
            cold_start: answer.cold_start,
            took,
        });
        self.metering.record(&UsageEvent {
            invocation: call.id,
            tenant: call.tenant,
            function: call.function.id,
            caller: call.caller,
            version: call.version.number,
            served_by: answer.served_by,
            status,
            started_us: call.arrived_at.as_micros(),
            queue_us: u32::try_from(answer.times.queue_us).unwrap_or(u32::MAX),
            cold_us: u32::try_from(answer.times.cold_us).unwrap_or(u32::MAX),
            exec_us: answer.times.exec_us,
            total_us: answer.times.total_us,
            memory_mb: call.version.manifest.memory_mb,
            bytes_in: call.event.len() as u64,
            bytes_out: answer.result.as_ref().map_or(0, |body| body.len() as u64),
            cold_start: answer.cold_start,
        })
    }
}

/// Whether results of a version are kept at all.
pub fn may_be_kept(version: &VersionRoute) -> bool {
    match version.manifest.cache.mode {
        CacheMode::Off => false,
        CacheMode::Declared => true,
        CacheMode::Proven => version.proof.as_ref().is_some_and(|proof| proof.state() == ProofState::Serving),
    }
}

/// Which flight a call may join: none that a purge came after.
fn flight_key(call: &Call, kept_as: &KeptAs) -> (ResultKey, u64) {
    (kept_as.key, call.function.counters.purges.load(Ordering::Relaxed))
}

/// What a kept result says.
fn outcome_of(result: &StoredResult) -> Result<Bytes, CallError> {
    match result.kind {
        ResultKind::Value => Ok(result.body.clone()),
        ResultKind::Error => Err(match serde_json::from_slice(&result.body) {
            Ok(error) => CallError::Raised(error),
            Err(error) => CallError::ContractBroken(format!("a kept error cannot be read: {error}")),
        }),
    }
}

/// Whether a result past its time is better than what came of computing it: any failure that is not itself a kept answer.
fn old_will_do(result: &Result<Bytes, CallError>, version: &VersionRoute) -> bool {
    match result {
        Ok(_) => false,
        Err(CallError::Raised(error)) if version.manifest.cache.errors.contains(&error.kind) => false,
        Err(error) => !matches!(error.status(), 404 | 422),
    }
}

/// How long who waits for another's execution does: as long as that may wait for another platform's, and then take itself.
fn follow_limit(version: &VersionRoute) -> Duration {
    let timeout = Duration::from_secs(u64::from(version.manifest.timeout_s));
    queue_wait(version) + timeout + shared_wait(version, None)
}

/// How long another platform's execution is waited for: several times what one is expected to take, for it may have to wait for an
/// instance, and at most what one may take.
fn shared_wait(version: &VersionRoute, expected_us: Option<u64>) -> Duration {
    let timeout = Duration::from_secs(u64::from(version.manifest.timeout_s));
    expected_us.map_or(timeout, |us| (SHARED_WAIT_LEAST + 4 * Duration::from_micros(us)).min(timeout))
}

fn queue_wait(version: &VersionRoute) -> Duration {
    QUEUE_WAIT_AT_LEAST.max(Duration::from_secs(u64::from(version.manifest.timeout_s)))
}
