//! Configured instances of helpers.

use std::collections::BTreeMap;

use raas_core::{FunctionName, HelperId, HelperInstanceId, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_i64, to_json};
use crate::helpers::{HelperVersionRow, helper_version};
use crate::store::{BULK_DEADLINE, PAGE_MAX, READ_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// An instance to be made.
#[derive(Debug, Clone)]
pub struct NewHelperInstance {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: FunctionName,
    /// The helper.
    pub helper: HelperId,
    /// Who published it, by name.
    pub publisher: String,
    /// The helper's name.
    pub helper_name: String,
    /// The version that it runs.
    pub version: String,
    /// Its configuration, JSON text.
    pub config: String,
    /// The instances that it calls, by the name in its code.
    pub bindings: BTreeMap<String, String>,
}

/// An instance as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperInstanceRow {
    /// Its id.
    pub id: HelperInstanceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, unlike that of every other living one of the tenant.
    pub name: String,
    /// The helper.
    pub helper: HelperId,
    /// Who published it, by name.
    pub publisher: String,
    /// The helper's name.
    pub helper_name: String,
    /// The version that it runs.
    pub version: String,
    /// The version of before the last change of version.
    pub previous_version: Option<String>,
    /// Its configuration, JSON text.
    pub config: String,
    /// The instances that it calls, by the name in its code.
    pub bindings: BTreeMap<String, String>,
    /// From 1, one more with each successful training.
    pub data_version: u64,
    /// What was ordered of it: `serving` or `stopped`.
    pub state: String,
    /// The tenants that may call it beside its own.
    pub shared_with: Vec<TenantId>,
    /// Bytes of its state, keys included.
    pub state_bytes: u64,
    /// When it was made.
    pub created: TimestampUs,
}

const COLUMNS: &str = "i.id, i.tenant_id, i.name, i.helper_id, i.publisher, i.helper_name, i.version, i.previous_version, \
                       i.config, i.bindings, i.data_version, i.state, i.shared_with, i.state_bytes, i.created_us";
const COLUMN_COUNT: usize = 15;
pub(crate) const INSTANCE_NOT_FOUND: StoreError = StoreError::NotFound { what: "helper instance" };

