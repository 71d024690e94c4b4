//! Records go out once each, in whatever order threads, segments and restarts put them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::tape::TapeDisk;
use super::{Sample, TILL, charge, flush, now, open, pass, read, requests, settings};
use crate::domain::{ApiKeyId, Owner, TenantId};
use crate::journal::{Cut, Journal, JournalError, JournalFull, JournalSettings, Writer};

fn open_files(directory: &std::path::Path, shards: usize) -> (Journal, Vec<Writer>) {
    Journal::open(directory, &settings(), shards, TILL, now()).unwrap()
}

#[test]
fn four_threads_and_a_flush_lose_and_invent_nothing() {
    const EACH: u128 = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 4);
    let (journal, done) = (Arc::new(journal), AtomicBool::new(false));
    let samples = std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut samples = Vec::new();
            while !done.load(Ordering::Acquire) {
                journal.prepare().unwrap();
                samples.extend(flush(&journal));
            }
            samples.extend(flush(&journal));
            samples
        });
        let workers: Vec<_> = (0..)
            .zip(writers)
            .map(|(shard, writer)| scope.spawn(move || write_all(&writer, shard * EACH..(shard + 1) * EACH)))
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Release);
        flusher.join().unwrap()
    });
    assert_eq!(requests(&samples), (0..4 * EACH).collect::<Vec<_>>());
    assert_eq!(journal.depth().pending_bytes, 0);
}

fn write_all(writer: &Writer, numbers: std::ops::Range<u128>) {
    for number in numbers {
        let sample = Sample::of(number);
        let ticket = loop {
            match writer.begin(&sample.record()) {
                Ok(ticket) => break ticket,
                Err(JournalFull::Space) => std::thread::yield_now(),
                Err(full) => panic!("{full}"),
            }
        };
        writer.sent(&ticket);
        writer.finish(ticket, &sample.record());
    }
}

#[test]
fn the_files_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 2);
    let id = journal.id();
    pass(&writers[0], &Sample::of(1));
    pass(&writers[1], &Sample::of(2));
    let sent = writers[1].begin(&Sample::of(3).record()).unwrap();
    writers[1].sent(&sent);
    drop((journal, writers));
    let (journal, _writers) = open_files(directory.path(), 2);
    assert_eq!((journal.id(), journal.recovery().crashed), (id, 1));
    assert_eq!(requests(&flush(&journal)), [1, 2, 3]);
}

#[test]
fn shards_that_are_no_longer_written_to_are_still_read() {
    let disk = TapeDisk::new();
    let (_, writers) = open(&disk, 3);
    pass(&writers[0], &Sample::of(1));
    pass(&writers[2], &Sample::of(2));
    let sent = writers[2].begin(&Sample::of(3).record()).unwrap();
    writers[2].sent(&sent);
    let (journal, writers) = open(&disk, 1);
    assert_eq!((writers.len(), journal.recovery().crashed), (1, 1));
    assert_eq!(requests(&flush(&journal)), [1, 2, 3]);
    assert_eq!(requests(&flush(&open(&disk, 3).0)), [], "and once only");
    let (journal, writers) = open(&disk, 3);
    pass(&writers[2], &Sample::of(4));
    assert_eq!(requests(&flush(&journal)), [4]);
}

#[test]
fn a_cut_that_was_begun_comes_back_as_it_was() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    (1..=3).for_each(|number| pass(&writers[0], &Sample::of(number)));
    let cut = journal.next_cut(300).unwrap();
    journal.begin_cut(cut).unwrap();
    pass(&writers[0], &Sample::of(4));
    let (journal, _writers) = open(&disk, 1);
    assert_eq!(journal.unfinished_cut(), Some(cut));
    assert_eq!(requests(&read(&journal, &cut).0), [1, 2], "whole records within 300 bytes");
    journal.finish_cut(cut, Vec::new()).unwrap();
    assert_eq!(journal.unfinished_cut(), None);
    assert_eq!(requests(&flush(&journal)), [3, 4]);
}

#[test]
fn a_cut_holds_one_record_at_least() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    (1..=2).for_each(|number| pass(&writers[0], &Sample::of(number)));
    let cut = journal.next_cut(1).unwrap();
    assert_eq!(requests(&read(&journal, &cut).0), [1]);
}

