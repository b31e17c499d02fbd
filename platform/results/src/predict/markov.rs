//! Successors: what came after the last calls before.
//!
//! Contexts of the last three, two and one different events, the longest first that has been seen often enough; prediction by
//! partial matching (Cleary and Witten 1984), with the chance of something new by method C (Moffat, IEEE Transactions on
//! Communications 38(11), 1990: as many times as there were different followers), as Vitter and Krishnan (JACM 43(5), 1996) showed
//! a compressor to be a prefetcher. From the likeliest follower it goes on to that one's followers: a result takes time to compute.

use super::events::{Events, short};
use super::proposal::{Proposal, Proposals, Seen, Source, share_class};
use super::successors::{Row, Successors};

const ORDER_MAX: usize = 3;
/// Contexts of all orders at most.
const ROWS: usize = 4_096;
/// Sights of a context before it is believed.
const SEEN_MIN: u8 = 2;
/// Calls ahead at most.
const DEPTH_MAX: u32 = 8;
/// What is less likely than this is not said.
const SHARE_MIN: f64 = 0.2;
/// Calls within which a successor must be asked for, beyond how far ahead it is.
const CALLS: u32 = 32;

pub(super) struct Markov {
    rows: Successors,
    /// The last different events, newest first.
    history: [u32; ORDER_MAX],
    filled: usize,
}

impl Markov {
    pub fn new() -> Self {
        Self { rows: Successors::new(ROWS), history: [0; ORDER_MAX], filled: 0 }
    }

    pub fn observe(&mut self, seen: &Seen<'_>, events: &Events, out: &mut Proposals) {
        let id = short(seen.arguments.hash());
        // The same again says nothing of what comes next, and its result is there.
        if self.filled > 0 && self.history[0] == id {
            return;
        }
        for order in 1..=self.filled {
            if let Some(row) = self.rows.row(context(&self.history[..order])) {
                row.note();
                row.follow(id);
            }
        }
        self.history.rotate_right(1);
        self.history[0] = id;
        self.filled = (self.filled + 1).min(ORDER_MAX);
        self.look_ahead(events, out);
    }

    /// The longest context that is known well enough, and its length.
    fn row(&self, history: &[u32]) -> Option<(&Row, usize)> {
        (1..=history.len()).rev().find_map(|order| {
            let row = self.rows.get(context(&history[..order]))?;
            (row.seen() >= SEEN_MIN).then_some((row, order))
        })
    }

    fn look_ahead(&self, events: &Events, out: &mut Proposals) {
        let (mut history, mut filled, mut chance) = (self.history, self.filled, 1.0);
        for depth in 1..=DEPTH_MAX {
            let Some((row, order)) = self.row(&history[..filled]) else { return };
            let all = f64::from(row.seen()) + f64::from(row.distinct());
            let Some((next, most)) = row.followers().max_by_key(|(_, count)| *count) else { return };
            for (follower, count) in row.followers() {
                let share = chance * f64::from(count) / all;
                if share < SHARE_MIN || (depth > 1 && follower != next) {
                    continue;
                }
                if let Some(arguments) = events.get(follower) {
                    out.push(Proposal {
                        arguments: arguments.clone(),
                        source: Source::Markov,
                        grade: grade(share, depth, order),
                        calls: CALLS + depth,
                        until_us: u64::MAX,
                        from_us: 0,
                    });
                }
            }
            chance *= f64::from(most) / all;
            if chance < SHARE_MIN {
                return;
            }
            history.rotate_right(1);
            history[0] = next;
            filled = (filled + 1).min(ORDER_MAX);
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.bytes()
    }
}

/// A hash of the last events, newest first.
fn context(history: &[u32]) -> u64 {
    let mut hash = history.len() as u64;
    for id in history {
        hash = (hash ^ u64::from(*id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (hash >> 32)
}

/// By the chance, how far ahead (1, 2, 4) and whether the context is longer than one.
fn grade(share: f64, depth: u32, order: usize) -> u8 {
    share_class(share) * 6 + depth.ilog2().min(2) as u8 * 2 + u8::from(order > 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::arguments::Arguments;
    use super::*;
    use serde_json::{Value, json};

    fn after(events: impl Iterator<Item = Value>) -> Vec<Value> {
        let (mut markov, mut known, mut shapes) = (Markov::new(), Events::default(), Vec::new());
        let mut last = Vec::new();
        for (number, event) in (0..).zip(events) {
            let arguments = Arguments::read(&event, &mut shapes, 4);
            known.observe(&arguments);
            let mut out = Proposals::default();
            let seen = Seen { arguments: &arguments, number, now_us: 0, expires_us: u64::MAX };
            markov.observe(&seen, &known, &mut out);
            last = out.drain().map(|proposal| proposal.arguments.event().unwrap()).collect();
        }
        last
    }

    #[test]
    fn a_pair_that_alternates_is_known() {
        let pair = |at: usize| if at.is_multiple_of(2) { json!({"q": "list"}) } else { json!({"q": "detail"}) };
        assert_eq!(after((0..8).map(pair))[0], json!({"q": "list"}));
        assert_eq!(after((0..9).map(pair))[0], json!({"q": "detail"}));
        assert!(after((0..3).map(pair)).is_empty());
    }

    #[test]
    fn the_longer_context_decides() {
        // After "b" comes "c" or "x", by what was before it.
        let word = |letters: &'static str| letters.chars().map(|letter| json!(letter.to_string()));
        assert_eq!(after(word("abcdebxdabcdebxdabcdeb"))[0], json!("x"));
        assert_eq!(after(word("abcdebxdabcdebxdab"))[0], json!("c"));
    }

    #[test]
    fn it_goes_on_from_the_likeliest_and_takes_opaque_events() {
        let deep = |at: usize| json!([[[[[[at % 4]]]]]]);
        let ahead = after((0..40).map(deep));
        assert_eq!(ahead[..3], [deep(40), deep(41), deep(42)]);
    }
}
