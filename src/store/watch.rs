//! What is watched of all tenants at once: a few statements however many tenants there are, each over an index of what
//! is recent.

use uuid::Uuid;

use super::rows::Rows;
use super::sql::{Bind, Kind, Query, Row, query};
use super::usage::recent;
use super::values::{corrupt, get, json_or_null, parsed, whole};
use super::{RecentRequests, RollupPeriod, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ActorKind, Enforcement, Health, Owner, Period, Resource, TenantId, TenantStatus, Units,
    Window,
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

/// A quota that will be used up before it begins anew, as was foreseen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhaustion {
    pub tenant: TenantId,
    pub resource: Resource,
    pub period: Period,
    /// Of which it was foreseen: of another limit it says nothing.
    pub limit: Units,
    pub window_end: Timestamp,
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
        let mut query = limited(now, &[]);
        query.push(" AND units * 100 >= limit_amount * ").push_bind(percent);
        query.push(" ORDER BY tenant_id, owner_kind, owner_id, resource_type, period");
        query.fetch_all(self.connection()).await?.iter().map(near_limit).collect()
    }

    /// The same accounts of these tenants alone, whatever is used of them, and not those of their keys.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn limited_use(
        &mut self,
        tenants: &[TenantId],
        now: Timestamp,
    ) -> Result<Vec<NearLimit>, StoreError> {
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        limited(now, tenants).fetch_all(self.connection()).await?.iter().map(near_limit).collect()
    }

    /// Requests of these tenants, bucket by bucket of rollups since `from`, in the order of time. A request that used
    /// several resources is one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn requests_of(
        &mut self,
        tenants: &[TenantId],
        period: RollupPeriod,
        from: Timestamp,
    ) -> Result<Vec<(TenantId, Timestamp, u64)>, StoreError> {
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = query(
            "SELECT tenant_id, bucket_start, MAX(requests) AS requests FROM (
                 SELECT tenant_id, bucket_start, CAST(SUM(requests) AS BIGINT) AS requests FROM usage_rollups
                 WHERE period = $1 AND bucket_start >= $2 AND tenant_id IN (",
        )
        .bind(period.as_str())
        .bind(from);
        push_ids(&mut query, tenants);
        query.push(
            ") GROUP BY tenant_id, bucket_start, resource_type) AS by_resource
             GROUP BY tenant_id, bucket_start ORDER BY bucket_start",
        );
        let rows = query.fetch_all(self.connection()).await?;
        let bucket =
            |row| Ok((TenantId(get(row, "tenant_id")?), get(row, "bucket_start")?, whole(row, "requests")?));
        rows.iter().map(bucket).collect()
    }

    /// The tenants with at least so many requests in the minutes since `from`, denied ones among them, and how many of
    /// those failed.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn busy_tenants(
        &mut self,
        from: Timestamp,
        requests_min: u64,
    ) -> Result<Vec<(TenantId, RecentRequests)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, CAST(SUM(requests) AS BIGINT) AS requests, CAST(SUM(errors) AS BIGINT) AS errors,
                 CAST(SUM(denied) AS BIGINT) AS denied
             FROM (SELECT tenant_id, requests, errors, 0 AS denied FROM usage_rollups
                   WHERE period = 'minute' AND bucket_start >= $1
                   UNION ALL SELECT tenant_id, 0, 0, denied FROM denials WHERE minute >= $1) AS recent
             GROUP BY tenant_id HAVING SUM(requests) + SUM(denied) >= $2",
        )
        .bind(from)
        .bind(i64::try_from(requests_min).unwrap_or(i64::MAX))
        .fetch_all(self.connection())
        .await?;
        let busy = |row| Ok((TenantId(get(row, "tenant_id")?), recent(row)?));
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
        let rows = query(
            "SELECT tenant_health.tenant_id, health_level, seen, seen_times, since
             FROM tenant_health JOIN organizations ON organizations.tenant_id = tenant_health.tenant_id",
        )
        .fetch_all(self.connection())
        .await?;
        let known = |row| {
            Ok(KnownHealth {
                tenant: TenantId(get(row, "tenant_id")?),
                health: health(row)?,
                seen: parsed(row, "seen", Health::parse)?,
                seen_times: get(row, "seen_times")?,
                since: get(row, "since")?,
            })
        };
        rows.iter().map(known).collect()
    }

    /// What was foreseen of windows that have not ended, of all tenants or of one.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn exhaustions(
        &mut self,
        tenant: Option<TenantId>,
        now: Timestamp,
    ) -> Result<Vec<Exhaustion>, StoreError> {
        let mut query = query(
            "SELECT tenant_id, resource_type, period, limit_amount, window_end FROM exhaustions WHERE window_end > $1",
        )
        .bind(now);
        if let Some(tenant) = tenant {
            query.push(" AND tenant_id = ").push_bind(tenant.0);
        }
        let rows = query.fetch_all(self.connection()).await?;
        let exhaustion = |row| {
            Ok(Exhaustion {
                tenant: TenantId(get(row, "tenant_id")?),
                resource: parsed(row, "resource_type", |text| text.parse().ok())?,
                period: parsed(row, "period", |text| text.parse().ok())?,
                limit: Units::saturating(whole(row, "limit_amount")?),
                window_end: get(row, "window_end")?,
            })
        };
        rows.iter().map(exhaustion).collect()
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

    /// What was done since `from`, in tenants' logs, that may give somebody rights: to keys, members and roles.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn granted(&mut self, from: Timestamp) -> Result<Vec<Granted>, StoreError> {
        let rows = query(
            "SELECT log.tenant_id, seq, at, actor_name, action, target_id, before_json, after_json
             FROM tenant_audit_logs AS log JOIN organizations AS tenant ON tenant.tenant_id = log.tenant_id
             WHERE log.at >= $1 AND outcome = 'done' AND tenant.status <> 'deleted' AND action IN ('key.create', 'key.import',
                 'key.change', 'member.join', 'member.change', 'role.set')",
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

/// Whose accounts they are, keys' among them as long as they are not revoked.
const OF_ANYBODY: &str = " LEFT JOIN api_keys ON used.owner_kind = 'key' AND api_keys.key_id = used.owner_id
     JOIN organizations AS tenant ON tenant.tenant_id = COALESCE(api_keys.tenant_id, used.owner_id)
         AND api_keys.revoked_at IS NULL";
/// The same of tenants' own accounts alone: all keys need not be looked through for them.
const OF_TENANTS: &str = " JOIN organizations AS tenant ON tenant.tenant_id = used.owner_id";

/// What is used of each limited account of a current window, of a day or longer: of these tenants' own, or of all.
fn limited(now: Timestamp, tenants: &[TenantId]) -> Query {
    let mut query = query(
        "SELECT * FROM (
             SELECT tenant.tenant_id, tenant.tier, tenant.tier_version, used.owner_kind, used.owner_id,
                 used.resource_type, used.period, used.window_start, used.window_end, used.units,
                 own.version AS own_version,
                 CASE WHEN own.tenant_id IS NULL THEN tier.limit_amount ELSE own.limit_amount END AS limit_amount,
                 CASE WHEN own.tenant_id IS NULL THEN tier.enforcement ELSE own.enforcement END AS enforcement
             FROM (SELECT owner_kind, owner_id, resource_type, period, window_start, window_end,
                     CAST(SUM(units) AS BIGINT) AS units
                 FROM account_units
                 WHERE window_end > $1 AND window_start <= $1 AND period IN ('day', 'week', 'month', 'forever')",
    )
    .bind(now);
    if !tenants.is_empty() {
        query.push(" AND owner_kind = 'tenant' AND owner_id IN (");
        push_ids(&mut query, tenants);
        query.push(")");
    }
    query.push(" GROUP BY owner_kind, owner_id, resource_type, period, window_start, window_end) AS used");
    query.push(if tenants.is_empty() { OF_ANYBODY } else { OF_TENANTS });
    query.push(
        " LEFT JOIN tenant_resource_quotas AS own ON own.tenant_id = tenant.tenant_id
                 AND own.owner_kind = used.owner_kind AND own.owner_id = used.owner_id
                 AND own.resource_type = used.resource_type AND own.period = used.period
                 AND (own.expires_at IS NULL OR own.expires_at > $1)
             LEFT JOIN tier_quotas AS tier ON used.owner_kind = 'tenant' AND tier.tier = tenant.tier
                 AND tier.version = tenant.tier_version AND tier.resource_type = used.resource_type
                 AND tier.period = used.period
             WHERE tenant.status <> 'deleted'
         ) AS limited
         WHERE limit_amount > 0",
    );
    query
}

fn push_ids(query: &mut Query, tenants: &[TenantId]) {
    for (at, tenant) in tenants.iter().enumerate() {
        query.push(if at == 0 { "" } else { ", " }).push_bind(tenant.0);
    }
}

/// How the tenant of the row fares.
pub(super) fn health(row: &Row) -> Result<Health, StoreError> {
    let level = get(row, "health_level")?;
    Health::of_level(level).ok_or_else(|| corrupt("health_level", level.to_string()))
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
            "INSERT INTO tenant_health (tenant_id, seen, seen_times, since) VALUES ($1, $2, $3, $4)
             ON CONFLICT (tenant_id) DO UPDATE SET seen = excluded.seen, seen_times = excluded.seen_times,
                 since = excluded.since",
        )
        .bind(known.tenant.0)
        .bind(known.seen.as_str())
        .bind(known.seen_times)
        .bind(known.since)
        .execute(self.connection())
        .await?;
        query("UPDATE organizations SET health_level = $2 WHERE tenant_id = $1 AND health_level <> $2")
            .bind(known.tenant.0)
            .bind(known.health.level())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// What is foreseen now, of all tenants, in place of what was.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_exhaustions(&mut self, foreseen: &[Exhaustion]) -> Result<(), StoreError> {
        query("DELETE FROM exhaustions").execute(self.connection()).await?;
        let rows = foreseen.iter().map(|exhaustion| {
            [
                exhaustion.tenant.0.value(),
                exhaustion.resource.as_str().value(),
                exhaustion.period.as_str().value(),
                i64::try_from(exhaustion.limit.get()).unwrap_or(i64::MAX).value(),
                exhaustion.window_end.value(),
            ]
        });
        let columns = [
            ("tenant_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("period", Kind::Text),
            ("limit_amount", Kind::Integer),
            ("window_end", Kind::Instant),
        ];
        Rows::of("exhaustions", columns, rows).insert("", self.connection()).await
    }
}
