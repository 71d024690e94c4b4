//! Usage for tests.

use std::time::Duration;

use uuid::Uuid;

use super::{JournalRange, UsageBatch, UsageLog, UsageSums};
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, Outcome, Resource, TenantId};

pub(crate) const TENANT: TenantId = TenantId(Uuid::from_u128(1));

pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2026-11-23T06:00:00Z").unwrap()
}

pub(crate) fn log(number: u64) -> UsageLog {
    log_of(TENANT, number)
}

/// Rows of one tenant differ by their number.
pub(crate) fn log_of(tenant: TenantId, number: u64) -> UsageLog {
    UsageLog {
        id: Uuid::from_u128(1_000 + u128::from(number)),
        tenant,
        // Two rows each have the same date, so that a page may end between them.
        date: start().plus(Duration::from_secs(number / 2 * 10)),
        resource: if number.is_multiple_of(3) { resource("bytes") } else { resource("api_calls") },
        key: number.is_multiple_of(2).then_some(ApiKeyId(Uuid::from_u128(2))),
        route: if number < 5 { "orders".to_owned() } else { "search".to_owned() },
        outcome: Outcome::Answered,
        sums: UsageSums { units: number, requests: 1, ..UsageSums::default() },
    }
}

pub(crate) fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

pub(crate) fn batch(from: u32, to: u32, logs: Vec<UsageLog>) -> UsageBatch {
    UsageBatch {
        id: Uuid::from_u128(u128::from(from)),
        range: JournalRange { journal: Uuid::from_u128(3), shard: 0, sequence: 1, from, to },
        till: Uuid::from_u128(4),
        records: logs.len() as u64,
        units: 0,
        checksum: 5,
        at: start(),
        logs,
        rollups: Vec::new(),
        accounts: Vec::new(),
        parked: Vec::new(),
    }
}
