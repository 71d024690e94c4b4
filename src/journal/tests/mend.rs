//! A disk that fails to sync a file: what was in it is in another one before anything goes on.

use std::path::PathBuf;
use std::sync::Arc;

use super::tape::TapeDisk;
use super::{Sample, TILL, flush, now, open, pass, read, requests, settings};
use crate::domain::Outcome;
use crate::journal::{Journal, JournalSettings, SyncPolicy, Writer};

/// A journal that has synced records 1 to 5 and not 6 to 10, and whose disk will fail to.
fn failing() -> (TapeDisk, Journal, Writer, PathBuf) {
    let disk = TapeDisk::new();
    let (journal, mut writers) = open(&disk, 1);
    let writer = writers.remove(0);
    let path = disk.segments().remove(0);
    (1..=5).for_each(|number| pass(&writer, &Sample::of(number)));
    journal.sync().unwrap();
    (6..=10).for_each(|number| pass(&writer, &Sample::of(number)));
    disk.fail_sync(&path);
    (disk, journal, writer, path)
}

fn table(disk: &TapeDisk) -> PathBuf {
    disk.segments()[0].with_file_name("in-flight")
}

/// What worker and keeper do in turn.
fn mend(journal: &Journal, writer: &Writer) {
    writer.tick();
    journal.prepare().unwrap();
    writer.tick();
}

#[test]
fn a_segment_whose_sync_failed_is_never_synced_again_but_written_anew() {
    let (disk, journal, writer, _) = failing();
    let cut = journal.next_cut(u32::MAX).unwrap();
    let error = journal.begin_cut(cut).unwrap_err().to_string();
    assert!(error.contains("syncing") && error.contains("0000000001.seg"), "{error}");
    assert_eq!((journal.depth().suspect_files, journal.unfinished_cut()), (1, None));
    assert!(journal.sync().is_err() && journal.begin_cut(cut).is_err(), "until it is written anew");
    pass(&writer, &Sample::of(11));
    mend(&journal, &writer);
    let depth = journal.depth();
    assert_eq!((depth.suspect_files, depth.rewritten_files), (0, 1));
    pass(&writer, &Sample::of(12));
    journal.sync().unwrap();
    let unplugged = disk.unplugged_at(disk.steps(), |_| false);
    assert_eq!(requests(&flush(&open(&unplugged, 1).0)), (1..=12).collect::<Vec<_>>(), "all is on the disk");
    assert_eq!(requests(&flush(&journal)), (1..=12).collect::<Vec<_>>());
}

#[test]
fn killed_or_unplugged_after_any_step_of_writing_it_anew_every_record_comes_once() {
    let (disk, journal, writer, _) = failing();
    journal.sync().unwrap_err();
    let begun = disk.steps();
    mend(&journal, &writer);
    let mended = disk.steps();
    pass(&writer, &Sample::of(11));
    flush(&journal);
    for step in begun..=mended {
        let found = requests(&flush(&open(&disk.killed_at(step), 1).0));
        assert_eq!(found, (1..=10).collect::<Vec<_>>(), "killed at {step}");
        let unplugged = disk.unplugged_at(step, |_| false);
        let found = requests(&flush(&open(&unplugged, 1).0));
        assert!(found.starts_with(&[1, 2, 3, 4, 5]) && found.len() <= 10, "unplugged at {step}: {found:?}");
        assert!(step < mended || found.len() == 10, "unplugged when it was mended: {found:?}");
    }
}

#[test]
fn a_range_that_was_begun_is_the_same_range_in_the_new_file() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    (1..=4).for_each(|number| pass(&writers[0], &Sample::of(number)));
    let cut = journal.next_cut(300).unwrap();
    journal.begin_cut(cut).unwrap();
    let before = checksum(&journal);
    pass(&writers[0], &Sample::of(5));
    disk.fail_sync(&disk.segments()[0]);
    journal.sync().unwrap_err();
    mend(&journal, &writers[0]);
    assert_eq!((journal.unfinished_cut(), checksum(&journal)), (Some(cut), before));
    let (journal, _writers) = open(&disk.killed_at(disk.steps()), 1);
    assert_eq!((journal.unfinished_cut(), checksum(&journal)), (Some(cut), before));
    assert_eq!(requests(&flush(&journal)), [1, 2, 3, 4, 5]);
}

