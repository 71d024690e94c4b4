//! Another tier: side by side, what changes, what it costs, and a confirmation of exactly what was shown.

use askama::Template;
use axum::response::Response;

use super::forms::{Asked, Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text;
use crate::control::{ControlError, LimitChange, OfferedTier, TenantChange, TierChangePreview, TierWhen};
use crate::domain::billing::{Currency, Money};
use crate::domain::{Limit, Resource, ResourceNames, TierQuota};

#[derive(Template)]
#[template(path = "upgrade.html")]
struct UpgradePage {
    layout: Layout,
    address: String,
    back: String,
    form: Form,
    version: i64,
    offers: Vec<Offer>,
    preview: Option<Preview>,
    may_change: bool,
}

/// A tier in the row of all of them.
struct Offer {
    slug: String,
    display: String,
    /// `None`: it is between the tenant and its reseller.
    price: Option<String>,
    is_current: bool,
    is_chosen: bool,
    limits: Vec<(String, String)>,
}

/// What would change.
struct Preview {
    tier: String,
    display: String,
    /// When, and what it costs; `None` for who is not told of invoices.
    cost: Option<String>,
    rows: Vec<PreviewRow>,
}

struct PreviewRow {
    resource: String,
    used: Option<String>,
    now: String,
    then: String,
    /// What is used is above what would be allowed.
    is_above: bool,
}

/// `GET /console/tenants/{tenant}/upgrade?tier=`
pub(super) async fn show(place: TenantVisit, Asked(asked): Asked) -> Result<Response, Refusal> {
    page(&place, asked).await
}

/// `POST /console/tenants/{tenant}/upgrade`: to the tier that the preview was of, if the tenant is as it was then.
pub(super) async fn confirm(place: TenantVisit, Posted(form): Posted) -> Result<Response, Refusal> {
    let change = TenantChange { tier: form.optional("tier"), ..TenantChange::default() };
    // A form without a version can't be one that we have shown.
    let version = form.version().unwrap_or(0);
    let (visit, control) = (&place.visit, place.visit.control.expecting(Some(version)));
    match control.change_tenant(&visit.principal, &place.named, change).await {
        Ok(tenant) => {
            let message = match form.text("tier") == tenant.tier {
                true => format!("The tier is {} now; what was used still counts.", tenant.tier),
                false => {
                    format!("The tier stays {} until the period ends, then it changes.", tenant.tier)
                }
            };
            done(visit, &place.address("/quotas"), &message)
        }
        Err(error) => page(&place, form.refused(error)?).await,
    }
}

async fn page(place: &TenantVisit, form: Form) -> Result<Response, Refusal> {
    let visit = &place.visit;
    let tiers = visit.control.offered_tiers(&visit.principal).await?;
    let (current, chosen) = (tier_of(&tiers, &place.tenant.tier), tier_of(&tiers, form.text("tier")));
    let names = visit.names().await?;
    let preview = match (current, chosen) {
        (Some(current), Some(chosen)) if current.slug != chosen.slug => {
            Some(Preview::of(place, current, chosen, &names).await?)
        }
        _ => None,
    };
    let page = UpgradePage {
        layout: place.layout("Tier", Tab::Quotas),
        address: place.address("/upgrade"),
        back: place.address("/quotas"),
        version: place.tenant.version,
        offers: tiers.iter().map(|tier| Offer::of(tier, current, chosen, &names)).collect(),
        preview,
        form,
        may_change: place.may("tenant.change_terms"),
    };
    of_form(&page.form, &page)
}

fn tier_of<'t>(tiers: &'t [OfferedTier], slug: &str) -> Option<&'t OfferedTier> {
    tiers.iter().find(|tier| tier.slug == slug)
}

