//! Many records into few rows.

use std::collections::BTreeMap;

use serde_json::json;
use smallvec::SmallVec;
use uuid::Uuid;

use super::Detail;
use super::tally::Tally;
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, Anchor, ApiKeyId, Outcome, Period, RecordedCharge, RequestId, Resource, TenantId,
    UsageRecord, Zone,
};
use crate::journal::{Cut, Journal, JournalError, Read};
use crate::store::{
    AccountUse, JournalRange, ParkedRecord, Rollup, RollupPeriod, UsageBatch, UsageLog, UsageRow, UsageSums,
};
use crate::till::Till;

/// What the records of a range come to.
pub(super) struct Fold {
    detail: Detail,
    till: Uuid,
    checksum: u32,
    records: u64,
    damaged_bytes: u64,
    /// Names of routes; groups have their places.
    routes: Vec<Box<str>>,
    logs: Tally<Group, UsageSums>,
    accounts: Tally<AccountKey, Use>,
    parked: Vec<ParkedRecord>,
}

/// What the records that share a row have in common. Small and without a heap: one is made for each record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    tenant: TenantId,
    key: Option<ApiKeyId>,
    resource: Resource,
    route: usize,
    outcome: u8,
    date: Timestamp,
    /// Where each request has a row of its own.
    request: Option<RequestId>,
}

#[derive(Clone, Copy, Default)]
struct Use {
    units: u64,
    overage: u64,
}

/// How long a row of the log is.
const BUCKET_SECONDS: i64 = 10;

/// A record's charges by resource.
type Shares = SmallVec<[(Resource, UsageSums); 4]>;

// === impl Fold ===

impl Fold {
    /// Folds those records of a range whose ordinals `keep` accepts.
    ///
    /// # Errors
    /// [`JournalError::Gone`]
    pub(super) fn of(
        journal: &Journal,
        cut: &Cut,
        detail: Detail,
        keep: impl Fn(u64) -> bool,
    ) -> Result<Fold, JournalError> {
        let mut reader = journal.read(cut)?;
        let mut fold = Fold::empty(detail, reader.till());
        while let Some(read) = reader.next() {
            match read {
                Read::Damaged(bytes) => fold.damaged_bytes += u64::from(bytes),
                Read::Record(record) if keep(fold.records) => fold.add(&record),
                Read::Record(_) => fold.records += 1,
            }
        }
        fold.checksum = reader.checksum();
        Ok(fold)
    }

    fn empty(detail: Detail, till: Uuid) -> Fold {
        Fold {
            detail,
            till,
            checksum: 0,
            records: 0,
            damaged_bytes: 0,
            routes: Vec::new(),
            logs: Tally::default(),
            accounts: Tally::default(),
            parked: Vec::new(),
        }
    }

    fn add(&mut self, record: &UsageRecord<'_>) {
        self.records += 1;
        let route = self.route(record.route);
        for (resource, sums) in shares(record) {
            self.logs.of(group(self.detail, record, resource, route)).add(&sums);
        }
        for charge in record.charges {
            let used = self.accounts.of(charge.account);
            used.units += charge.units.get();
            used.overage += charge.overage.get();
        }
    }

    /// The place of a route's name. There are few, and the next record is often of the same one.
    fn route(&mut self, name: &str) -> usize {
        let known = self.routes.iter().rposition(|known| **known == *name);
        known.unwrap_or_else(|| {
            self.routes.push(name.into());
            self.routes.len() - 1
        })
    }

    /// Keeps the records of these ordinals to be looked at by people.
    ///
    /// # Errors
    /// [`JournalError::Gone`]
    pub(super) fn park(
        &mut self,
        journal: &Journal,
        cut: &Cut,
        ordinals: &[u64],
        reason: &str,
    ) -> Result<(), JournalError> {
        let mut reader = journal.read(cut)?;
        let mut ordinal = 0;
        while let Some(read) = reader.next() {
            let Read::Record(record) = read else { continue };
            if ordinals.contains(&ordinal) {
                self.parked.push(parked(ordinal, &record, reason));
            }
            ordinal += 1;
        }
        Ok(())
    }

    /// The keys that were used, and when: to the row's length exact.
    pub(super) fn keys_used(&self) -> impl Iterator<Item = (ApiKeyId, Timestamp)> {
        self.logs.iter().filter_map(|(group, _)| Some((group.key?, group.date)))
    }

    /// How many records the range has.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The till whose units these are.
    pub(super) fn till(&self) -> Uuid {
        self.till
    }

    /// Each account with all its units that the database has, once it has this range. To be asked of the fold of all
    /// records: those that are parked count, since nothing will bring them again.
    pub(super) fn journalled(&self, till: &Till) -> Vec<(AccountKey, u64)> {
        let journalled = |(account, used): &(AccountKey, Use)| {
            let before = till.find(account)?.counters().journalled;
            Some((*account, before + used.units))
        };
        self.accounts.iter().filter_map(journalled).collect()
    }

