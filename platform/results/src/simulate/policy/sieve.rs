//! SIEVE: entries stay in the order they came in; a hand passes over what was asked for since it last came by.

use std::collections::HashMap;

use super::Policy;
use super::list::List;
use crate::simulate::trace::Request;

struct Entry {
    key: u64,
    size: u64,
    visited: bool,
}

pub struct Sieve {
    capacity: u64,
    held: u64,
    list: List<Entry>,
    places: HashMap<u64, usize>,
    hand: Option<usize>,
}

impl Sieve {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, held: 0, list: List::new(), places: HashMap::new(), hand: None }
    }

    fn evict(&mut self) -> bool {
        let Some(mut place) = self.hand.or_else(|| self.list.back()) else { return false };
        // Ends: after one round nothing is marked.
        while let Some(entry) = self.list.get_mut(place) {
            if !entry.visited {
                break;
            }
            entry.visited = false;
            let Some(next) = self.list.newer(place).or_else(|| self.list.back()) else { return false };
            place = next;
        }
        self.hand = self.list.newer(place);
        let Some(entry) = self.list.remove(place) else { return false };
        self.places.remove(&entry.key);
        self.held -= entry.size;
        true
    }
}

impl Policy for Sieve {
    fn serve(&mut self, request: &Request) -> bool {
        if let Some(entry) = self.places.get(&request.key).and_then(|place| self.list.get_mut(*place)) {
            entry.visited = true;
            return true;
        }
        if request.size > self.capacity {
            return false;
        }
        while self.held + request.size > self.capacity && self.evict() {}
        self.held += request.size;
        let entry = Entry { key: request.key, size: request.size, visited: false };
        self.places.insert(request.key, self.list.push_front(entry));
        false
    }

    fn holds(&self, key: u64) -> bool {
        self.places.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.held
    }
}
