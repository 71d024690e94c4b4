//! A journal that is full, under both policies; and answers that wait for the disk.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::tape::TapeDisk;
use super::{Sample, flush, pass, requests, settings};
use crate::domain::{Outcome, Units};
use crate::journal::{Journal, JournalFull, JournalSettings, OnFull, Pressure, SyncPolicy, Writer};

fn open_with(disk: &TapeDisk, settings: &JournalSettings) -> (Journal, Writer) {
    let (journal, mut writers) = super::open_with(disk, 1, settings);
    (journal, writers.remove(0))
}

/// Two segments and no more.
fn tight(on_full: OnFull) -> JournalSettings {
    JournalSettings { capacity_bytes: 2 * 8_192, on_full, ..settings() }
}

/// Fills the journal by requests from `first` on; answers the first that found it full.
fn fill(journal: &Journal, writer: &Writer, first: u128) -> u128 {
    let mut number = first;
    while journal.depth().details_dropped == 0 {
        journal.prepare().unwrap();
        pass(writer, &Sample::of(number));
        number += 1;
    }
    number - 1
}

fn units(samples: &[Sample]) -> u64 {
    samples.iter().flat_map(|sample| &sample.charges).map(|charge| charge.units.get()).sum()
}

#[test]
fn a_full_journal_counts_every_unit_and_drains_into_records() {
    let disk = TapeDisk::new();
    let (journal, writer) = open_with(&disk, &tight(OnFull::CountOnly));
    let full = fill(&journal, &writer, 1);
    assert_eq!(journal.depth().pressure(), Pressure::Full);
    for number in full + 1..full + 1_000 {
        let mut sample = Sample::of(number);
        sample.charges[0].units = Units::saturating(1 + (number % 3) as u64);
        pass(&writer, &sample);
    }
    assert_eq!(journal.depth().details_dropped, 1_000);
    assert_eq!(writer.in_flight(), 0);
    let counted: u64 = journal.counted().values().sum();
    assert_eq!(counted, 1 + (full + 1..full + 1_000).map(|number| 1 + (number % 3) as u64).sum::<u64>());

    let detailed = flush(&journal);
    journal.prepare().unwrap();
    assert_eq!(journal.depth().pressure(), Pressure::Low);
    writer.tick();
    assert!(journal.counted().is_empty());
    let sums = flush(&journal);
    assert_eq!((detailed.len() as u128, sums.len()), (full - 1, 1));
    assert_eq!((units(&sums), &*sums[0].route), (counted, "(counted only)"));
}

