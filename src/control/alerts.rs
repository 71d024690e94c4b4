//! Alerts as people see them: listed, acknowledged, and what is told of at all.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::domain::{Alert, AlertId, AlertKind, AlertRule, Resource, RuleId, Tenant};
use crate::store::{AlertFilter, Listed, Page};

/// What a new rule says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAlertRule {
    pub kind: AlertKind,
    /// Of quotas; `None` is all.
    pub resource: Option<Resource>,
    /// Of quotas, in percent of the limit.
    pub threshold: Option<u32>,
    pub enabled: bool,
}

/// What is told of, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleInForce {
    /// One that every tenant has, unless it has turned it off.
    BuiltIn {
        kind: AlertKind,
        threshold: Option<u32>,
        enabled: bool,
    },
    Own(AlertRule),
}

/// Where a rule comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleSource {
    BuiltIn,
    Tenant,
}

/// Of one tenant.
const RULES_MAX: usize = 100;
/// In percent.
const THRESHOLD_MAX: u32 = 1_000;

impl Control {
    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn alerts(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        filter: &AlertFilter,
        page: &Page,
    ) -> Result<Listed<Alert>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAlerts, tenant).await?;
        Ok(snapshot.alerts(tenant.id, filter, page).await??)
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn alert(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: AlertId,
    ) -> Result<Alert, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAlerts, tenant).await?;
        snapshot.alert(tenant.id, id).await?.ok_or_else(|| no_alert(id))
    }

    /// Notes that the caller has seen it. A second time is success and writes nothing: who was first stays.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn acknowledge_alert(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: AlertId,
    ) -> Result<Alert, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.acknowledge_alert(tenant, id).await;
        work.end(outcome).await
    }

    /// The built-in rules, then the tenant's own.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn alert_rules(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<RuleInForce>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAlerts, tenant).await?;
        let own = snapshot.alert_rules(tenant.id).await?;
        let is_off = |kind, threshold| {
            let same =
                |rule: &&AlertRule| (rule.kind, rule.resource, rule.threshold) == (kind, None, threshold);
            own.iter().find(same).is_some_and(|rule| !rule.enabled)
        };
        let thresholds =
            self.watch_settings().thresholds.iter().map(|percent| (AlertKind::Quota, Some(*percent)));
        let others = AlertKind::ALL.into_iter().filter(|kind| kind.is_watched() && *kind != AlertKind::Quota);
        let built_in = thresholds.chain(others.map(|kind| (kind, None))).map(|(kind, threshold)| {
            RuleInForce::BuiltIn { kind, threshold, enabled: !is_off(kind, threshold) }
        });
        let mut rules: Vec<_> = built_in.collect();
        rules.extend(own.into_iter().map(RuleInForce::Own));
        Ok(rules)
    }

    /// A threshold of the tenant's own; or, with `enabled` false, what it does not want to hear of.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] for one that is there already.
    pub async fn create_alert_rule(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewAlertRule,
    ) -> Result<AlertRule, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.create_alert_rule(tenant, &new).await;
        work.end(outcome).await
    }

    /// Turns a rule on or off. What is so already is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn change_alert_rule(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: RuleId,
        enabled: bool,
    ) -> Result<AlertRule, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.change_alert_rule(tenant, id, enabled).await;
        work.end(outcome).await
    }

    /// Forgets a rule of the tenant's own.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn remove_alert_rule(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: RuleId,
    ) -> Result<(), ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.remove_alert_rule(tenant, id).await;
        work.end(outcome).await
    }
}

fn no_alert(id: AlertId) -> ControlError {
    ControlError::NotFound { what: "alert", which: id.to_string() }
}

fn no_rule(id: RuleId) -> ControlError {
    ControlError::NotFound { what: "rule", which: id.to_string() }
}

/// What a rule looks like in the audit log.
fn shown(rule: &AlertRule) -> Value {
    json!({
        "kind": rule.kind,
        "resource_type": rule.resource,
        "threshold": rule.threshold,
        "enabled": rule.enabled,
    })
}

// === impl Work ===

