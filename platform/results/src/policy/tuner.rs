//! The tuner: finds the pace at which the store saves most. One small shelf for each pace, the experts, serves a sample of what
//! the store serves, within as small a part of the budget; the pace of the one that saved most lately is the store's.
//!
//! What is sampled are keys, not requests (Waldspurger et al., USENIX ATC 2017), so that each expert sees all that happens to
//! those. Experts know no tenants: the pace is one for all of them.

use std::hash::{BuildHasherDefault, Hasher};

use super::cost_aware::{Attributes, CostAwareOptions};
use super::shelf::Shelf;
use super::standing::Pace;

/// Paces to choose from: greedy-dual, for popularity that comes and goes, down to frequency alone, for what is steady or a loop.
/// They are far apart, and it does not matter much where they are: with one in the middle left out or one more, or twice or half
/// as fast, the compute time saved on public traces was the same within half a point.
const PACES: [Pace; 4] =
    [Pace::new(f64::INFINITY, 1.0), Pace::new(8.0, 1.0), Pace::new(1.0, 1.0), Pace::new(0.0, 0.25)];
/// Before anything is known.
const PACE_FIRST: usize = 1;
/// An expert has no more entries than this; when one has, half the keys of the sample are left out from then on.
const EXPERT_ENTRIES_MAX: usize = 256;
/// When none has as many as this, or most of what is asked for is larger than all the room of an expert, twice as many keys are in
/// the sample from then on.
const EXPERT_ENTRIES_MIN: usize = EXPERT_ENTRIES_MAX / 8;
/// Halvings of the sample at most.
const HALVINGS_MAX: u32 = 24;
/// What an expert saved counts a fifth less after each round, which is as many requests as it has entries, and this at least.
const KEPT_PER_ROUND: f64 = 0.8;
const ROUND_MIN: usize = 64;
/// Another pace has to have saved this much more before it is taken.
const BETTER_BY: f64 = 1.005;

/// A key of an expert is a hash already.
#[derive(Default)]
pub struct Verbatim(u64);

impl Hasher for Verbatim {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Expert {
    pace: Pace,
    shelf: Shelf<u64, (), (), BuildHasherDefault<Verbatim>>,
    saved: f64,
}

/// The tuner.
pub struct Tuner {
    capacity: u64,
    experts: [Expert; PACES.len()],
    chosen: usize,
    /// One key of two to the power of this is in the sample.
    halvings: u32,
    /// Requests of this round.
    asked: usize,
    /// Those of them that are for more than all the room of an expert.
    too_large: usize,
}

impl Tuner {
    /// For a store of this capacity.
    pub fn new(capacity: u64) -> Self {
        let options = CostAwareOptions { capacity, share: None };
        let shelf = || Shelf::new(options, BuildHasherDefault::default());
        let experts = PACES.map(|pace| Expert { pace, shelf: shelf(), saved: 0.0 });
        Self { capacity, experts, chosen: PACE_FIRST, halvings: 0, asked: 0, too_large: 0 }
    }

    /// The pace that is best as far as is known.
    pub fn pace(&self) -> Pace {
        PACES[self.chosen]
    }

    /// A request of a key.
    pub fn asked(&mut self, hash: u64, size: u64, cost_us: u64) {
        if !sampled(hash, self.halvings) {
            return;
        }
        for expert in &mut self.experts {
            if expert.shelf.ask(&hash).is_some() {
                expert.saved += cost_us as f64;
            } else {
                expert.shelf.insert(hash, (), Attributes { size, cost_us, tenant: () }, expert.pace);
            }
        }
        let largest = self.largest();
        if largest > EXPERT_ENTRIES_MAX && self.halvings < HALVINGS_MAX {
            self.resample(self.halvings + 1);
        }
        self.asked += 1;
        self.too_large += usize::from(size > self.capacity >> self.halvings);
        if self.asked >= largest.max(ROUND_MIN) {
            self.decide();
            (self.asked, self.too_large) = (0, 0);
        }
    }

    /// What it takes, bytes.
    pub fn bookkeeping_bytes(&self) -> usize {
        self.experts.iter().map(|expert| expert.shelf.bookkeeping_bytes()).sum()
    }

    fn decide(&mut self) {
        let too_small = self.largest() < EXPERT_ENTRIES_MIN || self.too_large > self.asked / 2;
        if self.halvings > 0 && too_small {
            self.resample(self.halvings - 1);
        }
        let mut best = self.chosen;
        for (number, expert) in self.experts.iter().enumerate() {
            let least = if best == self.chosen { BETTER_BY } else { 1.0 };
            if expert.saved > least * self.experts[best].saved {
                best = number;
            }
        }
        for expert in &mut self.experts {
            expert.saved *= KEPT_PER_ROUND;
        }
        self.chosen = best;
    }

    fn largest(&self) -> usize {
        self.experts.iter().map(|expert| expert.shelf.len()).max().unwrap_or(0)
    }

    fn resample(&mut self, halvings: u32) {
        self.halvings = halvings;
        for expert in &mut self.experts {
            expert.shelf.retain(|entry| sampled(entry.hash, halvings));
            expert.shelf.set_capacity((self.capacity >> halvings).max(1), expert.pace);
        }
    }
}

/// By bits of the hash in its middle: its ends are what tables find their places by.
fn sampled(hash: u64, halvings: u32) -> bool {
    (hash >> 32) & ((1 << halvings) - 1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a hash of a number: SplitMix64's last steps (Steele, Lea and Flood, OOPSLA 2014).
    fn hash(number: u64) -> u64 {
        let value = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn chosen(capacity: u64, keys: impl Iterator<Item = u64>) -> Pace {
        let mut tuner = Tuner::new(capacity);
        keys.for_each(|key| tuner.asked(hash(key + 1), 1, 100));
        tuner.pace()
    }

    #[test]
    fn a_loop_is_best_kept_as_it_is_and_what_moves_on_is_followed() {
        for capacity in [100, 1_500] {
            let looping = (0..capacity * 60).map(|at| at % (3 * capacity));
            assert_eq!(chosen(capacity, looping), PACES[PACES.len() - 1], "{capacity}");
            // Each key a few times, near to each other, and never again.
            let moving = (0..capacity * 60).map(|at| at / 5 + hash(at) % (capacity / 2));
            assert_ne!(chosen(capacity, moving), PACES[PACES.len() - 1], "{capacity}");
        }
    }

    #[test]
    fn the_sample_stays_small_in_a_large_store_and_grows_when_there_are_few_entries() {
        let mut tuner = Tuner::new(50_000);
        let mut most = 0;
        for number in 0..50_000 {
            tuner.asked(hash(number), 1, 100);
            most = most.max(tuner.largest());
        }
        assert!(most <= EXPERT_ENTRIES_MAX + 1 && tuner.halvings >= 7, "{most} {}", tuner.halvings);
        // Now results of which only a hundred fit.
        (100_000..500_000)
            .take_while(|number| {
                tuner.asked(hash(*number), 500, 100_000_000);
                tuner.halvings > 2
            })
            .count();
        assert!(tuner.halvings <= 2, "{}", tuner.halvings);
        assert!(tuner.bookkeeping_bytes() < 400_000, "{}", tuner.bookkeeping_bytes());
    }
}
