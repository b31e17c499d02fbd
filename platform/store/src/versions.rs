//! Versions: what was deployed, for ever as it was. They are made by a deploy and never change.

use raas_core::{FunctionId, FunctionManifest, FunctionName, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::functions::FUNCTION_NOT_FOUND;
use crate::store::{PAGE_MAX, READ_DEADLINE, within};
use crate::{Store, StoreError};

/// A version as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRow {
    /// Its function.
    pub function: FunctionId,
    /// From 1, growing.
    pub number: u32,
    /// Over code, configuration, runtime and lock file, in hex.
    pub digest: String,
    /// Over the code package alone, in hex.
    pub code_digest: String,
    /// Over the lock file, in hex, where there was one.
    pub lock_digest: Option<String>,
    /// The name of what its sandboxes run from; empty for versions from before it was stored.
    pub image: String,
    /// Size of the stored package.
    pub package_size_bytes: u64,
    /// What its author declared.
    pub manifest: FunctionManifest,
    /// When it was first deployed.
    pub created: TimestampUs,
}

impl Store {
    /// Up to `limit` versions of a live function, newest first, from below the number `before`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such function.
    pub async fn version_list(
        &self,
        tenant: TenantId,
        name: &FunctionName,
        limit: u32,
        before: Option<u32>,
    ) -> Result<Vec<VersionRow>, StoreError> {
        let function = self.function_get(tenant, name).await?;
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT function_id, number, digest, code_digest, lock_digest, package_size_bytes, manifest, created_us, \
                 image FROM versions WHERE function_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3",
            )
            .bind(function.id.to_string())
            .bind(before.map_or(i64::MAX, i64::from))
            .bind(i64::from(limit.min(PAGE_MAX)))
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(version).collect()
        })
        .await
    }

    /// One version of a live function.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the function or the version is not there.
    pub async fn version_get(
        &self,
        tenant: TenantId,
        name: &FunctionName,
        number: u32,
    ) -> Result<VersionRow, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query(
                "SELECT v.function_id, v.number, v.digest, v.code_digest, v.lock_digest, v.package_size_bytes, \
                 v.manifest, v.created_us, v.image, f.id \
                 FROM functions f LEFT JOIN versions v ON v.function_id = f.id AND v.number = $3 \
                 WHERE f.tenant_id = $1 AND f.name = $2 AND f.deleted_us IS NULL",
            )
            .bind(tenant.to_string())
            .bind(name.to_string())
            .bind(i64::from(number))
            .fetch_optional(self.reader())
            .await?
            .ok_or(FUNCTION_NOT_FOUND)?;
            if row.value::<Option<&str>>(0, "function id")?.is_none() {
                return Err(StoreError::NotFound { what: "version" });
            }
            version(&row)
        })
        .await
    }
}

pub(crate) fn version(row: &AnyRow) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        function: row.parsed(0, "function id")?,
        number: row.number(1, "version number")?,
        digest: row.value(2, "version digest")?,
        code_digest: row.value(3, "code digest")?,
        lock_digest: row.value(4, "lock digest")?,
        package_size_bytes: row.number(5, "package size")?,
        manifest: row.json(6, "manifest")?,
        created: row.time(7)?,
        image: row.value(8, "image name")?,
    })
}