#[test]
fn a_blocking_journal_counts_nothing() {
    let (journal, writer) = open_with(&TapeDisk::new(), &tight(OnFull::Block));
    let mut passed = 0;
    let refused = loop {
        match writer.begin(&Sample::of(passed + 1).record()) {
            Ok(ticket) => {
                passed += 1;
                writer.sent(&ticket);
                writer.finish(ticket, &Sample::of(passed).record());
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, JournalFull::Space);
    assert_eq!((journal.depth().pressure(), journal.depth().details_dropped), (Pressure::Full, 0));
    assert_eq!(flush(&journal).len() as u128, passed);
}

#[test]
fn killed_after_any_step_of_counting_no_unit_is_lost_or_doubled() {
    let disk = TapeDisk::new();
    let (journal, writer) = open_with(&disk, &tight(OnFull::CountOnly));
    let full = fill(&journal, &writer, 1);
    let begun = disk.steps();
    // The units that may be found after each step: those before a call and those after it.
    let mut pages = vec![(begun, u64::try_from(full).unwrap())];
    let mut used = pages[0].1;
    for number in full + 1..full + 12 {
        let key = if number % 2 == 0 { Sample::of(number).key } else { None };
        let sample = Sample { key, ..Sample::of(number) };
        let ticket = writer.begin(&sample.record()).unwrap();
        pages.push((disk.steps(), used));
        writer.sent(&ticket);
        used += 1;
        pages.push((disk.steps(), used));
        writer.finish(ticket, &sample.record());
        pages.push((disk.steps(), used));
    }
    let mut explored = 0;
    for step in begun..=disk.steps() {
        let after = pages.partition_point(|(steps, _)| *steps < step);
        let allowed = [pages[after.saturating_sub(1)].1, pages[after.min(pages.len() - 1)].1];
        let (journal, _writer) = open_with(&disk.killed_at(step), &tight(OnFull::CountOnly));
        let found = units(&flush(&journal));
        assert!(allowed.contains(&found), "killed at {step}: {found} of {allowed:?}");
        explored += 1;
    }
    println!("{explored} crash points of counting");
    assert!(explored > 200, "{explored}");
}

#[test]
fn a_crash_turns_a_sum_into_one_crashed_record() {
    let disk = TapeDisk::new();
    let (journal, writer) = open_with(&disk, &tight(OnFull::CountOnly));
    let full = fill(&journal, &writer, 1);
    (full + 1..full + 10).for_each(|number| pass(&writer, &Sample::of(number)));
    let (journal, _writer) = open_with(&disk.killed_at(disk.steps()), &tight(OnFull::CountOnly));
    assert_eq!((journal.recovery().crashed, journal.recovery().unsent), (1, 0));
    let samples = flush(&journal);
    let crashed: Vec<_> = samples.iter().filter(|sample| sample.outcome == Outcome::Crashed).collect();
    assert_eq!((crashed.len(), crashed[0].charges[0].units.get()), (1, 10));
    assert_eq!(requests(&samples).len() as u128, full);
}

#[test]
fn pressure_rises_with_what_waits_for_the_database() {
    let roomy = JournalSettings { capacity_bytes: 10 * 8_192, ..settings() };
    let (journal, writer) = open_with(&TapeDisk::new(), &roomy);
    let mut reached = BTreeMap::new();
    for number in 0..560 {
        journal.prepare().unwrap();
        let depth = journal.depth();
        reached.entry(depth.pressure()).or_insert(depth.pending_percent());
        let Ok(ticket) = writer.begin(&Sample::of(number).record()) else { break };
        writer.abandon(ticket);
        pass(&writer, &Sample::of(number));
    }
    assert_eq!(reached[&Pressure::Low], 0);
    assert_eq!(reached[&Pressure::Half], 50);
    assert!((70..=80).contains(&reached[&Pressure::High]), "{reached:?}");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn answers_wait_for_the_sync_that_reaches_their_records_and_share_it() {
    let (journal, writer) =
        open_with(&TapeDisk::new(), &JournalSettings { sync: SyncPolicy::Always, ..settings() });
    let finish = |number: u128| {
        let sample = Sample::of(number);
        let ticket = writer.begin(&sample.record()).unwrap();
        writer.sent(&ticket);
        writer.finish(ticket, &sample.record())
    };
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut first = pin!(writer.synced(finish(1)));
    let mut second = pin!(writer.synced(finish(2)));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    // It was rung, or this would take an hour.
    journal.wait_for_commit(Duration::from_secs(3_600));
    journal.commit().unwrap();
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    let mut third = pin!(writer.synced(finish(3)));
    assert!(third.as_mut().poll(&mut context).is_pending(), "its record came after the sync");
    assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(()));
    assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(()));
}

#[test]
fn under_other_policies_no_answer_waits() {
    for sync in [SyncPolicy::Never, SyncPolicy::Every(Duration::from_millis(50))] {
        let (_journal, writer) = open_with(&TapeDisk::new(), &JournalSettings { sync, ..settings() });
        let sample = Sample::of(1);
        let ticket = writer.begin(&sample.record()).unwrap();
        writer.sent(&ticket);
        let position = writer.finish(ticket, &sample.record());
        let mut context = Context::from_waker(Waker::noop());
        assert!(!writer.answers_wait());
        assert_eq!(pin!(writer.synced(position)).poll(&mut context), Poll::Ready(()));
    }
}
