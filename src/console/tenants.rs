//! The tenants that the visitor may see: found, filtered, sorted, page by page, each at a glance.

use askama::Template;
use axum::response::Response;

use super::filters;
use super::forms::Form;
use super::layout::Layout;
use super::lists::{Filters, any_of, word};
use super::page::html;
use super::quotas::level;
use super::refusal::Refusal;
use super::session::Visit;
use super::text::grouped;
use crate::control::{Glance, GlanceSpan, LargestQuota};
use crate::domain::{Health, ResourceNames, Tenant, TenantStatus};
use crate::store::{TenantFilter, TenantSort};

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    layout: Layout,
    may_create: bool,
    filters: Form,
    healths: Vec<(String, String)>,
    statuses: Vec<(String, String)>,
    tiers: Vec<(String, String)>,
    sorts: Vec<(String, String)>,
    spans: Vec<(String, String)>,
    rows: Vec<Row>,
    total: String,
    /// Of what time the last column tells.
    span: &'static str,
    next_page: Option<String>,
}

struct Row {
    tenant: Tenant,
    health: Health,
    largest: Option<Share>,
    busy: Option<Sparkline>,
}

/// The quota of which most is used, as `bar.html` shows it.
struct Share {
    of: String,
    percent: Option<f64>,
    told: f64,
    level: &'static str,
}

/// Requests as a line of bars, in a box of a hundred by twenty; and in words, for who does not see it.
struct Sparkline {
    path: String,
    told: String,
}

const SORTS: [(&str, &str); 7] = [
    ("", "Newest first"),
    ("created_at", "Oldest first"),
    ("-health", "Worst health first"),
    ("health", "Best health first"),
    ("name", "Name"),
    ("-name", "Name, backwards"),
    ("slug", "Slug"),
];
const SPANS: [(GlanceSpan, &str); 2] =
    [(GlanceSpan::Day, "Last 24 hours"), (GlanceSpan::Month, "Last 30 days")];

/// `GET /console/tenants?q=&health=&status=&tier=&sort=&span=&cursor=`
pub(super) async fn list(visit: Visit, filters: Filters) -> Result<Response, Refusal> {
    let asked = &filters.0;
    let filter = TenantFilter {
        status: asked.optional("status").and_then(|text| TenantStatus::parse(&text)),
        tier: asked.optional("tier"),
        q: asked.optional("q"),
        health: Health::parse(asked.text("health")),
        ..TenantFilter::default()
    };
    let sort = TenantSort::parse(asked.text("sort")).unwrap_or_default();
    let span = GlanceSpan::parse(asked.text("span")).unwrap_or_default();
    let (control, who, page) = (&visit.control, &visit.principal, filters.page()?);
    let listed = control.tenants_at_a_glance(who, &filter, sort, &page, Some(span)).await?;
    let tiers = control.tiers(who).await?;
    let names = visit.names().await?;
    html(&TenantsPage {
        layout: visit.layout("Tenants"),
        may_create: visit.may("tenant.create") || visit.looks_after_tenants() && visit.may("children.manage"),
        healths: any_of(Health::ALL.map(|health| word(health.as_str()))),
        statuses: any_of(TenantStatus::ALL.map(|status| word(status.as_str()))),
        tiers: any_of(tiers.into_iter().map(|tier| (tier.slug, tier.display))),
        sorts: SORTS.map(|(value, label)| (value.to_owned(), label.to_owned())).into(),
        spans: SPANS.map(|(span, label)| (span.as_str().to_owned(), label.to_owned())).into(),
        rows: listed.items.into_iter().map(|glance| Row::of(glance, span, &names)).collect(),
        total: listed.total.map_or_else(String::new, grouped),
        span: SPANS.iter().find(|(of, _)| *of == span).map_or("", |(_, label)| label),
        next_page: filters.next("/console/tenants", listed.next_cursor),
        filters: filters.0,
    })
}

// === impl Row ===

impl Row {
    fn of(glance: Glance, span: GlanceSpan, names: &ResourceNames) -> Row {
        let Glance { tenant, health, largest_quota, requests } = glance;
        Row {
            tenant,
            health,
            largest: largest_quota.map(|quota| Share::of(&quota, names)),
            busy: requests.map(|requests| Sparkline::of(&requests, span)),
        }
    }
}

// === impl Share ===

impl Share {
    fn of(quota: &LargestQuota, names: &ResourceNames) -> Share {
        let percent = Some(quota.percent);
        Share {
            of: names.display(quota.resource_type),
            percent: percent.map(|percent| percent.min(100.0)),
            told: quota.percent,
            level: level(percent),
        }
    }
}

// === impl Sparkline ===

impl Sparkline {
    const WIDTH: usize = 100;
    const HEIGHT: u64 = 20;

    fn of(requests: &[u64], span: GlanceSpan) -> Sparkline {
        let most = requests.iter().copied().max().unwrap_or(0);
        let (sum, most_told) = (grouped(requests.iter().sum()), grouped(most));
        let told = match span {
            _ if most == 0 => "no requests".to_owned(),
            GlanceSpan::Day => format!("{sum} requests in 24 hours, at most {most_told} in one"),
            GlanceSpan::Month => format!("{sum} requests in 30 days, at most {most_told} on one"),
        };
        let bars = requests.iter().enumerate().filter(|(_, requests)| **requests > 0);
        let bars = bars.map(|(at, times)| Sparkline::bar(at, requests.len(), *times, most));
        Sparkline { path: bars.collect(), told }
    }

    /// One bucket that is not empty is seen, however little it is beside the highest.
    fn bar(at: usize, of: usize, times: u64, most: u64) -> String {
        let left = at * Sparkline::WIDTH / of.max(1);
        let width = ((at + 1) * Sparkline::WIDTH / of.max(1)).saturating_sub(left + 1).max(1);
        let share = u128::from(times) * u128::from(Sparkline::HEIGHT) / u128::from(most.max(1));
        format!("M{left} {}v-{}h{width}V{}z", Sparkline::HEIGHT, share.max(1), Sparkline::HEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::Sparkline;
    use crate::control::GlanceSpan;

    #[test]
    fn a_sparkline_is_drawn_beside_its_highest_bar_and_told_in_words() {
        let drawn = Sparkline::of(&[0, 1_000, 1, 500], GlanceSpan::Day);
        assert_eq!(drawn.path, "M25 20v-20h24V20zM50 20v-1h24V20zM75 20v-10h24V20z");
        assert_eq!(drawn.told, "1,501 requests in 24 hours, at most 1,000 in one");
        assert_eq!(Sparkline::of(&[0; 30], GlanceSpan::Month).told, "no requests");
    }
}
