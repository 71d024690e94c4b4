//! What can be seen of a journal from outside, with and without a writer at work.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Sample, TILL, flush, now, pass, settings};
use crate::journal::{Entries, Inspection, Journal, JournalFault, Writer};

fn open(directory: &Path) -> (Journal, Writer) {
    let (journal, mut writers) = Journal::open(directory, &settings(), 1, TILL, now()).unwrap();
    (journal, writers.remove(0))
}

fn inspect(directory: &Path) -> Inspection {
    Inspection::of(directory).unwrap().unwrap()
}

/// All files of the journal and their contents.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

#[test]
fn a_look_counts_what_waits_what_is_sent_and_what_is_in_flight_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(Inspection::of(directory.path()).unwrap(), None);
    let (journal, writer) = open(directory.path());
    for number in 0..100 {
        pass(&writer, &Sample::of(number));
        journal.prepare().unwrap();
    }
    let cut = journal.next_cut(1_000).unwrap();
    journal.begin_cut(cut).unwrap();
    journal.finish_cut(cut, Vec::new()).unwrap();
    let cut = journal.next_cut(1_000).unwrap();
    journal.begin_cut(cut).unwrap();
    let _unsent = writer.begin(&Sample::of(200).record()).unwrap();
    let sent = writer.begin(&Sample::of(201).record()).unwrap();
    writer.sent(&sent);
    let before = files(directory.path());

    let found = inspect(directory.path());
    let shard = &found.shards[0];
    assert_eq!((found.records(), found.pending_records(), found.faults.len()), (100, 93, 0));
    assert_eq!(found.oldest_pending(), Some(now()));
    assert_eq!(shard.in_flight, Some(Entries { admitted: 1, sent: 1 }));
    assert_eq!((shard.cursor.offset, shard.sending_to.map(|to| to.offset)), (cut.from, Some(cut.to)));
    let sealed: Vec<bool> = shard.segments.iter().map(|segment| segment.is_sealed).collect();
    assert_eq!(sealed, [true, false, false], "one is full, one is written to, one is ready");
    assert_eq!(files(directory.path()), before);
    drop((journal, writer));
    assert_eq!(inspect(directory.path()), found, "without a gateway it is the same");
}

#[test]
fn every_bad_place_is_named_by_file_and_offset() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writer) = open(directory.path());
    (0..3).for_each(|number| pass(&writer, &Sample::of(number)));
    drop((journal, writer));
    let (segment, mut contents) =
        files(directory.path()).into_iter().find(|(path, _)| is_segment(path)).unwrap();
    contents[128 + 128 + 40] ^= 1;
    contents[20] ^= 1;
    std::fs::write(&segment, contents).unwrap();
    let found = inspect(directory.path());
    let at = |fault: &JournalFault| (fault.file.clone(), fault.offset, fault.bytes);
    assert_eq!(
        found.faults.iter().map(at).collect::<Vec<_>>(),
        [(segment.clone(), 0, 128), (segment, 256, 128)]
    );
    assert_eq!((found.records(), found.shards[0].segments[0].is_suspect), (2, true));
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

#[test]
fn a_segment_that_is_gone_is_named_and_one_that_was_flushed_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writer) = open(directory.path());
    for number in 0..200 {
        pass(&writer, &Sample::of(number));
        journal.prepare().unwrap();
    }
    let cut = journal.next_cut(u32::MAX).unwrap();
    journal.begin_cut(cut).unwrap();
    journal.finish_cut(cut, Vec::new()).unwrap();
    assert_eq!(inspect(directory.path()).faults, []);
    let third = inspect(directory.path()).shards[0].segments[1].file.clone();
    std::fs::remove_file(&third).unwrap();
    let faults = inspect(directory.path()).faults;
    assert_eq!(faults.iter().map(|fault| &fault.file).collect::<Vec<_>>(), [&third]);
}

#[test]
fn beside_a_writer_and_a_flush_nothing_seems_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writer) = open(directory.path());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                flush(&journal);
                journal.prepare().unwrap();
            }
        });
        let (journal, done) = (&journal, &done);
        scope.spawn(move || {
            for number in 0.. {
                if done.load(Ordering::Acquire) {
                    break;
                }
                if let Ok(ticket) = writer.begin(&Sample::of(number).record()) {
                    writer.sent(&ticket);
                    writer.finish(ticket, &Sample::of(number).record());
                }
                if number % 16 == 0 {
                    journal.prepare().unwrap();
                }
            }
        });
        let looks: Vec<_> = (0..200).map(|_| Inspection::of(directory.path())).collect();
        // Before anything can panic: the others would go on for ever.
        done.store(true, Ordering::Release);
        for look in looks {
            assert_eq!(look.unwrap().map(|it| it.faults), Some(Vec::new()));
        }
    });
}