impl Store {
    /// Makes an instance.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn helper_instance_create(
        &self,
        new: &NewHelperInstance,
        now: TimestampUs,
    ) -> Result<HelperInstanceRow, StoreError> {
        let row = HelperInstanceRow {
            id: HelperInstanceId::new(now),
            tenant: new.tenant,
            name: new.name.to_string(),
            helper: new.helper,
            publisher: new.publisher.clone(),
            helper_name: new.helper_name.clone(),
            version: new.version.clone(),
            previous_version: None,
            config: new.config.clone(),
            bindings: new.bindings.clone(),
            data_version: 1,
            state: "creating".into(),
            shared_with: Vec::new(),
            state_bytes: 0,
            created: now,
        };
        within(WRITE_DEADLINE, async {
            let inserted = sqlx::query(
                "INSERT INTO helper_instances (id, tenant_id, name, helper_id, publisher, helper_name, version, config, \
                 bindings, data_version, state, shared_with, state_bytes, created_us, updated_us) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $13)",
            )
            .bind(row.id.to_string())
            .bind(row.tenant.to_string())
            .bind(&row.name)
            .bind(row.helper.to_string())
            .bind(&row.publisher)
            .bind(&row.helper_name)
            .bind(&row.version)
            .bind(&row.config)
            .bind(to_json(&row.bindings, "the bindings cannot be stored")?)
            .bind(to_i64(row.data_version))
            .bind(&row.state)
            .bind("[]")
            .bind(now.0)
            .execute(self.writer())
            .await;
            inserted.map(|_| ()).map_err(|error| match StoreError::from(error) {
                StoreError::Conflict { .. } => StoreError::Conflict { what: "a helper instance of this name exists" },
                other => other,
            })
        })
        .await?;
        Ok(row)
    }

    /// A living instance.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn helper_instance_get_by_id(&self, id: HelperInstanceId) -> Result<HelperInstanceRow, StoreError> {
        within(READ_DEADLINE, async {
            let sql = format!("SELECT {COLUMNS} FROM helper_instances i WHERE i.id = $1 AND i.deleted_us IS NULL");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.to_string()).fetch_optional(self.reader()).await?;
            instance(&row.ok_or(INSTANCE_NOT_FOUND)?)
        })
        .await
    }

    /// All living instances of a tenant by name, up to a page.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_instance_list(&self, tenant: TenantId) -> Result<Vec<HelperInstanceRow>, StoreError> {
        within(READ_DEADLINE, async {
            let sql = format!(
                "SELECT {COLUMNS} FROM helper_instances i WHERE i.tenant_id = $1 AND i.deleted_us IS NULL \
                 ORDER BY i.name LIMIT $2"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(tenant.to_string())
                .bind(i64::from(PAGE_MAX))
                .fetch_all(self.reader())
                .await?;
            rows.iter().map(instance).collect()
        })
        .await
    }

    /// All living instances of all tenants with the versions that they run: for the snapshot at start.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn helper_instance_load_all(&self) -> Result<Vec<(HelperInstanceRow, HelperVersionRow)>, StoreError> {
        within(BULK_DEADLINE, async {
            let sql = format!(
                "SELECT {COLUMNS}, v.helper_id, v.version, v.digest, v.image, v.package_size_bytes, v.manifest, v.schemas, \
                 v.created_us FROM helper_instances i \
                 JOIN helper_versions v ON v.helper_id = i.helper_id AND v.version = i.version WHERE i.deleted_us IS NULL"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(self.reader()).await?;
            rows.iter().map(|row| Ok((instance(row)?, helper_version(row, COLUMN_COUNT)?))).collect()
        })
        .await
    }

    /// Writes what may change of an instance: version, configuration, data version, state.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is deleted.
    pub async fn helper_instance_update(&self, row: &HelperInstanceRow, now: TimestampUs) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let updated = sqlx::query(
                "UPDATE helper_instances SET version = $2, previous_version = $3, config = $4, data_version = $5, \
                 state = $6, updated_us = $7, shared_with = $8 WHERE id = $1 AND deleted_us IS NULL",
            )
            .bind(row.id.to_string())
            .bind(&row.version)
            .bind(row.previous_version.as_deref())
            .bind(&row.config)
            .bind(to_i64(row.data_version))
            .bind(&row.state)
            .bind(now.0)
            .bind(to_json(&row.shared_with, "the grants cannot be stored")?)
            .execute(self.writer())
            .await?;
            if updated.rows_affected() == 0 { Err(INSTANCE_NOT_FOUND) } else { Ok(()) }
        })
        .await
    }

    /// Deletes an instance; its state goes with it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is deleted already.
    pub async fn helper_instance_delete(&self, id: HelperInstanceId, now: TimestampUs) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            let deleted = sqlx::query(
                "UPDATE helper_instances SET deleted_us = $2, state_bytes = 0 WHERE id = $1 AND deleted_us IS NULL",
            )
            .bind(id.to_string())
            .bind(now.0)
            .execute(&mut *tx)
            .await?;
            if deleted.rows_affected() == 0 {
                return Err(INSTANCE_NOT_FOUND);
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

fn instance(row: &AnyRow) -> Result<HelperInstanceRow, StoreError> {
    Ok(HelperInstanceRow {
        id: row.parsed(0, "helper instance id")?,
        tenant: row.parsed(1, "tenant id")?,
        name: row.value(2, "helper instance name")?,
        helper: row.parsed(3, "helper id")?,
        publisher: row.value(4, "publisher")?,
        helper_name: row.value(5, "helper name")?,
        version: row.value(6, "helper version")?,
        previous_version: row.value(7, "helper version")?,
        config: row.value(8, "helper configuration")?,
        bindings: row.json(9, "helper bindings")?,
        data_version: row.number(10, "data version")?,
        state: row.value(11, "helper instance state")?,
        shared_with: row.json(12, "helper grants")?,
        state_bytes: row.number(13, "state size")?,
        created: row.time(14)?,
    })
}
