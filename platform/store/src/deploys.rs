//! Deploying: one transaction that finds or makes the function and the version, and moves the alias.

use raas_core::{FunctionId, FunctionManifest, FunctionName, TenantId, TimestampUs};

use crate::aliases::{AliasTarget, alias_put, check_alias_name};
use crate::columns::{Columns, to_i64, to_json};
use crate::functions::function_lock;
use crate::store::{WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// What is deployed.
#[derive(Debug, Clone)]
pub struct DeployRecord {
    /// Whose function.
    pub tenant: TenantId,
    /// Its name; made if there is none.
    pub name: FunctionName,
    /// The alias to move to the version.
    pub alias: String,
    /// Over code, configuration, runtime and lock file, in hex. Equal digests are one version.
    pub digest: String,
    /// Over the code package alone, in hex.
    pub code_digest: String,
    /// Over the lock file, in hex, where there is one.
    pub lock_digest: Option<String>,
    /// The name of what its sandboxes run from.
    pub image: String,
    /// Size of the stored package.
    pub package_size_bytes: u64,
    /// What its author declares.
    pub manifest: FunctionManifest,
}

/// What came of a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deployed {
    /// The function.
    pub function: FunctionId,
    /// The version that the alias points at now.
    pub version: u32,
    /// Whether this made the version; `false` when the same digest had been deployed before.
    pub created: bool,
}

impl Store {
    /// Deploys: makes the function if it is new, takes the version of the same digest or numbers a new one, and moves the
    /// alias wholly to it. All or nothing, and the same again when repeated.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an unusable alias, [`StoreError::NotFound`] when there is no such tenant.
    pub async fn function_deploy(&self, deploy: &DeployRecord, now: TimestampUs) -> Result<Deployed, StoreError> {
        check_alias_name(&deploy.alias)?;
        let manifest = to_json(&deploy.manifest, "the manifest cannot be stored")?;
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            // Waits for a concurrent first deploy of the same name, and then does nothing.
            let inserted = sqlx::query(
                "INSERT INTO functions (id, tenant_id, name, created_us) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(FunctionId::generate().to_string())
            .bind(deploy.tenant.to_string())
            .bind(deploy.name.to_string())
            .bind(now.0)
            .execute(&mut *tx)
            .await;
            inserted.map_err(|error| match StoreError::from(error) {
                StoreError::Conflict { .. } => crate::tenants::TENANT_NOT_FOUND,
                other => other,
            })?;
            let function = function_lock(&mut tx, deploy.tenant, &deploy.name)
                .await?
                .ok_or(StoreError::Conflict { what: "the function was deleted during the deploy" })?;

            let known = sqlx::query("SELECT number FROM versions WHERE function_id = $1 AND digest = $2")
                .bind(function.to_string())
                .bind(&deploy.digest)
                .fetch_optional(&mut *tx)
                .await?;
            let (version, created) = match known {
                Some(row) => (row.number(0, "version number")?, false),
                None => {
                    let row = sqlx::query(
                        "INSERT INTO versions (function_id, number, digest, code_digest, lock_digest, \
                         package_size_bytes, manifest, created_us, image) \
                         SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7, $8 \
                         FROM versions WHERE function_id = $1 RETURNING number",
                    )
                    .bind(function.to_string())
                    .bind(&deploy.digest)
                    .bind(&deploy.code_digest)
                    .bind(deploy.lock_digest.as_deref())
                    .bind(to_i64(deploy.package_size_bytes))
                    .bind(manifest)
                    .bind(now.0)
                    .bind(&deploy.image)
                    .fetch_one(&mut *tx)
                    .await?;
                    (row.number(0, "version number")?, true)
                }
            };
            alias_put(&mut tx, function, &deploy.alias, &[AliasTarget { version, weight: 1 }], now).await?;
            tx.commit().await?;
            Ok(Deployed { function, version, created })
        })
        .await
    }
}
