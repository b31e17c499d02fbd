//! One segment file: a header page, then equal slots, each a commit word and a payload, all memory-mapped.
//!
//! The commit word is written last, with release ordering, and is a checksum over the payload, seeded with the journal and
//! the sequence. So one word says at once that a record is there, that it is whole, and that it belongs exactly here.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use twox_hash::XxHash3_64;
use uuid::Uuid;

use crate::{JournalError, Sequence};

const MAGIC: [u8; 8] = *b"RAASJRNL";
const FORMAT: u32 = 1;
/// The slots begin on a page of their own.
const HEADER_BYTES: usize = 4096;
const HEADER_USED: usize = 56;
const WORD_BYTES: usize = 8;
const PAGE_BYTES: usize = 4096;
/// Never 0, which is what an unwritten slot holds.
const COMMITTED: u64 = 1;

/// What a slot holds.
pub(crate) enum Slot<const N: usize> {
    /// Nothing was committed here (yet).
    Empty,
    /// A whole record.
    Record([u8; N]),
    /// A commit word that does not fit the payload: half of it reached the disk before the machine died, or bits flipped.
    Damaged,
}

/// What a segment left by an earlier process holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remains {
    pub(crate) records: u64,
    pub(crate) damaged: u64,
    /// Empty slots before the last record: claimed by a writer that was killed before it committed.
    pub(crate) gaps: u64,
    pub(crate) first: Option<Sequence>,
    pub(crate) last: Option<Sequence>,
}

/// A mapped segment file. Written by many threads while it is live, only read once it is what an earlier process left.
pub(crate) struct Segment<const N: usize> {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) first: Sequence,
    pub(crate) capacity: u64,
    /// `Some` for a segment that takes no more records.
    pub(crate) remains: Option<Remains>,
    salt: u64,
    map: MmapRaw,
    /// Slots claimed so far; runs past `capacity` when writers find the segment full.
    claimed: OwnLine,
}

/// A counter that every writer changes, kept off the cache lines of what every writer only reads. Two lines of 64 bytes,
/// because processors fetch them in pairs.
#[repr(align(128))]
struct OwnLine(AtomicU64);

impl<const N: usize> Segment<N> {
    const SLOT_BYTES: usize = (WORD_BYTES + N).next_multiple_of(8);

    /// Makes a segment file of zeros with its blocks allocated, so that a full disk is an error here and not a SIGBUS in
    /// `append`, and every page present. It has its final name only when it is whole and on disk.
    pub(crate) fn create(
        dir: &Path,
        journal: Uuid,
        number: u64,
        first: Sequence,
        capacity: u64,
    ) -> Result<Self, JournalError> {
        let path = dir.join(format!("{number:08}.journal"));
        let unfinished = path.with_extension("unfinished");
        let bytes = file_bytes::<N>(capacity).ok_or(JournalError::Options("segment_records is too large"))?;
        let map = (|| {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
            nix::fcntl::posix_fallocate(file.as_fd(), 0, bytes as i64)?;
            file.write_all_at(&header::<N>(journal, first, capacity), 0)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            File::open(dir)?.sync_all()?;
            let map = MmapOptions::new().len(bytes).map_raw(&file)?;
            // After the sync, which would otherwise write all those zeros to the disk.
            for page in (HEADER_BYTES..bytes).step_by(PAGE_BYTES) {
                // SAFETY: inside the mapping, which nobody else has seen yet.
                unsafe { map.as_mut_ptr().add(page).write_volatile(0) };
            }
            Ok(map)
        })()
        .map_err(JournalError::io(&path))?;
        Ok(Self {
            path,
            number,
            first,
            capacity,
            remains: None,
            salt: salt(journal),
            map,
            claimed: OwnLine(AtomicU64::new(0)),
        })
    }

    /// Maps a segment that an earlier process left, and looks at every slot.
    pub(crate) fn reopen(path: PathBuf, number: u64, journal: Uuid) -> Result<Self, JournalError> {
        let foreign = |what| JournalError::Foreign { path: path.clone(), what };
        let (file, length, head) = (|| {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let length = file.metadata()?.len();
            let mut head = [0; HEADER_USED];
            file.read_exact_at(&mut head, 0)?;
            Ok((file, length, head))
        })()
        .map_err(JournalError::io(&path))?;
        let (first, capacity) = (u64_at(&head, 32), u64_at(&head, 40));
        if head[..8] != MAGIC || u64_at(&head, 48) != XxHash3_64::oneshot(&head[..48]) {
            return Err(foreign("has no valid header"));
        }
        if head[..32] != header::<N>(journal, first, capacity)[..32] {
            return Err(foreign("belongs to another journal, format or record size"));
        }
        let bytes = file_bytes::<N>(capacity).filter(|bytes| *bytes as u64 <= length);
        let bytes = bytes.ok_or_else(|| foreign("is shorter than its header says"))?;
        let map = MmapOptions::new().len(bytes).map_raw(&file).map_err(JournalError::io(&path))?;
        let mut segment = Self {
            path,
            number,
            first,
            capacity,
            remains: None,
            salt: salt(journal),
            map,
            claimed: OwnLine(AtomicU64::new(capacity)),
        };
        segment.remains = Some(segment.survey());
        Ok(segment)
    }

