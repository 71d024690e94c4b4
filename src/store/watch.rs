//! What is watched of all tenants at once: a few statements however many tenants there are, each over an index of what
//! is recent.

use uuid::Uuid;

use super::sql::{Row, query};
use super::values::{get, json_or_null, parsed, whole};
use super::{RecentRequests, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ActorKind, Enforcement, Health, Owner, TenantId, TenantStatus, Units, Window,
};

/// An account of which much is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NearLimit {
    pub tenant: TenantId,
    pub account: AccountKey,
    pub used: Units,
    /// Never zero.
    pub limit: Units,
    pub enforcement: Enforcement,
    /// Names the limit: another one, though of as many units, has another name.
    pub limit_version: String,
}

/// How a tenant fared when it was looked at last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownHealth {
    pub tenant: TenantId,
    /// What it was told.
    pub health: Health,
    /// What was seen since.
    pub seen: Health,
    /// In so many looks in a row.
    pub seen_times: i64,
    /// When it was told.
    pub since: Timestamp,
}

/// Somebody who was refused again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub tenant: TenantId,
    pub actor_kind: ActorKind,
    pub actor_id: Option<Uuid>,
    pub actor_name: String,
    pub times: u64,
}

/// A row of the audit log that may give somebody rights.
#[derive(Clone, PartialEq, Debug)]
pub struct Granted {
    pub tenant: TenantId,
    pub seq: i64,
    pub at: Timestamp,
    pub actor_name: String,
    pub action: String,
    pub target_id: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

// === impl Snapshot ===

impl Snapshot {
    /// The accounts of current windows, of a day or longer, of which at least so many percent of the limit are used, as
    /// far as journals were flushed; in the order of tenants.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn near_limit(&mut self, percent: u32, now: Timestamp) -> Result<Vec<NearLimit>, StoreError> {
        let rows = query(
            "SELECT * FROM (
                 SELECT tenant.tenant_id, tenant.tier, tenant.tier_version, used.owner_kind, used.owner_id,
                     used.resource_type, used.period, used.window_start, used.window_end, used.units,
                     own.version AS own_version,
                     CASE WHEN own.tenant_id IS NULL THEN tier.limit_amount ELSE own.limit_amount END AS limit_amount,
                     CASE WHEN own.tenant_id IS NULL THEN tier.enforcement ELSE own.enforcement END AS enforcement
                 FROM (SELECT owner_kind, owner_id, resource_type, period, window_start, window_end,
                         CAST(SUM(units) AS BIGINT) AS units
                     FROM account_units
                     WHERE window_end > $1 AND window_start <= $1 AND period IN ('day', 'week', 'month', 'forever')
                     GROUP BY owner_kind, owner_id, resource_type, period, window_start, window_end) AS used
                 LEFT JOIN api_keys ON used.owner_kind = 'key' AND api_keys.key_id = used.owner_id
                 JOIN organizations AS tenant ON tenant.tenant_id = COALESCE(api_keys.tenant_id, used.owner_id)
                 LEFT JOIN tenant_resource_quotas AS own ON own.tenant_id = tenant.tenant_id
                     AND own.owner_kind = used.owner_kind AND own.owner_id = used.owner_id
                     AND own.resource_type = used.resource_type AND own.period = used.period
                     AND (own.expires_at IS NULL OR own.expires_at > $1)
                 LEFT JOIN tier_quotas AS tier ON used.owner_kind = 'tenant' AND tier.tier = tenant.tier
                     AND tier.version = tenant.tier_version AND tier.resource_type = used.resource_type
                     AND tier.period = used.period
                 WHERE tenant.status <> 'deleted' AND api_keys.revoked_at IS NULL
             ) AS near
             WHERE limit_amount > 0 AND units * 100 >= limit_amount * $2
             ORDER BY tenant_id, owner_kind, owner_id, resource_type, period",
        )
        .bind(now)
        .bind(percent)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(near_limit).collect()
    }

    /// The tenants with at least so many requests in the minutes since `from`, and how many of those failed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn busy_tenants(
        &mut self,
        from: Timestamp,
        requests_min: u64,
    ) -> Result<Vec<(TenantId, RecentRequests)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(errors) AS BIGINT) AS errors
             FROM usage_rollups WHERE period = 'minute' AND bucket_start >= $1
             GROUP BY tenant_id HAVING SUM(requests) >= $2",
        )
        .bind(from)
        .bind(i64::try_from(requests_min).unwrap_or(i64::MAX))
        .fetch_all(self.connection())
        .await?;
        let busy = |row| {
            let recent = RecentRequests { requests: whole(row, "requests")?, errors: whole(row, "errors")? };
            Ok((TenantId(get(row, "tenant_id")?), recent))
        };
        rows.iter().map(busy).collect()
    }

    /// The tenant's requests in the hours of `[from, to)`, and when the first of them began.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn hourly_requests(
        &mut self,
        tenant: TenantId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        let row = query(
            "SELECT CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS requests, MIN(bucket_start) AS first
             FROM usage_rollups WHERE tenant_id = $1 AND period = 'hour' AND bucket_start >= $2 AND bucket_start < $3",
        )
        .bind(tenant.0)
        .bind(from)
        .bind(to)
        .fetch_one(self.connection())
        .await?;
        Ok((whole(&row, "requests")?, get(&row, "first")?))
    }

    /// The tenants that are there and not served.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unserved_tenants(&mut self) -> Result<Vec<(TenantId, TenantStatus)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, status FROM organizations WHERE status IN ('past_due', 'suspended', 'cancelled')",
        )
        .fetch_all(self.connection())
        .await?;
        let unserved =
            |row| Ok((TenantId(get(row, "tenant_id")?), parsed(row, "status", TenantStatus::parse)?));
        rows.iter().map(unserved).collect()
    }

    /// How tenants fared when they were looked at last; of those that are not here, all was well.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn known_health(&mut self) -> Result<Vec<KnownHealth>, StoreError> {
        let rows = query("SELECT tenant_id, health, seen, seen_times, since FROM tenant_health")
            .fetch_all(self.connection())
            .await?;
        let known = |row| {
            Ok(KnownHealth {
                tenant: TenantId(get(row, "tenant_id")?),
                health: parsed(row, "health", Health::parse)?,
                seen: parsed(row, "seen", Health::parse)?,
                seen_times: get(row, "seen_times")?,
                since: get(row, "since")?,
            })
        };
        rows.iter().map(known).collect()
    }

    /// Who was refused so often since `from`, in a tenant's log.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn often_refused(
        &mut self,
        from: Timestamp,
        times_min: u64,
    ) -> Result<Vec<Refused>, StoreError> {
        let rows = query(
            "SELECT log.tenant_id, actor_kind, actor_id, MAX(actor_name) AS actor_name, COUNT(*) AS times
             FROM tenant_audit_logs AS log JOIN organizations AS tenant ON tenant.tenant_id = log.tenant_id
             WHERE log.at >= $1 AND outcome = 'denied' AND tenant.status <> 'deleted'
             GROUP BY log.tenant_id, actor_kind, actor_id HAVING COUNT(*) >= $2",
        )
        .bind(from)
        .bind(i64::try_from(times_min).unwrap_or(i64::MAX))
        .fetch_all(self.connection())
        .await?;
        let refused = |row| {
            Ok(Refused {
                tenant: TenantId(get(row, "tenant_id")?),
                actor_kind: parsed(row, "actor_kind", ActorKind::parse)?,
                actor_id: get(row, "actor_id")?,
                actor_name: get(row, "actor_name")?,
                times: whole(row, "times")?,
            })
        };
        rows.iter().map(refused).collect()
    }

    /// What was done since `from`, in tenants' logs, to keys.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn keys_made_or_changed(&mut self, from: Timestamp) -> Result<Vec<Granted>, StoreError> {
        let rows = query(
            "SELECT log.tenant_id, seq, at, actor_name, action, target_id, before_json, after_json
             FROM tenant_audit_logs AS log JOIN organizations AS tenant ON tenant.tenant_id = log.tenant_id
             WHERE log.at >= $1 AND outcome = 'done' AND action IN ('key.create', 'key.import', 'key.change')
                 AND tenant.status <> 'deleted'",
        )
        .bind(from)
        .fetch_all(self.connection())
        .await?;
        let granted = |row| {
            Ok(Granted {
                tenant: TenantId(get(row, "tenant_id")?),
                seq: get(row, "seq")?,
                at: get(row, "at")?,
                actor_name: get(row, "actor_name")?,
                action: get(row, "action")?,
                target_id: get(row, "target_id")?,
                before: json_or_null(row, "before_json")?,
                after: json_or_null(row, "after_json")?,
            })
        };
        rows.iter().map(granted).collect()
    }
}

