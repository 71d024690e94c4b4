//! `/api/sessions`: people log in, see who they are, and leave.
//!
//! A browser keeps the session's token in a cookie that no script reads. Since browsers send cookies for whoever asks,
//! what changes something needs the header `x-csrf-token` as well, whose value only an answer of ours tells.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, Passerby, SessionPath, UserPath, Visiting};
use super::router::Api;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::{Credentials, NewSecondFactor, Visitor};
use crate::domain::{Membership, Role, RoleName, Session, SessionId, TenantId, UserId};
use crate::store::Listed;
use crate::web;

/// The body of `POST /api/sessions`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialsBody {
    email: String,
    password: String,
    /// Of the user's device, or a recovery code.
    code: Option<String>,
}

/// Who one is.
#[derive(Serialize, ToSchema)]
#[schema(as = Visitor)]
struct VisitorView {
    session_id: SessionId,
    user_id: UserId,
    email: String,
    platform_role: Option<Role>,
    is_multi_factor: bool,
    expires_at: Timestamp,
    /// To be sent in `x-csrf-token` with everything that changes something.
    csrf_token: String,
    memberships: Vec<MembershipView>,
    /// The tenant that requests are about which name none; `null` at the platform.
    tenant_id: Option<TenantId>,
    #[schema(value_type = Vec<String>)]
    permissions: Vec<&'static str>,
    /// Whether that tenant wants a second factor first: until then nothing is permitted.
    lacks_second_factor: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Membership)]
struct MembershipView {
    tenant_id: TenantId,
    #[schema(value_type = String)]
    role: RoleName,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    session_id: SessionId,
    is_current: bool,
    is_multi_factor: bool,
    #[schema(value_type = Option<String>)]
    ip: Option<std::net::IpAddr>,
    user_agent: Option<String>,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    expires_at: Timestamp,
}

/// The body of `PUT /api/sessions/password`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChangeBody {
    password: String,
    #[schema(min_length = 12, max_length = 256)]
    new_password: String,
}

/// The body of `POST /api/sessions/second-factor`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecondFactorBody {
    password: String,
}

/// The body of `POST …/second-factor/confirm`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeBody {
    code: String,
}

/// The body of `POST …/second-factor/remove`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveSecondFactorBody {
    password: String,
    code: String,
}

/// What a device is told, at the only moment when it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = SecondFactor)]
struct SecondFactorView {
    secret: String,
    url: String,
}

/// Each good once instead of a code; shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = RecoveryCodes)]
struct RecoveryCodesView {
    recovery_codes: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EndedSessions)]
struct EndedView {
    sessions: u64,
}

/// Logs somebody in; the session's token is in the cookie.
#[utoipa::path(
    post, path = "/api/sessions",
    request_body = CredentialsBody,
    responses(
        (
            status = 201,
            description = "Logged in",
            body = VisitorView,
            headers(("Set-Cookie" = String, description = "The session's cookie")),
        ),
        (status = 401, description = "Not who they say"),
        (status = 429, description = "Too many attempts"),
    ),
)]
pub(super) async fn create(
    Passerby(person): Passerby,
    State(api): State<Api>,
    Json(body): Json<CredentialsBody>,
) -> Result<Response, Problem> {
    let CredentialsBody { email, password, code } = body;
    let credentials = Credentials { email, password, code };
    let made = api.control.log_in(&person, &credentials).await?;
    // As the first request will see it.
    let visitor = api.control.visitor(&person, &made.token, None).await?;
    let view = visitor.map(|visitor| VisitorView::of(&api, visitor));
    let mut response = (StatusCode::CREATED, axum::Json(view)).into_response();
    web::set_session_cookie(&api.control, &mut response, &made.token);
    Ok(response)
}

/// Shows who is logged in.
#[utoipa::path(
    get, path = "/api/sessions/current",
    responses((status = 200, description = "Whose session it is", body = VisitorView)),
)]
pub(super) async fn current(Visiting(visitor): Visiting, State(api): State<Api>) -> Response {
    axum::Json(VisitorView::of(&api, visitor)).into_response()
}

/// Lists one's own sessions, newest first.
#[utoipa::path(
    get, path = "/api/sessions",
    responses((status = 200, description = "All of them", body = Listed<SessionView>)),
)]
pub(super) async fn list(Visiting(visitor): Visiting, State(api): State<Api>) -> Result<Response, Problem> {
    let sessions = api.control.sessions(&visitor).await?;
    let sessions: Vec<_> =
        sessions.into_iter().map(|session| SessionView::of(session, visitor.session.id)).collect();
    Ok(axum::Json(whole(sessions)).into_response())
}

