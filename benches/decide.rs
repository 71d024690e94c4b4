//! What one admission costs: nanoseconds, without I/O.
//!
//! `cargo bench --bench decide`

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::authority::Embedded;
use tollgate::clock::{Clock, Monotonic, SystemClock, Timestamp};
use tollgate::control::{Control, NewKey, NewTenant, Principal, Rights, TenantRef};
use tollgate::directory::{Directory, DirectorySettings, Entitlements, Lookup, Subject};
use tollgate::domain::{
    AccountKey, Actor, Enforcement, Limit, LossPolicy, Owner, Period, Resource, TenantId, Units, Window,
};
use tollgate::secret::hash::{KeyText, Pepper};
use tollgate::store::{Store, StoreUrl};
use tollgate::till::refill::Ask;
use tollgate::till::{Account, Charge, Opening, Till, TillSettings, reserve};
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
        let authority = Embedded::new(till.clone());
        Gate { till, authority, _directory: directory }
    }

    /// An account whose whole limit was granted.
    fn account(&self, number: u128, limit: Units) -> Account {
        let opening = Opening { terms: Limit::Of(limit).into(), base: Units::ZERO };
        let account = self.till.account(&key(number), opening).expect("room");
        self.refill(&account);
        account
    }

    fn refill(&self, account: &Account) {
        let ask = Ask::new(account, (&hard(account)).into(), Monotonic::default());
        ask.answered(account, &self.authority.renew_now(&ask.renew));
    }
}

fn key(number: u128) -> AccountKey {
    let window = Window { period: Period::Forever, start: Timestamp::from_seconds(0), end: Timestamp::MAX };
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(number)));
    AccountKey { owner, resource: "api_calls".parse().expect("a name"), window }
}

fn hard(account: &Account) -> Charge<'_> {
    Charge::new(account, Units::ONE, Enforcement::Hard)
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

/// From a key's text to a reservation, as a request with a cached key goes: checksum, digest, cache, quotas, till.
fn decide_by_key(bench: &mut Criterion) {
    let gate = Gate::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let door = runtime.block_on(Door::open(&gate));
    let now = SystemClock::default().now();
    // The first one grants the tenant's units to the till.
    let entitlements = door.entitlements(now);
    for entitled in entitlements.quotas(door.resource) {
        gate.refill(&entitled.account);
    }
    bench.bench_function("key to reservation, warm, 1 charge", |b| b.iter(|| door.admit(now)));
    bench.bench_function("of which: checksum and digest of the key", |b| b.iter(|| door.digest()));
    bench.bench_function("of which: the key's entitlements, cached", |b| b.iter(|| door.entitlements(now)));
}

/// What a worker holds to decide on a key.
struct Door {
    directory: Arc<Directory>,
    pepper: Pepper,
    key: String,
    resource: Resource,
}

impl Door {
    async fn open(gate: &Gate) -> Door {
        let directory: &Path = gate._directory.path();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = Store::open(&StoreUrl::Sqlite(directory.join("bench.db"))).await.expect("a store");
        store.migrate().await.expect("a schema");
        let pepper = Pepper::new(1, &[7; 32]);
        let control = Control::new(store.clone(), clock.clone(), pepper.clone(), Arc::default());
        let bench =
            Principal { actor: Actor::system("bench"), rights: Rights::Platform, correlation: Uuid::nil() };
        let new = NewTenant { name: "Acme".into(), tier: Some("msp".into()), ..NewTenant::default() };
        let tenant = TenantRef::Id(control.create_tenant(&bench, new).await.expect("a tenant").id);
        let key =
            control.create_key(&bench, &tenant, NewKey { name: "bench".into(), ..NewKey::default() }).await;
        let key = key.expect("a key").text;
        let settings = DirectorySettings {
            subjects_max: 1000,
            header_prefix: "x-tenant-".into(),
            is_alone: true,
            on_loss: LossPolicy::Till,
        };
        let directory = Directory::new(settings, store, gate.till.clone(), clock);
        let resource: Resource = "api_calls".parse().expect("a name");
        directory.set_charged([resource].into());
        directory.load(Subject::Key(pepper.digest(key.as_bytes()))).await.expect("a profile");
        Door { directory, pepper, key, resource }
    }

    fn digest(&self) -> tollgate::secret::hash::KeyDigest {
        let text = black_box(self.key.as_bytes());
        KeyText::parse(text).expect("a key");
        self.pepper.digest(text)
    }

    fn entitlements(&self, now: Timestamp) -> Arc<Entitlements> {
        let key = Subject::Key(self.pepper.digest(self.key.as_bytes()));
        match self.directory.cached(&key, now) {
            Some(Lookup::Known(entitlements)) => entitlements,
            other => unreachable!("loaded before: {other:?}"),
        }
    }

    /// Admits and gives back, so that the limit is never reached.
    fn admit(&self, now: Timestamp) -> bool {
        let Some(Lookup::Known(entitlements)) = self.directory.cached(&Subject::Key(self.digest()), now)
        else {
            return false;
        };
        let quotas = entitlements.quotas(self.resource);
        let charges: smallvec::SmallVec<[Charge<'_>; 4]> =
            quotas.map(|quota| Charge::new(&quota.account, Units::ONE, quota.enforcement)).collect();
        reserve(&charges).is_ok()
    }
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

criterion_group!(benches, decide, decide_by_key);
criterion_main!(benches);
