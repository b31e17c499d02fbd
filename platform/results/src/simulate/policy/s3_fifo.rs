//! S3-FIFO: what comes first waits in a small queue; what is asked for there again goes to the main one; what is not leaves its
//! key behind, which lets it straight into the main one next time.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Policy;
use crate::simulate::trace::Request;

/// The share of the small queue: a tenth.
const SMALL_SHARE: u64 = 10;
/// Counts go no further than this.
const COUNT_MAX: u8 = 3;

struct Entry {
    size: u64,
    count: u8,
}

pub struct S3Fifo {
    capacity: u64,
    small_capacity: u64,
    small_held: u64,
    main_held: u64,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    entries: HashMap<u64, Entry>,
    ghosts: VecDeque<u64>,
    ghost_keys: HashSet<u64>,
}

impl S3Fifo {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small_capacity: (capacity / SMALL_SHARE).max(1),
            small_held: 0,
            main_held: 0,
            small: VecDeque::new(),
            main: VecDeque::new(),
            entries: HashMap::new(),
            ghosts: VecDeque::new(),
            ghost_keys: HashSet::new(),
        }
    }

    fn evict(&mut self) {
        if self.small_held >= self.small_capacity || self.main.is_empty() {
            self.evict_small()
        } else {
            self.evict_main()
        }
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop_front() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            self.small_held -= entry.size;
            if entry.count > 1 {
                entry.count = 0;
                self.main_held += entry.size;
                self.main.push_back(key);
                continue;
            }
            self.entries.remove(&key);
            self.remember(key);
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if entry.count > 0 {
                entry.count -= 1;
                self.main.push_back(key);
                continue;
            }
            self.main_held -= entry.size;
            self.entries.remove(&key);
            return;
        }
    }

    /// As many keys as the main queue has entries.
    fn remember(&mut self, key: u64) {
        if self.ghost_keys.insert(key) {
            self.ghosts.push_back(key);
        }
        while self.ghosts.len() > self.main.len().max(1) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_keys.remove(&oldest);
            }
        }
    }
}

impl Policy for S3Fifo {
    fn serve(&mut self, request: &Request) -> bool {
        if let Some(entry) = self.entries.get_mut(&request.key) {
            entry.count = (entry.count + 1).min(COUNT_MAX);
            return true;
        }
        if request.size > self.capacity {
            return false;
        }
        while self.held() + request.size > self.capacity {
            self.evict();
        }
        let known = self.ghost_keys.remove(&request.key);
        if known {
            self.ghosts.retain(|ghost| *ghost != request.key);
            self.main_held += request.size;
            self.main.push_back(request.key);
        } else {
            self.small_held += request.size;
            self.small.push_back(request.key);
        }
        self.entries.insert(request.key, Entry { size: request.size, count: 0 });
        false
    }

    fn holds(&self, key: u64) -> bool {
        self.entries.contains_key(&key)
    }

    fn held(&self) -> u64 {
        self.small_held + self.main_held
    }
}
