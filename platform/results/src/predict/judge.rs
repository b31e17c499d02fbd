//! The judge: predictions are remembered, computed or not, and checked against the calls that follow.
//!
//! Each grade of each source has its own record, in which what is long ago fades. A prediction gains the part of the computing
//! that its caller would not have waited for: all of it where it was made early enough, less where the call came while it would
//! still have been running, nothing where no call came. What is still open counts against the grade by how much of its time is
//! over, so that a grade is not judged by its quick successes alone. A grade is trusted where the gain is above break-even by
//! more than chance explains.

use std::collections::HashMap;

use super::arguments::FixedHasher;
use super::proposal::{GRADES, Proposal, Source};

/// Open predictions of a source at most; while there are as many, no more of its predictions are checked.
const OPEN_MAX: usize = 160;
/// Those of one event at most that a call resolves.
const SAME_MAX: usize = 16;
/// Open predictions that are looked at for expiry with each call.
const SWEEP: usize = 16;
/// What a resolved prediction still weighs after one more: about the last 64 count.
const FADE: f64 = 1.0 - 1.0 / 64.0;
/// Resolved predictions before a grade can be trusted.
const PROOF_MIN: f64 = 8.0;
/// Standard errors by which the gain of a grade must be above break-even for it to become trusted.
const DOUBT: f64 = 1.5;
/// How much the very last resolved prediction counts, and below which part of break-even they end the trust in a grade.
const LATEST: f64 = 1.0 / 12.0;
const ENDED: f64 = 0.5;
/// A grade that has said nothing for so many calls is not on.
const QUIET_CALLS: u64 = 128;
const NONE: u32 = u32::MAX;

/// What a microsecond is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Economics {
    /// Computing on request that is spared and not waited for, each microsecond. 2 where the caller's time is worth as much as
    /// the machine's, for both are spared.
    pub value: f64,
    /// Computing ahead, each microsecond.
    pub price: f64,
    /// Keeping a result until it is asked for or gone, microseconds.
    pub keeping_us: f64,
}

impl Default for Economics {
    fn default() -> Self {
        Self { value: 2.0, price: 1.0, keeping_us: 0.0 }
    }
}

impl Economics {
    /// What a prediction is worth, microseconds: the gain is the part of the computing that is saved, on average.
    pub(super) fn worth(&self, gain: f64, compute_us: f64) -> f64 {
        gain * compute_us * self.value - (compute_us * self.price + self.keeping_us)
    }

    fn break_even(&self, compute_us: f64) -> f64 {
        (compute_us * self.price + self.keeping_us) / (compute_us * self.value).max(f64::MIN_POSITIVE)
    }
}

/// A record: of a grade, or of all grades of a source.
#[derive(Debug, Clone, Copy, Default)]
struct Grade {
    gained: f64,
    resolved: f64,
    /// The gain of the very last ones, which tells sooner that a pattern has ended.
    latest: f64,
    open: u32,
    /// Over the open ones: the sum of 1 / calls, and of the call's number / calls.
    pace: f64,
    start: f64,
    trusted: bool,
    /// The call after which it last said something.
    said: u64,
}

impl Grade {
    /// How many of the open ones must be taken for lost, by how much of their time is over.
    fn fading(&self, number: u64) -> f64 {
        if self.open == 0 { 0.0 } else { (number as f64 * self.pace - self.start).clamp(0.0, f64::from(self.open)) }
    }

    fn resolve(&mut self, gain: f64) {
        self.gained = self.gained * FADE + gain;
        self.resolved = self.resolved * FADE + 1.0;
        let weight = LATEST.max(1.0 / self.resolved);
        self.latest += weight * (gain - self.latest);
    }

    /// The gain to be expected and the weight of the evidence for it. What a grade lacks of a proof of its own it borrows from
    /// its source's record.
    fn evidence(&self, source: &Self, number: u64) -> (f64, f64) {
        let own = self.resolved + self.fading(number);
        let all = source.resolved + source.fading(number);
        let borrowed = (PROOF_MIN - own).max(0.0).min(all);
        let gained = self.gained + if all > 0.0 { borrowed * source.gained / all } else { 0.0 };
        let weight = own + borrowed;
        (if weight > 0.0 { (gained / weight).min(1.0) } else { 0.0 }, weight)
    }

