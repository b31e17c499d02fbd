//! The tiers below memory: what they are asked, how they are guarded, and how results lie in them.
//!
//! A tier is a dumb keeper of bytes: what is worth keeping where is decided above ([`crate::ResultStore`]), and what its
//! bytes mean only the envelope knows.

mod envelope;
mod guard;
mod redis;

use std::time::Duration;

use futures_util::future::BoxFuture;
use raas_core::{FunctionId, ResultKey, TimestampUs};

pub use self::redis::RedisTier;
pub use envelope::{Sealer, Unreadable};
pub use guard::{GuardedTier, TierCounts, TierWriter};

/// Why a tier did not answer. Never shown to callers: it costs them a hit.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TierError(pub String);

/// One result on its way to a tier.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its key.
    pub key: ResultKey,
    /// Whose it is, for purging.
    pub function: FunctionId,
    /// The sealed result.
    pub bytes: Vec<u8>,
    /// What computing it took, microseconds.
    pub compute_us: u64,
    /// When it was computed.
    pub stored_at: TimestampUs,
    /// Until when there is any use in keeping it.
    pub keep_until: TimestampUs,
}

/// Where results are kept beside memory.
pub trait LowerTier: Send + Sync + 'static {
    /// Its name, for people and metrics.
    fn name(&self) -> &'static str;

    /// What a question takes before one has been measured, microseconds.
    fn expected_latency_us(&self) -> u32;

    /// Whether it may hold anything of a function; `false` saves the question.
    fn may_hold(&self, _function: FunctionId) -> bool {
        true
    }

    /// The entry of a key.
    fn get<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, TierError>>;

    /// Writes entries, each in place of what lies under its key.
    fn put(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), TierError>>;

    /// Removes the entry of a key.
    fn remove<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<(), TierError>>;

    /// Removes all entries of a function, where the tier knows whose they are.
    fn remove_function(&self, _function: FunctionId) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// A result that has less time left than this is not worth writing.
    fn least_time_left(&self) -> Duration;

    /// How long writes are gathered before they are made together.
    fn gather_for(&self) -> Duration {
        Duration::from_millis(5)
    }
}
