//! A table of fixed size from contexts to what followed them, with counts.
//!
//! Set-associative as processors' caches are: a context can lie in one of a few places, and takes that of the one with the least
//! evidence. Its evidence fades with every newcomer that it holds off, so that a table full of what once was true turns over.

/// Followers that are kept of a context.
pub(super) const FOLLOWERS: usize = 4;
/// Places that a context can lie in.
const WAYS: usize = 4;
/// Counts are halved here, which forgets what was long ago.
const COUNT_MAX: u8 = 200;

/// A context and what followed it. 28 bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    tag: u32,
    followers: [u32; FOLLOWERS],
    counts: [u8; FOLLOWERS],
    /// How often the context was seen, on the same scale.
    seen: u8,
    /// Falls with newcomers that found the place taken.
    standing: u8,
}

impl Row {
    pub const fn seen(&self) -> u8 {
        self.seen
    }

    /// Who followed, and how often.
    pub fn followers(&self) -> impl Iterator<Item = (u32, u8)> {
        self.followers.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// How many different ones followed.
    pub fn distinct(&self) -> u8 {
        self.counts.iter().map(|count| u8::from(*count > 0)).sum()
    }

    /// The context was seen.
    pub fn note(&mut self) {
        self.standing = self.standing.saturating_add(1).min(8);
        self.seen += 1;
        if self.seen >= COUNT_MAX {
            self.seen /= 2;
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// Something followed. One more than can be kept takes the place of the one with the least, at its count (space saving:
    /// Metwally, Agrawal and El Abbadi, ICDT 2005), but no earlier than it has worn it down.
    pub fn follow(&mut self, follower: u32) {
        let known = (0..FOLLOWERS).find(|at| self.counts[*at] > 0 && self.followers[*at] == follower);
        let least = || (0..FOLLOWERS).min_by_key(|at| self.counts[*at]);
        let Some(at) = known.or_else(least) else { return };
        if known.is_some() || self.counts[at] <= 1 {
            self.followers[at] = follower;
            self.counts[at] = if known.is_some() { self.counts[at].saturating_add(1) } else { 1 };
        } else {
            self.counts[at] -= 1;
        }
    }
}

pub(super) struct Successors {
    rows: Vec<Row>,
}

impl Successors {
    /// A table of so many rows: a power of two.
    pub fn new(rows: usize) -> Self {
        Self { rows: vec![Row::default(); rows.next_power_of_two().max(WAYS)] }
    }

    fn places(&self, context: u64) -> (std::ops::Range<usize>, u32) {
        let start = (context as usize % (self.rows.len() / WAYS)) * WAYS;
        // Zero is the tag of an empty row.
        (start..start + WAYS, ((context >> 32) as u32).max(1))
    }

    pub fn get(&self, context: u64) -> Option<&Row> {
        let (places, tag) = self.places(context);
        self.rows[places].iter().find(|row| row.tag == tag)
    }

    /// The row of a context, a new one if need be; none where the places are held by better ones.
    pub fn row(&mut self, context: u64) -> Option<&mut Row> {
        let (places, tag) = self.places(context);
        let rows = &mut self.rows[places];
        if let Some(at) = rows.iter().position(|row| row.tag == tag) {
            return rows.get_mut(at);
        }
        let least = rows.iter_mut().min_by_key(|row| row.standing)?;
        if least.standing > 1 {
            least.standing -= 1;
            return None;
        }
        *least = Row { tag, ..Row::default() };
        Some(least)
    }

    pub fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_are_those_of_who_followed() {
        let mut table = Successors::new(16);
        for turn in 0..30u32 {
            let row = table.row(1 << 40).unwrap();
            row.note();
            row.follow(if turn % 3 == 0 { 5 } else { 6 });
        }
        let row = table.get(1 << 40).unwrap();
        let mut followers: Vec<_> = row.followers().collect();
        followers.sort_unstable();
        assert_eq!((followers, row.seen(), row.distinct()), (vec![(5, 10), (6, 20)], 30, 2));
        assert!(table.get(2 << 40).is_none());
    }

    #[test]
    fn a_new_follower_wears_an_old_one_down() {
        let mut row = Row::default();
        (1..=4).for_each(|follower| (0..3).for_each(|_| row.follow(follower)));
        (0..20).for_each(|_| row.follow(9));
        assert!(row.followers().any(|(follower, count)| follower == 9 && count > 10));
    }

    #[test]
    fn a_full_table_turns_over_but_not_at_once() {
        let mut table = Successors::new(4);
        let context = |number: u64| number << 32;
        for number in 1..=4 {
            (0..5).for_each(|_| table.row(context(number)).unwrap().note());
        }
        assert!(table.row(context(5)).is_none());
        assert!((0..40).any(|_| table.row(context(5)).is_some()));
    }
}
