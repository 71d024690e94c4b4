//! A process that is killed, or a machine that loses its power, after any step that it takes on a disk.

use std::collections::BTreeMap;
use std::time::Duration;

use super::tape::TapeDisk;
use super::{Sample, flush, now, open, open_with, pass, requests, settings, try_flush};
use crate::domain::{Outcome, Units};
use crate::journal::{Journal, JournalSettings, Writer};

/// What the books must hold: units per request that the upstream may have seen, less those taken out already.
type Books = BTreeMap<u128, u64>;

/// A story on a disk, with the books as they should be found after each step of it.
struct Story {
    disk: TapeDisk,
    /// Steps of the tape and the books from then on.
    pages: Vec<(usize, Books)>,
    books: Books,
}

impl Story {
    fn new() -> Story {
        let disk = TapeDisk::new();
        Story { disk, pages: vec![(0, Books::new())], books: Books::new() }
    }

    /// Begins here, with everything flushed: what came before is not explored.
    fn begin_anew(&mut self) {
        self.disk.begin_anew();
        self.pages = vec![(self.disk.steps(), Books::new())];
        self.books.clear();
    }

    fn first_step(&self) -> usize {
        self.pages[0].0
    }

    /// One call of the journal, and what it changes.
    fn call<T>(&mut self, call: impl FnOnce() -> T, change: impl FnOnce(&mut Books)) -> T {
        let done = call();
        change(&mut self.books);
        self.pages.push((self.disk.steps(), self.books.clone()));
        done
    }

    /// The books that may be found after `step`: those before and those after the call it belongs to.
    fn allowed(&self, step: usize) -> Vec<&Books> {
        let after = self.pages.partition_point(|(steps, _)| *steps < step);
        let before = after.saturating_sub(1);
        self.pages[before..(after + 1).min(self.pages.len())].iter().map(|(_, books)| books).collect()
    }

    fn pass(&mut self, writer: &Writer, number: u128) {
        let sample = Sample::of(number);
        let ticket = self.call(|| writer.begin(&sample.record()).unwrap(), |_| {});
        self.call(
            || writer.sent(&ticket),
            |books| {
                books.insert(number, 1);
            },
        );
        self.call(|| writer.finish(ticket, &sample.record()), |_| {});
    }

    fn refund(&mut self, writer: &Writer, number: u128) {
        let mut sample = Sample::of(number);
        let ticket = self.call(|| writer.begin(&sample.record()).unwrap(), |_| {});
        self.call(
            || writer.sent(&ticket),
            |books| {
                books.insert(number, 1);
            },
        );
        self.call(
            || writer.refunding(&ticket),
            |books| {
                books.insert(number, 0);
            },
        );
        sample.charges[0].units = Units::ZERO;
        self.call(|| writer.finish(ticket, &sample.record()), |_| {});
    }

    fn settle_for_less(&mut self, writer: &Writer, number: u128) {
        let mut sample = Sample::of(number);
        sample.charges[0].units = Units::saturating(10);
        let ticket = self.call(|| writer.begin(&sample.record()).unwrap(), |_| {});
        self.call(
            || writer.sent(&ticket),
            |books| {
                books.insert(number, 10);
            },
        );
        let lowered = Units::saturating(4);
        self.call(
            || writer.lowering(&ticket, 0, lowered),
            |books| {
                books.insert(number, 4);
            },
        );
        sample.charges[0].units = lowered;
        self.call(|| writer.finish(ticket, &sample.record()), |_| {});
    }

    fn flush(&mut self, journal: &Journal) {
        let Some(cut) = journal.next_cut(900) else { return };
        self.call(|| journal.begin_cut(cut).unwrap(), |_| {});
        let (samples, _) = super::read(journal, &cut);
        let take_out = |books: &mut Books| books.retain(|request, _| !requests(&samples).contains(request));
        self.call(|| journal.finish_cut(cut, Vec::new()).unwrap(), take_out);
    }
}

/// Everything that can happen to requests, over several segments, with a flush behind them.
fn story(settings: &JournalSettings) -> Story {
    let mut story = Story::new();
    let disk = story.disk.clone();
    let (journal, mut writers) = story.call(|| open_with(&disk, 1, settings), |_| {});
    let writer = writers.remove(0);
    let unsent = story.call(|| writer.begin(&Sample::of(1).record()).unwrap(), |_| {});
    let kept = story.call(|| writer.begin(&Sample::of(2).record()).unwrap(), |_| {});
    story.call(
        || writer.sent(&kept),
        |books| {
            books.insert(2, 1);
        },
    );
    story.refund(&writer, 3);
    story.settle_for_less(&writer, 4);
    for number in 10..75 {
        story.pass(&writer, number);
        if number % 5 == 0 {
            story.call(|| journal.prepare().unwrap(), |_| {});
            story.flush(&journal);
        }
    }
    story.call(|| writer.abandon(unsent), |_| {});
    story.call(|| writer.finish(kept, &Sample::of(2).record()), |_| {});
    story
}

