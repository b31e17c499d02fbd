//! Training runs of helper instances.

use raas_core::{HelperInstanceId, TimestampUs};
use uuid::Uuid;

use crate::columns::{Columns, to_i64};
use crate::store::{READ_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// The longest account of a run that is kept, bytes.
/// Runs of one instance that are remembered.
const RUNS_KEPT: i64 = 100;

const DETAIL_MAX_BYTES: usize = 16 * 1024;

/// A run that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingRun(Uuid);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingOutcome {
    /// Its outcome is in force.
    Succeeded,
    /// What was before is still in force.
    Failed,
}

/// A run as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingRow {
    /// When it began.
    pub started: TimestampUs,
    /// When it ended.
    pub ended: Option<TimestampUs>,
    /// `running`, `succeeded`, `failed` or `abandoned`.
    pub outcome: String,
    /// What `train()` returned, or why it failed.
    pub detail: String,
    /// The data version from then on.
    pub data_version: u64,
}

impl Store {
    /// Writes down that a run begins. What a platform that is gone had begun is abandoned.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_training_begin(
        &self,
        instance: HelperInstanceId,
        now: TimestampUs,
    ) -> Result<TrainingRun, StoreError> {
        let run = Uuid::now_v7();
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            sqlx::query(
                "UPDATE helper_training_runs SET outcome = 'abandoned', ended_us = $2 \
                 WHERE instance_id = $1 AND outcome = 'running'",
            )
            .bind(instance.to_string())
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "INSERT INTO helper_training_runs (id, instance_id, started_us, outcome, detail, data_version) \
                 VALUES ($1, $2, $3, 'running', '', 0)",
            )
            .bind(run.to_string())
            .bind(instance.to_string())
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "DELETE FROM helper_training_runs WHERE instance_id = $1 AND id NOT IN \
                 (SELECT id FROM helper_training_runs WHERE instance_id = $1 ORDER BY id DESC LIMIT $2)",
            )
            .bind(instance.to_string())
            .bind(RUNS_KEPT)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(TrainingRun(run))
        })
        .await
    }

    /// Writes down how a run ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_training_end(
        &self,
        run: TrainingRun,
        outcome: TrainingOutcome,
        detail: &str,
        data_version: u64,
        now: TimestampUs,
    ) -> Result<(), StoreError> {
        let outcome = match outcome {
            TrainingOutcome::Succeeded => "succeeded",
            TrainingOutcome::Failed => "failed",
        };
        let detail = &detail[..detail.floor_char_boundary(DETAIL_MAX_BYTES)];
        within(WRITE_DEADLINE, async {
            sqlx::query(
                "UPDATE helper_training_runs SET outcome = $2, detail = $3, data_version = $4, ended_us = $5 WHERE id = $1",
            )
            .bind(run.0.to_string())
            .bind(outcome)
            .bind(detail.replace('\0', "\u{fffd}"))
            .bind(to_i64(data_version))
            .bind(now.0)
            .execute(self.writer())
            .await?;
            Ok(())
        })
        .await
    }

    /// The last runs of an instance, the newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_training_list(
        &self,
        instance: HelperInstanceId,
        limit: u32,
    ) -> Result<Vec<TrainingRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT started_us, ended_us, outcome, detail, data_version FROM helper_training_runs \
                 WHERE instance_id = $1 ORDER BY id DESC LIMIT $2",
            )
            .bind(instance.to_string())
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(TrainingRow {
                        started: row.time(0)?,
                        ended: row.time_option(1)?,
                        outcome: row.value(2, "training outcome")?,
                        detail: row.value(3, "training detail")?,
                        data_version: row.number(4, "data version")?,
                    })
                })
                .collect()
        })
        .await
    }
}
