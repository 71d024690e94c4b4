//! What a tenant used: a chart with its table, beside the time before, by resource, key or route; and to take along.
//!
//! The chart is drawn here and not by a script, so that it is there for everybody, prints, and costs no download.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::forms::{Asked, Form};
use super::layout::{Layout, Tab};
use super::page::html;
use super::refusal::Refusal;
use super::session::{TenantVisit, form_encoded};
use super::text::{grouped, instant, words};
use crate::clock::Timestamp;
use crate::control::{Analytics, AnalyticsQuery, ControlError};
use crate::store::{RollupPeriod, SeriesBy, UsageSums};

#[derive(Template)]
#[template(path = "usage.html")]
struct UsagePage {
    layout: Layout,
    base: String,
    form: Form,
    periods: Vec<(String, String)>,
    groups: Vec<(String, String)>,
    resources: Vec<(String, String)>,
    found: Option<Found>,
    csv: String,
    ndjson: String,
}

/// What was used in that time.
struct Found {
    from: String,
    to: String,
    figures: Vec<Figure>,
    bars: Vec<Bar>,
    /// The units at the top of the chart.
    top: String,
    groups: Vec<(String, Row)>,
    rows: Vec<(String, String, Row)>,
}

/// A sum and how it has changed.
struct Figure {
    label: &'static str,
    value: String,
    change: String,
}

/// Of the chart, in parts of its width and height: a thousand, and a hundred.
struct Bar {
    x: u64,
    y: u64,
    width: u64,
    height: u64,
    label: String,
}

/// Sums, as the table shows them.
struct Row {
    units: String,
    overage: String,
    requests: String,
    errors: String,
    statuses: [String; 4],
}

/// Rows of the table; more are to be taken along.
const ROWS_MAX: usize = 500;
const WIDTH: u64 = 1_000;
const HEIGHT: u64 = 100;
const PERIODS: [RollupPeriod; 4] =
    [RollupPeriod::Day, RollupPeriod::Hour, RollupPeriod::Minute, RollupPeriod::Month];
/// What is asked for, as the address names it.
const DAYS: [&str; 2] = ["from", "to"];
const FIELDS: [&str; 7] = ["period", "resource_type", "group_by", "from", "to", "key_id", "route"];

/// `GET /console/tenants/{tenant}/usage?period=&resource_type=&group_by=&from=&to=`
pub(super) async fn show(place: TenantVisit, Asked(form): Asked) -> Result<Response, Refusal> {
    let visit = &place.visit;
    let kinds = visit.control.resource_types(&visit.principal).await?;
    let (form, found) = match asked(&place, form).await? {
        (form, Ok((query, analytics))) => (form, Some(Found::of(&query, &analytics))),
        (form, Err(error)) => (form.refused(error)?, None),
    };
    let export = |format: &str| exported(&place, &form, format);
    html(&UsagePage {
        layout: place.layout("Usage", Tab::Usage),
        base: place.address("/usage"),
        periods: PERIODS.map(|period| (period.as_str().to_owned(), words(period.as_str()))).into(),
        groups: [
            ("", "Everything together"),
            ("key_id", "By key"),
            ("route", "By route"),
            ("resource_type", "By resource"),
        ]
        .map(|(value, label)| (value.to_owned(), label.to_owned()))
        .into(),
        resources: kinds.into_iter().map(|kind| (kind.slug.to_string(), kind.display)).collect(),
        found,
        csv: export("csv"),
        ndjson: export("ndjson"),
        form,
    })
}

/// Where the API has the same to take along: as many rows as there are.
fn exported(place: &TenantVisit, form: &Form, format: &str) -> String {
    let mut address = format!("{}?format={format}", place.api("/analytics"));
    for name in FIELDS {
        let Some(value) = form.optional(name) else { continue };
        let value = if DAYS.contains(&name) { format!("{value}T00:00:00Z") } else { value };
        // Resources that are told apart are all of them.
        if name != "resource_type" || form.text("group_by") != name {
            address.push_str(&format!("&{name}={}", form_encoded(&value)));
        }
    }
    address
}

type Asking = (Form, Result<(AnalyticsQuery, Analytics), ControlError>);

