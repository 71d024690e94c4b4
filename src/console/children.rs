//! The tenants below a reseller: made, stopped, and what each may use of what all of them have together.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::control::{NewTenant, QuotaChange, QuotaUse, TenantRef};
use crate::domain::{Limit, Resource, ResourceNames, Tenant, Units};

#[derive(Template)]
#[template(path = "children.html")]
struct ChildrenPage {
    layout: Layout,
    here: String,
    pools: Vec<Pool>,
    children: Vec<Child>,
    next: Option<String>,
    tiers: Vec<(String, String)>,
    form: Form,
    may_create: bool,
    may_manage: bool,
}

/// What the reseller and all below it use together of one resource.
struct Pool {
    resource: String,
    used: String,
    limit: String,
    /// To the children on the page, together.
    promised: String,
}

/// A child, and its limits in the order of the pools.
struct Child {
    tenant: Tenant,
    /// Of what, and how much.
    slices: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "child.html")]
struct ChildPage {
    layout: Layout,
    here: String,
    child: Tenant,
    resources: Vec<(String, String)>,
    form: Form,
}

const PATH: &str = "/children";

/// `GET …/children`
pub(super) async fn show(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    page(&here, &filters, Form::default()).await
}

async fn page(here: &TenantVisit, filters: &Filters, form: Form) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let listed = control.children(who, &here.named, &filters.page()?).await?;
    let own = control.quotas(who, &here.named).await?;
    let mut quotas = Vec::with_capacity(listed.items.len());
    for child in &listed.items {
        quotas.push(control.quotas(who, &TenantRef::Id(child.id)).await?);
    }
    let names = here.visit.names().await?;
    let tiers = control.tiers(who).await?;
    // Only the platform makes resellers.
    let tiers = tiers.into_iter().filter(|tier| here.visit.is_platforms() || !tier.resells());
    let address = here.address(PATH);
    let page = ChildrenPage {
        layout: here.layout("Tenants below", Tab::Children),
        next: filters.next(&address, listed.next_cursor),
        here: address,
        pools: own.iter().map(|quota| Pool::of(quota, &quotas, &names)).collect(),
        children: listed
            .items
            .into_iter()
            .zip(&quotas)
            .map(|(child, has)| Child::of(child, &own, has, &names))
            .collect(),
        tiers: tiers.map(|tier| (tier.slug.clone(), tier.slug)).collect(),
        may_create: here.may("children.manage"),
        may_manage: here.may("children.manage"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/children`
pub(super) async fn create(
    here: TenantVisit,
    filters: Filters,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let new = NewTenant {
        name: form.text("name").to_owned(),
        tier: form.optional("tier"),
        billing_email: form.optional("billing_email"),
        parent: Some(here.tenant.id.to_string()),
        ..NewTenant::default()
    };
    match here.visit.control.create_tenant(&here.visit.principal, new).await {
        Ok(made) => done(&here.visit, &here.address(PATH), &format!("{} is made.", made.name)),
        Err(error) => page(&here, &filters, form.refused(error)?).await,
    }
}

/// `GET …/children/{child}`
pub(super) async fn show_child(
    here: TenantVisit,
    Path((_, child)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    child_page(&here, below(&here, &child).await?, Form::default()).await
}

async fn child_page(here: &TenantVisit, child: Tenant, form: Form) -> Result<Response, Refusal> {
    let own = here.visit.control.quotas(&here.visit.principal, &here.named).await?;
    let names = here.visit.names().await?;
    let resources = own.iter().map(|quota| quota.resource_type);
    let mut resources: Vec<_> = resources.map(|of| (of.to_string(), names.display(of))).collect();
    resources.dedup();
    let page = ChildPage {
        layout: here.layout(&child.name, Tab::Children),
        here: here.address(PATH),
        resources,
        child,
        form,
    };
    of_form(&page.form, &page)
}

/// The child of that name, if it is right below.
async fn below(here: &TenantVisit, name: &str) -> Result<Tenant, Refusal> {
    let none = || Refusal::NotFound(format!("tenant “{name}” below this one"));
    let named: TenantRef = name.parse().map_err(|()| none())?;
    let child = here.visit.control.tenant(&here.visit.principal, &named).await?;
    Some(child).filter(|child| child.parent == Some(here.tenant.id)).ok_or_else(none)
}

/// `POST …/children/{child}/quota`
pub(super) async fn set_quota(
    here: TenantVisit,
    Path((_, child)): Path<(String, String)>,
    Posted(mut form): Posted,
) -> Result<Response, Refusal> {
    let child = below(&here, &child).await?;
    let Ok(resource) = form.text("resource_type").parse() else {
        form.fail("resource_type", "A resource that there is, please.");
        return child_page(&here, child, form).await;
    };
    let (control, who, named) = (&here.visit.control, &here.visit.principal, TenantRef::Id(child.id));
    let outcome =
        match form.optional("limit").map(|text| text.parse().ok().and_then(|units| Units::new(units).ok())) {
            None => control.remove_quota(who, &named, resource, None, None).await,
            Some(Some(units)) => {
                let change = slice_of(resource, units);
                control.set_quota(who, &named, change).await.map(|_| ())
            }
            Some(None) => {
                form.fail("limit", "A whole number is expected.");
                return child_page(&here, child, form).await;
            }
        };
    match outcome {
        Ok(()) => done(&here.visit, &here.address(PATH), &format!("{} has its slice.", child.name)),
        Err(error) => child_page(&here, child, form.refused(error)?).await,
    }
}

/// A limit that lasts.
fn slice_of(resource: Resource, units: Units) -> QuotaChange {
    QuotaChange {
        resource,
        limit: Limit::Of(units),
        period: None,
        enforcement: None,
        on_loss: None,
        key: None,
        reason: Some("a slice of the reseller's pool".to_owned()),
        expires_at: None,
    }
}

/// The child's quota that stands beside one of the reseller's.
fn beside<'q>(pool: &QuotaUse, quotas: &'q [QuotaUse]) -> Option<&'q QuotaUse> {
    let is_same = |quota: &&QuotaUse| {
        (quota.resource_type, quota.period) == (pool.resource_type, pool.period) && quota.key_id.is_none()
    };
    quotas.iter().find(is_same)
}

// === impl Pool ===

impl Pool {
    fn of(pool: &QuotaUse, children: &[Vec<QuotaUse>], names: &ResourceNames) -> Pool {
        let told = |units| names.told(pool.resource_type, units);
        let limits = || children.iter().filter_map(|quotas| beside(pool, quotas)).map(|quota| quota.limit);
        let sum = limits().try_fold(0_u64, |sum, limit| match limit {
            Limit::Of(units) => Some(sum.saturating_add(units.get())),
            Limit::Unlimited => None,
        });
        Pool {
            resource: names.display(pool.resource_type),
            used: told(pool.used.get()),
            limit: pool.limit.units().map_or_else(|| "no limit".to_owned(), |units| told(units.get())),
            promised: sum.map_or_else(|| "all of it".to_owned(), told),
        }
    }
}

// === impl Child ===

impl Child {
    fn of(tenant: Tenant, pools: &[QuotaUse], quotas: &[QuotaUse], names: &ResourceNames) -> Child {
        let told = |quota: &QuotaUse| {
            let limit = quota.limit.units();
            limit.map_or_else(|| "all of it".to_owned(), |units| names.told(quota.resource_type, units.get()))
        };
        let slice = |pool: &QuotaUse| {
            let slice = beside(pool, quotas).map_or_else(|| "–".to_owned(), told);
            (names.display(pool.resource_type), slice)
        };
        Child { tenant, slices: pools.iter().map(slice).collect() }
    }
}
