//! Greedy-dual-size, and with frequency: out goes what is worth least: what computing it takes, for each byte that it takes, and
//! with frequency times how often it was asked for; and what was worth something long ago falls behind.

use std::collections::{BTreeMap, HashMap};

use super::Policy;
use crate::simulate::trace::Request;

struct Entry {
    size: u64,
    count: u64,
    /// Its place in the order.
    rank: (u64, u64),
}

/// Whether it matters how often a result was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frequency {
    Counts,
    Ignored,
}

pub struct GreedyDual {
    capacity: u64,
    frequency: Frequency,
    held: u64,
    /// What the last that went out was worth.
    inflation: f64,
    /// Grows with every request: who was asked for longer ago goes first among equals.
    turn: u64,
    entries: HashMap<u64, Entry>,
    /// By worth: the bits of a number that is not negative are in the order of numbers.
    order: BTreeMap<(u64, u64), u64>,
}

impl GreedyDual {
    pub fn new(capacity: u64, frequency: Frequency) -> Self {
        let (entries, order) = (HashMap::new(), BTreeMap::new());
        Self { capacity, frequency, held: 0, inflation: 0.0, turn: 0, entries, order }
    }

    fn rank(&mut self, count: u64, request: &Request) -> (u64, u64) {
        self.turn += 1;
        let worth = self.inflation + count as f64 * request.cost_us as f64 / request.size.max(1) as f64;
        (worth.to_bits(), self.turn)
    }
}

impl Policy for GreedyDual {
    fn serve(&mut self, request: &Request) -> bool {
        if let Some(count) =
            self.entries.get(&request.key).map(|entry| entry.count + u64::from(self.frequency == Frequency::Counts))
        {
            let rank = self.rank(count, request);
            if let Some(entry) = self.entries.get_mut(&request.key) {
                self.order.remove(&entry.rank);
                entry.count = count;
                entry.rank = rank;
            }
            self.order.insert(rank, request.key);
            return true;
        }
        if request.size > self.capacity {
            return false;
        }
        while self.held + request.size > self.capacity {
            let Some(((worth, _), key)) = self.order.pop_first() else { break };
            self.inflation = f64::from_bits(worth);
            if let Some(entry) = self.entries.remove(&key) {
                self.held -= entry.size;
            }
        }
        let rank = self.rank(1, request);
        self.held += request.size;
        self.entries.insert(request.key, Entry { size: request.size, count: 1, rank });
        self.order.insert(rank, request.key);
        false
    }

    fn holds(&self, key: u64) -> bool {
        self.entries.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.held
    }
}
