//! What keeps the result store in order: trimming the database tier, forgetting old purges, and, on a database that other
//! platforms may share, following their changes.

use std::sync::Arc;
use std::time::Duration;

use raas_core::{TimestampUs, limits};
use raas_store::{Backend, StoreError};
use tokio_util::sync::CancellationToken;

use super::DatabaseTier;
use crate::app::App;

/// How often other platforms' changes are looked for: how long a purge or a deploy made there may take to count here.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// How much earlier than the last one seen a purge may be recorded: clocks differ, and transactions end out of order.
const PURGE_OVERLAP: Duration = Duration::from_secs(60);

/// How often what is known of versions' results is written.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How much clocks of platforms on one database may differ.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// How often the database tier is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Runs until `ended`.
pub async fn upkeep(app: Arc<App>, database: Option<Arc<DatabaseTier>>, ended: CancellationToken) {
    let follow = follow(&app);
    let trim = trim(&app, database.as_deref());
    let save = save(&app);
    tokio::select! {
        () = ended.cancelled() => {}
        _ = async { tokio::join!(follow, trim, save) } => {}
    }
}

async fn trim(app: &App, database: Option<&DatabaseTier>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        let now = app.clock.now();
        app.invoker.results.expire(now);
        if let Some(database) = database
            && let Err(error) = database.trim(now).await
        {
            tracing::warn!(error = %error, "kept results could not be trimmed; trying again");
        }
        // Nothing that began before then can be kept any more.
        let oldest = now.saturating_sub(2 * Duration::from_secs(u64::from(limits::CACHE_TTL_MAX_S)));
        if let Err(error) = app.store.result_purges_sweep(oldest).await {
            tracing::warn!(error = %error, "old purges could not be forgotten; trying again");
        }
    }
}

async fn save(app: &App) {
    loop {
        tokio::time::sleep(SAVE_EVERY).await;
        app.save_known().await;
    }
}

async fn follow(app: &Arc<App>) {
    if app.store.backend() != Backend::Postgres {
        return std::future::pending().await;
    }
    let mut fingerprint = None;
    let mut purged_until = app.clock.now();
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        if let Err(error) = follow_once(app, &mut fingerprint, &mut purged_until).await {
            tracing::warn!(error = %error, "changes of other platforms could not be read; trying again");
        }
    }
}

async fn follow_once(
    app: &Arc<App>,
    fingerprint: &mut Option<String>,
    purged_until: &mut TimestampUs,
) -> Result<(), StoreError> {
    let purges = app.store.result_purges_since(purged_until.saturating_sub(PURGE_OVERLAP)).await?;
    if let Some((_, last)) = purges.last() {
        *purged_until = *last.max(purged_until);
    }
    // Another machine's clock may be behind this one's.
    let purges: Vec<_> = purges.into_iter().map(|(purge, at)| (purge, at.saturating_add(CLOCK_SLACK))).collect();
    app.apply_purges(&purges);
    let proofs = app.store.proofs_since(app.clock.now().saturating_sub(PURGE_OVERLAP)).await?;
    app.routing.proofs.apply(proofs);
    let current = app.store.routing_fingerprint().await?;
    // Also after the first look: something may have changed between loading and looking.
    if fingerprint.as_ref() != Some(&current) {
        app.reload_routing().await?;
        *fingerprint = Some(current);
    }
    Ok(())
}