impl Work<'_> {
    async fn acknowledge_alert(&mut self, tenant: &TenantRef, id: AlertId) -> Result<Alert, ControlError> {
        let tenant = self.tenant_for(Operation::AcknowledgeAlert, tenant).await?;
        let mut alert = self.tx.alert(tenant.id, id).await?.ok_or_else(|| no_alert(id))?;
        if alert.acknowledged_at.is_some() {
            return Ok(alert);
        }
        let by = self.principal.actor.name.clone();
        self.tx.acknowledge_alert(tenant.id, id, &by, self.now).await?;
        self.audit(
            Operation::AcknowledgeAlert,
            &Target::of(&tenant, "alert", id.to_string()),
            Told::default(),
        )
        .await?;
        (alert.acknowledged_at, alert.acknowledged_by) = (Some(self.now), Some(by));
        Ok(alert)
    }

    async fn create_alert_rule(
        &mut self,
        tenant: &TenantRef,
        new: &NewAlertRule,
    ) -> Result<AlertRule, ControlError> {
        let tenant = self.living_tenant_for(Operation::CreateAlertRule, tenant).await?;
        self.check_alert_rule(new).await?;
        let own = self.tx.alert_rules(tenant.id).await?;
        let same = |rule: &&AlertRule| {
            (rule.kind, rule.resource, rule.threshold) == (new.kind, new.resource, new.threshold)
        };
        if let Some(there) = own.iter().find(same) {
            return Err(ControlError::Conflict(format!("there is such a rule already: {}", there.id)));
        }
        if own.len() >= RULES_MAX {
            return Err(ControlError::Conflict(format!("a tenant has {RULES_MAX} rules at most")));
        }
        let rule = AlertRule {
            id: RuleId(self.control.new_id()),
            tenant: tenant.id,
            kind: new.kind,
            resource: new.resource,
            threshold: new.threshold,
            enabled: new.enabled,
            created_at: self.now,
            updated_at: self.now,
        };
        self.tx.set_alert_rule(&rule).await?;
        let target = Target::of(&tenant, "alert_rule", rule.id.to_string());
        self.audit(Operation::CreateAlertRule, &target, Told::made(shown(&rule))).await?;
        Ok(rule)
    }

    async fn check_alert_rule(&mut self, new: &NewAlertRule) -> Result<(), ControlError> {
        let mut faults = Faults::default();
        let is_of_quotas = new.kind == AlertKind::Quota;
        match new.threshold {
            None if is_of_quotas => faults.add("threshold", "a percentage of the limit is expected"),
            Some(_) if !is_of_quotas => faults.add("threshold", "only quotas have thresholds"),
            Some(percent) if !(1..=THRESHOLD_MAX).contains(&percent) => {
                faults.add("threshold", format!("1 to {THRESHOLD_MAX} percent are expected"));
            }
            _ => {}
        }
        if !new.kind.is_watched() {
            faults.add("kind", "what somebody sends is told of");
        } else if !is_of_quotas && new.enabled {
            faults.add("enabled", "it is told of unless a rule says otherwise: false is expected");
        }
        match new.resource {
            Some(_) if !is_of_quotas => faults.add("resource_type", "only quotas are of a resource"),
            Some(resource) if self.tx.resource_type(resource).await?.is_none() => {
                faults.unknown_resource(&self.tx.resource_types().await?);
            }
            _ => {}
        }
        faults.finish()
    }

    async fn rule_for(
        &mut self,
        operation: Operation,
        tenant: &TenantRef,
        id: RuleId,
    ) -> Result<(Tenant, AlertRule), ControlError> {
        let tenant = self.living_tenant_for(operation, tenant).await?;
        let rules = self.tx.alert_rules(tenant.id).await?;
        let rule = rules.into_iter().find(|rule| rule.id == id).ok_or_else(|| no_rule(id))?;
        Ok((tenant, rule))
    }

    async fn change_alert_rule(
        &mut self,
        tenant: &TenantRef,
        id: RuleId,
        enabled: bool,
    ) -> Result<AlertRule, ControlError> {
        let (tenant, before) = self.rule_for(Operation::ChangeAlertRule, tenant, id).await?;
        if before.enabled == enabled {
            return Ok(before);
        }
        let after = AlertRule { enabled, updated_at: self.now, ..before.clone() };
        self.tx.set_alert_rule(&after).await?;
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::ChangeAlertRule, &Target::of(&tenant, "alert_rule", id.to_string()), told)
            .await?;
        Ok(after)
    }

    async fn remove_alert_rule(&mut self, tenant: &TenantRef, id: RuleId) -> Result<(), ControlError> {
        let (tenant, before) = self.rule_for(Operation::RemoveAlertRule, tenant, id).await?;
        self.tx.remove_alert_rule(tenant.id, id).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveAlertRule, &Target::of(&tenant, "alert_rule", id.to_string()), told).await
    }
}
