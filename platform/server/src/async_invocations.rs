//! Asynchronous invocations: claimed from the database under a fenced lease, answered like any other call, kept for a day.
//!
//! An invocation that was acknowledged survives a kill: its lease runs out, and it is run again. So it runs at least once.
//! What keeps it from being answered for the moment only (no room, no sandbox, a stop) is no outcome: it waits again, and the
//! attempt does not count, for attempts are there to end what takes the platform down with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_core::{CanonicalEvent, InvocationId};
use raas_store::{ClaimedInvocation, InvocationOutcome};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::admission::Admitted;
use crate::app::App;
use crate::gateway::Problem;
use crate::invoke::{Call, CallerPolicy, InvokeError, Purpose};
use crate::routing::{Principal, Scope, Scopes};
use crate::scheduler::CallError;
use crate::trace::TraceContext;

/// How many invocations of one tenant may wait. More are refused.
pub const QUEUED_PER_TENANT_MAX: u32 = 10_000;

/// How long a claim holds unless it is extended.
const LEASE: Duration = Duration::from_secs(30);

/// How often the database is asked although nobody called, and how often lost invocations are looked for.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// How often an invocation is begun at most: one that takes the platform down with it must not do so for ever.
const ATTEMPTS_MAX: u32 = 5;

/// How long after its acceptance an invocation is put off when it finds no room; then the refusal is its answer.
const PUT_OFF_FOR: Duration = Duration::from_secs(6 * 3600);

/// The least and the longest time to put off for. In between it is a tenth of the time since the acceptance, so that what
/// waits long asks seldom.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a worker rests before it puts off, so that a long queue for what has no room is not rushed through again and again.
const REST: Duration = Duration::from_secs(1);

/// How long a worker waits to be admitted among the calls in progress, and the longest pause between two tries.
const ADMISSION_WAIT: Duration = Duration::from_secs(30);
const ADMISSION_PAUSE_MAX: Duration = Duration::from_secs(2);

/// What a call is answered with when the platform, not the function, ended it.
const CUT_OFF_STATUS: u16 = 503;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How often what is past its time is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Runs asynchronous invocations until the platform stops. What was claimed then is finished by the caller's drain.
pub async fn run(app: Arc<App>, workers: u32, stop: CancellationToken) {
    // Side by side: nothing that takes long in one keeps another from its turn.
    tokio::select! {
        () = claim_and_run(&app, workers, &stop) => {}
        () = requeue_lost(&app) => {}
        () = sweep_old(&app) => {}
    }
}

async fn claim_and_run(app: &Arc<App>, workers: u32, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(workers as usize));
    // However much one tenant has waiting, the others find workers free.
    let tenant_max = workers.div_ceil(2);
    loop {
        let free = places.available_permits();
        // From the claim on the drain has something to wait for, so that nothing is claimed and then finds no sandbox.
        let claiming = app.invoker.detached.token();
        if stop.is_cancelled() {
            return;
        }
        if free > 0 {
            match app.store.invocation_claim(app.clock.now(), LEASE, free as u32, tenant_max).await {
                Ok(claimed) => {
                    for invocation in claimed {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                        let app = Arc::clone(app);
                        let tasks = app.invoker.detached.clone();
                        tasks.spawn(async move {
                            answer(&app, invocation).await;
                            drop(place);
                            app.async_wake.notify_one();
                        });
                    }
                }
                Err(error) => tracing::warn!(error = %error, "asynchronous invocations could not be claimed"),
            }
        }
        drop(claiming);
        tokio::select! {
            () = app.async_wake.notified() => {}
            () = tokio::time::sleep(POLL_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn requeue_lost(app: &App) {
    let mut tick = tokio::time::interval(POLL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match app.store.invocation_requeue_expired(app.clock.now()).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "asynchronous invocations whose run was lost are queued again");
                app.async_wake.notify_one();
            }
            Err(error) => tracing::warn!(error = %error, "lost asynchronous invocations could not be queued again"),
        }
    }
}

async fn sweep_old(app: &App) {
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let before = app.clock.now().saturating_sub(KEPT);
        // A part at a time: between two parts others write.
        loop {
            match app.store.invocation_sweep(before).await {
                Ok(0) => break,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(error = %error, "old asynchronous answers could not be removed");
                    break;
                }
            }
        }
        if let Err(error) = app.store.idempotency_sweep(before).await {
            tracing::warn!(error = %error, "old idempotency keys could not be removed");
        }
    }
}

/// How a run ended.
enum Ended {
    /// With an outcome that stays.
    Answered(InvocationOutcome),
    /// With something that passes.
    Refused(Problem),
}

async fn answer(app: &Arc<App>, claimed: ClaimedInvocation) {
    let (id, fence, created) = (claimed.invocation.id, claimed.fence, claimed.created);
    let run = async {
        match run_one(app, claimed).await {
            Ended::Refused(problem) if app.clock.now().since(created) >= PUT_OFF_FOR => {
                Ended::Answered(failed(&problem))
            }
            Ended::Refused(problem) => {
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    () = app.stop.cancelled() => {}
                }
                Ended::Refused(problem)
            }
            answered => answered,
        }
    };
    // Polled side by side, so that the call goes on while the database is asked.
    let ended = tokio::select! {
        ended = run => ended,
        () = keep_lease(app, id, fence) => return,
    };
    let now = app.clock.now();
    let kept = match ended {
        Ended::Answered(outcome) if app.stop.is_cancelled() && outcome.status == CUT_OFF_STATUS => {
            tracing::info!(invocation.id = %id, "an asynchronous invocation was cut off by the stop; it is run again after its lease");
            return;
        }
        Ended::Answered(outcome) => app.store.invocation_finish(id, fence, &outcome, now).await,
        Ended::Refused(problem) => {
            let (least, most) = PUT_OFF;
            let delay = (now.since(created) / 10).clamp(least, most);
            tracing::debug!(invocation.id = %id, problem = problem.code, "an asynchronous invocation is put off");
            app.store.invocation_put_off(id, fence, now.saturating_add(delay)).await
        }
    };
    match kept {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(invocation.id = %id, "a late asynchronous answer is left out: another run has the lease")
        }
        Err(error) => {
            tracing::warn!(error = %error, invocation.id = %id, "an asynchronous answer could not be kept; it will be run again")
        }
    }
}

