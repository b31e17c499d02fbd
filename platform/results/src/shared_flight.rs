//! One execution for concurrent calls of one key over several platforms: who holds the key's lease in Redis computes, the
//! others wait for the result to lie there.
//!
//! A lease ends by itself, so that nobody waits for a platform that is gone; its holder prolongs it while it computes. Redis is
//! never needed: without it every platform computes for itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raas_core::{Clock, ResultKey};
use tokio::task::AbortHandle;

use crate::result::{Standing, StoredResult};
use crate::store::{ResultStore, Sought};
use crate::tiers::{GuardedTier, RedisTier};

/// How long a lease lasts when nobody prolongs it.
const HOLD: Duration = Duration::from_secs(3);

/// How often its holder does.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How soon those who wait look first …
const LOOK_FIRST: Duration = Duration::from_millis(2);

/// … and how often at least; in between it doubles.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a platform became.
pub enum SharedFlight {
    /// It computes for all: it must call [`SharedLease::land`].
    Leader(SharedLease),
    /// Another has computed it.
    Landed(Arc<StoredResult>),
    /// It computes for itself: nothing is shared, or it is not worth it.
    Alone,
}

/// The duty to compute a key for all platforms. Dropped without landing it is given back as well.
pub struct SharedLease {
    redis: Arc<RedisTier>,
    guard: Arc<GuardedTier>,
    key: ResultKey,
    token: [u8; 16],
    renewing: AbortHandle,
    landed: bool,
}

impl ResultStore {
    /// Joins the flight of a key over all platforms, or starts it. Waits for another's result until `until`.
    pub async fn join_shared(&self, sought: &Sought<'_>, clock: &dyn Clock, until: Instant) -> SharedFlight {
        let Some((redis, guard)) = &self.shared else { return SharedFlight::Alone };
        if sought.expected_us.is_some_and(|expected| !guard.is_worth(expected)) {
            return SharedFlight::Alone;
        }
        let mut token = [0; 16];
        if getrandom::fill(&mut token).is_err() {
            return SharedFlight::Alone;
        }
        let mut wait = LOOK_FIRST;
        while Instant::now() < until {
            let Some(leads) = guard.ask(redis.lease(&sought.key, &token, HOLD)).await else { break };
            let lease = leads.then(|| SharedLease::new(redis, guard, sought.key, token));
            // Whoever held the lease before may have landed since this platform looked.
            if let Some((result, Standing::Fresh)) = self.get_from(guard, sought, &sought.key, clock.now()).await {
                return SharedFlight::Landed(result);
            }
            if let Some(lease) = lease {
                return SharedFlight::Leader(lease);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_EVERY);
        }
        SharedFlight::Alone
    }
}

impl SharedLease {
    fn new(redis: &Arc<RedisTier>, guard: &Arc<GuardedTier>, key: ResultKey, token: [u8; 16]) -> Self {
        let renewing = {
            let (redis, guard) = (Arc::clone(redis), Arc::clone(guard));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(RENEW_EVERY).await;
                    if guard.ask(redis.renew(&key, &token, HOLD)).await == Some(false) {
                        // Lost: another platform may compute it, too. Both results are right.
                        return;
                    }
                }
            })
            .abort_handle()
        };
        Self { redis: Arc::clone(redis), guard: Arc::clone(guard), key, token, renewing, landed: false }
    }

    /// Lets the others have the result, where there is one to be had, and gives the lease back.
    pub async fn land(mut self, result: Option<&StoredResult>) {
        if let Some(result) = result {
            self.guard.put_now(&self.key, result).await;
        }
        self.landed = true;
        self.guard.ask(self.redis.release(&self.key, &self.token)).await;
    }
}

impl Drop for SharedLease {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.landed
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (redis, guard, key, token) = (Arc::clone(&self.redis), Arc::clone(&self.guard), self.key, self.token);
            runtime.spawn(async move { guard.ask(redis.release(&key, &token)).await });
        }
    }
}
