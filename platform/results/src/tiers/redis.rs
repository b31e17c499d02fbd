//! The Redis tier: results that several platforms share, and the leases by which one of them computes for all.
//!
//! The only module that knows `redis`. Entries lie under `raas:r:` and the key, with their own time to live; leases under
//! `raas:l:` and the key, holding a token that only their holder knows.

use std::time::Duration;

use futures_util::future::BoxFuture;
use raas_core::ResultKey;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};

use super::{Entry, LowerTier, TierError};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// How long Redis may take to answer; the guard's deadline is shorter for questions.
const RESPONSE_WITHIN: Duration = Duration::from_secs(2);

/// What a question takes before one has been measured, microseconds.
const LATENCY_US: u32 = 300;

/// Deletes the lease if it is still its holder's.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/// Prolongs the lease if it is still its holder's.
const RENEW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end";

/// Results and leases in a Redis.
pub struct RedisTier {
    connection: ConnectionManager,
    release: Script,
    renew: Script,
}

impl RedisTier {
    /// The tier at a URL such as `redis://127.0.0.1:6379/0`. Connects when first asked, and again whenever it must.
    ///
    /// # Errors
    /// The URL is none of Redis'.
    pub fn new(url: &str) -> Result<Self, TierError> {
        let client = Client::open(url).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(RESPONSE_WITHIN))
            // The breaker decides when to try again.
            .set_number_of_retries(0);
        let connection = ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?;
        Ok(Self { connection, release: Script::new(RELEASE), renew: Script::new(RENEW) })
    }

    /// Takes the lease of a key for so long, if nobody has it.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn lease(&self, key: &ResultKey, token: &[u8; 16], hold: Duration) -> Result<bool, TierError> {
        let mut connection = self.connection.clone();
        let taken: Option<String> = redis::cmd("SET")
            .arg(lease_name(key))
            .arg(token)
            .arg("NX")
            .arg("PX")
            .arg(hold.as_millis() as u64)
            .query_async(&mut connection)
            .await
            .map_err(failed)?;
        Ok(taken.is_some())
    }

    /// Keeps a lease for so long from now. Returns whether it is still the holder's.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn renew(&self, key: &ResultKey, token: &[u8; 16], hold: Duration) -> Result<bool, TierError> {
        let mut connection = self.connection.clone();
        let mut call = self.renew.key(lease_name(key));
        let held: i64 =
            call.arg(token).arg(hold.as_millis() as u64).invoke_async(&mut connection).await.map_err(failed)?;
        Ok(held == 1)
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn release(&self, key: &ResultKey, token: &[u8; 16]) -> Result<(), TierError> {
        let mut connection = self.connection.clone();
        let mut call = self.release.key(lease_name(key));
        let _: i64 = call.arg(token).invoke_async(&mut connection).await.map_err(failed)?;
        Ok(())
    }
}

impl LowerTier for RedisTier {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn expected_latency_us(&self) -> u32 {
        LATENCY_US
    }

    fn get<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, TierError>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            redis::cmd("GET").arg(entry_name(key)).query_async(&mut connection).await.map_err(failed)
        })
    }

    fn put(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            let mut pipeline = redis::pipe();
            for entry in &entries {
                let keep_ms = entry.keep_until.since(entry.stored_at).as_millis().max(1) as u64;
                pipeline.cmd("SET").arg(entry_name(&entry.key)).arg(&entry.bytes).arg("PX").arg(keep_ms).ignore();
            }
            pipeline.query_async::<()>(&mut connection).await.map_err(failed)
        })
    }

    fn remove<'a>(&'a self, key: &'a ResultKey) -> BoxFuture<'a, Result<(), TierError>> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            redis::cmd("DEL").arg(entry_name(key)).query_async::<()>(&mut connection).await.map_err(failed)
        })
    }

    fn least_time_left(&self) -> Duration {
        Duration::from_millis(200)
    }
}

fn entry_name(key: &ResultKey) -> String {
    format!("raas:r:{key}")
}

fn lease_name(key: &ResultKey) -> String {
    format!("raas:l:{key}")
}

fn failed(error: RedisError) -> TierError {
    TierError(error.to_string())
}
