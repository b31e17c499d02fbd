//! Runs sampled calls again, one after another, when nothing else wants the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_contract::Invoke;
use raas_core::InvocationId;
use raas_results::{Difference, Proof, Purge, SHADOW_RUNS, compare};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::projection::reduced;
use super::{Parts, ProofCell};
use crate::app::App;
use crate::logs::LogTarget;
use crate::routing::{FunctionRoute, VersionRoute};
use crate::scheduler::{CallError, Role};
use crate::trace::TraceContext;

/// Calls that wait to be run again; more are not sampled.
const TASKS_MAX: usize = 2_048;

/// Calls of one version that wait: as many as a young one has, so that none keeps the others from being looked at.
const TASKS_A_VERSION_MAX: u32 = 1_024;

/// Bytes of events and results that wait, together.
const TASKS_MAX_BYTES: u64 = 64 << 20;

/// Calls run again at once.
const PROVERS: usize = 2;

/// How long to wait before looking again whether the machine is wanted …
const BUSY_REST: Duration = Duration::from_millis(20);

/// … and how long in all before the run is given up.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// How long a run may wait for a sandbox.
const SANDBOX_WITHIN: Duration = Duration::from_secs(30);

/// After a look at a result that its author answers for, none is taken for so many times as long: these looks take at most about a
/// hundredth of a processor, whatever the load.
const DECLARED_RESTS: u32 = 99;

/// A sandbox for checks is given up after about so many runs: the next one differs from it.
const RUNS_A_SANDBOX: u32 = 8;

/// What was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampled {
    /// A call of a version that is being shown.
    Shadow,
    /// A kept result that was handed out.
    Hit,
    /// A call that read parts of its event of which it is not verified yet that they are all.
    Parts,
}

/// A call to be run again.
pub struct ProverTask {
    /// What was called.
    pub function: Arc<FunctionRoute>,
    /// Which version of it.
    pub version: Arc<VersionRoute>,
    /// What is known of that.
    pub proof: Arc<ProofCell>,
    /// The event.
    pub event: Bytes,
    /// What was answered.
    pub result: Bytes,
    /// The parts of the event that it read, where it is not verified yet that it read nothing else.
    pub unverified: Option<Parts>,
    /// Whether the runtime told what was read: the handler had an event that records it.
    pub recorded: bool,
    /// What was sampled.
    pub sampled: Sampled,
}

impl ProverTask {
    fn bytes(&self) -> u64 {
        (self.event.len() + self.result.len()) as u64
    }
}

/// Where sampled calls wait.
pub struct Prover {
    tasks: mpsc::Sender<ProverTask>,
    waiting: Mutex<mpsc::Receiver<ProverTask>>,
    waiting_bytes: AtomicU64,
    /// A result that its author answers for is being looked at, or one was a moment ago.
    declared_rests: AtomicBool,
    /// Sampled calls that found no room.
    pub dropped: AtomicU64,
}

impl Default for Prover {
    fn default() -> Self {
        let (tasks, waiting) = mpsc::channel(TASKS_MAX);
        Self {
            tasks,
            waiting: Mutex::new(waiting),
            waiting_bytes: AtomicU64::new(0),
            declared_rests: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }
}

/// How one run compares.
enum Run {
    Agreed,
    Differed(Difference),
    Inconclusive,
}

impl Prover {
    /// Has a call run again when there is time.
    pub fn offer(&self, task: ProverTask) {
        if task.proof.declared && self.declared_rests.swap(true, Ordering::Relaxed) {
            return;
        }
        if task.proof.waiting.fetch_add(1, Ordering::Relaxed) >= TASKS_A_VERSION_MAX {
            task.proof.waiting.fetch_sub(1, Ordering::Relaxed);
            self.drop_sample(&task.proof, task.sampled);
            return;
        }
        let bytes = task.bytes();
        let (proof, sampled) = (Arc::clone(&task.proof), task.sampled);
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let declared = task.proof.declared;
        if waiting + bytes > TASKS_MAX_BYTES || self.tasks.try_send(task).is_err() {
            if declared {
                self.declared_rests.store(false, Ordering::Relaxed);
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            proof.waiting.fetch_sub(1, Ordering::Relaxed);
            self.drop_sample(&proof, sampled);
        }
    }

    fn drop_sample(&self, proof: &ProofCell, sampled: Sampled) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if sampled == Sampled::Shadow {
            proof.change(|proof| proof.settle(0));
        }
    }

