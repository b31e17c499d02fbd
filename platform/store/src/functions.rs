//! Functions: named code of a tenant, across all its versions.

use raas_core::{FunctionId, FunctionName, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::store::{PAGE_MAX, READ_DEADLINE, Tx, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// A live function as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRow {
    /// Its id.
    pub id: FunctionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, unlike those of the tenant's other live functions.
    pub name: FunctionName,
    /// When it was first deployed.
    pub created: TimestampUs,
}

pub(crate) const FUNCTION_NOT_FOUND: StoreError = StoreError::NotFound { what: "function" };

impl Store {
    /// A tenant's live function of a name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn function_get(&self, tenant: TenantId, name: &FunctionName) -> Result<FunctionRow, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query(
                "SELECT id, tenant_id, name, created_us FROM functions \
                 WHERE tenant_id = $1 AND name = $2 AND deleted_us IS NULL",
            )
            .bind(tenant.to_string())
            .bind(name.to_string())
            .fetch_optional(self.reader())
            .await?;
            function(&row.ok_or(FUNCTION_NOT_FOUND)?)
        })
        .await
    }

    /// Up to `limit` of a tenant's live functions in the order of their names, from behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn function_list(
        &self,
        tenant: TenantId,
        limit: u32,
        after: Option<&FunctionName>,
    ) -> Result<Vec<FunctionRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT id, tenant_id, name, created_us FROM functions \
                 WHERE tenant_id = $1 AND deleted_us IS NULL AND name > $2 ORDER BY name LIMIT $3",
            )
            .bind(tenant.to_string())
            .bind(after.map(ToString::to_string).unwrap_or_default())
            .bind(i64::from(limit.min(PAGE_MAX)))
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(function).collect()
        })
        .await
    }

    /// Deletes a function: its aliases go, its name is free, its versions and results can no longer be reached; usage
    /// keeps naming it. Answers the id it had.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn function_delete(
        &self,
        tenant: TenantId,
        name: &FunctionName,
        now: TimestampUs,
    ) -> Result<FunctionId, StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            let id = function_lock(&mut tx, tenant, name).await?.ok_or(FUNCTION_NOT_FOUND)?;
            sqlx::query("UPDATE functions SET deleted_us = $1 WHERE id = $2")
                .bind(now.0)
                .bind(id.to_string())
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM aliases WHERE function_id = $1").bind(id.to_string()).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(id)
        })
        .await
    }
}

/// Locks a live function until the transaction ends, so that deploys, alias changes and deletion of one function come one
/// after the other. An update to the same value is the row lock that both databases have.
pub(crate) async fn function_lock(
    tx: &mut Tx,
    tenant: TenantId,
    name: &FunctionName,
) -> Result<Option<FunctionId>, StoreError> {
    let row = sqlx::query(
        "UPDATE functions SET name = name WHERE tenant_id = $1 AND name = $2 AND deleted_us IS NULL RETURNING id",
    )
    .bind(tenant.to_string())
    .bind(name.to_string())
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| row.parsed(0, "function id")).transpose()
}

pub(crate) fn function(row: &AnyRow) -> Result<FunctionRow, StoreError> {
    Ok(FunctionRow {
        id: row.parsed(0, "function id")?,
        tenant: row.parsed(1, "tenant id")?,
        name: row.parsed(2, "function name")?,
        created: row.time(3)?,
    })
}
