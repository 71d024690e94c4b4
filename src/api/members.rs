//! `/api/tenants/{tenant}/members`, `…/invitations` and `…/roles`

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, InvitationPath, Json, Params, Passerby, RolePath, TenantPath, UserPath};
use super::openapi::Paged;
use super::router::Api;
use super::tenants::viewed;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::{CreatedInvitation, NewInvitation, RoleView};
use crate::domain::{Invitation, InvitationId, Membership, RoleName, TenantId, UserId};
use crate::store::Listed;

/// A member, as the API shows one.
#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberView {
    tenant_id: TenantId,
    user_id: UserId,
    email: String,
    #[schema(value_type = String)]
    role: RoleName,
    joined_at: Timestamp,
}

/// An invitation, as the API shows it: without its token.
#[derive(Serialize, ToSchema)]
#[schema(as = Invitation)]
struct InvitationView {
    invitation_id: InvitationId,
    tenant_id: TenantId,
    email: String,
    #[schema(value_type = String)]
    role: RoleName,
    invited_by: String,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// An invitation at the only moment when its token is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedInvitation)]
struct CreatedInvitationView {
    #[serde(flatten)]
    view: InvitationView,
    /// To be sent to `POST /api/invitations/accept` by whoever is invited.
    token: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TenantRole)]
struct RoleShown {
    #[schema(value_type = String)]
    role: RoleName,
    is_built_in: bool,
    #[schema(value_type = Vec<String>)]
    permissions: Vec<&'static str>,
}

/// The body of `POST …/members`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitationBody {
    #[schema(max_length = 254, format = "email", example = "ann@acme.example")]
    email: String,
    #[schema(example = "developer")]
    role: String,
    /// Seven days if nothing is said.
    #[schema(minimum = 60, maximum = 2_592_000)]
    valid_seconds: Option<u64>,
}

/// The body of `PATCH …/members/{user}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberChangeBody {
    role: String,
}

/// The body of `PUT …/roles/{role}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleBody {
    permissions: Vec<String>,
}

/// The body of `POST /api/invitations/accept`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptBody {
    token: String,
    /// A new one, or the one that its sender has already.
    #[schema(min_length = 12, max_length = 256)]
    password: String,
}

/// Lists the members of a tenant, in the order in which they joined.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/members",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<MemberView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    let listed = api.control.members(&principal, &tenant, &page).await?;
    Ok(axum::Json(viewed(listed, MemberView::from)).into_response())
}

/// Invites somebody; the token is shown this once.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/members",
    request_body = NewInvitationBody,
    responses((status = 201, description = "Invited", body = CreatedInvitationView)),
)]
pub(super) async fn invite(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<NewInvitationBody>,
) -> Result<Response, Problem> {
    let NewInvitationBody { email, role, valid_seconds } = body;
    let new = NewInvitation { email, role, valid_for: valid_seconds.map(Duration::from_secs) };
    let CreatedInvitation { invitation, token } = api.control.invite(&principal, &tenant, &new).await?;
    let body = CreatedInvitationView { view: invitation.into(), token };
    Ok((StatusCode::CREATED, axum::Json(body)).into_response())
}

/// Changes what a member is.
#[utoipa::path(
    patch, path = "/api/tenants/{tenant}/members/{user}",
    request_body = MemberChangeBody,
    responses((status = 200, description = "The member as they are now", body = MemberView)),
)]
pub(super) async fn change(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    UserPath(user): UserPath,
    Json(body): Json<MemberChangeBody>,
) -> Result<Response, Problem> {
    let changed = api.control.change_member(&principal, &tenant, user, &body.role).await?;
    Ok(axum::Json(MemberView::from(changed)).into_response())
}

/// Removes a member, who may be the caller.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/members/{user}",
    responses((status = 204, description = "Removed")),
)]
pub(super) async fn remove(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    UserPath(user): UserPath,
) -> Result<StatusCode, Problem> {
    api.control.remove_member(&principal, &tenant, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists invitations that nobody has accepted.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/invitations",
    responses((status = 200, description = "All of them", body = Listed<InvitationView>)),
)]
pub(super) async fn invitations(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let open = api.control.invitations(&principal, &tenant).await?;
    let open: Vec<_> = open.into_iter().map(InvitationView::from).collect();
    Ok(axum::Json(whole(open)).into_response())
}

/// Withdraws an invitation.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/invitations/{invitation}",
    responses((status = 204, description = "Withdrawn")),
)]
pub(super) async fn withdraw(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    InvitationPath(invitation): InvitationPath,
) -> Result<StatusCode, Problem> {
    api.control.withdraw_invitation(&principal, &tenant, invitation).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes whoever brings an invitation's token a member.
///
/// Asks for no credential: the token is one.
#[utoipa::path(
    post, path = "/api/invitations/accept",
    request_body = AcceptBody,
    responses(
        (status = 201, description = "Joined", body = MemberView),
        (status = 404, description = "A token that is none, or was used"),
        (status = 429, description = "Too many attempts"),
    ),
)]
pub(super) async fn accept(
    Passerby(person): Passerby,
    State(api): State<Api>,
    Json(body): Json<AcceptBody>,
) -> Result<Response, Problem> {
    let member = api.control.accept_invitation(&person, &body.token, &body.password).await?;
    Ok((StatusCode::CREATED, axum::Json(MemberView::from(member))).into_response())
}

/// Lists the roles that members can have.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/roles",
    responses((status = 200, description = "All of them", body = Listed<RoleShown>)),
)]
pub(super) async fn roles(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let roles = api.control.roles(&principal, &tenant).await?;
    let roles: Vec<_> = roles.into_iter().map(RoleShown::from).collect();
    Ok(axum::Json(whole(roles)).into_response())
}

/// Makes a role of the tenant's own, or makes it another set of permissions.
#[utoipa::path(
    put, path = "/api/tenants/{tenant}/roles/{role}",
    request_body = RoleBody,
    responses((status = 200, description = "The role as it is now", body = RoleShown)),
)]
pub(super) async fn set_role(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    RolePath(role): RolePath,
    Json(body): Json<RoleBody>,
) -> Result<Response, Problem> {
    let set = api.control.set_role(&principal, &tenant, &role, &body.permissions).await?;
    Ok(axum::Json(RoleShown::from(set)).into_response())
}

/// Removes a role of the tenant's own that nobody has.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/roles/{role}",
    responses((status = 204, description = "Removed")),
)]
pub(super) async fn remove_role(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    RolePath(role): RolePath,
) -> Result<StatusCode, Problem> {
    api.control.remove_role(&principal, &tenant, &role).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl MemberView ===

impl From<Membership> for MemberView {
    fn from(member: Membership) -> Self {
        MemberView {
            tenant_id: member.tenant,
            user_id: member.user,
            email: member.email,
            role: member.role,
            joined_at: member.created_at,
        }
    }
}

// === impl InvitationView ===

impl From<Invitation> for InvitationView {
    fn from(invitation: Invitation) -> Self {
        InvitationView {
            invitation_id: invitation.id,
            tenant_id: invitation.tenant,
            email: invitation.email,
            role: invitation.role,
            invited_by: invitation.invited_by,
            created_at: invitation.created_at,
            expires_at: invitation.expires_at,
        }
    }
}

// === impl RoleShown ===

impl From<RoleView> for RoleShown {
    fn from(role: RoleView) -> Self {
        let is_built_in = matches!(role.name, RoleName::BuiltIn(_));
        RoleShown { role: role.name, is_built_in, permissions: role.permissions.names() }
    }
}