fn checksum(journal: &Journal) -> u32 {
    let mut reader = journal.read(&journal.unfinished_cut().unwrap()).unwrap();
    while reader.next().is_some() {}
    reader.checksum()
}

#[test]
fn requests_in_flight_move_to_a_table_whose_sync_did_not_fail() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    let writer = &writers[0];
    let sent = writer.begin(&Sample::of(1).record()).unwrap();
    writer.sent(&sent);
    let crashed = writer.begin(&Sample::of(2).record()).unwrap();
    writer.sent(&crashed);
    let unsent = writer.begin(&Sample::of(3).record()).unwrap();
    pass(writer, &Sample::of(4));
    disk.fail_sync(&table(&disk));
    journal.sync().unwrap_err();
    let begun = disk.steps();
    mend(&journal, writer);
    assert_eq!(journal.depth().suspect_files, 0);
    journal.sync().unwrap();
    let mended = disk.steps();
    writer.finish(sent, &Sample::of(1).record());
    writer.abandon(unsent);
    for step in begun..=mended {
        let (journal, _writers) = open(&disk.killed_at(step), 1);
        assert_eq!((journal.recovery().crashed, journal.recovery().unsent), (2, 1), "killed at {step}");
        assert_eq!(requests(&flush(&journal)), [1, 2, 4], "killed at {step}");
    }
    let samples = flush(&open(&disk.killed_at(disk.steps()), 1).0);
    let outcomes: Vec<_> = samples.iter().map(|it| (it.request.0.as_u128(), it.outcome)).collect();
    assert_eq!(outcomes, [(4, Outcome::Answered), (1, Outcome::Answered), (2, Outcome::Crashed)]);
    let unplugged = disk.unplugged_at(mended, |_| false);
    assert_eq!(requests(&flush(&open(&unplugged, 1).0)), [1, 2, 4], "it was synced in its new place");
}

#[test]
fn a_writer_at_capacity_leaves_a_suspect_segment_all_the_same() {
    let disk = TapeDisk::new();
    let tight = JournalSettings { capacity_bytes: 2 * 8_192, ..settings() };
    let path = std::path::Path::new("data");
    let (journal, writers) = Journal::open_on(Arc::new(disk.clone()), path, &tight, 1, TILL, now()).unwrap();
    let mut passed = 0;
    while journal.depth().shards_short == 0 {
        passed += 1;
        pass(&writers[0], &Sample::of(passed));
        journal.prepare().unwrap();
    }
    disk.fail_sync(&disk.segments()[1]);
    journal.sync().unwrap_err();
    journal.prepare().unwrap();
    mend(&journal, &writers[0]);
    assert_eq!(journal.depth().suspect_files, 0);
    assert_eq!(requests(&flush(&journal)), (1..=passed).collect::<Vec<_>>());
}

#[test]
fn what_a_killed_process_had_not_synced_is_synced_by_the_next_one() {
    let disk = TapeDisk::new();
    let (_, writers) = open(&disk, 1);
    let sent = writers[0].begin(&Sample::of(1).record()).unwrap();
    writers[0].sent(&sent);
    pass(&writers[0], &Sample::of(2));
    let killed = disk.killed_at(disk.steps());
    drop(open(&killed, 1));
    let unplugged = killed.unplugged_at(killed.steps(), |_| false);
    assert_eq!(requests(&flush(&open(&unplugged, 1).0)), [1, 2]);
}

#[test]
fn an_answer_waits_until_its_record_is_in_a_file_that_could_be_synced() {
    let disk = TapeDisk::new();
    let settings = JournalSettings { sync: SyncPolicy::Always, ..settings() };
    let path = std::path::Path::new("data");
    let (journal, writers) =
        Journal::open_on(Arc::new(disk.clone()), path, &settings, 1, TILL, now()).unwrap();
    let sample = Sample::of(1);
    let ticket = writers[0].begin(&sample.record()).unwrap();
    writers[0].sent(&ticket);
    let position = writers[0].finish(ticket, &sample.record());
    disk.fail_sync(&disk.segments()[0]);
    journal.commit().unwrap_err();
    journal.commit().unwrap_err();
    assert!(!journal.is_synced(0, position));
    mend(&journal, &writers[0]);
    journal.commit().unwrap();
    assert!(journal.is_synced(0, position));
    let unplugged = disk.unplugged_at(disk.steps(), |_| false);
    assert_eq!(read(&open(&unplugged, 1).0, &journal.next_cut(u32::MAX).unwrap()).0, [sample]);
}
