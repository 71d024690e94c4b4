//! Every refusal of the console, and the page that tells it.
//!
//! A handler only returns a [`Refusal`]; `seal` alone writes it, because only there the request's id is at hand. What a form
//! can show at its fields never becomes one: see [`Form::refused`](super::forms::Form::refused).

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use super::layout::{Layout, Look};
use super::page::see_other;
use crate::control::ControlError;
use crate::store::StoreError;
use crate::telemetry::log::with_causes;
use crate::web::RequestId;

/// Why there is no page. The text is for people.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// There is no such thing, or none that the visitor may see.
    NotFound(String),
    /// The visitor sees it and may not do that.
    Forbidden(String),
    /// The tenant lets in whoever has a second factor, which the visitor can have.
    SecondFactor,
    /// A form that did not come from a page of ours.
    Forged,
    /// The address or the form can't be read, or has faults that no field shows.
    Malformed(String),
    /// It stands against what has become of it meanwhile.
    Conflict(String),
    Method,
    TooLarge,
    Throttled(Duration),
    /// The store, or what grants units, is busy or away.
    Unavailable(Arc<ControlError>),
    /// Our own fault; the log says more.
    Internal(Arc<dyn std::error::Error + Send + Sync>),
}

/// Where a second factor is set up, and told why.
const SECOND_FACTOR: &str = "/console/account/second-factor?wanted=yes";

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage {
    layout: Layout,
    detail: String,
    request_id: String,
}

// === impl Refusal ===

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Forbidden(_) | Refusal::Forged | Refusal::SecondFactor => StatusCode::FORBIDDEN,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Conflict(_) => StatusCode::CONFLICT,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Refusal::NotFound(_) => "Not found",
            Refusal::Forbidden(_) | Refusal::SecondFactor => "Not allowed",
            Refusal::Forged => "This form can't be accepted",
            Refusal::Malformed(_) => "This can't be read",
            Refusal::Conflict(_) => "Something is in the way",
            Refusal::Method => "Nothing to do here",
            Refusal::TooLarge => "Too large",
            Refusal::Throttled(_) => "Too many attempts",
            Refusal::Unavailable(_) => "Not available right now",
            Refusal::Internal(_) => "Something went wrong",
        }
    }

    fn detail(&self) -> String {
        match self {
            Refusal::NotFound(what) => format!("There is no {what}, or you may not see it."),
            Refusal::Forbidden(why) | Refusal::Malformed(why) | Refusal::Conflict(why) => why.clone(),
            Refusal::SecondFactor => "The tenant wants a second factor first.".to_owned(),
            Refusal::Forged => {
                "It did not come from a page of this console, or you have logged in again since. Nothing was changed: \
                 go back, reload the page, and try again."
                    .to_owned()
            }
            Refusal::Method => "This address is not to be used like that.".to_owned(),
            Refusal::TooLarge => "The form is larger than what is read.".to_owned(),
            Refusal::Throttled(after) => {
                format!("Try again in {} seconds.", after.as_secs().max(1))
            }
            Refusal::Unavailable(_) => {
                "The database does not answer. Traffic goes on; try again in a moment.".to_owned()
            }
            Refusal::Internal(_) => {
                "It is our fault, and the log says more under the number below.".to_owned()
            }
        }
    }

    /// The page, and the line in the log, of which there is one.
    pub(super) fn written(self, look: &Look, id: RequestId) -> Response {
        let status = self.status();
        if matches!(self, Refusal::SecondFactor) {
            return see_other(SECOND_FACTOR);
        }
        match &self {
            Refusal::Internal(error) => {
                let error = with_causes(&**error);
                tracing::error!(request.id = %id.0, error, "a page of the console can't be made: {error}");
            }
            Refusal::Unavailable(error) => {
                let error = with_causes(&**error);
                tracing::warn!(request.id = %id.0, error, "a page of the console has to wait: {error}");
            }
            _ => {}
        }
        let layout = Layout::bare(self.title(), look);
        let page = RefusalPage { layout, detail: self.detail(), request_id: id.0.to_string() };
        match page.render() {
            Ok(text) => (status, Html(text)).into_response(),
            Err(_) => status.into_response(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<askama::Error> for Refusal {
    fn from(error: askama::Error) -> Self {
        Refusal::Internal(Arc::new(error))
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound { what, which } => Refusal::NotFound(format!("{what} “{which}”")),
            ControlError::Forbidden { operation, needs, .. } => {
                Refusal::Forbidden(format!("You may not do that ({operation}): {needs}."))
            }
            ControlError::Throttled { again_after } => Refusal::Throttled(again_after),
            ControlError::Invalid(_) | ControlError::Unbelievable(_) => Refusal::Malformed(error.to_string()),
            ControlError::Conflict(_)
            | ControlError::IllegalMove(_)
            | ControlError::Stale { .. }
            | ControlError::Exceeded(_)
            | ControlError::Stopped(_)
            | ControlError::NoGateway
            | ControlError::BadCredentials
            | ControlError::SecondFactor
            | ControlError::Archive(_) => Refusal::Conflict(error.to_string()),
            ControlError::Unanswered(_) | ControlError::Store(StoreError::Database(_)) => {
                Refusal::Unavailable(Arc::new(error))
            }
            ControlError::Store(_)
            | ControlError::Seal(_)
            | ControlError::Checkpoints(..)
            | ControlError::Random(_) => Refusal::Internal(Arc::new(error)),
        }
    }
}
