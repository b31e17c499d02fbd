//! What helper instances use between calls, summed up by the hour.

use raas_core::{HelperInstanceId, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_i64};
use crate::store::{BULK_DEADLINE, PAGE_MAX, READ_DEADLINE, within};
use crate::usage_append::HOUR_US;
use crate::values::insert_many;
use crate::{Store, StoreError};

/// What an instance used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HelperMeters {
    /// Time of its replicas together, microseconds.
    pub replica_us: u64,
    /// Processor time of its replicas, as the kernel counted it, microseconds.
    pub cpu_us: u64,
    /// Memory in use times time, MiB × microseconds.
    pub memory_mb_us: u64,
    /// Accelerators times time, microseconds.
    pub gpu_us: u64,
    /// Time of training runs, microseconds.
    pub training_us: u64,
    /// Processor time of training runs, microseconds.
    pub training_cpu_us: u64,
}

/// The sums of one instance in one hour, or a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperUsageRow {
    /// Who pays.
    pub tenant: TenantId,
    /// The instance.
    pub instance: HelperInstanceId,
    /// The beginning of the hour.
    pub hour: TimestampUs,
    /// What it used.
    pub meters: HelperMeters,
}

impl HelperMeters {
    /// With what `more` says added.
    pub fn add(&mut self, more: &Self) {
        self.replica_us = self.replica_us.saturating_add(more.replica_us);
        self.cpu_us = self.cpu_us.saturating_add(more.cpu_us);
        self.memory_mb_us = self.memory_mb_us.saturating_add(more.memory_mb_us);
        self.gpu_us = self.gpu_us.saturating_add(more.gpu_us);
        self.training_us = self.training_us.saturating_add(more.training_us);
        self.training_cpu_us = self.training_cpu_us.saturating_add(more.training_cpu_us);
    }
}

impl Store {
    /// Adds to what instances have used in the hour of `now`.
    ///
    /// # Errors
    /// Those of the database; nothing is added then.
    pub async fn helper_usage_add(
        &self,
        used: &[(TenantId, HelperInstanceId, HelperMeters)],
        now: TimestampUs,
    ) -> Result<(), StoreError> {
        let hour = now.0 - now.0.rem_euclid(HOUR_US);
        // In the order of their keys, so that two gateways that add to the same rows lock them in the same order.
        let mut used = used.to_vec();
        used.sort_unstable_by_key(|(tenant, instance, _)| (*tenant, *instance));
        within(BULK_DEADLINE, async {
            let mut tx = self.begin().await?;
            insert_many(&mut tx, INSERT, 9, ADD, &used, |query, (tenant, instance, meters)| {
                query
                    .bind(tenant.to_string())
                    .bind(instance.to_string())
                    .bind(hour)
                    .bind(to_i64(meters.replica_us))
                    .bind(to_i64(meters.cpu_us))
                    .bind(to_i64(meters.memory_mb_us))
                    .bind(to_i64(meters.gpu_us))
                    .bind(to_i64(meters.training_us))
                    .bind(to_i64(meters.training_cpu_us))
            })
            .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// What a tenant's instances (or one of them) used, hour by hour, the newest first; whole hours.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_usage_list(
        &self,
        tenant: TenantId,
        instance: Option<HelperInstanceId>,
        from: Option<TimestampUs>,
        to: Option<TimestampUs>,
    ) -> Result<Vec<HelperUsageRow>, StoreError> {
        let from = from.map_or(i64::MIN, |from| from.0.saturating_sub(from.0.rem_euclid(HOUR_US)));
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT tenant_id, instance_id, hour_us, replica_us, cpu_us, memory_mb_us, gpu_us, training_us, \
                 training_cpu_us FROM helper_usage_hours WHERE tenant_id = $1 AND ($2 = '' OR instance_id = $2) \
                 AND hour_us >= $3 AND hour_us < $4 ORDER BY hour_us DESC, instance_id LIMIT $5",
            )
            .bind(tenant.to_string())
            .bind(instance.map(|instance| instance.to_string()).unwrap_or_default())
            .bind(from)
            .bind(to.map_or(i64::MAX, |to| to.0))
            .bind(i64::from(PAGE_MAX))
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(usage).collect()
        })
        .await
    }
}

const INSERT: &str = "INSERT INTO helper_usage_hours (tenant_id, instance_id, hour_us, replica_us, cpu_us, memory_mb_us, \
    gpu_us, training_us, training_cpu_us)";

const ADD: &str = "ON CONFLICT (tenant_id, instance_id, hour_us) DO UPDATE SET \
    replica_us = helper_usage_hours.replica_us + excluded.replica_us, \
    cpu_us = helper_usage_hours.cpu_us + excluded.cpu_us, \
    memory_mb_us = helper_usage_hours.memory_mb_us + excluded.memory_mb_us, \
    gpu_us = helper_usage_hours.gpu_us + excluded.gpu_us, \
    training_us = helper_usage_hours.training_us + excluded.training_us, \
    training_cpu_us = helper_usage_hours.training_cpu_us + excluded.training_cpu_us";

fn usage(row: &AnyRow) -> Result<HelperUsageRow, StoreError> {
    Ok(HelperUsageRow {
        tenant: row.parsed(0, "tenant id")?,
        instance: row.parsed(1, "helper instance id")?,
        hour: row.time(2)?,
        meters: HelperMeters {
            replica_us: row.number(3, "replica time")?,
            cpu_us: row.number(4, "processor time")?,
            memory_mb_us: row.number(5, "memory time")?,
            gpu_us: row.number(6, "accelerator time")?,
            training_us: row.number(7, "training time")?,
            training_cpu_us: row.number(8, "training processor time")?,
        },
    })
}
