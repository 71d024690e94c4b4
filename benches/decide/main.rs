//! What one admission costs: nanoseconds, without I/O. And whether the time that a refusal takes tells anything of keys.
//!
//! `cargo bench --bench decide`

mod door;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use criterion::{Criterion, criterion_group, criterion_main};
use door::{Door, Gate, hard};
use hmac::{Hmac, KeyInit, Mac};
use prometheus::Registry;
use serde_json::json;
use sha2::Sha256;
use tollgate::clock::{Clock, SystemClock, Timestamp};
use tollgate::directory::{Lookup, Subject};
use tollgate::domain::Units;
use tollgate::gateway::{IssuerSettings, KeySource, Tokens};
use tollgate::secret::hash::{KeyKind, KeyText};
use tollgate::secret::jwt::{Algorithm, Claim, Rules};
use tollgate::till::{Account, Charge, reserve};

/// Enough for hours.
const PLENTY: Units = Units::MAX;

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
    let now = SystemClock::default().now();
    let door = runtime.block_on(Door::open_warm(&gate, now));
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
