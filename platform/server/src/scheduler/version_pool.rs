//! The instances of one version: who gets a free one, who waits, when another is started, and when one is let go.
//!
//! All decisions are taken under one short lock, on counters in memory. The rules: a call takes the free instance with the
//! fewest calls in it; else it waits in turn, and instances are started for what waits beyond what is starting, up to the
//! maximum; a freed place goes to the longest wait. So no call is refused because an instance is still waking.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_contract::Loaded;
use raas_core::{InstanceId, limits};
use raas_helpers::Breaker;
use tokio::sync::oneshot;

use super::error::CallError;
use super::instance::{Instance, InstanceStatus, micros_since};
use super::launch::{Launcher, Purpose};
use super::lifecycle::Phase;
use super::version_spec::VersionSpec;

mod replicas;

use replicas::Health;

/// How long to wait before the minimum is tried again after an instance failed to start.
const MINIMUM_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Instances of a minimum that are started at once, so that calls of others are not held up by them.
const MINIMUM_STARTS_AT_ONCE: u32 = 4;

/// How long a helper is left alone after its first failed start; doubled by each further one …
const START_BACK_OFF: Duration = Duration::from_millis(500);

/// … up to this.
const START_BACK_OFF_MAX: Duration = Duration::from_secs(30);

struct Slot {
    instance: Arc<Instance>,
    in_flight: u32,
    idle_since: Instant,
    /// Takes no more calls.
    draining: bool,
    /// How its calls have ended, where it is a helper's.
    breaker: Breaker,
    health: Health,
}

struct Waiter {
    /// The one instance that will do, while it lives.
    wanted: Option<InstanceId>,
    grant: oneshot::Sender<Result<Grant, CallError>>,
}

/// A place in an instance, on its way to a caller. Given back if the caller is gone.
struct Grant {
    lease: Lease,
    cold_us: u64,
}

/// Starts that failed one after another.
struct Failure {
    error: CallError,
    count: u32,
    at: Instant,
}

impl Failure {
    /// How long a helper that does not start is left alone: callers are told the last failure meanwhile.
    fn back_off(&self) -> Duration {
        (START_BACK_OFF * 2u32.saturating_pow(self.count.saturating_sub(1))).min(START_BACK_OFF_MAX)
    }
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    starting: u32,
    waiters: VecDeque<Waiter>,
    closed: bool,
    /// Who serves the calls that still come here.
    successor: Option<Arc<VersionPool>>,
    /// How many instances are kept even when idle.
    minimum: u32,
    retry_minimum_at: Option<Instant>,
    /// The last start's failure, where none has succeeded since.
    failure: Option<Failure>,
    /// Whether the scheduler looks after this pool.
    watched: bool,
    /// Whether the last instance was let go because nobody called.
    suspended: bool,
}

impl State {
    fn is_serving(&self, id: InstanceId) -> bool {
        self.slots.iter().any(|slot| slot.instance.id == id && !slot.draining)
    }
}

/// The instances of one version.
pub struct VersionPool {
    spec: VersionSpec,
    launcher: Arc<Launcher>,
    state: Mutex<State>,
}

/// One place in one instance. Dropping it gives the place back.
pub struct Lease {
    pool: Arc<VersionPool>,
    instance: Arc<Instance>,
    /// How long the call waited for a free place, microseconds, start-up apart.
    pub queue_us: u64,
    /// How long the call waited for a sandbox to be assigned and the code to load, microseconds.
    pub cold_us: u64,
    /// Whether a sandbox had to be assigned or started for it.
    pub cold_start: bool,
    /// Whether dropping it gives the place back.
    armed: bool,
}

impl VersionPool {
    pub(super) fn new(spec: VersionSpec, launcher: Arc<Launcher>) -> Arc<Self> {
        Arc::new(Self { spec, launcher, state: Mutex::default() })
    }

    /// What is run.
    pub fn spec(&self) -> &VersionSpec {
        &self.spec
    }

