//! The books of what was computed before anybody asked, as opaque JSON.

use raas_core::{FunctionId, TimestampUs};

use crate::columns::Columns;
use crate::store::{BULK_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// The books of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrecomputeBooksRow {
    /// Whose they are.
    pub function: FunctionId,
    /// Its number.
    pub version: u32,
    /// The sums, JSON.
    pub body: String,
}

impl Store {
    /// Writes books, all or none, each in place of what was known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn precompute_books_put(&self, rows: &[PrecomputeBooksRow], now: TimestampUs) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            for row in rows {
                sqlx::query(
                    "INSERT INTO precompute_books (function_id, version, body, updated_us) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (function_id, version) DO UPDATE SET body = $3, updated_us = $4",
                )
                .bind(row.function.to_string())
                .bind(i64::from(row.version))
                .bind(&row.body)
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// The books of all versions of functions that are there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn precompute_books(&self) -> Result<Vec<PrecomputeBooksRow>, StoreError> {
        within(BULK_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT b.function_id, b.version, b.body FROM precompute_books b \
                 JOIN functions f ON f.id = b.function_id WHERE f.deleted_us IS NULL",
            )
            .fetch_all(self.reader())
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(PrecomputeBooksRow {
                        function: row.parsed(0, "function id")?,
                        version: row.number(1, "version number")?,
                        body: row.value(2, "books")?,
                    })
                })
                .collect()
        })
        .await
    }
}
