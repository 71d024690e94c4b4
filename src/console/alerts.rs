//! What a tenant was told, and what it wants to be told of.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use uuid::Uuid;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, any_of, done, of_form, word};
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::control::{NewAlertRule, RuleInForce};
use crate::domain::{Alert, AlertId, AlertKind, AlertRule, ResourceNames, RuleId, Severity};
use crate::store::AlertFilter;

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    layout: Layout,
    here: String,
    alerts: Vec<Alert>,
    names: ResourceNames,
    next: Option<String>,
    form: Form,
    is_filtered: bool,
    states: Vec<(String, String)>,
    kinds: Vec<(String, String)>,
    severities: Vec<(String, String)>,
    may_acknowledge: bool,
    may_read_channels: bool,
}

#[derive(Template)]
#[template(path = "alert_rules.html")]
struct RulesPage {
    layout: Layout,
    alerts: String,
    here: String,
    rules: Vec<RuleRow>,
    resources: Vec<(String, String)>,
    form: Form,
    may_create: bool,
    may_change: bool,
    may_remove: bool,
    may_read_channels: bool,
}

/// A rule in one sentence, and what can be done about it.
struct RuleRow {
    sentence: String,
    is_on: bool,
    /// Of the tenant's own.
    id: Option<RuleId>,
    /// What turns it on and off; `None` for a built-in one that was never turned off, which takes a new rule.
    switch: Option<RuleId>,
    kind: AlertKind,
    threshold: Option<u32>,
}

const PATH: &str = "/alerts";
const RULES: &str = "/alerts/rules";

/// `GET …/alerts?state=…`
pub(super) async fn show(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    let form = &filters.0;
    let filter = AlertFilter {
        kind: AlertKind::parse(form.text("kind")),
        severity: Severity::parse(form.text("severity")),
        acknowledged: match form.text("state") {
            "open" => Some(false),
            "seen" => Some(true),
            _ => None,
        },
        ..AlertFilter::default()
    };
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let listed = control.alerts(who, &here.named, &filter, &filters.page()?).await?;
    let address = here.address(PATH);
    html(&AlertsPage {
        layout: here.layout("Alerts", Tab::Alerts),
        next: filters.next(&address, listed.next_cursor),
        here: address,
        alerts: listed.items,
        names: here.visit.names().await?,
        is_filtered: filter != AlertFilter::default(),
        states: any_of(["open", "seen"].map(word)),
        kinds: any_of(AlertKind::ALL.map(|kind| word(kind.as_str()))),
        severities: any_of(Severity::ALL.map(|severity| word(severity.as_str()))),
        may_acknowledge: here.may("alert.acknowledge"),
        may_read_channels: here.may("channel.read"),
        form: filters.0,
    })
}

/// `POST …/alerts/{alert}/acknowledge`
pub(super) async fn acknowledge(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    here.visit.control.acknowledge_alert(&here.visit.principal, &here.named, AlertId(id)).await?;
    done(&here.visit, &here.address(PATH), "It is noted that you have seen it.")
}

/// `GET …/alerts/rules`
pub(super) async fn rules(here: TenantVisit) -> Result<Response, Refusal> {
    rules_page(&here, Form::default()).await
}

