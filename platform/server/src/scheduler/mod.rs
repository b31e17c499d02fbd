//! Which instance runs a call: the warming pool, instances by version, waits, and their retirement.
//!
//! Owns every sandbox of the platform from its start to its end. It must not know HTTP, tenants' keys, caching or the database:
//! it is asked for a [`version_pool::Lease`] on a version and gives one, or says why not.

mod error;
mod instance;
mod launch;
mod lifecycle;
mod spawner;
mod version_pool;
mod version_spec;
mod warm_pool;

pub use error::CallError;
pub use instance::{Instance, InstanceStatus, UsageProbe, micros_since};
pub use launch::{LaunchLimits, Launcher};
pub use spawner::SpawnerHandle;
pub use version_pool::{Lease, VersionPool};
pub use version_spec::{HelperSpec, Role, VersionSpec};
pub use warm_pool::{RuntimeKind, WarmPool};

use std::sync::Arc;
use std::time::Duration;

/// How often idle instances are looked for. An instance is gone within a second after its idle time, so well below that.
const RETIRE_EVERY: Duration = Duration::from_millis(200);

/// All versions that have, or may soon have, instances.
pub struct Scheduler {
    launcher: Arc<Launcher>,
}

impl Scheduler {
    /// A scheduler with no instances. Call [`Scheduler::run`] for it to retire and refill.
    pub fn new(launcher: Arc<Launcher>) -> Arc<Self> {
        Arc::new(Self { launcher })
    }

    /// The warming pool, for `/metrics` and readiness.
    pub fn launcher(&self) -> &Arc<Launcher> {
        &self.launcher
    }

    /// The pool of a version, known to the scheduler from now on. The caller keeps it for as long as the version is routable.
    pub fn version_pool(&self, spec: VersionSpec) -> Arc<VersionPool> {
        VersionPool::new(spec, Arc::clone(&self.launcher))
    }

    /// Retires, keeps minimums and frees capacity for those who wait for it, until the platform stops.
    pub async fn run(self: Arc<Self>, stop: tokio_util::sync::CancellationToken) {
        let mut tick = tokio::time::interval(RETIRE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.launcher.capacity_wanted() => {}
                () = stop.cancelled() => return,
            }
            let mut pools = self.launcher.watched().lock().clone();
            for pool in &pools {
                pool.retire_idle();
                pool.keep_minimum();
                pool.check_health();
                pool.start_for_waits();
            }
            for held_up in pools.iter().filter(|pool| !pool.spec().role.yields() && pool.is_held_up()) {
                let counted = held_up.spec().counted_together();
                // The tenant's own idle instances make room for its calls.
                if self.launcher.tenant_is_full(counted) {
                    pools
                        .iter()
                        .filter(|pool| pool.spec().counted_together() == counted)
                        .any(|pool| pool.retire_one_idle());
                }
            }
            if self.launcher.capacity_short() {
                // The longest idle instance of whoever has one makes room; one a round is enough, the next round is near.
                // Cached: what is idle changes while this sorts.
                pools.sort_by_cached_key(|pool| pool.idle_since());
                if !pools.iter().any(|pool| pool.retire_one_idle()) {
                    self.launcher.warm_pool().give_up_one();
                }
            }
            self.launcher.watched().lock().retain(|pool| !pool.unwatch_if_empty());
        }
    }

    /// What runs now, for people.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        self.launcher.watched().lock().iter().flat_map(|pool| pool.statuses()).collect()
    }

    /// Stops every instance, and waits for helpers that have a `stop()` for as long as those may take. Requests in flight
    /// should have drained before.
    pub async fn stop(&self) {
        let pools = std::mem::take(&mut *self.launcher.watched().lock());
        let last_words: Vec<_> = pools.iter().flat_map(|pool| pool.last_words()).collect();
        for pool in &pools {
            pool.close();
        }
        let ended = futures_util::future::join_all(last_words.into_iter().map(|(instance, within)| async move {
            let _ = tokio::time::timeout(within, instance.ended()).await;
        }));
        ended.await;
        self.launcher.stop();
        for pool in pools {
            pool.close();
        }
        self.launcher.warm_pool().close();
    }
}
