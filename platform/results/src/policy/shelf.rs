//! The shelf: values by key within a budget. What [`super::CostAware`] is built of, and each of its experts.

use std::collections::HashMap;
use std::collections::binary_heap::PeekMut;
use std::hash::{BuildHasher, Hash};

use super::cost_aware::{Attributes, CostAwareOptions, Evicted, Inserted};
use super::ghosts::Ghosts;
use super::standing::{Pace, Standing, density};
use super::tenants::{Queued, Tenants};

/// Entries at most; slots are numbered in 32 bits.
const ENTRIES_MAX: usize = u32::MAX as usize;
/// So many that are to go are put back when what comes turns out to be worth less than one more. Beyond, they are gone: else a large
/// result that does not get in could cost as much work as one that does, again and again.
const STAGED_MAX: usize = 32;
/// An order that is longer than twice its entries by this is rid of places whose entries are gone.
const STALE_MAX: usize = 64;

/// A value that is kept.
pub struct Entry<K, V> {
    pub key: K,
    pub value: V,
    pub hash: u64,
    pub size: u64,
    pub cost_us: u64,
    pub standing: Standing,
    tenant: u32,
    /// When it was queued: its place in the order is the one of this turn. Turns wrap around after four thousand million, and then
    /// one entry may go out of turn.
    turn: u32,
}

/// What is to go so that something can come.
struct Staged {
    from: u32,
    slot: u32,
    rank: f64,
    size: u64,
}

/// The shelf.
pub struct Shelf<K, V, T, S> {
    options: CostAwareOptions,
    held: u64,
    turn: u32,
    index: HashMap<K, u32, S>,
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    tenants: Tenants<T>,
    ghosts: Ghosts,
}

impl<K: Clone + Eq + Hash, V, T: Clone + Eq + Hash, S: BuildHasher> Shelf<K, V, T, S> {
    /// An empty one.
    pub fn new(options: CostAwareOptions, hasher: S) -> Self {
        Self {
            options,
            held: 0,
            turn: 0,
            index: HashMap::with_hasher(hasher),
            slots: Vec::new(),
            free: Vec::new(),
            tenants: Tenants::new(),
            ghosts: Ghosts::new(),
        }
    }

    /// The entry of a key, which is asked for. Leaves the order alone: ranks only grow, so the order finds out in time.
    pub fn ask(&mut self, key: &K) -> Option<&Entry<K, V>> {
        let slot = *self.index.get(key)?;
        let entry = self.slots.get_mut(slot as usize)?.as_mut()?;
        let inflation = self.tenants.get(entry.tenant)?.inflation;
        entry.standing = Standing::asked(Some(entry.standing), density(entry.cost_us, entry.size), inflation);
        Some(entry)
    }

