//! The slot under every interleaving that the memory model allows: `slot.rs` once more, with loom's atomics.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[allow(
    clippy::duplicate_mod,
    dead_code,
    unreachable_pub,
    reason = "the slot is compiled a second time, for what races in it only"
)]
#[path = "slot.rs"]
mod slot;

use loom::sync::Arc;
use loom::thread;

use slot::{Above, KEY_WORDS, Payment, Slot};

fn slot(limit: u64, granted: u64) -> Arc<Slot> {
    let slot = Slot::default();
    slot.begin(&[0; KEY_WORDS], limit, 0);
    slot.grant(granted);
    Arc::new(slot)
}

fn take(slot: &Slot, units: u64) -> u64 {
    slot.take(units, Above::Deny).map_or(0, Payment::total)
}

fn check(slot: &Slot) {
    let counters = slot.counters();
    assert!(counters.refunded <= counters.spent, "{counters:?}");
    assert!(counters.spent - counters.refunded <= counters.granted - counters.returned, "{counters:?}");
}

/// Where there are too many interleavings: those in which threads are interrupted three times at most, which loom's
/// manual calls usually enough.
fn model_of_few_switches(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

#[test]
fn the_last_unit_goes_to_one_thread() {
    loom::model(|| {
        let slot = slot(3, 3);
        let other = slot.clone();
        let thread = thread::spawn(move || take(&other, 2));
        let mine = take(&slot, 2);
        assert_eq!(mine + thread.join().unwrap(), 2);
        check(&slot);
    });
}

#[test]
fn a_unit_is_either_taken_or_given_back() {
    loom::model(|| {
        let slot = slot(2, 2);
        let other = slot.clone();
        let thread = thread::spawn(move || other.give_back(2));
        let taken = take(&slot, 1) + take(&slot, 1);
        let given_back = thread.join().unwrap();
        assert_eq!(slot.counters().returned, given_back);
        assert!(taken + given_back <= 2);
        check(&slot);
        // Whoever came too early finds the rest now: nothing is lost.
        assert_eq!(take(&slot, 2 - taken - given_back) + taken + given_back, 2);
    });
}

#[test]
fn takes_refunds_and_returns_at_once_keep_the_sum() {
    model_of_few_switches(|| {
        let slot = slot(2, 2);
        let held = slot.take(1, Above::Deny).unwrap();
        let (refunding, returning) = (slot.clone(), slot.clone());
        let refund = thread::spawn(move || refunding.put_back(held));
        let back = thread::spawn(move || returning.give_back(1));
        let taken = take(&slot, 1);
        assert_eq!(refund.join().unwrap(), 1);
        let given_back = back.join().unwrap();
        let counters = slot.counters();
        assert_eq!(counters.used(), taken);
        assert_eq!(counters.balance(), 2 - taken - given_back);
        check(&slot);
    });
}

#[test]
fn after_a_limit_was_lowered_nothing_is_admitted_above_it() {
    model_of_few_switches(|| {
        let slot = slot(3, 3);
        let other = slot.clone();
        let thread = thread::spawn(move || {
            other.set_limit(1);
            let used = other.counters().used();
            (used, take(&other, 1))
        });
        let mine = take(&slot, 1) + take(&slot, 1);
        let (seen, later) = thread.join().unwrap();
        // A take that overlaps with the change may still count as before it; one after it may not.
        assert!(later == 0 || seen == 0, "{seen} were in use, and {later} more came in");
        assert_eq!(slot.counters().used(), mine + later);
        check(&slot);
    });
}

#[test]
fn spent_is_not_remembered_across_units_that_come_back() {
    loom::model(|| {
        let slot = slot(2, 2);
        let other = slot.clone();
        let thread = thread::spawn(move || other.give_back(1));
        // What the refill does: the change counter, the counters, the authority's verdict, the note.
        let changes = slot.changes();
        let seen = slot.counters();
        if seen.held() == 2 {
            slot.note_spent(changes, 0);
        }
        assert_eq!(thread.join().unwrap(), 1);
        assert!(!slot.is_spent(), "a unit was given back, but the account counts as spent");
    });
}

#[test]
fn use_never_falls_below_zero() {
    loom::model(|| {
        let slot = slot(1, 1);
        let held = slot.take(1, Above::Deny).unwrap();
        let other = slot.clone();
        let thread = thread::spawn(move || u64::from(other.release(1)));
        let put_back = slot.put_back(held);
        assert_eq!(put_back + thread.join().unwrap(), 1);
        assert_eq!(slot.counters().used(), 0);
        check(&slot);
    });
}