async fn rules_page(here: &TenantVisit, form: Form) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let rules = control.alert_rules(who, &here.named).await?;
    let quotas = control.quotas(who, &here.named).await?;
    let names = here.visit.names().await?;
    let resources = quotas.iter().map(|quota| quota.resource_type);
    let mut resources: Vec<_> = resources.map(|of| (of.to_string(), names.display(of))).collect();
    resources.dedup();
    let page = RulesPage {
        layout: here.layout("Alert rules", Tab::Alerts),
        alerts: here.address(PATH),
        here: here.address(RULES),
        rules: RuleRow::all(&rules, &names),
        resources: any_of(resources),
        may_create: here.may("alert_rule.create"),
        may_change: here.may("alert_rule.change"),
        may_remove: here.may("alert_rule.remove"),
        may_read_channels: here.may("channel.read"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/alerts/rules`: a threshold of the tenant's own, or a built-in rule that it turns off.
pub(super) async fn create_rule(here: TenantVisit, Posted(mut form): Posted) -> Result<Response, Refusal> {
    let Some(kind) = AlertKind::parse(form.text("kind")) else {
        form.fail("", "An alert is of a kind that there is.");
        return rules_page(&here, form).await;
    };
    let new = NewAlertRule {
        kind,
        resource: form.text("resource_type").parse().ok(),
        threshold: form.text("threshold").parse().ok(),
        enabled: form.has("state", "on"),
    };
    match here.visit.control.create_alert_rule(&here.visit.principal, &here.named, new).await {
        Ok(_) => done(&here.visit, &here.address(RULES), "The rule holds from now on."),
        Err(error) => rules_page(&here, form.refused(error)?).await,
    }
}

/// `POST …/alerts/rules/{rule}`
pub(super) async fn change_rule(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who, is_on) = (&here.visit.control, &here.visit.principal, form.has("state", "on"));
    control.change_alert_rule(who, &here.named, RuleId(id), is_on).await?;
    let message = if is_on { "The rule is on." } else { "The rule is off." };
    done(&here.visit, &here.address(RULES), message)
}

/// `POST …/alerts/rules/{rule}/remove`
pub(super) async fn remove_rule(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    here.visit.control.remove_alert_rule(&here.visit.principal, &here.named, RuleId(id)).await?;
    done(&here.visit, &here.address(RULES), "The rule is removed.")
}

/// What an alert of that kind tells.
const fn about(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Quota => "a quota is used up to a threshold",
        AlertKind::Health => "the tenant’s health changes",
        AlertKind::Probing => "somebody asks again and again for what is not theirs",
        AlertKind::Escalation => "a key, a member or a role may do more than before",
        AlertKind::Surge => "there are far more requests than is usual",
        AlertKind::AuditChain => "the audit log is not what was written",
        AlertKind::Billing => "a payment fails, or what it owes comes near to its spend cap",
        AlertKind::Message => "the platform’s people write to you",
        AlertKind::Network => "a key is used from where it never was",
        AlertKind::BadKeys => "many keys that don’t work are tried",
        AlertKind::Test => "somebody tries out a channel",
    }
}

// === impl RuleRow ===

impl RuleRow {
    /// A rule of the tenant's own that turns a built-in one off is told with that one.
    fn all(rules: &[RuleInForce], names: &ResourceNames) -> Vec<RuleRow> {
        let own = || {
            rules.iter().filter_map(|rule| match rule {
                RuleInForce::Own(rule) => Some(rule),
                RuleInForce::BuiltIn { .. } => None,
            })
        };
        let is_of = |rule: &AlertRule, kind, threshold| {
            rule.resource.is_none() && (rule.kind, rule.threshold) == (kind, threshold)
        };
        let mut rows = Vec::new();
        for rule in rules {
            if let RuleInForce::BuiltIn { kind, threshold, enabled } = *rule {
                let switch = own().find(|own| is_of(own, kind, threshold)).map(|own| own.id);
                let sentence = sentence(kind, None, threshold);
                rows.push(RuleRow { sentence, is_on: enabled, id: None, switch, kind, threshold });
            }
        }
        let built_in: Vec<_> = rows.iter().filter_map(|row| row.switch).collect();
        rows.extend(own().filter(|rule| !built_in.contains(&rule.id)).map(|rule| RuleRow::own(rule, names)));
        rows
    }

    fn own(rule: &AlertRule, names: &ResourceNames) -> RuleRow {
        let resource = rule.resource.map(|resource| names.display(resource));
        RuleRow {
            sentence: sentence(rule.kind, resource.as_deref(), rule.threshold),
            is_on: rule.enabled,
            id: Some(rule.id),
            switch: Some(rule.id),
            kind: rule.kind,
            threshold: rule.threshold,
        }
    }
}

fn sentence(kind: AlertKind, resource: Option<&str>, threshold: Option<u32>) -> String {
    let of = resource.map_or_else(|| "any quota".to_owned(), |resource| format!("the quota of {resource}"));
    match threshold {
        Some(percent) => format!("When {of} is used to {percent} %"),
        None => format!("When {}", about(kind)),
    }
}
