//! Computing ahead under simulation: a trace through a policy alone, and through the same policy with a bank of predictors.
//!
//! Time is modelled: a computation ahead takes what its result costs, a few run at a time, and its result is in the store only when
//! it is done; a request that comes before is late, and no hit. Requests' own computing takes none of the room for computing ahead.
//! A trace without times gets a made-up one, a request every so many microseconds. An event is what a key stands for, by default
//! the key itself as a number.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::policy::{Policy, PolicyKind};
use super::trace::{Request, Trace};
use super::{Outcome, ratio};
use crate::predict::{Bank, Call, Economics, Found, Ledger, Resolution, Source, Spare};

/// Results that wait to be asked for and are looked at with each request, for whether they are still held.
const LOOK: usize = 8;

/// How it is computed ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speculation {
    /// Computations ahead that run at a time. By default four: about as many keep up with requests at the default pace, where
    /// costs are as uneven as made-up ones, whose mean is three times their median.
    pub workers: usize,
    /// Time from request to request in a trace that has no times, microseconds; `None`: the median of the requests' costs, as
    /// if requests came at about the pace at which one worker computes.
    pub pace_us: Option<u64>,
    /// What results that were computed ahead and not asked for yet may take of a full store, percent of its capacity. Where
    /// the store has room, they may take that as well.
    pub share_percent: u64,
    /// What a microsecond is worth.
    pub economics: Economics,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { workers: 4, pace_us: None, share_percent: 10, economics: Economics::default() }
    }
}

/// What keys stand for.
pub trait Events {
    /// The event of a key.
    fn event(&self, key: u64) -> Value;

    /// The key of an event; `None` where no request could ask for it: computing it is for nothing.
    fn key(&self, event: &Value) -> Option<u64>;
}

/// A key is its own event.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeysThemselves;

impl Events for KeysThemselves {
    fn event(&self, key: u64) -> Value {
        Value::from(key)
    }

    fn key(&self, event: &Value) -> Option<u64> {
        event.as_u64()
    }
}

/// What computing ahead came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeculationOutcome {
    /// The store without it.
    pub alone: Outcome,
    /// The store with it.
    pub with: Outcome,
    /// The bank's books at the end; what was still waiting to be asked for counts as wasted.
    pub ledger: Ledger,
    /// By [`Source`]: the number of requests after which it was on for the last time, 0 where it never was.
    pub last_on: [u64; Source::ALL.len()],
    /// Bytes that the bank took at most, about.
    pub bank_bytes: u64,
}

impl SpeculationOutcome {
    /// Points of hit ratio that it gained.
    #[must_use]
    pub fn gained(&self) -> f64 {
        self.with.hit_ratio() - self.alone.hit_ratio()
    }

    /// Computing that served nobody, in what all results would have taken to compute.
    #[must_use]
    pub fn wasted_ratio(&self) -> f64 {
        ratio(self.ledger.total().wasted_us, self.with.compute_us)
    }
}

/// Has a policy serve a trace from nothing, alone and with a bank that computes ahead.
#[must_use]
pub fn speculate(
    trace: &Trace,
    kind: PolicyKind,
    capacity: u64,
    speculation: &Speculation,
    events: &impl Events,
) -> SpeculationOutcome {
    let alone = super::simulate(trace, kind, capacity);
    let mut run = Run::new(trace, kind, capacity, speculation, events);
    for place in 0..trace.requests().len() {
        run.request(place);
    }
    run.end(alone)
}

/// A computation ahead, or its result.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    id: u64,
    /// Its key is `None` where no request could ask for it.
    key: Option<u64>,
    size: u64,
    cost_us: u64,
    done_us: u64,
}

struct Run<'a, E> {
    trace: &'a Trace,
    events: &'a E,
    speculation: &'a Speculation,
    capacity: u64,
    pace_us: u64,
    policy: Box<dyn Policy>,
    bank: Bank,
    /// What results are and cost, by key; what is in no request is as the median.
    costs: HashMap<u64, (u64, u64)>,
    median: (u64, u64),
    /// The place of the next request of each key, for the one policy that is told.
    next: HashMap<u64, usize>,
    running: Vec<Ahead>,
    /// Computed and not asked for yet, by key, and in the order in which they are looked at.
    waiting: HashMap<u64, Ahead>,
    order: VecDeque<u64>,
    waiting_size: u64,
    outcome: Outcome,
    last_on: [u64; Source::ALL.len()],
}

