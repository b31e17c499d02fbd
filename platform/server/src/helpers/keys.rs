//! One writer a key: which replica serves a key's calls, one of them at a time, under a fenced lease.
//!
//! A key stays with the replica that has served it, which may keep what belongs to it in memory. The lease is in the database,
//! so that it holds across gateways; it is prolonged in the middle of its time at the earliest, so that most calls ask nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_core::{Clock, HelperInstanceId, InstanceId, InvocationId, TimestampUs};
use raas_store::{KeyLease, Store};

use crate::scheduler::{CallError, Lease, VersionPool};

/// How long a key is held without a call.
const LEASE_FOR: Duration = Duration::from_secs(10);

/// Less time than this must not be left when a call begins.
const LEFT_AT_LEAST: Duration = Duration::from_secs(5);

/// The shortest wait for another's lease to end.
const WAIT_LEAST: Duration = Duration::from_millis(20);

/// Keys of one instance that are remembered; the ones that are idle longest are forgotten first.
const KEYS_MAX: usize = 100_000;

/// The keys of one instance.
pub struct KeyLeases {
    instance: HelperInstanceId,
    /// What this platform's replicas are called in the database, before their own ids.
    platform: String,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    keys: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Held>>>>,
    /// Calls that run, by their ids: what their commits are held to.
    fences: Mutex<HashMap<InvocationId, (String, u64)>>,
}

/// Who has a key.
#[derive(Default)]
struct Held {
    replica: Option<InstanceId>,
    fence: u64,
    until: TimestampUs,
}

/// A place in the replica that has the key, and the key itself, until this is dropped.
pub struct KeyedLease {
    /// The place.
    pub lease: Lease,
    keys: Arc<KeyLeases>,
    call: InvocationId,
    _turn: tokio::sync::OwnedMutexGuard<Held>,
}

impl Drop for KeyedLease {
    fn drop(&mut self) {
        self.keys.fences.lock().remove(&self.call);
    }
}

impl KeyLeases {
    /// Of an instance nobody has called yet.
    pub fn new(instance: HelperInstanceId, platform: &str, store: Arc<Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let platform = platform.to_owned();
        Arc::new(Self { instance, platform, store, clock, keys: Mutex::default(), fences: Mutex::default() })
    }

    /// Under which key and fence a call that runs was begun.
    pub fn fence_of(&self, call: InvocationId) -> Option<(String, u64)> {
        self.fences.lock().get(&call).cloned()
    }

    /// Waits for the key's turn and for a place in the replica that has it; where none has it, in the one with the fewest
    /// calls, which has it from then on.
    ///
    /// # Errors
    /// [`CallError`]: no place or no turn by `deadline`, or the database does not answer.
    pub async fn acquire(
        self: &Arc<Self>,
        pool: &Arc<VersionPool>,
        key: &str,
        call: InvocationId,
        deadline: Instant,
    ) -> Result<KeyedLease, CallError> {
        let begun = Instant::now();
        let out_of_time =
            || CallError::NoCapacity { waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(0) };
        let turn = tokio::time::timeout_at(deadline.into(), self.entry(key).lock_owned()).await;
        let mut held = turn.map_err(|_| out_of_time())?;
        loop {
            let wanted = held.replica.filter(|_| held.until > self.clock.now());
            let lease = pool.acquire_in(wanted, deadline).await?;
            let replica = lease.instance().id;
            let is_same = held.replica == Some(replica);
            if is_same && held.until > self.clock.now().saturating_add(LEFT_AT_LEAST) {
                return Ok(self.keyed(lease, key, call, held));
            }
            let holder = self.holder(replica);
            // Nothing of the key's runs in the one before: this is its turn.
            let previous = held.replica.filter(|_| !is_same).map(|replica| self.holder(replica));
            let taken = self
                .store
                .helper_key_take(self.instance, key, &holder, previous.as_deref(), LEASE_FOR, self.clock.now())
                .await;
            match taken {
                Ok(KeyLease::Held { fence, until }) => {
                    *held = Held { replica: Some(replica), fence, until };
                    return Ok(self.keyed(lease, key, call, held));
                }
                Ok(KeyLease::Taken { until }) => {
                    drop(lease);
                    let left_us = u64::try_from(until.as_micros() - self.clock.now().as_micros()).unwrap_or(0);
                    let wait = Duration::from_micros(left_us).max(WAIT_LEAST);
                    if Instant::now() + wait > deadline {
                        return Err(out_of_time());
                    }
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    return Err(CallError::Sandbox { began: false, detail: format!("no lease on the key: {error}") });
                }
            }
        }
    }

    fn keyed(
        self: &Arc<Self>,
        lease: Lease,
        key: &str,
        call: InvocationId,
        turn: tokio::sync::OwnedMutexGuard<Held>,
    ) -> KeyedLease {
        self.fences.lock().insert(call, (key.to_owned(), turn.fence));
        KeyedLease { lease, keys: Arc::clone(self), call, _turn: turn }
    }

    fn holder(&self, replica: InstanceId) -> String {
        format!("{}/{replica}", self.platform)
    }

    fn entry(&self, key: &str) -> Arc<tokio::sync::Mutex<Held>> {
        let mut keys = self.keys.lock();
        if keys.len() >= KEYS_MAX && !keys.contains_key(key) {
            let now = self.clock.now();
            // What somebody has taken and not locked yet is in use, too.
            keys.retain(|_, entry| {
                Arc::strong_count(entry) > 1 || entry.try_lock().map_or(true, |held| held.until > now)
            });
        }
        Arc::clone(keys.entry(key.to_owned()).or_default())
    }
}
