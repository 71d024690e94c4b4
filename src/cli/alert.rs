//! `tollgate alert`: what a tenant was told of, and what it is told of at all.

use clap::{Args as Group, Subcommand};
use serde_json::{Value, json};

use super::args::{Page, TenantName};
use super::ask::{Ask, cursor, path, said, with_query};
use super::show::{Table, items, list, moment, text};
use crate::api::Method;

#[derive(Subcommand, Clone, Debug)]
pub enum Alert {
    /// List what a tenant was told of, newest first
    #[command(after_help = "\
Examples:
  tollgate alert list acme
  tollgate alert list acme --unseen --kind quota --json")]
    List(AlertList),
    /// Note that an alert was seen
    #[command(
        after_help = "Example:\n  tollgate alert acknowledge acme 0192f0c1-7a3b-7000-8000-000000000000"
    )]
    Acknowledge(AlertName),
    /// List what a tenant is told of: the built-in rules and its own
    #[command(after_help = "Example:\n  tollgate alert rules acme")]
    Rules(TenantName),
    /// Add a threshold of a tenant's own, or turn off what it does not want to hear of
    #[command(after_help = "\
Examples:
  tollgate alert rule acme quota --threshold 50 --resource api_calls
  tollgate alert rule acme quota --threshold 80 --off     # the built-in one
  tollgate alert rule acme health --off")]
    Rule(AlertRule),
    /// Forget a rule of a tenant's own
    #[command(after_help = "Example:\n  tollgate alert forget acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Forget(AlertForget),
}

#[derive(Group, Clone, Debug)]
pub struct AlertList {
    /// The tenant's id or slug
    pub tenant: String,
    /// quota, health, probing, escalation, surge, network, bad_keys, audit_chain, billing or test
    #[arg(long)]
    pub kind: Option<String>,
    /// info, warning or critical
    #[arg(long)]
    pub severity: Option<String>,
    /// Only what nobody has acknowledged
    #[arg(long)]
    pub unseen: bool,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct AlertName {
    /// The tenant's id or slug
    pub tenant: String,
    /// The alert's id, as `alert list` shows it
    pub alert: String,
}

#[derive(Group, Clone, Debug)]
pub struct AlertRule {
    /// The tenant's id or slug
    pub tenant: String,
    /// quota, health, probing, escalation, surge, network, bad_keys, audit_chain or billing
    pub kind: String,
    /// Of quotas: from so many percent of the limit on
    #[arg(long, value_name = "PERCENT")]
    pub threshold: Option<u32>,
    /// Of quotas: of this resource only
    #[arg(long)]
    pub resource: Option<String>,
    /// Don't tell of it
    #[arg(long)]
    pub off: bool,
}

#[derive(Group, Clone, Debug)]
pub struct AlertForget {
    /// The tenant's id or slug
    pub tenant: String,
    /// The rule's id, as `alert rules` shows it
    pub rule: String,
}

// === impl Alert ===

impl Alert {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Alert::List(of) => Ask::get(of.path(), alerts),
            Alert::Acknowledge(name) => {
                let path = path(&["tenants", &name.tenant, "alerts", &name.alert, "acknowledge"]);
                Ask::post(path, json!({}), |_| "acknowledged\n".to_owned())
            }
            Alert::Rules(name) => Ask::get(path(&["tenants", &name.tenant, "alert-rules"]), rules),
            Alert::Rule(rule) => {
                Ask::post(path(&["tenants", &rule.tenant, "alert-rules"]), rule.body(), |made| {
                    format!("rule {}\n", text(&made["rule_id"]))
                })
            }
            Alert::Forget(forget) => Ask {
                method: Method::DELETE,
                path: path(&["tenants", &forget.tenant, "alert-rules", &forget.rule]),
                body: None,
                show: |_| "forgotten\n".to_owned(),
            },
        }
    }
}

impl AlertList {
    fn path(&self) -> String {
        let query = [
            ("kind", self.kind.clone()),
            ("severity", self.severity.clone()),
            ("acknowledged", self.unseen.then(|| "false".to_owned())),
            ("limit", self.page.limit.map(|limit| limit.to_string())),
            cursor(&self.page),
        ];
        with_query(path(&["tenants", &self.tenant, "alerts"]), query)
    }
}

impl AlertRule {
    fn body(&self) -> Value {
        said([
            ("kind", self.kind.as_str().into()),
            ("threshold", self.threshold.into()),
            ("resource_type", self.resource.as_deref().into()),
            ("enabled", (!self.off).into()),
        ])
    }
}

// === how answers look ===

fn alerts(listed: &Value) -> String {
    let mut table = Table::new(["AT", "SEVERITY", "KIND", "SUMMARY", "SEEN BY", "ID"]);
    for alert in items(listed) {
        table.row([
            moment(&alert["at"]),
            text(&alert["severity"]),
            text(&alert["kind"]),
            text(&alert["summary"]),
            text(&alert["acknowledged_by"]),
            text(&alert["alert_id"]),
        ]);
    }
    list(listed, &table, "nothing happened\n")
}

fn rules(listed: &Value) -> String {
    let mut table = Table::new(["KIND", "RESOURCE", "PERCENT", "STATE", "FROM", "ID"]);
    for rule in items(listed) {
        table.row([
            text(&rule["kind"]),
            text(&rule["resource_type"]),
            text(&rule["threshold"]),
            if rule["enabled"] == true { "on".to_owned() } else { "off".to_owned() },
            text(&rule["source"]),
            text(&rule["rule_id"]),
        ]);
    }
    list(listed, &table, "no rules\n")
}
