//! What helper instances keep: values by key, written in commits that take place whole or not at all.

use raas_core::{HelperInstanceId, TimestampUs};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_i64};
use crate::helper_instances::INSTANCE_NOT_FOUND;
use crate::store::{BULK_DEADLINE, READ_DEADLINE, SWEEP_DEADLINE, Tx, within};
use crate::{Store, StoreError, helper_leases};

/// Keys removed by one statement of a sweep, so that other writers get their turn in between.
const SWEEP_KEYS: i64 = 1_000;

/// Instances looked at at once by a sweep.
const SWEEP_INSTANCES: i64 = 100;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateForm {
    /// JSON text.
    Json,
    /// Bytes.
    Bytes,
}

impl StateForm {
    /// How it is written, in the database and in the contract.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::Json => b'j',
            Self::Bytes => b'b',
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "j",
            Self::Bytes => "b",
        }
    }
}

/// One write of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateWrite {
    /// Keep a value.
    Put {
        /// The key.
        key: String,
        /// What the value is.
        form: StateForm,
        /// The value.
        value: Vec<u8>,
        /// For how long; for ever where it is left out, milliseconds.
        ttl_ms: Option<u64>,
    },
    /// Keep nothing under a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// A kept value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The key.
    pub key: String,
    /// What the value is.
    pub form: StateForm,
    /// The value.
    pub value: Vec<u8>,
    /// From when on it is gone.
    pub expires: Option<TimestampUs>,
    /// When it was written.
    pub updated: TimestampUs,
}

/// A key that an instance keeps something under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateKey {
    /// The key.
    pub key: String,
    /// Bytes of its value.
    pub size_bytes: u64,
    /// From when on it is gone.
    pub expires: Option<TimestampUs>,
    /// When it was written.
    pub updated: TimestampUs,
}

/// Writes that become durable together, or not at all.
#[derive(Debug, Clone)]
pub struct StateCommit {
    /// Whose state.
    pub instance: HelperInstanceId,
    /// What is written.
    pub writes: Vec<StateWrite>,
    /// How much the instance may hold.
    pub quota_bytes: u64,
    /// The key under which the writer was called, and the fence, where there is one writer a key.
    pub key: Option<(String, u64)>,
}

impl StateCommit {
    /// What its keys and values hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |write: &StateWrite| match write {
            StateWrite::Put { key, value, .. } => key.len() + value.len(),
            StateWrite::Delete { key } => key.len(),
        };
        self.writes.iter().map(of).sum()
    }
}

const COLUMNS: &str = "SELECT key, form, value, expires_us, updated_us FROM helper_state";