/// What the address asks for, with what it leaves open filled in.
async fn asked(place: &TenantVisit, form: Form) -> Result<Asking, Refusal> {
    let form = form.over(Form::filled([("period", "day"), ("resource_type", "api_calls")]));
    let by = SeriesBy::parse(form.text("group_by"));
    let start_of = |name: &str| Timestamp::parse(&format!("{}T00:00:00Z", form.text(name)));
    let query = AnalyticsQuery {
        period: RollupPeriod::parse(form.text("period")).unwrap_or(RollupPeriod::Day),
        from: start_of("from"),
        to: start_of("to"),
        resource: form.text("resource_type").parse().ok().filter(|_| by != Some(SeriesBy::Resource)),
        key: form.text("key_id").parse().ok().map(crate::domain::ApiKeyId),
        route: form.optional("route"),
        by,
    };
    let visit = &place.visit;
    let found = visit.control.analytics(&visit.principal, &place.named, &query).await;
    Ok((form, found.map(|found| (query, found))))
}

/// In percent of before.
fn change(now: u64, before: u64) -> String {
    let hundred = i128::from(now).saturating_sub(before.into()).saturating_mul(100);
    match hundred.checked_div(before.into()) {
        Some(percent @ 1..) => format!("{percent} % more than in as long a time before"),
        Some(0) => "As in as long a time before".to_owned(),
        Some(percent) => format!("{} % less than in as long a time before", percent.unsigned_abs()),
        None => "Nothing in as long a time before".to_owned(),
    }
}

fn named(group: Option<&str>) -> String {
    group.map_or_else(|| "—".to_owned(), str::to_owned)
}

/// One bar for each bucket, whatever it is grouped by.
fn bars(found: &Analytics, period: RollupPeriod) -> (Vec<Bar>, u64) {
    let mut buckets: BTreeMap<Timestamp, u64> = BTreeMap::new();
    for point in &found.points {
        *buckets.entry(point.start).or_default() += point.sums.units;
    }
    let top = buckets.values().copied().max().unwrap_or(0);
    let part = |at: u64, of: u64, whole: u64| {
        u64::try_from(u128::from(at) * u128::from(whole) / u128::from(of.max(1))).unwrap_or(whole)
    };
    let length = found.to.since(found.from).as_secs();
    let bucket = match period {
        RollupPeriod::Minute => 60,
        RollupPeriod::Hour => 3_600,
        RollupPeriod::Day => 86_400,
        RollupPeriod::Month => 28 * 86_400,
    };
    let width = part(bucket, length.max(bucket), WIDTH).max(2);
    let bars = buckets.into_iter().map(|(start, units)| {
        let height = part(units, top, HEIGHT);
        let x = part(start.since(found.from).as_secs(), length.max(bucket), WIDTH);
        let label = format!("{}: {}", instant(start), grouped(units));
        Bar { x, y: HEIGHT - height, width: width.saturating_sub(1).max(1), height, label }
    });
    (bars.collect(), top)
}

// === impl Found ===

impl Found {
    fn of(query: &AnalyticsQuery, found: &Analytics) -> Found {
        let (bars, top) = bars(found, query.period);
        let mut groups: BTreeMap<String, UsageSums> = BTreeMap::new();
        for point in found.points.iter().filter(|_| query.by.is_some()) {
            groups.entry(named(point.group.as_deref())).or_default().add(&point.sums);
        }
        let newest = found.points.iter().rev().take(ROWS_MAX);
        let figure = |label, of: fn(&UsageSums) -> u64| Figure {
            label,
            value: grouped(of(&found.total)),
            change: change(of(&found.total), of(&found.previous)),
        };
        Found {
            from: instant(found.from),
            to: instant(found.to),
            figures: vec![
                figure("Units", |sums| sums.units),
                figure("Requests", |sums| sums.requests),
                figure("Failed requests", |sums| sums.errors),
            ],
            bars,
            top: grouped(top),
            groups: groups.into_iter().map(|(group, sums)| (group, Row::of(&sums))).collect(),
            rows: newest
                .map(|point| (instant(point.start), named(point.group.as_deref()), Row::of(&point.sums)))
                .collect(),
        }
    }
}

// === impl Row ===

impl Row {
    fn of(sums: &UsageSums) -> Row {
        Row {
            units: grouped(sums.units),
            overage: grouped(sums.overage),
            requests: grouped(sums.requests),
            errors: grouped(sums.errors),
            statuses: sums.statuses.map(grouped),
        }
    }
}
