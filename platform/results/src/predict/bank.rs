//! The bank: the predictors of one function version, their judge, what waits to be computed and the books.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::arguments::{Arguments, FixedHasher, Shape};
use super::candidates::{self, CANDIDATES_MAX};
use super::events::Events;
use super::grid::Grid;
use super::hot::Hot;
use super::judge::{Economics, Judge};
use super::ledger::Ledger;
use super::markov::Markov;
use super::proposal::{Proposal, Proposals, Seen, Source};
use super::recurrence::Recurrence;
use super::stride::Stride;
use super::together::Together;

/// Bytes that a bank takes at most, about: the sum of its tables' bounds. What most functions come to is half of it.
pub const BANK_MAX_BYTES: usize = 896 * 1024;
/// Shapes that are told apart at most; events of further ones are opaque.
const SHAPES_MAX: usize = 16;
/// Predictions that wait for spare time at most; the least worth goes first.
const AGENDA_MAX: usize = 32;
/// Predictions that were handed out and are open at most: while there are as many, no more are.
const HANDED_MAX: usize = 512;
/// How much the latest computation counts in what one takes.
const LATEST: f64 = 1.0 / 32.0;
/// How much it counts that a result stayed for less time than others.
const LATEST_SHORTER: f64 = 1.0 / 8.0;

/// One call of the function.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Its event, or of it what decides the result.
    pub event: &'a Value,
    /// When it came, microseconds; from call to call it does not go back.
    pub now_us: u64,
    /// Whether its result was there.
    pub found: Found,
    /// What computing the result took, now or when it was computed, microseconds.
    pub compute_us: u64,
    /// How long the result is good for from now on, microseconds; without end where there is none.
    pub ttl_us: Option<u64>,
}

/// What a call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: it was computed, or the call joined a computation that was running.
    Miss,
    /// A result.
    Hit,
}

/// The room for computing ahead.
#[derive(Debug, Clone, Copy)]
pub struct Spare {
    /// Now, microseconds.
    pub now_us: u64,
    /// Predictions to be handed out at most; with 0 they are only remembered and checked.
    pub limit: usize,
    /// What a microsecond is worth.
    pub economics: Economics,
}

/// What is worth computing.
#[derive(Debug, Clone)]
pub struct Prediction {
    /// The arguments.
    pub arguments: Arguments,
    /// Who says so.
    pub source: Source,
    /// The part of its computing that a caller will not have to wait for, on average: the chance that it is asked for at all, less
    /// what is asked for too soon.
    pub probability: f64,
    /// What computing it is worth, microseconds, its cost deducted.
    pub worth_us: f64,
    /// A result that is kept until then is no reason not to compute it, microseconds.
    pub from_us: u64,
}

impl Prediction {
    /// What [`Bank::resolved`] knows it by.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.arguments.hash()
    }
}

/// What became of a prediction that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Its result is kept; computing it took so many microseconds.
    Computed {
        /// What it took.
        compute_us: u64,
    },
    /// It was computed and there is nothing to keep.
    Failed {
        /// What it took, microseconds.
        compute_us: u64,
    },
    /// Its result went, unused: it expired or made room.
    Dropped,
    /// It was not computed after all.
    Declined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// Running, and asked for already.
    Late,
    Kept,
}

struct Handed {
    source: Source,
    grade: u8,
    from_us: u64,
    state: State,
    compute_us: u64,
    /// The call after which it was handed out.
    made: u64,
    /// The call, and the time, by which it should have been asked for.
    until: u64,
    until_us: u64,
    /// Tells it from an earlier one of the same event in the queue.
    turn: u64,
}

struct Waiting {
    proposal: Proposal,
    /// The call after which it was made.
    made: u64,
    worth_us: f64,
}

