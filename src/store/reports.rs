//! Who uses little: read by walking an index, a page at a time.
//!
//! # Why sub-queries and no joins
//! Whether somebody was idle is asked of each tenant or key in turn, by an index, until a page is full. A join would let
//! a planner read all usage of everybody first.

use std::collections::BTreeMap;

use super::sql::{Row, query, select};
use super::values::{get, parsed, whole};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError};
use crate::clock::Timestamp;
use crate::domain::billing::BILLING_ACCOUNT;
use crate::domain::{ApiKeyId, IdleKey, Resource, Slug, Tenant, TenantId, TenantStatus, TenantUse, Units};

/// `tenant` is whose.
const TENANT_USE: &str =
    "tenant.tenant_id, tenant.slug, tenant.name, tenant.status, tenant.tier, tenant.created_at,
    (SELECT MAX(bucket_start) FROM usage_rollups AS used
     WHERE used.tenant_id = tenant.tenant_id AND used.period = 'day') AS last_used_at";

// === impl Snapshot ===

impl Snapshot {
    /// Tenants that are served, were there before `since`, and have used nothing from then on; the newest first. Use is
    /// known by days of UTC.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn idle_tenants(
        &mut self,
        since: Timestamp,
        page: &Page,
    ) -> Result<Result<Listed<TenantUse>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let query = select(
            TENANT_USE,
            "FROM organizations AS tenant
             WHERE status IN ('trial', 'active', 'past_due') AND created_at < $1 AND tenant_id < $2
                 AND (SELECT MAX(bucket_start) FROM usage_rollups AS used
                      WHERE used.tenant_id = tenant.tenant_id AND used.period = 'day' AND bucket_start >= $1) IS NULL",
        );
        let query = query.bind(since).bind(below);
        self.listed(query, "tenant_id DESC", page, tenant_use, behind).await.map(Ok)
    }

    /// Tenants that are served, and neither they nor a tenant above have a billing account; the newest first.
    ///
    /// # Errors
    /// As [`Snapshot::idle_tenants`].
    pub async fn unbilled_tenants(
        &mut self,
        page: &Page,
    ) -> Result<Result<Listed<TenantUse>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let query = select(
            TENANT_USE,
            "FROM organizations AS tenant
             LEFT JOIN organizations AS first ON first.tenant_id = tenant.parent_id
             LEFT JOIN organizations AS second ON second.tenant_id = first.parent_id
             WHERE tenant.status IN ('trial', 'active', 'past_due') AND tenant.tenant_id < $1
                 AND NOT EXISTS (SELECT 1 FROM tenant_settings AS own WHERE own.setting_key = $2 AND own.tenant_id IN
                     (tenant.tenant_id, first.tenant_id, second.tenant_id, second.parent_id))",
        );
        let query = query.bind(below).bind(BILLING_ACCOUNT);
        self.listed(query, "tenant.tenant_id DESC", page, tenant_use, behind).await.map(Ok)
    }

    /// Keys that could be used, were there before `since`, and were not used from then on; the newest first.
    ///
    /// # Errors
    /// As [`Snapshot::idle_tenants`].
    pub async fn idle_keys(
        &mut self,
        since: Timestamp,
        page: &Page,
    ) -> Result<Result<Listed<IdleKey>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let query = query(
            "SELECT key_id, tenant_id, name, prefix, created_at, last_used_at,
                 (SELECT slug FROM organizations AS tenant WHERE tenant.tenant_id = key.tenant_id) AS slug
             FROM api_keys AS key
             WHERE key_id < $2
                 AND (SELECT key.enabled AND key.revoked_at IS NULL AND key.created_at < $1
                          AND COALESCE(key.last_used_at, key.created_at) < $1 AND tenant.status <> 'deleted'
                      FROM organizations AS tenant WHERE tenant.tenant_id = key.tenant_id)",
        )
        .bind(since)
        .bind(below);
        let cursor = |last: &IdleKey| Cursor::behind(last.key_id, last.created_at);
        self.listed(query, "key_id DESC", page, idle_key, cursor).await.map(Ok)
    }

    /// The next tenants below that id which are served and were there before `since`: as many, the newest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn served_tenants_below(
        &mut self,
        below: TenantId,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<Tenant>, StoreError> {
        let rows = super::tenants::selected(
            "FROM organizations WHERE status IN ('trial', 'active', 'past_due') AND tenant_id < $1 AND created_at < $2
             ORDER BY tenant_id DESC LIMIT $3",
        )
        .bind(below.0)
        .bind(since)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(super::tenants::tenant).collect()
    }

    /// What each of the tenants used most of each resource: of counters in a month of UTC that began at `from` or later, of
    /// gauges what they hold.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn peak_use(
        &mut self,
        tenants: &[TenantId],
        from: Timestamp,
        now: Timestamp,
    ) -> Result<BTreeMap<(TenantId, Resource), Units>, StoreError> {
        let mut months = query(
            "SELECT tenant_id, resource_type, CAST(MAX(units) AS BIGINT) AS units FROM (
                 SELECT tenant_id, resource_type, bucket_start, SUM(units) AS units FROM usage_rollups
                 WHERE period = 'month' AND bucket_start >= $1 AND tenant_id IN (",
        )
        .bind(from);
        push_ids(&mut months, tenants);
        months.push(
            ") GROUP BY tenant_id, resource_type, bucket_start) AS months GROUP BY tenant_id, resource_type",
        );
        let mut held = query(
            "SELECT owner_id AS tenant_id, resource_type, CAST(SUM(units) AS BIGINT) AS units FROM account_units
             WHERE period = 'forever' AND window_end > $1 AND owner_kind = 'tenant' AND owner_id IN (",
        )
        .bind(now);
        push_ids(&mut held, tenants);
        held.push(") GROUP BY owner_id, resource_type");
        let mut rows = months.fetch_all(self.connection()).await?;
        // A gauge's rollups sum what was taken; what it holds is what counts.
        rows.extend(held.fetch_all(self.connection()).await?);
        rows.iter().map(peak).collect()
    }
}

fn push_ids(query: &mut super::sql::Query, tenants: &[TenantId]) {
    for (at, tenant) in tenants.iter().enumerate() {
        query.push(if at == 0 { "" } else { ", " }).push_bind(tenant.0);
    }
}

fn peak(row: &Row) -> Result<((TenantId, Resource), Units), StoreError> {
    let resource = parsed(row, "resource_type", |text| text.parse().ok())?;
    Ok(((TenantId(get(row, "tenant_id")?), resource), Units::saturating(whole(row, "units")?)))
}

fn tenant_use(row: &Row) -> Result<TenantUse, StoreError> {
    Ok(TenantUse {
        tenant_id: TenantId(get(row, "tenant_id")?),
        slug: slug(row)?,
        organization_name: get(row, "name")?,
        tenant_status: parsed(row, "status", TenantStatus::parse)?,
        tenant_tier: get(row, "tier")?,
        created_at: get(row, "created_at")?,
        last_used_at: get(row, "last_used_at")?,
    })
}

fn behind(last: &TenantUse) -> Cursor {
    Cursor::behind(last.tenant_id, last.created_at)
}

fn idle_key(row: &Row) -> Result<IdleKey, StoreError> {
    Ok(IdleKey {
        key_id: ApiKeyId(get(row, "key_id")?),
        tenant_id: TenantId(get(row, "tenant_id")?),
        slug: slug(row)?,
        name: get(row, "name")?,
        prefix: get(row, "prefix")?,
        created_at: get(row, "created_at")?,
        last_used_at: get(row, "last_used_at")?,
    })
}

fn slug(row: &Row) -> Result<Slug, StoreError> {
    parsed(row, "slug", |text| text.parse().ok())
}
