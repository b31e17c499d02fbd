//! Kills a writing process again and again, at moments it does not choose, and reopens what it left.
//!
//! The binary starts itself as the writer. The writer's threads append, and only then report what they appended, through a
//! pipe; so whatever the pipe holds must be in the journal, exactly once and whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use raas_metering::{Journal, JournalOptions};

const PAYLOAD: usize = 100;
const THREADS: u64 = 3;
/// Records of one report; a report fits the size that a pipe takes whole.
const REPORT: u64 = 32;
const REPORT_BYTES: usize = 24 + 8 * REPORT as usize;
const ROUNDS: u64 = 60;
const OPTIONS: JournalOptions = JournalOptions { segment_records: 1_000, max_segments: 100_000 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            println!("nothing_returned_is_lost: test");
        }
        return;
    }
    match std::env::var("JOURNAL_CRASH_WRITER") {
        Ok(round) => write(Path::new(&arguments[1]), round.parse().unwrap()),
        Err(_) => nothing_returned_is_lost(),
    }
}

/// The payload says who wrote it when, over and over, so that a mixture of two is seen.
fn payload(round: u64, thread: u64, count: u64) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    let words = [round, thread, count, round ^ thread.rotate_left(20) ^ count.rotate_left(40)];
    for (at, chunk) in payload.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&words[at % 4].to_le_bytes()[..chunk.len()]);
    }
    payload
}

fn writer_of(payload: &[u8; PAYLOAD]) -> (u64, u64, u64) {
    let word = |at: usize| u64::from_le_bytes(payload[8 * at..][..8].try_into().unwrap());
    (word(0), word(1), word(2))
}

fn write(dir: &Path, round: u64) {
    let (journal, _) = Journal::<PAYLOAD>::open(dir, OPTIONS).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || {
                let mut out =
                    std::fs::File::from(std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned().unwrap());
                for first in (0..).step_by(REPORT as usize) {
                    let mut report = Vec::with_capacity(REPORT_BYTES);
                    for word in [round, thread, first] {
                        report.extend_from_slice(&word.to_le_bytes());
                    }
                    for count in first..first + REPORT {
                        let sequence = journal.append(&payload(round, thread, count)).unwrap();
                        report.extend_from_slice(&sequence.to_le_bytes());
                    }
                    out.write_all(&report).unwrap();
                }
            });
        }
    });
}

fn nothing_returned_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let (mut records, mut reported, mut gaps) = (0, 0, 0);
    let mut identity = None;
    for round in 0..ROUNDS {
        let reports = run_and_kill(dir.path(), round);
        let (journal, recovered) = Journal::<PAYLOAD>::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(*identity.get_or_insert(journal.id()), journal.id(), "the journal keeps its identity");
        assert_eq!(recovered.damaged, 0, "nothing is torn when only the process dies");
        gaps += recovered.gaps;

        let mut kept = HashMap::new();
        let mut counts: HashMap<(u64, u64), HashSet<u64>> = HashMap::new();
        let mut from = next;
        loop {
            let batch = journal.read_batch(from, 777);
            let Some((last, _)) = batch.last() else { break };
            assert!(batch.is_sorted_by(|(one, _), (next, _)| one < next), "in order");
            assert!(batch[0].0 >= from);
            from = last + 1;
            for (sequence, read) in batch {
                let (written_in, thread, count) = writer_of(&read);
                assert_eq!(read, payload(written_in, thread, count), "whole");
                assert!(kept.insert(sequence, read).is_none(), "one record a sequence");
                assert!(counts.entry((written_in, thread)).or_default().insert(count), "each record once");
            }
        }
        for ((_, thread, first), sequences) in &reports {
            for (at, sequence) in sequences.iter().enumerate() {
                let expected = payload(round, *thread, first + at as u64);
                assert_eq!(kept.get(sequence), Some(&expected), "round {round}: {sequence} was returned and is lost");
            }
        }
        for thread in 0..THREADS {
            let counts = counts.remove(&(round, thread)).unwrap_or_default();
            assert!((0..counts.len() as u64).all(|count| counts.contains(&count)), "no record without those before it");
            let told = reports.keys().filter(|report| report.1 == thread).count() as u64 * REPORT;
            assert!(
                counts.len() as u64 - told <= REPORT,
                "only what the dead had not reported yet is beyond the reports"
            );
        }
        records += kept.len();
        reported += reports.len() as u64 * REPORT;
        // Drain: wholly, or in some rounds only half, so that later rounds find older segments.
        let mut drained: Vec<_> = kept.keys().copied().collect();
        drained.sort_unstable();
        if round % 3 == 0 {
            drained.truncate(drained.len() / 2);
        }
        if let Some(last) = drained.last() {
            journal.release_through(*last);
            next = last + 1;
        }
    }
    assert!(reported > ROUNDS * REPORT, "the writers wrote: {reported}");
    println!("test nothing_returned_is_lost ... ok ({ROUNDS} kills, {reported} returned, {records} read, {gaps} gaps)");
}

type Reports = HashMap<(u64, u64, u64), Vec<u64>>;

/// Starts a writer, kills it some time after its first report, and answers all whole reports.
fn run_and_kill(dir: &Path, round: u64) -> Reports {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .arg(dir)
        .env("JOURNAL_CRASH_WRITER", round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = writer.stdout.take().unwrap();
    let mut bytes = vec![0; REPORT_BYTES];
    pipe.read_exact(&mut bytes).unwrap();
    let reader = std::thread::spawn(move || {
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    std::thread::sleep(Duration::from_micros(random % 12_000));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let bytes = reader.join().unwrap();
    let word = |report: &[u8], at: usize| u64::from_le_bytes(report[8 * at..][..8].try_into().unwrap());
    bytes
        .chunks_exact(REPORT_BYTES)
        .map(|report| {
            let sequences = (3..3 + REPORT as usize).map(|at| word(report, at)).collect();
            ((word(report, 0), word(report, 1), word(report, 2)), sequences)
        })
        .collect()
}