/// Opens the disk and takes everything out. No request twice.
fn found(disk: &TapeDisk) -> Books {
    try_found(disk).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The same of a disk on which it may go wrong, and how.
fn try_found(disk: &TapeDisk) -> Result<Books, String> {
    let (journal, _writers) = open(disk, 1);
    let missing = journal.recovery().segments_missing;
    if missing > 0 {
        return Err(format!("{missing} segments are missing"));
    }
    let samples = try_flush(&journal).map_err(|error| error.to_string())?;
    let books: Books =
        samples.iter().map(|sample| (sample.request.0.as_u128(), sample.charges[0].units.get())).collect();
    if books.len() < samples.len() {
        return Err(format!("a request has two records: {:?}", requests(&samples)));
    }
    Ok(books)
}

/// Kills the story after every step that it took on `disk`; answers how many those are, and the first fault.
fn explore(story: &Story, disk: &TapeDisk) -> (usize, Option<String>) {
    let first = story.first_step();
    let faults = (first..=disk.steps()).map(|step| match try_found(&disk.killed_at(step)) {
        Ok(books) if story.allowed(step).contains(&&books) => None,
        Ok(books) => Some(format!("killed at {step}: {books:?}")),
        Err(fault) => Some(format!("killed at {step}: {fault}")),
    });
    (disk.steps() + 1 - first, faults.flatten().next())
}

#[test]
fn killed_after_any_step_the_records_are_what_the_upstream_may_have_seen() {
    let story = story(&settings());
    let (explored, fault) = explore(&story, &story.disk);
    println!("{explored} crash points of a process explored");
    assert_eq!(fault, None);
    assert!(explored > 1_000, "{explored}");
}

#[test]
fn a_journal_that_unlinked_segments_before_it_moved_the_cursor_would_be_found_out() {
    // No space to keep a file in that could be written again: each one is unlinked.
    let story = story(&JournalSettings { capacity_bytes: 2 * settings().segment_bytes, ..settings() });
    let (_, fault) = explore(&story, &story.disk.unlinking_first());
    let fault = fault.expect("the explorer finds it");
    println!("{fault}");
    assert!(fault.contains("is gone, which has records") || fault.contains("missing"), "{fault}");
}

#[test]
fn recovery_may_be_killed_after_any_step_of_its_own() {
    let story = story(&settings());
    let mut explored = 0;
    for step in (0..=story.disk.steps()).step_by(31) {
        let first = story.disk.killed_at(step);
        let begun = first.steps();
        drop(open(&first, 1));
        for again in begun..=first.steps() {
            let books = found(&first.killed_at(again));
            assert!(story.allowed(step).contains(&&books), "killed at {step}, again at {again}: {books:?}");
            explored += 1;
        }
    }
    println!("{explored} crash points of recovery explored");
}

#[test]
fn killed_after_any_step_of_writing_a_file_again_nothing_of_its_earlier_life_comes_back() {
    let mut story = Story::new();
    let disk = story.disk.clone();
    let (journal, writers) = open(&disk, 1);
    let mut explored = 0;
    let mut explore_all = |story: &Story| {
        let (steps, fault) = explore(story, &disk);
        assert_eq!(fault, None);
        explored += steps;
    };
    fill_to(4, &journal, &writers[0]);
    story.begin_anew();
    story.call(|| journal.prepare().unwrap(), |_| {});
    assert_eq!(disk.renames(), 1, "the fifth segment was an earlier one");
    story.pass(&writers[0], 1);
    explore_all(&story);

    fill_to(5, &journal, &writers[0]);
    story.begin_anew();
    for number in 10..20 {
        story.pass(&writers[0], number);
    }
    story.flush(&journal);
    story.pass(&writers[0], 20);
    explore_all(&story);
    println!("{explored} crash points of files written again explored");
}

/// Lets the writer get to a segment, with everything behind it flushed.
fn fill_to(sequence: u32, journal: &Journal, writer: &Writer) {
    for number in 1_000.. {
        if journal.shards[0].tail().sequence == sequence {
            break;
        }
        journal.prepare().unwrap();
        pass(writer, &Sample::of(number));
        flush(journal);
    }
}

#[test]
fn after_a_power_loss_nothing_comes_twice_and_what_was_synced_is_there() {
    unplug_at_every_step(1, |journal| journal.sync().unwrap());
}

#[test]
fn the_records_of_requests_that_have_ended_are_all_that_has_to_be_synced() {
    unplug_at_every_step(1, |journal| journal.commit().unwrap());
}

#[test]
fn a_power_loss_brings_nothing_back_of_what_a_file_held_before() {
    unplug_at_every_step(5, |journal| journal.commit().unwrap());
}

/// From a segment on. Those from the fifth on are files that are written again.
fn unplug_at_every_step(sequence: u32, sync: impl Fn(&Journal)) {
    let mut story = Story::new();
    let disk = story.disk.clone();
    let (journal, writers) = open(&disk, 1);
    fill_to(sequence, &journal, &writers[0]);
    story.begin_anew();
    let mut synced = Vec::new();
    let mut taken = Vec::new();
    let mut explored = 0;
    for number in 10..60 {
        story.pass(&writers[0], number);
        if number % 6 == 0 {
            journal.prepare().unwrap();
            sync(&journal);
            synced.push((disk.steps(), number));
        }
        if number % 8 == 0 {
            // All there is, so that what nobody has synced yet is in it.
            let cut = journal.next_cut(u32::MAX).unwrap();
            journal.begin_cut(cut).unwrap();
            let samples = requests(&super::read(&journal, &cut).0);
            journal.finish_cut(cut, Vec::new()).unwrap();
            taken.push((disk.steps(), samples));
        }
    }
    for step in (story.first_step()..disk.steps()).step_by(3) {
        for seed in [0, 1, u64::MAX, step as u64] {
            let unplugged = disk.unplugged_at(step, |at| keep(seed, at));
            let books = found(&unplugged);
            let durable = synced.iter().rev().find(|(steps, _)| *steps <= step).map_or(9, |(_, last)| *last);
            let gone: Vec<u128> =
                taken.iter().filter(|(steps, _)| *steps <= step).flat_map(|(_, it)| it.clone()).collect();
            assert!(gone.iter().all(|request| !books.contains_key(request)), "at {step}, seed {seed}");
            let maybe_gone: Vec<u128> = taken.iter().flat_map(|(_, it)| it.clone()).collect();
            let missing = (10..=durable)
                .filter(|request| !books.contains_key(request) && !maybe_gone.contains(request));
            assert_eq!(missing.count(), 0, "at {step}, seed {seed}: {books:?}, synced to {durable}");
            explored += 1;
        }
    }
    println!("{explored} power losses explored");
}

#[test]
fn what_a_file_held_in_an_earlier_life_is_neither_a_record_nor_damage() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    fill_to(5, &journal, &writers[0]);
    assert!(disk.renames() > 0);
    (1..10).for_each(|number| pass(&writers[0], &Sample::of(number)));
    let pending = journal.depth().pending_bytes;

    let (journal, _writers) = open(&disk.killed_at(disk.steps()), 1);
    assert_eq!((journal.recovery().damaged_bytes, journal.depth().pending_bytes), (0, pending));
    assert_eq!(requests(&flush(&journal)), Vec::from_iter(1..10));
}