impl Store {
    /// The value of a key, unless its time is over.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_state_get(
        &self,
        instance: HelperInstanceId,
        key: &str,
        now: TimestampUs,
    ) -> Result<Option<StateEntry>, StoreError> {
        within(READ_DEADLINE, async {
            let sql =
                format!("{COLUMNS} WHERE instance_id = $1 AND key = $2 AND (expires_us IS NULL OR expires_us > $3)");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(instance.to_string())
                .bind(key.as_bytes().to_vec())
                .bind(now.0)
                .fetch_optional(self.reader())
                .await?;
            row.as_ref().map(entry).transpose()
        })
        .await
    }

    /// Up to `limit` values whose keys begin with `prefix`, in the order of their keys' bytes, from behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_state_list(
        &self,
        instance: HelperInstanceId,
        prefix: &str,
        limit: u32,
        after: Option<&str>,
        now: TimestampUs,
    ) -> Result<Vec<StateKey>, StoreError> {
        let from = prefix.as_bytes().to_vec();
        // UTF-8 has no byte 0xff, so this is above every key with the prefix.
        let below = [prefix.as_bytes(), &[0xff]].concat();
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT key, LENGTH(value), expires_us, updated_us FROM helper_state \
                 WHERE instance_id = $1 AND key >= $2 AND key < $3 AND key > $4 \
                 AND (expires_us IS NULL OR expires_us > $5) ORDER BY key LIMIT $6",
            )
            .bind(instance.to_string())
            .bind(from)
            .bind(below)
            .bind(after)
            .bind(now.0)
            .bind(i64::from(limit))
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(state_key).collect()
        })
        .await
    }

    /// Commits, each whole or not at all, in one transaction: the outcomes in their order.
    ///
    /// # Errors
    /// Those of the database; nothing was written then, unless it did not answer in time. A commit's own:
    /// [`StoreError::Quota`], [`StoreError::NotFound`] when the instance is deleted.
    pub async fn helper_state_commit_many(
        &self,
        commits: &[StateCommit],
        now: TimestampUs,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        within(BULK_DEADLINE, async {
            let mut tx = self.begin().await?;
            let mut outcomes = Vec::with_capacity(commits.len());
            for one in commits {
                sqlx::query("SAVEPOINT one_commit").execute(&mut *tx).await?;
                let outcome = commit(&mut tx, one, now).await;
                let end = match &outcome {
                    Ok(()) => "RELEASE SAVEPOINT one_commit",
                    Err(StoreError::Quota { .. } | StoreError::NotFound { .. } | StoreError::Conflict { .. }) => {
                        "ROLLBACK TO SAVEPOINT one_commit"
                    }
                    // The database's own trouble is everybody's.
                    Err(_) => return outcome.map(|()| Vec::new()),
                };
                sqlx::query(end).execute(&mut *tx).await?;
                outcomes.push(outcome);
            }
            tx.commit().await?;
            Ok(outcomes)
        })
        .await
    }

    /// Removes keys whose time is over, and what is left of deleted instances, in pieces. Answers how many keys.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_state_sweep(&self, now: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let mut swept = 0;
            loop {
                let due = sqlx::query(
                    "SELECT DISTINCT s.instance_id FROM helper_state s JOIN helper_instances i ON i.id = s.instance_id \
                     WHERE s.expires_us <= $1 OR i.deleted_us IS NOT NULL LIMIT $2",
                )
                .bind(now.0)
                .bind(SWEEP_INSTANCES)
                .fetch_all(self.reader())
                .await?;
                for row in &due {
                    swept += self.sweep_one(row.value(0, "helper instance id")?, now).await?;
                }
                if (due.len() as i64) < SWEEP_INSTANCES {
                    return Ok(swept);
                }
            }
        })
        .await
    }

    /// One piece of one instance. Its row is locked first, as by every commit, so that the two come one after the other.
    async fn sweep_one(&self, instance: String, now: TimestampUs) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let row =
            sqlx::query("UPDATE helper_instances SET state_bytes = state_bytes WHERE id = $1 RETURNING deleted_us")
                .bind(&instance)
                .fetch_optional(&mut *tx)
                .await?;
        let deleted = row.map_or(Ok(None), |row| row.time_option(0))?.is_some();
        let until = if deleted { i64::MAX } else { now.0 };
        let keys = sqlx::query(
            "SELECT key, LENGTH(value) FROM helper_state WHERE instance_id = $1 AND COALESCE(expires_us, $2) <= $3 LIMIT $4",
        )
        .bind(&instance)
        .bind(i64::MAX)
        .bind(until)
        .bind(SWEEP_KEYS)
        .fetch_all(&mut *tx)
        .await?;
        let mut freed = 0;
        for row in &keys {
            let key: Vec<u8> = row.value(0, "state key")?;
            freed += count(row, 1)? + key.len() as i64;
            sqlx::query("DELETE FROM helper_state WHERE instance_id = $1 AND key = $2")
                .bind(&instance)
                .bind(key)
                .execute(&mut *tx)
                .await?;
        }
        if !deleted {
            resize(&mut tx, &instance, -freed).await?;
        }
        tx.commit().await?;
        Ok(keys.len() as u64)
    }
}