/// The predictors of one function version.
///
/// After each call the bank is told of it and asked what is worth computing:
/// ```
/// use raas_results::predict::{Bank, Call, Economics, Found, Resolution, Spare};
///
/// let mut bank = Bank::new();
/// let mut store = std::collections::HashMap::new();
/// for page in 0..50u64 {
///     let (event, now_us) = (serde_json::json!({"page": page}), page * 10_000);
///     let found = if store.contains_key(&event.to_string()) { Found::Hit } else { Found::Miss };
///     bank.observe(&Call { event: &event, now_us, found, compute_us: 4_000, ttl_us: None });
///     // No place is free: `limit: 0`. It is asked all the same, for predictions are checked from here on.
///     let spare = Spare { now_us, limit: 2, economics: Economics::default() };
///     let kept_until = |event: serde_json::Value| store.get(&event.to_string()).copied();
///     for prediction in bank.predict(&spare, |arguments| arguments.event().and_then(kept_until)) {
///         if let Some(event) = prediction.arguments.event() {
///             // Here the function runs, with the lowest priority; then its result is kept.
///             store.insert(event.to_string(), u64::MAX);
///         }
///         bank.resolved(prediction.id(), Resolution::Computed { compute_us: 4_000 });
///     }
/// }
/// assert!(bank.ledger().precision() > 0.9 && bank.ledger().coverage() > 0.7);
/// ```
/// A result that leaves the store unused is told as [`Resolution::Dropped`]; one that could not be computed as
/// [`Resolution::Failed`] or [`Resolution::Declined`].
pub struct Bank {
    shapes: Vec<Arc<Shape>>,
    events: Events,
    hot: Hot,
    stride: Stride,
    grid: Grid,
    markov: Markov,
    together: Together,
    recurrence: Recurrence,
    judge: Judge,
    /// What predictors said since they were last asked.
    fresh: Proposals,
    agenda: Vec<Waiting>,
    handed: HashMap<u64, Handed, FixedHasher>,
    /// Events that were handed out, oldest first, with their turns; some are resolved.
    queue: VecDeque<(u64, u64)>,
    turn: u64,
    /// What computing takes, smoothed, microseconds.
    compute_us: f64,
    /// Calls for which a result stays that nobody asks for, smoothed; without end until one is lost.
    stays: f64,
    ledger: Ledger,
}

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

