//! What the path names.
//!
//! # Why a macro
//! An extractor per parameter, so that a handler can't take one for another; and no `impl` may be of all of them at once,
//! since the trait is axum's.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use uuid::Uuid;

use super::{NUL, Problem, ProblemKind};
use crate::control::{ControlError, FieldFault, TenantRef};
use crate::domain::billing::{BillingEventId, InvoiceId};
use crate::domain::{
    AlertId, ApiKeyId, BulkId, ChannelId, DeliveryId, InvitationId, Resource, RuleId, SessionId,
    TenantStatus, UserId,
};

/// `{tenant}`: an id or a slug.
pub(in crate::api) struct TenantPath(pub(in crate::api) TenantRef);

/// `{role}`
pub(in crate::api) struct RolePath(pub(in crate::api) String);

/// `{resource}`
pub(in crate::api) struct ResourcePath(pub(in crate::api) Resource);

/// `{setting}`
pub(in crate::api) struct SettingPath(pub(in crate::api) String);

/// `{status}`
pub(in crate::api) struct StatusPath(pub(in crate::api) TenantStatus);

/// Extractors of parameters that are ids. What is none names nothing.
macro_rules! ids {
    ($($path:ident($id:ident) = $name:literal),* $(,)?) => { $(
        #[doc = concat!("`{", $name, "}`")]
        pub(in crate::api) struct $path(pub(in crate::api) $id);

        impl<S: Send + Sync> FromRequestParts<S> for $path {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
                let id = named(parts, state, $name, |text| Uuid::try_parse(text).ok()).await?;
                Ok($path($id(id)))
            }
        }
    )* };
}

ids! {
    KeyPath(ApiKeyId) = "key",
    SessionPath(SessionId) = "session",
    UserPath(UserId) = "user",
    InvitationPath(InvitationId) = "invitation",
    AlertPath(AlertId) = "alert",
    InvoicePath(InvoiceId) = "invoice",
    BillingEventPath(BillingEventId) = "event",
    RulePath(RuleId) = "rule",
    ChannelPath(ChannelId) = "channel",
    DeliveryPath(DeliveryId) = "delivery",
    OperationPath(BulkId) = "operation",
}

// === impl TenantPath ===

impl<S: Send + Sync> FromRequestParts<S> for TenantPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is neither an id nor a slug names no tenant, which is all that a caller needs to know.
        named(parts, state, "tenant", |text| text.parse().ok()).await.map(TenantPath)
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
        named(parts, state, "resource", |text| text.parse().ok()).await.map(ResourcePath)
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

pub(in crate::api) fn no_status(text: &str) -> String {
    let names: Vec<_> = TenantStatus::ALL.iter().map(|status| status.as_str()).collect();
    format!("`{text}` is no status: {}", names.join(", "))
}

/// The parameter as `parse` reads it. What it can't read is not found.
async fn named<S: Send + Sync, T>(
    parts: &mut Parts,
    state: &S,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Problem> {
    let named = path_param(parts, state, name, parse).await?;
    named.map_err(|text| ControlError::NotFound { what: name, which: text }.into())
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