async fn commit(tx: &mut Tx, one: &StateCommit, now: TimestampUs) -> Result<(), StoreError> {
    let StateCommit { instance, writes, quota_bytes, key } = one;
    let quota_bytes = *quota_bytes;
    let id = instance.to_string();
    if let Some((key, fence)) = key
        && !helper_leases::is_held(tx, &id, key, *fence).await?
    {
        return Err(StoreError::Conflict { what: "the key has another holder" });
    }
    // Also locks the instance's row, so that commits of two gateways come one after the other.
    let updated = sqlx::query("UPDATE helper_instances SET updated_us = $2 WHERE id = $1 AND deleted_us IS NULL")
        .bind(&id)
        .bind(now.0)
        .execute(&mut **tx)
        .await?;
    if updated.rows_affected() == 0 {
        return Err(INSTANCE_NOT_FOUND);
    }
    let mut change = 0;
    for write in writes {
        let key = match write {
            StateWrite::Put { key, .. } | StateWrite::Delete { key } => key.as_bytes().to_vec(),
        };
        let before = sqlx::query("SELECT LENGTH(value) FROM helper_state WHERE instance_id = $1 AND key = $2")
            .bind(&id)
            .bind(key.clone())
            .fetch_optional(&mut **tx)
            .await?;
        if let Some(row) = &before {
            change -= count(row, 0)? + key.len() as i64;
        }
        match write {
            StateWrite::Delete { .. } => {
                sqlx::query("DELETE FROM helper_state WHERE instance_id = $1 AND key = $2")
                    .bind(&id)
                    .bind(key)
                    .execute(&mut **tx)
                    .await?;
            }
            StateWrite::Put { form, value, ttl_ms, .. } => {
                change += (value.len() + key.len()) as i64;
                let expires = ttl_ms.map(|ttl_ms| now.0.saturating_add(to_i64(ttl_ms).saturating_mul(1_000)));
                sqlx::query(
                    "INSERT INTO helper_state (instance_id, key, form, value, expires_us, updated_us) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (instance_id, key) DO UPDATE SET form = excluded.form, \
                     value = excluded.value, expires_us = excluded.expires_us, updated_us = excluded.updated_us",
                )
                .bind(&id)
                .bind(key)
                .bind(form.as_str())
                .bind(value.clone())
                .bind(expires)
                .bind(now.0)
                .execute(&mut **tx)
                .await?;
            }
        }
    }
    let after = resize(tx, &id, change).await?;
    // What makes room is never refused, however full it is.
    if change > 0 && after > to_i64(quota_bytes) {
        return Err(StoreError::Quota { limit_bytes: quota_bytes });
    }
    Ok(())
}

async fn resize(tx: &mut Tx, instance: &str, change: i64) -> Result<i64, StoreError> {
    let row =
        sqlx::query("UPDATE helper_instances SET state_bytes = state_bytes + $2 WHERE id = $1 RETURNING state_bytes")
            .bind(instance)
            .bind(change)
            .fetch_optional(&mut **tx)
            .await?;
    row.map_or(Ok(0), |row| row.value(0, "state size"))
}

/// A length: 64 bits in SQLite, 32 in Postgres.
fn count(row: &AnyRow, at: usize) -> Result<i64, StoreError> {
    row.try_get::<i64, _>(at)
        .or_else(|_| row.try_get::<i32, _>(at).map(i64::from))
        .map_err(|_| StoreError::Corrupt { what: "state size" })
}

fn state_key(row: &AnyRow) -> Result<StateKey, StoreError> {
    Ok(StateKey {
        key: String::from_utf8(row.value(0, "state key")?).map_err(|_| StoreError::Corrupt { what: "state key" })?,
        size_bytes: u64::try_from(count(row, 1)?).unwrap_or(0),
        expires: row.time_option(2)?,
        updated: row.time(3)?,
    })
}

fn entry(row: &AnyRow) -> Result<StateEntry, StoreError> {
    let form = match row.value::<&str>(1, "state form")? {
        "j" => StateForm::Json,
        "b" => StateForm::Bytes,
        _ => return Err(StoreError::Corrupt { what: "state form" }),
    };
    Ok(StateEntry {
        key: String::from_utf8(row.value(0, "state key")?).map_err(|_| StoreError::Corrupt { what: "state key" })?,
        form,
        value: row.value(2, "state value")?,
        expires: row.time_option(3)?,
        updated: row.time(4)?,
    })
}
