//! The bank as its user sees it: calls in, predictions out, and a store that keeps everything.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::bank::BANK_MAX_BYTES;
use super::*;

const COMPUTE_US: u64 = 1_000;

/// A store without bound, and a machine that computes at once what is worth it.
struct Played {
    bank: Bank,
    /// Until when results are kept, by event.
    kept: HashMap<String, u64>,
    now_us: u64,
    pace_us: u64,
    ttl_us: Option<u64>,
    per_call: usize,
    hits: u64,
    computed: Vec<(u64, String)>,
}

impl Played {
    fn new() -> Self {
        Self {
            bank: Bank::new(),
            kept: HashMap::new(),
            now_us: 0,
            pace_us: 2 * COMPUTE_US,
            ttl_us: None,
            per_call: 4,
            hits: 0,
            computed: Vec::new(),
        }
    }

    /// Asks for an event. Returns whether its result was there.
    fn call(&mut self, event: &Value) -> bool {
        let expires_us = self.ttl_us.map_or(u64::MAX, |ttl_us| self.now_us + ttl_us);
        let kept_until = self.kept.get(&event.to_string()).copied().filter(|until_us| *until_us > self.now_us);
        let until_us = kept_until.unwrap_or(expires_us);
        self.kept.insert(event.to_string(), until_us);
        let found = if kept_until.is_some() { Found::Hit } else { Found::Miss };
        let ttl_us = self.ttl_us.map(|_| until_us - self.now_us);
        self.bank.observe(&Call { event, now_us: self.now_us, found, compute_us: COMPUTE_US, ttl_us });
        self.compute();
        self.now_us += self.pace_us;
        self.hits += u64::from(kept_until.is_some());
        kept_until.is_some()
    }

    /// Asks for an event, whatever comes of it.
    fn ask(&mut self, event: &Value) {
        self.call(event);
    }

    fn compute(&mut self) -> Vec<Value> {
        let spare = Spare { now_us: self.now_us, limit: self.per_call, economics: Economics::default() };
        let kept = &self.kept;
        let predictions = self.bank.predict(&spare, |arguments| kept.get(&arguments.event()?.to_string()).copied());
        let mut computed = Vec::new();
        for prediction in predictions {
            let event = prediction.arguments.event().unwrap();
            let until_us = self.ttl_us.map_or(u64::MAX, |ttl_us| self.now_us + ttl_us);
            self.kept.insert(event.to_string(), until_us);
            self.bank.resolved(prediction.id(), Resolution::Computed { compute_us: COMPUTE_US });
            self.computed.push((prediction.id(), event.to_string()));
            computed.push(event);
        }
        computed
    }

    /// The store loses all that was computed ahead.
    fn drop_computed(&mut self) {
        for (id, event) in self.computed.drain(..) {
            self.kept.remove(&event);
            self.bank.resolved(id, Resolution::Dropped);
        }
    }

