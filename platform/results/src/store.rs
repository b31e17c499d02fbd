//! The result store: memory first, then the tiers below it, and what was purged of all of them.
//!
//! A call asks memory, which answers at once. Who is about to compute a missing result asks the tiers below first, each only
//! where fetching is expected to take clearly less than computing; what is found there comes up into memory. What is computed
//! goes into memory, and behind the call's back into each tier for which it is worth it by the same rule.

use std::sync::Arc;

use raas_core::{FunctionId, ResultKey, TenantId, TimestampUs};

use crate::memory::{FunctionHoldings, MemoryTier, MemoryTierOptions};
use crate::purges::{Purge, Purges};
use crate::result::{Standing, StoredResult};
use crate::tiers::{GuardedTier, LowerTier, RedisTier, Sealer, TierWriter};

/// What the store is made of.
pub struct ResultStoreOptions {
    /// Bounds of the memory tier.
    pub memory: MemoryTierOptions,
    /// Seals what leaves the process.
    pub sealer: Sealer,
    /// The Redis that platforms share, if any.
    pub redis: Option<RedisTier>,
    /// Where results outlive the process, if anywhere.
    pub database: Option<Arc<dyn LowerTier>>,
}

/// What is sought below memory.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Under which key: that of the whole event, under which a result is right whatever its run read.
    pub key: ResultKey,
    /// Under which keys it may lie as well.
    pub others: &'a [ResultKey],
    /// Whose.
    pub tenant: TenantId,
    /// Of which function.
    pub function: FunctionId,
    /// What computing it is expected to take, microseconds; unknown before the first.
    pub expected_us: Option<u64>,
}

/// The store.
pub struct ResultStore {
    memory: MemoryTier,
    purges: Purges,
    /// The fastest first.
    tiers: Vec<Arc<GuardedTier>>,
    /// The one that platforms share, and its guard, which is among the tiers.
    pub(crate) shared: Option<(Arc<RedisTier>, Arc<GuardedTier>)>,
}

impl ResultStore {
    /// An empty memory over these tiers, and what must run for the tiers to be written to.
    pub fn new(options: ResultStoreOptions) -> (Self, Vec<TierWriter>) {
        let sealer = Arc::new(options.sealer);
        let (mut tiers, mut writers, mut shared) = (Vec::new(), Vec::new(), None);
        let mut add = |tier: Arc<dyn LowerTier>| {
            let (guard, writer) = GuardedTier::new(tier, Arc::clone(&sealer));
            tiers.push(Arc::clone(&guard));
            writers.push(writer);
            guard
        };
        if let Some(redis) = options.redis {
            let redis = Arc::new(redis);
            let guard = add(Arc::clone(&redis) as Arc<dyn LowerTier>);
            shared = Some((redis, guard));
        }
        if let Some(database) = options.database {
            add(database);
        }
        let memory = MemoryTier::new(options.memory);
        (Self { memory, purges: Purges::default(), tiers, shared }, writers)
    }

    /// The result of `key` in memory, and what may be done with it at `now`. `draw` gives chance, where it decides.
    pub fn get(
        &self,
        key: &ResultKey,
        now: TimestampUs,
        draw: impl FnOnce() -> f64,
    ) -> Option<(Arc<StoredResult>, Standing)> {
        self.memory.get(key, now, draw)
    }

    /// The result of a key that memory does not have, from the tiers below. It is in memory on return.
    pub async fn get_below(&self, sought: &Sought<'_>, now: TimestampUs) -> Option<(Arc<StoredResult>, Standing)> {
        for (depth, tier) in self.tiers.iter().enumerate() {
            if sought.expected_us.is_some_and(|expected| !tier.is_worth(expected)) {
                continue;
            }
            for key in std::iter::once(&sought.key).chain(sought.others) {
                if let Some(found) = self.get_from(tier, sought, key, now).await {
                    // Others that share the faster tiers want it there.
                    self.tiers[..depth].iter().for_each(|above| above.put_behind(*key, &found.0, now));
                    return Some(found);
                }
            }
        }
        None
    }

