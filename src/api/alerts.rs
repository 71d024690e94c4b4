//! `/api/tenants/{tenant}/alerts` and `…/alert-rules`

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::export::{self, Column, Formats};
use super::extract::{AlertPath, Caller, Json, Params, RulePath, TenantPath};
use super::openapi::{Paged, query};
use super::router::Api;
use super::tenants::viewed;
use super::tiers::whole;
use crate::clock::Timestamp;
use crate::control::{NewAlertRule, RuleInForce, RuleSource};
use crate::domain::{Alert, AlertId, AlertKind, AlertRule, Resource, RuleId, Severity, TenantId};
use crate::store::{AlertFilter, Listed};

/// Something that a tenant was told of.
#[derive(Serialize, ToSchema)]
#[schema(as = Alert)]
struct AlertView {
    alert_id: AlertId,
    tenant_id: TenantId,
    kind: AlertKind,
    severity: Severity,
    resource_type: Option<Resource>,
    summary: String,
    details: Value,
    at: Timestamp,
    acknowledged_at: Option<Timestamp>,
    acknowledged_by: Option<String>,
}

/// What a tenant is told of.
#[derive(Serialize, ToSchema)]
#[schema(as = AlertRule)]
struct RuleView {
    /// `null` of built-in rules: to turn one off, make a rule that says so.
    rule_id: Option<RuleId>,
    source: RuleSource,
    kind: AlertKind,
    resource_type: Option<Resource>,
    /// In percent of the limit.
    threshold: Option<u32>,
    enabled: bool,
}

/// The body of `POST …/alert-rules`.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewAlertRuleBody)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRuleBody {
    kind: AlertKind,
    resource_type: Option<Resource>,
    /// In percent of the limit.
    #[schema(minimum = 1, maximum = 1_000)]
    threshold: Option<u32>,
    #[serde(default = "yes")]
    enabled: bool,
}

/// The body of `PATCH …/alert-rules/{rule}`.
#[derive(Deserialize, ToSchema)]
#[schema(as = AlertRuleChangeBody)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleChangeBody {
    enabled: bool,
}

/// Which alerts.
enum AlertFilters {}

const COLUMNS: [Column; 9] = [
    ("alert_id", &["alert_id"]),
    ("tenant_id", &["tenant_id"]),
    ("kind", &["kind"]),
    ("severity", &["severity"]),
    ("resource_type", &["resource_type"]),
    ("summary", &["summary"]),
    ("at", &["at"]),
    ("acknowledged_at", &["acknowledged_at"]),
    ("acknowledged_by", &["acknowledged_by"]),
];

const fn yes() -> bool {
    true
}

/// Lists what a tenant was told of, the newest first; as JSON, NDJSON or CSV.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/alerts",
    params(AlertFilters, Paged, Formats),
    responses((status = 200, description = "One page", body = Listed<AlertView>, headers(("X-Next-Cursor" = String)))),
)]
pub(super) async fn list(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let kinds = AlertKind::ALL.map(AlertKind::as_str).join(", ");
    let filter = AlertFilter {
        kind: params.read("kind", &format!("one of {kinds}"), AlertKind::parse),
        severity: params.read("severity", "info, warning or critical", Severity::parse),
        acknowledged: params.read("acknowledged", "true or false", |text| text.parse().ok()),
        from: params.instant("from"),
        to: params.instant("to"),
    };
    let (page, form) = export::page(params, &headers)?;
    let listed = api.control.alerts(&principal, &tenant, &filter, &page).await?;
    Ok(export::listed(form, viewed(listed, AlertView::from), &COLUMNS))
}

/// Shows an alert.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/alerts/{alert}",
    responses((status = 200, description = "The alert", body = AlertView)),
)]
pub(super) async fn show(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    AlertPath(id): AlertPath,
) -> Result<Response, Problem> {
    let alert = api.control.alert(&principal, &tenant, id).await?;
    Ok(axum::Json(AlertView::from(alert)).into_response())
}

