//! What gauges held, from when on: the ledger that they are charged by.
//!
//! A row is written in the transaction that changes what is held, which has the account's row to itself until it ends: so
//! levels follow each other in the order of the changes, also where the clocks of gateways differ.

use super::sql::{Row, query};
use super::values::{corrupt, get};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::billing::{BillingPeriod, Level};
use crate::domain::{Resource, TenantId, Units};

// === impl Snapshot ===

impl Snapshot {
    /// What the tenant held of a gauge, from the level that a period begins with to the last within it, in their order.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn levels(
        &mut self,
        tenant: TenantId,
        resource: Resource,
        period: BillingPeriod,
        page: &Page,
    ) -> Result<Result<Listed<Level>, BadPage>, StoreError> {
        let after = match page.cursor().map(|cursor| Timestamp::parse(&cursor.after)) {
            None => self.level_before(tenant, resource, period.start).await?,
            Some(Some(after)) => Some(after),
            Some(None) => return Ok(Err(BadPage::Cursor)),
        };
        let mut query =
            query("SELECT since, units FROM gauge_levels WHERE tenant_id = $1 AND resource_type = $2")
                .bind(tenant.0)
                .bind(resource.as_str());
        // The first page begins with the level that holds already, every other one behind its cursor.
        let sign = if page.cursor().is_some() { " AND since > " } else { " AND since >= " };
        query.push(sign).push_bind(after.unwrap_or(period.start));
        query.push(" AND since < ").push_bind(period.end);
        let cursor = |last: &Level| Cursor::behind("", last.since);
        self.listed(query, "since", page, level, cursor).await.map(Ok)
    }

    /// Since when there is the level that holds at an instant.
    async fn level_before(
        &mut self,
        tenant: TenantId,
        resource: Resource,
        at: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let row = query(
            "SELECT MAX(since) AS since FROM gauge_levels
             WHERE tenant_id = $1 AND resource_type = $2 AND since <= $3",
        )
        .bind(tenant.0)
        .bind(resource.as_str())
        .bind(at)
        .fetch_one(self.connection())
        .await?;
        get(&row, "since")
    }
}

fn level(row: &Row) -> Result<Level, StoreError> {
    let units = Units::try_from(get::<i64>(row, "units")?);
    Ok(Level {
        since: get(row, "since")?,
        units: units.map_err(|error| corrupt("units", error.to_string()))?,
    })
}

// === impl Tx ===

impl Tx {
    /// Notes what the tenant holds of a gauge after a change of it, which this transaction has made.
    pub(super) async fn note_level(
        &mut self,
        tenant: TenantId,
        resource: Resource,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let row = query(
            "SELECT (SELECT CAST(SUM(units) AS BIGINT) FROM account_units WHERE owner_kind = 'tenant'
                         AND owner_id = $1 AND resource_type = $2 AND period = 'forever') AS units,
                 (SELECT MAX(since) FROM gauge_levels WHERE tenant_id = $1 AND resource_type = $2) AS since",
        )
        .bind(tenant.0)
        .bind(resource.as_str())
        .fetch_one(self.connection())
        .await?;
        let last: Option<Timestamp> = get(&row, "since")?;
        let units: Option<i64> = get(&row, "units")?;
        query(
            "INSERT INTO gauge_levels (tenant_id, resource_type, since, units) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id, resource_type, since) DO UPDATE SET units = excluded.units",
        )
        .bind(tenant.0)
        .bind(resource.as_str())
        .bind(last.map_or(at, |last| last.max(at)))
        .bind(units.unwrap_or(0))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
