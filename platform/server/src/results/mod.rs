//! The result store of this platform: put together of the settings, looked after, and kept in step with platforms beside it.
//!
//! What is kept where and for how long is the results crate's; how a result comes about is `invoke`'s.

mod database_tier;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use raas_results::{
    LowerTier, MemoryPolicy, MemoryTierOptions, RedisTier, ResultStore, ResultStoreOptions, Sealer, TierWriter,
};
use raas_store::{Backend, Store};

use crate::platform::write_private;
use crate::settings::{ResultPolicy, Settings};
pub use database_tier::DatabaseTier;
pub use upkeep::upkeep;

/// Under what platforms on one database share the key that seals results.
const SECRET: &str = "results";

/// The store that the settings describe, what must run for it to be written to, and its database tier.
///
/// # Errors
/// The Redis URL is none, the key cannot be had, or the database does not answer.
pub async fn open(
    settings: &Settings,
    data: &Path,
    store: &Arc<Store>,
) -> anyhow::Result<(ResultStore, Vec<TierWriter>, Option<Arc<DatabaseTier>>)> {
    let redis = match settings.redis_url.as_str() {
        "" => None,
        url => Some(RedisTier::new(url).context("redis_url cannot be used")?),
    };
    let database = match settings.results.database_mb {
        0 => None,
        megabytes => Some(Arc::new(DatabaseTier::open(Arc::clone(store), u64::from(megabytes) << 20).await?)),
    };
    let options = ResultStoreOptions {
        memory: MemoryTierOptions {
            capacity_bytes: u64::from(settings.results.memory_mb) << 20,
            entry_max_bytes: (settings.results.entry_max_kb as usize) << 10,
            policy: match settings.results.policy {
                ResultPolicy::Cost => MemoryPolicy::Cost,
                ResultPolicy::Moka => MemoryPolicy::Moka,
            },
        },
        sealer: Sealer::new(sealing_key(settings, data, store).await?),
        redis,
        database: database.clone().map(|tier| tier as Arc<dyn LowerTier>),
    };
    let (results, writers) = ResultStore::new(options);
    Ok((results, writers, database))
}

/// The key that seals results outside the process: that of the file in the settings; else, on a database that platforms may
/// share, the one they share; else one beside the database, in a file of its own.
async fn sealing_key(settings: &Settings, data: &Path, store: &Store) -> anyhow::Result<[u8; 32]> {
    let own = data.join("results.key");
    let fresh = || -> anyhow::Result<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| anyhow::anyhow!("no randomness for the key of results: {error}"))?;
        Ok(hex::encode(bytes))
    };
    let read = |file: &Path| {
        std::fs::read_to_string(file).with_context(|| format!("the key of results, {}, cannot be read", file.display()))
    };
    let text = if !settings.results.key_file.as_os_str().is_empty() {
        read(&settings.results.key_file)?
    } else if store.backend() == Backend::Postgres {
        store.shared_secret(SECRET, &fresh()?).await.context("the key of results cannot be read from the database")?
    } else if own.exists() {
        read(&own)?
    } else {
        let text = fresh()?;
        write_private(&own, &text).context("the key of results cannot be written")?;
        text
    };
    let mut key = [0; 32];
    hex::decode_to_slice(text.trim(), &mut key)
        .context("the key of results must be 64 hexadecimal digits, such as `openssl rand -hex 32` prints")?;
    Ok(key)
}
