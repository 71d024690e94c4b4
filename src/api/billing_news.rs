//! `/api/billing/stripe/events`: what Stripe tells.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Problem, ProblemKind};
use super::extract::Whole;
use super::router::Api;
use crate::control::{ControlError, Heard};
use crate::secret::stripe::BadStripeSignature;

/// What became of a message.
#[derive(Serialize, ToSchema)]
#[schema(as = HeardNews)]
struct HeardView {
    outcome: Heard,
}

const STRIPE_SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
/// Stripe's largest events are a fraction of it.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Heeds a message of Stripe's, which signs it.
///
/// A message is heeded once, however often it comes; of which order they come in nothing depends, since Stripe is asked
/// how things stand. What can't be heeded now is refused with 503, and Stripe sends it again.
#[utoipa::path(
    post, path = "/api/billing/stripe/events",
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`: Stripe's signature of the body")),
    request_body(content = serde_json::Value, description = "An event of Stripe's"),
    responses(
        (status = 200, description = "Heard", body = HeardView),
        (status = 404, description = "No secret of Stripe's messages is configured"),
    ),
)]
pub(super) async fn hear(
    State(api): State<Api>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::new(ProblemKind::TooLarge, "the body is above 256 KiB"));
    }
    let signature = headers.get(STRIPE_SIGNATURE).and_then(|value| value.to_str().ok());
    let signature = signature.ok_or(ControlError::Unbelievable(BadStripeSignature::Malformed))?;
    let outcome = api.control.hear_stripe(signature, &body).await?;
    Ok(axum::Json(HeardView { outcome }).into_response())
}
