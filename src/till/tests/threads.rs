use std::thread;

use super::*;

const LIMIT: u64 = 20_000;

fn count(gate: &Gate, threads: usize, work: impl Fn(&Gate) -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(gate))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn many_threads_get_exactly_the_limit() {
    let gate = Gate::new();
    gate.account(1, LIMIT);
    let admitted = count(&gate, 8, |gate| {
        let account = gate.till.find(&key(1)).unwrap();
        std::iter::repeat_with(|| gate.spend(&account, 1)).take_while(|spent| *spent).count() as u64
    });
    assert_eq!(admitted, LIMIT);
}

#[test]
fn refunds_and_changes_of_the_limit_under_load_lose_and_invent_nothing() {
    let gate = Gate::new();
    let [small, large] = [gate.account(1, 100), gate.account(2, LIMIT)];
    let kept = count(&gate, 4, |_| {
        let mut kept = 0;
        for round in 0..5_000_u64 {
            if round % 50 == 0 {
                large.set_terms(limit(LIMIT - round).into());
            }
            if let Ok(mut reservation) = gate.admit(&[hard(&large, 3), hard(&small, 1)]) {
                reservation.sent();
                if round % 3 == 0 {
                    reservation.settle(0, units(1));
                    kept += 1;
                } else {
                    reservation.refund();
                }
            }
            let used = small.used().get();
            assert!(used <= 100, "{used} of 100");
        }
        kept
    });
    assert_eq!((small.used().get(), large.used().get()), (kept.min(100), kept));
    assert_eq!(kept, 100, "demand was there for all of it");
    large.set_terms(limit(LIMIT).into());
    let rest = std::iter::repeat_with(|| gate.spend(&large, 1)).take_while(|spent| *spent).count() as u64;
    assert_eq!(kept + rest, LIMIT);
}

#[test]
fn a_limit_that_is_raised_step_by_step_is_used_to_the_unit() {
    let gate = Gate::new();
    let account = gate.account(1, 0);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let admitted: u64 = thread::scope(|scope| {
        let takers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut admitted = 0;
                    loop {
                        let was_done = is_done.load(std::sync::atomic::Ordering::SeqCst);
                        let has_spent = gate.spend(&account, 1);
                        admitted += u64::from(has_spent);
                        if was_done && !has_spent {
                            return admitted;
                        }
                    }
                })
            })
            .collect();
        for step in 1..=2_000 {
            account.set_terms(limit(step).into());
        }
        is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(admitted, 2_000);
}

#[test]
fn one_account_is_opened_by_many_threads_once() {
    let gate = Gate::new();
    let admitted =
        count(&gate, 8, |gate| (0..500).filter(|n| gate.spend(&gate.account(n % 100, 3), 1)).count() as u64);
    assert_eq!((admitted, gate.till.len()), (300, 100));
}
