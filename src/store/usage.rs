//! Usage: the log of what was used, and the units of accounts.
//!
//! # Why one table and not one per month
//! Rows of a tenant lie together in the order of time, so a page of the log, and what retention deletes, are
//! neighbours on disk. SQLite gains nothing from more tables than that; Postgres partitions by month.

mod batch;
#[cfg(test)]
pub(crate) mod testing;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::sql::{Query, Row, query};
use super::values::{get, parsed, whole};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, ApiKeyId, Outcome, Owner, Resource, TenantId, Units, Window};
use crate::till::TillId;

pub(super) use batch::RETENTION_CLASS;
pub use batch::{
    AccountUse, Fault, Inserted, JournalRange, ParkedRecord, Rollup, RollupPeriod, UsageBatch, UsageLog,
    UsageSums,
};

/// Which usage rows. `None` is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UsageFilter {
    pub resource: Option<Resource>,
    pub key: Option<ApiKeyId>,
    pub route: Option<String>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
}

/// One row of `tenant_usage_logs`: what a key used of a resource on a route within ten seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct UsageRow {
    pub id: Uuid,
    pub tenant: TenantId,
    /// [`UsageRow::UNCHARGED`] for requests that were charged nothing.
    pub resource: Resource,
    pub usage_amount: Units,
    /// Start of the ten seconds.
    pub usage_date: Timestamp,
    pub description: Option<String>,
    pub key: Option<ApiKeyId>,
    pub route: String,
    pub outcome: Outcome,
    /// Requests that used the resource; one that used several resources counts in a row of each.
    pub requests: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub latency_sum_micros: u64,
}

/// Requests of the last minutes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecentRequests {
    /// Without those that were denied.
    pub requests: u64,
    pub errors: u64,
    /// For want of units.
    pub denied: u64,
}

/// What of a record in `usage_quarantine` the books need. Who set it aside wrote it.
#[derive(Deserialize)]
struct Parked {
    charges: Vec<ParkedCharge>,
}

#[derive(Deserialize)]
struct ParkedCharge {
    owner: String,
    owner_id: Uuid,
    resource: Resource,
    window: Window,
    units: Units,
}

const COLUMNS: &str =
    "SELECT log_id, tenant_id, resource_type, usage_amount, usage_date, description, key_id,
    route, outcome, requests, bytes_in, bytes_out, latency_sum_micros FROM tenant_usage_logs";

// === impl UsageRow ===

impl UsageRow {
    /// Stands in `resource_type` where a request was charged nothing.
    pub const UNCHARGED: &str = "uncharged";
}

// === impl ParkedCharge ===

impl ParkedCharge {
    fn used(&self) -> Option<(AccountKey, Units)> {
        let owner = Owner::of_kind(&self.owner, self.owner_id)?;
        Some((AccountKey { owner, resource: self.resource, window: self.window }, self.units))
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's usage log, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn usage_rows(
        &mut self,
        tenant: TenantId,
        filter: &UsageFilter,
        page: &Page,
    ) -> Result<Result<Listed<UsageRow>, BadPage>, StoreError> {
        let Ok(behind) = page.behind() else { return Ok(Err(BadPage::Cursor)) };
        let mut query = query(COLUMNS);
        query.push(" WHERE tenant_id = ").push_bind(tenant.0);
        push_filter(&mut query, filter);
        if let Some((date, id)) = behind {
            query.push(" AND (usage_date, log_id) < (").push_bind(date).push(", ").push_bind(id).push(")");
        }
        let cursor = |last: &UsageRow| Cursor::behind(last.id, last.usage_date);
        self.listed(query, "usage_date DESC, log_id DESC", page, usage_row, cursor).await.map(Ok)
    }

