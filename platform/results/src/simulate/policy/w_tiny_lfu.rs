//! W-TinyLFU by the library that the memory tier is built on.

use std::hash::{BuildHasherDefault, DefaultHasher};

use moka::sync::Cache;

use super::Policy;
use crate::simulate::trace::Request;

pub struct WTinyLfu {
    /// Sizes by key. With a fixed hasher, so that a run can be repeated.
    cache: Cache<u64, u64, BuildHasherDefault<DefaultHasher>>,
    capacity: u64,
}

impl WTinyLfu {
    pub fn new(capacity: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, size: &u64| u32::try_from(*size).unwrap_or(u32::MAX))
            .build_with_hasher(BuildHasherDefault::default());
        Self { cache, capacity }
    }
}

impl Policy for WTinyLfu {
    fn serve(&mut self, request: &Request) -> bool {
        let hit = self.cache.get(&request.key).is_some();
        if !hit && request.size <= self.capacity {
            self.cache.insert(request.key, request.size);
        }
        // What it does in the background, it does here between requests.
        self.cache.run_pending_tasks();
        hit
    }

    fn holds(&self, key: u64) -> bool {
        self.cache.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.cache.weighted_size()
    }
}
