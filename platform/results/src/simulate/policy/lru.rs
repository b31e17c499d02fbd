//! Least recently used.

use std::collections::HashMap;

use super::Policy;
use super::list::List;
use crate::simulate::trace::Request;

pub struct Lru {
    capacity: u64,
    held: u64,
    /// Keys and sizes; the back is the least recently used.
    list: List<(u64, u64)>,
    places: HashMap<u64, usize>,
}

impl Lru {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, held: 0, list: List::new(), places: HashMap::new() }
    }
}

impl Policy for Lru {
    fn serve(&mut self, request: &Request) -> bool {
        if let Some(place) = self.places.get(&request.key).copied() {
            if let Some(entry) = self.list.remove(place) {
                self.places.insert(request.key, self.list.push_front(entry));
            }
            return true;
        }
        if request.size > self.capacity {
            return false;
        }
        while self.held + request.size > self.capacity {
            let Some((key, size)) = self.list.back().and_then(|place| self.list.remove(place)) else { break };
            self.places.remove(&key);
            self.held -= size;
        }
        self.held += request.size;
        self.places.insert(request.key, self.list.push_front((request.key, request.size)));
        false
    }

    fn holds(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.held
    }
}