    /// The entry of a key.
    pub fn peek(&self, key: &K) -> Option<&Entry<K, V>> {
        self.entry(*self.index.get(key)?)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<K, V>> {
        self.slots.iter().flatten()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Their sizes together.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The hash of a key.
    pub fn hash(&self, key: &K) -> u64 {
        self.index.hasher().hash_one(key)
    }

    /// The tenants that have entries.
    pub fn tenants(&self) -> &Tenants<T> {
        &self.tenants
    }

    /// What a tenant cannot be pushed below by others who are above it, as long as so many tenants have entries.
    pub fn share(&self) -> u64 {
        let equal = self.options.capacity / (self.tenants.len() as u64).max(1);
        self.options.share.map_or(equal, |share| share.min(equal))
    }

    /// Puts a value in, which is asked for, if it is worth it. The inflation goes at the pace.
    pub fn insert(&mut self, key: K, value: V, attributes: Attributes<T>, pace: Pace) -> Inserted<K, V, T> {
        let hash = self.hash(&key);
        let size = attributes.size.max(1);
        let mut inserted = Inserted { kept: false, replaced: None, evicted: Vec::new() };
        let tenant = self.tenants.enter(&attributes.tenant);
        let known = match self.index.get(&key).copied().and_then(|slot| self.take_out(slot)) {
            Some(before) => {
                self.leave(before.tenant, tenant);
                inserted.replaced = Some(before.value);
                Some(before.standing)
            }
            None => self.ghosts.take(hash),
        };
        let inflation = self.tenants.get(tenant).map_or(0.0, |tenant| tenant.inflation);
        let density = density(attributes.cost_us, size);
        let standing = Standing::asked(known, density, inflation);
        let contest = pace.contest(standing, density);
        let room = size <= self.options.capacity && self.make_room(tenant, size, contest, pace, &mut inserted.evicted);
        if room && let Some(slot) = self.free_slot() {
            self.turn = self.turn.wrapping_add(1);
            let entry = Entry {
                key: key.clone(),
                value,
                hash,
                size,
                cost_us: attributes.cost_us,
                standing,
                tenant,
                turn: self.turn,
            };
            self.slots[slot as usize] = Some(entry);
            self.index.insert(key, slot);
            self.held += size;
            self.tenants.add(tenant, size);
            self.queue(tenant, Queued { rank: standing.rank, turn: self.turn, slot });
            self.ghosts.grow(self.index.len());
            inserted.kept = true;
        } else {
            self.ghosts.put(hash, standing);
            self.tenants.leave(tenant);
        }
        inserted
    }

    /// Takes an entry out. Its ghost stays.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = *self.index.get(key)?;
        let entry = self.take_out(slot)?;
        self.ghosts.put(entry.hash, entry.standing);
        self.tenants.leave(entry.tenant);
        Some(entry.value)
    }

    /// Takes out all entries but those that are to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry<K, V>) -> bool) {
        let going =
            |slot: &Option<Entry<K, V>>| slot.as_ref().filter(|entry| !keep(entry)).map(|entry| entry.key.clone());
        let going: Vec<K> = self.slots.iter().filter_map(going).collect();
        for key in going {
            self.remove(&key);
        }
    }

    /// Another capacity. What does not fit any more goes, the heaviest tenant's first.
    pub fn set_capacity(&mut self, capacity: u64, pace: Pace) {
        self.options.capacity = capacity;
        while self.held > self.options.capacity {
            let Some(heaviest) = self.tenants.heaviest() else { break };
            let Some(lowest) = self.lowest(heaviest) else { break };
            self.inflate(heaviest, lowest.rank, pace);
            let Some(entry) = self.take_out(lowest.slot) else { break };
            self.ghosts.put(entry.hash, entry.standing);
            self.tenants.leave(entry.tenant);
        }
    }

    /// What it takes beside the values themselves, bytes; tables are reckoned as full as they get.
    pub fn bookkeeping_bytes(&self) -> usize {
        let index = self.index.capacity() * (size_of::<(K, u32)>() + 1);
        let slots = self.slots.capacity() * size_of::<Option<Entry<K, V>>>() + self.free.capacity() * size_of::<u32>();
        let orders: usize =
            self.tenants.iter().map(|tenant| size_of_val(tenant) + tenant.order.capacity() * size_of::<Queued>()).sum();
        index + slots + orders + self.ghosts.bytes()
    }

