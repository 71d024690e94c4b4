use std::fs;
use std::os::unix::fs::FileExt;

use expect_test::expect;

use super::*;

fn refusal(directory: &TempDir) -> String {
    let message = Till::open_in(directory.path(), SETTINGS, BOOT).err().unwrap().to_string();
    message.replace(directory.path().to_str().unwrap(), "DIR")
}

/// A till with an account of 10 units, 4 of them used, that was closed; then `spoil` sees its file.
fn refusal_of(spoil: impl FnOnce(&fs::File)) -> String {
    let gate = Gate::new();
    gate.spend(&gate.account(1, 10), 4);
    gate.till.close().unwrap();
    let directory = gate.directory.clone();
    drop(gate);
    let path = directory.path().join("till");
    spoil(&fs::File::options().write(true).open(&path).unwrap());
    let before = fs::read(&path).unwrap();
    let refusal = refusal(&directory);
    assert_eq!(before, fs::read(&path).unwrap(), "a file that is not understood is left alone");
    refusal
}

#[test]
fn balances_go_on_after_a_kill() {
    let mut gate = Gate::new();
    let id = gate.till.id();
    for round in 1..=10 {
        assert!(gate.spend(&gate.account(1, 100), 7));
        gate = gate.killed();
        assert_eq!(gate.till.id(), id);
        assert_eq!(gate.till.find(&key(1)).unwrap().used(), units(7 * round));
    }
    let account = gate.account(1, 100);
    assert_eq!((0..100).filter(|_| gate.spend(&account, 1)).count(), 30);
}

#[test]
fn a_limit_that_changed_while_the_gateway_was_down_holds_from_the_opening_on() {
    let gate = Gate::new();
    assert!(gate.spend(&gate.account(1, 100), 50));
    let gate = gate.killed();
    let account = gate.account(1, 53);
    assert_eq!((0..100).filter(|_| gate.spend(&account, 1)).count(), 3);
}

#[test]
fn a_file_that_was_closed_is_good_on_any_boot() {
    let gate = Gate::new();
    assert!(gate.spend(&gate.account(1, 10), 4));
    gate.till.close().unwrap();
    let id = gate.till.id();
    let gate = gate.killed_and_booted(OTHER_BOOT);
    assert_eq!((gate.till.id(), gate.till.lost()), (id, None));
    assert_eq!(gate.account(1, 10).used(), units(4));
}

#[test]
fn after_a_power_loss_a_new_till_begins_and_what_the_old_one_used_stays_used() {
    let gate = Gate::new();
    for number in 0..5_000 {
        assert!(gate.spend(&gate.account(number, 10), 4));
    }
    let id = gate.till.id();
    let gate = gate.killed_and_booted(OTHER_BOOT);
    let lost = gate.till.lost().unwrap().clone();
    assert_ne!(gate.till.id(), id);
    assert_eq!((lost.id, lost.accounts, lost.used, lost.unreadable), (id, 5_000, units(20_000), 0));
    assert!(lost.path.is_file());
    let account = gate.account(7, 10);
    assert_eq!(account.counters(), Counters::default());
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 6);
    drop(account);
    // What the store tells later of the old till is the same use, and not more of it.
    let opening = Opening { terms: limit(11).into(), base: units(4) };
    let account = gate.till.account(&key(7), opening).unwrap();
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 1);
    drop(account);
    // And the second power loss is like the first.
    let gate = gate.killed_and_booted(BOOT);
    assert_eq!(gate.account(7, 12).used(), units(11));
}

#[test]
fn a_power_loss_that_tore_a_page_costs_only_what_was_on_it() {
    let gate = Gate::new();
    for number in 0..10 {
        assert!(gate.spend(&gate.account(number, 10), 4));
    }
    let file = fs::File::options().write(true).open(gate.directory.path().join("till")).unwrap();
    file.write_all_at(&[0xff; 8], 4096 + 192 * 3 + 96).unwrap();
    let gate = gate.killed_and_booted(OTHER_BOOT);
    let lost = gate.till.lost().unwrap();
    assert_eq!((lost.accounts, lost.unreadable), (9, 1));
}

