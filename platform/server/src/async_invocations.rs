//! Asynchronous invocations: claimed from the database under a fenced lease, answered like any other call, kept for a day.
//!
//! An invocation that was acknowledged survives a kill: its lease runs out, and it is run again. So it runs at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_core::CanonicalEvent;
use raas_store::{ClaimedInvocation, InvocationOutcome};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::gateway::Problem;
use crate::invoke::{Call, CallerPolicy};
use crate::routing::{Principal, Scope, Scopes};
use crate::trace::TraceContext;

/// How long a claim holds unless it is extended.
const LEASE: Duration = Duration::from_secs(30);

/// How often the database is asked although nobody called.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// How often an invocation is begun at most: one that takes the platform down with it must not do so for ever.
const ATTEMPTS_MAX: u32 = 5;

/// What a call is answered with when the platform, not the function, ended it.
const CUT_OFF_STATUS: u16 = 503;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How often what is past its time is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Runs asynchronous invocations until the platform stops. What was claimed then is finished by the caller's drain.
pub async fn run(app: Arc<App>, workers: u32, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(workers as usize));
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let free = places.available_permits();
        // From the claim on the drain has something to wait for, so that nothing is claimed and then finds no sandbox.
        let claiming = app.invoker.detached.token();
        if stop.is_cancelled() {
            return;
        }
        if free > 0 {
            match app.store.invocation_claim(app.clock.now(), LEASE, free as u32).await {
                Ok(claimed) => {
                    for invocation in claimed {
                        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                        let app = Arc::clone(&app);
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
            () = tokio::time::sleep(POLL_EVERY) => requeue(&app).await,
            _ = sweep.tick() => sweep_old(&app).await,
            () = stop.cancelled() => return,
        }
    }
}

async fn requeue(app: &App) {
    match app.store.invocation_requeue_expired(app.clock.now()).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "asynchronous invocations whose run was lost are queued again"),
        Err(error) => tracing::warn!(error = %error, "lost asynchronous invocations could not be queued again"),
    }
}

async fn sweep_old(app: &App) {
    let before = app.clock.now().saturating_sub(KEPT);
    if let Err(error) = app.store.invocation_sweep(before).await {
        tracing::warn!(error = %error, "old asynchronous answers could not be removed");
    }
    if let Err(error) = app.store.idempotency_sweep(before).await {
        tracing::warn!(error = %error, "old idempotency keys could not be removed");
    }
}

async fn answer(app: &Arc<App>, claimed: ClaimedInvocation) {
    let (id, fence) = (claimed.invocation.id, claimed.fence);
    let running = run_one(app, claimed);
    tokio::pin!(running);
    let mut extend = tokio::time::interval_at((Instant::now() + LEASE / 3).into(), LEASE / 3);
    let outcome = loop {
        tokio::select! {
            outcome = &mut running => break outcome,
            _ = extend.tick() => {
                if let Err(error) = app.store.invocation_extend(id, fence, app.clock.now(), LEASE).await {
                    tracing::warn!(error = %error, invocation.id = %id, "a lease could not be extended");
                }
            }
        }
    };
    if app.stop.is_cancelled() && outcome.status == CUT_OFF_STATUS {
        tracing::info!(invocation.id = %id, "an asynchronous invocation was cut off by the stop; it is run again after its lease");
        return;
    }
    match app.store.invocation_finish(id, fence, &outcome, app.clock.now()).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(invocation.id = %id, "a late asynchronous answer is left out: another run has the lease")
        }
        Err(error) => {
            tracing::warn!(error = %error, invocation.id = %id, "an asynchronous answer could not be kept; it will be run again")
        }
    }
}

async fn run_one(app: &Arc<App>, claimed: ClaimedInvocation) -> InvocationOutcome {
    let invocation = claimed.invocation;
    let failed = |problem: &Problem| InvocationOutcome {
        status: problem.status,
        served_by: None,
        body: None,
        error: String::from_utf8(problem.to_json()).ok(),
    };
    if claimed.attempt > ATTEMPTS_MAX {
        return failed(&Problem::unavailable(
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
        return failed(&Problem::not_found(
            "function any more behind this invocation",
            &invocation.function.to_string(),
        ));
    };
    let event = Bytes::from(invocation.event);
    let canonical = match CanonicalEvent::parse(&event) {
        Ok(canonical) => canonical,
        Err(error) => return failed(&Problem::internal(&error)),
    };
    let principal = Arc::new(Principal {
        key: raas_core::KeyId::from_bytes([0; 16]),
        tenant: invocation.tenant,
        scopes: Scopes::of(&[Scope::Invoke]),
        in_flight: Arc::default(),
    });
    let admitted = loop {
        match app.admission.admit(&principal) {
            Ok(admitted) => break admitted,
            // It was accepted long ago: it waits until there is room.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let call = Call {
        id: invocation.id,
        principal,
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
            Ok(body) => InvocationOutcome {
                status: 200,
                served_by: Some(answer.served_by),
                body: String::from_utf8(body.to_vec()).ok(),
                error: None,
            },
            Err(error) => InvocationOutcome { served_by: Some(answer.served_by), ..failed(&Problem::from(error)) },
        },
        Err(error) => failed(&Problem::unavailable("not-answered", error.to_string())),
    }
}