    /// The instances that run.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.state.lock().slots.iter().map(|slot| Arc::clone(&slot.instance)).collect()
    }

    /// How many instances are kept even when idle.
    pub fn set_minimum(self: &Arc<Self>, minimum: u32) {
        let newly_watched = {
            let mut state = self.state.lock();
            state.minimum = minimum;
            minimum > 0 && !std::mem::replace(&mut state.watched, true)
        };
        self.watch(newly_watched);
        self.keep_minimum();
    }

    /// Has the scheduler look after this pool. Not under the pool's lock, which the scheduler takes under the list's.
    fn watch(self: &Arc<Self>, newly: bool) {
        if newly {
            self.launcher.watched().lock().push(Arc::clone(self));
        }
    }

    /// Gets a place in a ready instance, waiting for one up to `deadline`.
    ///
    /// # Errors
    /// [`CallError`]: queue full, nothing free in time, the code does not load, the platform stops or lacks a sandbox.
    pub async fn acquire(self: &Arc<Self>, deadline: Instant) -> Result<Lease, CallError> {
        self.acquire_in(None, deadline).await
    }

    /// The same in this very instance while it lives; in any where it is gone or none is named.
    ///
    /// # Errors
    /// As of [`Self::acquire`].
    pub async fn acquire_in(
        self: &Arc<Self>,
        wanted: Option<InstanceId>,
        deadline: Instant,
    ) -> Result<Lease, CallError> {
        let mut pool = Arc::clone(self);
        // Ends: every pool hands over once, to one that was made after it.
        loop {
            match pool.acquire_here(wanted, deadline).await {
                Err(CallError::Stopping) => match pool.successor() {
                    Some(successor) => pool = successor,
                    None => return Err(CallError::Stopping),
                },
                outcome => return outcome,
            }
        }
    }

    fn successor(&self) -> Option<Arc<Self>> {
        self.state.lock().successor.clone()
    }

    async fn acquire_here(self: &Arc<Self>, wanted: Option<InstanceId>, deadline: Instant) -> Result<Lease, CallError> {
        let asked = Instant::now();
        let (receiver, newly_watched) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(CallError::Stopping);
            }
            let wanted = wanted.filter(|id| state.is_serving(*id));
            if state.waiters.iter().all(|waiter| waiter.wanted.is_some() && waiter.wanted != wanted)
                && let Some(lease) = self.take_free(&mut state, wanted)
            {
                return Ok(lease);
            }
            if let Some(failure) = &state.failure
                && self.spec.helper.is_some()
                && state.slots.is_empty()
                && state.starting == 0
                && failure.at.elapsed() < failure.back_off()
            {
                return Err(failure.error.clone());
            }
            if state.waiters.len() >= limits::QUEUE_MAX_WAITS {
                state.waiters.retain(|waiter| !waiter.grant.is_closed());
            }
            if state.waiters.len() >= limits::QUEUE_MAX_WAITS {
                return Err(CallError::QueueFull { limit: limits::QUEUE_MAX_WAITS });
            }
            let (grant, receiver) = oneshot::channel();
            state.waiters.push_back(Waiter { wanted, grant });
            self.start_wanted(&mut state);
            (receiver, !std::mem::replace(&mut state.watched, true))
        };
        self.watch(newly_watched);
        let waited = tokio::time::timeout_at(deadline.into(), receiver).await;
        let total_us = micros_since(asked);
        match waited {
            Ok(Ok(Ok(grant))) => {
                let mut lease = grant.lease;
                lease.cold_us = grant.cold_us.min(total_us);
                lease.queue_us = total_us - lease.cold_us;
                Ok(lease)
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(CallError::Stopping),
            Err(_) => Err(CallError::NoCapacity { waited_ms: total_us / 1000 }),
        }
    }

    /// The free instance with the fewest calls, the first among equals, so that the last ones fall idle.
    fn take_free(self: &Arc<Self>, state: &mut State, wanted: Option<InstanceId>) -> Option<Lease> {
        let concurrency = self.spec.manifest.scaling.concurrency;
        let now = self.spec.helper.as_ref().map(|_| Instant::now());
        // A doubtful instance is better than none.
        let doubtful = |slot: &Slot| now.is_some_and(|now| !slot.breaker.admits(slot.in_flight, now));
        let slot = state
            .slots
            .iter_mut()
            .filter(|slot| !slot.draining && slot.in_flight < concurrency)
            .filter(|slot| wanted.is_none_or(|id| slot.instance.id == id))
            .min_by_key(|slot| (doubtful(slot), slot.in_flight))?;
        slot.in_flight += 1;
        Some(self.lease(&slot.instance))
    }

    /// A lease on a place that has been counted.
    fn lease(self: &Arc<Self>, instance: &Arc<Instance>) -> Lease {
        Lease {
            pool: Arc::clone(self),
            instance: Arc::clone(instance),
            queue_us: 0,
            cold_us: 0,
            cold_start: false,
            armed: true,
        }
    }

    /// Starts instances for the waits that those starting will not serve.
    fn start_wanted(self: &Arc<Self>, state: &mut State) {
        let concurrency = self.spec.manifest.scaling.concurrency as usize;
        let waiting = |waiter: &&Waiter| waiter.wanted.is_none() && !waiter.grant.is_closed();
        let waiting = state.waiters.iter().filter(waiting).count();
        let wanted = waiting.div_ceil(concurrency);
        let purpose = if self.spec.role.yields() { Purpose::Minimum } else { Purpose::Call };
        while (state.starting as usize) < wanted && self.start_one(state, purpose) {}
    }

    /// Starts instances for waits that had to wait for the tenant's own limit.
    pub(super) fn start_for_waits(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.waiters.is_empty() {
            self.start_wanted(&mut state);
        }
    }

    /// Whether calls wait and nothing is being started for them.
    pub(super) fn is_held_up(&self) -> bool {
        let state = self.state.lock();
        state.starting == 0 && state.waiters.iter().any(|waiter| waiter.wanted.is_none() && !waiter.grant.is_closed())
    }

    /// Starts an instance. Returns `false` where there may be no more of this version or of this tenant.
    fn start_one(self: &Arc<Self>, state: &mut State, purpose: Purpose) -> bool {
        let alive = state.starting as usize + state.slots.len();
        if state.closed || alive >= self.spec.manifest.scaling.max as usize {
            return false;
        }
        let Some(place) = self.launcher.tenant_place(self.spec.counted_together()) else { return false };
        state.starting += 1;
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // Counts the start-up as over whatever happens, a panic included.
            let mut starting = Starting { pool: &pool, purpose, over: false };
            let begun = Instant::now();
            let mut outcome = pool.launcher.launch(&pool.spec, purpose, place).await;
            if let Ok(instance) = &outcome
                && let Err(error) = pool.resume(instance).await
            {
                instance.kill();
                outcome = Err(error);
            }
            starting.over = true;
            pool.started(outcome, purpose, micros_since(begun));
        });
        true
    }

    fn started(self: &Arc<Self>, outcome: Result<Arc<Instance>, CallError>, purpose: Purpose, cold_us: u64) {
        let mut state = self.state.lock();
        state.starting = state.starting.saturating_sub(1);
        match outcome {
            Ok(instance) if state.closed => instance.stop(self.spec.stop_grace()),
            Ok(instance) => {
                instance.advance(Phase::Ready);
                state.slots.push(Slot {
                    instance: Arc::clone(&instance),
                    in_flight: 0,
                    idle_since: Instant::now(),
                    draining: false,
                    breaker: Breaker::default(),
                    health: Health::new(&self.spec),
                });
                state.retry_minimum_at = None;
                state.failure = None;
                self.grant_free(&mut state, Some(cold_us));
                drop(state);
                let pool = Arc::downgrade(self);
                tokio::spawn(async move {
                    instance.ended().await;
                    if let Some(pool) = pool.upgrade() {
                        pool.lost(&instance);
                    }
                });
            }
            Err(error) => {
                state.retry_minimum_at = Some(Instant::now() + MINIMUM_RETRY_AFTER);
                if !error.is_refusal() {
                    let count = state.failure.as_ref().map_or(0, |failure| failure.count) + 1;
                    state.failure = Some(Failure { error: error.clone(), count, at: Instant::now() });
                }
                let for_nobody = purpose == Purpose::Minimum && !self.spec.role.yields();
                if for_nobody && matches!(error, CallError::NoCapacity { .. }) {
                    // No room for one that nobody asked for says nothing to those who do.
                    self.start_wanted(&mut state);
                    return;
                }
                // What fails once fails for all who wait now: the code does not load, or no sandbox can be had. Those who
                // can still be served by a running instance go on waiting for it.
                if state.slots.iter().all(|slot| slot.draining) && state.starting == 0 {
                    for waiter in std::mem::take(&mut state.waiters) {
                        let _ = waiter.grant.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Hands free places to those who wait, the longest first.
    fn grant_free(self: &Arc<Self>, state: &mut State, cold_us: Option<u64>) {
        let mut passed = VecDeque::new();
        while let Some(mut waiter) = state.waiters.pop_front() {
            if waiter.grant.is_closed() {
                continue;
            }
            waiter.wanted = waiter.wanted.filter(|id| state.is_serving(*id));
            let Some(mut lease) = self.take_free(state, waiter.wanted) else {
                let for_any = waiter.wanted.is_none();
                passed.push_back(waiter);
                // Nobody behind one who takes any is better off, but those who want one that has a place.
                if for_any && state.waiters.iter().all(|waiter| waiter.wanted.is_none()) {
                    break;
                }
                continue;
            };
            lease.cold_start = cold_us.is_some();
            let grant = Grant { lease, cold_us: cold_us.unwrap_or(0) };
            if let Err(Ok(mut grant)) = waiter.grant.send(Ok(grant)) {
                // The caller left this instant. Its place is given back here: the lease's own drop would lock again.
                grant.lease.armed = false;
                self.give_back(state, &grant.lease.instance);
            }
        }
        passed.append(&mut state.waiters);
        state.waiters = passed;
    }

    fn give_back(&self, state: &mut State, instance: &Arc<Instance>) {
        if let Some(slot) = state.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.instance, instance)) {
            slot.in_flight = slot.in_flight.saturating_sub(1);
            slot.idle_since = Instant::now();
        }
    }

    fn release(self: &Arc<Self>, instance: &Arc<Instance>) {
        let finished = {
            let mut state = self.state.lock();
            self.give_back(&mut state, instance);
            let finished = state
                .slots
                .iter()
                .position(|slot| Arc::ptr_eq(&slot.instance, instance) && slot.draining && slot.in_flight == 0)
                .map(|index| state.slots.remove(index));
            if !state.waiters.is_empty() {
                self.grant_free(&mut state, None);
                self.start_wanted(&mut state);
            }
            finished
        };
        if let Some(slot) = finished {
            slot.instance.stop(self.spec.stop_grace());
        }
    }

    /// The instance's process is gone: its place is, too, and what waited for it is served by another.
    fn lost(self: &Arc<Self>, instance: &Arc<Instance>) {
        instance.advance(Phase::Gone);
        instance.kill();
        let mut state = self.state.lock();
        state.slots.retain(|slot| !Arc::ptr_eq(&slot.instance, instance));
        // Those who wanted it take any now.
        self.grant_free(&mut state, None);
        self.start_wanted(&mut state);
    }

    /// Takes an instance out of service: at once where `kill`, else when its calls have ended.
    fn discard(self: &Arc<Self>, instance: &Arc<Instance>, kill: bool) {
        let mut state = self.state.lock();
        if let Some(slot) = state.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.instance, instance)) {
            slot.draining = true;
            instance.advance(Phase::Draining);
        }
        if kill {
            state.slots.retain(|slot| !Arc::ptr_eq(&slot.instance, instance));
            instance.kill();
        }
        self.grant_free(&mut state, None);
        self.start_wanted(&mut state);
    }

    /// Lets go of all instances that run, each when its calls have ended: calls from now on are served by new ones.
    pub fn replace_instances(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let slots = std::mem::take(&mut state.slots);
        for mut slot in slots {
            slot.draining = true;
            slot.instance.advance(Phase::Draining);
            if slot.in_flight == 0 {
                Arc::clone(&slot.instance).stop(self.spec.stop_grace());
            } else {
                state.slots.push(slot);
            }
        }
        self.start_wanted(&mut state);
    }

    /// Lets go of instances that have been idle for the declared time, down to the minimum.
    pub(super) fn retire_idle(&self) {
        let idle_for = Duration::from_secs(u64::from(self.spec.manifest.scaling.idle_s));
        while self.retire(|slot| slot.idle_since.elapsed() >= idle_for) {}
    }

    /// Lets go of one idle instance to make room for others. Returns whether there was one.
    pub(super) fn retire_one_idle(&self) -> bool {
        self.retire(|_| true)
    }

    fn retire(&self, due: impl Fn(&Slot) -> bool) -> bool {
        let (retired, last) = {
            let mut state = self.state.lock();
            if state.slots.len() <= state.minimum as usize || !state.waiters.is_empty() {
                return false;
            }
            let Some(index) = state.slots.iter().rposition(|slot| slot.in_flight == 0 && due(slot)) else {
                return false;
            };
            let retired = state.slots.remove(index);
            state.suspended = state.slots.is_empty() && state.starting == 0;
            (retired.instance, state.suspended)
        };
        retired.advance(Phase::Draining);
        self.let_go(retired, last);
        true
    }

    /// Since when the longest idle instance has been idle; now, where none is.
    pub(super) fn idle_since(&self) -> Instant {
        let state = self.state.lock();
        state
            .slots
            .iter()
            .filter(|slot| slot.in_flight == 0)
            .map(|slot| slot.idle_since)
            .min()
            .unwrap_or_else(Instant::now)
    }

    /// Starts what is missing from the minimum.
    pub(super) fn keep_minimum(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.retry_minimum_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        while state.starting < MINIMUM_STARTS_AT_ONCE
            && state.starting + (state.slots.len() as u32) < state.minimum
            && self.start_one(&mut state, Purpose::Minimum)
        {}
    }

    /// Stops being watched when there is nothing to watch. Returns whether it did.
    pub(super) fn unwatch_if_empty(&self) -> bool {
        let mut state = self.state.lock();
        let empty = state.slots.is_empty() && state.starting == 0 && state.waiters.is_empty() && state.minimum == 0;
        if empty {
            state.watched = false;
        }
        empty
    }

    /// Hands all calls over to `successor`, those that wait included; what runs here ends with its last call.
    pub fn hand_over(self: &Arc<Self>, successor: Arc<Self>) {
        self.state.lock().successor = Some(successor);
        self.close();
    }

    /// Ends every instance at once, whatever it does; the next call starts another.
    pub fn kill_all(self: &Arc<Self>) {
        let slots = std::mem::take(&mut self.state.lock().slots);
        for slot in slots {
            slot.instance.advance(Phase::Draining);
            slot.instance.kill();
        }
    }

    /// Takes no more calls: idle instances end now, busy ones with their last call, waits are told.
    pub fn close(self: &Arc<Self>) {
        let (idle, waiters) = {
            let mut state = self.state.lock();
            state.closed = true;
            state.minimum = 0;
            let (idle, mut busy): (Vec<_>, Vec<_>) =
                std::mem::take(&mut state.slots).into_iter().partition(|slot| slot.in_flight == 0);
            for slot in &mut busy {
                slot.draining = true;
                slot.instance.advance(Phase::Draining);
            }
            state.slots = busy;
            (idle, std::mem::take(&mut state.waiters))
        };
        for slot in idle {
            slot.instance.advance(Phase::Draining);
            slot.instance.stop(self.spec.stop_grace());
        }
        for waiter in waiters {
            let _ = waiter.grant.send(Err(CallError::Stopping));
        }
    }

    /// What runs now, for people.
    pub fn statuses(&self) -> Vec<InstanceStatus> {
        let state = self.state.lock();
        state
            .slots
            .iter()
            .map(|slot| InstanceStatus {
                id: slot.instance.id,
                version: self.spec.version,
                phase: slot.instance.phase(),
                in_flight: slot.in_flight,
                started_at: slot.instance.started_at.to_string(),
            })
            .collect()
    }

    /// Instances that take calls, that are being started, that finish their last calls, and why the last start failed where
    /// none has succeeded since.
    pub fn observe(&self) -> (usize, u32, usize, Option<CallError>) {
        let state = self.state.lock();
        let draining = state.slots.iter().filter(|slot| slot.draining).count();
        let failure = state.failure.as_ref().map(|failure| failure.error.clone());
        (state.slots.len() - draining, state.starting, draining, failure)
    }

    /// What a ready instance said of its code; nothing where there is none.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.state.lock().slots.first().map(|slot| slot.instance.loaded()).unwrap_or_default()
    }

    /// Whether a call runs or waits.
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        !state.waiters.is_empty() || state.slots.iter().any(|slot| slot.in_flight > 0)
    }

    /// Instances ready, starting, and calls waiting.
    pub fn counts(&self) -> (usize, u32, usize) {
        let state = self.state.lock();
        (state.slots.len(), state.starting, state.waiters.len())
    }
}

/// Uncounts a start-up that did not come to its end.
struct Starting<'a> {
    pool: &'a Arc<VersionPool>,
    purpose: Purpose,
    over: bool,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let error = CallError::Sandbox { began: false, detail: "the start of an instance was abandoned".into() };
            self.pool.started(Err(error), self.purpose, 0);
        }
    }
}

impl Lease {
    /// The instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Whether it is one of this pool's: a pool that was handed over has its calls served by another.
    pub fn is_of(&self, pool: &Arc<VersionPool>) -> bool {
        Arc::ptr_eq(&self.pool, pool)
    }

    /// Takes the instance out of service because a call in it ran past its timeout. An instance that runs one call at a time
    /// is killed at once; one that runs several lets the others finish.
    pub fn discard(&self) {
        let alone = self.pool.spec.manifest.scaling.concurrency == 1;
        self.pool.discard(&self.instance, alone);
    }

    /// Takes the instance out of service and ends it at once, other calls in it too.
    pub fn kill(&self) {
        self.pool.discard(&self.instance, true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.armed {
            self.pool.release(&self.instance);
        }
    }
}
