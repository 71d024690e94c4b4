//! Light, dark, or as the browser prefers: kept in a cookie, so that it works without a script.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::forms::Form;
use super::page::see_other;
use super::router::Console;
use super::session::local;
use crate::web;

/// How pages look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Theme {
    /// As the browser prefers.
    #[default]
    Auto,
    Light,
    Dark,
}

const COOKIE: &str = "tollgate_theme";
const YEAR_SECONDS: u64 = 365 * 86_400;

/// `POST /console/theme`: the browser comes back to the page that it was on.
pub(super) async fn set(State(console): State<Console>, form: Form) -> Response {
    let theme = Theme::parse(form.text("theme"));
    let mut response = see_other(local(form.text("next")));
    let seconds = if theme == Theme::Auto { 0 } else { YEAR_SECONDS };
    web::set_cookie(&console.control, &mut response, COOKIE, theme.as_str(), "/console", seconds);
    response
}

// === impl Theme ===

impl Theme {
    pub(super) const ALL: [Theme; 3] = [Theme::Auto, Theme::Light, Theme::Dark];

    pub(super) fn of(headers: &HeaderMap) -> Theme {
        web::cookie(headers, COOKIE).map(Theme::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Theme {
        Theme::ALL.into_iter().find(|theme| theme.as_str() == text).unwrap_or_default()
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Theme::Auto => "As the system",
            Theme::Light => "Light",
            Theme::Dark => "Dark",
        }
    }
}
