//! Making a tenant: by the platform, or by a reseller below its own.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::forms::{Form, Posted};
use super::layout::{Layout, flash};
use super::page::{html, see_other};
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
            let mut response = see_other(&format!("/console/tenants/{}", tenant.slug));
            flash(
                &visit.control,
                &mut response,
                &format!("{} is there, with its tier’s quotas.", tenant.name),
            );
            Ok(response)
        }
        Err(error) => {
            let page = page(&visit, form.refused(error)?).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

async fn page(visit: &Visit, form: Form) -> Result<Response, Refusal> {
    let tiers = visit.control.tiers(&visit.principal).await?;
    let tiers = tiers.into_iter().map(|tier| (tier.slug, tier.display)).collect();
    html(&NewTenantPage { layout: visit.layout("New tenant"), form, tiers })
}
