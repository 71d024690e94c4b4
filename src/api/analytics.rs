//! `/api/tenants/{tenant}/analytics` and `…/analytics/forecast`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::error::Problem;
use super::export::{self, Column, Form, Formats};
use super::extract::{Caller, Params, TenantPath};
use super::openapi::query;
use super::router::Api;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::{AnalyticsQuery, QuotaForecast};
use crate::domain::forecast::Forecast;
use crate::domain::{ApiKeyId, Limit, Period, Resource, Units};
use crate::store::{Listed, RollupPeriod, SeriesBy, SeriesPoint, UsageSums};

/// One bucket of one series.
#[derive(Serialize, ToSchema)]
#[schema(as = AnalyticsPoint)]
struct PointView {
    start: Timestamp,
    /// The resource, key or route that was grouped by.
    group: Option<String>,
    #[serde(flatten)]
    sums: SumsView,
}

/// What buckets sum up to.
#[derive(Serialize, ToSchema)]
#[schema(as = AnalyticsSums)]
struct SumsView {
    units: u64,
    overage: u64,
    requests: u64,
    errors: u64,
    status_2xx: u64,
    status_3xx: u64,
    status_4xx: u64,
    status_5xx: u64,
    bytes_in: u64,
    bytes_out: u64,
    latency_sum_micros: u64,
}

/// Series, their sum, and that of as long a time before.
#[derive(Serialize, ToSchema)]
#[schema(as = Analytics)]
struct AnalyticsView {
    period: &'static str,
    from: Timestamp,
    to: Timestamp,
    items: Vec<PointView>,
    total: SumsView,
    previous: SumsView,
    change: ChangeView,
}

/// Against the time before, in percent; `null` where there was nothing before.
#[derive(Serialize, ToSchema)]
#[schema(as = AnalyticsChange)]
struct ChangeView {
    units_percent: Option<f64>,
    requests_percent: Option<f64>,
}

/// What a quota will have used when its window ends.
#[derive(Serialize, ToSchema)]
#[schema(as = QuotaForecast)]
struct ForecastView {
    resource_type: Resource,
    period: Period,
    period_start: Timestamp,
    period_end: Timestamp,
    limit: Limit,
    used: Units,
    /// `null` below three days of history.
    forecast: Option<Forecast>,
    /// Whether the limit is reached before the window ends; `null` if nothing can be said.
    exhausts: Option<bool>,
    /// How far off it would have been a week ago, in percent; `null` below ten days of history.
    error_percent: Option<f64>,
}

/// Which rollups, and how they are told apart.
enum AnalyticsParams {}

const COLUMNS: [Column; 13] = [
    ("start", &["start"]),
    ("group", &["group"]),
    ("units", &["units"]),
    ("overage", &["overage"]),
    ("requests", &["requests"]),
    ("errors", &["errors"]),
    ("status_2xx", &["status_2xx"]),
    ("status_3xx", &["status_3xx"]),
    ("status_4xx", &["status_4xx"]),
    ("status_5xx", &["status_5xx"]),
    ("bytes_in", &["bytes_in"]),
    ("bytes_out", &["bytes_out"]),
    ("latency_sum_micros", &["latency_sum_micros"]),
];

/// Shows what was used as series, beside as long a time before; the series also as NDJSON or CSV.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/analytics",
    params(AnalyticsParams, Formats),
    responses((
        status = 200, description = "Buckets that begin from `from` on and before `to`",
        content((AnalyticsView = "application/json"), (String = "application/x-ndjson"), (String = "text/csv; charset=utf-8")),
    )),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let query = AnalyticsQuery {
        period: params
            .read("period", "minute, hour, day or month", RollupPeriod::parse)
            .unwrap_or(RollupPeriod::Day),
        from: params.instant("from"),
        to: params.instant("to"),
        resource: params.read("resource_type", "a resource's name", |text| text.parse().ok()),
        key: params.read("key_id", "a key's id", |text| Uuid::try_parse(text).ok().map(ApiKeyId)),
        route: params.text("route"),
        by: params.read("group_by", "resource_type, key_id or route", SeriesBy::parse),
    };
    let form = Form::asked(&mut params, &headers);
    params.finish()?;
    let found = api.control.analytics(&principal, &tenant, &query).await?;
    let items: Vec<_> = found.points.into_iter().map(PointView::from).collect();
    if form.is_of_rows() {
        return Ok(export::listed(form, whole(items), &COLUMNS));
    }
    let change = ChangeView {
        units_percent: change(found.total.units, found.previous.units),
        requests_percent: change(found.total.requests, found.previous.requests),
    };
    let (from, to, period) = (found.from, found.to, query.period.as_str());
    let (total, previous) = (found.total.into(), found.previous.into());
    Ok(axum::Json(AnalyticsView { period, from, to, items, total, previous, change }).into_response())
}

