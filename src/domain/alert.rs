//! What tenants are told in time: events, the rules that make them, and where they are brought.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Resource, TenantId};
use crate::clock::Timestamp;

/// Identifies an alert. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct AlertId(pub Uuid);

/// Identifies a rule. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct RuleId(pub Uuid);

/// Identifies a channel. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ChannelId(pub Uuid);

/// Identifies a delivery; its receiver knows it as `webhook-id`, the same in every attempt. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct DeliveryId(pub Uuid);

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// So much of a quota is used.
    Quota,
    /// The tenant's health has changed, and has stayed so.
    Health,
    /// Somebody asked for what is not theirs, again and again.
    Probing,
    /// A key, a member or a role may do more than before.
    Escalation,
    /// Far more requests than is usual.
    Surge,
    /// A key is used from where it never was.
    Network,
    /// Many keys that don't work, from one network.
    BadKeys,
    /// The audit log is not what was written.
    AuditChain,
    /// A payment has failed, or what is owed comes near to what the tenant means to spend.
    Billing,
    /// Written by the platform's people to many tenants.
    Message,
    /// Sent by hand, to see a channel work.
    Test,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// One row of `alert_events`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Alert {
    pub id: AlertId,
    pub tenant: TenantId,
    pub kind: AlertKind,
    pub severity: Severity,
    pub resource: Option<Resource>,
    /// One sentence for a person.
    pub summary: String,
    /// The same for a program; its members depend on the kind.
    pub details: serde_json::Value,
    pub at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
}

/// One row of `alert_rules`: a threshold of the tenant's own, or a built-in one or a kind that it does not want to
/// hear of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlertRule {
    pub id: RuleId,
    pub tenant: TenantId,
    pub kind: AlertKind,
    /// Of quotas; `None` is all.
    pub resource: Option<Resource>,
    /// Of quotas: from so many percent of the limit on.
    pub threshold: Option<u32>,
    /// False: nothing is told of this.
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How a channel is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// POST of JSON, signed as Standard Webhooks says.
    Webhook,
    /// An incoming webhook of Slack, or of what understands its messages.
    Slack,
    Email,
}

/// One row of `notification_channels`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel {
    pub id: ChannelId,
    pub tenant: TenantId,
    pub name: String,
    pub kind: ChannelKind,
    /// A URL or an e-mail address. Of a URL that is a secret itself (Slack's), only its beginning.
    pub target: String,
    /// What is brought there; empty is everything.
    pub kinds: Vec<AlertKind>,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One row of `outbox`: an alert on its way to a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub id: DeliveryId,
    pub tenant: TenantId,
    pub alert: AlertId,
    pub channel: ChannelId,
    pub state: DeliveryState,
    /// Attempts that have begun.
    pub attempts: u32,
    /// When the next attempt is due; while one is under way, when it is given up for lost.
    pub next_at: Timestamp,
    /// What became of the last attempt that failed.
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// All attempts have failed; somebody may have it sent again.
    Dead,
}

// === impl AlertId, RuleId, ChannelId, DeliveryId ===

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl AlertKind ===