    pub(super) fn batch(
        &self,
        id: Uuid,
        range: JournalRange,
        at: Timestamp,
        new_id: impl Fn() -> Uuid,
    ) -> UsageBatch {
        let used = self.accounts.iter().filter(|(_, used)| used.units > 0);
        let mut accounts: Vec<_> = used
            .map(|(account, used)| AccountUse { account: *account, units: used.units, overage: used.overage })
            .collect();
        // In the order of their keys, so that batches of several gateways can't wait for each other in a circle.
        accounts.sort_unstable_by_key(|used| used.account);
        UsageBatch {
            id,
            range,
            till: self.till,
            records: self.records - self.parked.len() as u64,
            units: self.accounts.iter().map(|(_, used)| used.units).sum(),
            checksum: self.checksum,
            at,
            logs: self.logs(new_id),
            rollups: self.rollups(),
            accounts,
            parked: self.parked.clone(),
        }
    }

    fn logs(&self, new_id: impl Fn() -> Uuid) -> Vec<UsageLog> {
        let log = |(group, sums): &(Group, UsageSums)| {
            let reported = group.request.filter(|_| group.outcome == Outcome::Reported.code());
            Some(UsageLog {
                // What is reported is of one resource: it makes one row.
                id: reported.map_or_else(&new_id, |request| request.0),
                tenant: group.tenant,
                date: group.date,
                resource: group.resource,
                key: group.key,
                route: self.routes[group.route].to_string(),
                outcome: Outcome::from_code(group.outcome)?,
                sums: *sums,
            })
        };
        self.logs.iter().filter_map(log).collect()
    }

    fn rollups(&self) -> Vec<Rollup> {
        let mut rollups: BTreeMap<_, UsageSums> = BTreeMap::new();
        for (group, sums) in self.logs.iter() {
            let Group { tenant, key, resource, route, date, .. } = *group;
            for period in RollupPeriod::ALL {
                let wider = (period, tenant, key, resource, &*self.routes[route], start(period, date));
                rollups.entry(wider).or_default().add(sums);
            }
        }
        let rollup = |((period, tenant, key, resource, route, start), sums)| {
            let route: &str = route;
            Rollup { tenant, period, start, resource, key, route: route.to_owned(), sums }
        };
        rollups.into_iter().map(rollup).collect()
    }
}

fn group(detail: Detail, record: &UsageRecord<'_>, resource: Resource, route: usize) -> Group {
    let (date, request) = match detail {
        // Its reporter may have said something of it.
        _ if record.outcome == Outcome::Reported => (record.admitted_at, Some(record.request)),
        Detail::Aggregate => (bucket(record.admitted_at), None),
        Detail::Request => (record.admitted_at, Some(record.request)),
    };
    let (tenant, key, outcome) = (record.tenant, record.key, record.outcome.code());
    Group { tenant, key, resource, route, outcome, date, request }
}

/// What a record adds to the rows of each of its resources. Several accounts may have been charged for one
/// resource (the tenant's and the key's, a day's and a month's): it was used once all the same.
fn shares(record: &UsageRecord<'_>) -> Shares {
    let once = UsageSums {
        units: 0,
        overage: 0,
        requests: 1,
        errors: u64::from(has_failed(record)),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        latency_micros: record.latency_micros.into(),
        statuses: [2, 3, 4, 5].map(|digit| u64::from(record.status / 100 == digit)),
    };
    let mut shares = Shares::new();
    for RecordedCharge { account, units, overage } in record.charges {
        let at = shares.iter().position(|(resource, _)| *resource == account.resource);
        let at = at.unwrap_or_else(|| {
            shares.push((account.resource, once));
            shares.len() - 1
        });
        let sums = &mut shares[at].1;
        sums.units = sums.units.max(units.get());
        sums.overage = sums.overage.max(overage.get());
    }
    if shares.is_empty() {
        shares.extend(UsageRow::UNCHARGED.parse().map(|resource| (resource, once)));
    }
    shares
}

fn has_failed(record: &UsageRecord<'_>) -> bool {
    match record.outcome {
        Outcome::UpstreamBroke | Outcome::UpstreamTimeout | Outcome::Crashed => true,
        Outcome::Answered | Outcome::ClientGone | Outcome::Reported => record.status >= 500,
    }
}

fn bucket(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds().div_euclid(BUCKET_SECONDS) * BUCKET_SECONDS)
}

fn start(period: RollupPeriod, at: Timestamp) -> Timestamp {
    let period = match period {
        RollupPeriod::Minute => Period::Minute,
        RollupPeriod::Hour => Period::Hour,
        RollupPeriod::Day => Period::Day,
        RollupPeriod::Month => Period::Month,
    };
    period.window(Anchor::Calendar, &Zone::UTC, at).start
}

fn parked(ordinal: u64, record: &UsageRecord<'_>, reason: &str) -> ParkedRecord {
    let charge = |charge: &RecordedCharge| {
        let AccountKey { owner, resource, window } = charge.account;
        json!({
            "owner": owner.kind(), "owner_id": owner.uuid(), "resource": resource, "window": window,
            "units": charge.units, "overage": charge.overage,
        })
    };
    let json = json!({
        "request": record.request, "tenant": record.tenant, "key": record.key, "route": record.route,
        "charges": record.charges.iter().map(charge).collect::<Vec<_>>(), "outcome": record.outcome,
        "status": record.status, "bytes_in": record.bytes_in, "bytes_out": record.bytes_out,
        "latency_micros": record.latency_micros, "admitted_at": record.admitted_at,
    });
    let (request, tenant) = (record.request, record.tenant);
    ParkedRecord { ordinal, request, tenant, record: json.to_string(), reason: reason.to_owned() }
}
