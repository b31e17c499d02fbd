//! A kept result, and whether it may be handed out at a moment.
//!
//! Pure: time and chance are passed in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use raas_core::{FunctionId, Tag, TenantId, TimestampUs};

/// How far ahead of now a result may say it was made: another machine's clock may be a little ahead. One from further ahead was
/// made before the clock was set back, and nobody can tell how old it is.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// The part of its time for which a result may be refreshed early, at most: bounds how many computations early refreshes add.
const EARLY_PART: u64 = 16;

/// What a kept result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// The JSON text that is the answer's body.
    Value,
    /// An error that the function's author wants kept, in whatever form the caller of this crate wrote it.
    Error,
}

/// A result as kept: immutable, shared by everyone who is handed it.
#[derive(Debug)]
pub struct StoredResult {
    /// What it is.
    pub kind: ResultKind,
    /// Its bytes.
    pub body: Bytes,
    /// Whose function computed it.
    pub tenant: TenantId,
    /// Which function, for purging.
    pub function: FunctionId,
    /// Which version of it.
    pub version: u32,
    /// What computing it took, microseconds.
    pub compute_us: u64,
    /// By what it can be dropped.
    pub tags: Box<[Tag]>,
    /// When its computation began: what was purged after that must not be kept.
    pub began_at: TimestampUs,
    /// When it was computed.
    pub stored_at: TimestampUs,
    /// Until when it is what a computation would give.
    pub fresh_until: TimestampUs,
    /// Until when it is handed out while a fresh one is computed.
    pub stale_until: TimestampUs,
    /// Until when it is handed out where no fresh one can be had.
    pub on_error_until: TimestampUs,
    /// Whether it was computed before anybody asked, and nobody has yet.
    pub unasked: AtomicBool,
}

/// What may be done with a kept result, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Hand it out.
    Fresh,
    /// Hand it out, and compute it anew before it is too old.
    RefreshEarly,
    /// It is too old, but may be handed out while it is computed anew.
    Stale,
    /// It may be handed out if it cannot be computed anew.
    OnError,
}

impl StoredResult {
    /// What may be done with it at `now`; nothing where it is past all its times.
    ///
    /// `draw` is asked for a number between 0 and 1, only where chance decides: a result is refreshed early with a probability
    /// that grows towards its end and with what computing it takes, so that of many callers one begins in time (XFetch;
    /// Vattani, Chierichetti and Lowenstein, VLDB 2015, with beta = 1). Not earlier than in the last sixteenth of its time:
    /// computations longer than that would else follow each other without end.
    pub fn standing(&self, now: TimestampUs, draw: impl FnOnce() -> f64) -> Option<Standing> {
        if self.is_of_unknown_age(now) {
            return None;
        }
        if now < self.fresh_until {
            let left_us = self.fresh_until.since(now).as_micros() as u64;
            let whole_us = self.fresh_until.since(self.stored_at).as_micros() as u64;
            if left_us > whole_us / EARLY_PART {
                return Some(Standing::Fresh);
            }
            let ahead_us = self.compute_us as f64 * -draw().max(f64::MIN_POSITIVE).ln();
            return Some(if ahead_us >= left_us as f64 { Standing::RefreshEarly } else { Standing::Fresh });
        }
        if now < self.stale_until {
            return Some(Standing::Stale);
        }
        (now < self.on_error_until).then_some(Standing::OnError)
    }

    /// Whether the clock has been set back since it was made: not even when the clock comes to its times can anybody tell how
    /// old it is.
    pub fn is_of_unknown_age(&self, now: TimestampUs) -> bool {
        self.stored_at > now.saturating_add(CLOCK_SLACK)
    }

    /// Until when there is any use in keeping it.
    pub fn keep_until(&self) -> TimestampUs {
        self.fresh_until.max(self.stale_until).max(self.on_error_until)
    }

    /// Whether this is the first time that a result which nobody had asked for is.
    pub fn first_asked(&self) -> bool {
        self.unasked.load(Ordering::Relaxed) && self.unasked.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: i64 = 1_000_000;

    /// A result of that many bytes, made at second 100 for 16 seconds, then 10 while it is computed and 100 on errors.
    pub(crate) fn result(function: u8, bytes: usize, compute_us: u64) -> StoredResult {
        StoredResult {
            kind: ResultKind::Value,
            body: vec![b'x'; bytes].into(),
            tenant: TenantId::from_bytes([9; 16]),
            function: FunctionId::from_bytes([function; 16]),
            version: 1,
            compute_us,
            tags: Box::default(),
            began_at: TimestampUs(99 * S),
            stored_at: TimestampUs(100 * S),
            fresh_until: TimestampUs(116 * S),
            stale_until: TimestampUs(126 * S),
            on_error_until: TimestampUs(216 * S),
            unasked: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_result_goes_from_fresh_to_gone() {
        let result = result(1, 1, 0);
        let at = |s: i64| result.standing(TimestampUs(s * S), || 0.5);
        assert_eq!((at(100), at(115)), (Some(Standing::Fresh), Some(Standing::Fresh)));
        assert_eq!((at(116), at(125)), (Some(Standing::Stale), Some(Standing::Stale)));
        assert_eq!((at(126), at(215)), (Some(Standing::OnError), Some(Standing::OnError)));
        assert_eq!(at(216), None);
        assert_eq!(at(98), None, "the clock was set back: how old it is cannot be told");
    }

    #[test]
    fn the_nearer_the_end_and_the_dearer_the_likelier_an_early_refresh() {
        let refreshed = |compute_us, left_us: i64| {
            let result = result(1, 1, compute_us);
            let draws = (0..1000).map(|draw| (f64::from(draw) + 0.5) / 1000.0);
            let now = TimestampUs(result.fresh_until.0 - left_us);
            draws.filter(|draw| result.standing(now, || *draw) == Some(Standing::RefreshEarly)).count()
        };
        // The probability is exp(-left / compute time).
        assert!((360..=376).contains(&refreshed(100_000, 100_000)), "{}", refreshed(100_000, 100_000));
        assert!((130..=140).contains(&refreshed(100_000, 200_000)));
        assert_eq!(refreshed(1_000, 100_000), 0);
        assert_eq!(refreshed(60_000_000, 1_100_000), 0, "before its last sixteenth it never is");
    }

    #[test]
    fn what_nobody_asked_for_is_first_asked_for_once() {
        let mut result = result(1, 1, 0);
        assert!(!result.first_asked());
        result.unasked = AtomicBool::new(true);
        assert!(result.first_asked() && !result.first_asked());
    }
}
