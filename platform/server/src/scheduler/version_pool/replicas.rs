//! What a pool does for a helper's instances and for no function's: asks whether they are well, replaces those that answer
//! nothing in time, and tells them when they sleep, wake and end.
//!
//! Who gets a place and when one is started is the pool's own business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Lease, VersionPool};
use crate::scheduler::error::CallError;
use crate::scheduler::instance::Instance;
use crate::scheduler::version_spec::{HelperSpec, VersionSpec};

/// Whether a replica is well, as far as it was asked.
pub(super) struct Health {
    /// When it is asked next.
    due: Instant,
    /// How often in a row it was not.
    failures: u32,
}

impl Health {
    pub(super) fn new(spec: &VersionSpec) -> Self {
        let every = spec.helper.as_ref().map_or(Duration::ZERO, |helper| helper.health_every());
        Self { due: Instant::now() + every, failures: 0 }
    }
}

impl HelperSpec {
    fn health_every(&self) -> Duration {
        Duration::from_secs(u64::from(self.health.every_s))
    }
}

impl VersionPool {
    /// The helpers' instances that have something to do when they stop, and for how long.
    pub(in crate::scheduler) fn last_words(&self) -> Vec<(Arc<Instance>, Duration)> {
        let all = if self.spec.helper.is_some() { self.instances() } else { Vec::new() };
        all.into_iter().filter(|one| one.has_hook("stop")).map(|one| (one, self.spec.stop_grace())).collect()
    }

    /// Asks idle replicas whose time has come whether they are well. A busy one is judged by its calls.
    pub(in crate::scheduler) fn check_health(self: &Arc<Self>) {
        let Some(helper) = &self.spec.helper else { return };
        let now = Instant::now();
        let mut due = Vec::new();
        for slot in &mut self.state.lock().slots {
            if slot.health.due > now || slot.in_flight > 0 || slot.draining {
                continue;
            }
            slot.health.due = now + helper.health_every();
            if slot.instance.has_hook("health") {
                slot.in_flight += 1;
                due.push((self.lease(&slot.instance), slot.idle_since));
            }
        }
        for (lease, idle_since) in due {
            tokio::spawn(Self::check_one(lease, idle_since));
        }
    }

    async fn check_one(lease: Lease, idle_since: Instant) {
        let pool = Arc::clone(&lease.pool);
        let Some(helper) = &pool.spec.helper else { return };
        let answer = lease.instance.hook(r#"{"hook":"health"}"#, helper.health.timeout_s).await;
        let trouble = match &answer {
            Ok(body) if body.trim_ascii() == b"false" => Some("health() says so".to_owned()),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let failed = {
            let mut state = pool.state.lock();
            let slot = state.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.instance, &lease.instance));
            let Some(slot) = slot else { return };
            slot.health.failures = if trouble.is_some() { slot.health.failures + 1 } else { 0 };
            slot.health.failures >= helper.health.failures
        };
        if let Some(trouble) = trouble {
            tracing::warn!(instance = %lease.instance.id, error = %trouble, replaced = failed, "a replica is not well");
            let then = if failed { "; it is replaced" } else { "" };
            pool.launcher.tell(&pool.spec, lease.instance.id, &format!("the replica is not well: {trouble}{then}"));
        }
        if failed {
            pool.discard(&lease.instance, false);
        }
        let instance = Arc::clone(&lease.instance);
        drop(lease);
        // To be asked is not to be called: what is idle stays so.
        if let Some(slot) = pool.state.lock().slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.instance, &instance))
            && slot.in_flight == 0
        {
            slot.idle_since = idle_since;
        }
    }

    /// Notes how a call in an instance ended, and takes one that fails again and again out of service.
    pub(super) fn record(self: &Arc<Self>, instance: &Arc<Instance>, answered: bool) {
        let replace = {
            let mut state = self.state.lock();
            let slot = state.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.instance, instance));
            slot.is_some_and(|slot| slot.breaker.record(answered, Instant::now()))
        };
        if replace {
            tracing::warn!(instance = %instance.id, "a replica answers nothing in time and is replaced");
            self.discard(instance, false);
        }
    }

    /// Tells a helper that was let go for want of calls that it is back.
    pub(super) async fn resume(&self, instance: &Instance) -> Result<(), CallError> {
        let Some(helper) = &self.spec.helper else { return Ok(()) };
        if !std::mem::take(&mut self.state.lock().suspended) || !instance.has_hook("resume") {
            return Ok(());
        }
        let resumed = instance.hook(r#"{"hook":"resume"}"#, helper.timeouts.resume_s).await;
        // The next one that starts is told, where this one could not be.
        self.state.lock().suspended |= resumed.is_err();
        resumed.map(|_| ())
    }

    /// Ends an instance that nobody needs; the last one of a helper is told before that it will sleep.
    pub(super) fn let_go(&self, instance: Arc<Instance>, last: bool) {
        let grace = self.spec.stop_grace();
        let suspend_s = self.spec.helper.as_ref().map(|helper| helper.timeouts.suspend_s);
        let Some(suspend_s) = suspend_s.filter(|_| last && instance.has_hook("suspend")) else {
            return instance.stop(grace);
        };
        tokio::spawn(async move {
            if let Err(error) = instance.hook(r#"{"hook":"suspend"}"#, suspend_s).await {
                tracing::warn!(instance = %instance.id, error = %error, "suspend() of a helper failed; it sleeps all the same");
            }
            instance.stop(grace);
        });
    }
}

impl Lease {
    /// Notes how a call ended: a replica that answers nothing in time is left alone, and replaced in the end; a function's
    /// instance goes at once.
    pub fn record(&self, answered: bool) {
        let spec = &self.pool.spec;
        if !answered && (spec.helper.is_none() || spec.manifest.scaling.concurrency == 1) {
            // A replica that runs one call at a time is stuck in that call.
            self.discard();
        } else if spec.helper.is_some() {
            self.pool.record(&self.instance, answered);
        }
    }
}
