//! Strides: one number, date, time or numbered text moves in equal steps while every other field stays.
//!
//! As processors prefetch: streams that are told apart by what they do, not by who asks (Jouppi, ISCA 1990), each with its step,
//! confirmed before it is believed (Chen and Baer, IEEE Transactions on Computers 44(5), 1995), and read further ahead the longer
//! it has been right. Events that agree in all fields but one are a lane of that field; a lane holds several streams, for calls
//! of several callers come mixed. A stream begins with two equal steps among the lane's last values, or with one, where a longer
//! stream of the same field has shown that step before. Dates also step by calendar months.

use std::hash::{BuildHasher, DefaultHasher, Hasher};

use super::arguments::{Arguments, FixedHasher};
use super::numbered::Numbered;
use super::proposal::{Proposal, Proposals, Seen, Source};
use super::scalar::{Kind, Scalar, hash_scalar};

/// Lanes at most; the one that was used longest ago goes first.
const LANES_MAX: usize = 128;
/// Values that may be the first of a lane: one to a place, by hash, a later one instead of an earlier one. A lane begins with the
/// second value, so that fields that stay the same have none.
const FIRSTS_MAX: usize = 1_024;
/// Fields of one event that are looked at.
const FIELDS_MAX: usize = 8;
/// Values of a lane that a new stream can begin with.
const RECENT: usize = 12;
/// Streams of a lane at most.
const STREAMS_MAX: usize = 12;
/// Fields whose steps are remembered, and steps of each.
const HABITS_MAX: usize = 32;
const HABIT_STEPS: usize = 4;
/// A stream of so many equal steps makes its step one of the field's habits.
const HABIT_RUN: u32 = 3;
/// Steps ahead at most.
const AHEAD_MAX: u32 = 16;
/// Calls within which a step must be asked for: so many times those from one value of its lane to the next, within these bounds.
const PATIENCE: u32 = 4;
const CALLS_MIN: u32 = 48;
const CALLS_MAX: u32 = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    By(i64),
    Months(i32),
}

impl Step {
    fn from(self, kind: &Kind, position: i64, times: u32) -> Option<i64> {
        match (self, kind) {
            (Self::By(by), Kind::Moment(layout)) => layout.advance(position, by.checked_mul(i64::from(times))?),
            (Self::By(by), _) => position.checked_add(by.checked_mul(i64::from(times))?),
            (Self::Months(months), Kind::Moment(layout)) => {
                layout.advance_months(position, months.checked_mul(i32::try_from(times).ok()?)?)
            }
            (Self::Months(_), _) => None,
        }
    }
}

struct Stream {
    last: i64,
    /// Where it goes next.
    next: Option<i64>,
    step: Step,
    /// Equal steps so far.
    run: u32,
    used: u64,
}

struct Lane {
    key: u64,
    used: u64,
    /// The last values, newest first.
    recent: Vec<i64>,
    /// The call of the newest, and calls from value to value, smoothed.
    last: u64,
    gap: u64,
    streams: Vec<Stream>,
}

/// The steps that streams of a field have had.
struct Habits {
    key: u64,
    used: u64,
    /// Steps, the latest first.
    steps: Vec<Step>,
}

/// What may be the first value of a lane.
#[derive(Debug, Clone, Copy, Default)]
struct First {
    lane: u64,
    value: i64,
    number: u64,
}

pub(super) struct Stride {
    lanes: Vec<Lane>,
    firsts: Box<[First]>,
    habits: Vec<Habits>,
}

impl Default for Stride {
    fn default() -> Self {
        Self { lanes: Vec::new(), firsts: vec![First::default(); FIRSTS_MAX].into(), habits: Vec::new() }
    }
}

