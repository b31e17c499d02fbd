//! First in, first out.

use std::collections::{HashSet, VecDeque};

use super::Policy;
use crate::simulate::trace::Request;

pub struct Fifo {
    capacity: u64,
    held: u64,
    queue: VecDeque<(u64, u64)>,
    keys: HashSet<u64>,
}

impl Fifo {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, held: 0, queue: VecDeque::new(), keys: HashSet::new() }
    }
}

impl Policy for Fifo {
    fn serve(&mut self, request: &Request) -> bool {
        if self.keys.contains(&request.key) {
            return true;
        }
        if request.size > self.capacity {
            return false;
        }
        while self.held + request.size > self.capacity {
            let Some((key, size)) = self.queue.pop_front() else { break };
            self.keys.remove(&key);
            self.held -= size;
        }
        self.held += request.size;
        self.queue.push_back((request.key, request.size));
        self.keys.insert(request.key);
        false
    }

    fn holds(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }

    fn held(&self) -> u64 {
        self.held
    }
}
