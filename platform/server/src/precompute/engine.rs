//! Telling banks of calls, and computing what they predict.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_core::{CanonicalEvent, FunctionId, InvocationId, TimestampUs};
use raas_results::predict::{Call as Seen, Economics, Found, Prediction, Resolution, Spare};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::cell::{BankCell, text};
use super::events::{decisive, whole};
use crate::admission::Admitted;
use crate::app::App;
use crate::invoke::{Call, CallerPolicy, KeptAs, Purpose};
use crate::routing::{FunctionRoute, VersionRoute};
use crate::scheduler::Role;
use crate::trace::TraceContext;

/// Calls that wait to be told of; more are not learnt from.
const OBSERVATIONS_MAX: usize = 8_192;

/// The largest event that is learnt from, bytes: larger ones are not asked for twice in the same words.
const EVENT_MAX_BYTES: usize = 16 * 1024;

/// Versions that compute ahead at once.
const AT_ONCE: usize = 2;

/// Predictions taken from a bank at once.
const TAKEN_AT_ONCE: usize = 8;

/// How often what is due by the clock is looked for, and results that nobody asked for are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often it is looked whether the machine is wanted by others while something is computed ahead.
const WANTED_EVERY: Duration = Duration::from_millis(10);

/// The shortest rest between two computations.
const REST_LEAST: Duration = Duration::from_millis(1);

/// What a microsecond is worth: of a computation on request both the machine's time and the caller's are spared.
const ECONOMICS: Economics = Economics { value: 2.0, price: 1.0, keeping_us: 20.0 };

/// One answered call, to be learnt from.
pub struct Observation {
    /// What was called.
    pub function: Arc<FunctionRoute>,
    /// Which version of it.
    pub version: Arc<VersionRoute>,
    /// The event.
    pub event: Bytes,
    /// Whether a result was there.
    pub found: Found,
    /// What computing it took, microseconds.
    pub compute_us: u64,
    /// How long it is good for from now on, microseconds.
    pub ttl_us: u64,
    /// When it was answered, microseconds since 1970.
    pub now_us: u64,
}

/// Where calls wait to be learnt from.
pub struct Precomputer {
    observations: mpsc::Sender<Observation>,
    waiting: Mutex<mpsc::Receiver<Observation>>,
    /// Calls that were not learnt from for want of room.
    pub dropped: AtomicU64,
}

impl Default for Precomputer {
    fn default() -> Self {
        let (observations, waiting) = mpsc::channel(OBSERVATIONS_MAX);
        Self { observations, waiting: Mutex::new(waiting), dropped: AtomicU64::new(0) }
    }
}

/// A version that has a bank.
struct Subject {
    function: Arc<FunctionRoute>,
    version: Arc<VersionRoute>,
    cell: Arc<BankCell>,
}

impl Precomputer {
    /// Has a call learnt from.
    pub fn observe(&self, observation: Observation) {
        if observation.event.len() <= EVENT_MAX_BYTES && self.observations.try_send(observation).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Learns and computes ahead until the platform stops.
    pub async fn run(app: Arc<App>, stop: CancellationToken) {
        let mut waiting = app.invoker.precomputer.waiting.lock().await;
        let mut engine = Engine {
            app: Arc::clone(&app),
            subjects: HashMap::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            stop: stop.clone(),
        };
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                observation = waiting.recv() => match observation {
                    Some(observation) => engine.learn(&observation),
                    None => return,
                },
                _ = tick.tick() => engine.look(),
            }
        }
    }
}

