//! MIN: out goes what is asked for again last, be it the one that has just come.

use std::collections::{BTreeSet, HashMap};

use super::Policy;
use crate::simulate::trace::Request;

pub struct Clairvoyant {
    capacity: u64,
    held: u64,
    /// The trace's length: who is asked for next then is never asked for again.
    end: usize,
    sizes: HashMap<u64, (usize, u64)>,
    /// By the place of the next request, and key.
    order: BTreeSet<(usize, u64)>,
}

impl Clairvoyant {
    pub fn new(capacity: u64, end: usize) -> Self {
        Self { capacity, held: 0, end, sizes: HashMap::new(), order: BTreeSet::new() }
    }

    fn forget(&mut self, key: u64) {
        if let Some((next, size)) = self.sizes.remove(&key) {
            self.order.remove(&(next, key));
            self.held -= size;
        }
    }
}

impl Policy for Clairvoyant {
    fn serve(&mut self, request: &Request) -> bool {
        let hit = self.sizes.contains_key(&request.key);
        self.forget(request.key);
        if request.next == self.end || request.size > self.capacity {
            return hit;
        }
        self.sizes.insert(request.key, (request.next, request.size));
        self.order.insert((request.next, request.key));
        self.held += request.size;
        while self.held > self.capacity {
            let Some((_, last)) = self.order.last().copied() else { break };
            self.forget(last);
        }
        hit
    }

    fn holds(&self, key: u64) -> bool {
        self.sizes.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.held
    }
}
