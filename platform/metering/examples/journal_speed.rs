//! Prints nanoseconds per append with one thread and with two: within a segment that is ready, which is what an answer
//! pays, and at full throttle over many segments, where making segments and draining compete for the same processors.
//!
//! `cargo run --release -p raas-metering --example journal_speed`
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use raas_metering::{Journal, JournalOptions};

const RECORD_BYTES: usize = 128;
const RECORDS: u64 = 2_000_000;

fn main() {
    for threads in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions { segment_records: 200_000, max_segments: 8 };
        let (journal, _) = Journal::<RECORD_BYTES>::open(dir.path(), options).unwrap();
        let journal = &journal;
        std::thread::sleep(Duration::from_millis(500)); // the spare segment is made
        let slowest = std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..threads).map(|_| scope.spawn(move || append(journal, 190_000 / threads))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).max().unwrap()
        });
        let ns = slowest.as_nanos() as f64 / (190_000 / threads) as f64;
        println!("{threads} thread(s), one segment: {ns:.0} ns/append in each thread");
    }
    for drained in [false, true] {
        for threads in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let options = JournalOptions { segment_records: 262_144, max_segments: 64 };
            let (journal, _) = Journal::<RECORD_BYTES>::open(dir.path(), options).unwrap();
            std::thread::sleep(Duration::from_millis(500)); // the first spare segment is ready
            let done = AtomicBool::new(false);
            let (journal, done) = (&journal, &done);
            let took = std::thread::scope(|scope| {
                if drained {
                    scope.spawn(move || {
                        let mut next = 0;
                        while !done.load(Ordering::Relaxed) {
                            let batch = journal.read_batch(next, 10_000);
                            match batch.last() {
                                Some((last, _)) => {
                                    journal.release_through(*last);
                                    next = last + 1;
                                }
                                None => std::thread::sleep(Duration::from_millis(1)),
                            }
                        }
                    });
                }
                let began = Instant::now();
                let writers: Vec<_> =
                    (0..threads).map(|_| scope.spawn(move || append(journal, RECORDS / threads))).collect();
                for writer in writers {
                    writer.join().unwrap();
                }
                let took = began.elapsed();
                done.store(true, Ordering::Relaxed);
                took
            });
            let ns = took.as_nanos() as f64 / RECORDS as f64;
            let drainer = if drained { "a drainer" } else { "no drainer" };
            println!(
                "{threads} thread(s), {drainer}: {ns:.0} ns/append over all, {:.0} ns/append in each thread",
                ns * threads as f64
            );
        }
    }
}

fn append(journal: &Journal<RECORD_BYTES>, records: u64) -> Duration {
    let began = Instant::now();
    let mut payload = [7; RECORD_BYTES];
    for number in 0..records {
        payload[..8].copy_from_slice(&number.to_le_bytes());
        journal.append(&payload).unwrap();
    }
    began.elapsed()
}