#[test]
fn what_the_till_is_told_is_told_again_to_the_same_till_only() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    pass(&writers[0], &Sample::of(1));
    let cut = journal.next_cut(u32::MAX).unwrap();
    let journalled =
        vec![(Sample::of(1).charges[0].account, 41), (charge(key_owner(), "x", 1).account, u64::MAX)];
    journal.begin_cut(cut).unwrap();
    journal.finish_cut(cut, journalled.clone()).unwrap();
    assert_eq!(open(&disk, 1).0.journalled(), journalled);
    assert_eq!(open_for(&disk, Uuid::from_u128(8)).0.journalled(), []);
}

fn key_owner() -> Owner {
    Owner::Key(ApiKeyId(Uuid::from_u128(2)))
}

fn open_for(disk: &TapeDisk, till: Uuid) -> (Journal, Vec<Writer>) {
    let path = std::path::Path::new("data");
    Journal::open_on(Arc::new(disk.clone()), path, &settings(), 1, till, now()).unwrap()
}

#[test]
fn sums_are_of_the_present_till_and_beyond_the_cursor() {
    let disk = TapeDisk::new();
    let account = Sample::of(1).charges[0].account;
    let (_, writers) = open_for(&disk, Uuid::from_u128(8));
    pass(&writers[0], &Sample::of(1));
    let sent = writers[0].begin(&Sample::of(2).record()).unwrap();
    writers[0].sent(&sent);
    let (journal, writers) = open(&disk, 1);
    assert_eq!(journal.sums_beyond_cursor().len(), 0, "all of another till, the crashed one too");
    let mut sample = Sample::of(3);
    sample.charges.push(charge(Owner::Tenant(TenantId(Uuid::from_u128(9))), "bytes", 500));
    pass(&writers[0], &sample);
    pass(&writers[0], &Sample::of(4));
    let sums = journal.sums_beyond_cursor();
    assert_eq!((sums[&account], sums[&sample.charges[1].account]), (2, 500));
    flush(&journal);
    assert_eq!(journal.sums_beyond_cursor().len(), 0);
}

#[test]
fn a_record_keeps_the_till_it_was_charged_to() {
    let disk = TapeDisk::new();
    let old = Uuid::from_u128(8);
    let (_, writers) = open_for(&disk, old);
    let sent = writers[0].begin(&Sample::of(1).record()).unwrap();
    writers[0].sent(&sent);
    let (journal, _writers) = open(&disk, 1);
    let cut = journal.next_cut(u32::MAX).unwrap();
    assert_eq!(journal.read(&cut).unwrap().till(), old);
}

#[test]
fn a_full_journal_refuses_to_begin_and_never_to_finish() {
    let disk = TapeDisk::new();
    let tight = JournalSettings { capacity_bytes: 2 * 8_192, ..settings() };
    let path = std::path::Path::new("data");
    let (journal, writers) = Journal::open_on(Arc::new(disk.clone()), path, &tight, 1, TILL, now()).unwrap();
    let writer = &writers[0];
    let mut passed = 0;
    let held: Vec<_> = (1_000..1_003).map(|n| writer.begin(&Sample::of(n).record()).unwrap()).collect();
    while let Ok(ticket) = writer.begin(&Sample::of(passed + 1).record()) {
        passed += 1;
        writer.sent(&ticket);
        writer.finish(ticket, &Sample::of(passed).record());
        journal.prepare().unwrap();
    }
    assert!(passed > 100, "{passed}");
    assert_eq!(journal.depth().shards_short, 1);
    for (number, ticket) in (1_000..).zip(held) {
        writer.finish(ticket, &longest(number).record());
    }
    let expected: Vec<_> = (1..=passed).chain(1_000..1_003).collect();
    assert_eq!(requests(&flush(&journal)), expected);
    journal.prepare().unwrap();
    assert_eq!(journal.depth().shards_short, 0);
    pass(writer, &Sample::of(999));
    assert_eq!(requests(&flush(&journal)), [999]);
}

/// As long as a record can be.
fn longest(number: u128) -> Sample {
    let foreign = |n| charge(Owner::Tenant(TenantId(Uuid::from_u128(n))), &"x".repeat(31), 1);
    Sample { route: "r".repeat(63), charges: (10..18).map(foreign).collect(), ..Sample::of(number) }
}

