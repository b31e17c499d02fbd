//! Opening a journal: take the folder, learn what an earlier process left, and start behind it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::journal::{Line, Shared};
use crate::prepare::prepare_segments;
use crate::segment::Segment;
use crate::{Journal, JournalError, JournalOptions, Sequence};

/// What an earlier process left undrained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segment files with records.
    pub segments: usize,
    /// Whole records; they come first from [`Journal::read_batch`].
    pub records: u64,
    /// The first of them.
    pub first: Option<Sequence>,
    /// Slots claimed by writers that were killed before they committed: never answered, nothing lost.
    pub gaps: u64,
    /// Records whose checksum does not fit: lost with the machine's power, or flipped bits.
    pub damaged: u64,
}

impl<const N: usize> Journal<N> {
    /// Opens the journal in `dir`, making both if need be. New records get sequences behind every one ever given out, even
    /// if the machine lost some: a sequence is never used twice.
    ///
    /// # Errors
    /// [`JournalError`]: contradicting options, a folder held by another process or refused by the file system, or files
    /// that this journal did not write.
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Self, Recovered), JournalError> {
        if options.segment_records == 0 {
            return Err(JournalError::Options("segment_records must be at least 1"));
        }
        if options.max_segments < 2 {
            return Err(JournalError::Options("max_segments must be at least 2: one in use, one kept ready"));
        }
        std::fs::create_dir_all(dir).map_err(JournalError::io(dir))?;
        let lock = lock(dir)?;
        let id = identity(dir)?;

        let mut recovered = Recovered::default();
        let (mut live, mut empty) = (VecDeque::new(), Vec::new());
        // The numbers and sequences after all files, empty ones included: they may have held what was drained.
        let (mut number, mut first) = (0, 0);
        for (file_number, path) in segment_files(dir)? {
            let segment = Segment::<N>::reopen(path, file_number, id)?;
            number = number.max(file_number + 1);
            first = first.max(segment.end());
            let remains = segment.remains.unwrap_or_default();
            recovered.records += remains.records;
            recovered.gaps += remains.gaps;
            recovered.damaged += remains.damaged;
            recovered.first = recovered.first.or(remains.first);
            if remains.records > 0 {
                recovered.segments += 1;
                live.push_back(Arc::new(segment));
            } else {
                empty.push(segment.path);
            }
        }

        // Written before the empty files go, so that there is always a file that knows how far the sequences have come.
        let mut active = Segment::create(dir, id, number, first, options.segment_records)?;
        if live.len() >= options.max_segments {
            // A process that dies again and again while nothing is drained must not fill the disk one segment a start.
            active.close();
        }
        for path in empty {
            std::fs::remove_file(&path).map_err(JournalError::io(path))?;
        }

        let active = Arc::new(active);
        live.push_back(Arc::clone(&active));
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            id,
            options,
            active: ArcSwap::new(active),
            line: Mutex::new(Line { live, spare: None, failing: false, stopping: false, released: 0 }),
            wanted: Condvar::new(),
            ready: Condvar::new(),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            damaged: AtomicU64::new(recovered.damaged),
        });
        let preparer = std::thread::Builder::new()
            .name("journal".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || prepare_segments(&shared)
            })
            .map_err(JournalError::io(dir))?;
        Ok((Self { shared, preparer: Some(preparer), _lock: lock }, recovered))
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("journal.lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(JournalError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(dir.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { path, source }),
    }
}

/// Reads the journal's id, or gives it one: on disk, whole, before the first record.
fn identity(dir: &Path) -> Result<Uuid, JournalError> {
    let path = dir.join("journal.id");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let id = Uuid::try_parse(text.trim());
            id.map_err(|_| JournalError::Foreign { path, what: "does not hold a journal's id" })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            let unfinished = dir.join("journal.id.unfinished");
            (|| {
                let mut file = File::create(&unfinished)?;
                writeln!(file, "{id}")?;
                file.sync_all()?;
                std::fs::rename(&unfinished, &path)?;
                File::open(dir)?.sync_all()
            })()
            .map_err(JournalError::io(&path))?;
            Ok(id)
        }
        Err(source) => Err(JournalError::Io { path, source }),
    }
}

/// The segment files by number; clears away those that were never finished.
fn segment_files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(JournalError::io(dir))? {
        let path = entry.map_err(JournalError::io(dir))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        match (extension, number) {
            (Some("journal"), Some(number)) => files.push((number, path)),
            (Some("unfinished"), _) => std::fs::remove_file(&path).map_err(JournalError::io(path))?,
            _ => {}
        }
    }
    files.sort_unstable_by_key(|(number, _)| *number);
    Ok(files)
}
