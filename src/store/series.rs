//! Rollups, read as series; and forgotten when they are too fine to be kept.

use std::time::Duration;

use utoipa::ToSchema;
use uuid::Uuid;

use super::sql::{Query, Row, query};
use super::values::{get, whole};
use super::{RollupPeriod, Snapshot, Store, StoreError, UsageSums};
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, Resource, TenantId};

/// Which rollups. `None` is all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeriesFilter {
    pub period: RollupPeriod,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    pub resource: Option<Resource>,
    pub key: Option<ApiKeyId>,
    pub route: Option<String>,
}

/// By what they are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
pub enum SeriesBy {
    #[schema(rename = "resource_type")]
    Resource,
    #[schema(rename = "key_id")]
    Key,
    #[schema(rename = "route")]
    Route,
}

/// One bucket of one series.
#[derive(Clone, PartialEq, Debug)]
pub struct SeriesPoint {
    pub start: Timestamp,
    /// The resource, key or route; `None` where there is one series, and of requests without a key.
    pub group: Option<String>,
    pub sums: UsageSums,
}

const SUMS: &str = "CAST(SUM(units) AS BIGINT) AS units, CAST(SUM(overage) AS BIGINT) AS overage, \
     CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(errors) AS BIGINT) AS errors, \
     CAST(SUM(bytes_in) AS BIGINT) AS bytes_in, CAST(SUM(bytes_out) AS BIGINT) AS bytes_out, \
     CAST(SUM(latency_sum_micros) AS BIGINT) AS latency_sum_micros, CAST(SUM(status_2xx) AS BIGINT) AS status_2xx, \
     CAST(SUM(status_3xx) AS BIGINT) AS status_3xx, CAST(SUM(status_4xx) AS BIGINT) AS status_4xx, \
     CAST(SUM(status_5xx) AS BIGINT) AS status_5xx";

/// What is forgotten in one transaction: rows of so long.
const FORGOTTEN_AT_ONCE: Duration = Duration::from_secs(3_600);

// === impl Store ===

impl Store {
    /// Forgets rollups of that period that began before `before`, and answers how many. They come again only with
    /// records that waited so long in a journal.
    ///
    /// # Errors
    /// [`StoreError`]; what is left is forgotten by the next attempt.
    pub async fn forget_rollups(&self, period: RollupPeriod, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.begin_ingest().await?;
            let oldest = query("SELECT MIN(bucket_start) AS oldest FROM usage_rollups WHERE period = $1");
            let row = oldest.bind(period.as_str()).fetch_one(tx.connection()).await?;
            let Some(oldest) = get::<Option<Timestamp>>(&row, "oldest")?.filter(|oldest| *oldest < before)
            else {
                return Ok(forgotten);
            };
            let some = query("DELETE FROM usage_rollups WHERE period = $1 AND bucket_start < $2");
            let some = some.bind(period.as_str()).bind(oldest.plus(FORGOTTEN_AT_ONCE).min(before));
            forgotten += some.execute(tx.connection()).await?;
            tx.commit().await?;
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's series, bucket by bucket; buckets in which nothing was used are left out. At most `limit` points.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn usage_series(
        &mut self,
        tenant: TenantId,
        filter: &SeriesFilter,
        by: Option<SeriesBy>,
        limit: u32,
    ) -> Result<Vec<SeriesPoint>, StoreError> {
        let mut query = query("SELECT bucket_start, ");
        if let Some(by) = by {
            query.push(by.column()).push(", ");
        }
        query.push(SUMS).push(" FROM usage_rollups");
        push_filter(&mut query, tenant, filter);
        let group = by.map_or(String::new(), |by| format!(", {}", by.column()));
        query.push(" GROUP BY bucket_start").push(&group).push(" ORDER BY bucket_start").push(&group);
        query.push(" LIMIT ").push_bind(limit);
        let rows = query.fetch_all(self.connection()).await?;
        let point = |row: &Row| {
            let group = by.map_or(Ok(None), |by| by.group(row))?;
            Ok(SeriesPoint { start: get(row, "bucket_start")?, group, sums: sums(row)? })
        };
        rows.iter().map(point).collect()
    }

    /// What all of it sums up to.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn usage_sums(
        &mut self,
        tenant: TenantId,
        filter: &SeriesFilter,
    ) -> Result<UsageSums, StoreError> {
        let mut query = query("SELECT COUNT(*) AS points, ");
        query.push(SUMS).push(" FROM usage_rollups");
        push_filter(&mut query, tenant, filter);
        let row = query.fetch_one(self.connection()).await?;
        // The sum of no rows is NULL.
        if whole(&row, "points")? == 0 { Ok(UsageSums::default()) } else { sums(&row) }
    }
}

fn push_filter(query: &mut Query, tenant: TenantId, filter: &SeriesFilter) {
    let SeriesFilter { period, from, to, resource, key, route } = filter;
    query.push(" WHERE tenant_id = ").push_bind(tenant.0).push(" AND period = ").push_bind(period.as_str());
    query.push(" AND bucket_start >= ").push_bind(*from).push(" AND bucket_start < ").push_bind(*to);
    if let Some(resource) = resource {
        query.push(" AND resource_type = ").push_bind(resource.as_str().to_owned());
    }
    if let Some(key) = key {
        query.push(" AND key_id = ").push_bind(key.0);
    }
    if let Some(route) = route {
        query.push(" AND route = ").push_bind(route.clone());
    }
}

fn sums(row: &Row) -> Result<UsageSums, StoreError> {
    Ok(UsageSums {
        units: whole(row, "units")?,
        overage: whole(row, "overage")?,
        requests: whole(row, "requests")?,
        errors: whole(row, "errors")?,
        bytes_in: whole(row, "bytes_in")?,
        bytes_out: whole(row, "bytes_out")?,
        latency_micros: whole(row, "latency_sum_micros")?,
        statuses: [
            whole(row, "status_2xx")?,
            whole(row, "status_3xx")?,
            whole(row, "status_4xx")?,
            whole(row, "status_5xx")?,
        ],
    })
}

// === impl SeriesBy ===

impl SeriesBy {
    pub const ALL: [SeriesBy; 3] = [SeriesBy::Resource, SeriesBy::Key, SeriesBy::Route];

    /// As in the database and in the API.
    pub const fn column(self) -> &'static str {
        match self {
            SeriesBy::Resource => "resource_type",
            SeriesBy::Key => "key_id",
            SeriesBy::Route => "route",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        SeriesBy::ALL.into_iter().find(|by| by.column() == text)
    }

    fn group(self, row: &Row) -> Result<Option<String>, StoreError> {
        match self {
            SeriesBy::Key => {
                let key: Uuid = get(row, self.column())?;
                Ok((!key.is_nil()).then(|| key.to_string()))
            }
            SeriesBy::Resource | SeriesBy::Route => get(row, self.column()).map(Some),
        }
    }
}
