//! What was used, as series; how that compares with the time before; and what will have been used.

use std::time::Duration;

use super::principal::Operation;
use super::quotas::QuotaUse;
use super::validate::Faults;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::forecast::{Forecast, HISTORY_HOURS};
use crate::domain::{Anchor, ApiKeyId, Owner, Period, Resource, Tenant, TenantId, Zone};
use crate::store::{NearLimit, RollupPeriod, SeriesBy, SeriesFilter, SeriesPoint, Snapshot, UsageSums};

/// What is asked for. `None` of an instant: until now, and as long as is usual for the period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnalyticsQuery {
    pub period: RollupPeriod,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub resource: Option<Resource>,
    pub key: Option<ApiKeyId>,
    pub route: Option<String>,
    pub by: Option<SeriesBy>,
}

/// Series of a tenant.
#[derive(Clone, PartialEq, Debug)]
pub struct Analytics {
    /// Buckets that begin in `[from, to)`.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Buckets in which nothing was used are left out.
    pub points: Vec<SeriesPoint>,
    pub total: UsageSums,
    /// The same of as long a time right before.
    pub previous: UsageSums,
}

/// What a quota will have used when its window ends.
#[derive(Clone, PartialEq, Debug)]
pub struct QuotaForecast {
    pub quota: QuotaUse,
    /// `None` below three days of history.
    pub forecast: Option<Forecast>,
    /// How far off it would have been a week ago, as a share of what was used since. `None` below ten days of history.
    pub error: Option<f64>,
}

/// Buckets that are asked for at once.
const BUCKETS_MAX: u64 = 5_000;
/// Points that are answered at once: a bucket may have one for each key.
const POINTS_MAX: u32 = 20_000;
const HOUR: Duration = Duration::from_secs(3_600);

impl Control {
    /// Rollups of a tenant. Those of minutes go back two days, of hours ninety, the others for ever.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for more than 5,000 buckets or 20,000 points, and for a
    /// mixture of resources.
    pub async fn analytics(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        query: &AnalyticsQuery,
    ) -> Result<Analytics, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAnalytics, tenant).await?;
        let filter = query.checked(self.now())?;
        let (from, to) = (filter.from, filter.to);
        let points = snapshot.usage_series(tenant.id, &filter, query.by, POINTS_MAX + 1).await?;
        if u32::try_from(points.len()).unwrap_or(u32::MAX) > POINTS_MAX {
            let mut faults = Faults::default();
            faults.add("group_by", format!("that is more than {POINTS_MAX} points: ask for a shorter time"));
            return Err(faults.refusal());
        }
        let mut total = UsageSums::default();
        points.iter().for_each(|point| total.add(&point.sums));
        let before = SeriesFilter { from: from.minus(to.since(from)), to: from, ..filter };
        let previous = snapshot.usage_sums(tenant.id, &before).await?;
        Ok(Analytics { from, to, points, total, previous })
    }

    /// What each of the tenant's quotas that begins anew will have used when it does: of a day, a week or a month.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn forecasts(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<QuotaForecast>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAnalytics, tenant).await?;
        let mut forecasts = self.forecasts_of(&mut snapshot, &tenant).await?;
        forecasts.retain(|forecast| begins_anew(forecast.quota.period));
        Ok(forecasts)
    }

    /// Whether that much of a quota will be used up before it begins anew; not of one of which nothing can be foreseen.
    pub(super) async fn runs_out(
        &self,
        snapshot: &mut Snapshot,
        used: &NearLimit,
    ) -> Result<bool, ControlError> {
        let window = used.account.window;
        if !begins_anew(window.period) {
            return Ok(false);
        }
        let now = self.now();
        let history = history(snapshot, used.tenant, used.account.resource, now).await?;
        let forecast = Forecast::of(&history, used.used.get(), hours_until(window.end, now));
        Ok(forecast.is_some_and(|forecast| forecast.units >= used.limit.get()))
    }

    /// The tenant's quotas of a day or longer, each with its forecast if it begins anew.
    pub(super) async fn forecasts_of(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
    ) -> Result<Vec<QuotaForecast>, ControlError> {
        let now = self.now();
        let mut quotas = snapshot.quotas(tenant, now).await?;
        quotas.retain(|quota| {
            let period = quota.quota.period;
            quota.quota.owner == Owner::Tenant(tenant.id)
                && (begins_anew(period) || period == Period::Forever)
        });
        let mut forecasts = Vec::new();
        for quota in self.with_use(snapshot, tenant, quotas, now).await? {
            if !begins_anew(quota.period) {
                forecasts.push(QuotaForecast { forecast: None, error: None, quota });
                continue;
            }
            let history = history(snapshot, tenant.id, quota.resource_type, now).await?;
            let forecast = Forecast::of(&history, quota.used.get(), hours_until(quota.window.end, now));
            forecasts.push(QuotaForecast { forecast, error: Forecast::error(&history), quota });
        }
        Ok(forecasts)
    }
}