#[test]
fn a_directory_has_one_gateway() {
    let gate = Gate::new();
    let message = refusal(&gate.directory).replace(&std::process::id().to_string(), "PID");
    expect![
        "DIR is in use by another gateway (process PID); stop it, or give this one another data directory"
    ]
    .assert_eq(&message);
    let held = gate.account(1, 10);
    let directory = gate.directory.clone();
    drop(gate);
    assert!(Till::open_in(directory.path(), SETTINGS, BOOT).is_err(), "an account is still held");
    drop(held);
    assert!(Till::open_in(directory.path(), SETTINGS, BOOT).is_ok());
}

#[test]
fn a_file_that_is_no_till_is_refused_and_left_alone() {
    expect!["DIR/till is no till; move it out of the way if it is not needed"]
        .assert_eq(&refusal_of(|file| file.write_all_at(b"precious", 0).unwrap()));
    expect!["DIR/till is no till; move it out of the way if it is not needed"]
        .assert_eq(&refusal_of(|file| file.set_len(3).unwrap()));
}

#[test]
fn a_till_of_a_later_format_is_refused() {
    expect!["DIR/till is a till of format 2, this version of tollgate reads format 1"]
        .assert_eq(&refusal_of(|file| file.write_all_at(&[2], 8).unwrap()));
}

#[test]
fn a_damaged_till_is_refused_with_what_to_do() {
    expect!["DIR/till is damaged: its header fails its checksum; move it out of the way to begin anew from the database"]
        .assert_eq(&refusal_of(|file| file.write_all_at(&[9], 20).unwrap()));
    expect!["DIR/till is damaged: a slot's key fails its checksum (slot 0); move it out of the way to begin anew from the database"]
        .assert_eq(&refusal_of(|file| file.write_all_at(&[9], 4096 + 100).unwrap()));
}

#[test]
fn the_file_grows_by_chunks_up_to_its_bound() {
    let gate = Gate::new();
    let held: Vec<_> = (0..10_000).map(|number| gate.account(number, 1)).collect();
    let full = gate.till.account(&key(10_000), opening(1)).unwrap_err();
    expect!["the till holds 10000 accounts already, as many as it may"].assert_eq(&full.to_string());
    assert!(held.iter().all(|account| gate.spend(account, 1)));
    drop(held);
    let gate = gate.killed();
    assert_eq!(gate.till.len(), 10_000);
    assert!(gate.till.counters().iter().all(|(_, counters)| counters.used() == 1));
    assert_eq!(fs::metadata(gate.directory.path().join("till")).unwrap().len(), 4096 + 3 * 4096 * 192);
}

#[test]
fn a_slot_is_reused_when_its_window_is_over_flushed_and_let_go() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    assert!(gate.spend(&account, 3));
    let over = key(1).window.end.plus(Till::REUSE_GRACE);
    let early = Timestamp::from_micros(over.micros() - 1);
    gate.till.set_journalled(&key(1), 2);
    assert_eq!(gate.till.reuse_ended(over), 0, "it is held");
    drop(account);
    assert_eq!(gate.till.reuse_ended(over), 0, "one unit is not in the database");
    gate.till.set_journalled(&key(1), 3);
    gate.till.set_journalled(&key(1), 1);
    assert_eq!(gate.till.reuse_ended(early), 0, "a late request may still come");
    assert_eq!(gate.till.reuse_ended(over), 1);
    assert_eq!((gate.till.len(), gate.authority.forget_ended(over)), (0, 1));
    let next = gate.account(2, 10);
    assert_eq!(next.counters(), Counters::default());
    assert!(gate.spend(&next, 1));
    drop(next);
    let gate = gate.killed();
    assert_eq!(gate.till.counters().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(2)]);
}

#[test]
fn units_that_were_never_sent_are_written_back_from_the_overage_first() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    gate.admit(&[soft(&account, 12)]).unwrap().sent();
    gate.till.write_back(&key(1), units(5));
    assert_eq!((account.counters().overage(), account.used()), (0, units(7)));
    gate.till.write_back(&key(1), units(100));
    assert_eq!(account.used(), Units::ZERO);
}