    /// Runs calls again until the platform stops.
    pub async fn run(app: Arc<App>, stop: CancellationToken) {
        let prover = &app.invoker.prover;
        let one = || async {
            loop {
                let Some(task) = prover.waiting.lock().await.recv().await else { return };
                prover.waiting_bytes.fetch_sub(task.bytes(), Ordering::Relaxed);
                let begun = Instant::now();
                settle(&app, &task).await;
                task.proof.waiting.fetch_sub(1, Ordering::Relaxed);
                if task.proof.declared {
                    let (app, rest) = (Arc::clone(&app), begun.elapsed() * DECLARED_RESTS);
                    tokio::spawn(async move {
                        tokio::time::sleep(rest).await;
                        app.invoker.prover.declared_rests.store(false, Ordering::Relaxed);
                    });
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = futures_util::future::join_all((0..PROVERS).map(|_| one())) => {}
        }
    }
}

/// Runs a call again as often as its sample wants, and notes what that came to.
async fn settle(app: &Arc<App>, task: &ProverTask) {
    match task.sampled {
        Sampled::Parts => verify_parts(app, task).await,
        Sampled::Hit => match run(app, task, &task.event).await {
            Run::Differed(difference) => differ(app, task, difference).await,
            run => task.proof.change(|proof| proof.checked(matches!(run, Run::Agreed))),
        },
        Sampled::Shadow => settle_shadow(app, task).await,
    }
}

async fn settle_shadow(app: &Arc<App>, task: &ProverTask) {
    // From an instance that still records when it should not: neither what agrees nor what differs says anything of plain events.
    let says_nothing = || task.recorded && task.version.projections.as_ref().is_some_and(|known| known.is_refused());
    if says_nothing() {
        task.proof.change(|proof| proof.settle(0));
        return;
    }
    let mut agreed = 0;
    for _ in 0..SHADOW_RUNS {
        match run(app, task, &task.event).await {
            Run::Agreed => agreed += 1,
            Run::Inconclusive => {}
            Run::Differed(_) if task.recorded => {
                // Perhaps because the handler notices the event that records what it reads, which the other runs did not have.
                stop_recording(app, task).await;
                agreed = 0;
                break;
            }
            Run::Differed(difference) => {
                differ(app, task, difference).await;
                break;
            }
        }
    }
    if agreed == SHADOW_RUNS {
        verify_parts(app, task).await;
    }
    if says_nothing() {
        agreed = 0;
    }
    if task.proof.change(|proof| proof.settle(agreed)) {
        tracing::info!(function = %task.function.name, version = task.version.number, "results are kept from now on: calls that were run again gave the same");
        save(app).await;
    }
}

/// Runs a call again with nothing but what it had read of its event: if that comes out otherwise, the runtime does not notice all
/// that this handler reads, and results are kept under whole events.
async fn verify_parts(app: &Arc<App>, task: &ProverTask) {
    let (Some(parts), Some(projections)) = (&task.unverified, &task.version.projections) else { return };
    let Some(event) = reduced(&task.event, parts) else { return };
    match run(app, task, &event).await {
        Run::Agreed => projections.verify(parts),
        Run::Inconclusive => {}
        Run::Differed(_) => stop_recording(app, task).await,
    }
}

/// From now on whole events count, and handlers are given plain ones. What is kept under parts goes.
async fn stop_recording(app: &Arc<App>, task: &ProverTask) {
    let Some(projections) = task.version.projections.as_ref().filter(|known| !known.is_refused()) else { return };
    let (name, version) = (&task.function.name, task.version.number);
    tracing::info!(function = %name, version, "what the handler reads of its event cannot be told: all of it counts");
    projections.refuse();
    task.proof.change(Proof::count_whole);
    task.version.pool.replace_instances();
    save(app).await;
    if let Err(error) = app.purge(Purge::Version(task.function.id, version)).await {
        app.apply_purge(Purge::Version(task.function.id, version), app.clock.now());
        tracing::error!(error = %error, "results are dropped here, but other platforms could not be told");
    }
}

async fn run(app: &Arc<App>, task: &ProverTask, event: &[u8]) -> Run {
    let begun = Instant::now();
    let launcher = app.invoker.scheduler.launcher();
    while launcher.capacity_short() {
        if begun.elapsed() > BUSY_MAX {
            return Run::Inconclusive;
        }
        tokio::time::sleep(BUSY_REST).await;
    }
    // What its author answers for may depend on the time within its time to live: it is run in a place like any other.
    let role = if task.proof.declared { Role::Spare } else { Role::Check };
    let pool = task.version.pool_of(&app.invoker.scheduler, role);
    let Ok(lease) = pool.acquire(Instant::now() + SANDBOX_WITHIN).await else { return Run::Inconclusive };
    let id = InvocationId::generate();
    let limit_s = task.version.manifest.timeout_s;
    let deadline_ms = app.clock.now().as_millis() + i64::from(limit_s) * 1000;
    let invoke = Invoke {
        invocation_id: id.as_bytes(),
        deadline_unix_ms: u64::try_from(deadline_ms).unwrap_or(0),
        trace_context: &TraceContext::of_call(id, None, None).to_text(),
        event,
        depth: 0,
    };
    let wanted = async {
        while !launcher.capacity_short() {
            tokio::time::sleep(BUSY_REST).await;
        }
    };
    let outcome = tokio::select! {
        (outcome, _) = lease.instance().call(invoke, limit_s) => outcome,
        // Somebody waits for a sandbox: this one goes at once.
        () = wanted => {
            lease.kill();
            return Run::Inconclusive;
        }
    };
    let whole = |again: String| {
        let first = String::from_utf8_lossy(&task.result[..task.result.len().min(SHOWN_MAX_BYTES)]).into_owned();
        Difference { pointer: String::new(), first, again }
    };
    let run = match outcome {
        Ok(body) => compare(&task.result, &body).map_or(Run::Agreed, Run::Differed),
        Err(Some(CallError::Raised(error))) => {
            Run::Differed(whole(format!("raised {}: {}", error.kind, error.message)))
        }
        Err(_) => Run::Inconclusive,
    };
    if matches!(run, Run::Inconclusive) || fastrand::u32(..RUNS_A_SANDBOX) == 0 {
        lease.discard();
    }
    run
}

/// The longest text that is shown of a result that another run did not give, bytes.
const SHOWN_MAX_BYTES: usize = 256;

async fn differ(app: &Arc<App>, task: &ProverTask, difference: Difference) {
    let Difference { pointer, first, again } = &difference;
    let place = if pointer.is_empty() { "its result" } else { pointer.as_str() };
    let (name, version) = (&task.function.name, task.version.number);
    let what = format!("the same event gave {first} and then {again} at {place}");
    let quarantined = task.proof.differ(difference.clone());
    if quarantined {
        // Here and now; what follows takes the database's time.
        app.apply_purge(Purge::Version(task.function.id, version), app.clock.now());
    }
    let advice = if quarantined {
        "its results are dropped and no more are kept: what it returns depends on more than the event (time, randomness, the order of a set)"
    } else if task.proof.declared {
        "cache.mode = \"declared\" keeps its results all the same: make them depend on the event only, or shorten ttl_s"
    } else {
        return;
    };
    let target =
        LogTarget { function: task.function.id, version, instance: raas_core::InstanceId::from_bytes([0; 16]) };
    app.logs.failure(target, None, &format!("{what}; {advice}"));
    if !quarantined {
        return;
    }
    tracing::warn!(function = %name, version, "a version is quarantined: its results differ at {place:?}");
    if let Err(error) = app.purge(Purge::Version(task.function.id, version)).await {
        tracing::error!(error = %error, "a quarantined version's results are dropped here, but other platforms could not be told");
    }
    save(app).await;
}

async fn save(app: &Arc<App>) {
    if let Err(error) = app.routing.proofs.save(&app.store, app.clock.now()).await {
        tracing::warn!(error = %error, "what is known of versions could not be written; trying again");
    }
}