impl<'a, E: Events> Run<'a, E> {
    fn new(trace: &'a Trace, kind: PolicyKind, capacity: u64, speculation: &'a Speculation, events: &'a E) -> Self {
        let requests = trace.requests();
        let median = |of: fn(&Request) -> u64| {
            let mut all: Vec<_> = requests.iter().map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(1)
        };
        let median = (median(|request| request.size), median(|request| request.cost_us));
        let timed = requests.iter().any(|request| request.time_us > 0);
        let pace_us = if timed { 0 } else { speculation.pace_us.unwrap_or(median.1).max(1) };
        Self {
            trace,
            events,
            speculation,
            capacity,
            pace_us,
            policy: kind.build(capacity, trace),
            bank: Bank::new(),
            costs: requests.iter().map(|request| (request.key, (request.size, request.cost_us))).collect(),
            median,
            next: requests.iter().enumerate().rev().map(|(place, request)| (request.key, place)).collect(),
            running: Vec::new(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            waiting_size: 0,
            outcome: Outcome::default(),
            last_on: [0; Source::ALL.len()],
        }
    }

    fn time_us(&self, place: usize) -> u64 {
        match self.trace.requests().get(place) {
            Some(request) if self.pace_us == 0 => request.time_us,
            Some(_) => place as u64 * self.pace_us,
            None => u64::MAX,
        }
    }

    fn request(&mut self, place: usize) {
        let Some(request) = self.trace.requests().get(place).copied() else { return };
        let now_us = self.time_us(place);
        let hit = self.policy.serve(&request);
        self.next.insert(request.key, request.next);
        self.outcome.requests += 1;
        self.outcome.bytes += request.size;
        self.outcome.compute_us += request.cost_us;
        if hit {
            self.outcome.hits += 1;
            self.outcome.hit_bytes += request.size;
            self.outcome.saved_us += request.cost_us;
        }
        let event = self.events.event(request.key);
        let found = if hit { Found::Hit } else { Found::Miss };
        self.bank.observe(&Call { event: &event, now_us, found, compute_us: request.cost_us, ttl_us: None });
        self.no_longer_waits(request.key);
        self.look();
        self.work(now_us, self.time_us(place + 1));
        for source in Source::ALL {
            if self.bank.is_on(source) {
                self.last_on[source as usize] = place as u64 + 1;
            }
        }
    }

    fn no_longer_waits(&mut self, key: u64) -> Option<Ahead> {
        let gone = self.waiting.remove(&key)?;
        self.waiting_size -= gone.size;
        Some(gone)
    }

    /// Whether some of those that wait are still held.
    fn look(&mut self) {
        for _ in 0..LOOK.min(self.order.len()) {
            let Some(key) = self.order.pop_front() else { return };
            if !self.waiting.contains_key(&key) {
                continue;
            }
            if self.policy.holds(key) {
                self.order.push_back(key);
            } else if let Some(gone) = self.no_longer_waits(key) {
                self.bank.resolved(gone.id, Resolution::Dropped);
            }
        }
    }

    /// Computes ahead from one request to the next.
    fn work(&mut self, from_us: u64, to_us: u64) {
        let mut now_us = from_us;
        // Predictions are remembered to be checked also where there is no room to compute them.
        loop {
            let free = self.speculation.workers.saturating_sub(self.running.len());
            let limit = if self.has_room() { free } else { 0 };
            let spare = Spare { now_us, limit, economics: self.speculation.economics };
            let (policy, events, costs) = (&self.policy, self.events, &self.costs);
            let running = &self.running;
            let mut started = Vec::new();
            let predictions = self.bank.predict(&spare, |arguments| {
                let key = arguments.event().and_then(|event| events.key(&event))?;
                let is_there = policy.holds(key) || running.iter().any(|ahead| ahead.key == Some(key));
                is_there.then_some(u64::MAX)
            });
            for prediction in predictions {
                let key = prediction.arguments.event().and_then(|event| events.key(&event));
                let (size, cost_us) = key.and_then(|key| costs.get(&key)).copied().unwrap_or(self.median);
                let done_us = now_us.saturating_add(cost_us);
                started.push(Ahead { id: prediction.id(), key, size, cost_us, done_us });
            }
            self.running.append(&mut started);
            let first = self.running.iter().enumerate().min_by_key(|(_, ahead)| ahead.done_us);
            let Some((at, done_us)) = first.map(|(at, ahead)| (at, ahead.done_us)).filter(|(_, done)| *done <= to_us)
            else {
                return;
            };
            now_us = done_us;
            let done = self.running.swap_remove(at);
            self.finish(done);
        }
    }

    fn has_room(&self) -> bool {
        let unused = self.waiting_size + self.running.iter().map(|ahead| ahead.size).sum::<u64>();
        unused < self.capacity * self.speculation.share_percent / 100 || self.policy.held() < self.capacity
    }

    fn finish(&mut self, done: Ahead) {
        let Ahead { id, key, size, cost_us, .. } = done;
        let Some(key) = key else {
            self.bank.resolved(id, Resolution::Failed { compute_us: cost_us });
            return;
        };
        self.bank.resolved(id, Resolution::Computed { compute_us: cost_us });
        if !self.policy.holds(key) {
            let next = self.next.get(&key).copied().unwrap_or(self.trace.requests().len());
            self.policy.place(&Request { key, size, cost_us, next, ..Request::default() });
            self.waiting_size += size;
            self.waiting.insert(key, done);
            self.order.push_back(key);
        }
    }

    fn end(mut self, alone: Outcome) -> SpeculationOutcome {
        // What nobody asked for to the end was for nothing.
        for ahead in self.running.iter().chain(self.waiting.values()) {
            self.bank.resolved(ahead.id, Resolution::Dropped);
        }
        SpeculationOutcome {
            alone,
            with: self.outcome,
            ledger: *self.bank.ledger(),
            last_on: self.last_on,
            bank_bytes: self.bank.bytes() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const COST_US: u64 = 1_000;

    /// The cells of a grid of 10 by 10 by 10.
    struct Cells;

    impl Events for Cells {
        fn event(&self, key: u64) -> Value {
            json!({"a": key / 100, "b": key / 10 % 10, "c": key % 10})
        }

        fn key(&self, event: &Value) -> Option<u64> {
            let field = |name: &str| event.get(name)?.as_u64().filter(|value| *value < 10);
            Some(field("a")? * 100 + field("b")? * 10 + field("c")?)
        }
    }

    fn trace(keys: impl Iterator<Item = u64>) -> Trace {
        Trace::of_requests(keys.map(|key| Request { key, size: 1, cost_us: COST_US, ..Request::default() })).unwrap()
    }

    /// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn random(seed: u64) -> u64 {
        let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn shuffled(seed: u64) -> Vec<u64> {
        let mut keys: Vec<u64> = (0..1_000).collect();
        keys.sort_by_key(|key| random(key ^ seed << 32));
        keys
    }

    /// Hits in what comes after the first fifth of a sweep.
    fn hits_of_the_rest(keys: &[u64]) -> u64 {
        let hits = |keys: &[u64]| {
            let trace = trace(keys.iter().copied());
            let outcome = speculate(&trace, PolicyKind::Lru, 1_000, &Speculation::default(), &Cells);
            assert_eq!(outcome.alone.hits, 0);
            outcome.with.hits
        };
        hits(keys) - hits(&keys[..keys.len() / 5])
    }

    #[test]
    fn the_rest_of_a_sweep_is_there_in_whatever_order_it_goes() {
        let nested: Vec<u64> = (0..1_000).collect();
        assert!(hits_of_the_rest(&nested) >= 640, "{}", hits_of_the_rest(&nested));
        let backwards: Vec<u64> = (0..1_000).rev().collect();
        assert!(hits_of_the_rest(&backwards) >= 640, "{}", hits_of_the_rest(&backwards));
        for seed in 0..4 {
            assert!(hits_of_the_rest(&shuffled(seed)) >= 640, "{}", hits_of_the_rest(&shuffled(seed)));
        }
    }

    #[test]
    fn random_requests_turn_every_source_off_and_lose_nothing() {
        for seed in 0..4 {
            let trace = trace((0..5_000).map(|at| random(at ^ seed << 32) % 5_000));
            for capacity in [50, 500] {
                let outcome = speculate(&trace, PolicyKind::Lru, capacity, &Speculation::default(), &KeysThemselves);
                assert!(outcome.last_on.iter().all(|last| *last <= 500), "{:?}", outcome.last_on);
                assert!(outcome.gained() > -0.001 && outcome.wasted_ratio() < 0.005, "{}", outcome.wasted_ratio());
            }
        }
    }

    #[test]
    fn what_is_not_done_in_time_is_late_and_no_hit() {
        // Results take as long as fifty requests: there are sixteen steps ahead at most.
        let trace = trace(0..600);
        let slow = Speculation { pace_us: Some(COST_US / 50), ..Speculation::default() };
        let outcome = speculate(&trace, PolicyKind::Lru, 1_000, &slow, &KeysThemselves);
        assert_eq!(outcome.with.hits, 0);
        let fast = Speculation { pace_us: Some(COST_US), ..Speculation::default() };
        let outcome = speculate(&trace, PolicyKind::Lru, 1_000, &fast, &KeysThemselves);
        assert!(outcome.with.hits > 550, "{}", outcome.with.hits);
        assert_eq!(outcome.with.hits, outcome.ledger.total().used);
    }

    #[test]
    fn times_of_the_trace_are_kept_to() {
        // Bursts of four requests, then time to compute.
        let requests = (0..800).map(|at| Request {
            key: at,
            size: 1,
            cost_us: COST_US,
            time_us: at / 4 * 100 * COST_US + at % 4,
            ..Request::default()
        });
        let trace = Trace::of_requests(requests).unwrap();
        let outcome = speculate(&trace, PolicyKind::Lru, 1_000, &Speculation::default(), &KeysThemselves);
        assert!(outcome.with.hits > 700, "{}", outcome.with.hits);
    }

    #[test]
    fn results_that_nobody_asked_for_yet_take_their_share_of_a_full_store_at_most() {
        let trace = trace((0..4_000).map(|at| if at % 2 == 0 { at / 2 } else { 1_000_000 + random(at) % 150 }));
        let outcome = |share_percent| {
            let speculation = Speculation { share_percent, ..Speculation::default() };
            speculate(&trace, PolicyKind::Lru, 100, &speculation, &KeysThemselves)
        };
        // Room for none is none, once the store is full.
        assert!(outcome(0).ledger.total().handed < 200);
        assert!(outcome(10).gained() > 0.3, "{}", outcome(10).gained());
    }
}
