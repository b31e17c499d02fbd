//! The database tier: dear results outlive the platform's process. Only asked by who is about to compute a result anyway.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use raas_core::{FunctionId, ResultKey, TimestampUs};
use raas_results::{Entry, LowerTier, TierError};
use raas_store::{Backend, ResultEntry, Store, StoreError};

/// What a question takes before one has been measured, microseconds. Writing costs far more than asking, so a result is to
/// have taken some milliseconds before it is worth a row.
const LATENCY_US: u32 = 2_000;

/// A result with less time left is not worth a row.
const LEAST_TIME_LEFT: Duration = Duration::from_secs(10);

/// How long rows are gathered for one transaction.
const GATHER_FOR: Duration = Duration::from_millis(250);

/// Results in the database.
pub struct DatabaseTier {
    store: Arc<Store>,
    /// Functions that have rows, where no other platform writes any: others need not be asked for.
    holding: Option<RwLock<HashSet<FunctionId>>>,
    capacity_bytes: u64,
}

impl DatabaseTier {
    /// The tier in a database, of so many bytes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn open(store: Arc<Store>, capacity_bytes: u64) -> Result<Self, StoreError> {
        let holding = match store.backend() {
            Backend::Sqlite => Some(RwLock::new(store.result_functions().await?.into_iter().collect())),
            Backend::Postgres => None,
        };
        Ok(Self { store, holding, capacity_bytes })
    }

    /// Removes what is past its end, or worth least where there is too much.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trim(&self, now: TimestampUs) -> Result<u64, StoreError> {
        self.store.result_trim(self.capacity_bytes, now).await
    }
}

fn failed(error: StoreError) -> TierError {
    TierError(error.to_string())
}

impl LowerTier for DatabaseTier {
    fn name(&self) -> &'static str {
        "database"
    }

    fn expected_latency_us(&self) -> u32 {
        LATENCY_US
    }

    fn may_hold(&self, function: FunctionId) -> bool {
        self.holding.as_ref().is_none_or(|holding| holding.read().contains(&function))
    }

    fn get<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, TierError>> {
        Box::pin(async move { self.store.result_get(&key.to_string()).await.map_err(failed) })
    }

    fn put(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(async move {
            let rows: Vec<_> = entries
                .into_iter()
                .map(|entry| ResultEntry {
                    key: entry.key.to_string(),
                    function: entry.function,
                    compute_us: entry.compute_us,
                    keep_until: entry.keep_until,
                    entry: entry.bytes,
                })
                .collect();
            self.store.result_put(&rows).await.map_err(failed)?;
            if let Some(holding) = &self.holding {
                holding.write().extend(rows.iter().map(|row| row.function));
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<(), TierError>> {
        Box::pin(async move { self.store.result_remove(&key.to_string()).await.map_err(failed) })
    }

    fn remove_function(&self, function: FunctionId) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(async move { self.store.result_remove_function(function).await.map_err(failed) })
    }

    fn least_time_left(&self) -> Duration {
        LEAST_TIME_LEFT
    }

    fn gather_for(&self) -> Duration {
        GATHER_FOR
    }
}
