//! `/api/tenants/{tenant}/audit-logs`, and `/api/audit-logs` of the platform itself.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::error::Problem;
use super::export::{self, Column, Formats};
use super::extract::{Caller, Json, Params, TenantPath};
use super::openapi::{Paged, query, query_id};
use super::router::Api;
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::control::{Principal, TenantRef, VerifiedChain};
use crate::domain::{Actor, ActorKind, AuditOutcome, TenantId};
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Listed};

/// Who did what, with its place in the chain: a gap in `seq`, or a `prev_hash` that is not the `hash` before, is
/// tampering.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRow)]
struct AuditView {
    seq: i64,
    at: Timestamp,
    tenant_id: Option<TenantId>,
    actor: Actor,
    action: String,
    target: Target,
    outcome: AuditOutcome,
    before: Option<Value>,
    after: Option<Value>,
    reason: Option<String>,
    /// The `x-request-id` of the request that did it.
    request_id: Uuid,
    prev_hash: String,
    hash: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuditTarget)]
struct Target {
    kind: String,
    id: String,
}

/// The body of `POST /api/audit-logs/verify`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointsBody {
    /// Lines of a checkpoint file.
    checkpoints: Vec<SignedCheckpoint>,
}

/// What became of many chains.
#[derive(Serialize, ToSchema)]
#[schema(as = ChainsVerification)]
struct ChainsView {
    /// `broken` if one of them is, else `whole`.
    verdict: &'static str,
    chains: Vec<VerifiedChain>,
}

/// What became of a chain, and the place to write down for the next time.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditVerification)]
struct VerdictView {
    #[serde(flatten)]
    verdict: AuditVerdict,
    checkpoint: Checkpoint,
}

/// The filters of the log.
pub(super) enum AuditFilters {}

const COLUMNS: [Column; 15] = [
    ("seq", &["seq"]),
    ("at", &["at"]),
    ("tenant_id", &["tenant_id"]),
    ("actor_kind", &["actor", "kind"]),
    ("actor_id", &["actor", "id"]),
    ("actor_name", &["actor", "name"]),
    ("actor_ip", &["actor", "ip"]),
    ("action", &["action"]),
    ("target_kind", &["target", "kind"]),
    ("target_id", &["target", "id"]),
    ("outcome", &["outcome"]),
    ("reason", &["reason"]),
    ("before", &["before"]),
    ("after", &["after"]),
    ("hash", &["hash"]),
];

/// Lists who did what to a tenant, the newest first; as JSON, NDJSON or CSV.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/audit-logs",
    params(AuditFilters, Paged, Formats),
    responses(
        (
            status = 200,
            description = "One page",
            body = Listed<AuditView>,
            headers(("X-Next-Cursor" = String)),
        ),
    ),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let filter = filter(&mut params);
    let (page, form) = export::page(params, &headers)?;
    let listed = api.control.audit_logs(&principal, &tenant, &filter, &page).await?;
    Ok(export::listed(form, viewed(listed, AuditView::from), &COLUMNS))
}

/// What concerns no single tenant.
#[utoipa::path(
    get, path = "/api/audit-logs",
    params(AuditFilters, Paged, Formats),
    responses(
        (
            status = 200,
            description = "One page",
            body = Listed<AuditView>,
            headers(("X-Next-Cursor" = String)),
        ),
    ),
)]
pub(super) async fn list_of_platform(
    Caller(principal): Caller,
    State(api): State<Api>,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let filter = filter(&mut params);
    let (page, form) = export::page(params, &headers)?;
    let listed = api.control.platform_audit_logs(&principal, &filter, &page).await?;
    Ok(export::listed(form, viewed(listed, AuditView::from), &COLUMNS))
}

