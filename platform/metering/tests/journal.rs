//! What the journal promises, short of crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use raas_metering::{Journal, JournalError, JournalFull, JournalOptions, Recovered};

const N: usize = 20;
/// A commit word, the payload, and padding to eight bytes.
const SLOT: u64 = 32;
const HEADER: u64 = 4096;

fn options(segment_records: u64, max_segments: usize) -> JournalOptions {
    JournalOptions { segment_records, max_segments }
}

fn open(dir: &Path, options: JournalOptions) -> (Journal<N>, Recovered) {
    Journal::open(dir, options).unwrap()
}

fn payload(number: u64) -> [u8; N] {
    let mut payload = [0xA5; N];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "journal")).collect();
    files.sort();
    files
}

fn overwrite(file: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn sequences_run_on_over_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recovered) = open(dir.path(), options(8, 100));
    assert_eq!(recovered, Recovered::default());
    let sequences: Vec<_> = (0..100).map(|number| journal.append(&payload(number)).unwrap()).collect();
    assert_eq!(sequences, (0..100).collect::<Vec<_>>());
    assert_eq!(journal.backlog_records(), 100);
    let all: Vec<_> = (0..100).map(|number| (number, payload(number))).collect();
    assert_eq!(journal.read_batch(0, 1_000), all);
    assert_eq!(journal.read_batch(33, 10), all[33..43]);
    assert_eq!(journal.read_batch(100, 10), []);
    assert_eq!(journal.read_batch(5, 0), []);
}

#[test]
fn a_restart_yields_what_was_not_released_and_goes_on_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), options(8, 100));
    for number in 0..20 {
        journal.append(&payload(number)).unwrap();
    }
    assert_eq!(journal.release_through(9), 1);
    let id = journal.id();
    drop(journal);

    let (journal, recovered) = open(dir.path(), options(5, 100));
    assert_eq!(journal.id(), id);
    // The segment that sequence 9 lies in is not empty yet: its records come again, and whoever drains knows them.
    assert_eq!((recovered.first, recovered.records, recovered.gaps, recovered.damaged), (Some(8), 12, 0, 0));
    let sequence = journal.append(&payload(99)).unwrap();
    assert!(sequence > 19);
    let read: Vec<_> = journal.read_batch(10, 100).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(read, (10..20).chain([sequence]).collect::<Vec<_>>());
}

#[test]
fn sequences_are_not_used_again_after_everything_was_drained() {
    let dir = tempfile::tempdir().unwrap();
    let mut highest = None;
    for _ in 0..5 {
        let (journal, recovered) = open(dir.path(), options(4, 3));
        assert_eq!(recovered.records, if highest.is_some() { 1 } else { 0 });
        let sequence = journal.append(&payload(1)).unwrap();
        assert!(Some(sequence) > highest);
        highest = Some(sequence);
        journal.release_through(sequence);
    }
}

#[test]
fn it_is_full_when_nobody_drains_and_goes_on_when_somebody_does() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), options(10, 3));
    let mut appended = 0;
    while let Ok(sequence) = journal.append(&payload(appended)) {
        assert_eq!(sequence, appended);
        appended += 1;
    }
    assert_eq!(appended, 30);
    assert_eq!(journal.append(&payload(0)), Err(JournalFull));
    assert_eq!(journal.stats().refused_appends, 2);
    assert_eq!(files(dir.path()).len(), 3);

    assert_eq!(journal.release_through(8), 0);
    assert_eq!(journal.append(&payload(0)), Err(JournalFull));
    assert_eq!(journal.release_through(9), 1);
    for number in 30..40 {
        assert_eq!(journal.append(&payload(number)), Ok(number));
    }
    assert_eq!(journal.append(&payload(0)), Err(JournalFull));
    assert_eq!(journal.release_through(39), 2);
    assert_eq!(journal.append(&payload(40)), Ok(40));
    assert_eq!(journal.read_batch(0, 100).last().unwrap().0, 40);
}

#[test]
fn restarts_without_draining_do_not_grow_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for _ in 0..10 {
        let (journal, recovered) = open(dir.path(), options(4, 3));
        assert_eq!(recovered.records, kept);
        kept += u64::from(journal.append(&payload(kept)).is_ok());
        assert!(files(dir.path()).len() <= 4);
    }
    assert_eq!(kept, 3);
    let (journal, _) = open(dir.path(), options(4, 3));
    assert_eq!(journal.append(&payload(0)), Err(JournalFull));
    let last = journal.read_batch(0, 10).last().unwrap().0;
    assert_eq!(journal.release_through(last), 3);
    let sequence = journal.append(&payload(7)).unwrap();
    assert_eq!(journal.read_batch(last + 1, 10), [(sequence, payload(7))]);
}

#[test]
fn a_torn_record_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), options(16, 4));
    for number in 0..10 {
        journal.append(&payload(number)).unwrap();
    }
    drop(journal);
    let file = &files(dir.path())[0];
    // A flipped payload bit, a flipped bit of the commit word, a slot copied to another place.
    overwrite(file, HEADER + 2 * SLOT + 8 + 13, &[0xA4]);
    let mut slot = [0; SLOT as usize];
    OpenOptions::new().read(true).open(file).unwrap().read_exact_at(&mut slot, HEADER + 4 * SLOT).unwrap();
    overwrite(file, HEADER + 7 * SLOT, &slot);
    slot[3] ^= 0x10;
    overwrite(file, HEADER + 4 * SLOT, &slot);
    let (journal, recovered) = open(dir.path(), options(16, 4));
    assert_eq!((recovered.records, recovered.damaged, recovered.gaps), (7, 3, 0));
    assert_eq!(journal.stats().damaged_records, 3);
    let read: Vec<_> = journal.read_batch(0, 100).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(read, [0, 1, 3, 5, 6, 8, 9]);
}

