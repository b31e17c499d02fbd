//! Tenants: whose results are kept, how much each holds, and in which order each one's go out.
//!
//! While there is room everybody may take it. When there is none, a tenant that stays within its share gets its room from the
//! heaviest one, whatever ranks where; one that is past its share gives its own, unless another is heavier by more than
//! it asks for. So room that nobody claims comes to be spread evenly among those who can use it, one that floods the store soon
//! is the heaviest and pays for itself, and nobody is pushed below the share for one who is above it. Ranks of different tenants
//! are never compared: what one pays in microseconds says nothing about the other.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::hash::Hash;

/// A place in a tenant's order. The rank may be out of date, and then the entry's own is higher: hits leave the order alone.
#[derive(Debug, Clone, Copy)]
pub struct Queued {
    /// The rank when it was queued.
    pub rank: f64,
    /// When that was, in turns of the shelf: also tells whether the slot still has the same entry.
    pub turn: u32,
    /// The slot of its entry.
    pub slot: u32,
}

impl Ord for Queued {
    /// The greatest is the one to go first: of the lowest rank, and among equals the one queued first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.total_cmp(&self.rank).then(other.turn.cmp(&self.turn)).then(other.slot.cmp(&self.slot))
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

/// A tenant that has entries.
pub struct Tenant<T> {
    /// Who.
    pub id: T,
    /// Its entries together, in units of size.
    pub weight: u64,
    /// Its entries.
    pub entries: usize,
    /// What ranks are on top of.
    pub inflation: f64,
    /// Its entries in the order in which they go.
    pub order: BinaryHeap<Queued>,
}

/// Tenants by id, by number and by weight.
pub struct Tenants<T> {
    numbers: HashMap<T, u32>,
    slots: Vec<Option<Tenant<T>>>,
    free: Vec<u32>,
    by_weight: BTreeSet<(u64, u32)>,
}

impl<T: Clone + Eq + Hash> Tenants<T> {
    /// None.
    pub fn new() -> Self {
        Self { numbers: HashMap::new(), slots: Vec::new(), free: Vec::new(), by_weight: BTreeSet::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a tenant, which is added if it is not here.
    pub fn enter(&mut self, id: &T) -> u32 {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let tenant = Some(Tenant { id: id.clone(), weight: 0, entries: 0, inflation: 0.0, order: BinaryHeap::new() });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = tenant;
                number
            }
            None => {
                self.slots.push(tenant);
                // No more tenants than entries, and those are counted in 32 bits.
                (self.slots.len() - 1) as u32
            }
        };
        self.numbers.insert(id.clone(), number);
        self.by_weight.insert((0, number));
        number
    }

    /// Forgets a tenant if it has no entries.
    pub fn leave(&mut self, number: u32) {
        let empty = self.get(number).is_some_and(|tenant| tenant.entries == 0);
        if let Some(tenant) = self.slots.get_mut(number as usize).filter(|_| empty).and_then(Option::take) {
            self.by_weight.remove(&(tenant.weight, number));
            self.numbers.remove(&tenant.id);
            self.free.push(number);
        }
    }

    /// A tenant by number.
    pub fn get(&self, number: u32) -> Option<&Tenant<T>> {
        self.slots.get(number as usize)?.as_ref()
    }

    /// A tenant by number; its weight is changed by [`Self::add`] and [`Self::take`] only.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Tenant<T>> {
        self.slots.get_mut(number as usize)?.as_mut()
    }

    /// A tenant by id.
    pub fn find(&self, id: &T) -> Option<&Tenant<T>> {
        self.get(*self.numbers.get(id)?)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Tenant<T>> {
        self.slots.iter().flatten()
    }

    /// An entry of this size is a tenant's now.
    pub fn add(&mut self, number: u32, size: u64) {
        self.weigh(number, |tenant| {
            tenant.weight += size;
            tenant.entries += 1;
        });
    }

    /// An entry of this size is a tenant's no more.
    pub fn take(&mut self, number: u32, size: u64) {
        self.weigh(number, |tenant| {
            tenant.weight -= size;
            tenant.entries -= 1;
        });
    }

    fn weigh(&mut self, number: u32, change: impl FnOnce(&mut Tenant<T>)) {
        if let Some(tenant) = self.slots.get_mut(number as usize).and_then(Option::as_mut) {
            let before = tenant.weight;
            change(tenant);
            let after = tenant.weight;
            if before != after && self.by_weight.remove(&(before, number)) {
                self.by_weight.insert((after, number));
            }
        }
    }

    /// The heaviest.
    pub fn heaviest(&self) -> Option<u32> {
        self.by_weight.last().map(|(_, number)| *number)
    }

    /// The weight and number of the heaviest but this one.
    pub fn heaviest_but(&self, number: u32) -> Option<(u64, u32)> {
        self.by_weight.iter().rev().find(|(_, other)| *other != number).copied()
    }
}
