//! The state of a helper instance as people see it: what was ordered (administration) and what is seen (its replicas). Pure.

use raas_core::TimestampUs;

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// No replica was started yet.
    Created,
    /// A replica is being started and none is ready.
    Starting,
    /// A replica is ready.
    Ready,
    /// Nothing runs because nothing is asked; the next call wakes it.
    Suspended,
    /// Stopping by order: what runs is finished.
    Draining,
    /// Stopped by order: calls are refused.
    Stopped,
    /// The last start failed and nothing runs.
    Failed,
}

impl InstanceState {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// What was ordered of an instance; survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// It serves.
    Serving,
    /// It takes no calls; what runs is finished.
    Stopped,
}

/// What is seen of an instance's replicas at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// Replicas that take calls.
    pub ready: usize,
    /// Replicas being started.
    pub starting: u32,
    /// Replicas that finish their calls and take no more.
    pub draining: usize,
    /// Why the last start failed, where no start has succeeded since.
    pub failure: Option<String>,
}

/// An instance's state with its reason, and since when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The state.
    pub state: InstanceState,
    /// Why, for people.
    pub reason: String,
    /// Since when.
    pub since: TimestampUs,
}

impl Observed {
    /// An instance that was just made.
    pub fn created(now: TimestampUs) -> Self {
        Self { state: InstanceState::Created, reason: "no replica was started yet".into(), since: now }
    }

    /// Takes a look into account. Keeps `since` while the state stays the same.
    pub fn look(&mut self, admin: AdminState, seen: &Observation, now: TimestampUs) {
        let (state, reason) = self.next(admin, seen);
        if state != self.state {
            self.state = state;
            self.since = now;
        }
        self.reason = reason;
    }

    fn next(&self, admin: AdminState, seen: &Observation) -> (InstanceState, String) {
        match (admin, seen) {
            (AdminState::Stopped, seen) if seen.ready + seen.draining > 0 => (
                InstanceState::Draining,
                format!("by order; {} replicas finish their calls", seen.ready + seen.draining),
            ),
            (AdminState::Stopped, _) => (InstanceState::Stopped, "by order".into()),
            (_, seen) if seen.ready > 0 => (InstanceState::Ready, format!("{} ready", replicas(seen.ready))),
            (_, seen) if seen.starting > 0 => {
                (InstanceState::Starting, format!("{} starting", replicas(seen.starting as usize)))
            }
            (_, Observation { failure: Some(failure), .. }) => (InstanceState::Failed, failure.clone()),
            _ if self.state == InstanceState::Created => (InstanceState::Created, self.reason.clone()),
            _ => (InstanceState::Suspended, "idle; the next call wakes it".into()),
        }
    }
}

fn replicas(count: usize) -> String {
    if count == 1 { "1 replica is".into() } else { format!("{count} replicas are") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: i64) -> TimestampUs {
        TimestampUs::from_micros(us)
    }

    #[test]
    fn the_state_follows_what_is_seen_and_since_when_only_moves_with_it() {
        let mut observed = Observed::created(at(1));
        let mut look = |admin, seen: Observation, now| {
            observed.look(admin, &seen, at(now));
            (observed.state, observed.since.as_micros())
        };
        use AdminState::{Serving, Stopped};
        let ready = || Observation { ready: 1, ..Observation::default() };
        assert_eq!(look(Serving, Observation::default(), 2), (InstanceState::Created, 1));
        assert_eq!(
            look(Serving, Observation { starting: 1, ..Observation::default() }, 3),
            (InstanceState::Starting, 3)
        );
        assert_eq!(look(Serving, ready(), 4), (InstanceState::Ready, 4));
        assert_eq!(look(Serving, ready(), 5), (InstanceState::Ready, 4));
        assert_eq!(look(Serving, Observation::default(), 6), (InstanceState::Suspended, 6));
        let failed = Observation { failure: Some("no model".into()), ..Observation::default() };
        assert_eq!(look(Serving, failed, 7), (InstanceState::Failed, 7));
        assert_eq!(look(Stopped, ready(), 8), (InstanceState::Draining, 8));
        assert_eq!(look(Stopped, Observation::default(), 9), (InstanceState::Stopped, 9));
    }
}