/// Says what each quota of a day, a week or a month will have used when its window ends.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/analytics/forecast",
    responses((status = 200, description = "All of them", body = Listed<ForecastView>)),
)]
pub(super) async fn forecast(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let forecasts = api.control.forecasts(&principal, &tenant).await?;
    let views: Vec<_> = forecasts.into_iter().map(ForecastView::from).collect();
    Ok(axum::Json(whole(views)).into_response())
}

/// Two decimals. `None` if there was nothing before.
fn change(now: u64, before: u64) -> Option<f64> {
    let hundredths = i128::from(now).saturating_sub(before.into()) * 10_000;
    let hundredths = hundredths.checked_div(before.into())?;
    Some(f64::from(i32::try_from(hundredths).unwrap_or(i32::MAX)) / 100.0)
}

fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}

// === impl AnalyticsParams ===

impl utoipa::IntoParams for AnalyticsParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<RollupPeriod>(
                "period",
                "How long a bucket is: minutes go back two days, hours ninety; `day` if absent",
            ),
            query::<Timestamp>(
                "from",
                "Buckets that begin from this instant on; an hour, two days, a month or a year back if absent",
            ),
            query::<Timestamp>("to", "Buckets that begin before this instant; now if absent"),
            query::<Resource>(
                "resource_type",
                "Only of this resource; needed unless that is what is grouped by",
            ),
            query::<ApiKeyId>("key_id", "Only by this key"),
            query::<String>("route", "Only on this route"),
            query::<SeriesBy>("group_by", "One series for each of these"),
        ]
    }
}

// === impl PointView ===

impl From<SeriesPoint> for PointView {
    fn from(point: SeriesPoint) -> Self {
        PointView { start: point.start, group: point.group, sums: point.sums.into() }
    }
}

// === impl SumsView ===

impl From<UsageSums> for SumsView {
    fn from(sums: UsageSums) -> Self {
        let [status_2xx, status_3xx, status_4xx, status_5xx] = sums.statuses;
        SumsView {
            units: sums.units,
            overage: sums.overage,
            requests: sums.requests,
            errors: sums.errors,
            status_2xx,
            status_3xx,
            status_4xx,
            status_5xx,
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            latency_sum_micros: sums.latency_micros,
        }
    }
}

// === impl ForecastView ===

impl From<QuotaForecast> for ForecastView {
    fn from(of: QuotaForecast) -> Self {
        let QuotaForecast { quota, forecast, error } = of;
        let limit = quota.limit.units();
        ForecastView {
            resource_type: quota.resource_type,
            period: quota.period,
            period_start: quota.window.start,
            period_end: quota.window.end,
            limit: quota.limit,
            used: quota.used,
            exhausts: forecast.map(|forecast| limit.is_some_and(|limit| forecast.units >= limit.get())),
            forecast,
            error_percent: error.map(percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::change;

    #[test]
    fn a_change_is_in_percent_of_what_was_before() {
        for (now, before, expected) in
            [(150, 100, Some(50.0)), (0, 100, Some(-100.0)), (1, 3, Some(-66.66)), (5, 0, None), (0, 0, None)]
        {
            assert_eq!(change(now, before), expected, "{now} after {before}");
        }
        assert!(change(u64::MAX, 1).is_some());
    }
}
