use super::*;

fn used(account: &Account) -> u64 {
    account.used().get()
}

#[test]
fn exactly_the_limit_is_admitted() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    assert_eq!((0..100).filter(|_| gate.spend(&account, 1)).count(), 10);
    assert_eq!((used(&account), account.remaining()), (10, Some(Units::ZERO)));
}

#[test]
fn a_denied_request_moves_no_counter() {
    let gate = Gate::new();
    let [first, second, third] = [gate.account(1, 10), gate.account(2, 2), gate.account(3, 10)];
    let charges = [hard(&first, 1), hard(&second, 1), hard(&third, 3)];
    for _ in 0..2 {
        gate.admit(&charges).unwrap().sent();
    }
    let before = gate.till.counters();
    for _ in 0..5 {
        assert_eq!(gate.admit(&charges).unwrap_err(), Dry { index: 1, is_spent: true });
    }
    assert_eq!(gate.till.counters(), before);
    assert_eq!([used(&first), used(&second), used(&third)], [2, 2, 6]);
}

#[test]
fn a_charge_of_nothing_passes_at_the_limit() {
    let gate = Gate::new();
    let account = gate.account(1, 0);
    assert!(gate.spend(&account, 0));
    assert!(!gate.spend(&account, 1));
}

#[test]
fn a_charge_above_what_is_left_is_denied_and_a_smaller_one_is_not() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    assert!(gate.spend(&account, 7));
    assert!(!gate.spend(&account, 4));
    assert!(gate.spend(&account, 3));
}

#[test]
fn two_charges_of_one_account_are_added() {
    let gate = Gate::new();
    let account = gate.account(1, 5);
    assert!(gate.admit(&[hard(&account, 3), hard(&account, 3)]).is_err());
    assert_eq!(used(&account), 0);
    gate.admit(&[hard(&account, 3), hard(&account, 2)]).unwrap().sent();
    assert_eq!(used(&account), 5);
}

#[test]
fn an_unsent_reservation_gives_its_units_back_and_a_sent_one_keeps_them() {
    let gate = Gate::new();
    let account = gate.account(1, 1);
    drop(gate.admit(&[hard(&account, 1)]).unwrap());
    assert_eq!(used(&account), 0);
    let mut reservation = gate.admit(&[hard(&account, 1)]).unwrap();
    reservation.sent();
    drop(reservation);
    assert_eq!(used(&account), 1);
    assert!(!gate.spend(&account, 1));
}

#[test]
fn units_are_refunded_at_most_once() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    assert!(gate.spend(&account, 5));
    let mut reservation = gate.admit(&[hard(&account, 2)]).unwrap();
    reservation.sent();
    reservation.refund();
    reservation.refund();
    reservation.settle(0, units(9));
    assert_eq!(reservation.charged()[0].units, Units::ZERO);
    drop(reservation);
    assert_eq!(used(&account), 5);
}

#[test]
fn settling_for_less_gives_the_rest_back() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let mut reservation = gate.admit(&[hard(&account, 8)]).unwrap();
    reservation.sent();
    reservation.settle(0, units(3));
    assert_eq!((reservation.charged()[0].units, used(&account)), (units(3), 3));
}

#[test]
fn settling_for_more_counts_what_the_limit_has_not_as_overage() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let mut reservation = gate.admit(&[hard(&account, 4)]).unwrap();
    reservation.sent();
    reservation.settle(0, units(13));
    let charged = reservation.charged()[0];
    assert_eq!((charged.units, charged.overage, used(&account)), (units(13), units(3), 13));
    reservation.settle(0, units(11));
    let charged = reservation.charged()[0];
    assert_eq!((charged.units, charged.overage, used(&account)), (units(11), units(1), 11));
}

#[test]
fn settling_for_more_than_was_granted_is_no_overage_while_the_limit_has_it() {
    let gate = Gate::new();
    let account = gate.account(1, 4);
    let mut reservation = gate.admit(&[hard(&account, 4)]).unwrap();
    reservation.sent();
    account.set_terms(limit(10).into());
    reservation.settle(0, units(9));
    assert_eq!(reservation.charged()[0].overage, Units::ZERO);
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 1);
}

