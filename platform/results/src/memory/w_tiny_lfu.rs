//! Results under `moka`'s W-TinyLFU.

use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use raas_core::ResultKey;

use super::{KeyHasher, MemoryTierOptions, weight};
use crate::purges::Purge;
use crate::result::StoredResult;

pub struct WTinyLfuTier {
    cache: Cache<ResultKey, Arc<StoredResult>, BuildHasherDefault<KeyHasher>>,
}

impl WTinyLfuTier {
    pub fn new(options: &MemoryTierOptions) -> Self {
        let cache = Cache::builder()
            .max_capacity(options.capacity_bytes)
            .weigher(|_, result: &Arc<StoredResult>| u32::try_from(weight(result)).unwrap_or(u32::MAX))
            .expire_after(TimeToLive)
            .support_invalidation_closures()
            .build_with_hasher(BuildHasherDefault::default());
        Self { cache }
    }

    pub fn get(&self, key: &ResultKey) -> Option<Arc<StoredResult>> {
        self.cache.get(key)
    }

    pub fn put(&self, key: ResultKey, result: Arc<StoredResult>) -> bool {
        self.cache.insert(key, result);
        // Left to itself, moka looks at its bounds only every few dozen writes, and that many large results are far too many.
        // An execution came before this, next to which it takes no time.
        self.cache.run_pending_tasks();
        true
    }

    pub fn remove(&self, key: &ResultKey) {
        self.cache.invalidate(key);
        self.cache.run_pending_tasks();
    }

    pub fn purge(&self, purge: Purge) {
        let dropped = self.cache.invalidate_entries_if(move |key, result| purge.is_of(key, result));
        // The one error is a cache built without invalidation closures, which `new` rules out.
        debug_assert!(dropped.is_ok());
    }

    pub fn for_each(&self, each: &mut dyn FnMut(&StoredResult)) {
        self.cache.iter().for_each(|(_, result)| each(&result));
    }

    pub fn size(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

/// Lets moka reclaim what there is no use in any more; freshness is decided by the injected clock.
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
