//! A call, from a resolved version to its answer: result, flight, instance, metering. The paragraph of DESIGN's data path.
//!
//! It must not know HTTP: the gateway makes a [`Call`] of a request and a response of an [`Answer`]; asynchronous invocations
//! and, later, precomputation come in by the same door.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_contract::Invoke;
use raas_core::manifest::CacheMode;
use raas_core::{
    CanonicalEvent, Clock, FunctionId, InstanceId, InvocationId, ResultKey, ServedBy, TenantId, TimestampUs,
    UsageEvent, limits,
};
use raas_results::{Flights, Joined, MemoryTier, StoredResult};
use tokio_util::task::TaskTracker;

use crate::detached::RunToEnd;
use crate::durations::CallDurations;
use crate::helpers::{KeyLeases, KeyedLease};
use crate::logs::{LogTarget, LogWriter};
use crate::metering::{Metering, MeteringFull};
use crate::routing::{FunctionRoute, Principal, VersionRoute};
use crate::scheduler::{CallError, Lease, Scheduler, micros_since};
use crate::trace::{CallSpan, TraceContext, TraceExport};

/// How long a call may wait for an instance at least; a function with a longer timeout has its callers wait that long.
const QUEUE_WAIT_AT_LEAST: Duration = Duration::from_secs(30);

/// How often a call that is declared idempotent is done again when its instance dies under it.
const REPEATS_MAX: u32 = 2;

/// What a caller says about cached results (`Cache-Control` of the request).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerPolicy {
    /// Compute, even if there is a result; the new one is kept.
    pub no_cache: bool,
    /// Neither look for a result nor keep one.
    pub no_store: bool,
    /// Only an existing result will do.
    pub only_if_cached: bool,
    /// A result older than this is no use, seconds.
    pub max_age_s: Option<u64>,
}

/// One call of a function.
pub struct Call {
    /// Its id.
    pub id: InvocationId,
    /// Who calls, and pays.
    pub tenant: TenantId,
    /// What is called.
    pub function: Arc<FunctionRoute>,
    /// Which version of it.
    pub version: Arc<VersionRoute>,
    /// The event as sent: JSON text.
    pub event: Bytes,
    /// The same, checked and canonical; dropped once the result key is known.
    pub canonical: Option<CanonicalEvent>,
    /// What the caller says about cached results.
    pub policy: CallerPolicy,
    /// Where it stands in its trace.
    pub trace: TraceContext,
    /// When it arrived, by the wall clock.
    pub arrived_at: TimestampUs,
    /// When it arrived, for durations.
    pub arrived: Instant,
    /// Its place among the calls in progress.
    pub admitted: Admitted,
    /// How many calls of helpers it is inside of.
    pub depth: u8,
    /// The function or helper instance whose code calls, where code does.
    pub caller: Option<FunctionId>,
    /// When nobody wants the answer any more, where the caller's own time ends.
    pub deadline: Option<Instant>,
    /// The key that it is made under, and who may be, where a helper has one writer a key.
    pub key: Option<(String, Arc<KeyLeases>)>,
    /// The epochs of the helper instances that the function is bound to: part of its result's key.
    pub helper_epochs: Vec<u64>,
    /// Whether nobody has asked: it is computed so that its result is there when somebody does, and is nobody's usage.
    pub speculative: bool,
}

/// How a call relates to the result store, for `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The function declares no caching, or the caller wants none.
    Bypass,
    /// The caller asked for a new computation.
    Requested,
    /// Nothing fresh was kept.
    Miss {
        /// Whether the new result was kept.
        stored: bool,
    },
    /// Somebody was computing the same already.
    Collapsed,
    /// A kept result.
    Hit {
        /// Its age, seconds.
        age_s: u64,
        /// How long it is fresh still, seconds.
        ttl_s: u64,
    },
}

/// The answer to a call, whatever it is.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The result's JSON text, or why there is none.
    pub result: Result<Bytes, CallError>,
    /// Where it came from.
    pub served_by: ServedBy,
    /// What computing it took, when it was computed; microseconds.
    pub compute_us: u64,
    /// How it relates to the store.
    pub cache: CacheOutcome,
    /// Whether a sandbox had to be assigned or started for this call.
    pub cold_start: bool,
    /// Parts of the time this call took, microseconds.
    pub times: Times,
}

/// Parts of the time a call took, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Waiting for a place.
    pub queue_us: u64,
    /// Waiting for a sandbox and the code to load.
    pub cold_us: u64,
    /// In the instance.
    pub exec_us: u64,
    /// From arrival to answer.
    pub total_us: u64,
}

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
    result: Result<Arc<StoredResult>, CallError>,
    times: Times,
    cold_start: bool,
    stored: bool,
}

