//! Candidates: what a helper expects to be asked, computed before it is.
//!
//! One at a time, only while nobody waits for the instance, and within the declared share of a processor: after each
//! computation it rests for as long as the share asks for. Results are kept like any other and are served as `precomputed`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raas_core::InvocationId;
use raas_helpers::AdminState;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::call::{MethodCall, call_method};
use super::manager::HelperManager;
use super::route::HelperRoute;
use super::training::{hook, tell};
use crate::admission::Admitted;
use crate::app::App;
use crate::invoke::{CallerPolicy, Purpose};
use crate::trace::TraceContext;

/// The shortest rest between two computations.
const REST_LEAST: Duration = Duration::from_millis(1);

/// How long to wait before looking again whether an instance is idle.
const BUSY_REST: Duration = Duration::from_millis(50);

/// One question that is expected.
#[derive(Deserialize)]
struct Candidate {
    method: String,
    args: Box<RawValue>,
}

/// Computes the candidates of an instance once for each epoch, while it is ready anyway.
pub(super) fn start_if_due(
    manager: &HelperManager,
    app: &Arc<App>,
    route: &Arc<HelperRoute>,
    stop: &CancellationToken,
) {
    let Some(precompute) = &route.manifest.precompute else { return };
    if route.admin == AdminState::Stopped || route.pool.observe().0 == 0 {
        return;
    }
    if manager.precomputed.lock().insert(route.id, route.epoch) == Some(route.epoch) {
        return;
    }
    let (app, route, stop) = (Arc::clone(app), Arc::clone(route), stop.clone());
    let (cpu_millis, limit) = (precompute.cpu_millis.max(1), precompute.limit);
    tokio::spawn(async move {
        tokio::select! {
            computed = compute(&app, &route, cpu_millis, limit) => match computed {
                Ok(computed) => tracing::info!(helper.instance = %route.id, computed, "candidates are computed"),
                Err(error) => {
                    tracing::warn!(helper.instance = %route.id, error = %error, "candidates could not be had");
                    tell(&app, &route, &format!("candidates() failed, so nothing is computed ahead: {error}"));
                }
            },
            () = stop.cancelled() => {}
        }
    });
}

async fn compute(app: &Arc<App>, route: &Arc<HelperRoute>, cpu_millis: u32, limit: u32) -> anyhow::Result<usize> {
    let event = json!({ "hook": "candidates", "limit": limit });
    let listed = {
        let within = Instant::now() + Duration::from_secs(u64::from(route.manifest.start_timeout_s));
        let lease = route.pool.acquire(within).await?;
        if !lease.instance().has_hook("candidates") {
            return Ok(0);
        }
        hook(&lease, &event, route.manifest.timeouts.candidates_s).await?
    };
    let candidates: Vec<Candidate> = serde_json::from_slice(&listed)?;
    let mut computed = 0;
    for candidate in candidates.into_iter().take(limit as usize) {
        while route.pool.is_busy() {
            tokio::time::sleep(BUSY_REST).await;
        }
        if app.routing.load().helper_by_id(route.id).is_none_or(|current| current.epoch != route.epoch) {
            // Another version, configuration or training: these answers would never be found.
            break;
        }
        let id = InvocationId::generate();
        let begun = Instant::now();
        let call = MethodCall {
            id,
            tenant: route.tenant,
            arguments: candidate.args.get().to_owned().into(),
            policy: CallerPolicy::default(),
            trace: TraceContext::of_call(id, None, None),
            arrived: begun,
            admitted: Admitted::within_a_call(),
            depth: 0,
            caller: None,
            deadline: None,
            purpose: Purpose::Precompute,
        };
        if call_method(app, route, &candidate.method, call).await.is_ok_and(|answer| answer.result.is_ok()) {
            computed += 1;
        }
        let rest = begun.elapsed() * (1000u32.saturating_sub(cpu_millis)) / cpu_millis;
        tokio::time::sleep(rest.max(REST_LEAST)).await;
    }
    Ok(computed)
}
