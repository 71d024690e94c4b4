//! A million records that waited through an outage: how much they take, how fast they are read at a start, and how fast a
//! database has them.

use std::fmt::{self, Display};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::clock::{Clock, SystemClock, Timestamp};
use tollgate::domain::{
    AccountKey, ApiKeyId, Limit, Owner, Period, RecordedCharge, TenantId, Units, UsageRecord, Window,
};
use tollgate::flush::{Flush, FlushSettings, recover};
use tollgate::journal::{Journal, JournalSettings, Writer};
use tollgate::store::{Store, StoreUrl};
use tollgate::till::{Opening, Till, TillSettings};
use uuid::Uuid;

use super::{directory, pass, postgres, record};

const RECORDS: u64 = 1_000_000;
const TENANTS: u64 = 1_000;
const ROUTES: [&str; 4] = ["orders", "search", "export", "status"];

/// How long the records took to come: ten seconds at 100,000 per second.
const MICROS_APART: u64 = 10;
const BEGAN: Timestamp = Timestamp::from_seconds(1_800_000_000);

struct Report {
    store: &'static str,
    written: Duration,
    bytes: u64,
    replayed: Duration,
    drained: Duration,
    /// CPU of this process while it drained.
    busy: Duration,
    batches: u64,
    /// In the log and the rollups; where psql can count them.
    rows: Option<u64>,
}

/// SQLite, and Postgres if there is one.
pub(super) fn reports() -> impl Iterator<Item = String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = postgres::server();
    let postgres = server.map_or_else(
        || {
            "postgres: not measured; run it beside one with tests/run -- cargo bench --bench journal"
                .to_owned()
        },
        |server| {
            runtime.block_on(async {
                measure("postgres", &postgres::database(&server).await, &server).await.to_string()
            })
        },
    );
    let sqlite = runtime.block_on(async {
        let directory = directory();
        let store = Store::open(&StoreUrl::Sqlite(directory.path().join("bench.db"))).await.expect("a file");
        store.prepare().await.expect("a schema");
        measure("sqlite", &store, "").await.to_string()
    });
    [postgres, sqlite].into_iter()
}

async fn measure(name: &'static str, store: &Store, server: &str) -> Report {
    let directory = directory();
    let till = Arc::new(Till::open(directory.path(), &TillSettings::default()).expect("a till"));
    for tenant in 0..TENANTS {
        let opening = Opening { terms: Limit::Unlimited.into(), base: Units::ZERO };
        till.account(&account(tenant), opening).expect("room");
    }
    let (journal, writers) = open(directory.path(), &till);
    let began = Instant::now();
    write_all(&journal, &writers);
    let (written, bytes) = (began.elapsed(), journal.depth().pending_bytes);
    drop((journal, writers));
    let began = Instant::now();
    let (journal, _writers) = open(directory.path(), &till);
    recover(&till, &journal);
    let replayed = began.elapsed();
    let clock = Arc::new(SystemClock::default());
    let flush = Flush::new(Arc::new(journal), till, store.clone(), clock, FlushSettings::default());
    let (began, busy) = (Instant::now(), cpu());
    assert!(flush.drain(Duration::from_secs(600)).await, "all of it");
    let (drained, busy) = (began.elapsed(), cpu() - busy);
    let rows = (!server.is_empty()).then(|| rows(server));
    Report { store: name, written, bytes, replayed, drained, busy, batches: flush.batches(), rows }
}

fn open(directory: &Path, till: &Till) -> (Journal, Vec<Writer>) {
    let now = SystemClock::default().now();
    Journal::open(directory, &JournalSettings::default(), 2, till.id().0, now).expect("a journal")
}

fn account(tenant: u64) -> AccountKey {
    let window = Window { period: Period::Forever, start: Timestamp::from_seconds(0), end: Timestamp::MAX };
    let owner = Owner::Tenant(TenantId(Uuid::from_u128(tenant.into())));
    AccountKey { owner, resource: "api_calls".parse().expect("a name"), window }
}

fn write_all(journal: &Journal, writers: &[Writer]) {
    for number in 0..RECORDS {
        let tenant = number % TENANTS;
        let charge = RecordedCharge { account: account(tenant), units: Units::ONE, overage: Units::ZERO };
        let charges = [charge];
        let record = UsageRecord {
            tenant: TenantId(Uuid::from_u128(tenant.into())),
            key: Some(ApiKeyId(Uuid::from_u128(u128::from(tenant) + 7_000))),
            route: ROUTES[usize::try_from(number / TENANTS).expect("a million") % ROUTES.len()],
            admitted_at: BEGAN.plus(Duration::from_micros(number * MICROS_APART)),
            ..record(number.into(), &charges)
        };
        if number % 4_000 == 0 {
            journal.prepare().expect("space on the disk");
        }
        pass(&writers[usize::from(number % 2 == 1)], &record);
    }
}

/// Rows in the log and the rollups.
fn rows(server: &str) -> u64 {
    let sql = "SELECT (SELECT COUNT(*) FROM tenant_usage_logs) + (SELECT COUNT(*) FROM usage_rollups)";
    postgres::psql(&postgres::at(server, "postgres"), sql).parse().unwrap_or(0)
}

/// CPU time of this process, from ticks of ten milliseconds.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { store, written, bytes, replayed, drained, busy, batches, rows } = self;
        let per_second = |count: u64, time: &Duration| count as f64 / time.as_secs_f64();
        let rows = rows.map(|rows| format!(", {:.0} rows/s", per_second(rows, drained))).unwrap_or_default();
        write!(
            f,
            "{store}: {RECORDS} records of {} bytes written in {written:.2?}, read at a start in {replayed:.2?} ({:.0}/s), \
             drained in {drained:.2?} ({:.0} records/s{rows}, {batches} batches, {busy:.2?} CPU of the gateway)",
            bytes / RECORDS,
            per_second(RECORDS, replayed),
            per_second(RECORDS, drained),
        )
    }
}