/// When the change happens and what it costs, as it would be asked for by the form.
fn cost(preview: &TierChangePreview) -> String {
    let money = |minor| text::money(Money { minor, currency: preview.currency });
    let (now, then) = (money(preview.price_now_minor), money(preview.price_then_minor));
    match (preview.when, preview.period) {
        (TierWhen::PeriodEnd, _) => format!(
            "In force when the period ends, on {}: {then} a month instead of {now}. Until then nothing changes.",
            text::date(preview.effective_at)
        ),
        (TierWhen::Now, Some(period)) => format!(
            "In force at once; what was used still counts. {} for the rest of the period, which ends on {}; after that \
             {then} a month instead of {now}.",
            money(preview.prorated_minor),
            text::date(period.end)
        ),
        (TierWhen::Now, None) => format!(
            "In force at once; what was used still counts. Nothing is charged now; {then} a month instead of {now} \
             once there is a subscription."
        ),
    }
}

fn shown(resource: Resource, limit: Limit, names: &ResourceNames) -> String {
    limit.units().map_or_else(|| "no limit".to_owned(), |units| names.told(resource, units.get()))
}

// === impl Offer ===

impl Offer {
    fn of(
        tier: &OfferedTier,
        current: Option<&OfferedTier>,
        chosen: Option<&OfferedTier>,
        names: &ResourceNames,
    ) -> Offer {
        let is = |other: Option<&OfferedTier>| other.is_some_and(|other| other.slug == tier.slug);
        let limits = tier
            .quotas
            .iter()
            .map(|quota| (names.display(quota.resource), shown(quota.resource, quota.limit, names)));
        let currency = tier.currency.as_deref().and_then(Currency::parse);
        let price = tier.price_minor.zip(currency);
        Offer {
            slug: tier.slug.clone(),
            display: tier.display.clone(),
            price: price.map(|(minor, currency)| text::money(Money { minor, currency })),
            is_current: is(current),
            is_chosen: is(chosen),
            limits: limits.collect(),
        }
    }
}

// === impl Preview ===

impl Preview {
    /// Who may not read invoices is told the limits alone.
    async fn of(
        place: &TenantVisit,
        current: &OfferedTier,
        chosen: &OfferedTier,
        names: &ResourceNames,
    ) -> Result<Preview, Refusal> {
        let (control, principal) = (&place.visit.control, &place.visit.principal);
        let (cost, rows) = match control.tier_change_preview(principal, &place.named, &chosen.slug).await {
            Ok(preview) => {
                let rows = preview.changes.iter().map(|change| PreviewRow::of(change, names));
                (Some(cost(&preview)), rows.collect())
            }
            Err(ControlError::Forbidden { .. }) => (None, PreviewRow::between(current, chosen, names)),
            Err(error) => return Err(error.into()),
        };
        Ok(Preview { tier: chosen.slug.clone(), display: chosen.display.clone(), cost, rows })
    }
}

// === impl PreviewRow ===

impl PreviewRow {
    fn of(change: &LimitChange, names: &ResourceNames) -> PreviewRow {
        let resource = change.resource_type;
        let limit = |limit: Option<Limit>| {
            limit.map_or_else(|| "no limit".to_owned(), |limit| shown(resource, limit, names))
        };
        PreviewRow {
            resource: names.display(resource),
            used: Some(names.told(resource, change.used.get())),
            now: limit(change.limit_now),
            then: limit(change.limit_then),
            is_above: change.is_exceeded,
        }
    }

    fn between(current: &OfferedTier, chosen: &OfferedTier, names: &ResourceNames) -> Vec<PreviewRow> {
        let row = |then: &TierQuota| {
            let now = current.quotas.iter().find(|now| now.resource == then.resource);
            PreviewRow {
                resource: names.display(then.resource),
                used: None,
                now: now.map_or_else(|| "no limit".to_owned(), |now| shown(now.resource, now.limit, names)),
                then: shown(then.resource, then.limit, names),
                is_above: false,
            }
        };
        chosen.quotas.iter().map(row).collect()
    }
}