    fn entry(&self, slot: u32) -> Option<&Entry<K, V>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn free_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() >= ENTRIES_MAX {
            return None;
        }
        self.slots.push(None);
        Some((self.slots.len() - 1) as u32)
    }

    /// Makes room for a tenant's entry of a rank, or changes nothing and says that it does not get any.
    fn make_room(
        &mut self,
        tenant: u32,
        size: u64,
        rank: f64,
        pace: Pace,
        evicted: &mut Vec<Evicted<K, V, T>>,
    ) -> bool {
        let mut staged: Vec<Staged> = Vec::new();
        while self.held + size > self.options.capacity {
            let Some(going) = self.next_to_go(tenant, size, rank) else {
                self.put_back(staged);
                self.inflate(tenant, rank, pace);
                return false;
            };
            if let Some(from) = self.tenants.get_mut(going.from) {
                from.order.pop();
            }
            self.tenants.take(going.from, going.size);
            self.held -= going.size;
            staged.push(going);
            if staged.len() >= STAGED_MAX {
                self.evict(std::mem::take(&mut staged), tenant, pace, evicted);
            }
        }
        self.evict(staged, tenant, pace, evicted);
        true
    }

    /// Who has to go first for a tenant's entry of a rank; nobody, if the entry is not to come in.
    fn next_to_go(&mut self, tenant: u32, size: u64, rank: f64) -> Option<Staged> {
        let weight = self.tenants.get(tenant)?.weight + size;
        let share = self.share();
        let other = self.tenants.heaviest_but(tenant);
        if let Some((_, other)) = other
            && weight <= share
        {
            return self.staged(other);
        }
        let own = self.staged(tenant);
        if own.as_ref().is_some_and(|own| own.rank > rank) {
            return None;
        }
        if let Some((heaviest, other)) = other
            && heaviest > weight
            && let Some(others) = self.staged(other)
            && heaviest - others.size >= weight.max(share)
        {
            return Some(others);
        }
        own
    }

    /// The entry of a tenant that goes first.
    fn staged(&mut self, from: u32) -> Option<Staged> {
        let Queued { rank, slot, .. } = self.lowest(from)?;
        Some(Staged { from, slot, rank, size: self.entry(slot)?.size })
    }

    /// The place of the entry of a tenant that goes first, after which it is the first in the order and up to date.
    fn lowest(&mut self, tenant: u32) -> Option<Queued> {
        let order = &mut self.tenants.get_mut(tenant)?.order;
        loop {
            let mut first = order.peek_mut()?;
            match self.slots.get_mut(first.slot as usize).and_then(Option::as_mut) {
                Some(entry) if entry.turn == first.turn && entry.standing.rank > first.rank => {
                    // Asked for since it was queued: it has earned another place, as if it came now.
                    self.turn = self.turn.wrapping_add(1);
                    entry.turn = self.turn;
                    *first = Queued { rank: entry.standing.rank, turn: entry.turn, slot: first.slot };
                }
                Some(entry) if entry.turn == first.turn => return Some(*first),
                _ => drop(PeekMut::pop(first)),
            }
        }
    }

    fn queue(&mut self, tenant: u32, place: Queued) {
        let slots = &self.slots;
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.order.push(place);
            if tenant.order.len() > 2 * tenant.entries + STALE_MAX {
                tenant.order.retain(|queued| {
                    let entry = slots.get(queued.slot as usize).and_then(Option::as_ref);
                    entry.is_some_and(|entry| entry.turn == queued.turn)
                });
            }
        }
    }

    fn put_back(&mut self, staged: Vec<Staged>) {
        for Staged { from, slot, rank, size } in staged {
            if let Some(turn) = self.entry(slot).map(|entry| entry.turn) {
                self.held += size;
                self.tenants.add(from, size);
                self.queue(from, Queued { rank, turn, slot });
            }
        }
    }

    fn evict(&mut self, staged: Vec<Staged>, tenant: u32, pace: Pace, evicted: &mut Vec<Evicted<K, V, T>>) {
        for &Staged { from, slot, rank, .. } in &staged {
            self.inflate(from, rank, pace);
            let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else { continue };
            self.free.push(slot);
            self.index.remove(&entry.key);
            self.ghosts.put(entry.hash, entry.standing);
            if let Some(whose) = self.tenants.get(from).map(|from| from.id.clone()) {
                let attributes = Attributes { size: entry.size, cost_us: entry.cost_us, tenant: whose };
                evicted.push(Evicted { key: entry.key, value: entry.value, attributes });
            }
        }
        // Not before all are handed back: what is staged is not counted as its tenant's any more.
        staged.iter().for_each(|gone| self.leave(gone.from, tenant));
    }

    /// A tenant that has no entries any more goes, unless it is the one for whom something is being put in.
    fn leave(&mut self, tenant: u32, unless: u32) {
        if tenant != unless {
            self.tenants.leave(tenant);
        }
    }

    fn inflate(&mut self, tenant: u32, rank: f64, pace: Pace) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.inflation = pace.inflated(tenant.inflation, rank, tenant.entries);
        }
    }

    /// Takes an entry out of all but the ghosts. Its tenant stays; its place in the order finds out that it has gone.
    fn take_out(&mut self, slot: u32) -> Option<Entry<K, V>> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        self.index.remove(&entry.key);
        self.held -= entry.size;
        self.tenants.take(entry.tenant, entry.size);
        Some(entry)
    }
}
