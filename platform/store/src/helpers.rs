//! The catalogue: helpers and their versions, which never change once they are published.

use std::collections::BTreeMap;

use raas_core::{FunctionName, HelperId, HelperManifest, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_i64, to_json};
use crate::store::{PAGE_MAX, READ_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// What is published.
#[derive(Debug, Clone)]
pub struct HelperPublish {
    /// Who publishes.
    pub tenant: TenantId,
    /// The helper; made if there is none.
    pub name: FunctionName,
    /// The semantic version.
    pub version: String,
    /// Over code, configuration, runtime and lock file, in hex.
    pub digest: String,
    /// Over the code package alone, in hex.
    pub code_digest: String,
    /// Over the lock file, in hex, where there is one.
    pub lock_digest: Option<String>,
    /// The name of what its sandboxes run from.
    pub image: String,
    /// Size of the stored package.
    pub package_size_bytes: u64,
    /// What its publisher declares.
    pub manifest: HelperManifest,
    /// The schemas that the manifest names, by their file's name.
    pub schemas: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperPublished {
    /// The helper.
    pub helper: HelperId,
    /// Whether this made the version; `false` when the very same was published before.
    pub created: bool,
}

/// A helper as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperRow {
    /// Its id.
    pub id: HelperId,
    /// Its name.
    pub name: String,
    /// When it was first published.
    pub created: TimestampUs,
}

/// A version as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct HelperVersionRow {
    /// Its helper.
    pub helper: HelperId,
    /// The semantic version.
    pub version: String,
    /// Over code, configuration, runtime and lock file, in hex.
    pub digest: String,
    /// The name of what its sandboxes run from.
    pub image: String,
    /// Size of the stored package.
    pub package_size_bytes: u64,
    /// What its publisher declares.
    pub manifest: HelperManifest,
    /// The schemas that the manifest names, by their file's name.
    pub schemas: BTreeMap<String, String>,
    /// When it was published.
    pub created: TimestampUs,
}

/// Which version is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperVersionQuery<'a> {
    /// This one.
    Exactly(&'a str),
    /// The highest that is no pre-release; the highest of all where there are only those.
    Newest,
}

const VERSION_COLUMNS: &str =
    "SELECT helper_id, version, digest, image, package_size_bytes, manifest, schemas, created_us FROM helper_versions";

impl Store {
    /// Publishes a version: makes the helper if it is new. The same again is the same; the same version with other content
    /// is a conflict.
    ///
    /// # Errors
    /// [`StoreError::Conflict`].
    pub async fn helper_publish(
        &self,
        publish: &HelperPublish,
        now: TimestampUs,
    ) -> Result<HelperPublished, StoreError> {
        let manifest = to_json(&publish.manifest, "the manifest cannot be stored")?;
        let schemas = to_json(&publish.schemas, "the schemas cannot be stored")?;
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            sqlx::query("INSERT INTO helpers (id, tenant_id, name, created_us) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
                .bind(HelperId::generate().to_string())
                .bind(publish.tenant.to_string())
                .bind(publish.name.to_string())
                .bind(now.0)
                .execute(&mut *tx)
                .await?;
            let row = sqlx::query("SELECT id FROM helpers WHERE tenant_id = $1 AND name = $2")
                .bind(publish.tenant.to_string())
                .bind(publish.name.to_string())
                .fetch_one(&mut *tx)
                .await?;
            let helper: HelperId = row.parsed(0, "helper id")?;
            let inserted = sqlx::query(
                "INSERT INTO helper_versions (helper_id, version, digest, code_digest, lock_digest, image, \
                 package_size_bytes, manifest, schemas, created_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(helper.to_string())
            .bind(&publish.version)
            .bind(&publish.digest)
            .bind(&publish.code_digest)
            .bind(publish.lock_digest.as_deref())
            .bind(&publish.image)
            .bind(to_i64(publish.package_size_bytes))
            .bind(manifest)
            .bind(schemas)
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
            let row = sqlx::query("SELECT digest FROM helper_versions WHERE helper_id = $1 AND version = $2")
                .bind(helper.to_string())
                .bind(&publish.version)
                .fetch_one(&mut *tx)
                .await?;
            if row.value::<&str>(0, "helper digest")? != publish.digest {
                return Err(StoreError::Conflict {
                    what: "this version is published with other content, and a published version never changes: raise `version`",
                });
            }
            tx.commit().await?;
            Ok(HelperPublished { helper, created: inserted.rows_affected() > 0 })
        })
        .await
    }

