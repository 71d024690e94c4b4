//! Every refusal of the API: one [`Problem`], written as `application/problem+json` (RFC 9457).
//!
//! Two audiences: the caller reads `detail`, which never holds another tenant's facts or the store's own words; the
//! operator reads the log, under the same `request_id`. A handler only returns a [`Problem`]; `seal`
//! alone writes it, because only there the request's id is at hand.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::tag::etag;
use crate::clock::Timestamp;
use crate::control::{ControlError, Exceeded, FieldFault, Standing};
use crate::domain::billing::SPEND_CAP;
use crate::domain::{Resource, Units};
use crate::secret::archive::ArchiveError;
use crate::store::StoreError;

/// A refusal, before it is written.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: ProblemKind,
    detail: String,
    errors: Vec<FieldFault>,
    exceeded: Option<Box<Exceeded>>,
    /// The version that it has, where another was expected.
    present: Option<i64>,
    /// When the same may be tried again.
    again_after: Option<Duration>,
    /// What the operator must read and the caller may not.
    cause: Option<Arc<ControlError>>,
}

/// What is wrong, from where a caller stands. Its [`slug`](ProblemKind::slug) is part of the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProblemKind {
    /// The body is no JSON, or the request's form is wrong otherwise.
    Malformed,
    /// No credential, or none that is known.
    Unauthenticated,
    /// The password is good and a code is missing.
    SecondFactor,
    /// A cookie alone changes nothing: the token is missing that only who reads our answers knows.
    Forged,
    /// The credential is known and may not do this.
    Forbidden,
    /// The credential belongs to no tenant, and the request needs one.
    NoTenant,
    /// No such thing, or none that the caller may see.
    NotFound,
    MethodNotAllowed,
    /// It is in the way of something that exists.
    Conflict,
    /// The status machine knows no such move.
    IllegalMove,
    /// `If-Match` names a version that is no longer the current one.
    Stale,
    TooLarge,
    UnsupportedMediaType,
    /// The body or the query was understood, and fields of it are wrong: each is named.
    Invalid,
    /// A quota has too little left; nothing was counted.
    Exceeded,
    /// The tenant is not served.
    Suspended,
    /// Too many attempts in too short a time.
    Throttled,
    /// The store is busy or away: the same request may be sent again.
    Unavailable,
    /// Our own fault; the log says more.
    Internal,
}

/// The body of a refusal.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Written {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    request_id: Uuid,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldFault>,
    #[serde(flatten)]
    exceeded: Option<ExceededView>,
}

/// What a 429 says more.
#[derive(Serialize, ToSchema)]
struct ExceededView {
    resource_type: Resource,
    requested: Units,
    resets_at: Option<Timestamp>,
    /// `spend_cap` where the limit is what the tenant's spend cap leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// Where more can be bought: the setting `upgrade_url` of the tenant or of a reseller above it.
    upgrade_url: Option<String>,
    /// Absent where the quota is that of a tenant above.
    #[serde(flatten)]
    standing: Option<StandingView>,
}

#[derive(Serialize, ToSchema)]
struct StandingView {
    limit: Option<Units>,
    used: Units,
    remaining: Option<Units>,
}

// === impl Problem ===