/// Extends a lease again and again; it does not end.
async fn keep_lease(app: &App, id: InvocationId, fence: u64) {
    let mut extend = tokio::time::interval_at((Instant::now() + LEASE / 3).into(), LEASE / 3);
    loop {
        extend.tick().await;
        if let Err(error) = app.store.invocation_extend(id, fence, app.clock.now(), LEASE).await {
            tracing::warn!(error = %error, invocation.id = %id, "a lease could not be extended");
        }
    }
}

fn failed(problem: &Problem) -> InvocationOutcome {
    InvocationOutcome {
        status: problem.status,
        served_by: None,
        body: None,
        error: String::from_utf8(problem.to_json()).ok(),
    }
}

/// A place among the calls in progress. What was accepted long ago waits for one, for a while; the pauses grow, so that the
/// count of refusals does not tell of waits.
async fn admit(app: &App, principal: &Principal) -> Result<Admitted, Problem> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match app.admission.admit(principal) {
            Ok(admitted) => return Ok(admitted),
            Err(refused) if app.stop.is_cancelled() || begun.elapsed() >= ADMISSION_WAIT => {
                return Err(Problem::unavailable("overloaded", refused.to_string()));
            }
            Err(_) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = app.stop.cancelled() => {}
            },
        }
        pause = (pause * 2).min(ADMISSION_PAUSE_MAX);
    }
}

/// Whether an error says nothing about the invocation, only that now was not the time for it. A sandbox that was lost after the
/// code began is an answer: it may have done its work.
fn passes(error: &CallError) -> bool {
    error.is_refusal() && !matches!(error, CallError::Sandbox { began: true, .. })
}

async fn run_one(app: &Arc<App>, claimed: ClaimedInvocation) -> Ended {
    let invocation = claimed.invocation;
    let over = |problem: &Problem| Ended::Answered(failed(problem));
    if claimed.attempt > ATTEMPTS_MAX {
        return over(&Problem::unavailable(
            "abandoned",
            format!("the platform stopped during each of {ATTEMPTS_MAX} runs of this invocation"),
        ));
    }
    let route = app.routing.load().functions().find(|function| function.id == invocation.function).cloned();
    let found = route.and_then(|function| {
        let version = function.versions.get(&invocation.version).cloned()?;
        Some((function, version))
    });
    let Some((function, version)) = found else {
        return over(&Problem::not_found("function any more behind this invocation", &invocation.function.to_string()));
    };
    let event = Bytes::from(invocation.event);
    let canonical = match CanonicalEvent::parse(&event) {
        Ok(canonical) => canonical,
        Err(error) => return over(&Problem::internal(&error)),
    };
    // The key that asked may be gone by now, and the tenant's count of calls in progress is had by a key only. So these calls
    // are counted with the platform's; the tenant's share of the workers bounds how many of its own there are.
    let principal = Principal {
        key: raas_core::KeyId::from_bytes([0; 16]),
        tenant: invocation.tenant,
        scopes: Scopes::of(&[Scope::Invoke]),
        in_flight: Arc::default(),
    };
    let admitted = match admit(app, &principal).await {
        Ok(admitted) => admitted,
        Err(problem) => return Ended::Refused(problem),
    };
    let call = Call {
        id: invocation.id,
        tenant: invocation.tenant,
        helper_epochs: app.routing.load().helper_epochs(&invocation.tenant, &version.manifest.helpers),
        depth: 0,
        caller: None,
        deadline: None,
        key: None,
        purpose: Purpose::Answer,
        function,
        version,
        event,
        canonical: Some(canonical),
        policy: CallerPolicy::default(),
        trace: TraceContext::of_call(invocation.id, None, None),
        arrived_at: app.clock.now(),
        arrived: Instant::now(),
        admitted,
    };
    match app.invoker.invoke(call).await {
        Ok(answer) => match answer.result {
            Ok(body) => Ended::Answered(InvocationOutcome {
                status: 200,
                served_by: Some(answer.served_by),
                body: String::from_utf8(body.to_vec()).ok(),
                error: None,
            }),
            Err(error) if passes(&error) => Ended::Refused(Problem::from(error)),
            Err(error) => Ended::Answered(InvocationOutcome {
                served_by: Some(answer.served_by),
                ..failed(&Problem::from(error))
            }),
        },
        Err(error @ (InvokeError::MeteringFull(_) | InvokeError::FollowTimeout)) => {
            Ended::Refused(Problem::unavailable("not-answered", error.to_string()))
        }
        Err(error @ InvokeError::NothingCached) => over(&Problem::unavailable("not-answered", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_no_answer() {
        let sandbox = |began| CallError::Sandbox { began, detail: String::new() };
        for error in [
            CallError::QueueFull { limit: 1 },
            CallError::NoCapacity { waited_ms: 1 },
            CallError::Stopping,
            sandbox(false),
        ] {
            assert!(passes(&error), "{error}");
        }
        for error in [sandbox(true), CallError::Timeout { limit_s: 1 }, CallError::Crashed { how: String::new() }] {
            assert!(!passes(&error), "{error}");
        }
    }
}