    /// The same from one tier.
    pub(crate) async fn get_from(
        &self,
        tier: &GuardedTier,
        sought: &Sought<'_>,
        key: &ResultKey,
        now: TimestampUs,
    ) -> Option<(Arc<StoredResult>, Standing)> {
        let result = tier.get(sought.tenant, sought.function, key).await?;
        if result.function != sought.function || self.purges.cover(key, &result) {
            return None;
        }
        if result.is_of_unknown_age(now) {
            tier.remove(key).await;
            return None;
        }
        // A refresh is decided when it is next asked for.
        let standing = result.standing(now, || 1.0)?;
        let result = Arc::new(result);
        self.put_in_memory(*key, &result, now);
        Some((result, standing))
    }

    /// Keeps a result. Returns `false`, and keeps nothing, when its body is over the entry limit, or it was purged since its
    /// computation began.
    pub fn put(&self, key: ResultKey, result: &Arc<StoredResult>, now: TimestampUs) -> bool {
        let kept = self.put_in_memory(key, result, now);
        if kept {
            self.tiers.iter().for_each(|tier| tier.put_behind(key, result, now));
        }
        kept
    }

    fn put_in_memory(&self, key: ResultKey, result: &Arc<StoredResult>, now: TimestampUs) -> bool {
        // What began to be computed later knows better; it has landed before this.
        let knows_better = |there: Arc<StoredResult>| there.began_at > result.began_at && !there.is_of_unknown_age(now);
        if self.memory.peek(&key).is_some_and(knows_better) {
            return true;
        }
        if self.purges.cover(&key, result) || !self.memory.put(key, Arc::clone(result)) {
            return false;
        }
        if self.purges.cover(&key, result) {
            // Purged between the look and the insertion.
            self.memory.remove(&key);
            return false;
        }
        true
    }

    /// Drops results, and keeps out those whose computation began before `at`, wherever they lie. Returns whether it was news.
    pub fn purge(&self, purge: Purge, at: TimestampUs) -> bool {
        let news = self.purges.record(purge, at);
        if news {
            self.memory.purge(purge);
        }
        news
    }

    /// Removes what the tiers below hold of a purge as far as they know how; the rest is kept out by [`ResultStore::purge`].
    pub async fn purge_below(&self, purge: Purge) {
        for tier in &self.tiers {
            tier.purge(purge).await;
        }
    }

    /// Gives back the room in memory of what there is no use in any more. Walks all of it.
    pub fn expire(&self, now: TimestampUs) {
        self.memory.expire(now);
    }

    /// Until when memory has a fresh result of a key; looking does not count as asking for it.
    pub fn fresh_until(&self, key: &ResultKey, now: TimestampUs) -> Option<TimestampUs> {
        let result = self.memory.peek(key)?;
        (result.standing(now, || 1.0) == Some(Standing::Fresh)).then_some(result.fresh_until)
    }

    /// Whether nobody has asked yet for the result of a key that was computed before anybody did; nothing where it is gone.
    pub fn is_unasked(&self, key: &ResultKey, now: TimestampUs) -> Option<bool> {
        let result = self.memory.peek(key)?;
        (now < result.keep_until()).then(|| result.unasked.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// What memory holds for a function. Walks all of it: for people, not for the data path.
    pub fn holdings(&self, function: FunctionId, now: TimestampUs) -> FunctionHoldings {
        self.memory.holdings(function, now)
    }

    /// Entries in memory and their weight in bytes, approximately: maintenance runs behind.
    pub fn size(&self) -> (u64, u64) {
        self.memory.size()
    }

    /// The tiers below memory, for figures.
    pub fn tiers(&self) -> &[Arc<GuardedTier>] {
        &self.tiers
    }
}
