//! One execution: a place in an instance, the call in it, and what is kept of what it came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_contract::{FunctionError, Invoke};
use raas_core::{CanonicalEvent, InstanceId, ResultKey, TagTemplate, TimestampUs, limits};
use raas_results::{ResultKind, StoredResult};

use super::call::{Call, KeptAs, Purpose, Times};
use super::{Execution, Invoker, queue_wait};
use crate::helpers::KeyedLease;
use crate::logs::LogTarget;
use crate::proof::Learnt;
use crate::routing::FunctionCounters;
use crate::scheduler::{CallError, Lease, Role};

/// How often a call that is declared idempotent is done again when its instance dies under it.
const REPEATS_MAX: u32 = 2;

impl Invoker {
    /// Runs the call in an instance, and keeps its result where it is said under what.
    pub(super) async fn execute(&self, call: &Call, kept_as: Option<&KeptAs>) -> Execution {
        let began_at = self.clock.now();
        let manifest = &call.version.manifest;
        let is_helper = call.version.pool.spec().helper.is_some();
        let pool = &match call.purpose {
            // A helper's replica has the state that its method needs; a function has none.
            Purpose::Precompute if !is_helper => call.version.pool_of(&self.scheduler, Role::Spare),
            _ => Arc::clone(&call.version.pool),
        };
        let wait_until = Instant::now() + queue_wait(&call.version);
        // What others may wait for, too, is not cut short by one caller's time.
        let callers_own = call.deadline.filter(|_| kept_as.is_none());
        let deadline = callers_own.map_or(wait_until, |deadline| deadline.min(wait_until));
        let trace_context = call.trace.to_text();
        let mut times = Times::default();
        let mut cold_start = false;
        let mut is_own = true;
        let mut repeats = 0;
        let mut reads = None;
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
                    reads = lease.instance().take_reads(call.id.as_bytes());
                    outcome = Ok(body);
                }
            }
            break;
        }

        if let Err(error) = &outcome
            && !error.is_refusal()
            && call.purpose != Purpose::Precompute
        {
            let target = LogTarget { function: call.function.id, version: call.version.number, instance };
            self.logs.failure(target, Some(call.id), &error.account());
        }
        let outcome = outcome.and_then(|body| checked(call, body, is_own));
        let recorded = reads.is_some();
        let learnt = reads.filter(|_| is_own && outcome.is_ok()).and_then(|reads| {
            // What a result can be dropped by tells it apart, too.
            let tags: Vec<_> = manifest.cache.tags.iter().flat_map(TagTemplate::pointers).cloned().collect();
            call.version.projections.as_ref()?.learn(&reads, &call.event, &tags)
        });
        if outcome.is_ok() {
            note_compute_time(&call.function.counters, times.exec_us);
        }
        let mut kept_under = None;
        // One that was quarantined meanwhile keeps nothing more.
        let kept = kept_as.filter(|_| is_own && super::may_be_kept(&call.version)).and_then(|kept_as| match &outcome {
            Ok(body) => {
                // A copy of its own: the frame it came in shares its memory with others.
                let body = Bytes::copy_from_slice(body);
                let key = key_for(call, kept_as, learnt.as_ref());
                kept_under = Some(key);
                self.keep(call, (key, kept_as), ResultKind::Value, body, began_at, times.exec_us)
            }
            Err(CallError::Raised(error)) if manifest.cache.errors.contains(&error.kind) => {
                let body = serde_json::to_vec(error).unwrap_or_default();
                self.keep(call, (kept_as.key, kept_as), ResultKind::Error, body.into(), began_at, times.exec_us)
            }
            Err(_) => None,
        });
        Execution {
            result: outcome,
            times,
            cold_start,
            is_own,
            recorded,
            learnt,
            kept_under: kept_under.filter(|_| kept.is_some()),
            kept,
        }
    }

    /// Keeps what an execution came to.
    fn keep(
        &self,
        call: &Call,
        (key, kept_as): (ResultKey, &KeptAs),
        kind: ResultKind,
        body: Bytes,
        began_at: TimestampUs,
        compute_us: u64,
    ) -> Option<Arc<StoredResult>> {
        let cache = &call.version.manifest.cache;
        let (ttl_s, stale_s, on_error_s) = match kind {
            ResultKind::Value => (cache.ttl_s, cache.stale_while_revalidate_s, cache.stale_if_error_s),
            ResultKind::Error => (cache.error_ttl_s, 0, 0),
        };
        let now = self.clock.now();
        let after = |from: TimestampUs, seconds: u32| from.saturating_add(Duration::from_secs(u64::from(seconds)));
        let fresh_until = after(now, ttl_s);
        let result = Arc::new(StoredResult {
            kind,
            body,
            tenant: call.function.tenant,
            function: call.function.id,
            version: call.version.number,
            compute_us,
            tags: kept_as.tags.clone(),
            began_at,
            stored_at: now,
            fresh_until,
            stale_until: after(fresh_until, stale_s),
            on_error_until: after(fresh_until, on_error_s),
            unasked: AtomicBool::new(call.purpose == Purpose::Precompute),
        });
        self.results.put(key, &result, now).then_some(result)
    }
}

/// Under what a result is kept: under the parts of the event that its run read, where these are known and verified, and else the whole.
fn key_for(call: &Call, kept_as: &KeptAs, learnt: Option<&Learnt>) -> ResultKey {
    let of_parts = learnt.filter(|learnt| learnt.verified).and_then(|learnt| {
        let event = CanonicalEvent::parse(&call.event).ok()?;
        Some(call.version.key_of_parts(&event, &learnt.parts, &call.helper_epochs))
    });
    of_parts.unwrap_or(kept_as.key)
}

/// A moving average over about the last eight.
fn note_compute_time(counters: &FunctionCounters, exec_us: u64) {
    let before = counters.compute_us.load(Ordering::Relaxed);
    let after = if before == 0 { exec_us } else { (before * 7 + exec_us) / 8 };
    counters.compute_us.store(after.max(1), Ordering::Relaxed);
}

/// What the code returned, unless it is no acceptable result.
fn checked(call: &Call, body: Bytes, is_own: bool) -> Result<Bytes, CallError> {
    let refused = |kind: &str, message| {
        CallError::Raised(FunctionError { kind: kind.into(), message, stack: String::new(), code: None })
    };
    if body.len() > limits::BODY_MAX_BYTES {
        let message = format!("the result has {} bytes; at most {} are allowed", body.len(), limits::BODY_MAX_BYTES);
        return Err(refused("ResponseTooLarge", message));
    }
    if let Some(check) = call.version.result_check.as_ref().filter(|_| is_own) {
        check(&body).map_err(|problem| refused("InvalidResult", problem))?;
    }
    Ok(body)
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
