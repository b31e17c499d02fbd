//! The thread that keeps one segment ready ahead of the writers, so that none of them waits for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::journal::Shared;
use crate::segment::Segment;

/// Pause after a failure to make a segment.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until the journal is dropped.
pub(crate) fn prepare_segments<const N: usize>(shared: &Shared<N>) {
    let mut line = shared.line.lock();
    while !line.stopping {
        let last = match line.live.back() {
            Some(last) if line.spare.is_none() && line.live.len() < shared.options.max_segments => Arc::clone(last),
            _ => {
                shared.wanted.wait(&mut line);
                continue;
            }
        };
        drop(line);
        let (number, first) = (last.number + 1, last.end());
        let made = Segment::create(&shared.dir, shared.id, number, first, shared.options.segment_records);
        line = shared.line.lock();
        match made {
            Ok(segment) => {
                line.spare = Some(Arc::new(segment));
                line.failing = false;
                shared.ready.notify_all();
            }
            Err(error) => {
                shared.failures.fetch_add(1, Ordering::Relaxed);
                line.failing = true;
                shared.ready.notify_all();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(journal.segment = number, error = %error, cause, "could not make a journal segment; will retry");
                if !line.stopping {
                    shared.wanted.wait_for(&mut line, RETRY);
                }
            }
        }
    }
}