/// Verifies the chain of a tenant's audit log.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/audit-logs/verify",
    params(("checkpoint" = Option<String>, Query, description = "SEQ:HASH, as a verification answered it")),
    responses((status = 200, description = "What became of the chain", body = VerdictView)),
)]
pub(super) async fn verify(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    params: Params,
) -> Result<Response, Problem> {
    verified(&api, &principal, Some(&tenant), params).await
}

/// Verifies the chain of the platform's own audit log.
#[utoipa::path(
    get, path = "/api/audit-logs/verify",
    params(("checkpoint" = Option<String>, Query, description = "SEQ:HASH, as a verification answered it")),
    responses((status = 200, description = "What became of the chain", body = VerdictView)),
)]
pub(super) async fn verify_platform(
    Caller(principal): Caller,
    State(api): State<Api>,
    params: Params,
) -> Result<Response, Problem> {
    verified(&api, &principal, None, params).await
}

async fn verified(
    api: &Api,
    principal: &Principal,
    tenant: Option<&TenantRef>,
    mut params: Params,
) -> Result<Response, Problem> {
    let checkpoint = params.read("checkpoint", "SEQ:HASH, as a verification answers it", Checkpoint::parse);
    params.finish()?;
    let (verdict, checkpoint) = api.control.verify_audit(principal, tenant, checkpoint.as_ref()).await?;
    Ok(axum::Json(VerdictView { verdict, checkpoint }).into_response())
}

/// All logs that one of the checkpoints is of, each held against its newest.
#[utoipa::path(
    post, path = "/api/audit-logs/verify",
    request_body = CheckpointsBody,
    responses((status = 200, description = "What became of the chains", body = ChainsView)),
)]
pub(super) async fn verify_chains(
    Caller(principal): Caller,
    State(api): State<Api>,
    Json(body): Json<CheckpointsBody>,
) -> Result<Response, Problem> {
    let chains = api.control.verify_chains(&principal, body.checkpoints).await?;
    let is_broken = chains.iter().any(|chain| matches!(chain.verdict, AuditVerdict::Broken { .. }));
    let verdict = if is_broken { "broken" } else { "whole" };
    Ok(axum::Json(ChainsView { verdict, chains }).into_response())
}

fn filter(params: &mut Params) -> AuditFilter {
    let id = "an id";
    AuditFilter {
        actor_kind: params.read("actor_kind", "a kind of actor, like user or api_key", ActorKind::parse),
        actor_id: params.read("actor_id", id, |text| Uuid::try_parse(text).ok()),
        action: params.text("action"),
        target_kind: params.text("target_kind"),
        target_id: params.text("target_id"),
        outcome: params.read("outcome", "done or denied", AuditOutcome::parse),
        correlation: params.read("request_id", id, |text| Uuid::try_parse(text).ok()),
        from: params.instant("from"),
        to: params.instant("to"),
    }
}

// === impl AuditFilters ===

impl utoipa::IntoParams for AuditFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<ActorKind>("actor_kind", "Who acted, by kind"),
            query_id("actor_id", "Who acted, by id"),
            query::<String>("action", "What was done, as `noun.verb`"),
            query::<String>("target_kind", "What it was done to, by kind"),
            query::<String>("target_id", "What it was done to, by id"),
            query::<AuditOutcome>("outcome", "Whether it was done or denied"),
            query_id("request_id", "All that one request did"),
            query::<Timestamp>("from", "From this instant on"),
            query::<Timestamp>("to", "Before this instant"),
        ]
    }
}

// === impl AuditView ===

impl From<AuditEntry> for AuditView {
    fn from(AuditEntry { seq, row, prev_hash, hash }: AuditEntry) -> Self {
        AuditView {
            seq,
            at: row.at,
            tenant_id: row.tenant,
            actor: row.actor,
            action: row.action,
            target: Target { kind: row.target_kind, id: row.target_id },
            outcome: row.outcome,
            before: row.before,
            after: row.after,
            reason: row.reason,
            request_id: row.correlation,
            prev_hash,
            hash,
        }
    }
}
