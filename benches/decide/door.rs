//! What a worker holds to decide on a key, without sockets: a till, an authority in process, a directory over SQLite.
//!
//! Shared by whoever measures an admission: this bench in nanoseconds, `tests/it/slow/instructions.rs` in instructions.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use tollgate::authority::Embedded;
use tollgate::clock::{Clock, Monotonic, SystemClock, Timestamp};
use tollgate::control::{Control, NewKey, NewTenant, Principal, TenantRef};
use tollgate::directory::{Directory, DirectorySettings, Entitlements, Lookup, Subject};
use tollgate::domain::{
    AccountKey, Actor, Enforcement, Limit, LossPolicy, Owner, Period, Resource, TenantId, Units, Window,
};
use tollgate::secret::hash::{Digests, KeyText, Pepper, Peppers};
use tollgate::store::{Store, StoreUrl};
use tollgate::till::refill::Ask;
use tollgate::till::{Account, Charge, Opening, Till, TillSettings, reserve};
use uuid::Uuid;

/// A till whose units come from itself.
pub(crate) struct Gate {
    till: Arc<Till>,
    authority: Embedded,
    folder: tempfile::TempDir,
}

/// What a worker holds to decide on a key.
pub(crate) struct Door {
    pub(crate) directory: Arc<Directory>,
    pub(crate) peppers: Peppers,
    pub(crate) key: String,
    pub(crate) resource: Resource,
}

fn key(number: u128) -> AccountKey {
    let window = Window { period: Period::Forever, start: Timestamp::from_seconds(0), end: Timestamp::MAX };
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(number)));
    AccountKey { owner, resource: "api_calls".parse().expect("a name"), window }
}

pub(crate) fn hard(account: &Account) -> Charge<'_> {
    Charge::new(account, Units::ONE, Enforcement::Hard)
}

// === impl Gate ===

impl Gate {
    pub(crate) fn new() -> Gate {
        let directory = tempfile::tempdir().expect("a directory");
        let till = Arc::new(Till::open(directory.path(), &TillSettings::default()).expect("a till"));
        let authority = Embedded::new(till.clone());
        Gate { till, authority, folder: directory }
    }

    /// An account whose whole limit was granted.
    pub(crate) fn account(&self, number: u128, limit: Units) -> Account {
        let opening = Opening { terms: Limit::Of(limit).into(), base: Units::ZERO };
        let account = self.till.account(&key(number), opening).expect("room");
        self.refill(&account);
        account
    }

    pub(crate) fn refill(&self, account: &Account) {
        let ask = Ask::new(account, (&hard(account)).into(), Monotonic::default());
        ask.answered(account, &self.authority.renew_now(&ask.renew));
    }
}

// === impl Door ===

impl Door {
    pub(crate) async fn open(gate: &Gate) -> Door {
        let directory: &Path = gate.folder.path();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = Store::open(&StoreUrl::Sqlite(directory.join("bench.db"))).await.expect("a store");
        store.migrate().await.expect("a schema");
        let peppers = Peppers::from(Pepper::new(1, &[7; 32]));
        let control = Control::new(store.clone(), clock.clone(), peppers.clone(), Arc::default());
        let bench = Principal::platform(Actor::system("bench"), Uuid::nil());
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
        directory.load(Subject::Key(peppers.digests(key.as_bytes()))).await.expect("a profile");
        Door { directory, peppers, key, resource }
    }

    /// The same, and the tenant's units are in the till.
    pub(crate) async fn open_warm(gate: &Gate, now: Timestamp) -> Door {
        let door = Door::open(gate).await;
        let entitlements = door.entitlements(now);
        for entitled in entitlements.quotas(door.resource) {
            gate.refill(&entitled.account);
        }
        door
    }

    pub(crate) fn digests(&self) -> Digests {
        let text = black_box(self.key.as_bytes());
        KeyText::parse(text).expect("a key");
        self.peppers.digests(text)
    }

    pub(crate) fn entitlements(&self, now: Timestamp) -> Arc<Entitlements> {
        let key = Subject::Key(self.peppers.digests(self.key.as_bytes()));
        match self.directory.cached(&key, now) {
            Some(Lookup::Known(entitlements)) => entitlements,
            other => unreachable!("loaded before: {other:?}"),
        }
    }

    /// Admits and gives back, so that the limit is never reached.
    pub(crate) fn admit(&self, now: Timestamp) -> bool {
        let Some(Lookup::Known(entitlements)) = self.directory.cached(&Subject::Key(self.digests()), now)
        else {
            return false;
        };
        let quotas = entitlements.quotas(self.resource);
        let charges: smallvec::SmallVec<[Charge<'_>; 4]> =
            quotas.map(|quota| Charge::new(&quota.account, Units::ONE, quota.enforcement)).collect();
        reserve(&charges).is_ok()
    }
}
