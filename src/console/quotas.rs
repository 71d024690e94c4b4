//! A tenant's quotas: how much of each is used, what is to be expected, and the tenant's own limits.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;

use super::billing::{Waiting, waiting};
use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{done, of_form};
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text::{day, grouped, instant, span};
use crate::clock::Timestamp;
use crate::control::{ControlError, QuotaChange, QuotaForecast, QuotaUse};
use crate::domain::{Enforcement, Limit, Period, Resource, ResourceNames, Units};
use crate::store::QuotaSource;

/// A quota, as cards and lists show it.
pub(super) struct Card {
    pub(super) resource: Resource,
    pub(super) title: String,
    pub(super) used: String,
    pub(super) limit: String,
    /// The same to the last unit, where that was left out.
    pub(super) exact: Option<String>,
    /// Of the bar, 0 to 100; `None` without a limit.
    pub(super) percent: Option<f64>,
    /// How near the limit is: a style.
    pub(super) level: &'static str,
    pub(super) resets: String,
    pub(super) forecast: String,
    pub(super) enforcement: String,
    pub(super) is_own: bool,
    /// Why the limit is the tenant's own, and until when.
    pub(super) source: String,
    pub(super) period: &'static str,
}

#[derive(Template)]
#[template(path = "quotas.html")]
struct QuotasPage {
    layout: Layout,
    base: String,
    upgrade: String,
    cards: Vec<Card>,
    version: i64,
    may_set: bool,
    may_upgrade: bool,
    waiting: Option<Waiting>,
}

#[derive(Template)]
#[template(path = "quota.html")]
struct QuotaPage {
    layout: Layout,
    address: String,
    base: String,
    title: String,
    form: Form,
    enforcements: Vec<(String, String)>,
}

/// Marks of a bar, in percent: from here on it is near the limit, and very near.
const NEAR: f64 = 80.0;
const VERY_NEAR: f64 = 95.0;

/// `GET /console/tenants/{tenant}/quotas`
pub(super) async fn show(place: TenantVisit) -> Result<Response, Refusal> {
    html(&QuotasPage {
        layout: place.layout("Quotas", Tab::Quotas),
        base: place.address("/quotas"),
        upgrade: place.address("/upgrade"),
        cards: cards(&place).await?,
        version: place.tenant.version,
        may_set: place.may("quota.set"),
        may_upgrade: place.may("tenant.change_terms"),
        waiting: waiting(&place).await?,
    })
}

/// The tenant's own quotas, without its keys'.
pub(super) async fn cards(place: &TenantVisit) -> Result<Vec<Card>, Refusal> {
    let visit = &place.visit;
    let quotas = visit.control.quotas(&visit.principal, &place.named).await?;
    let forecasts = visit.control.forecasts(&visit.principal, &place.named).await?;
    let names = visit.names().await?;
    let of_tenant = quotas.into_iter().filter(|quota| quota.key_id.is_none());
    Ok(of_tenant.map(|quota| Card::of(&quota, &forecasts, &names, visit.now)).collect())
}

/// `GET /console/tenants/{tenant}/quotas/{resource}`
pub(super) async fn edit(place: TenantVisit, path: Path<(String, String)>) -> Result<Response, Refusal> {
    let resource = resource(&path)?;
    let visit = &place.visit;
    let quotas = visit.control.quotas(&visit.principal, &place.named).await?;
    let found = quotas.into_iter().find(|quota| quota.resource_type == resource && quota.key_id.is_none());
    let version = place.tenant.version.to_string();
    let form = match found {
        Some(quota) => Form::filled([
            ("limit", quota.limit.units().map_or_else(String::new, |units| units.to_string())),
            ("enforcement", quota.enforcement.as_str().to_owned()),
            ("period", quota.period.as_str().to_owned()),
            ("reason", quota.reason.unwrap_or_default()),
            ("expires_at", quota.expires_at.map_or_else(String::new, day)),
            ("version", version),
        ]),
        None => Form::filled([("version", version)]),
    };
    page(&place, resource, form).await
}

/// `POST /console/tenants/{tenant}/quotas/{resource}`
pub(super) async fn set(
    place: TenantVisit,
    path: Path<(String, String)>,
    Posted(mut form): Posted,
) -> Result<Response, Refusal> {
    let resource = resource(&path)?;
    let outcome = match change(resource, &mut form) {
        Some(change) => {
            let control = place.visit.control.expecting(form.version());
            control.set_quota(&place.visit.principal, &place.named, change).await
        }
        None => Err(ControlError::Invalid(Vec::new())),
    };
    match outcome {
        Ok(_) => back(&place, "The limit is in force at every gateway within a second."),
        Err(error) => page(&place, resource, form.refused(error)?).await,
    }
}

/// `POST /console/tenants/{tenant}/quotas/{resource}/remove`: the tier's limit is in force again.
pub(super) async fn remove(
    place: TenantVisit,
    path: Path<(String, String)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let resource = resource(&path)?;
    let control = place.visit.control.expecting(form.version());
    let period = form.text("period").parse::<Period>().ok();
    control.remove_quota(&place.visit.principal, &place.named, resource, period, None).await?;
    back(&place, "The tier’s limit is in force again.")
}

