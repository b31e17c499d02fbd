//! Single flight: of concurrent calls with one key, the first (the leader) computes and the others (followers) wait for it.
//!
//! The table holds a key only while its leader lives. A leader that is dropped without an outcome (it panicked) releases its
//! followers, who then compete anew; so a follower never waits for nobody.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

type Table<K, V> = Mutex<HashMap<K, watch::Receiver<Option<V>>>>;

/// The calls being computed now, by key.
pub struct Flights<K: Eq + Hash + Copy, V: Clone> {
    table: Arc<Table<K, V>>,
}

/// What a caller became.
pub enum Joined<K: Eq + Hash + Copy, V: Clone> {
    /// It is the first: it must compute, then call [`Leader::land`].
    Leader(Leader<K, V>),
    /// Somebody is computing already.
    Follower(Follower<V>),
}

/// The duty to compute one key.
pub struct Leader<K: Eq + Hash + Copy, V: Clone> {
    key: K,
    table: Arc<Table<K, V>>,
    outcome: watch::Sender<Option<V>>,
}

/// A wait for somebody else's outcome.
pub struct Follower<V> {
    outcome: watch::Receiver<Option<V>>,
}

impl<K: Eq + Hash + Copy, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self { table: Arc::default() }
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Flights<K, V> {
    /// Joins the flight of `key`, or starts it.
    pub fn join(&self, key: K) -> Joined<K, V> {
        match self.table.lock().entry(key) {
            Entry::Occupied(entry) => Joined::Follower(Follower { outcome: entry.get().clone() }),
            Entry::Vacant(entry) => {
                let (outcome, receiver) = watch::channel(None);
                entry.insert(receiver);
                Joined::Leader(Leader { key, table: Arc::clone(&self.table), outcome })
            }
        }
    }

    /// How many keys are being computed now.
    pub fn in_flight(&self) -> usize {
        self.table.lock().len()
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Leader<K, V> {
    /// Hands the outcome to every follower and ends the flight. Store the result before this, so that a caller who comes
    /// after the flight finds it.
    pub fn land(self, outcome: V) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Drop for Leader<K, V> {
    fn drop(&mut self) {
        self.table.lock().remove(&self.key);
    }
}

impl<V: Clone> Follower<V> {
    /// Waits for the leader's outcome; `None` when the leader went without one, and the caller may join anew.
    /// Cancel-safe; the caller sets the deadline.
    pub async fn outcome(mut self) -> Option<V> {
        let landed = self.outcome.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn leader(flights: &Flights<u8, u32>, key: u8) -> Leader<u8, u32> {
        match flights.join(key) {
            Joined::Leader(leader) => leader,
            Joined::Follower(_) => panic!("expected to lead"),
        }
    }

    fn follower(flights: &Flights<u8, u32>, key: u8) -> Follower<u32> {
        match flights.join(key) {
            Joined::Follower(follower) => follower,
            Joined::Leader(_) => panic!("expected to follow"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_leaders_outcome_and_the_flight_ends() {
        let flights = Flights::default();
        let first = leader(&flights, 1);
        let (second, third) = (follower(&flights, 1), follower(&flights, 1));
        let _other_key = leader(&flights, 2);
        first.land(7);
        assert_eq!(second.outcome().await, Some(7));
        assert_eq!(third.outcome().await, Some(7));
        let _again = leader(&flights, 1);
        assert_eq!(flights.in_flight(), 2);
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_releases_its_followers() {
        let flights = Flights::default();
        let first = leader(&flights, 1);
        let second = follower(&flights, 1);
        drop(first);
        assert_eq!(second.outcome().await, None);
        let _again = leader(&flights, 1);
    }
}
