//! Aliases: names that point at versions of a function, at several by weight if wanted.

use raas_core::{FunctionId, FunctionName, TenantId, TimestampUs};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use crate::columns::{Columns, to_json};
use crate::functions::{FUNCTION_NOT_FOUND, function_lock};
use crate::store::{READ_DEADLINE, Tx, WRITE_DEADLINE, within};
use crate::{Store, StoreError};

/// Most versions behind one alias.
pub const ALIAS_TARGETS_MAX: usize = 10;
/// Longest alias name.
const ALIAS_NAME_MAX_BYTES: usize = 64;

/// One version behind an alias, and its share of the calls: `weight` over the sum of all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// The version.
    pub version: u32,
    /// At least 1.
    pub weight: u32,
}

/// An alias as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRow {
    /// Its function.
    pub function: FunctionId,
    /// Its name.
    pub name: String,
    /// At least one version, each at most once.
    pub targets: Vec<AliasTarget>,
    /// When it was last moved.
    pub updated: TimestampUs,
}

impl Store {
    /// A live function's aliases in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such function.
    pub async fn alias_list(&self, tenant: TenantId, name: &FunctionName) -> Result<Vec<AliasRow>, StoreError> {
        let function = self.function_get(tenant, name).await?;
        within(READ_DEADLINE, async {
            let rows = sqlx::query(
                "SELECT function_id, name, targets, updated_us FROM aliases WHERE function_id = $1 ORDER BY name",
            )
            .bind(function.id.to_string())
            .fetch_all(self.reader())
            .await?;
            rows.iter().map(alias).collect()
        })
        .await
    }

    /// Makes or moves an alias.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an unusable name or targets, [`StoreError::NotFound`] for a function or version that is
    /// not there.
    pub async fn alias_set(
        &self,
        tenant: TenantId,
        name: &FunctionName,
        alias: &str,
        targets: &[AliasTarget],
        now: TimestampUs,
    ) -> Result<AliasRow, StoreError> {
        check_alias_name(alias)?;
        check_targets(targets)?;
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            let function = function_lock(&mut tx, tenant, name).await?.ok_or(FUNCTION_NOT_FOUND)?;
            for target in targets {
                sqlx::query("SELECT number FROM versions WHERE function_id = $1 AND number = $2")
                    .bind(function.to_string())
                    .bind(i64::from(target.version))
                    .fetch_optional(&mut *tx)
                    .await?
                    .ok_or(StoreError::NotFound { what: "version" })?;
            }
            alias_put(&mut tx, function, alias, targets, now).await?;
            tx.commit().await?;
            Ok(AliasRow { function, name: alias.to_owned(), targets: targets.to_vec(), updated: now })
        })
        .await
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn alias_delete(&self, tenant: TenantId, name: &FunctionName, alias: &str) -> Result<(), StoreError> {
        within(WRITE_DEADLINE, async {
            let mut tx = self.begin().await?;
            let function = function_lock(&mut tx, tenant, name).await?.ok_or(FUNCTION_NOT_FOUND)?;
            let done = sqlx::query("DELETE FROM aliases WHERE function_id = $1 AND name = $2")
                .bind(function.to_string())
                .bind(alias)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::NotFound { what: "alias" });
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

/// An alias name: letters, digits, `-` and `_`, beginning with a letter, so that it is never taken for a version number.
///
/// # Errors
/// [`StoreError::Invalid`].
pub fn check_alias_name(name: &str) -> Result<(), StoreError> {
    let mut bytes = name.bytes();
    let usable = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && name.len() <= ALIAS_NAME_MAX_BYTES;
    if usable {
        Ok(())
    } else {
        Err(StoreError::Invalid { what: "an alias is 1 to 64 letters, digits, - and _, beginning with a letter" })
    }
}

fn check_targets(targets: &[AliasTarget]) -> Result<(), StoreError> {
    if targets.is_empty() || targets.len() > ALIAS_TARGETS_MAX {
        return Err(StoreError::Invalid { what: "an alias points at 1 to 10 versions" });
    }
    if targets.iter().any(|target| target.weight == 0) {
        return Err(StoreError::Invalid { what: "an alias's weights are at least 1" });
    }
    let twice = |(at, target): (usize, &AliasTarget)| targets[..at].iter().any(|other| other.version == target.version);
    if targets.iter().enumerate().any(twice) {
        return Err(StoreError::Invalid { what: "an alias names each version once" });
    }
    Ok(())
}

/// Writes an alias; the caller has locked the function and checked the targets.
pub(crate) async fn alias_put(
    tx: &mut Tx,
    function: FunctionId,
    name: &str,
    targets: &[AliasTarget],
    now: TimestampUs,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO aliases (function_id, name, targets, updated_us) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (function_id, name) DO UPDATE SET targets = excluded.targets, updated_us = excluded.updated_us",
    )
    .bind(function.to_string())
    .bind(name)
    .bind(to_json(&targets, "the alias's targets cannot be stored")?)
    .bind(now.0)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) fn alias(row: &AnyRow) -> Result<AliasRow, StoreError> {
    Ok(AliasRow {
        function: row.parsed(0, "function id")?,
        name: row.value(1, "alias name")?,
        targets: row.json(2, "alias targets")?,
        updated: row.time(3)?,
    })
}
