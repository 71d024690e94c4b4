//! Random requests against a model that is too simple to be wrong.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use super::*;

const ACCOUNTS: usize = 3;

/// One till for all cases, with accounts of their own: opening one waits for the disk.
static GATE: LazyLock<Gate> = LazyLock::new(Gate::new);
static CASES: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Debug)]
enum Step {
    Admit(Vec<(usize, u64, Enforcement)>),
    Sent(usize),
    Refund(usize),
    Drop(usize),
    Settle(usize, usize, u64),
    SetLimit(usize, Option<u64>),
    Release(usize, u64),
    GiveBack(usize, u64),
}

/// One account of the model: a limit and a number.
#[derive(Clone, Copy, Debug)]
struct Simple {
    limit: Option<u64>,
    used: u64,
}

/// One reservation of the model.
struct Held {
    taken: Vec<(usize, u64)>,
    is_sent: bool,
    is_refunded: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let account = 0..ACCOUNTS;
    let enforcement = prop_oneof![
        3 => Just(Enforcement::Hard),
        1 => Just(Enforcement::Soft),
        1 => Just(Enforcement::Monitor)
    ];
    let charge = (account.clone(), 0..20_u64, enforcement);
    let step = prop_oneof![
        6 => vec(charge, 1..5).prop_map(Step::Admit),
        2 => (0..8_usize).prop_map(Step::Sent),
        1 => (0..8_usize).prop_map(Step::Refund),
        2 => (0..8_usize).prop_map(Step::Drop),
        2 => (0..8_usize, 0..4_usize, 0..30_u64).prop_map(|(held, charge, units)| Step::Settle(held, charge, units)),
        1 => (account.clone(), proptest::option::of(0..100_u64))
            .prop_map(|(account, limit)| Step::SetLimit(account, limit)),
        1 => (account.clone(), 0..30_u64).prop_map(|(account, units)| Step::Release(account, units)),
        1 => (account, 0..30_u64).prop_map(|(account, units)| Step::GiveBack(account, units)),
    ];
    vec(step, 1..80)
}

/// Adds up the charges one by one, and forgets it all if one does not fit.
fn admit(model: &mut [Simple; ACCOUNTS], charges: &[(usize, u64, Enforcement)]) -> bool {
    let before = *model;
    for &(account, units, enforcement) in charges {
        let simple = &mut model[account];
        let fits = simple.limit.is_none_or(|limit| simple.used + units <= limit) || units == 0;
        if enforcement == Enforcement::Hard && !fits {
            *model = before;
            return false;
        }
        simple.used += units;
    }
    true
}

fn settle(model: &mut [Simple; ACCOUNTS], taken: &mut (usize, u64), units: u64) {
    let simple = &mut model[taken.0];
    simple.used = simple.used - taken.1 + units;
    taken.1 = units;
}

/// Use of an account that no reservation can give back any more.
fn for_good(model: &[Simple; ACCOUNTS], reservations: &[(Reservation<'_>, Held)], account: usize) -> u64 {
    let taken = reservations.iter().flat_map(|(_, held)| &held.taken);
    model[account].used - taken.filter(|taken| taken.0 == account).map(|taken| taken.1).sum::<u64>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_till_does_what_adding_up_does(limits in [0..60_u64, 0..60, 0..60], steps in steps()) {
        let gate = &*GATE;
        let case = CASES.fetch_add(1, Ordering::Relaxed);
        let accounts: [Account; ACCOUNTS] =
            std::array::from_fn(|n| gate.account(u128::from(case) << 64 | n as u128, limits[n]));
        let mut model: [Simple; ACCOUNTS] = std::array::from_fn(|n| Simple { limit: Some(limits[n]), used: 0 });
        let mut reservations: Vec<(Reservation<'_>, Held)> = Vec::new();

        for step in steps {
            let before = accounts.each_ref().map(Account::counters);
            match step {
                Step::Admit(charges) => {
                    let asked: SmallVec<[Charge<'_>; 8]> = charges
                        .iter()
                        .map(|&(account, amount, enforcement)| Charge::new(&accounts[account], units(amount), enforcement))
                        .collect();
                    let admitted = gate.admit(&asked);
                    prop_assert_eq!(admitted.is_ok(), admit(&mut model, &charges));
                    if let Ok(reservation) = admitted {
                        let taken = charges.iter().map(|&(account, units, _)| (account, units)).collect();
                        reservations.push((reservation, Held { taken, is_sent: false, is_refunded: false }));
                    }
                }
                Step::Sent(which) => {
                    if let Some((reservation, held)) = reservations.get_mut(which) {
                        reservation.sent();
                        held.is_sent = true;
                        prop_assert_eq!(before, accounts.each_ref().map(Account::counters));
                    }
                }
                Step::Refund(which) => {
                    if let Some((reservation, held)) = reservations.get_mut(which) {
                        reservation.refund();
                        for taken in &mut held.taken {
                            settle(&mut model, taken, 0);
                        }
                        held.is_refunded = true;
                    }
                }
                Step::Drop(which) => {
                    if which < reservations.len() {
                        let (reservation, mut held) = reservations.remove(which);
                        drop(reservation);
                        for taken in held.taken.iter_mut().filter(|_| !held.is_sent) {
                            settle(&mut model, taken, 0);
                        }
                    }
                }
                Step::Settle(which, charge, amount) => {
                    if let Some((reservation, held)) = reservations.get_mut(which)
                        && charge < held.taken.len()
                    {
                        reservation.settle(charge, units(amount));
                        if !held.is_refunded {
                            settle(&mut model, &mut held.taken[charge], amount);
                        }
                        let recorded = reservation.charged()[charge].units.get();
                        prop_assert_eq!(recorded, held.taken[charge].1);
                    }
                }
                Step::SetLimit(account, to) => {
                    accounts[account].set_terms(limit(to).into());
                    model[account].limit = to;
                }
                Step::Release(account, amount) => {
                    let amount = amount.min(for_good(&model, &reservations, account));
                    prop_assert!(accounts[account].release(units(model[account].used + 1)).is_err());
                    prop_assert!(accounts[account].release(units(amount)).is_ok());
                    model[account].used -= amount;
                }
                Step::GiveBack(account, amount) => {
                    accounts[account].give_back(units(amount));
                }
            }
            for (account, simple) in accounts.iter().zip(&model) {
                let counters = account.counters();
                prop_assert_eq!(counters.used(), simple.used, "{:?}", account);
                prop_assert!(counters.refunded <= counters.spent);
                prop_assert!(counters.over_returned <= counters.over);
                prop_assert!(counters.spent - counters.refunded <= counters.held(), "{:?}", account);
            }
            for (account, then) in accounts.iter().zip(before) {
                let now = account.counters();
                prop_assert_eq!(now, now.merged(&then), "a counter fell");
            }
        }
    }
}