/// All, none, or half of the words, by chance.
fn keep(seed: u64, at: usize) -> bool {
    match seed {
        0 => false,
        u64::MAX => true,
        _ => (at as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 1,
    }
}

#[test]
fn a_crashed_request_says_so_and_one_that_was_not_sent_says_nothing() {
    let disk = TapeDisk::new();
    let (_journal, writers) = open(&disk, 1);
    pass(&writers[0], &Sample::of(1));
    let _unsent = writers[0].begin(&Sample::of(2).record()).unwrap();
    let sent = writers[0].begin(&Sample::of(3).record()).unwrap();
    writers[0].sent(&sent);
    let (journal, _writers) = open(&disk.killed_at(disk.steps()), 1);
    assert_eq!((journal.recovery().crashed, journal.recovery().unsent), (1, 1));
    let samples = flush(&journal);
    assert_eq!(requests(&samples), [1, 3]);
    let crashed = samples.iter().find(|sample| sample.request == Sample::of(3).request).unwrap();
    assert_eq!(*crashed, Sample { outcome: Outcome::Crashed, ..Sample::of(3) });
}

#[test]
fn a_request_that_lingers_survives_a_power_loss_once_that_was_synced() {
    let disk = TapeDisk::new();
    let (journal, writers) = open(&disk, 1);
    let ticket = writers[0].begin(&Sample::of(1).record()).unwrap();
    let after_admission = now().plus(Duration::from_micros(1));
    assert!(!journal.sync_lingering(after_admission).unwrap(), "what was not sent counts for nothing");
    writers[0].sent(&ticket);
    assert!(!journal.sync_lingering(now()).unwrap(), "it is too young");
    assert!(journal.sync_lingering(after_admission).unwrap());
    assert!(!journal.sync_lingering(after_admission).unwrap(), "it is on the disk already");
    let synced = disk.steps();
    pass(&writers[0], &Sample::of(2));
    assert!(!journal.sync_lingering(after_admission).unwrap(), "what has ended does not linger");
    let unplugged = found(&disk.unplugged_at(disk.steps(), |_| false));
    assert_eq!(unplugged, Books::from([(1, 1)]));
    assert_eq!(found(&disk.unplugged_at(synced, |_| false)), Books::from([(1, 1)]));
    writers[0].finish(ticket, &Sample::of(1).record());
    assert!(!journal.sync_lingering(after_admission).unwrap());
}