impl AlertKind {
    pub const ALL: [AlertKind; 11] = [
        AlertKind::Quota,
        AlertKind::Health,
        AlertKind::Probing,
        AlertKind::Escalation,
        AlertKind::Surge,
        AlertKind::Network,
        AlertKind::BadKeys,
        AlertKind::AuditChain,
        AlertKind::Billing,
        AlertKind::Message,
        AlertKind::Test,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            AlertKind::Quota => "quota",
            AlertKind::Health => "health",
            AlertKind::Probing => "probing",
            AlertKind::Escalation => "escalation",
            AlertKind::Surge => "surge",
            AlertKind::Network => "network",
            AlertKind::BadKeys => "bad_keys",
            AlertKind::AuditChain => "audit_chain",
            AlertKind::Billing => "billing",
            AlertKind::Message => "message",
            AlertKind::Test => "test",
        }
    }

    /// Whether it is found by watching, and not sent by somebody.
    pub const fn is_watched(self) -> bool {
        !matches!(self, AlertKind::Message | AlertKind::Test)
    }

    pub fn parse(text: &str) -> Option<Self> {
        AlertKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl Severity ===

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Severity::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

// === impl AlertRule ===

impl AlertRule {
    /// From which percents on something is told of the resource's quotas: the built-in ones, as far as the tenant has
    /// not turned them off, and its own. What is said of one resource goes before what is said of all.
    pub fn thresholds(built_in: &[u32], rules: &[AlertRule], resource: Resource) -> BTreeSet<u32> {
        let mut thresholds: BTreeSet<u32> = built_in.iter().copied().collect();
        let of = |of: Option<Resource>| rules.iter().filter(move |rule| rule.resource == of);
        for rule in of(None).chain(of(Some(resource))) {
            match rule.threshold {
                Some(percent) if rule.enabled => _ = thresholds.insert(percent),
                Some(percent) => _ = thresholds.remove(&percent),
                None => {}
            }
        }
        thresholds
    }

    /// Whether the tenant does not want to hear of that kind. Of quotas its thresholds tell.
    pub fn silences(rules: &[AlertRule], kind: AlertKind) -> bool {
        kind != AlertKind::Quota && rules.iter().any(|rule| rule.kind == kind && !rule.enabled)
    }
}

// === impl ChannelKind ===

impl ChannelKind {
    pub const ALL: [ChannelKind; 3] = [ChannelKind::Webhook, ChannelKind::Slack, ChannelKind::Email];

    pub const fn as_str(self) -> &'static str {
        match self {
            ChannelKind::Webhook => "webhook",
            ChannelKind::Slack => "slack",
            ChannelKind::Email => "email",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        ChannelKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl ChannelId ===

impl ChannelId {
    /// What the channel's secrets are sealed as: no setting has such a name.
    pub fn secret_name(self) -> String {
        format!("channel:{self}")
    }
}

// === impl Channel ===

impl Channel {
    /// Whether an alert of that kind is brought there. One that somebody sends by hand always is.
    pub fn takes(&self, kind: AlertKind) -> bool {
        self.enabled && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }
}

// === impl DeliveryState ===

impl DeliveryState {
    pub const ALL: [DeliveryState; 3] =
        [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Dead];

    pub const fn as_str(self) -> &'static str {
        match self {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        DeliveryState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{AlertKind, AlertRule, RuleId};
    use crate::clock::Timestamp;
    use crate::domain::TenantId;

    fn rule(resource: Option<&str>, threshold: u32, enabled: bool) -> AlertRule {
        let (tenant, at) = (TenantId(Uuid::nil()), Timestamp::default());
        AlertRule {
            id: RuleId(Uuid::nil()),
            tenant,
            kind: AlertKind::Quota,
            resource: resource.map(|name| name.parse().unwrap()),
            threshold: Some(threshold),
            enabled,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn what_is_said_of_one_resource_goes_before_what_is_said_of_all() {
        let rules = [rule(Some("api_calls"), 95, true), rule(None, 95, false), rule(None, 50, true)];
        let of = |resource: &str| {
            let thresholds = AlertRule::thresholds(&[80, 95, 100], &rules, resource.parse().unwrap());
            thresholds.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of("api_calls"), [50, 80, 95, 100]);
        assert_eq!(of("alerts"), [50, 80, 100]);
    }

    #[test]
    fn a_kind_is_silenced_by_a_rule_that_is_off() {
        let health =
            |enabled| AlertRule { kind: AlertKind::Health, threshold: None, ..rule(None, 1, enabled) };
        assert!(AlertRule::silences(&[health(false)], AlertKind::Health));
        assert!(!AlertRule::silences(&[health(true)], AlertKind::Health));
        assert!(!AlertRule::silences(&[health(false)], AlertKind::Surge));
        assert!(!AlertRule::silences(&[rule(None, 80, false)], AlertKind::Quota));
    }
}
