//! Whoever was sent a link comes in by it: to a tenant that invited them, or to a password of their own.
//!
//! The token stands in the address, as it does in everybody's invitations: it is good once, for days at most, and no page
//! behind it tells another site where it came from.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::forms::Form;
use super::layout::{Layout, flash};
use super::lists::{Filters, of_form};
use super::page::see_other;
use super::refusal::Refusal;
use super::router::Console;
use super::session::Passerby;
use crate::control::ControlError;

#[derive(Template)]
#[template(path = "join.html")]
struct JoinPage {
    layout: Layout,
    errand: Errand,
    form: Form,
}

/// What somebody has come for.
#[derive(Clone, Copy)]
struct Errand {
    here: &'static str,
    title: &'static str,
    heading: &'static str,
    explanation: &'static str,
}

const JOIN: Errand = Errand {
    here: "/console/join",
    title: "Join",
    heading: "You are invited",
    explanation: "Choose a password, and you belong to the tenant that invited you.",
};
const PASSWORD: Errand = Errand {
    here: "/console/set-password",
    title: "Set your password",
    heading: "Set your password",
    explanation: "Wherever you are logged in, you are logged out.",
};
const LOG_IN: &str = "/console/log-in";

/// `GET /console/join?token=…`
pub(super) async fn show(passerby: Passerby, Filters(form): Filters) -> Result<Response, Refusal> {
    page(&passerby, JOIN, form)
}

/// `POST /console/join`
pub(super) async fn join(
    passerby: Passerby,
    State(console): State<Console>,
    form: Form,
) -> Result<Response, Refusal> {
    let (token, password) = (form.text("token"), form.typed("password"));
    match console.control.accept_invitation(&passerby.person, token, password).await {
        Ok(_) => to_log_in(&console, "You belong to the tenant now: log in."),
        Err(error) => page(&passerby, JOIN, used_up(form, error)?),
    }
}

/// `GET /console/set-password?token=…`
pub(super) async fn show_password(passerby: Passerby, Filters(form): Filters) -> Result<Response, Refusal> {
    page(&passerby, PASSWORD, form)
}

/// `POST /console/set-password`
pub(super) async fn set_password(
    passerby: Passerby,
    State(console): State<Console>,
    form: Form,
) -> Result<Response, Refusal> {
    let (token, password) = (form.text("token"), form.typed("password"));
    match console.control.set_password_by_token(&passerby.person, token, password).await {
        Ok(()) => to_log_in(&console, "Your password is set: log in."),
        Err(error) => page(&passerby, PASSWORD, used_up(form, error)?),
    }
}

fn to_log_in(console: &Console, message: &str) -> Result<Response, Refusal> {
    let mut response = see_other(LOG_IN);
    flash(&console.control, &mut response, message);
    Ok(response)
}

fn page(passerby: &Passerby, errand: Errand, form: Form) -> Result<Response, Refusal> {
    let page = JoinPage { layout: Layout::bare(errand.title, &passerby.look), errand, form };
    of_form(&page.form, &page)
}

/// A link that was used or is too old is nothing that the person typed.
fn used_up(mut form: Form, error: ControlError) -> Result<Form, Refusal> {
    match error {
        ControlError::NotFound { .. } => {
            form.fail("", "This link is good for nothing any more: ask for a new one.");
            Ok(form)
        }
        other => form.refused(other),
    }
}
