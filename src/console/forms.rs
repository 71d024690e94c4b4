//! What people fill in: read, checked to come from this site, and shown again with what is wrong at its fields.

use std::collections::BTreeMap;

use axum::RequestExt;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use super::refusal::Refusal;
use super::router::Console;
use super::session::Visiting;
use crate::control::{ControlError, FieldFault};

/// The fields of a form, and what is wrong with them. A page that shows an empty form has an empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldFault>,
}

/// A form that a page of ours showed to this very session: only its extractor makes one, so that a handler that changes
/// something can't forget to look.
#[derive(Debug)]
pub(super) struct Posted(pub(super) Form);

/// What an address asks for after its `?`: the filters of a list, which its form shows again.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Form);

/// The field with the session's token against forged requests.
const CSRF: &str = "csrf";

/// No store of ours keeps it in text, and no text of anybody's needs it.
const NUL: char = '\0';

/// Browsers say which site a form is on; those that don't, say at least its origin. Who says neither is no browser that
/// a page could send here.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text("origin") else { return true };
    let host = text(header::HOST.as_str()).unwrap_or_default();
    origin.split_once("://").is_some_and(|(_, authority)| authority == host)
}

// === impl Form ===

impl Form {
    /// A form with values that nobody has typed yet.
    pub(super) fn filled<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Form {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Form { pairs, faults: Vec::new() }
    }

    /// A field as it was typed, without spaces around it; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.typed(name).trim()
    }

    /// The version that the page showed, of what is to be changed.
    pub(super) fn version(&self) -> Option<i64> {
        self.text("version").parse().ok()
    }

    /// A field to the letter, for passwords.
    pub(super) fn typed(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A field, if something is in it.
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// With the values of `other` where this form has no such field.
    pub(super) fn over(mut self, other: Form) -> Form {
        for (name, value) in other.pairs {
            if !self.pairs.iter().any(|(known, _)| *known == name) {
                self.pairs.push((name, value));
            }
        }
        self
    }

    /// All that was chosen under one name.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs().filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).collect()
    }

    /// Whether a box is checked, or an option chosen.
    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.pairs().any(|pair| pair == (name, value))
    }

    /// Whether nothing is wrong with it.
    pub(super) fn is_good(&self) -> bool {
        self.faults.is_empty()
    }

    /// All fields, as they were typed.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn fail(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(FieldFault::new(field, message));
    }

    /// What is wrong with that field.
    pub(super) fn fault(&self, field: &str) -> Option<&str> {
        let of_field = |fault: &&FieldFault| {
            fault.field == field
                || fault.field.strip_prefix(field).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.faults.iter().find(of_field).map(|fault| fault.message.as_str())
    }

    /// What is wrong and stands at none of `fields`, for the head of the form.
    pub(super) fn others<const N: usize>(&self, fields: &[&str; N]) -> Vec<String> {
        let is_shown = |fault: &FieldFault| {
            let name = fault.field.split(['.', '[']).next().unwrap_or_default();
            fields.contains(&name)
        };
        let mut lines = BTreeMap::new();
        for (at, fault) in self.faults.iter().enumerate().filter(|(_, fault)| !is_shown(fault)) {
            let line = match fault.field.as_str() {
                "" => fault.message.clone(),
                field => format!("{field}: {}", fault.message),
            };
            lines.insert(at, line);
        }
        lines.into_values().collect()
    }

    /// The form with what `control` has against it.
    ///
    /// # Errors
    /// What no form can mend: see [`Refusal`].
    pub(super) fn refused(mut self, error: ControlError) -> Result<Form, Refusal> {
        match error {
            ControlError::Invalid(faults) => self.faults.extend(faults),
            ControlError::Conflict(_) | ControlError::IllegalMove(_) | ControlError::BadCredentials => {
                self.fail("", sentence(&error.to_string()));
            }
            ControlError::Stale { .. } => {
                self.fail("", "Somebody has changed it meanwhile: look at it again before you change it.");
            }
            ControlError::Throttled { again_after } => {
                let seconds = again_after.as_secs().max(1);
                self.fail("", format!("There were too many attempts: try again in {seconds} seconds."));
            }
            other => return Err(other.into()),
        }
        Ok(self)
    }

    async fn read(request: Request) -> Result<Form, Refusal> {
        if !is_from_here(request.headers()) {
            return Err(Refusal::Forged);
        }
        let read = request.extract::<axum::Form<Vec<(String, String)>>, _>().await;
        let axum::Form(pairs) = read.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge,
            _ => Refusal::Malformed("The form can't be read.".to_owned()),
        })?;
        if pairs.iter().any(|(name, value)| name.contains(NUL) || value.contains(NUL)) {
            return Err(Refusal::Malformed("The character U+0000 stands in no text.".to_owned()));
        }
        Ok(Form { pairs, faults: Vec::new() })
    }
}

/// A message of `control` as it stands alone on a page.
pub(super) fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

impl FromRequest<Console> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Console) -> Result<Self, Refusal> {
        Form::read(request).await
    }
}

// === impl Asked ===

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let unreadable = || Refusal::Malformed("The address can't be read.".to_owned());
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(|_| unreadable())?;
        if pairs.iter().any(|(name, value)| name.contains(NUL) || value.contains(NUL)) {
            return Err(unreadable());
        }
        Ok(Asked(Form { pairs, faults: Vec::new() }))
    }
}

// === impl Posted ===

impl FromRequest<Console> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, console: &Console) -> Result<Self, Refusal> {
        let visiting = request.extensions().get::<Visiting>().cloned();
        debug_assert!(visiting.is_some(), "every form that changes something is behind `authenticate`");
        let Some(Visiting(visitor)) = visiting else { return Err(Refusal::Forged) };
        let form = Form::read(request).await?;
        if !console.control.is_csrf_token(&visitor.session, form.text(CSRF)) {
            return Err(Refusal::Forged);
        }
        Ok(Posted(form))
    }
}
