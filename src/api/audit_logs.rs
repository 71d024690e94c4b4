//! `/api/tenants/{tenant}/audit-logs`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::error::Problem;
use super::extract::{Caller, Params, TenantPath};
use super::router::Api;
use super::tenants::viewed;
use crate::clock::Timestamp;
use crate::domain::{Actor, AuditOutcome, TenantId};
use crate::store::AuditEntry;

/// Who did what, with its place in the chain: a gap in `seq`, or a `prev_hash` that is not the `hash` before, is
/// tampering.
#[derive(Serialize)]
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

#[derive(Serialize)]
struct Target {
    kind: String,
    id: String,
}

pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    mut params: Params,
) -> Result<Response, Problem> {
    let page = params.page();
    params.finish()?;
    let listed = api.control.audit_logs(&principal, &tenant, &page).await?;
    Ok(axum::Json(viewed(listed, AuditView::from)).into_response())
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
