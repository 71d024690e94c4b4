//! Making a tenant: by the platform, or by a reseller below its own.

use askama::Template;
use axum::response::Response;

use super::forms::{Form, Posted};
use super::layout::Layout;
use super::lists::{done, of_form};
use super::refusal::Refusal;
use super::session::Visit;
use crate::control::NewTenant;

#[derive(Template)]
#[template(path = "new_tenant.html")]
struct NewTenantPage {
    layout: Layout,
    form: Form,
    tiers: Vec<(String, String)>,
}

/// `GET /console/new-tenant`
pub(super) async fn show(visit: Visit) -> Result<Response, Refusal> {
    let form = Form::filled([("tier", "free"), ("timezone", "UTC"), ("locale", "en")]);
    page(&visit, form).await
}

/// `POST /console/new-tenant`
pub(super) async fn create(visit: Visit, Posted(form): Posted) -> Result<Response, Refusal> {
    let new = NewTenant {
        name: form.text("name").to_owned(),
        slug: form.optional("slug"),
        tier: form.optional("tier"),
        billing_email: form.optional("billing_email"),
        contact_phone: form.optional("contact_phone"),
        timezone: form.optional("timezone"),
        locale: form.optional("locale"),
        parent: form.optional("parent"),
    };
    match visit.control.create_tenant(&visit.principal, new).await {
        Ok(tenant) => {
            let message = format!("{} is there, with its tier’s quotas.", tenant.name);
            done(&visit, &format!("/console/tenants/{}", tenant.slug), &message)
        }
        Err(error) => page(&visit, form.refused(error)?).await,
    }
}

async fn page(visit: &Visit, form: Form) -> Result<Response, Refusal> {
    let tiers = visit.control.tiers(&visit.principal).await?;
    let tiers = tiers.into_iter().map(|tier| (tier.slug, tier.display)).collect();
    let page = NewTenantPage { layout: visit.layout("New tenant"), form, tiers };
    of_form(&page.form, &page)
}