struct Engine {
    app: Arc<App>,
    /// Versions that were called, and are routable as far as is known.
    subjects: HashMap<(FunctionId, u32), Subject>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Engine {
    fn learn(&mut self, observation: &Observation) {
        let Some(cell) = &observation.version.bank else { return };
        let Ok(event) = serde_json::from_slice::<Value>(&observation.event) else { return };
        let Some(decisive) = decisive(&event, observation.version.key_pointers.as_deref()) else { return };
        {
            let mut state = cell.state.lock();
            state.bank.observe(&Seen {
                event: &decisive,
                now_us: observation.now_us,
                found: observation.found,
                compute_us: observation.compute_us,
                ttl_us: Some(observation.ttl_us),
            });
            state.last = Some(event);
        }
        let key = (observation.function.id, observation.version.number);
        let subject = Subject {
            function: Arc::clone(&observation.function),
            version: Arc::clone(&observation.version),
            cell: Arc::clone(cell),
        };
        self.start(&subject);
        self.subjects.insert(key, subject);
    }

    /// What comes by the clock: keys that expire, times of the day, results that are gone without having been asked for.
    fn look(&mut self) {
        let app = Arc::clone(&self.app);
        let snapshot = app.routing.load();
        // A version whose function was deployed anew has another route; one that is gone has none.
        self.subjects.retain(|(_, number), subject| {
            let current = snapshot.function(&subject.function.tenant, &subject.function.name);
            let Some(current) = current.filter(|current| current.id == subject.function.id) else { return false };
            let Some(version) = current.versions.get(number) else { return false };
            subject.function = Arc::clone(current);
            subject.version = Arc::clone(version);
            true
        });
        for subject in self.subjects.values() {
            let mut state = subject.cell.state.lock();
            let now = app.clock.now();
            let mut gone = Vec::new();
            state.unasked.retain(|(id, key)| {
                let unasked = app.invoker.results.is_unasked(key, now);
                gone.extend(unasked.is_none().then_some(*id));
                unasked == Some(true)
            });
            for id in gone {
                state.bank.resolved(id, Resolution::Dropped);
            }
            drop(state);
            self.start(subject);
        }
    }

    /// Takes what is worth computing from a bank, and computes it, unless that is under way.
    fn start(&self, subject: &Subject) {
        let running = subject.cell.running.load(Ordering::Acquire);
        let may_be_kept = crate::invoke::may_be_kept(&subject.version);
        let limit = if running || !may_be_kept { 0 } else { TAKEN_AT_ONCE };
        let predictions = self.predict(subject, limit);
        if predictions.is_empty() {
            return;
        }
        subject.cell.running.store(true, Ordering::Release);
        let subject = Subject {
            function: Arc::clone(&subject.function),
            version: Arc::clone(&subject.version),
            cell: Arc::clone(&subject.cell),
        };
        let (app, places, stop) = (Arc::clone(&self.app), Arc::clone(&self.places), self.stop.clone());
        tokio::spawn(async move {
            let work = async {
                for prediction in predictions {
                    let Ok(place) = places.acquire().await else { return };
                    let took = compute(&app, &subject, prediction).await;
                    // Others compute meanwhile.
                    drop(place);
                    let share = subject.cell.cpu_share_millis.min(1000);
                    tokio::time::sleep((took * (1000 - share) / share).max(REST_LEAST)).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            subject.cell.running.store(false, Ordering::Release);
        });
    }

    fn predict(&self, subject: &Subject, limit: usize) -> Vec<Prediction> {
        let app = &self.app;
        let now = app.clock.now();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(0);
        let spare = Spare { now_us, limit, economics: ECONOMICS };
        let mut state = subject.cell.state.lock();
        let state = &mut *state;
        if !state.suggested {
            state.suggested = true;
            let candidates: Vec<Value> = subject
                .version
                .manifest
                .precompute
                .candidates
                .iter()
                .filter_map(|event| decisive(event, subject.version.key_pointers.as_deref()))
                .collect();
            state.bank.suggest(&candidates, u64::MAX);
            state.last = state.last.take().or_else(|| subject.version.manifest.precompute.candidates.first().cloned());
        }
        let last = state.last.clone().unwrap_or_default();
        state.bank.predict(&spare, |arguments| {
            // What has no event, or one that cannot be asked for, is not to be computed: as good as there.
            let pointers = subject.version.key_pointers.as_deref();
            let event = arguments.event().and_then(|predicted| whole(predicted, &last, pointers));
            let Some(kept_as) = event.and_then(|event| kept_as(app, subject, &text(&event))) else {
                return Some(u64::MAX);
            };
            fresh_until(app, &kept_as, now).map(|until| u64::try_from(until.as_micros()).unwrap_or(0))
        })
    }
}

/// Until when there is a fresh result, under whichever key.
fn fresh_until(app: &App, kept_as: &KeptAs, now: TimestampUs) -> Option<TimestampUs> {
    let keys = std::iter::once(&kept_as.key).chain(&kept_as.others);
    keys.filter_map(|key| app.invoker.results.fresh_until(key, now)).max()
}

fn kept_as(app: &App, subject: &Subject, event: &[u8]) -> Option<KeptAs> {
    let canonical = CanonicalEvent::parse(event).ok()?;
    let snapshot = app.routing.load();
    let epochs = snapshot.helper_epochs(&subject.function.tenant, &subject.version.manifest.helpers);
    Some(KeptAs {
        key: subject.version.result_key(&canonical, &epochs),
        others: subject.version.other_keys(&canonical, &epochs),
        tags: subject.version.tags(&canonical, subject.function.tenant),
    })
}

/// Computes one prediction, and says how long that took.
async fn compute(app: &Arc<App>, subject: &Subject, prediction: Prediction) -> Duration {
    let id = prediction.id();
    let resolve = |resolution| subject.cell.state.lock().bank.resolved(id, resolution);
    let last = subject.cell.state.lock().last.clone().unwrap_or_default();
    let pointers = subject.version.key_pointers.as_deref();
    let event = prediction.arguments.event().and_then(|predicted| whole(predicted, &last, pointers));
    let event = event.map(|event| text(&event)).unwrap_or_default();
    let Some(kept_as) = kept_as(app, subject, &event) else {
        resolve(Resolution::Declined);
        return Duration::ZERO;
    };
    let now = app.clock.now();
    let until = fresh_until(app, &kept_as, now);
    let from_us = prediction.from_us.max(u64::try_from(now.as_micros()).unwrap_or(0));
    if until.is_some_and(|until| u64::try_from(until.as_micros()).unwrap_or(0) > from_us) {
        resolve(Resolution::Declined);
        return Duration::ZERO;
    }
    let begun = Instant::now();
    let wanted = async {
        while !app.invoker.scheduler.launcher().capacity_short() {
            tokio::time::sleep(WANTED_EVERY).await;
        }
    };
    let execution = app.invoker.precompute(call(app, subject, event), kept_as.clone());
    tokio::select! {
        outcome = execution => {
            let compute_us = outcome.compute_us;
            if let Some(key) = outcome.kept {
                let mut state = subject.cell.state.lock();
                state.bank.resolved(id, Resolution::Computed { compute_us });
                if let Some(lost) = state.look_after(id, key) {
                    state.bank.resolved(lost, Resolution::Dropped);
                }
            } else {
                resolve(Resolution::Failed { compute_us });
            }
        }
        () = wanted => {
            // Somebody waits for a sandbox: this one goes at once, whatever it has begun.
            subject.version.pool_of(&app.invoker.scheduler, Role::Spare).kill_all();
            resolve(Resolution::Declined);
        }
    }
    begun.elapsed()
}

fn call(app: &App, subject: &Subject, event: Bytes) -> Call {
    let id = InvocationId::generate();
    Call {
        id,
        tenant: subject.function.tenant,
        function: Arc::clone(&subject.function),
        version: Arc::clone(&subject.version),
        event,
        canonical: None,
        policy: CallerPolicy::default(),
        trace: TraceContext::of_call(id, None, None),
        arrived_at: app.clock.now(),
        arrived: Instant::now(),
        admitted: Admitted::within_a_call(),
        depth: 0,
        caller: None,
        deadline: None,
        key: None,
        helper_epochs: Vec::new(),
        purpose: Purpose::Precompute,
    }
}