#[test]
fn soft_and_monitored_charges_pass_above_the_limit_and_say_by_how_much() {
    for charge in [soft, monitor] {
        let gate = Gate::new();
        let account = gate.account(1, 5);
        let mut first = gate.admit(&[charge(&account, 3)]).unwrap();
        let mut second = gate.admit(&[charge(&account, 3)]).unwrap();
        let mut third = gate.admit(&[charge(&account, 3)]).unwrap();
        let overage = [&first, &second, &third].map(|reservation| reservation.charged()[0].overage.get());
        assert_eq!(overage, [0, 1, 3]);
        assert_eq!((used(&account), account.counters().overage()), (9, 4));
        // A mixed payment comes back to where it came from.
        second.sent();
        second.refund();
        assert_eq!((used(&account), account.counters().overage(), account.counters().balance()), (6, 3, 2));
        first.sent();
        third.sent();
    }
}

#[test]
fn overage_counts_against_a_limit_that_is_raised() {
    let gate = Gate::new();
    let account = gate.account(1, 5);
    gate.admit(&[soft(&account, 8)]).unwrap().sent();
    account.set_terms(limit(10).into());
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 2);
}

#[test]
fn an_unlimited_account_is_only_counted_and_its_use_stays_when_it_gets_a_limit() {
    let gate = Gate::new();
    let account = gate.account(1, None);
    let mut reservation = reserve(&[hard(&account, 70)]).unwrap();
    reservation.sent();
    assert_eq!(reservation.charged()[0].overage, Units::ZERO);
    assert_eq!((used(&account), account.remaining()), (70, None));
    account.set_terms(limit(72).into());
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 2);
    account.set_terms(Limit::Unlimited.into());
    assert!(gate.spend(&account, 1_000));
    account.set_terms(limit(1_072).into());
    assert!(!gate.spend(&account, 1));
}

#[test]
fn a_raised_limit_holds_at_once_and_a_lowered_one_as_well() {
    let gate = Gate::new();
    let account = gate.account(1, 5);
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 5);
    account.set_terms(limit(8).into());
    assert_eq!((0..2).filter(|_| gate.spend(&account, 1)).count(), 2);
    account.set_terms(limit(6).into());
    assert!(!gate.spend(&account, 1));
    assert_eq!(used(&account), 7);
    account.set_terms(limit(9).into());
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 2);
}

#[test]
fn a_refund_under_a_lowered_limit_admits_nothing_above_it() {
    let gate = Gate::new();
    let account = gate.account(1, 100);
    let mut reservation = gate.admit(&[hard(&account, 80)]).unwrap();
    reservation.sent();
    account.set_terms(limit(50).into());
    reservation.settle(0, units(60));
    assert!(!gate.spend(&account, 1));
    reservation.settle(0, units(45));
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 5);
}

#[test]
fn a_denial_asks_nobody_until_something_changes() {
    let gate = Gate::new();
    let account = gate.account(1, 3);
    let is_denied = || reserve(&[hard(&account, 1)]).is_err_and(|dry| dry.is_spent);
    assert!(gate.spend(&account, 3));
    assert!(is_denied());
    account.set_terms(limit(4).into());
    assert!(!is_denied());
    assert!(gate.spend(&account, 1));
    assert!(is_denied());
    account.give_back(units(1));
    assert!(is_denied(), "nothing was idle, so nothing has changed");
}

#[test]
fn units_that_other_tills_used_are_not_there() {
    let gate = Gate::new();
    let opening = Opening { terms: limit(10).into(), base: units(7) };
    let account = gate.till.account(&key(1), opening).unwrap();
    assert_eq!((0..10).filter(|_| gate.spend(&account, 1)).count(), 3);
    assert_eq!(used(&account), 10);
}

#[test]
fn a_gauge_is_released_but_never_below_zero() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    assert!(gate.spend(&account, 10));
    account.release(units(4)).unwrap();
    assert_eq!(used(&account), 6);
    let refused = account.release(units(7)).unwrap_err();
    assert_eq!(refused, NotHeld { units: units(7), used: units(6) });
    assert_eq!(used(&account), 6);
    assert!(gate.spend(&account, 4));
    assert!(!gate.spend(&account, 1));
    gate.admit(&[soft(&account, 5)]).unwrap().sent();
    account.release(units(7)).unwrap();
    assert_eq!((used(&account), account.counters().overage()), (8, 0));
}