impl Problem {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Problem {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            exceeded: None,
            present: None,
            again_after: None,
            cause: None,
        }
    }

    /// One fault per field, all of them at once.
    pub(super) fn invalid(errors: Vec<FieldFault>) -> Self {
        let faults: Vec<_> =
            errors.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let detail = faults.join("; ");
        Problem { errors, ..Problem::new(ProblemKind::Invalid, detail) }
    }

    /// A fault that is not the caller's. The log gets `cause`, the caller the request's id to ask about.
    fn ours(kind: ProblemKind, cause: ControlError) -> Self {
        let detail = match kind {
            ProblemKind::Unavailable => "send the same request again in a moment",
            _ => "the log of this gateway says more, under this request_id",
        };
        Problem { cause: Some(Arc::new(cause)), ..Problem::new(kind, detail) }
    }

    /// What is written of it. A fault of ours is logged here.
    pub(super) fn body(&self, request_id: Uuid) -> Written {
        if let Some(cause) = &self.cause {
            let error = cause.as_ref() as &dyn std::error::Error;
            tracing::error!(request.id = %request_id, error, "an operation of the control plane failed");
        }
        Written {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            request_id,
            errors: self.errors.clone(),
            exceeded: self.exceeded.as_deref().map(ExceededView::from),
        }
    }

    /// The answer that carries this problem.
    pub(super) fn written(&self, request_id: Uuid) -> Response {
        let mut response = (self.kind.status(), axum::Json(self.body(request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.kind.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(tag) = self.present.and_then(etag) {
            headers.insert(header::ETAG, tag);
        }
        let unavailable = (self.kind == ProblemKind::Unavailable).then_some(Duration::from_secs(1));
        if let Some(after) = self.again_after.or(unavailable) {
            // Rounded up: half a second early is too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Leaves the problem to `seal`, which writes it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Invalid(faults) => Problem::invalid(faults),
            ControlError::NotFound { .. } => Problem::new(ProblemKind::NotFound, error.to_string()),
            ControlError::Forbidden { .. } => Problem::new(ProblemKind::Forbidden, error.to_string()),
            ControlError::Conflict(detail) => Problem::new(ProblemKind::Conflict, detail),
            ControlError::Exceeded(exceeded) => {
                let detail = format!(
                    "{} units of {} are more than what is left",
                    exceeded.requested, exceeded.resource_type
                );
                Problem { exceeded: Some(exceeded), ..Problem::new(ProblemKind::Exceeded, detail) }
            }
            ControlError::Throttled { again_after } => Problem {
                again_after: Some(again_after),
                ..Problem::new(ProblemKind::Throttled, error.to_string())
            },
            ControlError::BadCredentials => Problem::new(ProblemKind::Unauthenticated, error.to_string()),
            ControlError::SecondFactor => Problem::new(ProblemKind::SecondFactor, error.to_string()),
            ControlError::Unbelievable(_) => Problem::new(ProblemKind::Malformed, error.to_string()),
            ControlError::Stopped(_) => Problem::new(ProblemKind::Suspended, error.to_string()),
            ControlError::NoGateway => Problem::new(ProblemKind::Conflict, error.to_string()),
            ControlError::Unanswered(_) => Problem::ours(ProblemKind::Unavailable, error),
            ControlError::IllegalMove(_) => Problem::new(ProblemKind::IllegalMove, error.to_string()),
            ControlError::Stale { actual, .. } => {
                Problem { present: Some(actual), ..Problem::new(ProblemKind::Stale, error.to_string()) }
            }
            ControlError::Store(StoreError::Database(_)) => Problem::ours(ProblemKind::Unavailable, error),
            ControlError::Archive(ArchiveError::Io(_))
            | ControlError::Store(_)
            | ControlError::Checkpoints(..)
            | ControlError::Random(_)
            | ControlError::Seal(_) => Problem::ours(ProblemKind::Internal, error),
            ControlError::Archive(error) => {
                Problem::invalid(vec![FieldFault::new("archive", error.to_string())])
            }
        }
    }
}

// === impl ExceededView ===

impl From<&Exceeded> for ExceededView {
    fn from(exceeded: &Exceeded) -> Self {
        let Exceeded { resource_type, requested, standing, resets_at, is_capped, upgrade_url } =
            exceeded.clone();
        let standing =
            standing.map(|Standing { limit, used, remaining, .. }| StandingView { limit, used, remaining });
        let cause = is_capped.then_some(SPEND_CAP);
        ExceededView { resource_type, requested, resets_at, cause, upgrade_url, standing }
    }
}

// === impl ProblemKind ===

impl ProblemKind {
    pub(super) const ALL: [ProblemKind; 19] = [
        ProblemKind::Malformed,
        ProblemKind::Unauthenticated,
        ProblemKind::SecondFactor,
        ProblemKind::Forged,
        ProblemKind::Forbidden,
        ProblemKind::NoTenant,
        ProblemKind::NotFound,
        ProblemKind::MethodNotAllowed,
        ProblemKind::Conflict,
        ProblemKind::IllegalMove,
        ProblemKind::Stale,
        ProblemKind::TooLarge,
        ProblemKind::UnsupportedMediaType,
        ProblemKind::Invalid,
        ProblemKind::Exceeded,
        ProblemKind::Suspended,
        ProblemKind::Throttled,
        ProblemKind::Unavailable,
        ProblemKind::Internal,
    ];

    /// The problem's `type`.
    pub(super) fn uri(self) -> String {
        format!("/problems/{}", self.slug())
    }

    /// The last part of the problem's `type`. Never renamed.
    const fn slug(self) -> &'static str {
        match self {
            ProblemKind::Malformed => "malformed-request",
            ProblemKind::Unauthenticated => "unauthenticated",
            ProblemKind::SecondFactor => "second-factor-required",
            ProblemKind::Forged => "csrf-token",
            ProblemKind::Forbidden => "forbidden",
            ProblemKind::NoTenant => "no-tenant",
            ProblemKind::NotFound => "not-found",
            ProblemKind::MethodNotAllowed => "method-not-allowed",
            ProblemKind::Conflict => "conflict",
            ProblemKind::IllegalMove => "illegal-status-change",
            ProblemKind::Stale => "stale-version",
            ProblemKind::TooLarge => "body-too-large",
            ProblemKind::UnsupportedMediaType => "unsupported-media-type",
            ProblemKind::Invalid => "invalid-fields",
            ProblemKind::Exceeded => "quota-exceeded",
            ProblemKind::Suspended => "tenant-suspended",
            ProblemKind::Throttled => "too-many-attempts",
            ProblemKind::Unavailable => "unavailable",
            ProblemKind::Internal => "internal",
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            ProblemKind::Malformed => "The request can't be read",
            ProblemKind::Unauthenticated => "A valid credential is needed",
            ProblemKind::SecondFactor => "A code is needed beside the password",
            ProblemKind::Forged => "The token against forged requests is missing or wrong",
            ProblemKind::Forbidden => "This credential may not do that",
            ProblemKind::NoTenant => "This credential belongs to no tenant",
            ProblemKind::NotFound => "There is no such thing",
            ProblemKind::MethodNotAllowed => "This address does not know that method",
            ProblemKind::Conflict => "Something that exists is in the way",
            ProblemKind::IllegalMove => "The tenant can't change to that status",
            ProblemKind::Stale => "It has been changed meanwhile",
            ProblemKind::TooLarge => "The body is too large",
            ProblemKind::UnsupportedMediaType => "The body must be JSON",
            ProblemKind::Invalid => "Some fields are wrong",
            ProblemKind::Exceeded => "The quota is used up",
            ProblemKind::Suspended => "The tenant is not served",
            ProblemKind::Throttled => "There were too many attempts",
            ProblemKind::Unavailable => "The store does not answer right now",
            ProblemKind::Internal => "Something went wrong on our side",
        }
    }

    pub(super) const fn status(self) -> StatusCode {
        match self {
            ProblemKind::Malformed => StatusCode::BAD_REQUEST,
            ProblemKind::Unauthenticated | ProblemKind::SecondFactor => StatusCode::UNAUTHORIZED,
            ProblemKind::Forged | ProblemKind::Forbidden | ProblemKind::NoTenant => StatusCode::FORBIDDEN,
            ProblemKind::NotFound => StatusCode::NOT_FOUND,
            ProblemKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ProblemKind::Conflict | ProblemKind::IllegalMove => StatusCode::CONFLICT,
            ProblemKind::Stale => StatusCode::PRECONDITION_FAILED,
            ProblemKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ProblemKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ProblemKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ProblemKind::Exceeded | ProblemKind::Throttled => StatusCode::TOO_MANY_REQUESTS,
            ProblemKind::Suspended => StatusCode::FORBIDDEN,
            ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ProblemKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn challenge(self) -> Option<&'static str> {
        match self {
            ProblemKind::Unauthenticated => Some(r#"Bearer realm="tollgate""#),
            _ => None,
        }
    }
}