impl Stride {
    pub fn observe(&mut self, seen: &Seen<'_>, out: &mut Proposals) {
        let Some((shape, scalars)) = seen.arguments.fields() else { return };
        let hashes: Vec<u64> = scalars.iter().enumerate().map(|(index, scalar)| field_hash(index, scalar)).collect();
        let all = hashes.iter().fold(shape.hash(), |all, hash| all ^ hash);
        let mut looked_at = 0;
        for (index, (kind, scalar)) in shape.kinds().iter().zip(scalars).enumerate() {
            let numbered = if let Scalar::Text(text) = scalar { Numbered::read(text) } else { None };
            let Some(position) = kind.position(scalar).or(numbered.map(|(_, number)| number)) else { continue };
            looked_at += 1;
            if looked_at > FIELDS_MAX {
                return;
            }
            let field = shape.hash() ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut lane = all ^ hashes[index] ^ field.rotate_left(17);
            if let Some((around, _)) = numbered {
                lane ^= FixedHasher::default().hash_one(around);
            }
            self.step(lane, field, kind, position, seen.number, |position, run, distance, calls| {
                let mut changed = scalars.to_vec();
                changed[index] = match numbered {
                    Some((around, _)) => Scalar::Text(around.write(position)?.into()),
                    None => kind.scalar(position)?,
                };
                out.push(Proposal {
                    arguments: Arguments::of_scalars(shape, changed),
                    source: Source::Stride,
                    grade: grade(run, distance),
                    calls,
                    until_us: u64::MAX,
                    from_us: 0,
                });
                Some(())
            });
        }
    }

    fn step(
        &mut self,
        lane: u64,
        field: u64,
        kind: &Kind,
        position: i64,
        number: u64,
        mut propose: impl FnMut(i64, u32, u32, u32) -> Option<()>,
    ) {
        let habits = find(
            &mut self.habits,
            field,
            number,
            HABITS_MAX,
            |habits| (&habits.key, &mut habits.used),
            || Habits { key: field, used: number, steps: Vec::new() },
        );
        let first = &mut self.firsts[lane as usize % FIRSTS_MAX];
        if !self.lanes.iter().any(|known| known.key == lane) && (first.lane != lane || first.value == position) {
            *first = First { lane, value: position, number };
            return;
        }
        let before = *first;
        let lane = find(
            &mut self.lanes,
            lane,
            number,
            LANES_MAX,
            |lane| (&lane.key, &mut lane.used),
            || Lane {
                key: lane,
                used: number,
                recent: vec![before.value],
                last: before.number,
                gap: 0,
                streams: Vec::new(),
            },
        );
        let (Some(habits), Some(lane)) = (habits, lane) else { return };
        let Some(at) = lane.observe(kind, position, number, &habits.steps) else { return };
        let stream = &lane.streams[at];
        if stream.run == HABIT_RUN {
            habits.steps.retain(|step| *step != stream.step);
            habits.steps.insert(0, stream.step);
            habits.steps.truncate(HABIT_STEPS);
        }
        let calls = lane.calls();
        let ahead = (stream.run * 2).min(AHEAD_MAX);
        for distance in 1..=ahead {
            // Each call moves all by one: what was named before is named again only where its prospects have changed.
            let named = stream.run > 2 && !matches!(distance, 1 | 3) && distance + 2 <= ahead;
            if !named
                && let Some(to) = stream.step.from(kind, position, distance)
                && propose(to, stream.run, distance, calls).is_none()
            {
                break;
            }
        }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let lane = |lane: &Lane| {
            size_of::<Lane>()
                + lane.recent.capacity() * size_of::<i64>()
                + lane.streams.capacity() * size_of::<Stream>()
        };
        let habits = |habits: &Habits| size_of::<Habits>() + habits.steps.capacity() * size_of::<Step>();
        FIRSTS_MAX * size_of::<First>()
            + self.lanes.iter().map(lane).sum::<usize>()
            + self.habits.iter().map(habits).sum::<usize>()
    }
}

impl Lane {
    /// Calls within which a step ahead must be asked for.
    fn calls(&self) -> u32 {
        u32::try_from(self.gap).unwrap_or(u32::MAX).saturating_mul(PATIENCE).clamp(CALLS_MIN, CALLS_MAX)
    }

