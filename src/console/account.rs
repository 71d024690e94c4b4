//! One's own log-in: where one is logged in, the password, the second factor.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use uuid::Uuid;

use super::filters;
use super::forms::{Asked, Form, Posted};
use super::layout::Layout;
use super::lists::{done, of_form};
use super::page::html;
use super::qr::{QrPath, qr};
use super::refusal::Refusal;
use super::session::Visit;
use crate::control::NewSecondFactor;
use crate::domain::{Session, SessionId};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    layout: Layout,
    email: String,
    is_multi_factor: bool,
    has_password: bool,
    sessions: Vec<Session>,
    current: SessionId,
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    layout: Layout,
    form: Form,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
struct SecondFactorPage {
    layout: Layout,
    step: Step,
    form: Form,
}

/// How far a second factor is.
enum Step {
    Off,
    /// A device is to show that it was told; `None` when the page is shown again, for nothing is told twice.
    Told(Option<Told>),
    On,
}

/// What a device is told, at the only moment when it is known.
struct Told {
    secret: String,
    qr: Option<QrPath>,
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct RecoveryPage {
    layout: Layout,
    codes: Vec<String>,
}

const HERE: &str = "/console/account";

/// `GET /console/account`
pub(super) async fn show(visit: Visit) -> Result<Response, Refusal> {
    html(&AccountPage {
        layout: visit.layout("Your account"),
        sessions: visit.control.sessions(&visit.visitor).await?,
        current: visit.visitor.session.id,
        email: visit.visitor.user.email,
        is_multi_factor: visit.visitor.user.is_multi_factor,
        has_password: visit.visitor.user.has_password,
    })
}

/// `POST /console/account/sessions/{session}/end`
pub(super) async fn end_session(
    visit: Visit,
    Path(id): Path<Uuid>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    visit.control.end_session(&visit.person, &visit.visitor, SessionId(id)).await?;
    done(&visit, HERE, "That session has ended.")
}

/// `GET /console/account/password`
pub(super) async fn password(visit: Visit) -> Result<Response, Refusal> {
    password_page(&visit, Form::default())
}

fn password_page(visit: &Visit, form: Form) -> Result<Response, Refusal> {
    let page = PasswordPage { layout: visit.layout("Change your password"), form };
    of_form(&page.form, &page)
}

/// `POST /console/account/password`
pub(super) async fn change_password(visit: Visit, Posted(form): Posted) -> Result<Response, Refusal> {
    let (password, new) = (form.typed("password"), form.typed("new_password"));
    match visit.control.change_password(&visit.person, &visit.visitor, password, new).await {
        Ok(()) => done(&visit, HERE, "Your password is changed, and your other sessions have ended."),
        Err(error) => password_page(&visit, form.refused(error)?),
    }
}

/// `GET /console/account/second-factor`
pub(super) async fn second_factor(visit: Visit, Asked(form): Asked) -> Result<Response, Refusal> {
    let step = if visit.visitor.user.is_multi_factor { Step::On } else { Step::Off };
    second_factor_page(&visit, step, form)
}

fn second_factor_page(visit: &Visit, step: Step, form: Form) -> Result<Response, Refusal> {
    let page = SecondFactorPage { layout: visit.layout("Second factor"), step, form };
    of_form(&page.form, &page)
}

/// `POST /console/account/second-factor`: makes the secret that a device is to hold, which is on this answer's page and
/// nowhere else.
pub(super) async fn begin_second_factor(visit: Visit, Posted(form): Posted) -> Result<Response, Refusal> {
    let made = visit.control.new_second_factor(&visit.person, &visit.visitor, form.typed("password"));
    match made.await {
        Ok(new) => second_factor_page(&visit, Step::Told(Some(Told::from(new))), Form::default()),
        Err(error) => second_factor_page(&visit, Step::Off, form.refused(error)?),
    }
}

/// `POST /console/account/second-factor/confirm`: the recovery codes are on this answer's page and nowhere else.
pub(super) async fn confirm_second_factor(visit: Visit, Posted(form): Posted) -> Result<Response, Refusal> {
    let confirmed = visit.control.confirm_second_factor(&visit.person, &visit.visitor, form.text("code"));
    match confirmed.await {
        Ok(codes) => html(&RecoveryPage { layout: visit.layout("Recovery codes"), codes }),
        Err(error) => second_factor_page(&visit, Step::Told(None), form.refused(error)?),
    }
}

/// `POST /console/account/second-factor/remove`
pub(super) async fn remove_second_factor(visit: Visit, Posted(form): Posted) -> Result<Response, Refusal> {
    let (password, code) = (form.typed("password"), form.text("code"));
    match visit.control.remove_second_factor(&visit.person, &visit.visitor, password, code).await {
        Ok(()) => done(&visit, HERE, "No code is asked for any more."),
        Err(error) => second_factor_page(&visit, Step::On, form.refused(error)?),
    }
}

// === impl Told ===

impl From<NewSecondFactor> for Told {
    fn from(new: NewSecondFactor) -> Self {
        Told { qr: qr(&new.url), secret: new.secret }
    }
}