    fn on(&self) -> Vec<Source> {
        Source::ALL.into_iter().filter(|source| self.bank.is_on(*source)).collect()
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *seed;
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[test]
fn random_arguments_turn_every_source_off_and_cost_next_to_nothing() {
    for seed in 0..4 {
        for kind in 0..4 {
            let (mut played, mut state) = (Played::new(), seed * 1_000 + kind);
            for number in 0..2_000 {
                let mut field = |most: u64| random(&mut state) % most;
                let event = match kind {
                    0 => json!(field(u64::MAX)),
                    1 => json!(field(10_000)),
                    2 => json!({"user": format!("u{}", field(100_000)), "limit": field(1_000), "page": field(500)}),
                    _ => json!({"day": format!("2026-{:02}-{:02}", 1 + field(12), 1 + field(28)), "x": field(1_000)}),
                };
                played.call(&event);
                if number >= 500 {
                    assert_eq!(played.on(), [], "kind {kind}, seed {seed}, call {number}");
                }
            }
            let spent = played.bank.ledger().total();
            assert!(spent.handed <= 20, "kind {kind}, seed {seed}: {} handed", spent.handed);
            assert!(spent.predicted > 0 || kind == 0, "nothing was even looked at");
        }
    }
}

#[test]
fn nothing_is_spent_before_a_source_has_proved_itself() {
    let mut played = Played::new();
    for page in 0..5 {
        played.call(&json!({"page": page}));
    }
    assert_eq!(played.bank.ledger().total().handed, 0);
    assert!(played.bank.ledger().of(Source::Stride).predicted > 0);
    for page in 5..60 {
        played.call(&json!({"page": page}));
    }
    let ledger = played.bank.ledger();
    assert!(ledger.of(Source::Stride).used > 25, "{ledger:?}");
    // The last few that were computed are still waiting.
    assert_eq!((ledger.total().wasted, ledger.total().late, ledger.precision()), (0, 0, 1.0));
    assert_eq!(ledger.of(Source::Stride).saved_us, ledger.of(Source::Stride).used * COMPUTE_US);
    assert!((ledger.coverage() - ledger.total().used as f64 / 60.0).abs() < 1e-9);
}

#[test]
fn a_pattern_that_stops_is_switched_off_and_comes_back_when_it_returns() {
    let (mut played, mut state) = (Played::new(), 7);
    let run = |played: &mut Played, from: i64| {
        let before = played.hits;
        (0..100).for_each(|at| played.ask(&json!({"offset": from - at * 7})));
        played.hits - before
    };
    assert!(run(&mut played, 0) > 70);
    assert!(played.bank.is_on(Source::Stride));
    for _ in 0..300 {
        played.call(&json!({"offset": random(&mut state) % 1_000_000}));
    }
    assert!(!played.bank.is_on(Source::Stride));
    let wasted = played.bank.ledger().total().wasted;
    for _ in 0..300 {
        played.call(&json!({"offset": random(&mut state) % 1_000_000}));
    }
    assert_eq!(played.bank.ledger().total().wasted, wasted, "a source that is off costs nothing");
    assert!(run(&mut played, 50_000_000) > 50);
    assert!(played.bank.is_on(Source::Stride));
}

#[test]
fn many_who_page_at_the_same_time_find_their_next_page() {
    let (mut played, mut state) = (Played::new(), 9);
    let mut readers: Vec<(u64, u64)> = (0..50).map(|reader| (reader, 0)).collect();
    for number in 0..6_000 {
        let at = (random(&mut state) % 50) as usize;
        let (reader, page) = &mut readers[at];
        played.call(&json!({"reader": format!("r-{reader}"), "page": page, "size": 20}));
        *page += 1;
        if *page == 20 {
            // Another one begins to read.
            (*reader, *page) = (1_000 + number, 0);
        }
    }
    assert!(played.hits > 4_000, "{}", played.hits);
    assert!(played.bank.ledger().precision() > 0.9, "{}", played.bank.ledger().precision());
}

#[test]
fn opaque_events_are_predicted_by_what_came_before_them() {
    let deep = |at: usize| json!({"steps": [[[[[at, "x".repeat(20)]]]]]});
    let mut played = Played::new();
    // Results go stale between the rounds, so that there is something to compute.
    played.ttl_us = Some(20 * played.pace_us);
    for round in 0..40 {
        for at in 0..10 {
            played.call(&deep(at));
        }
        for other in 0..20 {
            played.call(&json!({"round": [[[[[round * 100 + other * other]]]]]}));
        }
    }
    let used = |source| played.bank.ledger().of(source).used;
    assert!(used(Source::Markov) + used(Source::Together) > 100, "{:?}", played.bank.ledger());
}

#[test]
fn a_hot_result_is_computed_anew_before_it_expires() {
    let mut played = Played::new();
    played.ttl_us = Some(50 * COMPUTE_US);
    let rate = json!({"pair": "EUR/USD"});
    let mut late_misses = 0;
    for number in 0..2_000 {
        let hit = played.call(&rate);
        late_misses += u64::from(number >= 1_000 && !hit);
    }
    assert!(played.bank.is_on(Source::Hot));
    // 40 times it would have expired.
    assert!(late_misses <= 2, "{late_misses}");
}

#[test]
fn an_author_who_names_the_wrong_ones_is_not_heard_for_long() {
    let (mut played, mut state) = (Played::new(), 3);
    let next = |state: &mut u64| (0..4).map(|_| json!({"id": random(state)})).collect::<Vec<_>>();
    for _ in 0..100 {
        let named = next(&mut state);
        played.bank.suggest(&named, u64::MAX);
        played.compute();
        named.iter().for_each(|event| played.ask(event));
    }
    assert!(played.bank.is_on(Source::Candidates));
    assert!(played.bank.ledger().of(Source::Candidates).used > 250);
    for _ in 0..400 {
        let (named, asked) = (next(&mut state), next(&mut state));
        played.bank.suggest(&named, u64::MAX);
        played.compute();
        asked.iter().for_each(|event| played.ask(event));
    }
    assert!(!played.bank.is_on(Source::Candidates));
}

#[test]
fn weekly_reports_are_there_before_they_are_asked_for() {
    const MINUTE_US: u64 = 60_000_000;
    const DAY_US: u64 = 24 * 60 * MINUTE_US;
    let (mut played, mut state) = (Played::new(), 5);
    // A result is good for a day.
    played.ttl_us = Some(DAY_US);
    played.pace_us = MINUTE_US;
    let mut last = 0;
    for week in 0..10 {
        for day in 0..7 {
            let start_us = (week * 7 + day) * DAY_US;
            // Other calls, and looks at the clock.
            for hour in 0..24 * 4 {
                played.now_us = start_us + hour * 15 * MINUTE_US;
                if hour % 8 == 0 {
                    played.call(&json!({"q": random(&mut state)}));
                } else {
                    played.compute();
                }
                if day == 4 && hour == 9 * 4 {
                    // In another order every week, minutes apart.
                    let hits = (0..6).filter(|at| {
                        played.now_us += MINUTE_US;
                        played.call(&json!({"report": (at * 5 + week) % 6}))
                    });
                    last = hits.count();
                }
            }
        }
    }
    assert_eq!(last, 6, "{:?}", played.bank.ledger().of(Source::Recurrence));
    assert!(played.bank.ledger().of(Source::Recurrence).used > 12);
}

#[test]
fn a_result_that_is_lost_before_it_is_asked_for_counts_against_its_source() {
    let mut played = Played::new();
    for page in 0..40 {
        played.call(&json!({"page": page}));
    }
    assert!(played.bank.is_on(Source::Stride));
    // From now on nothing that is computed ahead stays.
    for page in 40..200 {
        played.call(&json!({"page": page}));
        played.drop_computed();
    }
    assert!(!played.bank.is_on(Source::Stride));
    let wasted = played.bank.ledger().total().wasted;
    assert!(wasted > 5 && wasted < 100, "{wasted}");
}

#[test]
fn memory_is_bounded_under_a_flood() {
    let (mut played, mut state) = (Played::new(), 11);
    let mut most = 0;
    for number in 0..12_000u64 {
        played.kept.clear();
        let (one, two) = (random(&mut state), random(&mut state));
        let event = match number % 7 {
            // As wide as a grid may be, every axis full of texts as long as they may be.
            5 => {
                (0..16).map(|field| (format!("f{field}"), json!(format!("{:032}", random(&mut state) % 48)))).collect()
            }
            6 => {
                json!({"day": "2026-01-01", "list": (0..8).map(|at| one >> at).collect::<Vec<_>>(), "text": "z".repeat(250)})
            }
            0 => json!({"id": one, "text": "x".repeat((two % 250) as usize)}),
            1 => json!([one % 100, two % 100, "2026-01-01", number]),
            2 => json!({format!("field{}", number % 1_000): one}),
            3 => json!([[[[[[one, "y".repeat((two % 5_000) as usize)]]]]]]),
            _ => json!(number / 5),
        };
        played.call(&event);
        most = most.max(played.bank.bytes());
    }
    assert!(most <= BANK_MAX_BYTES, "{most}");
    assert!(most > BANK_MAX_BYTES / 4, "the flood reached few tables: {most}");
}

proptest! {
    #[test]
    fn the_books_balance(steps in prop::collection::vec((0u64..12, 0usize..4, 0u8..5), 1..400)) {
        let mut bank = Bank::new();
        let mut open: Vec<u64> = Vec::new();
        let mut calls = 0;
        for (at, (key, limit, fate)) in (0u64..).zip(steps) {
            let found = if fate == 0 { Found::Hit } else { Found::Miss };
            // Mostly a loop, so that there is something to predict.
            let event = json!(if fate == 1 { key } else { at % 12 });
            bank.observe(&Call { event: &event, now_us: at * 10, found, compute_us: 5, ttl_us: None });
            calls += 1;
            let spare = Spare { now_us: at * 10, limit, economics: Economics::default() };
            open.extend(bank.predict(&spare, |_| None).iter().map(Prediction::id));
            if fate > 1 && !open.is_empty() {
                let id = open.swap_remove(key as usize % open.len());
                bank.resolved(id, match fate {
                    2 => Resolution::Dropped,
                    3 => Resolution::Failed { compute_us: 5 },
                    _ => Resolution::Computed { compute_us: 5 },
                });
            }
        }
        let ledger = bank.ledger();
        prop_assert_eq!(ledger.calls, calls);
        for source in Source::ALL {
            let account = ledger.of(source);
            prop_assert_eq!(account.resolved, account.used + account.late + account.wasted);
            prop_assert!(account.resolved <= account.handed && account.handed >= account.used);
            prop_assert!(account.computed <= account.handed);
            prop_assert!((0.0..=1.0).contains(&account.precision()));
        }
        prop_assert!((0.0..=1.0).contains(&ledger.coverage()));
    }
}