    /// Judges anew. Returns the gain to be expected.
    fn judge(&mut self, source: &Self, number: u64, break_even: f64) -> f64 {
        let (gain, weight) = self.evidence(source, number);
        let ended = self.resolved >= 1.0 && self.latest < break_even * ENDED;
        self.trusted = !ended
            && if self.trusted {
                gain > break_even
            } else {
                // One more loss than there was, so that a few successes in a row do not look like certainty.
                let cautious = gain * weight / (weight + 1.0);
                let error = (cautious * (1.0 - cautious) / weight.max(1.0)).sqrt();
                weight >= PROOF_MIN && cautious - DOUBT * error > break_even
            };
        gain
    }

    fn opened(&mut self, number: u64, calls: u32) {
        self.open += 1;
        self.pace += 1.0 / f64::from(calls);
        self.start += number as f64 / f64::from(calls);
    }

    fn closed(&mut self, number: u64, calls: u32) {
        self.open -= 1;
        self.pace -= 1.0 / f64::from(calls);
        self.start -= number as f64 / f64::from(calls);
        if self.open == 0 {
            (self.pace, self.start) = (0.0, 0.0);
        }
    }
}

/// A prediction that is waiting for its call.
#[derive(Debug, Clone, Copy)]
struct Open {
    hash: u64,
    until_us: u64,
    made_us: u64,
    from_us: u64,
    made: u64,
    calls: u32,
    source: Source,
    grade: u8,
    /// The next one of the same event.
    next: u32,
    live: bool,
}

pub(super) struct Judge {
    grades: [[Grade; GRADES]; Source::ALL.len()],
    sources: [Grade; Source::ALL.len()],
    open: Vec<Open>,
    free: Vec<u32>,
    counts: [usize; Source::ALL.len()],
    /// By event: the first.
    heads: HashMap<u64, u32, FixedHasher>,
    hand: usize,
    break_even: f64,
}

impl Judge {
    pub fn new() -> Self {
        let mut grades = [[Grade::default(); GRADES]; Source::ALL.len()];
        let mut sources = [Grade::default(); Source::ALL.len()];
        // The author is taken at his word until his candidates have turned out otherwise.
        let word = Grade { gained: PROOF_MIN, resolved: PROOF_MIN, latest: 1.0, trusted: true, ..Grade::default() };
        grades[Source::Candidates.index()] = [word; GRADES];
        sources[Source::Candidates.index()] = word;
        Self {
            grades,
            sources,
            open: Vec::new(),
            free: Vec::new(),
            counts: [0; Source::ALL.len()],
            heads: HashMap::default(),
            hand: 0,
            break_even: 1.0,
        }
    }

    /// The records that a prediction counts in: its grade's and its source's.
    fn records(&mut self, source: Source, grade: u8) -> [&mut Grade; 2] {
        let grade = &mut self.grades[source.index()][usize::from(grade).min(GRADES - 1)];
        [grade, &mut self.sources[source.index()]]
    }

    fn resolve(&mut self, source: Source, grade: u8, gain: f64) {
        self.records(source, grade).into_iter().for_each(|record| record.resolve(gain));
    }

    /// What predictions are held against from now on.
    pub fn set(&mut self, economics: &Economics, compute_us: f64) {
        self.break_even = economics.break_even(compute_us);
    }

    /// Whether a prediction can be remembered: its source has not as many open as it may, nor this one already.
    pub fn is_new(&self, proposal: &Proposal) -> bool {
        if self.counts[proposal.source.index()] >= OPEN_MAX {
            return false;
        }
        let mut at = self.heads.get(&proposal.arguments.hash()).copied().unwrap_or(NONE);
        let mut same = 0;
        while let Some(open) = self.open.get(at as usize) {
            same += 1;
            if (open.source == proposal.source && open.grade == proposal.grade) || same >= SAME_MAX {
                return false;
            }
            at = open.next;
        }
        true
    }

