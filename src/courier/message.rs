//! What receivers read: JSON for programs, a line for Slack, a page of text for mail.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::domain::{Alert, AlertId, AlertKind, Resource, Severity, Tenant, TenantId};

/// Text for a person, with its subject.
pub(super) struct Text {
    pub(super) subject: String,
    pub(super) body: String,
}

/// The body of a webhook. The same in every attempt, byte for byte.
#[derive(Serialize)]
struct Webhook<'a> {
    /// `alert.` and the kind.
    r#type: String,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    alert_id: AlertId,
    tenant_id: TenantId,
    kind: AlertKind,
    severity: Severity,
    resource_type: Option<Resource>,
    summary: &'a str,
    details: &'a Value,
}

pub(super) fn webhook(alert: &Alert) -> Vec<u8> {
    let data = Data {
        alert_id: alert.id,
        tenant_id: alert.tenant,
        kind: alert.kind,
        severity: alert.severity,
        resource_type: alert.resource,
        summary: &alert.summary,
        details: &alert.details,
    };
    let webhook = Webhook { r#type: format!("alert.{}", alert.kind.as_str()), timestamp: alert.at, data };
    // Text, numbers and JSON: nothing in it can't be written.
    serde_json::to_vec(&webhook).unwrap_or_default()
}

pub(super) fn slack(alert: &Alert, tenant: &Tenant) -> Vec<u8> {
    let sign = match alert.severity {
        Severity::Info => ":information_source:",
        Severity::Warning => ":warning:",
        Severity::Critical => ":rotating_light:",
    };
    let mut text = format!("{sign} *{}*: {}", escaped(&tenant.name), escaped(&alert.summary));
    if let Some(more) = message_text(alert) {
        text.push('\n');
        text.push_str(&escaped(more));
    }
    json!({ "text": text }).to_string().into_bytes()
}

/// What somebody wrote, for a person to read.
fn message_text(alert: &Alert) -> Option<&str> {
    alert.details["text"].as_str().filter(|_| alert.kind == AlertKind::Message)
}

/// What Slack reads as itself.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

pub(super) fn plain(alert: &Alert, tenant: &Tenant) -> Text {
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let subject = format!("[{}] {}: {}", alert.severity.as_str(), line(&tenant.name), line(&alert.summary));
    let details = match message_text(alert) {
        Some(text) => text.to_owned(),
        None => serde_json::to_string_pretty(&alert.details).unwrap_or_default(),
    };
    let body = format!(
        "{}\r\n\r\nTenant: {} ({})\r\nKind: {}\r\nAt: {}\r\nAlert: {}\r\n\r\n{}\r\n",
        alert.summary,
        line(&tenant.name),
        tenant.slug,
        alert.kind.as_str(),
        alert.at,
        alert.id,
        details.replace('\n', "\r\n")
    );
    Text { subject, body }
}
