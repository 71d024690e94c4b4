//! What recording one request costs its worker: nanoseconds, and no system call; and how fast the records come back and
//! reach a database.
//!
//! `cargo bench --bench journal`; beside a Postgres with `tests/run -- cargo bench --bench journal`. In real files on a
//! real disk: fresh pages and changes of segments are in it. The background's work between two bursts is not.

mod calls;
mod flush;
#[path = "../rig/postgres.rs"]
mod postgres;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use tollgate::clock::Timestamp;
use tollgate::domain::{
    AccountKey, ApiKeyId, Outcome, Owner, Period, RecordedCharge, RequestId, TenantId, Units, UsageRecord,
    Window,
};
use tollgate::journal::{Journal, JournalSettings, Writer};
use uuid::Uuid;

const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const KEY: ApiKeyId = ApiKeyId(Uuid::from_u128(2));

/// See [`bursts`].
const BURST: usize = 4_000;

fn open(directory: &Path) -> (Journal, Writer) {
    let settings = JournalSettings { capacity_bytes: 1 << 30, ..JournalSettings::default() };
    let now = Timestamp::from_seconds(1_800_000_000);
    let (journal, mut writers) =
        Journal::open(directory, &settings, 1, Uuid::from_u128(7), now).expect("a journal");
    (journal, writers.remove(0))
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on a real disk")
}

fn charges() -> [RecordedCharge; 3] {
    let (start, end) = (Timestamp::from_seconds(1_798_761_600), Timestamp::from_seconds(1_801_440_000));
    let window = Window { period: Period::Month, start, end };
    let charge = |owner, resource: &str| {
        let account = AccountKey { owner, resource: resource.parse().expect("a name"), window };
        RecordedCharge { account, units: Units::ONE, overage: Units::ZERO }
    };
    let tenant = Owner::Tenant(TENANT);
    [charge(tenant, "api_calls"), charge(Owner::Key(KEY), "api_calls"), charge(tenant, "response_bytes")]
}

fn record(number: u128, charges: &[RecordedCharge]) -> UsageRecord<'_> {
    UsageRecord {
        request: RequestId(Uuid::from_u128(number)),
        tenant: TENANT,
        key: Some(KEY),
        route: "orders",
        charges,
        outcome: Outcome::Answered,
        status: 200,
        bytes_in: 0,
        bytes_out: 1_500,
        latency_micros: 800,
        admitted_at: Timestamp::from_seconds(1_800_000_000),
    }
}

/// One request: begun, sent, finished.
#[inline]
fn pass(writer: &Writer, record: &UsageRecord<'_>) {
    let ticket = writer.begin(black_box(record)).expect("room");
    writer.sent(&ticket);
    writer.finish(ticket, black_box(record));
}

/// What a gateway's background does between two bursts, but records are taken out unread.
fn keep(journal: &Journal) {
    while let Some(cut) = journal.next_cut(u32::MAX) {
        journal.begin_cut(cut).expect("a cursor");
        journal.finish_cut(cut, Vec::new()).expect("a cursor");
    }
    journal.prepare().expect("room on the disk");
}

/// The time of `requests` requests, in bursts: as many as come between two calls of the background at 80,000 per
/// second and worker.
fn bursts(journal: &Journal, writer: &Writer, charges: &[RecordedCharge], requests: u64) -> Duration {
    let mut passed = Duration::ZERO;
    for first in (0..requests).step_by(BURST) {
        keep(journal);
        let began = Instant::now();
        for number in first..requests.min(first + BURST as u64) {
            pass(writer, &record(number.into(), charges));
        }
        passed += began.elapsed();
    }
    passed
}

fn journal(bench: &mut Criterion) {
    let directory = directory();
    let (journal, writer) = open(directory.path());
    let charges = charges();
    for (name, count) in [("one charge", 1), ("three charges", 3)] {
        bench.bench_function(&format!("begin+sent+finish, {name}"), |bencher| {
            bencher.iter_custom(|requests| bursts(&journal, &writer, &charges[..count], requests));
        });
    }
    bench.bench_function("begin+sent+abandon, one charge", |bencher| {
        bencher.iter(|| {
            let ticket = writer.begin(black_box(&record(1, &charges[..1]))).expect("room");
            writer.sent(&ticket);
            writer.abandon(ticket);
        });
    });
}

criterion_group!(benches, journal);

#[expect(clippy::print_stdout, reason = "a benchmark's results are what it prints")]
fn main() {
    if let Some(requests) = calls::wanted() {
        return calls::pass_all(requests);
    }
    println!("{}", calls::report());
    benches();
    flush::reports().for_each(|report| println!("{report}"));
    Criterion::default().configure_from_args().final_summary();
}
