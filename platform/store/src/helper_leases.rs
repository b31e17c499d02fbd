//! Leases on keys of helper instances: one holder a key, fenced.

use std::time::Duration;

use raas_core::{HelperInstanceId, TimestampUs};

use crate::columns::Columns;
use crate::store::{Tx, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// What became of asking for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLease {
    /// It is held, under this fence, until then.
    Held {
        /// Grows whenever the key changes hands.
        fence: u64,
        /// Until when.
        until: TimestampUs,
    },
    /// Another holds it until then at the latest, if nobody prolongs it.
    Taken {
        /// Until when.
        until: TimestampUs,
    },
}

impl Store {
    /// Takes a key, or prolongs it, for `ttl`. From `previous`, a holder that the caller knows to be gone, it is taken at once;
    /// from any other only after its time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_key_take(
        &self,
        instance: HelperInstanceId,
        key: &str,
        holder: &str,
        previous: Option<&str>,
        ttl: Duration,
        now: TimestampUs,
    ) -> Result<KeyLease, StoreError> {
        let until = now.saturating_add(ttl);
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            sqlx::query(
                "INSERT INTO helper_key_leases (instance_id, key, holder, fence, expires_us) VALUES ($1, $2, '', 0, 0) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(instance.to_string())
            .bind(key)
            .execute(&mut *tx)
            .await?;
            let taken = sqlx::query(
                "UPDATE helper_key_leases SET fence = fence + CASE WHEN holder = $3 THEN 0 ELSE 1 END, holder = $3, \
                 expires_us = $4 WHERE instance_id = $1 AND key = $2 \
                 AND (holder = $3 OR holder = $5 OR expires_us <= $6) RETURNING fence",
            )
            .bind(instance.to_string())
            .bind(key)
            .bind(holder)
            .bind(until.0)
            .bind(previous.unwrap_or(holder))
            .bind(now.0)
            .fetch_optional(&mut *tx)
            .await?;
            let lease = match taken {
                Some(row) => KeyLease::Held { fence: row.number(0, "fence")?, until },
                None => {
                    let row =
                        sqlx::query("SELECT expires_us FROM helper_key_leases WHERE instance_id = $1 AND key = $2")
                            .bind(instance.to_string())
                            .bind(key)
                            .fetch_one(&mut *tx)
                            .await?;
                    KeyLease::Taken { until: row.time(0)? }
                }
            };
            tx.commit().await?;
            Ok(lease)
        })
        .await
    }

    /// Gives back all that a platform's replicas hold, which have ended with it: holders are `PLATFORM/REPLICA`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_keys_release(&self, platform: &str, now: TimestampUs) -> Result<u64, StoreError> {
        within(WRITE_DEADLINE, async {
            let released =
                sqlx::query("UPDATE helper_key_leases SET expires_us = $2 WHERE holder LIKE $1 AND expires_us > $2")
                    .bind(format!("{platform}/%"))
                    .bind(now.0)
                    .execute(self.writer())
                    .await?;
            Ok(released.rows_affected())
        })
        .await
    }

    /// Forgets keys that nobody has held since `before`. Their fences begin anew, when nobody can remember the old ones.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_keys_sweep(&self, before: TimestampUs) -> Result<u64, StoreError> {
        within(WRITE_DEADLINE, async {
            let swept = sqlx::query("DELETE FROM helper_key_leases WHERE expires_us < $1")
                .bind(before.0)
                .execute(self.writer())
                .await?;
            Ok(swept.rows_affected())
        })
        .await
    }
}

/// Whether a key is still held under this fence. In the transaction of a commit, which no other holder's can overtake: taking
/// the key changes the same row.
pub(crate) async fn is_held(tx: &mut Tx, instance: &str, key: &str, fence: u64) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "UPDATE helper_key_leases SET fence = fence WHERE instance_id = $1 AND key = $2 AND fence = $3 RETURNING fence",
    )
    .bind(instance)
    .bind(key)
    .bind(crate::columns::to_i64(fence))
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}
