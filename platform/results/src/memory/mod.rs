//! The memory tier: results of this process, bounded by bytes, gone when there is no use in them any more.
//!
//! What is kept when not all can be is decided by one of two policies: the store's own, which knows what results cost
//! ([`crate::policy`]), or `moka`'s W-TinyLFU, which counts requests only.

mod cost_aware;
mod w_tiny_lfu;

use std::hash::Hasher;
use std::sync::Arc;

use raas_core::{FunctionId, ResultKey, TimestampUs};

use crate::purges::Purge;
use crate::result::{Standing, StoredResult};
use cost_aware::CostAwareTier;
use w_tiny_lfu::WTinyLfuTier;

/// What an entry weighs beyond its body: key, the policy's bookkeeping with its ghosts, and the result's fields, bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 500;

/// Which policy decides what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// The store's own: as much computing saved as can be, and a share for each tenant.
    Cost,
    /// `moka`'s W-TinyLFU: as many hits as can be.
    Moka,
}

/// Bounds of the tier.
#[derive(Debug, Clone, Copy)]
pub struct MemoryTierOptions {
    /// All entries together, bytes.
    pub capacity_bytes: u64,
    /// One entry's body, bytes; a larger result is answered but not kept.
    pub entry_max_bytes: usize,
    /// What decides which are kept.
    pub policy: MemoryPolicy,
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
    kept: Kept,
    entry_max_bytes: usize,
}

enum Kept {
    Cost(CostAwareTier),
    Moka(WTinyLfuTier),
}

impl MemoryTier {
    /// An empty tier.
    pub fn new(options: MemoryTierOptions) -> Self {
        let kept = match options.policy {
            MemoryPolicy::Cost => Kept::Cost(CostAwareTier::new(&options)),
            MemoryPolicy::Moka => Kept::Moka(WTinyLfuTier::new(&options)),
        };
        Self { kept, entry_max_bytes: options.entry_max_bytes }
    }

    /// The result of `key`, and what may be done with it at `now`. `draw` gives chance, where it decides.
    pub fn get(
        &self,
        key: &ResultKey,
        now: TimestampUs,
        draw: impl FnOnce() -> f64,
    ) -> Option<(Arc<StoredResult>, Standing)> {
        let result = match &self.kept {
            Kept::Cost(tier) => tier.get(key)?,
            Kept::Moka(tier) => tier.get(key)?,
        };
        match result.standing(now, draw) {
            Some(standing) => Some((result, standing)),
            None => {
                self.remove(key);
                None
            }
        }
    }

    /// The result of `key`, for someone who only looks: it does not count as asked for.
    pub fn peek(&self, key: &ResultKey) -> Option<Arc<StoredResult>> {
        match &self.kept {
            Kept::Cost(tier) => tier.peek(key),
            Kept::Moka(tier) => tier.get(key),
        }
    }

    /// Keeps a result. Returns `false`, and keeps nothing, when its body is over the entry limit, or it is worth less than what
    /// would have to go for it.
    pub fn put(&self, key: ResultKey, result: Arc<StoredResult>) -> bool {
        result.body.len() <= self.entry_max_bytes
            && match &self.kept {
                Kept::Cost(tier) => tier.put(key, result),
                Kept::Moka(tier) => tier.put(key, result),
            }
    }

    /// Drops the result of a key.
    pub fn remove(&self, key: &ResultKey) {
        match &self.kept {
            Kept::Cost(tier) => tier.remove(key),
            Kept::Moka(tier) => tier.remove(key),
        }
    }

    /// Drops results. Walks the whole tier.
    pub fn purge(&self, purge: Purge) {
        match &self.kept {
            Kept::Cost(tier) => tier.retain(|key, result| !purge.is_of(key, result)),
            Kept::Moka(tier) => tier.purge(purge),
        }
    }

    /// Gives back the room of what there is no use in any more. Walks the whole tier, a part at a time.
    pub fn expire(&self, now: TimestampUs) {
        match &self.kept {
            Kept::Cost(tier) => tier.retain(|_, result| now < result.keep_until() && !result.is_of_unknown_age(now)),
            // It does so by itself.
            Kept::Moka(_) => {}
        }
    }

