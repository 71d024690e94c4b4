//! What one admission costs: nanoseconds, without I/O. And whether the time that a refusal takes tells anything of keys.
//!
//! `cargo bench --bench decide`

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use prometheus::Registry;
use serde_json::json;
use sha2::Sha256;
use tollgate::authority::Embedded;
use tollgate::clock::{Clock, Monotonic, SystemClock, Timestamp};
use tollgate::control::{Control, NewKey, NewTenant, Principal, TenantRef};
use tollgate::directory::{Directory, DirectorySettings, Entitlements, Lookup, Subject};
use tollgate::domain::{
    AccountKey, Actor, Enforcement, Limit, LossPolicy, Owner, Period, Resource, TenantId, Units, Window,
};
use tollgate::gateway::{IssuerSettings, KeySource, Tokens};
use tollgate::secret::hash::{Digests, KeyKind, KeyText, Pepper, Peppers};
use tollgate::secret::jwt::{Algorithm, Claim, Rules};
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
    bench.bench_function("of which: checksum and digest of the key", |b| b.iter(|| door.digests()));
    bench.bench_function("of which: the key's entitlements, cached", |b| b.iter(|| door.entitlements(now)));
}

/// A token that was verified before: whatever its size, it is hashed once and compared.
fn resolve_tokens(bench: &mut Criterion) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let now = clock.now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let settings = IssuerSettings {
        rules: Rules {
            issuer: "https://login.test".into(),
            audiences: vec!["orders".into()],
            leeway: Duration::ZERO,
            tenant: Claim::new("tenant_id"),
            subject: Claim::new("sub"),
            scopes: Claim::new("scope"),
            tier: None,
        },
        algorithms: vec![Algorithm::HS256],
        keys: KeySource::Secret(SECRET.to_vec()),
        ca: None,
        passes_on: false,
    };
    let tokens =
        Tokens::new(vec![settings], "x-tenant-".into(), &clock, &Registry::new()).expect("an issuer");
    for padding in [0, 1_000, 5_000] {
        let token = token(now, padding);
        runtime.block_on(tokens.verify(&token, now)).expect("a good token");
        let name = format!("token to caller, warm, {} bytes", token.len());
        bench.bench_function(&name, |b| b.iter(|| tokens.known(black_box(&token), now).is_some()));
    }
}

const SECRET: [u8; 32] = [7; 32];

/// A token with a claim of that length.
fn token(now: Timestamp, padding: usize) -> Vec<u8> {
    let claims = json!({
        "iss": "https://login.test",
        "aud": "orders",
        "exp": now.seconds() + 86_400,
        "tenant_id": "acme",
        "sub": "auth0|0123456789",
        "padding": "x".repeat(padding),
    });
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let signed =
        format!("{}.{}", encode(br#"{"alg":"HS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
    let mut hmac = Hmac::<Sha256>::new_from_slice(&SECRET).expect("a key");
    hmac.update(signed.as_bytes());
    format!("{signed}.{}", encode(&hmac.finalize().into_bytes())).into_bytes()
}

/// Whoever measures how long a refusal takes must not learn whether the first part of a key is somebody's: looks up
/// keys with the public prefix of a real one and keys of nobody's, in turn, and compares the times by Welch's t-test.
/// Above 4.5 they would be told apart (Reparaz, Balasch, Verbauwhede: "dude, is my code constant time?", 2017).
#[expect(clippy::print_stdout, reason = "a figure of the bench")]
fn tell_keys_apart(_: &mut Criterion) {
    const SAMPLES: usize = 20_000;
    let gate = Gate::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let door = runtime.block_on(Door::open(&gate));
    let mut times = [Vec::new(), Vec::new()];
    // Made beforehand and in an order by chance, so that nothing but the keys differs between the two.
    let strangers: Vec<(usize, String)> = (0..2 * SAMPLES)
        .map(|_| {
            let made = KeyText::generate(KeyKind::Live).expect("random bytes");
            let class = usize::from(made.as_bytes().last().is_some_and(|letter| letter % 2 == 0));
            let text = if class == 0 { with_prefix_of(&door.key, &made) } else { made.as_str().to_owned() };
            (class, text)
        })
        .collect();
    for (class, stranger) in &strangers {
        let began = Instant::now();
        let text = KeyText::parse(black_box(stranger.as_bytes())).expect("its form is right");
        let subject = Subject::Key(door.peppers.digests(text.as_bytes()));
        let found = runtime.block_on(door.directory.load(subject));
        times[*class].push(began.elapsed().as_nanos() as f64);
        assert!(matches!(found, Ok(Lookup::Unknown)));
    }
    let [known, unknown] = times.map(|mut times| {
        // What interrupts a measurement tells nothing of keys.
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 95 / 100);
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / times.len() as f64;
        (mean, variance / times.len() as f64)
    });
    let t = (known.0 - unknown.0) / (known.1 + unknown.1).sqrt();
    println!(
        "unknown keys: {:.0} ns with the prefix of a real key, {:.0} ns with another; t = {t:.2}, told apart above 4.5",
        known.0, unknown.0
    );
}

/// The key `made` with the first part of `known`, and a checksum that is right.
fn with_prefix_of(known: &str, made: &KeyText) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (first, made) = (made.prefix().len(), made.as_str());
    let secret = &made[first..made.len() - 6];
    let text = format!("{}{secret}", &known[..first]);
    let mut rest = crc32c::crc32c(text.as_bytes());
    let mut checksum = [0; 6];
    for letter in checksum.iter_mut().rev() {
        *letter = LETTERS[(rest % 62) as usize];
        rest /= 62;
    }
    text + str::from_utf8(&checksum).expect("letters")
}

/// What a worker holds to decide on a key.
struct Door {
    directory: Arc<Directory>,
    peppers: Peppers,
    key: String,
    resource: Resource,
}

impl Door {
    async fn open(gate: &Gate) -> Door {
        let directory: &Path = gate._directory.path();
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

    fn digests(&self) -> Digests {
        let text = black_box(self.key.as_bytes());
        KeyText::parse(text).expect("a key");
        self.peppers.digests(text)
    }

    fn entitlements(&self, now: Timestamp) -> Arc<Entitlements> {
        let key = Subject::Key(self.peppers.digests(self.key.as_bytes()));
        match self.directory.cached(&key, now) {
            Some(Lookup::Known(entitlements)) => entitlements,
            other => unreachable!("loaded before: {other:?}"),
        }
    }

    /// Admits and gives back, so that the limit is never reached.
    fn admit(&self, now: Timestamp) -> bool {
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

criterion_group!(benches, decide, decide_by_key, resolve_tokens, tell_keys_apart);
criterion_main!(benches);
