//! The API through its door: the real router over a real SQLite file, one claim per test.

mod analytics;
mod archives;
mod audit;
mod channels;
mod errors;
mod health;
mod idempotency;
mod invoices;
mod isolation;
mod keys;
mod lists;
mod members;
mod openapi;
mod quotas;
mod sessions;
mod tenants;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;
use tower::ServiceExt;
use uuid::Uuid;

use super::local::LocalToken;
use crate::clock::TestClock;
use crate::control::{Attesting, CheckpointFile, Control, SessionSettings};
use crate::secret::ed25519::SigningKey;
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::testing::{Kept, TestStore};

/// Every address that names a tenant `{t}` or a key `{k}` of it, with a body where one belongs.
pub(super) const OF_A_TENANT: [(&str, Option<&str>); 67] = [
    ("GET /api/tenants/{t}", None),
    ("PUT /api/tenants/{t}", Some(r#"{"organization_name":"Mine"}"#)),
    ("PATCH /api/tenants/{t}", Some(r#"{"tenant_tier":"msp"}"#)),
    ("DELETE /api/tenants/{t}", None),
    ("POST /api/tenants/{t}/status/active", None),
    ("GET /api/tenants/{t}/health", None),
    ("GET /api/tenants/{t}/children", None),
    ("GET /api/tenants/{t}/quotas", None),
    ("GET /api/tenants/{t}/recommendation", None),
    ("PUT /api/tenants/{t}/quotas/api_calls", Some(r#"{"limit":null}"#)),
    ("DELETE /api/tenants/{t}/quotas/api_calls", None),
    ("POST /api/tenants/{t}/quotas/check", Some(r#"{"resource_type":"api_calls","amount":1}"#)),
    ("POST /api/tenants/{t}/quotas/reserve", Some(r#"{"resource_type":"api_calls","amount":1}"#)),
    (
        "POST /api/tenants/{t}/quotas/commit",
        Some(r#"{"reservation_id":"00000000-0000-7000-8000-000000000000"}"#),
    ),
    (
        "POST /api/tenants/{t}/quotas/release",
        Some(r#"{"reservation_id":"00000000-0000-7000-8000-000000000000"}"#),
    ),
    ("POST /api/tenants/{t}/usage/increment", Some(r#"{"resource_type":"api_calls","amount":1}"#)),
    ("POST /api/tenants/{t}/usage/increment/batch", Some(r#"{"events":[{"resource_type":"api_calls"}]}"#)),
    ("GET /api/tenants/{t}/keys", None),
    ("POST /api/tenants/{t}/keys", Some(r#"{"name":"mine"}"#)),
    ("POST /api/tenants/{t}/keys/{k}/revoke", None),
    ("DELETE /api/tenants/{t}/keys/{k}", None),
    ("POST /api/keys/{k}/revoke", None),
    ("GET /api/tenants/{t}/members", None),
    ("POST /api/tenants/{t}/members", Some(r#"{"email":"me@example.com","role":"viewer"}"#)),
    ("PATCH /api/tenants/{t}/members/00000000-0000-7000-8000-000000000000", Some(r#"{"role":"viewer"}"#)),
    ("DELETE /api/tenants/{t}/members/00000000-0000-7000-8000-000000000000", None),
    ("GET /api/tenants/{t}/invitations", None),
    ("DELETE /api/tenants/{t}/invitations/00000000-0000-7000-8000-000000000000", None),
    ("GET /api/tenants/{t}/roles", None),
    ("PUT /api/tenants/{t}/roles/on-call", Some(r#"{"permissions":[]}"#)),
    ("DELETE /api/tenants/{t}/roles/on-call", None),
    ("GET /api/tenants/{t}/settings", None),
    ("GET /api/tenants/{t}/settings/security_level", None),
    ("PUT /api/tenants/{t}/settings/security_level", Some(r#"{"setting_value":"basic"}"#)),
    ("DELETE /api/tenants/{t}/settings/security_level", None),
    ("GET /api/tenants/{t}/analytics?resource_type=api_calls", None),
    ("GET /api/tenants/{t}/analytics/forecast", None),
    ("GET /api/tenants/{t}/alerts", None),
    ("GET /api/tenants/{t}/alerts/00000000-0000-7000-8000-000000000000", None),
    ("POST /api/tenants/{t}/alerts/00000000-0000-7000-8000-000000000000/acknowledge", None),
    ("GET /api/tenants/{t}/alert-rules", None),
    ("POST /api/tenants/{t}/alert-rules", Some(r#"{"kind":"quota","threshold":50}"#)),
    ("PATCH /api/tenants/{t}/alert-rules/00000000-0000-7000-8000-000000000000", Some(r#"{"enabled":false}"#)),
    ("DELETE /api/tenants/{t}/alert-rules/00000000-0000-7000-8000-000000000000", None),
    ("GET /api/tenants/{t}/channels", None),
    (
        "POST /api/tenants/{t}/channels",
        Some(r#"{"name":"mine","kind":"webhook","target":"https://example.com/"}"#),
    ),
    ("GET /api/tenants/{t}/channels/00000000-0000-7000-8000-000000000000", None),
    ("PATCH /api/tenants/{t}/channels/00000000-0000-7000-8000-000000000000", Some("{}")),
    ("DELETE /api/tenants/{t}/channels/00000000-0000-7000-8000-000000000000", None),
    ("POST /api/tenants/{t}/channels/00000000-0000-7000-8000-000000000000/rotate", None),
    ("POST /api/tenants/{t}/channels/00000000-0000-7000-8000-000000000000/test", None),
    ("GET /api/tenants/{t}/deliveries", None),
    ("POST /api/tenants/{t}/deliveries/00000000-0000-7000-8000-000000000000/resend", None),
    ("GET /api/tenants/{t}/subscription", None),
    ("POST /api/tenants/{t}/subscription/preview", Some(r#"{"tenant_tier":"pro"}"#)),
    ("GET /api/tenants/{t}/invoices", None),
    ("GET /api/tenants/{t}/invoices/draft", None),
    ("POST /api/tenants/{t}/invoices/finalize", None),
    ("GET /api/tenants/{t}/invoices/00000000-0000-7000-8000-000000000000", None),
    ("GET /api/tenants/{t}/invoices/00000000-0000-7000-8000-000000000000/verify", None),
    (
        "POST /api/tenants/{t}/invoices/00000000-0000-7000-8000-000000000000/void",
        Some(r#"{"reason":"mine"}"#),
    ),
    ("POST /api/tenants/{t}/invoices/00000000-0000-7000-8000-000000000000/paid", None),
    ("POST /api/tenants/{t}/erase", None),
    ("POST /api/tenants/{t}/export", Some(r#"{"passphrase":"correct horse"}"#)),
    ("GET /api/tenants/{t}/usage-logs", None),
    ("GET /api/tenants/{t}/audit-logs", None),
    ("GET /api/tenants/{t}/audit-logs/verify", None),
];

/// An API on a directory of its own, entered as the local administrator.
pub(super) struct TestApi {
    router: Router,
    token: LocalToken,
    pub(super) control: Control,
    pub(super) clock: TestClock,
    pub(super) store: TestStore,
    /// What attests its audit log.
    _attesting: TempDir,
}

/// A request to be sent.
pub(super) struct Call<'a> {
    api: &'a TestApi,
    request: axum::http::request::Builder,
    body: Body,
}

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl TestApi {
    pub(super) async fn new() -> Self {
        TestApi::on(TestStore::sqlite().await)
    }

    pub(super) fn on(store: TestStore) -> Self {
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let pepper = Pepper::new(1, &[7; 32]);
        let ring = KeyRing::parse([(1, "07".repeat(32).as_str())]).unwrap();
        let attesting = tempfile::tempdir().unwrap();
        let control =
            Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), Arc::new(Notify::new()));
        let control = control.with_secrets(ring).with_attesting(Attesting {
            key: SigningKey::load_or_create(&attesting.path().join("audit.key")).unwrap(),
            trusted: Vec::new(),
            file: CheckpointFile::new(attesting.path().join("checkpoints.ndjson")),
            kept_for: Duration::from_secs(180),
            retention: Duration::from_secs(86_400 * 730),
            holder: Uuid::nil(),
        });
        let token = LocalToken::draw().unwrap();
        let router = super::router(control.clone(), token.clone(), Arc::new(clock.clone()));
        TestApi { router, token, control, clock, store, _attesting: attesting }
    }

    /// The same with other sessions.
    pub(super) fn with_sessions(&mut self, settings: SessionSettings) {
        self.control = self.control.clone().with_sessions(settings);
        let clock = Arc::new(self.clock.clone());
        self.router = super::router(self.control.clone(), self.token.clone(), clock);
    }

    /// Where its database is, on SQLite.
    pub(super) fn data(&self) -> &std::path::Path {
        let Kept::Directory(directory) = &self.store.kept else { panic!("Postgres has no directory") };
        directory.path()
    }

    /// A request of the local administrator; `line` is `METHOD /path`.
    pub(super) fn call(&self, line: &str) -> Call<'_> {
        self.anonymous(line).bearer(self.token.as_str())
    }

    pub(super) fn anonymous(&self, line: &str) -> Call<'_> {
        let (method, path) = line.split_once(' ').unwrap();
        Call { api: self, request: Request::builder().method(method).uri(path), body: Body::empty() }
    }

    /// A tenant of that name in the free tier.
    pub(super) async fn tenant(&self, name: &str) -> Value {
        let body = serde_json::json!({ "organization_name": name, "tenant_tier": "free" });
        self.call("POST /api/tenants").json(&body).await.expect(StatusCode::CREATED).body
    }

    /// The text of a new key of that tenant.
    pub(super) async fn key(&self, tenant: &str, scopes: &[&str]) -> String {
        let body = serde_json::json!({ "name": "admin", "scopes": scopes });
        let reply = self.call(&format!("POST /api/tenants/{tenant}/keys")).json(&body).await;
        reply.expect(StatusCode::CREATED).body["key"].as_str().unwrap().to_owned()
    }
}

impl Call<'_> {
    pub(super) fn bearer(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(super) async fn json(self, body: &Value) -> Reply {
        self.text(&body.to_string()).await
    }

    pub(super) async fn text(self, body: &str) -> Reply {
        self.with(body).send().await
    }

    /// The request with that body.
    pub(super) fn with(self, body: &str) -> Self {
        let call = self.header(header::CONTENT_TYPE.as_str(), "application/json");
        Call { body: Body::from(body.to_owned()), ..call }
    }

    /// The answer's header lines and its body, which is no JSON.
    pub(super) async fn text_of(self) -> (HeaderMap, String) {
        let (headers, bytes) = self.bytes_of().await;
        (headers, String::from_utf8(bytes).unwrap())
    }

    /// The same of one that is no text.
    pub(super) async fn bytes_of(self) -> (HeaderMap, Vec<u8>) {
        let response = self.api.router.clone().oneshot(self.request.body(self.body).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.headers, bytes.to_vec())
    }

    pub(super) async fn send(self) -> Reply {
        let response = self.api.router.clone().oneshot(self.request.body(self.body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        assert!(parts.headers.contains_key("x-request-id"), "every answer has an id");
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

impl Reply {
    #[track_caller]
    pub(super) fn expect(self, status: StatusCode) -> Self {
        assert_eq!(self.status, status, "{:#}", self.body);
        self
    }

    /// A refusal with that status and the last part of that `type`.
    #[track_caller]
    pub(super) fn refused(self, status: StatusCode, slug: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.body["type"], format!("/problems/{slug}"), "{:#}", reply.body);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        reply
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The fields that a 422 names.
    pub(super) fn fields(&self) -> Vec<&str> {
        let faults = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect()
    }
}
