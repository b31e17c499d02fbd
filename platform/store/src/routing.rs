//! Everything that the gateway's routing snapshot is built from, as of one moment.

use sqlx::any::AnyRow;

use crate::aliases::alias;
use crate::columns::Columns;
use crate::functions::function;
use crate::keys::{ACTIVE_KEYS, key};
use crate::store::{BULK_DEADLINE, READ_DEADLINE, Tx, within};
use crate::tenants::tenant;
use crate::versions::version;
use crate::{AliasRow, FunctionRow, KeyRow, Store, StoreError, TenantRow, VersionRow};

/// All that can be called, and who may call.
#[derive(Debug, Clone, Default)]
pub struct RoutingRows {
    /// All tenants.
    pub tenants: Vec<TenantRow>,
    /// The keys that are not revoked.
    pub keys: Vec<KeyRow>,
    /// The live functions.
    pub functions: Vec<FunctionRow>,
    /// All their versions, for calls by version number reach old ones too.
    pub versions: Vec<VersionRow>,
    /// All their aliases.
    pub aliases: Vec<AliasRow>,
}

impl Store {
    /// Loads everything for a routing snapshot: five statements in one read transaction, so that no alias points at a
    /// version that is not among the rows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn routing_load(&self) -> Result<RoutingRows, StoreError> {
        within(BULK_DEADLINE, async {
            let mut tx = self.begin_snapshot().await?;
            let rows = RoutingRows {
                tenants: load(&mut tx, "SELECT id, name, created_us FROM tenants", tenant).await?,
                keys: load(&mut tx, ACTIVE_KEYS, key).await?,
                functions: load(
                    &mut tx,
                    "SELECT id, tenant_id, name, created_us FROM functions WHERE deleted_us IS NULL",
                    function,
                )
                .await?,
                versions: load(
                    &mut tx,
                    "SELECT v.function_id, v.number, v.digest, v.code_digest, v.lock_digest, v.package_size_bytes, \
                     v.manifest, v.created_us, v.image FROM versions v JOIN functions f ON f.id = v.function_id \
                     WHERE f.deleted_us IS NULL",
                    version,
                )
                .await?,
                aliases: load(
                    &mut tx,
                    "SELECT a.function_id, a.name, a.targets, a.updated_us FROM aliases a \
                     JOIN functions f ON f.id = a.function_id WHERE f.deleted_us IS NULL",
                    alias,
                )
                .await?,
            };
            tx.commit().await?;
            Ok(rows)
        })
        .await
    }
}

impl Store {
    /// Changes whenever what [`Store::routing_load`] returns does: for platforms that share a database, to see each other's
    /// changes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn routing_fingerprint(&self) -> Result<String, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query(
                "SELECT CAST((SELECT COUNT(*) FROM keys) AS TEXT) || '/' || \
                 CAST((SELECT COUNT(*) FROM keys WHERE revoked_us IS NOT NULL) AS TEXT) || '/' || \
                 CAST((SELECT COUNT(*) FROM functions WHERE deleted_us IS NOT NULL) AS TEXT) || '/' || \
                 CAST((SELECT COUNT(*) FROM versions) AS TEXT) || '/' || \
                 CAST((SELECT COUNT(*) FROM aliases) AS TEXT) || '/' || \
                 CAST((SELECT COALESCE(SUM(updated_us % 1000000007), 0) FROM aliases) AS TEXT)",
            )
            .fetch_one(self.reader())
            .await?;
            row.value(0, "fingerprint")
        })
        .await
    }
}

async fn load<T>(
    tx: &mut Tx,
    sql: &'static str,
    read: fn(&AnyRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    sqlx::query(sql).fetch_all(&mut **tx).await?.iter().map(read).collect()
}
