//! Recurrence: what is asked for at the same time of the day, or of the same day of the week.
//!
//! A day has slots of a quarter of an hour, a week seven times as many, in UTC. Each slot keeps the few events that were asked for
//! in it in the most days (or weeks); as a slot comes near, those that come often enough are named. This is the seasonal naive
//! forecast (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, section 5.2) with a share of days as its confidence.

use super::events::{Events, short};
use super::proposal::{Proposal, Proposals, Seen, Source, share_class};

const SLOT_US: u64 = 15 * 60 * 1_000_000;
const DAY_SLOTS: u64 = 96;
const WEEK_SLOTS: u64 = 7 * DAY_SLOTS;
/// Events of a slot at most.
const SLOT_EVENTS: usize = 6;
/// Days or weeks in which an event came before it is expected.
const TIMES_MIN: u8 = 2;
/// What comes in fewer of the days is not said.
const SHARE_MIN: f64 = 0.35;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    id: u32,
    /// In how many days it came; 0: the place is free.
    times: u8,
    /// The first day and the last.
    since: u16,
    last: u16,
}

/// Slots that come again.
struct Cycle {
    slots: Vec<[Entry; SLOT_EVENTS]>,
}

impl Cycle {
    fn new(slots: u64) -> Self {
        Self { slots: vec![[Entry::default(); SLOT_EVENTS]; slots as usize] }
    }

    /// Which slot it is, and of which day (or week); days are counted round, for they are only compared.
    fn at(&self, slot: u64) -> (usize, u16) {
        let length = self.slots.len() as u64;
        ((slot % length) as usize, (slot / length) as u16)
    }

    fn observe(&mut self, slot: u64, id: u32) {
        let (index, day) = self.at(slot);
        let entries = &mut self.slots[index];
        if let Some(entry) = entries.iter_mut().find(|entry| entry.times > 0 && entry.id == id) {
            if entry.last != day {
                entry.times = entry.times.saturating_add(1);
                entry.last = day;
            }
            return;
        }
        // In the place of a free one; else of the one that was longest not seen for the days that it has come in.
        let worth = |entry: &&mut Entry| {
            if entry.times == 0 { -1 } else { i32::from(entry.times) * 2 - i32::from(day.wrapping_sub(entry.last)) }
        };
        if let Some(entry) = entries.iter_mut().min_by_key(worth)
            && (entry.times == 0 || entry.last != day)
        {
            *entry = Entry { id, times: 1, since: day, last: day };
        }
    }

    /// What is expected in a slot: event, share of days and how many there were.
    fn expected(&self, slot: u64) -> impl Iterator<Item = (u32, f64, u8)> {
        let (index, day) = self.at(slot);
        self.slots[index].iter().filter_map(move |entry| {
            // Not this day's own, and no share of more than all.
            let days = day.wrapping_sub(entry.since);
            let share = f64::from(entry.times) / f64::from(days.max(1));
            (entry.times >= TIMES_MIN && entry.last != day && share >= SHARE_MIN).then_some((
                entry.id,
                share.min(1.0),
                entry.times,
            ))
        })
    }
}

pub(super) struct Recurrence {
    day: Cycle,
    week: Cycle,
    /// The slots before this one have been looked at.
    looked: u64,
}

impl Recurrence {
    pub fn new() -> Self {
        Self { day: Cycle::new(DAY_SLOTS), week: Cycle::new(WEEK_SLOTS), looked: 0 }
    }

    pub fn observe(&mut self, seen: &Seen<'_>) {
        let (slot, id) = (seen.now_us / SLOT_US, short(seen.arguments.hash()));
        self.day.observe(slot, id);
        self.week.observe(slot, id);
    }

    /// What is expected in the slot that comes next, and in this one where nobody looked before it began.
    pub fn due(&mut self, now_us: u64, events: &Events, out: &mut Proposals) {
        let now = now_us / SLOT_US;
        for slot in self.looked.max(now)..=now + 1 {
            for (cycle, weekly) in [(&self.week, 12), (&self.day, 0)] {
                for (id, share, times) in cycle.expected(slot) {
                    let Some(arguments) = events.get(id) else { continue };
                    out.push(Proposal {
                        arguments: arguments.clone(),
                        source: Source::Recurrence,
                        grade: weekly + share_class(share) * 3 + (times / TIMES_MIN).ilog2().min(2) as u8,
                        calls: u32::MAX,
                        until_us: (slot + 1).saturating_mul(SLOT_US),
                        from_us: slot.saturating_mul(SLOT_US),
                    });
                }
            }
        }
        self.looked = self.looked.max(now + 2);
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        (self.day.slots.len() + self.week.slots.len()) * size_of::<[Entry; SLOT_EVENTS]>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::arguments::Arguments;
    use super::*;
    use serde_json::{Value, json};

    const HOUR_US: u64 = 3_600_000_000;
    const DAY_US: u64 = 24 * HOUR_US;

    struct Clock {
        recurrence: Recurrence,
        events: Events,
    }

    impl Clock {
        fn ask(&mut self, now_us: u64, event: &Value) {
            let arguments = Arguments::read(event, &mut Vec::new(), 1);
            self.events.observe(&arguments);
            self.recurrence.observe(&Seen { arguments: &arguments, number: 0, now_us, expires_us: u64::MAX });
        }

        fn due(&mut self, now_us: u64) -> Vec<Value> {
            let mut out = Proposals::default();
            self.recurrence.due(now_us, &self.events, &mut out);
            out.drain().map(|proposal| proposal.arguments.event().unwrap()).collect()
        }
    }

    #[test]
    fn a_weekly_report_is_expected_on_its_day_alone() {
        let mut clock = Clock { recurrence: Recurrence::new(), events: Events::default() };
        let report = json!({"report": "weekly"});
        // Mondays at nine; the epoch was a Thursday.
        let monday = 4 * DAY_US + 9 * HOUR_US;
        for week in 0..3 {
            clock.ask(monday + week * 7 * DAY_US + 60_000_000, &report);
        }
        assert_eq!(clock.due(monday + 21 * DAY_US - SLOT_US), [report]);
        // Named once, not on Tuesday, and not at ten.
        assert!(clock.due(monday + 21 * DAY_US - SLOT_US / 2).is_empty());
        assert!(clock.due(monday + 21 * DAY_US + HOUR_US).is_empty());
        assert!(clock.due(monday + 22 * DAY_US - SLOT_US).is_empty());
    }

    #[test]
    fn a_daily_one_is_expected_every_day_until_it_stays_away() {
        let mut clock = Clock { recurrence: Recurrence::new(), events: Events::default() };
        let open = json!("opening");
        for day in 0..4 {
            clock.ask(day * DAY_US + 8 * HOUR_US, &open);
        }
        let before = |day: u64| day * DAY_US + 8 * HOUR_US - SLOT_US;
        assert_eq!(clock.due(before(4)), [open]);
        assert!(clock.due(before(20)).is_empty());
    }

    #[test]
    fn a_crowded_slot_keeps_who_comes_every_day() {
        let mut clock = Clock { recurrence: Recurrence::new(), events: Events::default() };
        for day in 0..6 {
            clock.ask(day * DAY_US, &json!("every day"));
            for other in 0..30 {
                clock.ask(day * DAY_US + 1, &json!(day * 100 + other));
            }
        }
        assert_eq!(clock.due(6 * DAY_US), [json!("every day")]);
    }
}
