//! What is known of versions' results, as opaque JSON.

use raas_core::{FunctionId, TimestampUs};

use crate::columns::Columns;
use crate::store::{BULK_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// What is known of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofRow {
    /// Whose it is.
    pub function: FunctionId,
    /// Its number.
    pub version: u32,
    /// Where it stands.
    pub state: String,
    /// All of it, JSON.
    pub body: String,
    /// When it was last written.
    pub updated: TimestampUs,
}

impl Store {
    /// Writes what is known of versions, all or none. One that stands in `sticky` goes on standing there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proof_put(&self, rows: &[ProofRow], sticky: &str) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            for row in rows {
                sqlx::query(
                    "INSERT INTO proofs (function_id, version, state, body, updated_us) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT (function_id, version) DO UPDATE SET state = $3, body = $4, updated_us = $5 \
                     WHERE proofs.state <> $6 OR $3 = $6",
                )
                .bind(row.function.to_string())
                .bind(i64::from(row.version))
                .bind(&row.state)
                .bind(&row.body)
                .bind(row.updated.0)
                .bind(sticky)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// What was written since a moment of functions that are there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proofs_since(&self, since: TimestampUs) -> Result<Vec<ProofRow>, StoreError> {
        within(BULK_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT p.function_id, p.version, p.state, p.body, p.updated_us FROM proofs p \
                 JOIN functions f ON f.id = p.function_id WHERE f.deleted_us IS NULL AND p.updated_us >= $1 \
                 ORDER BY p.updated_us",
            )
            .bind(since.0)
            .fetch_all(self.reader())
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(ProofRow {
                        function: row.parsed(0, "function id")?,
                        version: row.number(1, "version number")?,
                        state: row.value(2, "state")?,
                        body: row.value(3, "proof")?,
                        updated: row.time(4)?,
                    })
                })
                .collect()
        })
        .await
    }
}
