//! What one admission costs: nanoseconds, without I/O.
//!
//! `cargo bench --bench decide`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::authority::Embedded;
use tollgate::clock::{Monotonic, SystemClock, Timestamp};
use tollgate::domain::{AccountKey, Enforcement, Limit, Owner, Period, TenantId, Units, Window};
use tollgate::till::protocol::Answer;
use tollgate::till::{Account, Charge, Opening, Till, TillSettings, refill, reserve};
use uuid::Uuid;

/// Enough for hours.
const PLENTY: Units = Units::MAX;

struct Gate {
    till: Arc<Till>,
    authority: Embedded,
    _directory: tempfile::TempDir,
}

impl Gate {
    fn new() -> Gate {
        let directory = tempfile::tempdir().expect("a directory");
        let till = Arc::new(Till::open(directory.path(), &TillSettings::default()).expect("a till"));
        let authority = Embedded::new(till.clone(), Arc::new(SystemClock::default()));
        Gate { till, authority, _directory: directory }
    }

    /// An account whose whole limit was granted.
    fn account(&self, number: u128, limit: Units) -> Account {
        let opening = Opening { limit: Limit::Of(limit), base: Units::ZERO };
        let account = self.till.account(&key(number), opening).expect("room");
        let answers = self.authority.renew_now(&[refill::ask(&account, Units::ONE, Monotonic::default())]);
        let Answer::Renewed(renewed) = answers[0] else { unreachable!("the till has the account") };
        refill::apply(&account, &renewed);
        account
    }
}

fn key(number: u128) -> AccountKey {
    let window = Window { period: Period::Forever, start: Timestamp::from_seconds(0), end: Timestamp::MAX };
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(number)));
    AccountKey { owner, resource: "api_calls".parse().expect("a name"), window }
}

fn hard(account: &Account) -> Charge<'_> {
    Charge { account, units: Units::ONE, enforcement: Enforcement::Hard }
}

/// Admits and sends, so that the units stay taken.
fn spend(charges: &[Charge<'_>]) -> bool {
    reserve(black_box(charges)).map(|mut reservation| reservation.sent()).is_ok()
}

fn decide(bench: &mut Criterion) {
    let gate = Gate::new();
    let accounts: Vec<Account> = (0..3).map(|number| gate.account(number, PLENTY)).collect();
    let spent = gate.account(10, Units::ZERO);
    let [first, second, third] = [0, 1, 2].map(|number| hard(&accounts[number]));

    bench.bench_function("reserve 1 charge", |b| b.iter(|| spend(&[first])));
    bench.bench_function("reserve 3 charges", |b| b.iter(|| spend(&[first, second, third])));
    bench.bench_function("reserve 1 charge and refund it", |b| {
        b.iter(|| reserve(black_box(&[first])).map(|mut reservation| reservation.refund()).is_ok());
    });
    bench.bench_function("deny 1 charge", |b| b.iter(|| spend(&[hard(&spent)])));
    bench.bench_function("deny 3 charges, the last one spent", |b| {
        b.iter(|| spend(&[first, second, hard(&spent)]));
    });
    while_another_thread_spends(&accounts[0], || {
        bench.bench_function("reserve 1 charge, contended by 2 threads", |b| b.iter(|| spend(&[first])));
    });
}

fn while_another_thread_spends(account: &Account, work: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                spend(&[hard(account)]);
            }
        });
        work();
        is_over.store(true, Ordering::Relaxed);
    });
}

criterion_group!(benches, decide);
criterion_main!(benches);