    /// Takes a value in. Returns the stream that it belongs to, if there is one.
    fn observe(&mut self, kind: &Kind, position: i64, number: u64, habits: &[Step]) -> Option<usize> {
        if self.recent.first() == Some(&position) {
            return None;
        }
        let gap = number - self.last;
        self.gap = if self.gap == 0 { gap } else { (self.gap * 3 + gap).div_ceil(4) };
        self.last = number;
        let going = (0..self.streams.len()).filter(|at| self.streams[*at].next == Some(position));
        let at = match going.max_by_key(|at| self.streams[*at].run) {
            Some(at) => {
                let stream = &mut self.streams[at];
                (stream.last, stream.used) = (position, number);
                stream.run = stream.run.saturating_add(1);
                stream.next = stream.step.from(kind, position, 1);
                Some(at)
            }
            None if self.recent.contains(&position) => None,
            None => self.begin(kind, position, habits).map(|(step, run)| {
                let stream = Stream { last: position, next: step.from(kind, position, 1), step, run, used: number };
                // One that is where this one is, going the same way, is the same one.
                let same = |old: &Stream| old.step == step && old.next == stream.next;
                let worst = |(_, old): &(usize, &Stream)| (old.run.min(8), old.used);
                match self.streams.iter().position(same) {
                    Some(at) => self.streams[at] = stream,
                    None if self.streams.len() < STREAMS_MAX => self.streams.push(stream),
                    None => {
                        let at = self.streams.iter().enumerate().min_by_key(worst).map_or(0, |(at, _)| at);
                        // Long streams that have gone quiet do not keep new ones out for ever.
                        self.streams.iter_mut().for_each(|stream| stream.run -= stream.run / 8);
                        self.streams[at] = stream;
                        return at;
                    }
                }
                self.streams.iter().position(same_as(position, step)).unwrap_or(0)
            }),
        };
        self.recent.insert(0, position);
        self.recent.truncate(RECENT);
        at
    }

    /// The step of a stream that this value begins, and how many equal steps there have been.
    fn begin(&self, kind: &Kind, position: i64, habits: &[Step]) -> Option<(Step, u32)> {
        // Months first: three dates of one day of the month are hardly so many days apart by chance.
        if let Kind::Moment(layout) = kind {
            for (index, before) in self.recent.iter().enumerate() {
                let older = &self.recent[index + 1..];
                if let Some(months) = layout.months_between(*before, position)
                    && older.iter().any(|first| layout.advance_months(*first, months) == Some(*before))
                {
                    return Some((Step::Months(months), 2));
                }
            }
        }
        for (index, before) in self.recent.iter().enumerate() {
            let older = &self.recent[index + 1..];
            if let Some(by) = position.checked_sub(*before)
                && before.checked_sub(by).is_some_and(|first| older.contains(&first))
            {
                return Some((Step::By(by), 2));
            }
        }
        let begun = |step: &&Step| self.recent.iter().any(|before| step.from(kind, *before, 1) == Some(position));
        habits.iter().find(begun).map(|step| (*step, 1))
    }
}

fn same_as(last: i64, step: Step) -> impl Fn(&Stream) -> bool {
    move |stream| stream.last == last && stream.step == step
}

/// The one of a key; else a new one, in the place of the one that was used longest ago where there are as many as may be.
fn find<T>(
    list: &mut Vec<T>,
    key: u64,
    number: u64,
    most: usize,
    parts: impl Fn(&mut T) -> (&u64, &mut u64),
    new: impl FnOnce() -> T,
) -> Option<&mut T> {
    let (mut at, mut oldest, mut oldest_used) = (None, 0, u64::MAX);
    for (index, one) in list.iter_mut().enumerate() {
        let (found, used) = parts(one);
        if *found == key {
            *used = number;
            at = Some(index);
            break;
        }
        if *used < oldest_used {
            (oldest, oldest_used) = (index, *used);
        }
    }
    let at = match at {
        Some(at) => at,
        None if list.len() < most => {
            list.push(new());
            list.len() - 1
        }
        None => {
            list[oldest] = new();
            oldest
        }
    };
    list.get_mut(at)
}

fn field_hash(index: usize, scalar: &Scalar) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(index);
    hash_scalar(scalar, &mut hasher);
    hasher.finish()
}