    /// What is held for a function. Walks the whole tier: for people, not for the data path.
    pub fn holdings(&self, function: FunctionId, now: TimestampUs) -> FunctionHoldings {
        let mut held = FunctionHoldings::default();
        let mut add = |result: &StoredResult| {
            if result.function == function && now < result.fresh_until {
                held.entries += 1;
                held.bytes += result.body.len() as u64;
                held.compute_us += result.compute_us;
            }
        };
        match &self.kept {
            Kept::Cost(tier) => tier.for_each(&mut add),
            Kept::Moka(tier) => tier.for_each(&mut add),
        }
        held
    }

    /// Entries and their weight in bytes, approximately.
    pub fn size(&self) -> (u64, u64) {
        match &self.kept {
            Kept::Cost(tier) => tier.size(),
            Kept::Moka(tier) => tier.size(),
        }
    }
}

fn weight(result: &StoredResult) -> u64 {
    result.body.len() as u64 + ENTRY_OVERHEAD_BYTES
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;

    fn tier(policy: MemoryPolicy, capacity_bytes: u64) -> MemoryTier {
        MemoryTier::new(MemoryTierOptions { capacity_bytes, entry_max_bytes: 10_000, policy })
    }

    fn key(number: u32) -> ResultKey {
        ResultKey::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    const NOW: TimestampUs = TimestampUs(101_000_000);

    fn has(tier: &MemoryTier, number: u32) -> bool {
        tier.get(&key(number), NOW, || 0.5).is_some()
    }

    #[test]
    fn both_policies_keep_find_drop_and_count() {
        for policy in [MemoryPolicy::Cost, MemoryPolicy::Moka] {
            let tier = tier(policy, 1 << 20);
            assert!(tier.put(key(1), Arc::new(result(1, 10, 50))) && tier.put(key(2), Arc::new(result(2, 20, 60))));
            assert!(!tier.put(key(3), Arc::new(result(1, 10_001, 50))), "over the entry limit");
            assert!(has(&tier, 1) && has(&tier, 2) && !has(&tier, 3));
            let held = tier.holdings(FunctionId::from_bytes([2; 16]), NOW);
            assert_eq!(held, FunctionHoldings { entries: 1, bytes: 20, compute_us: 60 });
            assert_eq!(tier.size(), (2, 30 + 2 * ENTRY_OVERHEAD_BYTES));
            tier.purge(Purge::Function(FunctionId::from_bytes([2; 16])));
            assert!(has(&tier, 1) && !has(&tier, 2));
            tier.remove(&key(1));
            assert!(!has(&tier, 1));
        }
    }

    #[test]
    fn what_is_past_all_its_times_gives_its_room_back() {
        let tier = tier(MemoryPolicy::Cost, 1 << 20);
        tier.put(key(1), Arc::new(result(1, 10, 50)));
        tier.expire(TimestampUs(215_000_000));
        assert_eq!(tier.size().0, 1);
        tier.expire(TimestampUs(216_000_000));
        assert_eq!(tier.size(), (0, 0));
        tier.put(key(1), Arc::new(result(1, 10, 50)));
        assert!(tier.get(&key(1), TimestampUs(216_000_000), || 0.5).is_none());
        assert_eq!(tier.size().0, 0, "or when it is asked for");
    }

    #[test]
    fn a_tenant_that_floods_the_store_pushes_out_its_own() {
        let tier = tier(MemoryPolicy::Cost, 4 << 20);
        for number in 0..200 {
            assert!(tier.put(key(number), Arc::new(result(1, 5_000, 1_000))));
        }
        for number in 1_000..20_000 {
            let mut flood = result(2, 5_000, 1_000_000);
            flood.tenant = raas_core::TenantId::from_bytes([8; 16]);
            tier.put(key(number), Arc::new(flood));
        }
        assert!(tier.size().1 <= 4 << 20);
        let left = (0..200).filter(|number| has(&tier, *number)).count();
        assert_eq!(left, 200, "a quarter of the store was within the other's share");
    }
}
