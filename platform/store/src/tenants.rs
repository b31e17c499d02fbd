//! Tenants: who functions, keys and bills belong to.

use raas_core::{TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::store::{PAGE_MAX, READ_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// A tenant as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// Its name, unlike every other's.
    pub name: String,
    /// When it was made.
    pub created: TimestampUs,
}

pub(crate) const TENANT_NOT_FOUND: StoreError = StoreError::NotFound { what: "tenant" };

impl Store {
    /// Makes a tenant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn tenant_create(&self, name: &str, now: TimestampUs) -> Result<TenantRow, StoreError> {
        let row = TenantRow { id: TenantId::generate(), name: name.to_owned(), created: now };
        within(WRITE_DEADLINE, async {
            sqlx::query("INSERT INTO tenants (id, name, created_us) VALUES ($1, $2, $3)")
                .bind(row.id.to_string())
                .bind(&row.name)
                .bind(now.0)
                .execute(self.writer())
                .await
                .map_err(|error| match StoreError::from(error) {
                    StoreError::Conflict { .. } => StoreError::Conflict { what: "a tenant of this name exists" },
                    other => other,
                })?;
            Ok(())
        })
        .await?;
        Ok(row)
    }

    /// The tenant with an id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn tenant_get(&self, id: TenantId) -> Result<TenantRow, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query("SELECT id, name, created_us FROM tenants WHERE id = $1")
                .bind(id.to_string())
                .fetch_optional(self.reader())
                .await?;
            tenant(&row.ok_or(TENANT_NOT_FOUND)?)
        })
        .await
    }

    /// The tenant of a name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn tenant_get_by_name(&self, name: &str) -> Result<TenantRow, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query("SELECT id, name, created_us FROM tenants WHERE name = $1")
                .bind(name)
                .fetch_optional(self.reader())
                .await?;
            tenant(&row.ok_or(TENANT_NOT_FOUND)?)
        })
        .await
    }

    /// Up to `limit` tenants in the order of their ids (oldest first), from behind `after`; the next page begins behind
    /// the last id of this one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tenant_list(&self, limit: u32, after: Option<TenantId>) -> Result<Vec<TenantRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query("SELECT id, name, created_us FROM tenants WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after.map(|id| id.to_string()).unwrap_or_default())
                .bind(i64::from(limit.min(PAGE_MAX)))
                .fetch_all(self.reader())
                .await?;
            rows.iter().map(tenant).collect()
        })
        .await
    }
}

pub(crate) fn tenant(row: &AnyRow) -> Result<TenantRow, StoreError> {
    Ok(TenantRow { id: row.parsed(0, "tenant id")?, name: row.value(1, "tenant name")?, created: row.time(2)? })
}
