//! The simulator: what a policy of keeping results would have saved on a recorded trace of requests.
//!
//! Pure: requests in, sums out. A policy sees one request after another, as a store would, and says of each whether it had the
//! result; only the clairvoyant one is told the future. Everything is exact and repeatable; nothing is sampled.

mod policy;
mod speculate;
mod trace;

pub use policy::{Policy, PolicyKind};
pub use speculate::{Events, KeysThemselves, Speculation, SpeculationOutcome, speculate};
pub use trace::{MadeUp, Request, Trace, TraceError, TraceFormat};

/// What a policy came to on a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Requests.
    pub requests: u64,
    /// Those whose result was there.
    pub hits: u64,
    /// Bytes of all results that were asked for.
    pub bytes: u64,
    /// Bytes of those that were there.
    pub hit_bytes: u64,
    /// What computing every result anew would have taken, microseconds.
    pub compute_us: u64,
    /// What the results that were there had taken, microseconds.
    pub saved_us: u64,
}

impl Outcome {
    /// Hits in all requests.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.requests)
    }

    /// Bytes of hits in all bytes.
    #[must_use]
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.hit_bytes, self.bytes)
    }

    /// Compute time saved in all compute time.
    #[must_use]
    pub fn saved_ratio(&self) -> f64 {
        ratio(self.saved_us, self.compute_us)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Has a policy of a capacity serve a trace from nothing. The capacity is in the unit of the requests' sizes.
#[must_use]
pub fn simulate(trace: &Trace, kind: PolicyKind, capacity: u64) -> Outcome {
    let mut policy = kind.build(capacity, trace);
    let mut outcome = Outcome::default();
    for request in trace.requests() {
        let hit = policy.serve(request);
        outcome.requests += 1;
        outcome.bytes += request.size;
        outcome.compute_us += request.cost_us;
        if hit {
            outcome.hits += 1;
            outcome.hit_bytes += request.size;
            outcome.saved_us += request.cost_us;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn trace(keys: &[u64]) -> Trace {
        Trace::of_keys(keys.iter().copied()).unwrap()
    }

    fn hits(kind: PolicyKind, capacity: u64, keys: &[u64]) -> u64 {
        simulate(&trace(keys), kind, capacity).hits
    }

    #[test]
    fn lru_and_the_clairvoyant_on_traces_worked_by_hand() {
        // A loop over one more than fits: the least recently used is always the one needed next.
        let keys = [1, 2, 3, 1, 2, 3, 1, 2, 3];
        assert_eq!(hits(PolicyKind::Lru, 2, &keys), 0);
        assert_eq!(hits(PolicyKind::Fifo, 2, &keys), 0);
        // Two of the three are kept all the time, and the third passes by: two hits in each of two rounds.
        assert_eq!(hits(PolicyKind::Clairvoyant, 2, &keys), 4);
        // Belady's own anomaly for FIFO: more room, fewer hits.
        let anomaly = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5];
        assert_eq!((hits(PolicyKind::Fifo, 3, &anomaly), hits(PolicyKind::Fifo, 4, &anomaly)), (3, 2));
        assert_eq!((hits(PolicyKind::Lru, 3, &anomaly), hits(PolicyKind::Lru, 4, &anomaly)), (2, 4));
        // SIEVE keeps what was asked for again while the hand takes what was not.
        assert_eq!(hits(PolicyKind::Sieve, 2, &[1, 1, 2, 3, 1, 4, 1]), 3);
        assert_eq!(hits(PolicyKind::Lru, 2, &[1, 1, 2, 3, 1, 4, 1]), 2);
    }

    #[test]
    fn cost_counts_where_the_policy_knows_it() {
        // One dear result among many cheap ones that are asked for as often.
        let dear = |time: usize| time.is_multiple_of(10);
        let requests = (0..400).map(|time| Request {
            key: if dear(time) { 0 } else { 1 + (time % 20) as u64 },
            size: 1,
            cost_us: if dear(time) { 1_000_000 } else { 1 },
            ..Request::default()
        });
        let trace = Trace::of_requests(requests).unwrap();
        let saved = |kind| simulate(&trace, kind, 3).saved_us;
        assert!(saved(PolicyKind::Gdsf) >= 39_000_000, "{}", saved(PolicyKind::Gdsf));
        assert!(saved(PolicyKind::Gdsf) > 2 * saved(PolicyKind::Lru).max(1));
    }

    #[test]
    fn what_is_larger_than_the_store_is_never_kept() {
        let requests = [5u64, 5, 5].map(|size| Request { key: 1, size, cost_us: 1, ..Request::default() });
        let trace = Trace::of_requests(requests).unwrap();
        for kind in PolicyKind::ALL {
            assert_eq!(simulate(&trace, kind, 4).hits, 0, "{kind:?}");
            assert_eq!(simulate(&trace, kind, 5).hits, 2, "{kind:?}");
        }
    }

    /// The most hits that any choice of what to keep can have: every set of results after every request.
    fn best(keys: &[u64], capacity: usize) -> u64 {
        let mut states = std::collections::BTreeMap::from([(Vec::<u64>::new(), 0u64)]);
        for key in keys {
            let mut next = std::collections::BTreeMap::new();
            for (kept, hits) in states {
                let hits = hits + u64::from(kept.contains(key));
                let mut with: Vec<u64> = kept.clone();
                if !with.contains(key) {
                    with.push(*key);
                    with.sort_unstable();
                }
                let mut choices = vec![kept];
                if with.len() <= capacity {
                    choices.push(with);
                } else {
                    for out in 0..with.len() {
                        let mut one = with.clone();
                        one.remove(out);
                        choices.push(one);
                    }
                }
                for choice in choices {
                    let known = next.entry(choice).or_insert(0);
                    *known = hits.max(*known);
                }
            }
            states = next;
        }
        states.into_values().max().unwrap_or(0)
    }

    /// LRU as its definition says, one list and no index.
    fn plain_lru(keys: &[u64], capacity: usize) -> u64 {
        let (mut kept, mut hits): (Vec<u64>, u64) = (Vec::new(), 0);
        for key in keys {
            match kept.iter().position(|one| one == key) {
                Some(at) => {
                    hits += 1;
                    kept.remove(at);
                }
                None if kept.len() == capacity => drop(kept.remove(0)),
                None => {}
            }
            kept.push(*key);
        }
        hits
    }

    proptest! {
        #[test]
        fn the_clairvoyant_is_the_best_there_is(keys in prop::collection::vec(0u64..6, 0..16), capacity in 1usize..4) {
            prop_assert_eq!(hits(PolicyKind::Clairvoyant, capacity as u64, &keys), best(&keys, capacity));
        }

        #[test]
        fn lru_is_what_its_definition_says(keys in prop::collection::vec(0u64..12, 0..200), capacity in 1usize..10) {
            prop_assert_eq!(hits(PolicyKind::Lru, capacity as u64, &keys), plain_lru(&keys, capacity));
        }

        #[test]
        fn what_is_placed_is_there_where_there_is_room(keys in prop::collection::btree_set(0u64..40, 1..8)) {
            let trace = trace(&keys.iter().copied().collect::<Vec<_>>());
            for kind in PolicyKind::ALL {
                let mut policy = kind.build(64, &trace);
                for key in &keys {
                    // Asked for again before the trace ends, for the one policy that looks.
                    let request = Request { key: *key, size: 1, cost_us: 1, ..Request::default() };
                    policy.place(&request);
                    policy.place(&request);
                }
                prop_assert_eq!(policy.held(), keys.len() as u64, "{:?}", kind);
                for key in 0..40 {
                    prop_assert_eq!(policy.holds(key), keys.contains(&key), "{:?}", kind);
                }
            }
        }

        #[test]
        fn no_policy_keeps_more_than_fits_or_beats_the_clairvoyant(
            keys in prop::collection::vec(0u64..40, 0..400), capacity in 1u64..30,
        ) {
            let trace = trace(&keys);
            let most = simulate(&trace, PolicyKind::Clairvoyant, capacity).hits;
            for kind in PolicyKind::ALL {
                let mut policy = kind.build(capacity, &trace);
                let mut hits = 0;
                for request in trace.requests() {
                    hits += u64::from(policy.serve(request));
                    prop_assert!(policy.held() <= capacity, "{:?} holds {} of {capacity}", kind, policy.held());
                }
                prop_assert!(hits <= most, "{:?}", kind);
            }
        }
    }
}