fn near_limit(row: &Row) -> Result<NearLimit, StoreError> {
    let id: Uuid = get(row, "owner_id")?;
    let owner = parsed(row, "owner_kind", |kind| Owner::of_kind(kind, id))?;
    let period = parsed(row, "period", |text| text.parse().ok())?;
    let window = Window { period, start: get(row, "window_start")?, end: get(row, "window_end")? };
    let limit_version = match get::<Option<i64>>(row, "own_version")? {
        Some(version) => format!("own-{version}"),
        None => format!("{}-{}", get::<&str>(row, "tier")?, get::<i64>(row, "tier_version")?),
    };
    Ok(NearLimit {
        tenant: TenantId(get(row, "tenant_id")?),
        account: AccountKey {
            owner,
            resource: parsed(row, "resource_type", |text| text.parse().ok())?,
            window,
        },
        used: Units::saturating(whole(row, "units")?),
        limit: Units::saturating(whole(row, "limit_amount")?),
        enforcement: parsed(row, "enforcement", Enforcement::parse)?,
        limit_version,
    })
}

// === impl Tx ===

impl Tx {
    /// # Errors
    /// [`StoreError`]
    pub async fn set_known_health(&mut self, known: &KnownHealth) -> Result<(), StoreError> {
        query(
            "INSERT INTO tenant_health (tenant_id, health, seen, seen_times, since) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id) DO UPDATE SET health = excluded.health, seen = excluded.seen,
                 seen_times = excluded.seen_times, since = excluded.since",
        )
        .bind(known.tenant.0)
        .bind(known.health.as_str())
        .bind(known.seen.as_str())
        .bind(known.seen_times)
        .bind(known.since)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
