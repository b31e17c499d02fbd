//! Results under the store's own policy, in parts with a lock each so that callers do not wait for one another.

use std::hash::BuildHasherDefault;
use std::sync::Arc;

use parking_lot::Mutex;
use raas_core::{ResultKey, TenantId};

use super::{KeyHasher, MemoryTierOptions, weight};
use crate::policy::{Attributes, CostAware, CostAwareOptions};
use crate::result::StoredResult;

/// Parts at most.
const PARTS_MAX: u64 = 16;

/// Results of the greatest size that a part has room for at least: with fewer the parts would be full at different times.
const LARGEST_A_PART: u64 = 16;

type Part = CostAware<ResultKey, Arc<StoredResult>, TenantId, BuildHasherDefault<KeyHasher>>;

pub struct CostAwareTier {
    parts: Box<[Mutex<Part>]>,
}

impl CostAwareTier {
    pub fn new(options: &MemoryTierOptions) -> Self {
        let largest = (options.entry_max_bytes as u64).max(1) * LARGEST_A_PART;
        let parts = (options.capacity_bytes / largest).clamp(1, PARTS_MAX);
        let capacity = options.capacity_bytes / parts;
        let part = || Mutex::new(CostAware::new(CostAwareOptions { capacity, share: None }));
        Self { parts: (0..parts).map(|_| part()).collect() }
    }

    /// By other bytes of the key than those that are its hash.
    fn part(&self, key: &ResultKey) -> &Mutex<Part> {
        &self.parts[usize::from(key.as_bytes()[8]) % self.parts.len()]
    }

    pub fn get(&self, key: &ResultKey) -> Option<Arc<StoredResult>> {
        self.part(key).lock().get(key).cloned()
    }

    pub fn peek(&self, key: &ResultKey) -> Option<Arc<StoredResult>> {
        self.part(key).lock().peek(key).cloned()
    }

    pub fn put(&self, key: ResultKey, result: Arc<StoredResult>) -> bool {
        let attributes = Attributes { size: weight(&result), cost_us: result.compute_us.max(1), tenant: result.tenant };
        // What goes is dropped without the lock: it may be many, and large.
        let inserted = self.part(&key).lock().insert(key, result, attributes);
        inserted.kept
    }

    pub fn remove(&self, key: &ResultKey) {
        let removed = self.part(key).lock().remove(key);
        drop(removed);
    }

    pub fn retain(&self, keep: impl Fn(&ResultKey, &StoredResult) -> bool) {
        for part in &self.parts {
            part.lock().retain(|key, result| keep(key, result));
        }
    }

    pub fn for_each(&self, each: &mut dyn FnMut(&StoredResult)) {
        for part in &self.parts {
            part.lock().iter().for_each(|(_, result)| each(result));
        }
    }

    pub fn size(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |(entries, weight), part| {
            let part = part.lock();
            (entries + part.len() as u64, weight + part.weight())
        })
    }
}
