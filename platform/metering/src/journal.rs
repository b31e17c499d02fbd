//! The journal as its users hold it: append from any thread, read and release from the one that drains.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::segment::Segment;
use crate::{JournalFull, Sequence};

/// How long an append waits for a segment that is being made; only when records come faster than the disk allocates.
const SEGMENT_WAIT: Duration = Duration::from_secs(1);

/// How large a journal may grow.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Records in one segment file.
    pub segment_records: u64,
    /// Segment files at once, the one kept ready included; at least 2.
    pub max_segments: usize,
}

impl Default for JournalOptions {
    /// Four million records at most.
    fn default() -> Self {
        Self { segment_records: 65_536, max_segments: 64 }
    }
}

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Records appended or recovered and not yet released.
    pub backlog_records: u64,
    /// Segment files in use, the one kept ready left out.
    pub live_segments: usize,
    /// The limit they count against.
    pub max_segments: usize,
    /// Appends refused because the journal was full.
    pub refused_appends: u64,
    /// Failed attempts to make a segment.
    pub prepare_failures: u64,
    /// Records found damaged, at recovery and since.
    pub damaged_records: u64,
}

/// A bounded, memory-mapped journal of records of `N` bytes. One process holds a folder at a time; within it, share the
/// journal by reference.
pub struct Journal<const N: usize> {
    pub(crate) shared: Arc<Shared<N>>,
    pub(crate) preparer: Option<JoinHandle<()>>,
    /// Locked as long as this lives.
    pub(crate) _lock: File,
}

pub(crate) struct Shared<const N: usize> {
    pub(crate) dir: PathBuf,
    pub(crate) id: Uuid,
    pub(crate) options: JournalOptions,
    /// The segment that takes records: always the last of `line.live`.
    pub(crate) active: ArcSwap<Segment<N>>,
    pub(crate) line: Mutex<Line<N>>,
    /// Wakes the thread that prepares segments.
    pub(crate) wanted: Condvar,
    /// Wakes appends that wait for a segment.
    pub(crate) ready: Condvar,
    pub(crate) refused: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) damaged: AtomicU64,
}

/// The segments in the order of their sequences.
pub(crate) struct Line<const N: usize> {
    pub(crate) live: VecDeque<Arc<Segment<N>>>,
    pub(crate) spare: Option<Arc<Segment<N>>>,
    /// The last attempt to make a segment failed; another follows.
    pub(crate) failing: bool,
    pub(crate) stopping: bool,
    /// Everything below has been released.
    pub(crate) released: Sequence,
}

impl<const N: usize> Journal<N> {
    /// The journal's own identity, kept in its folder: with a sequence it names a record for ever.
    pub fn id(&self) -> Uuid {
        self.shared.id
    }

    /// Keeps a record, from any thread. When this returns a sequence, the record outlives the process. Takes no lock and
    /// makes no system call, except once a segment.
    ///
    /// # Errors
    /// [`JournalFull`] when nothing has been drained for so long that all segments are taken: nothing was kept.
    pub fn append(&self, payload: &[u8; N]) -> Result<Sequence, JournalFull> {
        loop {
            let active = self.shared.active.load();
            if let Some(sequence) = active.append(payload) {
                return Ok(sequence);
            }
            let number = active.number;
            drop(active);
            self.shared.roll(number).inspect_err(|_| {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
            })?;
        }
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> JournalStats {
        let line = self.shared.line.lock();
        JournalStats {
            backlog_records: line.live.iter().map(|segment| segment.records_from(line.released)).sum(),
            live_segments: line.live.len(),
            max_segments: self.shared.options.max_segments,
            refused_appends: self.shared.refused.load(Ordering::Relaxed),
            prepare_failures: self.shared.failures.load(Ordering::Relaxed),
            damaged_records: self.shared.damaged.load(Ordering::Relaxed),
        }
    }

    /// Records appended or recovered and not yet released.
    pub fn backlog_records(&self) -> u64 {
        self.stats().backlog_records
    }

    /// Waits until everything appended so far is on the disk, and so survives the machine too.
    ///
    /// # Errors
    /// What the disk said.
    pub fn sync(&self) -> std::io::Result<()> {
        let live = self.shared.line.lock().live.clone();
        live.iter().filter(|segment| segment.remains.is_none()).try_for_each(|segment| segment.sync())
    }
}

impl<const N: usize> Drop for Journal<N> {
    fn drop(&mut self) {
        self.shared.line.lock().stopping = true;
        self.shared.wanted.notify_all();
        if let Some(preparer) = self.preparer.take() {
            let _ = preparer.join();
        }
    }
}

impl<const N: usize> Shared<N> {
    /// Makes the segment after `full` the active one, unless another thread has done it.
    fn roll(&self, full: u64) -> Result<(), JournalFull> {
        let deadline = Instant::now() + SEGMENT_WAIT;
        let mut line = self.line.lock();
        loop {
            if line.live.back().is_some_and(|active| active.number != full) {
                return Ok(());
            }
            if let Some(spare) = line.spare.take() {
                self.active.store(Arc::clone(&spare));
                line.live.push_back(spare);
                self.wanted.notify_one();
                return Ok(());
            }
            if line.failing || line.live.len() >= self.options.max_segments {
                return Err(JournalFull);
            }
            self.wanted.notify_one();
            if self.ready.wait_until(&mut line, deadline).timed_out() {
                return Err(JournalFull);
            }
        }
    }
}
