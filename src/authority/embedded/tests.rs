use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::clock::Monotonic;
use crate::domain::{Enforcement, Owner, Period, TenantId, Window};
use crate::till::refill::{Ask, Refilled};
use crate::till::{Account, Charge, Opening, TillSettings, reserve};

struct Gate {
    authority: Embedded,
    till: Arc<Till>,
    _directory: TempDir,
}

impl Gate {
    fn new() -> Gate {
        let directory = TempDir::new().unwrap();
        let till = Arc::new(Till::open(directory.path(), &TillSettings::default()).unwrap());
        Gate { authority: Embedded::new(till.clone()), till, _directory: directory }
    }

    fn account(&self, number: u128, limit: u64) -> Account {
        let opening = Opening { terms: Limit::Of(units(limit)).into(), base: Units::ZERO };
        self.till.account(&key(number), opening).unwrap()
    }
}

fn key(number: u128) -> AccountKey {
    let window = Window {
        period: Period::Day,
        start: Timestamp::from_seconds(0),
        end: Timestamp::from_seconds(86_400),
    };
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(number)));
    AccountKey { owner, resource: "api_calls".parse().unwrap(), window }
}

fn units(units: u64) -> Units {
    Units::new(units).unwrap()
}

fn ask(account: &Account, wanted: u64) -> Ask {
    let charge = Charge::new(account, units(wanted), Enforcement::Hard);
    Ask::new(account, (&charge).into(), Monotonic::default())
}

fn other_till(number: u128) -> TillId {
    TillId(Uuid::from_u128(number))
}

/// What a till of another process asks for.
fn foreign(account: &Account, till: TillId, claim: Counters, granted_target: u64) -> Renew {
    let granted_least = granted_target.min(claim.granted + 1);
    Renew { till, claim, granted_target, granted_least, ..Ask::claim(account).renew }
}

#[test]
fn an_answer_that_comes_twice_or_late_counts_once() {
    let gate = Gate::new();
    let account = gate.account(1, 100);
    let early = ask(&account, 1);
    let first = gate.authority.renew_now(&early.renew);
    let again = gate.authority.renew_now(&early.renew);
    assert_eq!((first.granted, again.granted), (100, 100));
    assert_eq!(early.answered(&account, &first), Refilled::Granted);
    early.answered(&account, &again);
    assert_eq!(account.counters().balance(), 100);
}

#[test]
fn tills_that_share_an_account_get_the_limit_between_them() {
    let gate = Gate::new();
    let account = gate.account(1, 1_000);
    let mut claims = [Counters::default(); 3];
    gate.authority.renew_now(&Ask::claim(&account).renew);
    for round in 0..1_000 {
        let which = round % claims.len();
        let claim = claims[which];
        let asked = foreign(&account, other_till(which as u128), claim, claim.granted + 400);
        claims[which].granted = gate.authority.renew_now(&asked).granted;
    }
    let mine = gate.authority.renew_now(&ask(&account, 1).renew).granted;
    assert_eq!(claims.iter().map(|claim| claim.granted).sum::<u64>() + mine, 1_000);
}

#[test]
fn what_idles_in_another_till_is_waited_for_and_not_denied() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let claim = Counters { granted: 10, spent: 4, ..Counters::default() };
    gate.authority.renew_now(&foreign(&account, other_till(1), claim, 10));
    let asked = ask(&account, 1);
    let renewed = gate.authority.renew_now(&asked.renew);
    assert_eq!((renewed.remaining, renewed.idle_elsewhere), (Units::ZERO, units(6)));
    assert_eq!(asked.answered(&account, &renewed), Refilled::Waiting);
    assert!(!account.is_spent());
    gate.authority.renew_now(&foreign(&account, other_till(1), Counters { returned: 6, ..claim }, 10));
    let renewed = gate.authority.renew_now(&asked.renew);
    assert_eq!(asked.answered(&account, &renewed), Refilled::Granted);
    assert_eq!((account.counters().balance(), renewed.remaining), (1, units(5)));
}

#[test]
fn less_than_helps_is_not_granted_and_denied_from_memory_afterwards() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let claim = Counters { granted: 7, spent: 7, ..Counters::default() };
    gate.authority.renew_now(&foreign(&account, other_till(1), claim, 7));
    let asked = ask(&account, 5);
    assert_eq!(asked.answered(&account, &gate.authority.renew_now(&asked.renew)), Refilled::Spent);
    let charge = |amount| Charge::new(&account, units(amount), Enforcement::Hard);
    assert!(reserve(&[charge(5)]).unwrap_err().is_spent);
    assert!(!reserve(&[charge(3)]).unwrap_err().is_spent, "three units are still to be had");
}

#[test]
fn a_restarted_authority_learns_from_the_tills_claims() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let asked = ask(&account, 1);
    asked.answered(&account, &gate.authority.renew_now(&asked.renew));
    let charge = Charge::new(&account, units(7), Enforcement::Hard);
    reserve(&[charge]).unwrap().sent();
    let renewed = Embedded::new(gate.till.clone()).renew_now(&ask(&account, 5).renew);
    assert_eq!((renewed.granted, renewed.remaining), (10, Units::ZERO));
}