fn back(place: &TenantVisit, message: &str) -> Result<Response, Refusal> {
    done(&place.visit, &place.address("/quotas"), message)
}

async fn page(place: &TenantVisit, resource: Resource, form: Form) -> Result<Response, Refusal> {
    let title = format!("Own limit of {}", place.visit.names().await?.display(resource));
    let page = QuotaPage {
        layout: place.layout(&title, Tab::Quotas),
        address: place.address(&format!("/quotas/{resource}")),
        base: place.address("/quotas"),
        title,
        form,
        enforcements: Enforcement::ALL
            .map(|kind| (kind.as_str().to_owned(), enforcement(kind).to_owned()))
            .into(),
    };
    of_form(&page.form, &page)
}

fn resource(Path((_, text)): &Path<(String, String)>) -> Result<Resource, Refusal> {
    text.parse().map_err(|_| Refusal::NotFound("such resource".to_owned()))
}

/// What the form says; `None` if it can't be read, which its fields tell.
fn change(resource: Resource, form: &mut Form) -> Option<QuotaChange> {
    let limit = match form.optional("limit") {
        None => Some(Limit::Unlimited),
        Some(text) => text.parse().ok().and_then(|units| Units::new(units).ok()).map(Limit::Of),
    };
    if limit.is_none() {
        form.fail("limit", "A whole number is expected, or nothing for no limit.");
    }
    let expires_at = form.optional("expires_at").map(|text| Timestamp::parse(&format!("{text}T00:00:00Z")));
    if expires_at == Some(None) {
        form.fail("expires_at", "A day like 2026-12-31 is expected.");
    }
    if form.optional("reason").is_none() {
        form.fail("reason", "Say why: the tenant’s audit log keeps it.");
    }
    Some(QuotaChange {
        resource,
        limit: limit.filter(|_| form.is_good())?,
        period: form.text("period").parse().ok(),
        enforcement: Enforcement::parse(form.text("enforcement")),
        on_loss: None,
        key: None,
        reason: form.optional("reason"),
        expires_at: expires_at.flatten(),
    })
}

const fn enforcement(kind: Enforcement) -> &'static str {
    match kind {
        Enforcement::Hard => "Refused above the limit",
        Enforcement::Soft => "Served above the limit, as overage",
        Enforcement::Monitor => "Only counted",
    }
}

/// How near the limit so many percent are: a style.
pub(super) fn level(percent: Option<f64>) -> &'static str {
    match percent {
        Some(percent) if percent >= VERY_NEAR => "bad",
        Some(percent) if percent >= NEAR => "warning",
        _ => "good",
    }
}

/// What is to be expected, or why nothing is said.
fn forecast(quota: &QuotaUse, forecasts: &[QuotaForecast], names: &ResourceNames) -> String {
    let is_same = |of: &&QuotaForecast| {
        (of.quota.resource_type, of.quota.period) == (quota.resource_type, quota.period)
    };
    let Some(of) = forecasts.iter().find(is_same) else {
        return "No forecast: only days, weeks and months have one.".to_owned();
    };
    let Some(found) = of.forecast else { return "No forecast below three days of use.".to_owned() };
    let told = |units| names.told(quota.resource_type, units);
    let (units, low, high) = (told(found.units), told(found.low), told(found.high));
    let exhausts = quota.limit.units().is_some_and(|limit| found.units >= limit.get());
    let warning = if exhausts { " The limit is reached before." } else { "" };
    format!("About {units} by then (nine times in ten {low} to {high}).{warning}")
}

// === impl Card ===

impl Card {
    fn of(quota: &QuotaUse, forecasts: &[QuotaForecast], names: &ResourceNames, now: Timestamp) -> Card {
        let percent = quota.percent;
        let limit = quota.limit.units().map(Units::get);
        let told = |units| names.told(quota.resource_type, units);
        let is_own = quota.source == QuotaSource::Override;
        let until = quota.expires_at.map(|end| format!(", until {}", instant(end))).unwrap_or_default();
        let reason = quota.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Card {
            resource: quota.resource_type,
            title: names.display(quota.resource_type),
            used: told(quota.used.get()),
            limit: limit.map_or_else(|| "no limit".to_owned(), told),
            exact: names.is_in_bytes(quota.resource_type).then(|| {
                let of = limit.map_or_else(String::new, |limit| format!(" of {}", grouped(limit)));
                format!("{}{of} bytes", grouped(quota.used.get()))
            }),
            percent: percent.map(|percent| percent.min(100.0)),
            level: level(percent),
            resets: match quota.period {
                Period::Forever => "Held until it is given back".to_owned(),
                period => format!("Each {}, again in {}", period.as_str(), span(quota.window.end.since(now))),
            },
            forecast: forecast(quota, forecasts, names),
            enforcement: enforcement(quota.enforcement).to_owned(),
            is_own,
            source: if quota.is_capped {
                "What the spend cap pays for".to_owned()
            } else if is_own {
                format!("The tenant’s own limit{reason}{until}")
            } else {
                "The tier’s limit".to_owned()
            },
            period: quota.period.as_str(),
        }
    }
}
