//! The draining side: committed records in order, and the end of segments that hold nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::segment::{Segment, Slot};
use crate::{Journal, Sequence};

impl<const N: usize> Journal<N> {
    /// Up to `max` committed records from sequence `from` on, in order. Stops before a record that a running writer has
    /// claimed and not committed, so that what is returned never gets a predecessor later: a drainer may store "done up
    /// to here" and forget everything before.
    ///
    /// Segments that an earlier process left have gaps that nobody will fill: their writers were killed between claiming
    /// and committing, which is before the answer was sent, so there is nothing to count and the gap is passed over.
    pub fn read_batch(&self, from: Sequence, max: usize) -> Vec<(Sequence, [u8; N])> {
        let segments: Vec<Arc<Segment<N>>> =
            self.shared.line.lock().live.iter().filter(|segment| segment.end() > from).cloned().collect();
        let available: u64 = segments.iter().map(|segment| segment.records_from(from)).sum();
        let mut batch = Vec::with_capacity(max.min(usize::try_from(available).unwrap_or(max)));
        for segment in segments {
            let live = segment.remains.is_none();
            for sequence in from.max(segment.first)..segment.readable_end() {
                if batch.len() == max {
                    return batch;
                }
                match segment.get(sequence) {
                    Slot::Record(payload) => batch.push((sequence, payload)),
                    Slot::Empty if live => return batch,
                    Slot::Empty => {}
                    // Those of earlier processes were counted when they were found.
                    Slot::Damaged if live => {
                        self.shared.damaged.fetch_add(1, Ordering::Relaxed);
                    }
                    Slot::Damaged => {}
                }
            }
            if live && segment.readable_end() < segment.end() {
                return batch;
            }
        }
        batch
    }

    /// Gives up every record at or before `through`, which must have come from [`Journal::read_batch`] and be kept
    /// elsewhere by now. Deletes the segment files that this empties and answers how many; the active one stays, because
    /// it knows how far the sequences have come.
    pub fn release_through(&self, through: Sequence) -> usize {
        let mut emptied = Vec::new();
        {
            let mut line = self.shared.line.lock();
            line.released = line.released.max(through.saturating_add(1));
            while line.live.len() > 1 && line.live.front().is_some_and(|segment| segment.ends_by(through)) {
                emptied.extend(line.live.pop_front());
            }
        }
        for segment in &emptied {
            // A file that stays is read again after a restart, and its records are recognised as drained by their sequence.
            if let Err(error) = std::fs::remove_file(&segment.path) {
                tracing::warn!(journal.segment = segment.number, %error, "could not delete a drained journal segment");
            }
        }
        if !emptied.is_empty() {
            self.shared.wanted.notify_one();
        }
        emptied.len()
    }
}
