//! Results kept beyond the life of a process, purges of results, and the secret that seals them where platforms share it.
//!
//! Entries are opaque bytes under opaque keys.

use raas_core::{FunctionId, TimestampUs};

use crate::columns::{Columns, to_i64};
use crate::store::{READ_DEADLINE, SWEEP_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// Rows removed at once when room is short.
const TRIM_ROWS: i64 = 256;

/// One kept result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultEntry {
    /// Its key, as text.
    pub key: String,
    /// Whose it is.
    pub function: FunctionId,
    /// What computing it took, microseconds.
    pub compute_us: u64,
    /// Until when there is any use in it.
    pub keep_until: TimestampUs,
    /// The result.
    pub entry: Vec<u8>,
}

impl Store {
    /// The entry of a key.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query("SELECT entry FROM result_entries WHERE key = $1")
                .bind(key)
                .fetch_optional(self.reader())
                .await?;
            row.map(|row| row.value(0, "result")).transpose()
        })
        .await
    }

    /// Writes entries, all or none, each in place of what lies under its key.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_put(&self, entries: &[ResultEntry]) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            for entry in entries {
                sqlx::query(
                    "INSERT INTO result_entries (key, function_id, compute_us, bytes, keep_until_us, entry) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (key) DO UPDATE SET function_id = $2, compute_us = $3, \
                     bytes = $4, keep_until_us = $5, entry = $6",
                )
                .bind(&entry.key)
                .bind(entry.function.to_string())
                .bind(to_i64(entry.compute_us))
                .bind(to_i64(entry.entry.len() as u64))
                .bind(entry.keep_until.0)
                .bind(&entry.entry)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Removes the entry of a key; there need not be one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_remove(&self, key: &str) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            sqlx::query("DELETE FROM result_entries WHERE key = $1").bind(key).execute(self.writer()).await?;
            Ok(())
        })
        .await
    }

    /// Removes all entries of a function.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_remove_function(&self, function: FunctionId) -> Result<(), StoreError> {
        within(SWEEP_DEADLINE, async {
            sqlx::query("DELETE FROM result_entries WHERE function_id = $1")
                .bind(function.to_string())
                .execute(self.writer())
                .await?;
            Ok(())
        })
        .await
    }

    /// The functions that have entries.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_functions(&self) -> Result<Vec<FunctionId>, StoreError> {
        within(SWEEP_DEADLINE, async {
            let rows = sqlx::query("SELECT DISTINCT function_id FROM result_entries").fetch_all(self.reader()).await?;
            rows.iter().map(|row| row.parsed(0, "function id")).collect()
        })
        .await
    }

    /// Removes entries that are past their end, and then, while all together are over `max_bytes`, those that stand for the
    /// least compute time for each of their bytes. Returns how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_trim(&self, max_bytes: u64, now: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let mut removed = sqlx::query("DELETE FROM result_entries WHERE keep_until_us <= $1")
                .bind(now.0)
                .execute(self.writer())
                .await?
                .rows_affected();
            // Ends: each round removes rows, or finds that none is left to remove.
            loop {
                // Cast: the sum of 64-bit integers is wider on Postgres.
                let row = sqlx::query("SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM result_entries")
                    .fetch_one(self.reader())
                    .await?;
                let bytes: u64 = row.number(0, "bytes of results")?;
                if bytes <= max_bytes {
                    return Ok(removed);
                }
                let gone = sqlx::query(
                    "DELETE FROM result_entries WHERE key IN (SELECT key FROM result_entries \
                     ORDER BY compute_us / (bytes + 1), keep_until_us LIMIT $1)",
                )
                .bind(TRIM_ROWS)
                .execute(self.writer())
                .await?
                .rows_affected();
                if gone == 0 {
                    return Ok(removed);
                }
                removed += gone;
            }
        })
        .await
    }

    /// Writes down that something was purged at a moment; a later one of the same takes its place, an earlier one does not.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_purge_record(&self, purge: &str, at: TimestampUs) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            sqlx::query(
                "INSERT INTO result_purges (purge, at_us) VALUES ($1, $2) ON CONFLICT (purge) DO UPDATE SET at_us = \
                 CASE WHEN result_purges.at_us < $2 THEN $2 ELSE result_purges.at_us END",
            )
            .bind(purge)
            .bind(at.0)
            .execute(self.writer())
            .await?;
            Ok(())
        })
        .await
    }

    /// What was purged since a moment, and when.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_purges_since(&self, since: TimestampUs) -> Result<Vec<(String, TimestampUs)>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query("SELECT purge, at_us FROM result_purges WHERE at_us >= $1 ORDER BY at_us")
                .bind(since.0)
                .fetch_all(self.reader())
                .await?;
            rows.iter().map(|row| Ok((row.value(0, "purge")?, row.time(1)?))).collect()
        })
        .await
    }

    /// Forgets what was purged before a moment, when no result from before it can be left.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn result_purges_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(SWEEP_DEADLINE, async {
            let swept =
                sqlx::query("DELETE FROM result_purges WHERE at_us < $1").bind(before.0).execute(self.writer()).await?;
            Ok(swept.rows_affected())
        })
        .await
    }

    /// The secret of a name that all platforms on this database share: `fresh` where there was none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn shared_secret(&self, name: &str, fresh: &str) -> Result<String, StoreError> {
        within(WRITE_DEADLINE, async {
            sqlx::query("INSERT INTO shared_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(name)
                .bind(fresh)
                .execute(self.writer())
                .await?;
            let row = sqlx::query("SELECT value FROM shared_secrets WHERE name = $1")
                .bind(name)
                .fetch_one(self.writer())
                .await?;
            row.value(0, "shared secret")
        })
        .await
    }
}