/// By equal steps so far (1, 2, 3, 4, 8, 16) and steps ahead (1, 2, 4, 8).
fn grade(run: u32, distance: u32) -> u8 {
    let run = match run {
        0..=3 => run.max(1) - 1,
        4..=7 => 3,
        8..=15 => 4,
        _ => 5,
    };
    (run * 4 + distance.ilog2().min(3)) as u8
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    /// What is proposed after the last of these events, nearest first.
    fn after(events: &[Value]) -> Vec<Value> {
        let (mut stride, mut shapes) = (Stride::default(), Vec::new());
        let mut last = Vec::new();
        for (number, event) in (0..).zip(events) {
            let arguments = Arguments::read(event, &mut shapes, 4);
            let mut out = Proposals::default();
            let seen = Seen { arguments: &arguments, number, now_us: 0, expires_us: u64::MAX };
            stride.observe(&seen, &mut out);
            last = out.drain().map(|proposal| proposal.arguments.event().unwrap()).collect();
        }
        last
    }

    #[test]
    fn steps_up_down_and_between_others_are_found() {
        assert_eq!(after(&[json!(30), json!(23), json!(16)])[..2], [json!(9), json!(2)]);
        // Two callers, one in steps of 1 and one in steps of 100.
        let mixed = [json!(1), json!(500), json!(2), json!(600), json!(3), json!(700)];
        assert_eq!(after(&mixed)[0], json!(800));
        assert_eq!(after(&mixed[..5])[0], json!(4));
        assert_eq!(after(&[json!(1), json!(2)]), Vec::<Value>::new());
        assert_eq!(after(&[json!(0.1), json!(0.2), json!(0.3)])[..2], [json!(0.4), json!(0.5)]);
    }

    #[test]
    fn one_field_moves_and_the_others_stay() {
        let page = |user: &str, page: i64| json!({"user": user, "page": page});
        let events = [page("a", 1), page("b", 7), page("a", 2), page("b", 9), page("a", 3), page("b", 11)];
        assert_eq!(after(&events)[..2], [page("b", 13), page("b", 15)]);
    }

    #[test]
    fn dates_go_over_the_ends_of_months() {
        let day = |text: &str| json!({"day": text});
        assert_eq!(after(&["2026-02-26", "2026-02-27", "2026-02-28"].map(day))[0], day("2026-03-01"));
        let months = after(&["2025-11-30", "2025-12-31", "2026-01-31"].map(day));
        assert_eq!(months[..2], ["2026-02-28", "2026-03-31"].map(day));
        assert_eq!(after(&["23:00", "23:30", "00:00"].map(|text| json!(text))), Vec::<Value>::new());
        assert_eq!(after(&["22:30", "23:00", "23:30"].map(|text| json!(text)))[0], json!("00:00"));
    }

    #[test]
    fn numbered_texts_step_too() {
        let part = |text: &str| json!({"file": text, "lines": 10});
        let parts = after(&["part-0008.csv", "part-0009.csv", "part-0010.csv"].map(part));
        assert_eq!(parts[..2], ["part-0011.csv", "part-0012.csv"].map(part));
        // Down to nothing, and no further.
        assert_eq!(after(&["p4", "p2", "p0"].map(part)), Vec::<Value>::new());
        // Texts that only end alike are no steps of each other.
        assert_eq!(after(&["a1", "b2", "c3"].map(part)), Vec::<Value>::new());
    }

    #[test]
    fn a_step_that_is_a_habit_of_the_field_is_known_at_once() {
        let page = |user: i64, page: i64| json!({"page": page, "user": format!("u{user}")});
        let mut events: Vec<_> = (0..4).map(|at| page(1, at * 10)).collect();
        events.extend([page(2, 500), page(2, 510)]);
        assert_eq!(after(&events)[0], page(2, 520));
    }

    #[test]
    fn the_ends_of_the_number_line_are_no_trouble() {
        assert!(after(&[i64::MAX - 2, i64::MAX - 1, i64::MAX].map(|number| json!(number))).is_empty());
        after(&[i64::MIN, i64::MAX, 0, i64::MIN, -1].map(|number| json!(number)));
        assert!(after(&["9999-12-29", "9999-12-30", "9999-12-31"].map(|text| json!(text))).is_empty());
    }

    #[test]
    fn lanes_and_streams_are_bounded() {
        let (mut stride, mut shapes) = (Stride::default(), Vec::new());
        for number in 0..5_000u64 {
            let event = json!({"a": number * number % 7_919, "b": number * 31 % 1_009, "c": number % 3});
            let arguments = Arguments::read(&event, &mut shapes, 4);
            let seen = Seen { arguments: &arguments, number, now_us: 0, expires_us: u64::MAX };
            stride.observe(&seen, &mut Proposals::default());
        }
        assert!(stride.lanes.len() <= LANES_MAX && stride.lanes.iter().all(|lane| lane.streams.len() <= STREAMS_MAX));
        assert!(stride.bytes() < 160 * 1024, "{}", stride.bytes());
    }
}
