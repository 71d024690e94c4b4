mod books;
mod codec;
mod crash;
mod inspect;
mod mend;
mod pressure;
pub(super) mod tape;

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use self::tape::TapeDisk;
use super::{Cut, Journal, JournalError, JournalSettings, OnFull, Read, SyncPolicy, Writer};
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, Anchor, ApiKeyId, Outcome, Owner, Period, RecordedCharge, RequestId, TenantId, Units,
    UsageRecord, Zone,
};

const TILL: Uuid = Uuid::from_u128(7);

/// A record with what it borrows.
#[derive(Clone, PartialEq, Debug)]
struct Sample {
    request: RequestId,
    tenant: TenantId,
    key: Option<ApiKeyId>,
    route: String,
    charges: Vec<RecordedCharge>,
    outcome: Outcome,
    bytes_out: u64,
}

impl Sample {
    /// A request of a tenant with a key, charged one call.
    fn of(number: u128) -> Sample {
        Sample {
            request: RequestId(Uuid::from_u128(number)),
            tenant: TenantId(Uuid::from_u128(1)),
            key: Some(ApiKeyId(Uuid::from_u128(2))),
            route: "orders".to_owned(),
            charges: vec![charge(Owner::Tenant(TenantId(Uuid::from_u128(1))), "api_calls", 1)],
            outcome: Outcome::Answered,
            bytes_out: 1_500,
        }
    }

    fn record(&self) -> UsageRecord<'_> {
        UsageRecord {
            request: self.request,
            tenant: self.tenant,
            key: self.key,
            route: &self.route,
            charges: &self.charges,
            outcome: self.outcome,
            status: 200,
            bytes_in: 20,
            bytes_out: self.bytes_out,
            latency_micros: 900,
            admitted_at: now(),
        }
    }

    fn from_record(record: &UsageRecord<'_>) -> Sample {
        Sample {
            request: record.request,
            tenant: record.tenant,
            key: record.key,
            route: record.route.to_owned(),
            charges: record.charges.to_vec(),
            outcome: record.outcome,
            bytes_out: record.bytes_out,
        }
    }
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-23T06:00:00.123456Z").unwrap()
}

fn charge(owner: Owner, resource: &str, units: u64) -> RecordedCharge {
    let window = Period::Month.window(Anchor::Calendar, &Zone::UTC, now());
    let account = AccountKey { owner, resource: resource.parse().unwrap(), window };
    RecordedCharge { account, units: Units::saturating(units), overage: Units::ZERO }
}

/// The smallest segments that four requests at once allow, so that a test changes segments often.
fn settings() -> JournalSettings {
    JournalSettings {
        segment_bytes: 8_192,
        sync: SyncPolicy::Never,
        in_flight_max: 4,
        capacity_bytes: 1 << 20,
        on_full: OnFull::Block,
    }
}

fn open(disk: &TapeDisk, shards: usize) -> (Journal, Vec<Writer>) {
    open_with(disk, shards, &settings())
}

fn open_with(disk: &TapeDisk, shards: usize, settings: &JournalSettings) -> (Journal, Vec<Writer>) {
    Journal::open_on(Arc::new(disk.clone()), Path::new("data"), settings, shards, TILL, now()).unwrap()
}

fn pass(writer: &Writer, sample: &Sample) {
    let ticket = writer.begin(&sample.record()).unwrap();
    writer.sent(&ticket);
    writer.finish(ticket, &sample.record());
}

/// All records of a cut, and how many bytes of it are damaged.
fn read(journal: &Journal, cut: &Cut) -> (Vec<Sample>, u32) {
    try_read(journal, cut).unwrap()
}

fn try_read(journal: &Journal, cut: &Cut) -> Result<(Vec<Sample>, u32), JournalError> {
    let mut reader = journal.read(cut)?;
    let (mut samples, mut damaged) = (Vec::new(), 0);
    while let Some(read) = reader.next() {
        match read {
            Read::Record(record) => samples.push(Sample::from_record(&record)),
            Read::Damaged(bytes) => damaged += bytes,
        }
    }
    Ok((samples, damaged))
}

/// Takes everything that is published out of the journal, as a flush would.
fn flush(journal: &Journal) -> Vec<Sample> {
    try_flush(journal).unwrap()
}

fn try_flush(journal: &Journal) -> Result<Vec<Sample>, JournalError> {
    let mut samples = Vec::new();
    while let Some(cut) = journal.unfinished_cut().or_else(|| journal.next_cut(1_000)) {
        journal.begin_cut(cut)?;
        samples.extend(try_read(journal, &cut)?.0);
        journal.finish_cut(cut, Vec::new())?;
    }
    Ok(samples)
}

fn requests(samples: &[Sample]) -> Vec<u128> {
    let mut requests: Vec<u128> = samples.iter().map(|sample| sample.request.0.as_u128()).collect();
    requests.sort_unstable();
    requests
}