/// Notes that an alert was seen; who was first stays.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/alerts/{alert}/acknowledge",
    responses((status = 200, description = "The alert as it is now", body = AlertView)),
)]
pub(super) async fn acknowledge(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    AlertPath(id): AlertPath,
) -> Result<Response, Problem> {
    let alert = api.control.acknowledge_alert(&principal, &tenant, id).await?;
    Ok(axum::Json(AlertView::from(alert)).into_response())
}

/// Lists what a tenant is told of: the built-in rules and its own.
#[utoipa::path(
    get, path = "/api/tenants/{tenant}/alert-rules",
    responses((status = 200, description = "All of them", body = Listed<RuleView>)),
)]
pub(super) async fn rules(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
) -> Result<Response, Problem> {
    let rules = api.control.alert_rules(&principal, &tenant).await?;
    let views: Vec<RuleView> = rules.into_iter().map(RuleView::from).collect();
    Ok(axum::Json(whole(views)).into_response())
}

/// Adds a threshold of a tenant's own, or turns off what it does not want to hear of.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/alert-rules",
    request_body = NewRuleBody,
    responses((status = 201, description = "Made", body = RuleView)),
)]
pub(super) async fn create_rule(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<NewRuleBody>,
) -> Result<Response, Problem> {
    let NewRuleBody { kind, resource_type, threshold, enabled } = body;
    let new = NewAlertRule { kind, resource: resource_type, threshold, enabled };
    let rule = api.control.create_alert_rule(&principal, &tenant, new).await?;
    let location = [(header::LOCATION, format!("/api/tenants/{}/alert-rules/{}", rule.tenant, rule.id))];
    Ok((StatusCode::CREATED, location, axum::Json(RuleView::from(rule))).into_response())
}

/// Turns a rule on or off.
#[utoipa::path(
    patch, path = "/api/tenants/{tenant}/alert-rules/{rule}",
    request_body = RuleChangeBody,
    responses((status = 200, description = "The rule as it is now", body = RuleView)),
)]
pub(super) async fn change_rule(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    RulePath(id): RulePath,
    Json(body): Json<RuleChangeBody>,
) -> Result<Response, Problem> {
    let rule = api.control.change_alert_rule(&principal, &tenant, id, body.enabled).await?;
    Ok(axum::Json(RuleView::from(rule)).into_response())
}

/// Forgets a rule of a tenant's own.
#[utoipa::path(
    delete, path = "/api/tenants/{tenant}/alert-rules/{rule}",
    responses((status = 204, description = "Forgotten")),
)]
pub(super) async fn remove_rule(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    RulePath(id): RulePath,
) -> Result<StatusCode, Problem> {
    api.control.remove_alert_rule(&principal, &tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl AlertFilters ===

impl utoipa::IntoParams for AlertFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            query::<AlertKind>("kind", "Only of this kind"),
            query::<Severity>("severity", "Only of this severity"),
            query::<bool>("acknowledged", "Only those that somebody has acknowledged, or that nobody has"),
            query::<Timestamp>("from", "From this instant on"),
            query::<Timestamp>("to", "Before this instant"),
        ]
    }
}

// === impl AlertView ===

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        AlertView {
            alert_id: alert.id,
            tenant_id: alert.tenant,
            kind: alert.kind,
            severity: alert.severity,
            resource_type: alert.resource,
            summary: alert.summary,
            details: alert.details,
            at: alert.at,
            acknowledged_at: alert.acknowledged_at,
            acknowledged_by: alert.acknowledged_by,
        }
    }
}

// === impl RuleView ===

impl From<AlertRule> for RuleView {
    fn from(rule: AlertRule) -> Self {
        RuleView {
            rule_id: Some(rule.id),
            source: RuleSource::Tenant,
            kind: rule.kind,
            resource_type: rule.resource,
            threshold: rule.threshold,
            enabled: rule.enabled,
        }
    }
}

impl From<RuleInForce> for RuleView {
    fn from(rule: RuleInForce) -> Self {
        match rule {
            RuleInForce::Own(rule) => rule.into(),
            RuleInForce::BuiltIn { kind, threshold, enabled } => RuleView {
                rule_id: None,
                source: RuleSource::BuiltIn,
                kind,
                resource_type: None,
                threshold,
                enabled,
            },
        }
    }
}