/// Whether use of it can be foreseen: a rate is too short for that, and a gauge has no end.
const fn begins_anew(period: Period) -> bool {
    matches!(period, Period::Day | Period::Week | Period::Month)
}

fn hours_until(end: Timestamp, now: Timestamp) -> f64 {
    end.since(now).as_secs_f64() / HOUR.as_secs_f64()
}

/// The units of each whole hour of the last weeks, from the first in which there were any.
async fn history(
    snapshot: &mut Snapshot,
    tenant: TenantId,
    resource: Resource,
    now: Timestamp,
) -> Result<Vec<u64>, ControlError> {
    let hours = u32::try_from(HISTORY_HOURS).unwrap_or(u32::MAX);
    let to = start(Period::Hour, now);
    let filter = SeriesFilter {
        period: RollupPeriod::Hour,
        from: to.minus(HOUR * hours),
        to,
        resource: Some(resource),
        key: None,
        route: None,
    };
    let points = snapshot.usage_series(tenant, &filter, None, hours).await?;
    let Some(first) = points.first().map(|point| point.start) else { return Ok(Vec::new()) };
    let hour_of =
        |at: Timestamp| usize::try_from(at.since(first).as_secs() / HOUR.as_secs()).unwrap_or(usize::MAX);
    let mut history = vec![0; hour_of(to)];
    for point in &points {
        if let Some(hour) = history.get_mut(hour_of(point.start)) {
            *hour = point.sums.units;
        }
    }
    Ok(history)
}

/// Of the calendar's window of UTC, as rollups are kept.
fn start(period: Period, at: Timestamp) -> Timestamp {
    period.window(Anchor::Calendar, &Zone::UTC, at).start
}

// === impl AnalyticsQuery ===

impl AnalyticsQuery {
    fn checked(&self, now: Timestamp) -> Result<SeriesFilter, ControlError> {
        // How long a bucket is, about; how many of them are usual.
        let (bucket, usual) = match self.period {
            RollupPeriod::Minute => (Duration::from_secs(60), 60),
            RollupPeriod::Hour => (HOUR, 48),
            RollupPeriod::Day => (HOUR * 24, 30),
            RollupPeriod::Month => (HOUR * 24 * 30, 12),
        };
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or_else(|| to.minus(bucket * usual));
        let mut faults = Faults::default();
        if from >= to {
            faults.add("from", "it must be before `to`");
        }
        if to.since(from).as_secs() / bucket.as_secs() > BUCKETS_MAX {
            faults.add("from", format!("that is more than {BUCKETS_MAX} buckets: ask for longer ones"));
        }
        if self.resource.is_none() && self.by != Some(SeriesBy::Resource) {
            faults.add("resource_type", "resources don't add up: name one, or group by resource_type");
        }
        faults.finish()?;
        let AnalyticsQuery { period, resource, key, ref route, .. } = *self;
        Ok(SeriesFilter { period, from, to, resource, key, route: route.clone() })
    }
}