/// All that a call needs of the platform.
pub struct Invoker {
    /// Kept results.
    pub results: MemoryTier,
    /// What is being computed now.
    flights: Flights<ResultKey, Arc<Execution>>,
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
        results: MemoryTier,
        scheduler: Arc<Scheduler>,
        metering: Arc<Metering>,
        logs: LogWriter,
        traces: TraceExport,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            results,
            flights: Flights::default(),
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
        let cacheable = (call.version.manifest.cache.mode == CacheMode::Declared) && !call.policy.no_store;
        if call.policy.only_if_cached && (!cacheable || call.policy.no_cache) {
            return Err(InvokeError::NothingCached);
        }
        let Some(canonical) = canonical.filter(|_| cacheable) else {
            return self.compute(call, None, CacheOutcome::Bypass).await;
        };
        let key = call.version.result_key(&canonical, &call.helper_epochs);
        drop(canonical);
        if call.policy.no_cache {
            return self.compute(call, Some(key), CacheOutcome::Requested).await;
        }
        loop {
            if let Some(result) = self.fresh(&key, &call) {
                return self.answer_from(&call, &result);
            }
            if call.policy.only_if_cached {
                return Err(InvokeError::NothingCached);
            }
            match self.flights.join(key) {
                Joined::Leader(leader) => {
                    // A flight may have landed between the look and the join.
                    if let Some(result) = self.fresh(&key, &call) {
                        return self.answer_from(&call, &result);
                    }
                    let invoker = Arc::clone(self);
                    let flight = async move {
                        let (execution, answer) =
                            invoker.execute_and_meter(call, Some(key), CacheOutcome::Miss { stored: false }).await;
                        leader.land(execution);
                        answer
                    };
                    return RunToEnd::new(flight, &self.detached).await;
                }
                Joined::Follower(follower) => {
                    let limit =
                        queue_wait(&call.version) + Duration::from_secs(u64::from(call.version.manifest.timeout_s));
                    let landed = tokio::time::timeout(limit, follower.outcome())
                        .await
                        .map_err(|_| InvokeError::FollowTimeout)?;
                    if let Some(execution) = landed {
                        return self.answer_from_flight(&call, &execution);
                    }
                }
            }
        }
    }

    async fn compute(
        self: &Arc<Self>,
        call: Call,
        key: Option<ResultKey>,
        cache: CacheOutcome,
    ) -> Result<Answer, InvokeError> {
        let invoker = Arc::clone(self);
        let execution = async move { invoker.execute_and_meter(call, key, cache).await.1 };
        // The caller may leave: the work it began is finished, kept and metered all the same.
        RunToEnd::new(execution, &self.detached).await
    }

    fn fresh(&self, key: &ResultKey, call: &Call) -> Option<Arc<StoredResult>> {
        let now = self.clock.now();
        self.results
            .get(key, now)
            .filter(|result| call.policy.max_age_s.is_none_or(|most| now.since(result.stored_at).as_secs() <= most))
    }

    fn answer_from(&self, call: &Call, result: &StoredResult) -> Result<Answer, InvokeError> {
        let now = self.clock.now();
        let cache = CacheOutcome::Hit {
            age_s: now.since(result.stored_at).as_secs(),
            ttl_s: result.expires_at.since(now).as_secs(),
        };
        let times = Times { total_us: micros_since(call.arrived), ..Times::default() };
        let answer = Answer {
            result: Ok(result.body.clone()),
            served_by: if result.precomputed { ServedBy::Precomputed } else { ServedBy::Hit },
            compute_us: result.compute_us,
            cache,
            cold_start: false,
            times,
        };
        self.meter(call, &answer)?;
        Ok(answer)
    }

    fn answer_from_flight(&self, call: &Call, execution: &Execution) -> Result<Answer, InvokeError> {
        let total_us = micros_since(call.arrived);
        let answer = Answer {
            result: execution.result.as_ref().map(|result| result.body.clone()).map_err(Clone::clone),
            served_by: ServedBy::Coalesced,
            compute_us: execution.times.exec_us,
            cache: CacheOutcome::Collapsed,
            cold_start: false,
            // What a follower waits for is somebody else's execution: to itself it is waiting.
            times: Times { queue_us: total_us, total_us, ..Times::default() },
        };
        self.meter(call, &answer)?;
        Ok(answer)
    }

    async fn execute_and_meter(
        &self,
        call: Call,
        key: Option<ResultKey>,
        cache: CacheOutcome,
    ) -> (Arc<Execution>, Result<Answer, InvokeError>) {
        let execution = Arc::new(self.execute(&call, key).await);
        let cache = match cache {
            CacheOutcome::Miss { .. } => CacheOutcome::Miss { stored: execution.stored },
            other => other,
        };
        let answer = Answer {
            result: execution.result.as_ref().map(|result| result.body.clone()).map_err(Clone::clone),
            served_by: ServedBy::Computed,
            compute_us: execution.times.exec_us,
            cache,
            cold_start: execution.cold_start,
            times: Times { total_us: micros_since(call.arrived), ..execution.times },
        };
        let metered = self.meter(&call, &answer);
        (execution, metered.map(|()| answer).map_err(Into::into))
    }

    /// Runs the call in an instance, and keeps its result where there is a key.
    async fn execute(&self, call: &Call, key: Option<ResultKey>) -> Execution {
        let manifest = &call.version.manifest;
        let pool = &call.version.pool;
        let wait_until = Instant::now() + queue_wait(&call.version);
        // What others may wait for, too, is not cut short by one caller's time.
        let callers_own = call.deadline.filter(|_| key.is_none());
        let deadline = callers_own.map_or(wait_until, |deadline| deadline.min(wait_until));
        let trace_context = call.trace.to_text();
        let mut times = Times::default();
        let mut cold_start = false;
        let mut is_own = true;
        let mut repeats = 0;
        // No instance's, for what failed before there was one.
        let mut instance = InstanceId::from_bytes([0; 16]);
        let mut outcome =
            Err(CallError::Sandbox { began: false, detail: "every instance was gone before the call".into() });
        // Ends: each round takes a dead instance out of service, or waits for a place up to the deadline.
        while Instant::now() < deadline {
            let keyed = match &call.key {
                None => pool.acquire(deadline).await.map(Acquired::Free),
                Some((key, leases)) => leases.acquire(pool, key, call.id, deadline).await.map(Acquired::Keyed),
            };
            let acquired = match keyed {
                Ok(acquired) => acquired,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let lease = acquired.lease();
            // Served by the version that has taken over meanwhile: an answer, but not one of this version's.
            is_own = lease.is_of(pool);
            instance = lease.instance().id;
            times.queue_us += lease.queue_us;
            times.cold_us += lease.cold_us;
            cold_start |= lease.cold_start;
            let left = callers_own.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left_s = left.map_or(u64::MAX, |left| left.as_millis().div_ceil(1000) as u64);
            let limit_s = u64::from(manifest.timeout_s).min(left_s.max(1)) as u32;
            let deadline_unix_ms = self.clock.now().as_millis() + i64::from(limit_s) * 1000;
            let (called, exec_us) = lease
                .instance()
                .call(
                    Invoke {
                        invocation_id: call.id.as_bytes(),
                        deadline_unix_ms: u64::try_from(deadline_unix_ms).unwrap_or(0),
                        trace_context: &trace_context,
                        event: &call.event,
                        depth: call.depth,
                    },
                    limit_s,
                )
                .await;
            times.exec_us = exec_us;
            match called {
                Err(None) => {
                    // Or the next round would be given the same one.
                    lease.discard();
                    continue;
                }
                Err(Some(error)) => {
                    match &error {
                        CallError::Timeout { .. } if call.key.is_some() => {
                            // What still runs there must not write beside the key's next call.
                            lease.kill();
                        }
                        CallError::Timeout { .. } => lease.record(false),
                        CallError::Raised(_) => lease.record(true),
                        _ => {}
                    }
                    let lost = matches!(error, CallError::Crashed { .. } | CallError::Sandbox { began: true, .. });
                    outcome = Err(error);
                    if lost && call.version.idempotent && repeats < REPEATS_MAX {
                        // Declared to do the same when done twice: another instance does it.
                        repeats += 1;
                        lease.discard();
                        continue;
                    }
                }
                Ok(body) => {
                    lease.record(true);
                    outcome = Ok(body);
                }
            }
            break;
        }

        if let Err(error) = &outcome
            && !error.is_refusal()
        {
            let target = LogTarget { function: call.function.id, version: call.version.number, instance };
            self.logs.failure(target, Some(call.id), &error.account());
        }
        let mut stored = false;
        let result = outcome.and_then(|body| {
            if body.len() > limits::BODY_MAX_BYTES {
                return Err(CallError::Raised(raas_contract::FunctionError {
                    kind: "ResponseTooLarge".into(),
                    message: format!(
                        "the result has {} bytes; at most {} are allowed",
                        body.len(),
                        limits::BODY_MAX_BYTES
                    ),
                    stack: String::new(),
                    code: None,
                }));
            }
            if let Some(check) = call.version.result_check.as_ref().filter(|_| is_own) {
                check(&body).map_err(|problem| {
                    CallError::Raised(raas_contract::FunctionError {
                        kind: "InvalidResult".into(),
                        message: problem,
                        stack: String::new(),
                        code: None,
                    })
                })?;
            }
            let now = self.clock.now();
            let result = Arc::new(StoredResult {
                // A copy of its own: the frame it came in shares its memory with others.
                body: if key.is_some() { Bytes::copy_from_slice(&body) } else { body },
                function: call.function.id,
                version: call.version.number,
                compute_us: times.exec_us,
                precomputed: call.speculative,
                stored_at: now,
                expires_at: now.saturating_add(Duration::from_secs(u64::from(manifest.cache.ttl_s))),
            });
            if let Some(key) = key.filter(|_| is_own) {
                stored = self.results.put(key, Arc::clone(&result));
            }
            Ok(result)
        });
        Execution { result, times, cold_start, stored }
    }

    /// Records the call. Before the answer goes out: an answer that is not metered is not given.
    fn meter(&self, call: &Call, answer: &Answer) -> Result<(), MeteringFull> {
        if call.speculative {
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

/// A place in an instance: any, or that which has the call's key.
enum Acquired {
    Free(Lease),
    Keyed(KeyedLease),
}

impl Acquired {
    fn lease(&self) -> &Lease {
        match self {
            Self::Free(lease) => lease,
            Self::Keyed(keyed) => &keyed.lease,
        }
    }
}

fn queue_wait(version: &VersionRoute) -> Duration {
    QUEUE_WAIT_AT_LEAST.max(Duration::from_secs(u64::from(version.manifest.timeout_s)))
}

/// Bounds on calls in progress.
pub struct Admission {
    in_flight: Arc<AtomicU64>,
    in_flight_max: u64,
    tenant_in_flight_max: u64,
    event_bytes: Arc<AtomicU64>,
    event_bytes_max: u64,
    refused: AtomicU64,
}

/// A call's place among those in progress; given back when dropped.
pub struct Admitted {
    /// The counters of all calls and of the tenant's; none for a call within one that is counted already.
    counted: Option<(Arc<AtomicU64>, Arc<AtomicU64>)>,
    /// The event's share of the memory that all events may take, and how much that is.
    event: Option<(Arc<AtomicU64>, u64)>,
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The platform has all the calls it takes.
    #[error("the platform has as many calls in progress as it takes; try again in a moment")]
    Platform,
    /// The tenant has.
    #[error("this tenant has as many calls in progress as one tenant may; try again when some are answered")]
    Tenant,
}

impl Admission {
    /// Bounds for all tenants together and for one.
    pub fn new(in_flight_max: u32, tenant_in_flight_max: u32, events_max_mb: u32) -> Self {
        Self {
            in_flight: Arc::default(),
            in_flight_max: u64::from(in_flight_max),
            tenant_in_flight_max: u64::from(tenant_in_flight_max),
            event_bytes: Arc::default(),
            event_bytes_max: u64::from(events_max_mb) << 20,
            refused: AtomicU64::new(0),
        }
    }

    /// A place for one call.
    ///
    /// # Errors
    /// [`Refused`] when there is none.
    pub fn admit(&self, principal: &Principal) -> Result<Admitted, Refused> {
        let counters = (Arc::clone(&self.in_flight), Arc::clone(&principal.in_flight));
        let all = counters.0.fetch_add(1, Ordering::Relaxed);
        let tenant = counters.1.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted { counted: Some(counters), event: None };
        let refused = if all >= self.in_flight_max {
            Refused::Platform
        } else if tenant >= self.tenant_in_flight_max {
            Refused::Tenant
        } else {
            return Ok(admitted);
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(refused)
    }

    /// Room for an event of so many bytes, until the call ends.
    ///
    /// # Errors
    /// [`Refused::Platform`] when the events in progress take all the memory they may.
    pub fn reserve(&self, admitted: &mut Admitted, bytes: u64) -> Result<(), Refused> {
        let before = self.event_bytes.fetch_add(bytes, Ordering::Relaxed);
        admitted.event = Some((Arc::clone(&self.event_bytes), bytes));
        if before + bytes > self.event_bytes_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Platform);
        }
        Ok(())
    }

    /// Calls in progress.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// The place of a call that code makes while it is itself called: its caller's counts for both.
    pub fn within_a_call() -> Self {
        Self { counted: None, event: None }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((all, tenant)) = &self.counted {
            all.fetch_sub(1, Ordering::Relaxed);
            tenant.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some((bytes, reserved)) = &self.event {
            bytes.fetch_sub(*reserved, Ordering::Relaxed);
        }
    }
}
