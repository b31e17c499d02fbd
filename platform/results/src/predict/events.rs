//! The events that were seen lately, by their hash: predictors that look for the same event again keep hashes alone.

use std::collections::HashMap;

use super::arguments::{Arguments, FixedHasher};

/// Events at most.
pub(super) const EVENTS_MAX: usize = 2_048;
/// Bytes of their arguments at most, about.
pub(super) const EVENTS_MAX_BYTES: usize = 160 * 1024;

struct Entry {
    arguments: Arguments,
    asked_again: bool,
}

/// The table. What was not asked for again since the hand last came by goes first (CLOCK: Corbató 1968).
#[derive(Default)]
pub(super) struct Events {
    entries: Vec<Entry>,
    places: HashMap<u32, u32, FixedHasher>,
    hand: usize,
    bytes: usize,
}

/// What tables keep of a hash. Two events in 2,048 share one once in two thousand times; then a prediction is wrong.
pub(super) fn short(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

impl Events {
    pub fn observe(&mut self, arguments: &Arguments) {
        let id = short(arguments.hash());
        if let Some(place) = self.places.get(&id) {
            self.entries[*place as usize].asked_again = true;
            return;
        }
        self.bytes += arguments.bytes();
        while !self.entries.is_empty() && (self.entries.len() >= EVENTS_MAX || self.bytes > EVENTS_MAX_BYTES) {
            self.evict();
        }
        self.places.insert(id, self.entries.len() as u32);
        self.entries.push(Entry { arguments: arguments.clone(), asked_again: false });
    }

    fn evict(&mut self) {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            if !std::mem::take(&mut self.entries[self.hand].asked_again) {
                break;
            }
            self.hand += 1;
        }
        let gone = self.entries.swap_remove(self.hand);
        self.bytes -= gone.arguments.bytes();
        self.places.remove(&short(gone.arguments.hash()));
        if let Some(moved) = self.entries.get(self.hand) {
            self.places.insert(short(moved.arguments.hash()), self.hand as u32);
        }
    }

    pub fn get(&self, id: u32) -> Option<&Arguments> {
        self.places.get(&id).and_then(|place| self.entries.get(*place as usize)).map(|entry| &entry.arguments)
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * (size_of::<(u32, u32)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_stays_within_its_bounds_and_keeps_what_is_asked_for_again() {
        let mut events = Events::default();
        let read = |number: u64, text: usize| Arguments::read(&json!([number, "x".repeat(text)]), &mut Vec::new(), 1);
        let dear = read(0, 1);
        for number in 1..10_000 {
            events.observe(&dear);
            events.observe(&read(number, (number % 7 * 200) as usize));
            assert!(events.entries.len() <= EVENTS_MAX && events.bytes <= EVENTS_MAX_BYTES);
            assert_eq!(events.places.len(), events.entries.len());
        }
        assert!(events.get(short(dear.hash())).is_some());
        assert!(events.get(short(read(1, 200).hash())).is_none());
        let last = read(9_999, 9_999 % 7 * 200);
        assert_eq!(events.get(short(last.hash())).map(Arguments::event), Some(last.event()));
    }
}
