//! API keys: what the gateway knows a caller by. Only a hash of the secret is ever here.

use raas_core::{KeyId, TenantId, TimestampUs};
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_json};
use crate::store::{BULK_DEADLINE, READ_DEADLINE, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// A key to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// The secret's hash in hex; unique over all tenants.
    pub hash: String,
    /// The beginning of the secret, for people to recognise it by.
    pub prefix: String,
    /// What its owner calls it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
}

/// A key as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The secret's hash in hex.
    pub hash: String,
    /// The beginning of the secret.
    pub prefix: String,
    /// What its owner calls it.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: TimestampUs,
    /// When it was revoked, if it was.
    pub revoked: Option<TimestampUs>,
}

impl Store {
    /// Stores a key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the hash is known, or the tenant is not.
    pub async fn key_create(&self, key: NewKey, now: TimestampUs) -> Result<KeyRow, StoreError> {
        let scopes = to_json(&key.scopes, "the key's scopes cannot be stored")?;
        let NewKey { tenant, hash, prefix, name, scopes: granted } = key;
        let row =
            KeyRow { id: KeyId::generate(), tenant, hash, prefix, name, scopes: granted, created: now, revoked: None };
        within(WRITE_DEADLINE, async {
            sqlx::query(
                "INSERT INTO keys (id, tenant_id, hash, prefix, name, scopes, created_us) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(row.id.to_string())
            .bind(row.tenant.to_string())
            .bind(&row.hash)
            .bind(&row.prefix)
            .bind(&row.name)
            .bind(scopes)
            .bind(now.0)
            .execute(self.writer())
            .await?;
            Ok(())
        })
        .await?;
        Ok(row)
    }

    /// A tenant's keys, revoked ones included, oldest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn key_list(&self, tenant: TenantId) -> Result<Vec<KeyRow>, StoreError> {
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT id, tenant_id, hash, prefix, name, scopes, created_us, revoked_us FROM keys \
                 WHERE tenant_id = $1 ORDER BY id",
            )
            .bind(tenant.to_string())
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(key).collect()
        })
        .await
    }

    /// Revokes a key of a tenant; doing it again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn key_revoke(&self, tenant: TenantId, id: KeyId, now: TimestampUs) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let done =
                sqlx::query("UPDATE keys SET revoked_us = COALESCE(revoked_us, $1) WHERE id = $2 AND tenant_id = $3")
                    .bind(now.0)
                    .bind(id.to_string())
                    .bind(tenant.to_string())
                    .execute(self.writer())
                    .await?;
            if done.rows_affected() == 0 { Err(StoreError::NotFound { what: "key" }) } else { Ok(()) }
        })
        .await
    }

    /// All keys that are not revoked, for the routing snapshot.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn key_list_active(&self) -> Result<Vec<KeyRow>, StoreError> {
        within(BULK_DEADLINE, async {
            let rows = sqlx::query(ACTIVE_KEYS).fetch_all(self.reader()).await?;
            rows.iter().map(key).collect()
        })
        .await
    }
}

pub(crate) const ACTIVE_KEYS: &str = "SELECT id, tenant_id, hash, prefix, name, scopes, created_us, revoked_us \
    FROM keys WHERE revoked_us IS NULL";

pub(crate) fn key(row: &AnyRow) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        id: row.parsed(0, "key id")?,
        tenant: row.parsed(1, "tenant id")?,
        hash: row.value(2, "key hash")?,
        prefix: row.value(3, "key prefix")?,
        name: row.value(4, "key name")?,
        scopes: row.json(5, "key scopes")?,
        created: row.time(6)?,
        revoked: row.time_option(7)?,
    })
}
