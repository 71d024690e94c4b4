//! `/api/users`: who can log in, and what they are to the platform itself.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, Params, Passerby, UserPath};
use super::openapi::Paged;
use super::router::Api;
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::control::UserWithToken;
use crate::domain::{Role, User, UserId};
use crate::store::Listed;

/// A user, as the API shows one.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
struct UserView {
    user_id: UserId,
    email: String,
    platform_role: Option<Role>,
    has_password: bool,
    is_multi_factor: bool,
    created_at: Timestamp,
}

/// The same with the token that sets a password once, at the only moment when it is shown.
#[derive(Serialize, ToSchema)]
#[schema(as = UserWithToken)]
struct UserWithTokenView {
    #[serde(flatten)]
    user: UserView,
    /// To be sent to `POST /api/users/password` by the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// The body of `PUT /api/users`: by their address, somebody who may not be known yet.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    #[schema(max_length = 254, format = "email")]
    email: String,
    /// `null`: none any more.
    platform_role: Option<Role>,
}

/// The body of `POST /api/users/password`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordBody {
    token: String,
    #[schema(min_length = 12, max_length = 256)]
    password: String,
}

/// Lists everybody who can log in, in the order of their coming.
#[utoipa::path(
    get, path = "/api/users",
    params(Paged),
    responses((status = 200, description = "One page", body = Listed<UserView>)),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.into_page()?;
    let listed = api.control.users(&principal, &page).await?;
    Ok(axum::Json(viewed(listed, UserView::from)).into_response())
}

/// Gives somebody a role at the platform, or takes it away.
#[utoipa::path(
    put, path = "/api/users",
    request_body = UserBody,
    responses((status = 200, description = "The user as they are now", body = UserWithTokenView)),
)]
pub(super) async fn set(
    Caller(principal): Caller,
    State(api): State<Api>,
    Json(body): Json<UserBody>,
) -> Result<Response, Problem> {
    let user = api.control.set_platform_role(&principal, &body.email, body.platform_role).await?;
    Ok(axum::Json(UserWithTokenView::from(user)).into_response())
}

/// Makes a token that sets a new password once, shown this once.
#[utoipa::path(
    post, path = "/api/users/{user}/reset-password",
    responses((status = 201, description = "Made", body = UserWithTokenView)),
)]
pub(super) async fn reset_password(
    Caller(principal): Caller,
    State(api): State<Api>,
    UserPath(user): UserPath,
) -> Result<Response, Problem> {
    let reset = api.control.reset_password(&principal, user).await?;
    Ok((StatusCode::CREATED, axum::Json(UserWithTokenView::from(reset))).into_response())
}

/// Sets the password of whoever's token it is.
///
/// Asks for no credential: the token is one.
#[utoipa::path(
    post, path = "/api/users/password",
    request_body = PasswordBody,
    responses(
        (status = 204, description = "Set"),
        (status = 404, description = "A token that is none, or was used"),
    ),
)]
pub(super) async fn set_password(
    Passerby(person): Passerby,
    State(api): State<Api>,
    Json(body): Json<PasswordBody>,
) -> Result<StatusCode, Problem> {
    api.control.set_password_by_token(&person, &body.token, &body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl UserWithTokenView ===

impl From<UserWithToken> for UserWithTokenView {
    fn from(UserWithToken { user, token }: UserWithToken) -> Self {
        UserWithTokenView { user: user.into(), token }
    }
}

// === impl UserView ===

impl From<User> for UserView {
    fn from(user: User) -> Self {
        UserView {
            user_id: user.id,
            email: user.email,
            platform_role: user.platform_role,
            has_password: user.has_password,
            is_multi_factor: user.is_multi_factor,
            created_at: user.created_at,
        }
    }
}