/// Logs out.
///
/// Logs out.
#[utoipa::path(
    delete, path = "/api/sessions/current",
    responses((status = 204, description = "Logged out")),
)]
pub(super) async fn end_current(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
) -> Result<Response, Problem> {
    api.control.end_session(&person, &visitor, visitor.session.id).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    web::set_session_cookie(&api.control, &mut response, "");
    Ok(response)
}

/// Ends a session of one's own.
#[utoipa::path(
    delete, path = "/api/sessions/{session}",
    responses((status = 204, description = "Ended")),
)]
pub(super) async fn end(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
    SessionPath(session): SessionPath,
) -> Result<StatusCode, Problem> {
    api.control.end_session(&person, &visitor, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all sessions of a user.
///
/// All of somebody's, by the platform.
#[utoipa::path(
    delete, path = "/api/users/{user}/sessions",
    responses((status = 200, description = "Ended", body = EndedView)),
)]
pub(super) async fn end_of_user(
    Caller(principal): Caller,
    State(api): State<Api>,
    UserPath(user): UserPath,
) -> Result<Response, Problem> {
    let sessions = api.control.end_sessions(&principal, user).await?;
    Ok(axum::Json(EndedView { sessions }).into_response())
}

/// Changes one's own password, and ends the other sessions.
#[utoipa::path(
    put, path = "/api/sessions/password",
    request_body = PasswordChangeBody,
    responses((status = 204, description = "Changed"), (status = 429, description = "Too many attempts")),
)]
pub(super) async fn change_password(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
    Json(body): Json<PasswordChangeBody>,
) -> Result<StatusCode, Problem> {
    api.control.change_password(&person, &visitor, &body.password, &body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a secret for a device that makes codes, shown this once.
#[utoipa::path(
    post, path = "/api/sessions/second-factor",
    request_body = SecondFactorBody,
    responses(
        (status = 201, description = "Made", body = SecondFactorView),
        (status = 429, description = "Too many attempts"),
    ),
)]
pub(super) async fn new_second_factor(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
    Json(body): Json<SecondFactorBody>,
) -> Result<Response, Problem> {
    let made = api.control.new_second_factor(&person, &visitor, &body.password).await?;
    let NewSecondFactor { secret, url } = made;
    Ok((StatusCode::CREATED, axum::Json(SecondFactorView { secret, url })).into_response())
}

/// Asks for codes from now on; the recovery codes are shown this once.
#[utoipa::path(
    post, path = "/api/sessions/second-factor/confirm",
    request_body = CodeBody,
    responses(
        (status = 200, description = "Confirmed", body = RecoveryCodesView),
        (status = 429, description = "Too many attempts"),
    ),
)]
pub(super) async fn confirm_second_factor(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
    Json(body): Json<CodeBody>,
) -> Result<Response, Problem> {
    let recovery_codes = api.control.confirm_second_factor(&person, &visitor, &body.code).await?;
    Ok(axum::Json(RecoveryCodesView { recovery_codes }).into_response())
}

/// Asks for no codes any more.
#[utoipa::path(
    post, path = "/api/sessions/second-factor/remove",
    request_body = RemoveSecondFactorBody,
    responses((status = 204, description = "Removed"), (status = 429, description = "Too many attempts")),
)]
pub(super) async fn remove_second_factor(
    Passerby(person): Passerby,
    Visiting(visitor): Visiting,
    State(api): State<Api>,
    Json(body): Json<RemoveSecondFactorBody>,
) -> Result<StatusCode, Problem> {
    api.control.remove_second_factor(&person, &visitor, &body.password, &body.code).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl VisitorView ===

impl VisitorView {
    fn of(api: &Api, visitor: Visitor) -> VisitorView {
        let Visitor { session, user, memberships, rights, .. } = visitor;
        VisitorView {
            session_id: session.id,
            user_id: user.id,
            email: user.email,
            platform_role: user.platform_role,
            is_multi_factor: session.is_multi_factor,
            expires_at: session.expires_at,
            csrf_token: api.control.csrf_token(&session),
            memberships: memberships.into_iter().map(MembershipView::from).collect(),
            tenant_id: rights.tenant.filter(|_| !rights.is_nobodys()),
            permissions: rights.permissions.names(),
            lacks_second_factor: rights.lacks_second_factor,
        }
    }
}

// === impl MembershipView ===

impl From<Membership> for MembershipView {
    fn from(member: Membership) -> Self {
        MembershipView { tenant_id: member.tenant, role: member.role }
    }
}

// === impl SessionView ===

impl SessionView {
    fn of(session: Session, current: SessionId) -> SessionView {
        SessionView {
            session_id: session.id,
            is_current: session.id == current,
            is_multi_factor: session.is_multi_factor,
            ip: session.ip,
            user_agent: session.user_agent,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            expires_at: session.expires_at,
        }
    }
}