    /// Remembers a prediction that is new.
    pub fn remember(&mut self, proposal: &Proposal, number: u64, now_us: u64) {
        let (hash, source) = (proposal.arguments.hash(), proposal.source);
        let head = self.heads.get(&hash).copied().unwrap_or(NONE);
        let calls = proposal.calls.max(1);
        let open = Open {
            hash,
            until_us: proposal.until_us,
            made_us: now_us,
            from_us: proposal.from_us,
            made: number,
            calls,
            source,
            grade: proposal.grade,
            next: head,
            live: true,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.open[place as usize] = open;
                place
            }
            None => {
                self.open.push(open);
                self.open.len() as u32 - 1
            }
        };
        self.heads.insert(hash, place);
        self.counts[source.index()] += 1;
        self.records(source, proposal.grade).into_iter().for_each(|record| record.opened(number, calls));
    }

    /// Takes an open prediction out of the books; its event's list is the caller's to mend.
    fn close(&mut self, place: u32) -> Option<Open> {
        let open = self.open.get_mut(place as usize).filter(|open| open.live)?;
        open.live = false;
        let open = *open;
        self.free.push(place);
        self.counts[open.source.index()] -= 1;
        self.records(open.source, open.grade).into_iter().for_each(|record| record.closed(open.made, open.calls));
        Some(open)
    }

    /// A call came. `there` says that its result was kept all the same, by no merit of a prediction: then those of it are struck
    /// out, for nobody would have computed them.
    ///
    /// `stays`: calls for which a result stays that nobody asks for. One that is asked for later would have been gone.
    pub fn called(&mut self, hash: u64, number: u64, now_us: u64, there: bool, compute_us: f64, stays: f64) {
        let mut at = self.heads.remove(&hash).unwrap_or(NONE);
        let mut left = NONE;
        while let Some(open) = self.open.get_mut(at as usize) {
            let (place, next) = (at, open.next);
            at = next;
            // A result that is there until then was no miss of it, and it may still come true.
            if there && now_us < open.from_us {
                open.next = left;
                left = place;
                continue;
            }
            let Some(open) = self.close(place) else { continue };
            if !there {
                let early_us = now_us.saturating_sub(open.made_us) as f64;
                let gone = (number + 1 - open.made) as f64 > stays;
                let gain =
                    if gone || over(&open, number, now_us) { 0.0 } else { (early_us / compute_us.max(1.0)).min(1.0) };
                self.resolve(open.source, open.grade, gain);
            }
        }
        if left != NONE {
            self.heads.insert(hash, left);
        }
        for _ in 0..SWEEP.min(self.open.len()) {
            self.hand = (self.hand + 1) % self.open.len();
            let open = self.open[self.hand];
            if open.live && over(&open, number, now_us) {
                self.unlink(self.hand as u32, open.hash, open.next);
                self.close(self.hand as u32);
                self.resolve(open.source, open.grade, 0.0);
            }
        }
    }

    fn unlink(&mut self, place: u32, hash: u64, next: u32) {
        let Some(head) = self.heads.get_mut(&hash) else { return };
        if *head == place {
            if next == NONE {
                self.heads.remove(&hash);
            } else {
                *head = next;
            }
            return;
        }
        let mut at = *head;
        while let Some(open) = self.open.get_mut(at as usize) {
            if open.next == place {
                open.next = next;
                return;
            }
            at = open.next;
        }
    }

    /// A result that was computed on account of a grade was lost before it was asked for.
    pub fn lost(&mut self, hash: u64, source: Source, grade: u8) {
        let mut at = self.heads.get(&hash).copied().unwrap_or(NONE);
        while let Some(open) = self.open.get(at as usize).copied() {
            if open.source == source && open.grade == grade {
                self.unlink(at, hash, open.next);
                self.close(at);
                break;
            }
            at = open.next;
        }
        self.resolve(source, grade, 0.0);
    }

    /// The gain that can be expected of a grade that has something to say, where it is trusted.
    pub fn trusted(&mut self, source: Source, grade: u8, number: u64) -> Option<f64> {
        let break_even = self.break_even;
        let [grade, source] = self.records(source, grade);
        let gain = grade.judge(source, number, break_even);
        grade.said = number;
        grade.trusted.then_some(gain)
    }

    /// Whether any grade of a source is trusted and has had something to say lately.
    pub fn is_on(&self, source: Source, number: u64) -> bool {
        let whole = &self.sources[source.index()];
        self.grades[source.index()].iter().any(|grade| {
            let mut grade = *grade;
            grade.judge(whole, number, self.break_even);
            grade.trusted && grade.said > 0 && number <= grade.said + QUIET_CALLS
        })
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.open.capacity() * size_of::<Open>()
            + self.free.capacity() * size_of::<u32>()
            + self.heads.capacity() * (size_of::<(u64, u32)>() + 1)
    }
}

fn over(open: &Open, number: u64, now_us: u64) -> bool {
    number > open.made + u64::from(open.calls) || now_us > open.until_us
}
