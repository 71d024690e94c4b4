//! What handlers take from a request: who asks, what the path names, the query, the body.
//!
//! Each extractor refuses with a [`Problem`] that names what is wrong, so that handlers hold the good case only.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::error::{Problem, ProblemKind};
use super::router::Api;
use crate::clock::Timestamp;
use crate::control::{ControlError, FieldFault, Person, Principal, Rights, TenantRef, Visitor};
use crate::domain::billing::{BillingEventId, InvoiceId};
use crate::domain::{
    Actor, ActorKind, AlertId, ApiKeyId, BulkId, ChannelId, DeliveryId, InvitationId, Resource, Role, RuleId,
    SessionId, TenantStatus, UserId,
};
use crate::store::Page;
use crate::web;
pub(super) use crate::web::RequestId;

/// Who asks. Only [`authenticate`] makes one.
#[derive(Clone)]
pub(super) struct Caller(pub(super) Principal);

/// `{tenant}`: an id or a slug.
pub(super) struct TenantPath(pub(super) TenantRef);

/// `{key}`
pub(super) struct KeyPath(pub(super) ApiKeyId);

/// Somebody who shows no credential, or shows it in the body.
pub(super) struct Passerby(pub(super) Person);

/// Whoever's session it is. Only [`authenticate`] makes one.
#[derive(Clone)]
pub(super) struct Visiting(pub(super) Visitor);

/// `{session}`
pub(super) struct SessionPath(pub(super) SessionId);

/// `{user}`
pub(super) struct UserPath(pub(super) UserId);

/// `{invitation}`
pub(super) struct InvitationPath(pub(super) InvitationId);

/// `{role}`
pub(super) struct RolePath(pub(super) String);

/// `{alert}`
pub(super) struct AlertPath(pub(super) AlertId);

/// `{invoice}`
pub(super) struct InvoicePath(pub(super) InvoiceId);

/// `{event}`
pub(super) struct BillingEventPath(pub(super) BillingEventId);

/// `{rule}`
pub(super) struct RulePath(pub(super) RuleId);

/// `{channel}`
pub(super) struct ChannelPath(pub(super) ChannelId);

/// `{delivery}`
pub(super) struct DeliveryPath(pub(super) DeliveryId);

/// `{operation}`
pub(super) struct OperationPath(pub(super) BulkId);

/// `{resource}`
pub(super) struct ResourcePath(pub(super) Resource);

/// `{setting}`
pub(super) struct SettingPath(pub(super) String);

/// `{status}`
pub(super) struct StatusPath(pub(super) TenantStatus);

/// The body, as JSON. Fields that `T` does not know are refused.
pub(super) struct Json<T>(pub(super) T);

/// The same, where no body at all means `T::default()`.
pub(super) struct OptionalJson<T>(pub(super) T);

/// The body, byte for byte.
pub(super) struct Whole(pub(super) Bytes);

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

// === impl TenantPath ===

impl<S: Send + Sync> FromRequestParts<S> for TenantPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is neither an id nor a slug names no tenant, which is all that a caller needs to know.
        path_param(parts, state, "tenant", |text| text.parse().ok())
            .await?
            .map(TenantPath)
            .map_err(|text| ControlError::NotFound { what: "tenant", which: text }.into())
    }
}

// === impl KeyPath ===

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "key").await.map(|id| KeyPath(ApiKeyId(id)))
    }
}

// === impl AlertPath ===

impl<S: Send + Sync> FromRequestParts<S> for AlertPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "alert").await.map(|id| AlertPath(AlertId(id)))
    }
}

// === impl InvoicePath ===

impl<S: Send + Sync> FromRequestParts<S> for InvoicePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "invoice").await.map(|id| InvoicePath(InvoiceId(id)))
    }
}

// === impl BillingEventPath ===

impl<S: Send + Sync> FromRequestParts<S> for BillingEventPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "event").await.map(|id| BillingEventPath(BillingEventId(id)))
    }
}

// === impl RulePath ===

impl<S: Send + Sync> FromRequestParts<S> for RulePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "rule").await.map(|id| RulePath(RuleId(id)))
    }
}

// === impl ChannelPath ===

impl<S: Send + Sync> FromRequestParts<S> for ChannelPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "channel").await.map(|id| ChannelPath(ChannelId(id)))
    }
}

// === impl DeliveryPath ===

impl<S: Send + Sync> FromRequestParts<S> for DeliveryPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "delivery").await.map(|id| DeliveryPath(DeliveryId(id)))
    }
}

// === impl OperationPath ===

impl<S: Send + Sync> FromRequestParts<S> for OperationPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_param(parts, state, "operation").await.map(|id| OperationPath(BulkId(id)))
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

// === impl SessionPath ===

impl<S: Send + Sync> FromRequestParts<S> for SessionPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_param(parts, state, "session", |text| Uuid::try_parse(text).ok())
            .await?
            .map(|id| SessionPath(SessionId(id)))
            .map_err(|text| ControlError::NotFound { what: "session", which: text }.into())
    }
}

// === impl UserPath ===

impl<S: Send + Sync> FromRequestParts<S> for UserPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_param(parts, state, "user", |text| Uuid::try_parse(text).ok())
            .await?
            .map(|id| UserPath(UserId(id)))
            .map_err(|text| ControlError::NotFound { what: "user", which: text }.into())
    }
}

