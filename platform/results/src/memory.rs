//! The memory tier: results of this process, bounded by bytes, dropped at their time to live. Backed by `moka` (W-TinyLFU).

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use raas_core::{FunctionId, ResultKey, TimestampUs};

use crate::purges::Purge;
use crate::result::{Standing, StoredResult};

/// What an entry weighs beyond its body: key, moka's own bookkeeping and the result's fields, in bytes.
const ENTRY_OVERHEAD_BYTES: u32 = 300;

/// Bounds of the tier.
#[derive(Debug, Clone, Copy)]
pub struct MemoryTierOptions {
    /// All entries together, bytes.
    pub capacity_bytes: u64,
    /// One entry's body, bytes; a larger result is answered but not kept.
    pub entry_max_bytes: usize,
}

/// What the tier holds for one function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionHoldings {
    /// Entries that are fresh.
    pub entries: u64,
    /// Their bodies together, bytes.
    pub bytes: u64,
    /// The compute time they stand for, microseconds.
    pub compute_us: u64,
}

/// The tier. Cheap to share; all methods are synchronous and take well under a microsecond, but for those that say otherwise.
pub struct MemoryTier {
    cache: Cache<ResultKey, Arc<StoredResult>, BuildHasherDefault<KeyHasher>>,
    entry_max_bytes: usize,
}

impl MemoryTier {
    /// An empty tier.
    pub fn new(options: MemoryTierOptions) -> Self {
        let cache = Cache::builder()
            .max_capacity(options.capacity_bytes)
            .weigher(|_, result: &Arc<StoredResult>| {
                u32::try_from(result.body.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
            })
            .expire_after(TimeToLive)
            .support_invalidation_closures()
            .build_with_hasher(BuildHasherDefault::default());
        Self { cache, entry_max_bytes: options.entry_max_bytes }
    }

    /// The result of `key`, and what may be done with it at `now`. `draw` gives chance, where it decides.
    pub fn get(
        &self,
        key: &ResultKey,
        now: TimestampUs,
        draw: impl FnOnce() -> f64,
    ) -> Option<(Arc<StoredResult>, Standing)> {
        let result = self.cache.get(key)?;
        let standing = result.standing(now, draw)?;
        Some((result, standing))
    }

    /// Keeps a result. Returns `false`, and keeps nothing, when its body is over the entry limit.
    pub fn put(&self, key: ResultKey, result: Arc<StoredResult>) -> bool {
        let fits = result.body.len() <= self.entry_max_bytes;
        if fits {
            self.cache.insert(key, result);
            // Left to itself, moka looks at its bounds only every few dozen writes, and that many large results are far too
            // many. An execution came before this, next to which it takes no time.
            self.cache.run_pending_tasks();
        }
        fits
    }

    /// Drops the result of a key.
    pub fn remove(&self, key: &ResultKey) {
        self.cache.invalidate(key);
    }

    /// Drops results.
    pub fn purge(&self, purge: Purge) {
        let dropped = self.cache.invalidate_entries_if(move |key, result| purge.is_of(key, result));
        // The one error is a cache built without invalidation closures, which `new` rules out.
        debug_assert!(dropped.is_ok());
    }

    /// What is held for a function. Walks the whole tier: for people, not for the data path.
    pub fn holdings(&self, function: FunctionId, now: TimestampUs) -> FunctionHoldings {
        let mut held = FunctionHoldings::default();
        for (_, result) in &self.cache {
            if result.function == function && now < result.fresh_until {
                held.entries += 1;
                held.bytes += result.body.len() as u64;
                held.compute_us += result.compute_us;
            }
        }
        held
    }

    /// Entries and their weight in bytes, approximately: maintenance runs behind.
    pub fn size(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

/// Lets moka reclaim what has expired; [`MemoryTier::get`] decides freshness by the injected clock.
struct TimeToLive;

impl Expiry<ResultKey, Arc<StoredResult>> for TimeToLive {
    fn expire_after_create(&self, _: &ResultKey, result: &Arc<StoredResult>, _: Instant) -> Option<Duration> {
        let micros = result.keep_until().0.saturating_sub(result.stored_at.0);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    }

    fn expire_after_update(
        &self,
        key: &ResultKey,
        result: &Arc<StoredResult>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, result, now)
    }
}

/// A result key is a BLAKE3 digest already: its first eight bytes are its hash.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
