//! Hot keys: results that are asked for again and again, computed anew just before they expire.
//!
//! The keys that are asked for most are found by space saving (Metwally, Agrawal and El Abbadi, ICDT 2005); how likely one is
//! asked for while a new result would live follows from the mean time between its calls, taken as a Poisson process, as web caches
//! that prefetch before expiry do (Cohen and Kaplan, Computer Networks 36(4), 2001: refreshment policies).

use super::events::{Events, short};
use super::proposal::{Proposal, Proposals, Seen, Source, share_class};

/// Keys at most.
const KEYS_MAX: usize = 256;
/// Calls of a key before its mean is believed.
const CALLS_MIN: u32 = 3;
/// A result is computed anew so many computing times before it expires.
const LEAD: u64 = 4;
/// How much the latest time between calls counts.
const LATEST: f64 = 0.2;
/// What is less likely to be asked for is not said.
const CHANCE_MIN: f64 = 0.2;

struct Key {
    id: u32,
    calls: u32,
    /// Smoothed time between calls.
    gap_us: f64,
    asked_us: u64,
    lives_us: u64,
    expires_us: u64,
    /// Of the result that expires then, it has been said.
    said: bool,
}

#[derive(Default)]
pub(super) struct Hot {
    keys: Vec<Key>,
    /// No key expires before.
    first_us: u64,
}

impl Hot {
    pub fn observe(&mut self, seen: &Seen<'_>) {
        if seen.expires_us == u64::MAX {
            return;
        }
        let id = short(seen.arguments.hash());
        if let Some(key) = self.keys.iter_mut().find(|key| key.id == id) {
            let gap_us = seen.now_us.saturating_sub(key.asked_us) as f64;
            key.gap_us = if key.calls < 2 { gap_us } else { key.gap_us + LATEST * (gap_us - key.gap_us) };
            key.calls = key.calls.saturating_add(1);
            key.asked_us = seen.now_us;
            if key.expires_us != seen.expires_us {
                key.lives_us = seen.expires_us.saturating_sub(seen.now_us).max(key.lives_us);
                (key.expires_us, key.said) = (seen.expires_us, false);
            }
        } else {
            let key = Key {
                id,
                calls: 1,
                gap_us: 0.0,
                asked_us: seen.now_us,
                lives_us: seen.expires_us.saturating_sub(seen.now_us),
                expires_us: seen.expires_us,
                said: false,
            };
            if self.keys.len() < KEYS_MAX {
                self.keys.push(key);
            } else if let Some(least) = self.keys.iter_mut().min_by_key(|key| key.calls) {
                // Its calls are worn down by those that would take its place.
                least.calls -= 1;
                if least.calls == 0 {
                    *least = key;
                }
            }
        }
        self.first_us = self.first_us.min(seen.expires_us);
    }

    /// What is about to expire. `compute_us`: what computing takes, about.
    pub fn due(&mut self, now_us: u64, compute_us: u64, events: &Events, out: &mut Proposals) {
        let lead_us = compute_us.saturating_mul(LEAD);
        if self.first_us > now_us.saturating_add(lead_us) {
            return;
        }
        let mut first_us = u64::MAX;
        for key in self.keys.iter_mut().filter(|key| !key.said) {
            if key.expires_us > now_us.saturating_add(lead_us) {
                first_us = first_us.min(key.expires_us);
                continue;
            }
            key.said = true;
            if key.calls < CALLS_MIN || key.expires_us < now_us {
                continue;
            }
            let quiet_us = now_us.saturating_sub(key.asked_us) as f64;
            let chance = 1.0 - (-(key.lives_us as f64) / key.gap_us.max(quiet_us).max(1.0)).exp();
            if chance >= CHANCE_MIN
                && let Some(arguments) = events.get(key.id)
            {
                out.push(Proposal {
                    arguments: arguments.clone(),
                    source: Source::Hot,
                    grade: share_class(chance) * 3 + ((key.calls / CALLS_MIN).ilog2() / 2).min(2) as u8,
                    calls: u32::MAX,
                    until_us: key.expires_us.saturating_add(key.lives_us),
                    from_us: key.expires_us,
                });
            }
        }
        self.first_us = first_us;
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::arguments::Arguments;
    use super::*;
    use serde_json::json;

    const TTL_US: u64 = 1_000_000;

    fn ask((hot, events): &mut (Hot, Events), key: u64, now_us: u64, expires_us: u64) {
        let arguments = Arguments::read(&json!(key), &mut Vec::new(), 1);
        events.observe(&arguments);
        hot.observe(&Seen { arguments: &arguments, number: 0, now_us, expires_us });
    }

    fn due((hot, events): &mut (Hot, Events), now_us: u64) -> Vec<u64> {
        let mut out = Proposals::default();
        hot.due(now_us, 10_000, events, &mut out);
        out.drain().map(|proposal| proposal.arguments.event().unwrap().as_u64().unwrap()).collect()
    }

    #[test]
    fn what_is_asked_for_often_is_named_once_just_before_it_expires() {
        let mut hot = (Hot::default(), Events::default());
        for at in 0..9 {
            ask(&mut hot, 1, at * 100_000, TTL_US);
        }
        // Asked for once only.
        ask(&mut hot, 2, 0, TTL_US);
        // Asked for three times, too rarely to be asked for while a new result lives.
        for at in 0..3 {
            ask(&mut hot, 3, at * 30 * TTL_US, (at * 30 + 1) * TTL_US);
        }
        assert!(due(&mut hot, 900_000).is_empty());
        assert_eq!(due(&mut hot, 970_000), [1]);
        assert!(due(&mut hot, 980_000).is_empty());
        // Its new result is a new matter.
        ask(&mut hot, 1, 1_000_001, 2 * TTL_US);
        assert_eq!(due(&mut hot, 1_970_000), [1]);
        assert!(due(&mut hot, 60_980_000).is_empty());
    }

    #[test]
    fn keys_are_bounded_and_the_hot_one_stays() {
        let mut hot = (Hot::default(), Events::default());
        for at in 0..5_000 {
            ask(&mut hot, 0, at, TTL_US);
            ask(&mut hot, at + 1, at, TTL_US);
        }
        assert!(hot.0.keys.len() <= KEYS_MAX && hot.0.keys.iter().any(|key| key.calls == 5_000));
    }
}
