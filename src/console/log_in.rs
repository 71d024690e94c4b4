//! People come in and go out. The very first comes in with the platform's token, and is the platform's owner then.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::brand::Brand;
use super::forms::{Asked, Form, Posted};
use super::layout::{Layout, flash};
use super::lists::of_form;
use super::page::{html, see_other};
use super::refusal::Refusal;
use super::router::Console;
use super::session::{HOME, Passerby, Visit, local};
use crate::control::{ControlError, Credentials, FieldFault, LoggedIn, Person, Principal, Rights};
use crate::domain::{Role, TenantRef};
use crate::web;

#[derive(Template)]
#[template(path = "log_in.html")]
struct LogInPage {
    layout: Layout,
    form: Form,
    next: String,
    /// Whose people are expected, by slug.
    tenant: String,
    has_oidc: bool,
}

#[derive(Template)]
#[template(path = "first_log_in.html")]
struct FirstLogInPage {
    layout: Layout,
    form: Form,
}

/// `GET /console/log-in?next=…&tenant=…`: it looks like the tenant that is named, or whose page comes next.
pub(super) async fn show(
    passerby: Passerby,
    State(console): State<Console>,
    Asked(query): Asked,
) -> Result<Response, Refusal> {
    let next = local(query.text("next")).to_owned();
    log_in_page(&console, &passerby, query, &next).await
}

/// `POST /console/log-in`
pub(super) async fn log_in(
    passerby: Passerby,
    State(console): State<Console>,
    form: Form,
) -> Result<Response, Refusal> {
    let credentials = Credentials {
        email: form.text("email").to_owned(),
        password: form.typed("password").to_owned(),
        code: form.optional("code"),
    };
    let error = match console.control.log_in(&passerby.person, &credentials).await {
        Ok(made) => return Ok(entered(&console, &made, local(form.text("next")))),
        Err(error) => error,
    };
    let status = match error {
        ControlError::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNAUTHORIZED,
    };
    let next = local(form.text("next")).to_owned();
    let form = match error {
        ControlError::SecondFactor => {
            let mut form = form;
            form.fail("code", "Type the code that your device shows, and your password once more.");
            form
        }
        error => form.refused(error)?,
    };
    Ok((status, log_in_page(&console, &passerby, form, &next).await?).into_response())
}

async fn log_in_page(
    console: &Console,
    passerby: &Passerby,
    form: Form,
    next: &str,
) -> Result<Response, Refusal> {
    let tenant = expected(&form, next).to_owned();
    let layout = Layout::bare("Log in", &passerby.look);
    let layout = match tenant.parse::<TenantRef>() {
        Ok(named) => layout.branded(Brand::of(&console.control.branding(&named).await?)),
        Err(()) => layout,
    };
    let has_oidc = console.control.has_oidc();
    html(&LogInPage { layout, form, next: next.to_owned(), tenant, has_oidc })
}

/// The tenant that the form names, or else that the next page is of; empty if it is none. Nothing is told by it: one without
/// a brand looks like one that is not there.
fn expected<'f>(form: &'f Form, next: &'f str) -> &'f str {
    let of_next = next.strip_prefix("/console/tenants/").unwrap_or_default();
    let of_next = of_next.split(['/', '?']).next().unwrap_or_default();
    Some(form.text("tenant")).filter(|tenant| !tenant.is_empty()).unwrap_or(of_next)
}

fn entered(console: &Console, made: &LoggedIn, next: &str) -> Response {
    let mut response = see_other(next);
    web::set_session_cookie(&console.control, &mut response, &made.token);
    response
}

/// `GET /console/first-log-in`
pub(super) async fn show_first(passerby: Passerby) -> Result<Response, Refusal> {
    let layout = Layout::bare("First log-in", &passerby.look);
    html(&FirstLogInPage { layout, form: Form::default() })
}

/// `POST /console/first-log-in`
pub(super) async fn first(
    passerby: Passerby,
    State(console): State<Console>,
    form: Form,
) -> Result<Response, Refusal> {
    match first_owner(&console, &passerby.person, &form).await {
        Ok(made) => Ok(entered(&console, &made, HOME)),
        Err(error) => {
            let layout = Layout::bare("First log-in", &passerby.look);
            let page = FirstLogInPage { layout, form: form.refused(error)? };
            of_form(&page.form, &page)
        }
    }
}

/// Whoever holds the platform's token may do all this by the API as well: here it takes one form instead of three
/// requests. Somebody who is an owner already gets a new password by it; a second factor stays asked for.
async fn first_owner(console: &Console, person: &Person, form: &Form) -> Result<LoggedIn, ControlError> {
    let control = &console.control;
    let known = control.authenticate_from(form.text("token"), person.ip).await?;
    let owner = Rights::platform(Role::PlatformOwner);
    let Some((rights, actor)) = known.filter(|(rights, _)| *rights == owner) else {
        return Err(ControlError::Invalid(vec![FieldFault::new(
            "token",
            "This is not the platform’s token.",
        )]));
    };
    let principal = Principal { actor, rights, correlation: person.correlation };
    let (email, password) = (form.text("email"), form.typed("password"));
    let made = control.set_platform_role(&principal, email, Some(Role::PlatformOwner)).await?;
    let token = match made.token {
        Some(token) => Some(token),
        None => control.reset_password(&principal, made.user.id).await?.token,
    };
    control.set_password_by_token(person, &token.unwrap_or_default(), password).await?;
    let credentials =
        Credentials { email: email.to_owned(), password: password.to_owned(), code: form.optional("code") };
    control.log_in(person, &credentials).await
}

/// `POST /console/log-out`
pub(super) async fn log_out(visit: Visit, Posted(_): Posted) -> Result<Response, Refusal> {
    let session = visit.visitor.session.id;
    visit.control.end_session(&visit.person, &visit.visitor, session).await?;
    let mut response = see_other("/console/log-in");
    web::set_session_cookie(&visit.control, &mut response, "");
    flash(&visit.control, &mut response, "You have logged out.");
    Ok(response)
}