#[test]
fn one_request_too_many_at_once_is_refused() {
    let disk = TapeDisk::new();
    let (_journal, writers) = open(&disk, 1);
    let writer = &writers[0];
    let mut tickets: Vec<_> = (0..4).map(|n| writer.begin(&Sample::of(n).record()).unwrap()).collect();
    assert_eq!(writer.begin(&Sample::of(5).record()).unwrap_err(), JournalFull::InFlight);
    writer.abandon(tickets.remove(0));
    assert_eq!(writer.in_flight(), 3);
    tickets.push(writer.begin(&Sample::of(6).record()).unwrap());
    for ticket in tickets {
        writer.abandon(ticket);
    }
    assert_eq!(writer.in_flight(), 0);
}

#[test]
fn segments_are_removed_once_the_cursor_has_passed() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    for number in 0..200 {
        pass(&writers[0], &Sample::of(number));
        journal.prepare().unwrap();
    }
    assert!(disk.segments().len() > 3);
    flush(&journal);
    assert_eq!(disk.segments().len(), 3, "the one that is written to, the next, and one to be written again");
}

#[test]
fn a_segment_that_someone_removed_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 1);
    for number in 0..150 {
        pass(&writers[0], &Sample::of(number));
        journal.prepare().unwrap();
    }
    let shard = directory.path().join("journal").join(journal.id().0.to_string()).join("0");
    drop((journal, writers));
    std::fs::remove_file(shard.join("0000000002.seg")).unwrap();
    let (journal, _writers) = open_files(directory.path(), 1);
    assert_eq!(journal.recovery().segments_missing, 1);
    let found = requests(&flush(&journal));
    assert!(found.first() == Some(&0) && found.last() == Some(&149) && found.len() < 150, "the rest goes on");
}

#[test]
fn settings_that_can_not_hold_are_refused_with_what_is_needed() {
    let small = JournalSettings { segment_bytes: 4_096, ..settings() };
    let tight = JournalSettings { capacity_bytes: 8_192, ..settings() };
    for (wrong, needle) in [(small, "a segment needs 7816 bytes"), (tight, "two segments for each of 1")] {
        let disk = Arc::new(TapeDisk::new());
        let opened = Journal::open_on(disk, std::path::Path::new("data"), &wrong, 1, TILL, now());
        let Err(JournalError::Settings(fault)) = opened.map(|_| ()) else { panic!("{wrong:?} was taken") };
        assert!(fault.contains(needle), "{fault}");
    }
}

#[test]
fn a_damaged_cursor_is_no_reason_to_count_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 1);
    pass(&writers[0], &Sample::of(1));
    flush(&journal);
    let cursor = directory.path().join("journal").join(journal.id().0.to_string()).join("cursor");
    drop((journal, writers));
    let mut bytes = std::fs::read(&cursor).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&cursor, bytes).unwrap();
    let opened = Journal::open(directory.path(), &settings(), 1, TILL, now());
    assert!(matches!(opened.map(|_| ()), Err(JournalError::Cursor(_))));
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 1);
    pass(&writers[0], &Sample::of(1));
    let shard = directory.path().join("journal").join(journal.id().0.to_string()).join("0");
    drop((journal, writers));
    let path = shard.join("0000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&checksum);
    std::fs::write(&path, &bytes).unwrap();
    let opened = Journal::open(directory.path(), &settings(), 1, TILL, now());
    assert!(matches!(opened.map(|_| ()), Err(JournalError::TooNew { version: 2, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_position_is_synced_once_sync_has_been_there() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open_files(directory.path(), 1);
    let ticket = writers[0].begin(&Sample::of(1).record()).unwrap();
    writers[0].sent(&ticket);
    let position = writers[0].finish(ticket, &Sample::of(1).record());
    assert!(!journal.is_synced(0, position));
    journal.sync().unwrap();
    assert!(journal.is_synced(0, position) && journal.depth().suspect_files == 0);
}

#[test]
fn a_cut_of_a_segment_that_is_gone_is_an_error() {
    let disk = TapeDisk::new();
    let (journal, _writers) = open(&disk, 1);
    let cut = Cut { shard: 0, sequence: 99, from: 128, to: 256 };
    assert!(matches!(journal.read(&cut).map(|_| ()), Err(JournalError::Gone(_))));
}
