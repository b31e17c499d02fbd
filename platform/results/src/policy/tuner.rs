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
/// When none has more than this, twice as many keys are in the sample from then on.
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
    asked: usize,
}

impl Tuner {
    /// For a store of this capacity.
    pub fn new(capacity: u64) -> Self {
        let options = CostAwareOptions { capacity, share: None };
        let shelf = || Shelf::new(options, BuildHasherDefault::default());
        let experts = PACES.map(|pace| Expert { pace, shelf: shelf(), saved: 0.0 });
        Self { capacity, experts, chosen: PACE_FIRST, halvings: 0, asked: 0 }
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
        if self.asked >= largest.max(ROUND_MIN) {
            self.asked = 0;
            self.decide();
        }
    }

    /// What it takes, bytes.
    pub fn bookkeeping_bytes(&self) -> usize {
        self.experts.iter().map(|expert| expert.shelf.bookkeeping_bytes()).sum()
    }

    fn decide(&mut self) {
        if self.halvings > 0 && self.largest() < EXPERT_ENTRIES_MIN {
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
