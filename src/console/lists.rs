//! Lists with filters, and what forms are answered with.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::forms::{Asked, Form};
use super::layout::flash;
use super::page::{html, see_other};
use super::refusal::Refusal;
use super::router::Console;
use super::session::{Visit, form_encoded};
use super::text::words;
use crate::store::Page;

/// What a list's address says: its filters, and where its page begins.
pub(super) struct Filters(pub(super) Form);

/// Rows of a page: what fits on a few screens.
const ROWS: i64 = 50;
const CURSOR: &str = "cursor";

/// The page of a form: with status 422 if something is wrong in it.
pub(super) fn of_form(form: &Form, page: &impl Template) -> Result<Response, Refusal> {
    let page = html(page)?;
    Ok(if form.is_good() { page } else { (StatusCode::UNPROCESSABLE_ENTITY, page).into_response() })
}

/// It was done: the browser goes on to `address`, whose page says so.
pub(super) fn done(visit: &Visit, address: &str, message: &str) -> Result<Response, Refusal> {
    let mut response = see_other(address);
    flash(&visit.control, &mut response, message);
    Ok(response)
}

/// What a list can be filtered by, after everything.
pub(super) fn any_of(options: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    [(String::new(), "All".to_owned())].into_iter().chain(options).collect()
}

/// Words of the database, as people read them.
pub(super) fn word(name: &str) -> (String, String) {
    (name.to_owned(), words(name))
}

// === impl Filters ===

impl Filters {
    /// # Errors
    /// [`Refusal::Malformed`] for a cursor that is none.
    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let cursor = self.0.optional(CURSOR);
        let page = Page::new(Some(ROWS), None, cursor.as_deref());
        page.map_err(|_| Refusal::Malformed("This is no page of this list.".to_owned()))
    }

    /// The address of the page that comes next.
    pub(super) fn next(&self, here: &str, cursor: Option<String>) -> Option<String> {
        cursor.map(|cursor| self.with(here, CURSOR, &cursor))
    }

    /// The address of the list's first page with the same filters, and one thing more.
    pub(super) fn with(&self, here: &str, name: &str, value: &str) -> String {
        let query = self.query();
        let sign = if query.is_empty() { "" } else { "&" };
        format!("{here}?{query}{sign}{name}={}", form_encoded(value))
    }

    /// The filters as they stand in an address.
    pub(super) fn query(&self) -> String {
        let kept = self.0.pairs().filter(|(name, value)| !value.is_empty() && *name != CURSOR);
        let pairs: Vec<_> = kept.map(|(name, value)| format!("{name}={}", form_encoded(value))).collect();
        pairs.join("&")
    }
}

impl FromRequestParts<Console> for Filters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Refusal> {
        let Asked(form) = Asked::from_request_parts(parts, console).await?;
        Ok(Filters(form))
    }
}
