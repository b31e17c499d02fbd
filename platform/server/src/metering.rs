//! One usage event for each answered call: into the journal before the answer, from there to the database in batches.
//!
//! The journal is memory-mapped, so an event that was recorded survives a kill of the process; the database's position makes
//! the drain exactly-once. It must not know HTTP or what a call was about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use raas_core::UsageEvent;
use raas_metering::{Journal, JournalError, JournalOptions};
use raas_store::Store;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::settings::MeteringSettings;

/// Events written to the database in one transaction.
const BATCH_EVENTS: usize = 10_000;

/// How long a reader of usage may wait for the journal to be drained.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// The journal and its way to the database.
pub struct Metering {
    journal: Journal<{ UsageEvent::LEN }>,
    store: Arc<Store>,
    drain_every: Duration,
    draining: Mutex<()>,
}

/// The journal has no room: the database has not taken events for too long. Nothing may be answered that cannot be metered.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the metering journal is full")]
pub struct MeteringFull;

impl Metering {
    /// Opens the journal, with what a dead process left in it.
    ///
    /// # Errors
    /// The journal's files cannot be read or made.
    pub fn open(folder: &Path, settings: &MeteringSettings, store: Arc<Store>) -> Result<Self, JournalError> {
        let options = JournalOptions {
            segment_records: u64::from(settings.segment_events),
            max_segments: settings.segments_max as usize,
        };
        let (journal, recovered) = Journal::open(folder, options)?;
        if recovered.damaged > 0 {
            tracing::error!(events = recovered.damaged, "usage events of an earlier run are damaged and lost");
        }
        let drain_every = Duration::from_millis(u64::from(settings.drain_every_ms));
        Ok(Self { journal, store, drain_every, draining: Mutex::new(()) })
    }

    /// Records one answered call. Takes well under a microsecond.
    ///
    /// # Errors
    /// [`MeteringFull`]: the call must not be answered with its result.
    pub fn record(&self, event: &UsageEvent) -> Result<(), MeteringFull> {
        self.journal.append(&event.to_bytes()).map(|_| ()).map_err(|_| MeteringFull)
    }

    /// Events that the database does not have yet.
    pub fn backlog(&self) -> u64 {
        self.journal.backlog_records()
    }

    /// Drains until the platform stops, and once more then.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.drain_every) => {}
                () = stop.cancelled() => break,
            }
            if let Err(error) = self.drain().await {
                tracing::warn!(error = %error, backlog = self.backlog(), "usage events could not be written to the database; they wait in the journal");
            }
        }
    }

    /// Writes all that waits, so that a reader sees every call answered before it asked. Gives up quietly after a few seconds:
    /// what is missing then comes later.
    pub async fn catch_up(&self) {
        match tokio::time::timeout(DRAIN_WITHIN, self.drain()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "usage could not be brought up to date for a reader"),
            Err(_) => tracing::warn!(backlog = self.backlog(), "usage was read before the journal was drained"),
        }
    }

    /// Moves what waits now to the database, batch by batch, and tells how many events that was.
    ///
    /// # Errors
    /// The database does not take them; they stay in the journal.
    pub async fn drain(&self) -> Result<u64, anyhow::Error> {
        let _one_at_a_time = self.draining.lock().await;
        let journal_id = self.journal.id();
        let mut counted = 0;
        let mut position = self.store.usage_position(journal_id).await?;
        loop {
            let batch = self.journal.read_batch(position, BATCH_EVENTS);
            let Some(&(last, _)) = batch.last() else { return Ok(counted) };
            let events = batch
                .iter()
                .filter_map(|(sequence, payload)| match UsageEvent::from_bytes(payload) {
                    Ok(event) => Some((*sequence, event)),
                    Err(error) => {
                        tracing::error!(error = %error, sequence, "a usage event cannot be read and is left out");
                        None
                    }
                })
                .collect::<Vec<_>>();
            counted += self.store.usage_append(journal_id, &events).await?.counted;
            position = last + 1;
            self.journal.release_through(last);
            if batch.len() < BATCH_EVENTS {
                return Ok(counted);
            }
        }
    }
}
