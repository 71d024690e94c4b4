use smallvec::SmallVec;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::clock::{Monotonic, TestClock};
use crate::domain::{Enforcement, Owner, Period, TenantId, Window};
use crate::till::refill::{self, Refilled};
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
        let authority = Embedded::new(till.clone(), Arc::new(TestClock::default()));
        Gate { authority, till, _directory: directory }
    }

    fn account(&self, number: u128, limit: u64) -> Account {
        let opening = Opening { limit: Limit::Of(units(limit)), base: Units::ZERO };
        self.till.account(&key(number), opening).unwrap()
    }

    fn renewed(&self, renew: Renew) -> Renewed {
        match self.authority.renew_now(&[renew])[0] {
            Answer::Renewed(renewed) => renewed,
            Answer::NoAccount(key) => panic!("{key:?} is not known"),
        }
    }

    /// Spends a unit of a leaf whose pool is `pool`, waiting for nothing.
    fn spend(&self, leaf: &Account, pool: u128) -> bool {
        let charge = Charge { account: leaf, units: Units::ONE, enforcement: Enforcement::Hard };
        for _ in 0..2 {
            if let Ok(mut reservation) = reserve(&[charge]) {
                reservation.sent();
                return true;
            }
            let renewed = self.renewed(Renew { path: path([*leaf.key(), key(pool)]), ..ask(leaf, 1) });
            if refill::apply(leaf, &renewed) == Refilled::Spent {
                return false;
            }
        }
        false
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

fn ask(account: &Account, wanted: u64) -> Renew {
    refill::ask(account, units(wanted), Monotonic::default())
}

fn path<const N: usize>(levels: [AccountKey; N]) -> AccountPath {
    AccountPath::from_slice(&levels)
}

fn other_till(number: u128) -> TillId {
    TillId(Uuid::from_u128(number))
}

/// What a till of another process asks for.
fn foreign(till: TillId, claim: Counters, granted_target: u64) -> Renew {
    let path = path([key(1)]);
    Renew { path, till, epoch: crate::till::protocol::Epoch(0), claim, granted_target, asked_at: 0 }
}

#[test]
fn an_answer_that_comes_twice_or_late_counts_once() {
    let gate = Gate::new();
    let account = gate.account(1, 100);
    let early = ask(&account, 1);
    let first = gate.renewed(early.clone());
    let again = gate.renewed(early);
    assert_eq!((first.granted, again.granted), (100, 100));
    assert_eq!(refill::apply(&account, &first), Refilled::Granted);
    refill::apply(&account, &again);
    assert_eq!(account.counters().balance(), 100);
}

#[test]
fn an_account_that_nobody_told_of_is_missing_and_not_empty() {
    let gate = Gate::new();
    let asked = foreign(other_till(1), Counters::default(), 5);
    assert_eq!(gate.authority.renew_now(std::slice::from_ref(&asked))[0], Answer::NoAccount(key(1)));
    let init = Init { account: key(1), limit: Limit::Of(units(10)), base: units(8) };
    futures_now(gate.authority.init(&[init])).unwrap();
    assert_eq!(gate.renewed(asked).granted, 2);
}

#[test]
fn tills_that_share_an_account_get_the_limit_between_them() {
    let gate = Gate::new();
    let account = gate.account(1, 1_000);
    let mut claims = [Counters::default(); 3];
    gate.renewed(ask(&account, 0));
    for round in 0..1_000 {
        let which = round % claims.len();
        let claim = claims[which];
        let asked = foreign(other_till(which as u128), claim, claim.granted + 400);
        claims[which].granted = gate.renewed(asked).granted;
    }
    let mine = gate.renewed(ask(&account, 1)).granted;
    assert_eq!(claims.iter().map(|claim| claim.granted).sum::<u64>() + mine, 1_000);
}

#[test]
fn what_idles_in_another_till_is_waited_for_and_not_denied() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    let claim = Counters { granted: 10, spent: 4, ..Counters::default() };
    gate.renewed(foreign(other_till(1), claim, 10));
    let renewed = gate.renewed(ask(&account, 1));
    assert_eq!((renewed.remaining, renewed.idle_elsewhere), (Units::ZERO, units(6)));
    assert_eq!(refill::apply(&account, &renewed), Refilled::Waiting);
    assert!(!account.is_spent());
    gate.renewed(foreign(other_till(1), Counters { returned: 6, ..claim }, 10));
    let renewed = gate.renewed(ask(&account, 1));
    assert_eq!(refill::apply(&account, &renewed), Refilled::Granted);
    assert_eq!((account.counters().balance(), renewed.remaining), (1, units(5)));
}

#[test]
fn a_pool_is_shared_to_the_unit_by_the_accounts_below_it() {
    let gate = Gate::new();
    gate.account(100, 50);
    let leaves = [gate.account(1, 40), gate.account(2, 40), gate.account(3, 5)];
    let mut spent = [0; 3];
    for round in 0..200 {
        let which = round % leaves.len();
        spent[which] += u64::from(gate.spend(&leaves[which], 100));
    }
    assert_eq!(spent.iter().sum::<u64>(), 50);
    assert_eq!(spent[2], 5);
}

#[test]
fn lowering_a_pools_limit_takes_back_what_idles_below_it() {
    let gate = Gate::new();
    let pool = gate.account(100, 50);
    let leaf = gate.account(1, 50);
    assert!(gate.spend(&leaf, 100));
    futures_now(gate.authority.set_limit(pool.key(), Limit::Of(units(10)))).unwrap();
    let spent = (0..100).filter(|_| gate.spend(&leaf, 100)).count();
    assert_eq!((spent, pool.limit()), (9, Limit::Of(units(10))));
}

#[test]
fn a_restarted_authority_learns_from_the_tills_claims() {
    let gate = Gate::new();
    let account = gate.account(1, 10);
    refill::apply(&account, &gate.renewed(ask(&account, 1)));
    reserve(&[Charge { account: &account, units: units(7), enforcement: Enforcement::Hard }]).unwrap().sent();
    let restarted = Embedded::new(gate.till.clone(), Arc::new(TestClock::default()));
    let answers: SmallVec<[Answer; 1]> = restarted.renew_now(&[ask(&account, 5)]);
    let Answer::Renewed(renewed) = answers[0] else { panic!("the till has the account") };
    assert_eq!((renewed.granted, renewed.remaining), (10, Units::ZERO));
}

/// The output of a future that is ready at once.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it would have waited"),
    }
}