    /// The helper of a name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn helper_get(&self, tenant: TenantId, name: &str) -> Result<HelperId, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query("SELECT id FROM helpers WHERE tenant_id = $1 AND name = $2")
                .bind(tenant.to_string())
                .bind(name)
                .fetch_optional(self.reader())
                .await?;
            row.ok_or(StoreError::NotFound { what: "helper" })?.parsed(0, "helper id")
        })
        .await
    }

    /// All helpers of a publisher by name, up to a page.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_list(&self, tenant: TenantId) -> Result<Vec<HelperRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows =
                sqlx::query("SELECT id, name, created_us FROM helpers WHERE tenant_id = $1 ORDER BY name LIMIT $2")
                    .bind(tenant.to_string())
                    .bind(i64::from(PAGE_MAX))
                    .fetch_all(self.reader())
                    .await?;
            rows.iter()
                .map(|row| {
                    Ok(HelperRow {
                        id: row.parsed(0, "helper id")?,
                        name: row.value(1, "helper name")?,
                        created: row.time(2)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// The versions of a helper, the highest first, up to a page.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_version_list(&self, helper: HelperId) -> Result<Vec<HelperVersionRow>, StoreError> {
        let mut versions: Vec<_> = within(READ_DEADLINE, async {
            let sql = format!("{VERSION_COLUMNS} WHERE helper_id = $1 ORDER BY created_us DESC LIMIT $2");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(helper.to_string())
                .bind(i64::from(PAGE_MAX))
                .fetch_all(self.reader())
                .await?;
            rows.iter().map(|row| helper_version(row, 0)).collect::<Result<_, _>>()
        })
        .await?;
        versions.sort_by_cached_key(|row| std::cmp::Reverse(semver::Version::parse(&row.version).ok()));
        Ok(versions)
    }

    /// A version of a helper.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn helper_version_get(
        &self,
        helper: HelperId,
        query: HelperVersionQuery<'_>,
    ) -> Result<HelperVersionRow, StoreError> {
        let not_found = StoreError::NotFound { what: "helper version" };
        let HelperVersionQuery::Exactly(version) = query else {
            let mut versions = self.helper_version_list(helper).await?;
            let is_release = |row: &HelperVersionRow| {
                semver::Version::parse(&row.version).is_ok_and(|version| version.pre.is_empty())
            };
            let at = versions.iter().position(is_release).unwrap_or(0);
            return if versions.is_empty() { Err(not_found) } else { Ok(versions.swap_remove(at)) };
        };
        within(READ_DEADLINE, async {
            let sql = format!("{VERSION_COLUMNS} WHERE helper_id = $1 AND version = $2");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(helper.to_string())
                .bind(version)
                .fetch_optional(self.reader())
                .await?;
            helper_version(&row.ok_or(not_found)?, 0)
        })
        .await
    }

    /// The images of all published versions.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_images(&self) -> Result<Vec<String>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query("SELECT DISTINCT image FROM helper_versions").fetch_all(self.reader()).await?;
            rows.iter().map(|row| row.value(0, "image name")).collect()
        })
        .await
    }
}

pub(crate) fn helper_version(row: &AnyRow, at: usize) -> Result<HelperVersionRow, StoreError> {
    Ok(HelperVersionRow {
        helper: row.parsed(at, "helper id")?,
        version: row.value(at + 1, "helper version")?,
        digest: row.value(at + 2, "helper digest")?,
        image: row.value(at + 3, "image name")?,
        package_size_bytes: row.number(at + 4, "package size")?,
        manifest: row.json(at + 5, "helper manifest")?,
        schemas: row.json(at + 6, "helper schemas")?,
        created: row.time(at + 7)?,
    })
}