    /// How many requests of the tenant the minutes since `from` know, and how many of them failed. A request that was
    /// charged in several resources is counted for each.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn recent_requests(
        &mut self,
        tenant: TenantId,
        from: Timestamp,
    ) -> Result<RecentRequests, StoreError> {
        let row = query(
            "SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS requests,
                 CAST(COALESCE(SUM(errors), 0) AS BIGINT) AS errors,
                 (SELECT CAST(COALESCE(SUM(denied), 0) AS BIGINT) FROM denials
                  WHERE denials.tenant_id = $1 AND minute >= $2) AS denied
             FROM usage_rollups WHERE tenant_id = $1 AND period = 'minute' AND bucket_start >= $2",
        )
        .bind(tenant.0)
        .bind(from)
        .fetch_one(self.connection())
        .await?;
        recent(&row)
    }

    /// What all tills together used of each account, as far as their journals were flushed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn account_units(&mut self, accounts: &[AccountKey]) -> Result<Vec<Units>, StoreError> {
        self.units_without(accounts, None).await
    }

    /// What all tills but `till` used of each account, as far as their journals were flushed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn other_tills_units(
        &mut self,
        accounts: &[AccountKey],
        till: Uuid,
    ) -> Result<Vec<Units>, StoreError> {
        self.units_without(accounts, Some(till)).await
    }

    /// What each till used of an account, as far as its journal was flushed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn account_units_by_till(
        &mut self,
        account: &AccountKey,
    ) -> Result<Vec<(TillId, Units)>, StoreError> {
        let rows = query(
            "SELECT till, units FROM account_units
             WHERE owner_kind = $1 AND owner_id = $2 AND resource_type = $3 AND period = $4
               AND window_start = $5 AND window_end = $6",
        )
        .bind_account(account)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((TillId(get(row, "till")?), units(row, "units")?))).collect()
    }

    /// What the database has of a till, account by account: to compare with what the till says itself.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn till_units(&mut self, till: Uuid) -> Result<Vec<(AccountKey, Units)>, StoreError> {
        let rows = query(
            "SELECT owner_kind, owner_id, resource_type, period, window_start, window_end, units
             FROM account_units WHERE till = $1",
        )
        .bind(till)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((account(row)?, units(row, "units")?))).collect()
    }

    /// What is set aside of a till, account by account: of records that the tables refused.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn quarantined_units(&mut self, till: Uuid) -> Result<Vec<(AccountKey, Units)>, StoreError> {
        let rows = query("SELECT record FROM usage_quarantine WHERE till = $1")
            .bind(till)
            .fetch_all(self.connection())
            .await?;
        let mut parked = Vec::new();
        for row in &rows {
            let record: Parked = parsed(row, "record", |text| serde_json::from_str(text).ok())?;
            parked.extend(record.charges.iter().filter_map(ParkedCharge::used));
        }
        Ok(parked)
    }

    async fn units_without(
        &mut self,
        accounts: &[AccountKey],
        till: Option<Uuid>,
    ) -> Result<Vec<Units>, StoreError> {
        let mut sums = Vec::with_capacity(accounts.len());
        for account in accounts {
            let row = query(
                "SELECT CAST(COALESCE(SUM(units), 0) AS BIGINT) AS units FROM account_units
                 WHERE owner_kind = $1 AND owner_id = $2 AND resource_type = $3 AND period = $4
                   AND window_start = $5 AND window_end = $6 AND till <> $7",
            )
            .bind_account(account)
            // No till has this id, not even the unknown one, which is nil.
            .bind(till.unwrap_or(Uuid::max()))
            .fetch_one(self.connection())
            .await?;
            sums.push(units(&row, "units")?);
        }
        Ok(sums)
    }
}

fn push_filter(query: &mut Query, filter: &UsageFilter) {
    let UsageFilter { resource, key, route, from, to } = filter;
    if let Some(resource) = resource {
        query.push(" AND resource_type = ").push_bind(resource.as_str().to_owned());
    }
    if let Some(key) = key {
        query.push(" AND key_id = ").push_bind(key.0);
    }
    if let Some(route) = route {
        query.push(" AND route = ").push_bind(route.clone());
    }
    if let Some(from) = from {
        query.push(" AND usage_date >= ").push_bind(*from);
    }
    if let Some(to) = to {
        query.push(" AND usage_date < ").push_bind(*to);
    }
}

pub(super) fn recent(row: &Row) -> Result<RecentRequests, StoreError> {
    Ok(RecentRequests {
        requests: whole(row, "requests")?,
        errors: whole(row, "errors")?,
        denied: whole(row, "denied")?,
    })
}

fn usage_row(row: &Row) -> Result<UsageRow, StoreError> {
    Ok(UsageRow {
        id: get(row, "log_id")?,
        tenant: TenantId(get(row, "tenant_id")?),
        resource: parsed(row, "resource_type", |text| text.parse().ok())?,
        usage_amount: units(row, "usage_amount")?,
        usage_date: get(row, "usage_date")?,
        description: get(row, "description")?,
        key: get::<Option<Uuid>>(row, "key_id")?.map(ApiKeyId),
        route: get(row, "route")?,
        outcome: parsed(row, "outcome", |text| Outcome::ALL.into_iter().find(|it| it.as_str() == text))?,
        requests: whole(row, "requests")?,
        bytes_in: whole(row, "bytes_in")?,
        bytes_out: whole(row, "bytes_out")?,
        latency_sum_micros: whole(row, "latency_sum_micros")?,
    })
}

fn account(row: &Row) -> Result<AccountKey, StoreError> {
    let id: Uuid = get(row, "owner_id")?;
    let owner = parsed(row, "owner_kind", |kind| Owner::of_kind(kind, id))?;
    let period = parsed(row, "period", |text| text.parse().ok())?;
    let window = Window { period, start: get(row, "window_start")?, end: get(row, "window_end")? };
    Ok(AccountKey { owner, resource: parsed(row, "resource_type", |text| text.parse().ok())?, window })
}

/// A sum of units; those of many years may be above what one amount may be.
fn units(row: &Row, column: &'static str) -> Result<Units, StoreError> {
    whole(row, column).map(Units::saturating)
}

#[cfg(test)]
mod tests;
