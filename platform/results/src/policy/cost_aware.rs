//! The container: a shelf and the tuner of its pace.

use std::hash::{BuildHasher, Hash, RandomState};

use super::shelf::Shelf;
use super::standing::FREQUENCY_MAX;
use super::tuner::Tuner;

/// Of the requests for entries that are asked for all the time the tuner is told one in so many.
const CONSTANT_TOLD: u32 = 16;

/// Bounds of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostAwareOptions {
    /// All entries together, in the unit of their sizes: bytes, or 1 for each where entries are counted.
    pub capacity: u64,
    /// What each tenant that has entries is guaranteed, in the same unit. `None`, and whatever is more: the capacity divided by
    /// how many tenants have entries.
    pub share: Option<u64>,
}

/// What the policy has to know of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<T> {
    /// What keeping it takes, in the unit of the capacity. Nought counts as 1.
    pub size: u64,
    /// What computing it took, microseconds.
    pub cost_us: u64,
    /// Whose it is.
    pub tenant: T,
}

/// A value that had to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evicted<K, V, T> {
    /// Its key.
    pub key: K,
    /// The value.
    pub value: V,
    /// What it was put in with.
    pub attributes: Attributes<T>,
}

/// What came of putting a value in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inserted<K, V, T> {
    /// Whether it is kept. If not, it was worth less than what it would have pushed out, or is larger than the capacity.
    pub kept: bool,
    /// The value of the key before, which is gone either way.
    pub replaced: Option<V>,
    /// What had to go for it.
    pub evicted: Vec<Evicted<K, V, T>>,
}

/// Values by key, so chosen that within the capacity they save as much computing as can be.
///
/// Answers exactly: what it holds is never more than the capacity. Work is constant for a hit, and logarithmic in the entries for
/// an insertion, amortised; every once in so many insertions a table grows, which is linear. Beside the values it takes
/// [`Self::bookkeeping_bytes`]: with keys of 32 bytes some 260 to 360 bytes an entry (tables double when they are full), a fourth of it
/// ghosts, and up to 0.3 MB for the tuner. The hasher has to spread keys over all 64 bits; of several containers that share keys out
/// among them by the same hash, each has to get keys that differ in its lower 48 bits.
pub struct CostAware<K, V, T = (), S = RandomState> {
    shelf: Shelf<K, V, T, S>,
    tuner: Tuner,
    /// Requests for entries that are asked for all the time.
    constant: u32,
}

impl<K: Clone + Eq + Hash, V, T: Clone + Eq + Hash, S: BuildHasher + Default> CostAware<K, V, T, S> {
    /// An empty one.
    pub fn new(options: CostAwareOptions) -> Self {
        Self { shelf: Shelf::new(options, S::default()), tuner: Tuner::new(options.capacity), constant: 0 }
    }
}

impl<K: Clone + Eq + Hash, V, T: Clone + Eq + Hash, S: BuildHasher> CostAware<K, V, T, S> {
    /// The value of a key, for someone who asks for it: it counts as a request if the value is there.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.shelf.ask(key)?;
        // What is asked for all the time every pace keeps: most of its requests would tell the tuner nothing, and they are the most.
        let constant = entry.standing.frequency >= FREQUENCY_MAX;
        self.constant = self.constant.wrapping_add(u32::from(constant));
        if !constant || self.constant.is_multiple_of(CONSTANT_TOLD) {
            self.tuner.asked(entry.hash, entry.size, entry.cost_us);
        }
        Some(&entry.value)
    }

    /// The value of a key, for someone who only looks.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.shelf.peek(key).map(|entry| &entry.value)
    }

    /// Puts a value in, if it is worth it: it counts as a request, the one that found nothing. A value that the key has goes, and
    /// how often it was asked for stays known.
    pub fn insert(&mut self, key: K, value: V, attributes: Attributes<T>) -> Inserted<K, V, T> {
        self.tuner.asked(self.shelf.hash(&key), attributes.size, attributes.cost_us);
        self.shelf.insert(key, value, attributes, self.tuner.pace())
    }

    /// Takes a value out. How often it was asked for stays known for a while.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.shelf.remove(key)
    }

    /// Takes out all values but those that are to be kept. Walks all of them.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.shelf.retain(|entry| keep(&entry.key, &entry.value));
    }

    /// All values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shelf.iter().map(|entry| (&entry.key, &entry.value))
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.shelf.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sizes of all values together: never more than the capacity.
    pub fn weight(&self) -> u64 {
        self.shelf.held()
    }

    /// The sizes of a tenant's values together.
    pub fn tenant_weight(&self, tenant: &T) -> u64 {
        self.shelf.tenants().find(tenant).map_or(0, |tenant| tenant.weight)
    }

    /// The tenants that have values, in no order, and what they weigh.
    pub fn tenants(&self) -> impl Iterator<Item = (&T, u64)> {
        self.shelf.tenants().iter().map(|tenant| (&tenant.id, tenant.weight))
    }

    /// What it takes beside the values, bytes, which the weight does not count: keys, orders, ghosts and the tuner's samples.
    pub fn bookkeeping_bytes(&self) -> usize {
        self.shelf.bookkeeping_bytes() + self.tuner.bookkeeping_bytes()
    }
}