// === impl InvitationPath ===

impl<S: Send + Sync> FromRequestParts<S> for InvitationPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_param(parts, state, "invitation", |text| Uuid::try_parse(text).ok())
            .await?
            .map(|id| InvitationPath(InvitationId(id)))
            .map_err(|text| ControlError::NotFound { what: "invitation", which: text }.into())
    }
}

// === impl RolePath ===

impl<S: Send + Sync> FromRequestParts<S> for RolePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_param(parts, state, "role", |text| Some(text.to_owned())).await?;
        Ok(RolePath(text.unwrap_or_default()))
    }
}

// === impl ResourcePath ===

impl<S: Send + Sync> FromRequestParts<S> for ResourcePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_param(parts, state, "resource", |text| text.parse().ok())
            .await?
            .map(ResourcePath)
            .map_err(|text| ControlError::NotFound { what: "resource", which: text }.into())
    }
}

// === impl SettingPath ===

impl<S: Send + Sync> FromRequestParts<S> for SettingPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_param(parts, state, "setting", |text| Some(text.to_owned())).await?;
        Ok(SettingPath(text.unwrap_or_default()))
    }
}

// === impl StatusPath ===

impl<S: Send + Sync> FromRequestParts<S> for StatusPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_param(parts, state, "status", TenantStatus::parse)
            .await?
            .map(StatusPath)
            .map_err(|text| Problem::invalid(vec![FieldFault::new("status", no_status(&text))]))
    }
}

pub(super) fn no_status(text: &str) -> String {
    let names: Vec<_> = TenantStatus::ALL.iter().map(|status| status.as_str()).collect();
    format!("`{text}` is no status: {}", names.join(", "))
}

/// A parameter that is an id. What is none names nothing.
async fn id_param<S: Send + Sync>(parts: &mut Parts, state: &S, name: &'static str) -> Result<Uuid, Problem> {
    path_param(parts, state, name, |text| Uuid::try_parse(text).ok())
        .await?
        .map_err(|text| ControlError::NotFound { what: name, which: text }.into())
}

/// The parameter as `parse` reads it, or else its text.
async fn path_param<S: Send + Sync, T>(
    parts: &mut Parts,
    state: &S,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Result<T, String>, Problem> {
    let unreadable = || Problem::new(ProblemKind::NotFound, "the path is not UTF-8");
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
    let text = params.iter().find(|(param, _)| *param == name).map(|(_, text)| text);
    debug_assert!(text.is_some(), "the route has no `{name}`");
    let text = text.unwrap_or_default();
    let parsed = if text.contains(NUL) { None } else { parse(text) };
    Ok(parsed.ok_or_else(|| text.to_owned()))
}

// === impl Json ===

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = is_json(request.headers());
        let bytes = body(request, state).await?;
        if !is_json {
            return Err(Problem::new(
                ProblemKind::UnsupportedMediaType,
                "send the body as JSON, with `Content-Type: application/json`",
            ));
        }
        from_json(&bytes).map(Json)
    }
}

// === impl Whole ===

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        body(request, state).await.map(Whole)
    }
}

// === impl OptionalJson ===

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, content) = request.into_parts();
        let bytes = body(Request::from_parts(parts.clone(), content), state).await?;
        if bytes.is_empty() {
            return Ok(OptionalJson(T::default()));
        }
        let Json(value) = Json::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        Ok(OptionalJson(value))
    }
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ProblemKind::TooLarge, "the body is above 1 MiB"),
        _ => Problem::new(ProblemKind::Malformed, "the body ended early"),
    })
}

/// `application/json` or `application/*+json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // serde would take a list for an object's fields in their order: a form that nobody was promised.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid(vec![FieldFault::new("body", "must be an object")]));
    }
    refuse_nul(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| unreadable(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| unreadable(".", &error))?;
    Ok(value)
}

/// In JSON it is written in one way only, which is rare enough to look closer then.
fn refuse_nul(bytes: &[u8]) -> Result<(), Problem> {
    if memchr::memmem::find(bytes, br"\u0000").is_none() {
        return Ok(());
    }
    // What can't be read is told by who reads it.
    let body = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let field = with_nul(&body, String::new());
    field.map_or(Ok(()), |field| Err(Problem::invalid(vec![FieldFault::new(field, NO_NUL)])))
}

/// The first field with that character in it, which is at `path` or below.
fn with_nul(value: &Value, path: String) -> Option<String> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::String(text) => text.contains(NUL).then_some(path),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| with_nul(item, format!("{path}[{at}]")))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| match name.contains(NUL) {
            true => Some(below(&name.replace(NUL, ""))),
            false => with_nul(member, below(name)),
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Broken JSON is told by its line and column, a wrong value by its field.
fn unreadable(path: &str, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::new(ProblemKind::Malformed, format!("the body is no JSON: {error}"));
    }
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    Problem::invalid(vec![FieldFault::new(faulty_field(path, message), message)])
}

/// The field that `message` is about. A missing field is reported at the object that lacks it.
fn faulty_field(path: &str, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match (path, missing) {
        (".", Some(name)) => name.to_owned(),
        (".", None) => "body".to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
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