impl Bank {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shapes: Vec::new(),
            events: Events::default(),
            hot: Hot::default(),
            stride: Stride::default(),
            grid: Grid::default(),
            markov: Markov::new(),
            together: Together::new(),
            recurrence: Recurrence::new(),
            judge: Judge::new(),
            fresh: Proposals::default(),
            agenda: Vec::new(),
            handed: HashMap::default(),
            queue: VecDeque::new(),
            turn: 0,
            compute_us: 0.0,
            stays: f64::INFINITY,
            ledger: Ledger::default(),
        }
    }

    /// A call came and was answered, or is being answered. Returns its arguments.
    pub fn observe(&mut self, call: &Call<'_>) -> Arguments {
        let arguments = Arguments::read(call.event, &mut self.shapes, SHAPES_MAX);
        let (hash, number) = (arguments.hash(), self.ledger.calls);
        self.ledger.calls += 1;
        self.learn_cost(call.compute_us);
        let merit = self.settle(hash, call);
        let there = call.found == Found::Hit && !merit;
        self.judge.called(hash, number, call.now_us, there, self.compute_us, self.stays);
        self.agenda.retain(|waiting| waiting.proposal.arguments.hash() != hash);
        self.events.observe(&arguments);
        let seen = Seen {
            arguments: &arguments,
            number,
            now_us: call.now_us,
            expires_us: call.ttl_us.map_or(u64::MAX, |ttl_us| call.now_us.saturating_add(ttl_us)),
        };
        // What was said of the call before is out of date.
        self.fresh.drain();
        self.stride.observe(&seen, &mut self.fresh);
        self.grid.observe(&seen, &mut self.fresh);
        self.markov.observe(&seen, &self.events, &mut self.fresh);
        self.together.observe(&seen, &self.events, &mut self.fresh);
        self.hot.observe(&seen);
        self.recurrence.observe(&seen);
        arguments
    }

    fn learn_cost(&mut self, compute_us: u64) {
        let compute_us = compute_us as f64;
        let weight = if self.ledger.calls <= 1 { 1.0 } else { LATEST };
        self.compute_us += weight * (compute_us - self.compute_us);
    }

    /// Books what a call says of a prediction that was handed out. Returns whether its result is the prediction's merit.
    fn settle(&mut self, hash: u64, call: &Call<'_>) -> bool {
        let number = self.ledger.calls;
        let Some(handed) = self.handed.get_mut(&hash) else { return false };
        let account = self.ledger.of_mut(handed.source);
        match (handed.state, call.found) {
            (State::Kept, Found::Hit) if call.now_us >= handed.from_us => {
                account.used += 1;
                account.resolved += 1;
                account.saved_us += handed.compute_us;
                let stayed = (number - handed.made) as f64;
                if stayed > self.stays {
                    self.stays += LATEST * (stayed - self.stays);
                }
                self.handed.remove(&hash);
                true
            }
            (State::Running, Found::Miss) => {
                account.late += 1;
                account.resolved += 1;
                handed.state = State::Late;
                false
            }
            // It went without a word.
            (State::Kept, Found::Miss) => {
                self.waste(hash);
                false
            }
            (State::Kept | State::Running, Found::Hit) | (State::Late, _) => false,
        }
    }

    /// A result was computed for nothing.
    fn waste(&mut self, hash: u64) {
        let Some(handed) = self.handed.remove(&hash) else { return };
        if handed.state == State::Late {
            return;
        }
        if handed.state == State::Kept {
            let stayed = (self.ledger.calls - handed.made) as f64;
            // Rather too short than too long: what goes before it is asked for is lost.
            let weight = if stayed < self.stays { LATEST_SHORTER } else { LATEST };
            self.stays = if self.stays.is_finite() { self.stays + weight * (stayed - self.stays) } else { stayed };
        }
        let account = self.ledger.of_mut(handed.source);
        account.wasted += 1;
        account.wasted_us += handed.compute_us;
        account.resolved += 1;
        self.judge.lost(hash, handed.source, handed.grade);
    }

    /// The function's author names arguments, the likeliest first, that may be asked for until some time. The first few that wait
    /// count; they are looked at when the bank is next asked.
    pub fn suggest(&mut self, events: &[Value], until_us: u64) {
        for (rank, event) in events.iter().take(CANDIDATES_MAX).enumerate() {
            let arguments = Arguments::read(event, &mut self.shapes, SHAPES_MAX);
            self.fresh.push(candidates::proposal(arguments, rank, until_us));
        }
    }

    /// What is worth computing now, the most worth first. It is to be asked after every call, also where there is no spare time
    /// (`limit` 0), for this is where predictions are remembered to be checked; and now and then while no calls come, for
    /// what is due by the clock.
    ///
    /// `kept` says until when the result for some arguments is kept, `u64::MAX` for without end, `None` where it is not.
    pub fn predict(&mut self, spare: &Spare, mut kept: impl FnMut(&Arguments) -> Option<u64>) -> Vec<Prediction> {
        let number = self.ledger.calls;
        self.hot.due(spare.now_us, self.compute_us as u64, &self.events, &mut self.fresh);
        self.recurrence.due(spare.now_us, &self.events, &mut self.fresh);
        self.judge.set(&spare.economics, self.compute_us);
        let mut is_there = |proposal: &Proposal| {
            kept(&proposal.arguments).is_some_and(|until_us| until_us > proposal.from_us.max(spare.now_us))
        };
        let mut fresh = std::mem::take(&mut self.fresh);
        for proposal in fresh.drain() {
            let is_new = self.judge.is_new(&proposal);
            let gain = self.judge.trusted(proposal.source, proposal.grade, number).unwrap_or(0.0);
            let worth_us = spare.economics.worth(gain, self.compute_us);
            let wanted = worth_us > 0.0 && self.is_wanted(&proposal, worth_us);
            // The caller's answer is dear: it is asked where something depends on it.
            if !(is_new || wanted) || is_there(&proposal) {
                continue;
            }
            if is_new {
                self.judge.remember(&proposal, number, spare.now_us);
                self.ledger.of_mut(proposal.source).predicted += 1;
            }
            if wanted {
                self.wait(Waiting { proposal, made: number, worth_us });
            }
        }
        self.fresh = fresh;
        let mut predictions = Vec::new();
        while predictions.len() < spare.limit && self.may_hand_out(spare.now_us) {
            let best = (0..self.agenda.len())
                .max_by(|one, other| self.agenda[*one].worth_us.total_cmp(&self.agenda[*other].worth_us));
            let Some(best) = best else { break };
            let waiting = self.agenda.swap_remove(best);
            let (proposal, age) = (&waiting.proposal, number - waiting.made);
            // Half its time is over: what was said of it then no longer holds.
            let over = age > u64::from(proposal.calls / 2) || spare.now_us > proposal.until_us;
            if over || self.handed.contains_key(&proposal.arguments.hash()) || is_there(proposal) {
                continue;
            }
            if let Some(probability) = self.judge.trusted(proposal.source, proposal.grade, number) {
                predictions.push(self.hand_out(waiting.proposal, probability, waiting.worth_us));
            }
        }
        predictions
    }

    /// Whether a prediction is neither handed out nor on the agenda as one that is worth more.
    fn is_wanted(&self, proposal: &Proposal, worth_us: f64) -> bool {
        let hash = proposal.arguments.hash();
        let waits = |waiting: &Waiting| waiting.proposal.arguments.hash() == hash && waiting.worth_us > worth_us;
        !self.handed.contains_key(&hash) && !self.agenda.iter().any(waits)
    }

    /// Puts a prediction on the agenda, in the place of one of the same event.
    fn wait(&mut self, waiting: Waiting) {
        let hash = waiting.proposal.arguments.hash();
        if let Some(known) = self.agenda.iter_mut().find(|known| known.proposal.arguments.hash() == hash) {
            *known = waiting;
            return;
        }
        if self.agenda.len() < AGENDA_MAX {
            self.agenda.push(waiting);
            return;
        }
        // The oldest of those that are worth least.
        let least = self
            .agenda
            .iter_mut()
            .min_by(|one, other| one.worth_us.total_cmp(&other.worth_us).then(one.made.cmp(&other.made)));
        if let Some(least) = least
            && least.worth_us <= waiting.worth_us
        {
            *least = waiting;
        }
    }

    /// Whether there is room for one more. Where there is none, what was not heard of until its time was over is taken for wasted.
    fn may_hand_out(&mut self, now_us: u64) -> bool {
        // What is resolved stays in the queue until there is much of it.
        if self.queue.len() >= 2 * HANDED_MAX {
            let handed = &self.handed;
            self.queue.retain(|(id, turn)| handed.get(id).is_some_and(|handed| handed.turn == *turn));
        }
        while self.handed.len() >= HANDED_MAX {
            let Some((oldest, turn)) = self.queue.front().copied() else { return false };
            match self.handed.get(&oldest).filter(|handed| handed.turn == turn) {
                Some(handed) if self.ledger.calls <= handed.until && now_us <= handed.until_us => return false,
                Some(_) => self.waste(oldest),
                None => {}
            }
            self.queue.pop_front();
        }
        true
    }

    fn hand_out(&mut self, proposal: Proposal, probability: f64, worth_us: f64) -> Prediction {
        self.turn += 1;
        let Proposal { arguments, source, grade, from_us, until_us, calls } = proposal;
        self.ledger.of_mut(source).handed += 1;
        self.queue.push_back((arguments.hash(), self.turn));
        let handed = Handed {
            source,
            grade,
            from_us,
            state: State::Running,
            compute_us: 0,
            made: self.ledger.calls,
            until: self.ledger.calls.saturating_add(u64::from(calls)),
            until_us,
            turn: self.turn,
        };
        self.handed.insert(arguments.hash(), handed);
        Prediction { arguments, source, probability, worth_us, from_us }
    }

    /// What became of a prediction. That its result was used needs no word: [`Bank::observe`] sees it.
    pub fn resolved(&mut self, id: u64, resolution: Resolution) {
        let Some(handed) = self.handed.get_mut(&id) else { return };
        let account = self.ledger.of_mut(handed.source);
        match resolution {
            Resolution::Computed { compute_us } | Resolution::Failed { compute_us } => {
                account.computed += 1;
                account.compute_us += compute_us;
                handed.compute_us = compute_us;
                if handed.state == State::Late {
                    self.handed.remove(&id);
                } else if matches!(resolution, Resolution::Failed { .. }) {
                    self.waste(id);
                } else {
                    handed.state = State::Kept;
                }
            }
            Resolution::Dropped => self.waste(id),
            Resolution::Declined => drop(self.handed.remove(&id)),
        }
    }

    /// The books.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether anything is computed on account of a source now.
    #[must_use]
    pub fn is_on(&self, source: Source) -> bool {
        self.judge.is_on(source, self.ledger.calls)
    }

    /// Bytes held, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.shapes.iter().map(|shape| shape.bytes()).sum::<usize>()
            + self.events.bytes()
            + self.hot.bytes()
            + self.stride.bytes()
            + self.grid.bytes()
            + self.markov.bytes()
            + self.together.bytes()
            + self.recurrence.bytes()
            + self.judge.bytes()
            + self.agenda.iter().map(|one| size_of::<Waiting>() + one.proposal.arguments.bytes()).sum::<usize>()
            + self.handed.capacity() * (size_of::<(u64, Handed)>() + 1)
            + self.queue.capacity() * size_of::<(u64, u64)>()
    }
}
