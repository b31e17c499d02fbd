//! A circuit breaker for one replica: one that answers nothing in time again and again is left alone for a while, then asked
//! once, and in the end replaced. Pure; M. Nygard, "Release It!" (2007), chapter 5.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES_TO_OPEN: u32 = 3;

/// How long it stays open the first time; doubled by each further one.
const OPEN_FOR: Duration = Duration::from_secs(1);

/// Openings in a row after which the replica is to be replaced.
const OPENINGS_MAX: u32 = 3;

/// A replica's record.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    failures: u32,
    openings: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether the replica may be given another call, when it has so many: all it can take while it is closed, one to try it
    /// with once it has been open for its time.
    pub fn admits(&self, in_flight: u32, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) => now >= until && in_flight == 0,
        }
    }

    /// Notes how a call ended. Returns whether the replica is to be replaced.
    pub fn record(&mut self, answered: bool, now: Instant) -> bool {
        if answered {
            *self = Self::default();
            return false;
        }
        self.failures += 1;
        // The one call that tries an open one decides by itself.
        if self.open_until.is_some_and(|until| now >= until) || self.failures == FAILURES_TO_OPEN {
            self.openings += 1;
            self.open_until = Some(now + OPEN_FOR * 2u32.saturating_pow(self.openings - 1));
        }
        self.openings >= OPENINGS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_is_tried_once_closes_or_gives_up() {
        let begun = Instant::now();
        let at = |s: f64| begun + Duration::from_secs_f64(s);
        let mut breaker = Breaker::default();
        assert!(!breaker.record(false, at(0.0)) && !breaker.record(false, at(0.0)));
        assert!(breaker.admits(5, at(0.0)), "two failures are no pattern");
        assert!(!breaker.record(false, at(0.0)));
        assert!(!breaker.admits(0, at(0.9)), "open");
        assert!(breaker.admits(0, at(1.0)) && !breaker.admits(1, at(1.0)), "one call tries it");
        assert!(!breaker.record(true, at(1.1)));
        assert!(breaker.admits(5, at(1.1)), "closed");
        for _ in 0..3 {
            breaker.record(false, at(2.0));
        }
        assert!(!breaker.record(false, at(3.0)), "the call that tried it failed");
        assert!(!breaker.admits(0, at(4.9)) && breaker.admits(0, at(5.0)), "open for twice as long");
        assert!(breaker.record(false, at(5.0)), "enough");
    }

    #[test]
    fn failures_of_calls_that_ran_already_do_not_prolong_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let replace = (0..20).any(|_| breaker.record(false, now));
        assert!(!replace && breaker.admits(0, now + OPEN_FOR));
    }
}
