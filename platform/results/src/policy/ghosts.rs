//! Ghosts: the standing of keys whose results are not kept. A table of fixed buckets; the oldest of its bucket makes room.

use super::standing::Standing;

/// Ghosts of one bucket.
const BUCKET: usize = 4;
/// Ghosts for each entry that is kept, at least, and less than twice as many.
const GHOSTS_PER_ENTRY: usize = 2;
/// Buckets of the smallest table, and of the largest.
const BUCKETS_MIN: usize = 8;
const BUCKETS_MAX: usize = 1 << 26;

#[derive(Debug, Clone, Copy)]
struct Ghost {
    hash: u64,
    rank: f64,
    /// Nought: the place is free.
    frequency: f32,
    /// When it was put here, in turns of the table.
    turn: u32,
}

const NOBODY: Ghost = Ghost { hash: 0, rank: 0.0, frequency: 0.0, turn: 0 };

/// The table. It grows with the entries kept, and is never smaller than it was.
pub struct Ghosts {
    buckets: Vec<[Ghost; BUCKET]>,
    turn: u32,
}

impl Ghosts {
    /// An empty one.
    pub fn new() -> Self {
        Self { buckets: Vec::new(), turn: 0 }
    }

    /// Grows for so many entries.
    pub fn grow(&mut self, entries: usize) {
        let wanted = (entries.saturating_mul(GHOSTS_PER_ENTRY) / BUCKET).clamp(BUCKETS_MIN, BUCKETS_MAX);
        if wanted > self.buckets.len() {
            let larger = vec![[NOBODY; BUCKET]; wanted.next_power_of_two()];
            let before = std::mem::replace(&mut self.buckets, larger);
            for ghost in before.into_iter().flatten().filter(|ghost| ghost.frequency > 0.0) {
                self.place(ghost);
            }
        }
    }

    /// Remembers the standing of a key.
    pub fn put(&mut self, hash: u64, standing: Standing) {
        self.turn = self.turn.wrapping_add(1);
        self.place(Ghost { hash, rank: standing.rank, frequency: standing.frequency, turn: self.turn });
    }

    /// Takes what is remembered of a key.
    pub fn take(&mut self, hash: u64) -> Option<Standing> {
        let ghost = self.bucket(hash)?.iter_mut().find(|ghost| ghost.hash == hash && ghost.frequency > 0.0)?;
        let Ghost { rank, frequency, .. } = std::mem::replace(ghost, NOBODY);
        Some(Standing { rank, frequency })
    }

    /// What the table takes, bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.buckets.as_slice())
    }

    fn place(&mut self, ghost: Ghost) {
        let now = self.turn;
        let place = self.bucket(ghost.hash).and_then(|bucket| {
            let age = |one: &Ghost| {
                if one.frequency == 0.0 || one.hash == ghost.hash { u32::MAX } else { now.wrapping_sub(one.turn) }
            };
            bucket.iter_mut().max_by_key(|one| age(one))
        });
        if let Some(place) = place {
            *place = ghost;
        }
    }

    fn bucket(&mut self, hash: u64) -> Option<&mut [Ghost; BUCKET]> {
        // Not the bits that shards and samples are made by.
        let at = (hash >> 16) as usize & self.buckets.len().wrapping_sub(1);
        self.buckets.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(frequency: f32) -> Standing {
        Standing { rank: 7.0, frequency }
    }

    /// Hashes of one bucket, whatever the table's size.
    fn together(number: u64) -> u64 {
        number << 60 | number
    }

    #[test]
    fn a_ghost_is_taken_once_and_what_is_put_later_counts() {
        let mut ghosts = Ghosts::new();
        ghosts.grow(1);
        assert_eq!(ghosts.take(5), None);
        ghosts.put(5, asked(1.0));
        ghosts.put(5, asked(2.0));
        assert_eq!((ghosts.take(5), ghosts.take(5)), (Some(asked(2.0)), None));
    }

    #[test]
    fn the_oldest_of_a_full_bucket_makes_room_also_after_growing() {
        let mut ghosts = Ghosts::new();
        ghosts.grow(1);
        for number in 0..BUCKET as u64 {
            ghosts.put(together(number), asked(1.0));
        }
        let small = ghosts.bytes();
        ghosts.grow(1_000);
        assert!(ghosts.bytes() > small);
        ghosts.put(together(9), asked(3.0));
        assert_eq!(ghosts.take(together(0)), None);
        for number in [1, 2, 3, 9] {
            assert!(ghosts.take(together(number)).is_some(), "{number}");
        }
    }

    #[test]
    fn there_are_no_more_ghosts_than_places() {
        let mut ghosts = Ghosts::new();
        ghosts.grow(100);
        let bytes = ghosts.bytes();
        (0..10_000u64).for_each(|number| ghosts.put(number << 16, asked(1.0)));
        assert_eq!(ghosts.bytes(), bytes);
        let known = (0..10_000u64).filter(|number| ghosts.take(number << 16).is_some()).count();
        assert!((2 * 100..=bytes / size_of::<Ghost>()).contains(&known), "{known}");
    }
}