#[test]
fn a_gap_left_by_a_killed_writer_is_passed_over_but_one_of_a_running_writer_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), options(16, 4));
    for number in 0..10 {
        journal.append(&payload(number)).unwrap();
    }
    // As if the writer of 6 had claimed its slot and not yet committed: the mapping sees what is written to the file.
    overwrite(&files(dir.path())[0], HEADER + 6 * SLOT, &[0; 8]);
    assert_eq!(journal.read_batch(0, 100).len(), 6);
    assert_eq!(journal.read_batch(6, 100), []);
    drop(journal);
    let (journal, recovered) = open(dir.path(), options(16, 4));
    assert_eq!((recovered.records, recovered.gaps), (9, 1));
    let read: Vec<_> = journal.read_batch(0, 100).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(read, [0, 1, 2, 3, 4, 5, 7, 8, 9]);
}

#[test]
fn foreign_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), options(16, 4)));
    let refused = Journal::<24>::open(dir.path(), options(16, 4));
    assert!(matches!(refused, Err(JournalError::Foreign { .. })), "another record size");
    let file = files(dir.path())[0].clone();
    overwrite(&file, 40, &[9]);
    assert!(matches!(Journal::<N>::open(dir.path(), options(16, 4)), Err(JournalError::Foreign { .. })), "header");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(dir.path().join("journal.id"), "x").unwrap();
    assert!(matches!(Journal::<N>::open(dir.path(), options(16, 4)), Err(JournalError::Foreign { .. })), "id");
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path(), options(16, 4));
    assert!(matches!(Journal::<N>::open(dir.path(), options(16, 4)), Err(JournalError::InUse(_))));
    drop(held);
    open(dir.path(), options(16, 4));
}

#[test]
fn unusable_options_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for options in [options(0, 4), options(16, 1), options(u64::MAX / 2, 4)] {
        assert!(matches!(Journal::<N>::open(dir.path(), options), Err(JournalError::Options(_))));
    }
}

#[test]
fn unfinished_segments_are_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000003.unfinished"), "half").unwrap();
    let (journal, _) = open(dir.path(), options(16, 4));
    journal.append(&payload(1)).unwrap();
    assert!(!dir.path().join("00000003.unfinished").exists());
    journal.sync().unwrap();
}

#[test]
fn writers_and_a_drainer_at_once() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path(), options(500, 6));
    let journal = &journal;
    let drained = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for number in 0..EACH {
                    while journal.append(&payload(writer * EACH + number)).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        scope
            .spawn(move || {
                let mut drained = Vec::new();
                while drained.len() < (WRITERS * EACH) as usize {
                    let batch = journal.read_batch(drained.len() as u64, 300);
                    let Some((last, _)) = batch.last().copied() else {
                        continue;
                    };
                    drained.extend(batch);
                    journal.release_through(last);
                }
                drained
            })
            .join()
            .unwrap()
    });
    assert!(drained.iter().enumerate().all(|(at, (sequence, _))| *sequence == at as u64), "in order, without gaps");
    let mut numbers: Vec<_> =
        drained.iter().map(|(_, payload)| u64::from_le_bytes(payload[..8].try_into().unwrap())).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..WRITERS * EACH).collect::<Vec<_>>());
    assert!(files(dir.path()).len() <= 6);
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Read(u8),
    Drain(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(|count| Step::Append(count % 40)),
        2 => any::<u8>().prop_map(Step::Read),
        3 => any::<u8>().prop_map(Step::Drain),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a list of what was appended: a drainer that remembers its position reads each record once, in order.
    #[test]
    fn drained_once_whatever_happens(steps in prop::collection::vec(step(), 1..60), segment_records in 1u64..20) {
        let dir = tempfile::tempdir().unwrap();
        let options = options(segment_records, 5);
        let (mut journal, _) = open(dir.path(), options);
        let mut appended: Vec<(u64, [u8; N])> = Vec::new();
        let (mut drained, mut position) = (0, 0);
        for step in steps {
            match step {
                Step::Append(count) => for _ in 0..count {
                    let record = payload(appended.len() as u64);
                    match journal.append(&record) {
                        Ok(sequence) => appended.push((sequence, record)),
                        Err(JournalFull) => break,
                    }
                },
                Step::Read(max) => {
                    let batch = journal.read_batch(position, usize::from(max));
                    let end = appended.len().min(drained + usize::from(max));
                    prop_assert_eq!(&batch, &appended[drained..end]);
                }
                Step::Drain(max) => {
                    let batch = journal.read_batch(position, usize::from(max));
                    if let Some((last, _)) = batch.last() {
                        journal.release_through(*last);
                        drained += batch.len();
                        position = last + 1;
                    }
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(dir.path(), options).0;
                }
            }
        }
        prop_assert_eq!(&journal.read_batch(position, usize::MAX), &appended[drained..]);
        prop_assert!(appended.is_sorted_by(|one, next| one.0 < next.0));
    }
}
