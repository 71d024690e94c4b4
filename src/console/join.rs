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
    here: &'static str,
    heading: &'static str,
    explanation: &'static str,
    form: Form,
}

const JOIN: &str = "/console/join";
const PASSWORD: &str = "/console/set-password";
const LOG_IN: &str = "/console/log-in";

/// `GET /console/join?token=…`
pub(super) async fn show(passerby: Passerby, Filters(form): Filters) -> Result<Response, Refusal> {
    join_page(&passerby, form)
}

fn join_page(passerby: &Passerby, form: Form) -> Result<Response, Refusal> {
    let page = JoinPage {
        layout: Layout::bare("Join", &passerby.look),
        here: JOIN,
        heading: "You are invited",
        explanation: "Choose a password, and you belong to the tenant that invited you.",
        form,
    };
    of_form(&page.form, &page)
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
        Err(error) => join_page(&passerby, used_up(form, error)?),
    }
}

/// `GET /console/set-password?token=…`
pub(super) async fn show_password(passerby: Passerby, Filters(form): Filters) -> Result<Response, Refusal> {
    password_page(&passerby, form)
}

fn password_page(passerby: &Passerby, form: Form) -> Result<Response, Refusal> {
    let page = JoinPage {
        layout: Layout::bare("Set your password", &passerby.look),
        here: PASSWORD,
        heading: "Set your password",
        explanation: "Wherever you are logged in, you are logged out.",
        form,
    };
    of_form(&page.form, &page)
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
        Err(error) => password_page(&passerby, used_up(form, error)?),
    }
}

fn to_log_in(console: &Console, message: &str) -> Result<Response, Refusal> {
    let mut response = see_other(LOG_IN);
    flash(&console.control, &mut response, message);
    Ok(response)
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
