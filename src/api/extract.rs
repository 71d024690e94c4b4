//! What handlers take from a request: who asks, what the path names, the query, the body.
//!
//! Each extractor refuses with a [`Problem`] that names what is wrong, so that handlers hold the good case only.

mod body;
mod path;

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::error::{Problem, ProblemKind};
use super::router::Api;
use crate::clock::Timestamp;
use crate::control::{ControlError, FieldFault, Person, Principal, Rights, TenantRef, Visitor};
use crate::domain::{Actor, ActorKind, Role};
use crate::store::Page;
use crate::web;

pub(super) use self::body::{Json, OptionalJson, Whole};
pub(super) use self::path::{
    AlertPath, BillingEventPath, ChannelPath, DeliveryPath, InvitationPath, InvoicePath, KeyPath,
    OperationPath, ResourcePath, RolePath, RulePath, SessionPath, SettingPath, StatusPath, TenantPath,
    UserPath, no_status,
};
pub(super) use crate::web::RequestId;

/// Who asks. Only [`authenticate`] makes one.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Principal);

/// Somebody who shows no credential, or shows it in the body.
pub(super) struct Passerby(pub(super) Person);

/// Whoever's session it is. Only [`authenticate`] makes one.
#[derive(Clone)]
pub(super) struct Visiting(pub(super) Visitor);

/// The query. A handler takes the parameters that it knows; [`Params::finish`] refuses the rest, and reports all
/// faults at once.
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldFault>,
}

const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
/// Who belongs to several tenants says which one a request is about.
const X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");

/// No store of ours keeps it in text, and no text of anybody's needs it.
const NUL: char = '\0';
const NO_NUL: &str = "the character U+0000 stands in no text";

/// Lets in who shows a credential that is known, and notes who it is: a token or a key, or else a session's cookie.
pub(super) async fn authenticate(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let person = web::person(&api.control, &parts.extensions, &parts.headers);
    let cookie = web::session_token(&api.control, &parts.headers).map(str::to_owned);
    let cookie = cookie.filter(|_| !parts.headers.contains_key(header::AUTHORIZATION));
    let (rights, actor) = if let Some(token) = cookie {
        let visitor = visited(&api, &person, &mut parts, &token).await?;
        let known = (visitor.rights, visitor.actor.clone());
        parts.extensions.insert(Visiting(visitor));
        known
    } else {
        let (rights, actor) = identified(&api, &parts.headers).await?;
        (rights, Actor { ip: person.ip, user_agent: person.user_agent, ..actor })
    };
    parts.extensions.insert(Caller(Principal { actor, rights, correlation: person.correlation }));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Whose session it is, in the tenant that the request names.
async fn visited(api: &Api, person: &Person, parts: &mut Parts, token: &str) -> Result<Visitor, Problem> {
    let wanted = wanted_tenant(parts).await;
    let visitor = api.control.visitor(person, token, wanted.as_ref()).await?;
    let ended = || Problem::new(ProblemKind::Unauthenticated, "this session has ended: log in again");
    let visitor = visitor.ok_or_else(ended)?;
    let shown = parts.headers.get(X_CSRF_TOKEN).and_then(|value| value.to_str().ok());
    let is_ours = || shown.is_some_and(|shown| api.control.is_csrf_token(&visitor.session, shown));
    if !parts.method.is_safe() && !is_ours() {
        let what = "send `x-csrf-token` as GET /api/sessions/current tells it";
        return Err(Problem::new(ProblemKind::Forged, what));
    }
    Ok(visitor)
}

/// `x-tenant-id`, or the tenant in the path.
async fn wanted_tenant(parts: &mut Parts) -> Option<TenantRef> {
    if let Some(named) = parts.headers.get(X_TENANT_ID).and_then(|value| value.to_str().ok()) {
        return named.parse().ok();
    }
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    params.iter().find(|(param, _)| *param == "tenant").and_then(|(_, text)| text.parse().ok())
}

async fn identified(api: &Api, headers: &HeaderMap) -> Result<(Rights, Actor), Problem> {
    let refused = |detail: &str| Problem::new(ProblemKind::Unauthenticated, detail);
    let bearer = headers.get(header::AUTHORIZATION).map(bearer);
    let token = match bearer {
        None => return Err(refused("send `Authorization: Bearer` with a platform token or an API key")),
        Some(None) => return Err(refused("`Authorization` must be `Bearer`, one space, and the token")),
        Some(Some(token)) => token,
    };
    if api.local.matches(token) {
        return Ok((Rights::platform(Role::PlatformOwner), local_admin()));
    }
    let known = api.control.authenticate(token).await?;
    known.ok_or_else(|| refused("this token is not known, or it has no right to administrate"))
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn local_admin() -> Actor {
    Actor {
        kind: ActorKind::LocalAdmin,
        id: None,
        name: "local administrator".to_owned(),
        ip: None,
        user_agent: None,
    }
}

// === impl Caller ===

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        debug_assert!(caller.is_some(), "every route of the API is behind `authenticate`");
        caller.ok_or_else(|| Problem::new(ProblemKind::Unauthenticated, "nobody was authenticated"))
    }
}

// === impl Passerby ===

impl FromRequestParts<Api> for Passerby {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Passerby(web::person(&api.control, &parts.extensions, &parts.headers)))
    }
}

// === impl Visiting ===

impl<S: Send + Sync> FromRequestParts<S> for Visiting {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let without =
            || Problem::new(ProblemKind::Forbidden, "only a session has that: POST /api/sessions begins one");
        parts.extensions.get::<Visiting>().cloned().ok_or_else(without)
    }
}

// === impl Params ===

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::try_from_uri(&parts.uri)
            .map_err(|_| Problem::new(ProblemKind::Malformed, "the query can't be read"))?;
        Ok(Params { pairs, faults: Vec::new() })
    }
}

impl Params {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(param, _)| param == name)?;
        let text = self.pairs.swap_remove(at).1;
        if text.contains(NUL) {
            self.fault(name, NO_NUL.to_owned());
            return None;
        }
        Some(text)
    }

    /// The parameter as `read` understands it; `expected` says what it must be.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.fault(name, format!("`{text}` is not {expected}"));
        }
        value
    }

    pub(super) fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.read(name, "a whole number", |text| text.parse().ok())
    }

    pub(super) fn instant(&mut self, name: &str) -> Option<Timestamp> {
        self.read(name, "an RFC 3339 instant like 2026-11-23T06:00:00Z", Timestamp::parse)
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.read(name, "true or false", |text| text.parse().ok()).unwrap_or(false)
    }

    /// `limit`, `offset` and `cursor`.
    pub(super) fn page(&mut self) -> Page {
        let (limit, offset) = (self.number("limit"), self.number("offset"));
        let cursor = self.text("cursor");
        Page::new(limit, offset, cursor.as_deref()).unwrap_or_else(|bad| {
            if let ControlError::Invalid(faults) = ControlError::from(bad) {
                self.faults.extend(faults);
            }
            Page::default()
        })
    }

    /// The page, where nothing is asked for but that and what was taken.
    ///
    /// # Errors
    /// As [`Params::finish`].
    pub(super) fn into_page(mut self) -> Result<Page, Problem> {
        let page = self.page();
        self.finish().map(|()| page)
    }

    pub(super) fn fault(&mut self, name: &str, message: String) {
        self.faults.push(FieldFault::new(name, message));
    }

    /// # Errors
    /// All faults, parameters that nobody took among them.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        let left = std::mem::take(&mut self.pairs);
        for (name, _) in left {
            self.fault(&name, "this parameter is not known here, or it is given twice".to_owned());
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}
