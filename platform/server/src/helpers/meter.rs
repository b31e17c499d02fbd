//! What replicas use whether or not anybody calls: their time, and what the kernel counted of processor and memory.
//!
//! Samples every few seconds, once more when a replica has ended, and adds the differences to the hour's sums. What is lost
//! with the platform's process is what was used since the last time sums were written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_core::{HelperInstanceId, InstanceId, TenantId};
use raas_sandbox::SandboxUsage;
use raas_store::HelperMeters;

use super::route::{HelperRoute, ReplicaRole};
use crate::app::App;
use crate::scheduler::{Instance, UsageProbe};

/// How often replicas are looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// How often sums are written.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A replica and what of it has been counted.
struct Tracked {
    tenant: TenantId,
    helper: HelperInstanceId,
    role: ReplicaRole,
    accelerators: u32,
    /// Not the replica itself: its place among the instances is free as soon as it has ended.
    probe: UsageProbe,
    counted_until: Instant,
    cpu_us: u64,
}

/// Follows replicas and sums up what they use.
#[derive(Default)]
pub struct HelperMeter {
    tracked: Mutex<HashMap<InstanceId, Tracked>>,
    sums: Mutex<HashMap<(TenantId, HelperInstanceId), HelperMeters>>,
    sampled_at: Mutex<Option<Instant>>,
    written_at: Mutex<Option<Instant>>,
}

impl HelperMeter {
    /// Follows a replica from now on; one that is followed already is left as it is.
    pub fn track(&self, route: &HelperRoute, role: ReplicaRole, replica: &Arc<Instance>) {
        self.tracked.lock().entry(replica.id).or_insert_with(|| Tracked {
            tenant: route.tenant,
            helper: route.id,
            role,
            accelerators: route.accelerators(),
            probe: replica.probe(),
            counted_until: Instant::now(),
            cpu_us: 0,
        });
    }

    /// Counts what was used since the last time, where that is long enough ago.
    pub async fn sample_if_due(&self) {
        if is_due(&self.sampled_at, SAMPLE_EVERY) {
            self.sample().await;
        }
    }

    /// Counts what was used since the last time.
    pub async fn sample(&self) {
        let replicas: Vec<_> = self.tracked.lock().iter().map(|(id, tracked)| (*id, tracked.probe.clone())).collect();
        for (replica, probe) in replicas {
            let ended = probe.final_usage();
            let usage = match ended {
                Some(usage) => Some(usage),
                None => probe.usage().await,
            };
            let Some(usage) = usage else { continue };
            let mut all = self.tracked.lock();
            let Some(tracked) = all.get_mut(&replica) else { continue };
            let used = tracked.count(usage);
            let key = (tracked.tenant, tracked.helper);
            if ended.is_some() {
                all.remove(&replica);
            }
            drop(all);
            self.sums.lock().entry(key).or_default().add(&used);
        }
    }

    /// Writes the sums, where the last time is long enough ago.
    pub async fn write_if_due(&self, app: &App) {
        if is_due(&self.written_at, WRITE_EVERY) {
            self.write(app).await;
        }
    }

    /// Writes the sums. They are kept for the next time where the database does not take them.
    pub async fn write(&self, app: &App) {
        let sums = std::mem::take(&mut *self.sums.lock());
        if sums.is_empty() {
            return;
        }
        let used: Vec<_> = sums.iter().map(|((tenant, helper), meters)| (*tenant, *helper, *meters)).collect();
        if let Err(error) = app.store.helper_usage_add(&used, app.clock.now()).await {
            tracing::warn!(error = %error, "what helper instances used could not be written; it is kept until it can");
            let mut all = self.sums.lock();
            for (key, meters) in sums {
                all.entry(key).or_default().add(&meters);
            }
        }
    }
}

impl Tracked {
    fn count(&mut self, usage: SandboxUsage) -> HelperMeters {
        let now = Instant::now();
        let time_us = u64::try_from(now.duration_since(self.counted_until).as_micros()).unwrap_or(0);
        let cpu_us = usage.cpu_us.saturating_sub(self.cpu_us);
        self.counted_until = now;
        self.cpu_us = usage.cpu_us;
        let memory_mb_us = (usage.memory_bytes >> 20).saturating_mul(time_us);
        let gpu_us = u64::from(self.accelerators).saturating_mul(time_us);
        match self.role {
            ReplicaRole::Serve => {
                HelperMeters { replica_us: time_us, cpu_us, memory_mb_us, gpu_us, ..HelperMeters::default() }
            }
            ReplicaRole::Train => HelperMeters {
                training_us: time_us,
                training_cpu_us: cpu_us,
                memory_mb_us,
                gpu_us,
                ..HelperMeters::default()
            },
        }
    }
}

fn is_due(last: &Mutex<Option<Instant>>, every: Duration) -> bool {
    let mut last = last.lock();
    let due = last.is_none_or(|at| at.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