    /// Turns a fresh segment into one that takes no records.
    pub(crate) fn close(&mut self) {
        self.claimed.0.store(self.capacity, Ordering::Relaxed);
        self.remains = Some(Remains::default());
    }

    /// Puts a record into the next slot; `None` when there is none left. No lock, no system call.
    pub(crate) fn append(&self, payload: &[u8; N]) -> Option<Sequence> {
        let slot = self.claimed.0.fetch_add(1, Ordering::Relaxed);
        if slot >= self.capacity {
            return None;
        }
        let sequence = self.first + slot;
        let word = self.word(sequence, payload);
        let at = self.slot(slot);
        // SAFETY: `slot` is inside the mapping, and `fetch_add` gave it to this thread alone; readers look at the payload
        // only after they have seen the commit word, which is aligned (the mapping, header and slots are) and comes last.
        unsafe {
            at.add(WORD_BYTES).copy_from_nonoverlapping(payload.as_ptr(), N);
            AtomicU64::from_ptr(at.cast()).store(word, Ordering::Release);
        }
        Some(sequence)
    }

    /// What is at a sequence of this segment.
    pub(crate) fn get(&self, sequence: Sequence) -> Slot<N> {
        let Some(slot) = sequence.checked_sub(self.first).filter(|slot| *slot < self.capacity) else {
            return Slot::Empty;
        };
        let at = self.slot(slot);
        // SAFETY: inside the mapping and aligned; see `append`.
        let word = unsafe { AtomicU64::from_ptr(at.cast()).load(Ordering::Acquire) };
        if word == 0 {
            return Slot::Empty;
        }
        let mut payload = [0; N];
        // SAFETY: inside the mapping; the commit word has been seen, so nobody writes here any more.
        unsafe { payload.as_mut_ptr().copy_from_nonoverlapping(at.add(WORD_BYTES), N) };
        if word == self.word(sequence, &payload) { Slot::Record(payload) } else { Slot::Damaged }
    }

    /// One past the last sequence that this segment can hold.
    pub(crate) fn end(&self) -> Sequence {
        self.first + self.capacity
    }

    /// One past the last sequence that can hold a record now.
    pub(crate) fn readable_end(&self) -> Sequence {
        match &self.remains {
            Some(remains) => remains.last.map_or(self.first, |last| last + 1),
            None => self.first + self.claimed.0.load(Ordering::Relaxed).min(self.capacity),
        }
    }

    /// Whether everything in it, present and future, is at or before `sequence`.
    pub(crate) fn ends_by(&self, sequence: Sequence) -> bool {
        match &self.remains {
            Some(remains) => remains.last.is_none_or(|last| last <= sequence),
            None => self.end() - 1 <= sequence,
        }
    }

    /// Records at or after `from`; an upper bound where writers were killed, exact elsewhere.
    pub(crate) fn records_from(&self, from: Sequence) -> u64 {
        let span = self.readable_end().saturating_sub(from.max(self.first));
        self.remains.map_or(span, |remains| span.min(remains.records))
    }

    /// Writes its pages to the disk.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.map.flush()
    }

    fn survey(&self) -> Remains {
        let mut remains = Remains::default();
        let mut empty = 0;
        for sequence in self.first..self.end() {
            match self.get(sequence) {
                Slot::Empty => empty += 1,
                Slot::Damaged => remains.damaged += 1,
                Slot::Record(_) => {
                    remains.records += 1;
                    remains.gaps += std::mem::take(&mut empty);
                    remains.first.get_or_insert(sequence);
                    remains.last = Some(sequence);
                }
            }
        }
        remains
    }

    fn slot(&self, slot: u64) -> *mut u8 {
        debug_assert!(slot < self.capacity);
        // SAFETY: callers have checked `slot < capacity`, and the mapping is that many slots long.
        unsafe { self.map.as_mut_ptr().add(HEADER_BYTES + slot as usize * Self::SLOT_BYTES) }
    }

    fn word(&self, sequence: Sequence, payload: &[u8; N]) -> u64 {
        // The multiplier spreads neighbouring sequences over all bits, so that a record in a wrong slot cannot fit.
        let seed = self.salt ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        XxHash3_64::oneshot_with_seed(seed, payload) | COMMITTED
    }
}

fn salt(journal: Uuid) -> u64 {
    let (high, low) = journal.as_u64_pair();
    high ^ low
}

fn file_bytes<const N: usize>(capacity: u64) -> Option<usize> {
    let slots = usize::try_from(capacity).ok()?.checked_mul(Segment::<N>::SLOT_BYTES)?;
    slots.checked_add(HEADER_BYTES).filter(|bytes| i64::try_from(*bytes).is_ok())
}

/// magic 8 · format 4 · payload bytes 4 · journal 16 · first sequence 8 · capacity 8 · checksum of all that 8; little-endian.
fn header<const N: usize>(journal: Uuid, first: Sequence, capacity: u64) -> [u8; HEADER_USED] {
    let mut head = [0; HEADER_USED];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..16].copy_from_slice(&(N as u32).to_le_bytes());
    head[16..32].copy_from_slice(journal.as_bytes());
    head[32..40].copy_from_slice(&first.to_le_bytes());
    head[40..48].copy_from_slice(&capacity.to_le_bytes());
    let sum = XxHash3_64::oneshot(&head[..48]);
    head[48..].copy_from_slice(&sum.to_le_bytes());
    head
}

fn u64_at(bytes: &[u8; HEADER_USED], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
