//! Many tenants at a glance: how each fares, which of its quotas is used most, and how busy it was.
//!
//! A page of tenants costs three statements, however many there are on it and beside it: health stands beside the tenant
//! since it was [looked at](super::watch) last, and what is used is found by the tenants' ids.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::permissions::Operation;
use super::quotas::percent;
use super::{Control, ControlError, Principal};
use crate::clock::Timestamp;
use crate::domain::{Anchor, Enforcement, Health, Period, Resource, Tenant, TenantId, Units, Zone};
use crate::store::{Listed, NearLimit, Page, RollupPeriod, Snapshot, TenantFilter, TenantSort};

/// A tenant as a list shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Glance {
    pub tenant: Tenant,
    /// As it was told: what is seen only once is no news.
    pub health: Health,
    /// `None` if nothing that has a limit was used, and for who may not read quotas or did not ask.
    pub largest_quota: Option<LargestQuota>,
    /// Of each hour or day of the time that was asked for, the present one last. `None` for who may not read them or did
    /// not ask.
    pub requests: Option<Vec<u64>>,
}

/// The quota of a tenant's own of which the largest part is used, as far as journals were flushed.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct LargestQuota {
    pub resource_type: Resource,
    pub period: Period,
    pub used: Units,
    pub limit: Units,
    /// Two decimals; above 100 where more than the limit may be used.
    pub percent: f64,
    pub enforcement: Enforcement,
}

/// How far a glance looks back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum GlanceSpan {
    /// Twenty-four hours.
    #[default]
    Day,
    /// Thirty days.
    Month,
}

impl Control {
    /// As [`Control::tenants`], each at a glance; without a span no more than how it fares.
    ///
    /// # Errors
    /// As [`Control::tenants`].
    pub async fn tenants_at_a_glance(
        &self,
        principal: &Principal,
        filter: &TenantFilter,
        sort: TenantSort,
        page: &Page,
        span: Option<GlanceSpan>,
    ) -> Result<Listed<Glance>, ControlError> {
        let (mut snapshot, filter) = self.begin_listing(principal, filter).await?;
        let listed = snapshot.tenants_and_health(principal.visible(), &filter, sort, page).await??;
        let ids: Vec<_> = listed.items.iter().map(|(tenant, _)| tenant.id).collect();
        let now = self.now();
        let may = |operation| span.filter(|_| principal.rights.permissions.contains(operation));
        let used = match may(Operation::ReadQuotas) {
            Some(_) => used_by(&mut snapshot, &ids, now).await?,
            None => HashMap::new(),
        };
        let mut busy = match may(Operation::ReadAnalytics) {
            Some(span) => busy(&mut snapshot, &ids, span, now).await?,
            None => HashMap::new(),
        };
        Ok(listed.map(|(tenant, health)| Glance {
            health,
            largest_quota: used.get(&tenant.id).and_then(|used| LargestQuota::of(&tenant, used, now)),
            requests: busy.remove(&tenant.id),
            tenant,
        }))
    }
}

async fn used_by(
    snapshot: &mut Snapshot,
    ids: &[TenantId],
    now: Timestamp,
) -> Result<HashMap<TenantId, Vec<NearLimit>>, ControlError> {
    let mut used: HashMap<_, Vec<_>> = HashMap::new();
    for limited in snapshot.limited_use(ids, now).await? {
        used.entry(limited.tenant).or_default().push(limited);
    }
    Ok(used)
}

async fn busy(
    snapshot: &mut Snapshot,
    ids: &[TenantId],
    span: GlanceSpan,
    now: Timestamp,
) -> Result<HashMap<TenantId, Vec<u64>>, ControlError> {
    let mut busy: HashMap<_, _> = ids.iter().map(|id| (*id, vec![0; span.buckets()])).collect();
    for (id, start, requests) in snapshot.requests_of(ids, span.rollups(), span.start(now)).await? {
        let buckets = busy.get_mut(&id);
        if let Some(bucket) = buckets.and_then(|buckets| buckets.get_mut(span.place(start, now))) {
            *bucket = requests;
        }
    }
    Ok(busy)
}

// === impl LargestQuota ===

impl LargestQuota {
    fn of(tenant: &Tenant, used: &[NearLimit], now: Timestamp) -> Option<LargestQuota> {
        let current = used.iter().filter(|limited| limited.is_current(tenant, now));
        let quotas = current.map(|limited| LargestQuota {
            resource_type: limited.account.resource,
            period: limited.account.window.period,
            used: limited.used,
            limit: limited.limit,
            percent: percent(limited.used, limited.limit),
            enforcement: limited.enforcement,
        });
        quotas.max_by(|one, other| one.percent.total_cmp(&other.percent))
    }
}

// === impl GlanceSpan ===

impl GlanceSpan {
    pub const ALL: [GlanceSpan; 2] = [GlanceSpan::Day, GlanceSpan::Month];

    pub const fn as_str(self) -> &'static str {
        match self {
            GlanceSpan::Day => "day",
            GlanceSpan::Month => "month",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        GlanceSpan::ALL.into_iter().find(|span| span.as_str() == text)
    }

    /// How many hours, or days.
    pub const fn buckets(self) -> usize {
        match self {
            GlanceSpan::Day => 24,
            GlanceSpan::Month => 30,
        }
    }

    const fn rollups(self) -> RollupPeriod {
        match self {
            GlanceSpan::Day => RollupPeriod::Hour,
            GlanceSpan::Month => RollupPeriod::Day,
        }
    }

    const fn bucket(self) -> Duration {
        match self {
            GlanceSpan::Day => Duration::from_secs(3_600),
            GlanceSpan::Month => Duration::from_secs(86_400),
        }
    }

    /// Of the first bucket.
    fn start(self, now: Timestamp) -> Timestamp {
        let others = u32::try_from(self.buckets() - 1).unwrap_or(u32::MAX);
        self.present(now).minus(self.bucket() * others)
    }

    /// Of the last bucket. Rollups follow the calendar of UTC.
    fn present(self, now: Timestamp) -> Timestamp {
        let period = match self {
            GlanceSpan::Day => Period::Hour,
            GlanceSpan::Month => Period::Day,
        };
        period.window(Anchor::Calendar, &Zone::UTC, now).start
    }

    fn place(self, start: Timestamp, now: Timestamp) -> usize {
        let buckets = start.since(self.start(now)).as_secs() / self.bucket().as_secs();
        usize::try_from(buckets).unwrap_or(usize::MAX)
    }
}
