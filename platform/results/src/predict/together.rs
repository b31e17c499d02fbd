//! Co-occurrence: what is asked for in the same moments, in whatever order.
//!
//! Association rules "who asks for this asks for that" (Agrawal, Imieliński and Swami, SIGMOD 1993) within a sliding window, as
//! C-Miner (Li et al., FAST 2004) and Mithril (Yang et al., SoCC 2017) mine them for storage.

use std::collections::VecDeque;

use super::events::{Events, short};
use super::proposal::{Proposal, Proposals, Seen, Source, share_class};
use super::successors::Successors;

/// Events that have companions at most.
const ROWS: usize = 1_024;
/// Different events of one moment at most.
const WINDOW: usize = 8;
/// How long a moment is.
const WINDOW_US: u64 = 60_000_000;
/// Sights of an event before its companions are believed.
const SEEN_MIN: u8 = 2;
/// Companions that are rarer than this are not said.
const SHARE_MIN: f64 = 0.35;

pub(super) struct Together {
    rows: Successors,
    /// The last different events, and when they were asked for; newest first.
    recent: VecDeque<(u32, u64)>,
}

impl Together {
    pub fn new() -> Self {
        Self { rows: Successors::new(ROWS), recent: VecDeque::with_capacity(WINDOW + 1) }
    }

    pub fn observe(&mut self, seen: &Seen<'_>, events: &Events, out: &mut Proposals) {
        let id = short(seen.arguments.hash());
        self.recent.retain(|(_, asked_us)| asked_us.saturating_add(WINDOW_US) >= seen.now_us);
        if self.recent.iter().any(|(recent, _)| *recent == id) {
            return;
        }
        for (before, _) in &self.recent {
            if let Some(row) = self.rows.row(context(*before)) {
                row.follow(id);
            }
        }
        self.recent.push_front((id, seen.now_us));
        self.recent.truncate(WINDOW);
        if let Some(row) = self.rows.row(context(id)) {
            row.note();
        }
        let Some(row) = self.rows.get(context(id)) else { return };
        // This sight has had no companions yet.
        let seen_before = row.seen().saturating_sub(1);
        if seen_before < SEEN_MIN {
            return;
        }
        for (companion, count) in row.followers() {
            let share = (f64::from(count) / f64::from(seen_before)).min(1.0);
            if share >= SHARE_MIN
                && let Some(arguments) = events.get(companion)
            {
                out.push(Proposal {
                    arguments: arguments.clone(),
                    source: Source::Together,
                    grade: share_class(share) * 3 + ((seen_before / 2).ilog2().min(2)) as u8,
                    calls: WINDOW as u32 * 2,
                    until_us: seen.now_us.saturating_add(WINDOW_US),
                    from_us: 0,
                });
            }
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.rows.bytes()
    }
}

fn context(id: u32) -> u64 {
    let hash = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::arguments::Arguments;
    use super::*;
    use serde_json::json;

    #[test]
    fn companions_are_known_in_any_order_but_not_across_moments() {
        let orders = ["abc", "acb", "bca", "cab", "bac"];
        let (mut together, mut known) = (Together::new(), Events::default());
        let mut ask = |number: u64, now_us: u64, text: &str| {
            let arguments = Arguments::read(&json!(text), &mut Vec::new(), 1);
            known.observe(&arguments);
            let mut out = Proposals::default();
            together.observe(&Seen { arguments: &arguments, number, now_us, expires_us: u64::MAX }, &known, &mut out);
            let mut said: Vec<_> = out.drain().map(|proposal| proposal.arguments.event().unwrap()).collect();
            said.sort_by_key(ToString::to_string);
            said
        };
        for round in 0..20u64 {
            let start = round * 10 * WINDOW_US;
            for (at, letter) in (0..).zip(orders[round as usize % 5].chars()) {
                ask(round * 5 + at, start + at, &letter.to_string());
            }
            ask(round * 5 + 3, start + 5 * WINDOW_US, &format!("other {round}"));
        }
        assert_eq!(ask(200, 900 * WINDOW_US, "a"), [json!("b"), json!("c")]);
        assert!(ask(201, 910 * WINDOW_US, "other 1").is_empty());
    }
}
