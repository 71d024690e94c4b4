//! Who asks, what they may do, and which tenants exist for them.

use uuid::Uuid;

use super::ControlError;
use crate::domain::{Actor, Tenant, TenantId, TenantRef};
use crate::store::{Reach, Snapshot};

/// Who asks: made by the door that authenticated them.
#[derive(Clone, PartialEq, Debug)]
pub struct Principal {
    pub actor: Actor,
    pub rights: Rights,
    /// One id for all audit rows of one request.
    pub correlation: Uuid,
}

/// How far the caller's arm reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rights {
    /// The platform's owner: every tenant, everything.
    Platform,
    /// An API key with an administrative scope: its own tenant only.
    Tenant { tenant: TenantId, scope: Scope },
}

/// What an API key may do to its own tenant. Keys have it by a scope of that name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// `admin:read`
    Read,
    /// `admin`
    Admin,
}

/// Everything that can be asked of this room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    CreateTenant,
    ReadTenant,
    ChangeTenant,
    /// Its slug, tier and time zone: what it is sold, and when its windows begin.
    ChangeTerms,
    SetStatus,
    ReadQuotas,
    SetQuota,
    RemoveQuota,
    /// A key's own quota, which only ever narrows the tenant's.
    SetKeyQuota,
    RemoveKeyQuota,
    ReadKeys,
    CreateKey,
    /// A key that another system made, known by its hash: only the platform can vouch for whose it is.
    ImportKey,
    ChangeKey,
    RotateKey,
    RevokeKey,
    ReadUsage,
    ReportUsage,
    ReadSettings,
    SetSetting,
    RemoveSetting,
    RotateSecrets,
    ReadChildren,
    ReadMetrics,
    EraseTenant,
    ReadAudit,
    ReadPlatformAudit,
    ReadTiers,
    ReadAlerts,
    AcknowledgeAlert,
    CreateAlertRule,
    ChangeAlertRule,
    RemoveAlertRule,
    ReadChannels,
    CreateChannel,
    ChangeChannel,
    RemoveChannel,
    RotateChannel,
    TestChannel,
    ResendDelivery,
    Reconcile,
    Apply,
}

/// The least that an operation needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    Scope(Scope),
    Platform,
}

/// Who may do what, and how the audit log calls it.
const MATRIX: [(Operation, &str, Needs); 42] = [
    (Operation::CreateTenant, "tenant.create", Needs::Platform),
    (Operation::ReadTenant, "tenant.read", Needs::Scope(Scope::Read)),
    (Operation::ChangeTenant, "tenant.change", Needs::Scope(Scope::Admin)),
    (Operation::ChangeTerms, "tenant.change_terms", Needs::Platform),
    (Operation::SetStatus, "tenant.set_status", Needs::Platform),
    (Operation::ReadQuotas, "quota.read", Needs::Scope(Scope::Read)),
    (Operation::SetQuota, "quota.set", Needs::Platform),
    (Operation::RemoveQuota, "quota.remove", Needs::Platform),
    (Operation::SetKeyQuota, "key_quota.set", Needs::Scope(Scope::Admin)),
    (Operation::RemoveKeyQuota, "key_quota.remove", Needs::Scope(Scope::Admin)),
    (Operation::ReadKeys, "key.read", Needs::Scope(Scope::Read)),
    (Operation::CreateKey, "key.create", Needs::Scope(Scope::Admin)),
    (Operation::ImportKey, "key.import", Needs::Platform),
    (Operation::ChangeKey, "key.change", Needs::Scope(Scope::Admin)),
    (Operation::RotateKey, "key.rotate", Needs::Scope(Scope::Admin)),
    (Operation::RevokeKey, "key.revoke", Needs::Scope(Scope::Admin)),
    (Operation::ReadUsage, "usage.read", Needs::Scope(Scope::Read)),
    (Operation::ReportUsage, "usage.report", Needs::Scope(Scope::Admin)),
    (Operation::ReadSettings, "setting.read", Needs::Scope(Scope::Read)),
    (Operation::SetSetting, "setting.set", Needs::Scope(Scope::Admin)),
    (Operation::RemoveSetting, "setting.remove", Needs::Scope(Scope::Admin)),
    (Operation::RotateSecrets, "secret.rotate", Needs::Platform),
    (Operation::ReadChildren, "children.read", Needs::Scope(Scope::Read)),
    (Operation::ReadMetrics, "metrics.read", Needs::Platform),
    (Operation::EraseTenant, "tenant.erase", Needs::Platform),
    (Operation::ReadAudit, "audit.read", Needs::Scope(Scope::Read)),
    (Operation::ReadPlatformAudit, "platform_audit.read", Needs::Platform),
    (Operation::ReadTiers, "tier.read", Needs::Scope(Scope::Read)),
    (Operation::ReadAlerts, "alert.read", Needs::Scope(Scope::Read)),
    (Operation::AcknowledgeAlert, "alert.acknowledge", Needs::Scope(Scope::Admin)),
    (Operation::CreateAlertRule, "alert_rule.create", Needs::Scope(Scope::Admin)),
    (Operation::ChangeAlertRule, "alert_rule.change", Needs::Scope(Scope::Admin)),
    (Operation::RemoveAlertRule, "alert_rule.remove", Needs::Scope(Scope::Admin)),
    (Operation::ReadChannels, "channel.read", Needs::Scope(Scope::Read)),
    (Operation::CreateChannel, "channel.create", Needs::Scope(Scope::Admin)),
    (Operation::ChangeChannel, "channel.change", Needs::Scope(Scope::Admin)),
    (Operation::RemoveChannel, "channel.remove", Needs::Scope(Scope::Admin)),
    (Operation::RotateChannel, "channel.rotate", Needs::Scope(Scope::Admin)),
    (Operation::TestChannel, "channel.test", Needs::Scope(Scope::Admin)),
    (Operation::ResendDelivery, "delivery.resend", Needs::Scope(Scope::Admin)),
    (Operation::Reconcile, "books.read", Needs::Platform),
    (Operation::Apply, "manifest.apply", Needs::Platform),
];

// === impl Principal ===

impl Principal {
    /// The machine itself, whoever may read its data directory, or the platform's owner.
    pub const fn platform(actor: Actor, correlation: Uuid) -> Principal {
        Principal { actor, rights: Rights::Platform, correlation }
    }

    /// The tenant that the caller belongs to: what `current` means.
    pub const fn tenant(&self) -> Option<TenantId> {
        match self.rights {
            Rights::Platform => None,
            Rights::Tenant { tenant, .. } => Some(tenant),
        }
    }

    /// The rows that there are for the caller.
    pub(super) const fn reach(&self) -> Reach {
        match self.rights {
            Rights::Platform => Reach::Platform,
            Rights::Tenant { tenant, .. } => Reach::Tenant(tenant),
        }
    }

    pub(super) fn authorize(&self, operation: Operation) -> Result<(), ControlError> {
        if self.rights.suffice(operation.needs()) {
            return Ok(());
        }
        Err(ControlError::Forbidden {
            actor: self.actor.name.clone(),
            operation: operation.action(),
            needs: operation.needs().as_str(),
        })
    }

    /// The tenant of that name, if it exists for the caller.
    pub(super) async fn find(
        &self,
        snapshot: &mut Snapshot,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        let found = match tenant {
            TenantRef::Id(id) => snapshot.tenant(*id).await?,
            TenantRef::Slug(slug) => snapshot.tenant_by_slug(slug).await?,
        };
        let visible = found.filter(|found| self.sees(found.id));
        visible.ok_or_else(|| ControlError::NotFound { what: "tenant", which: tenant.to_string() })
    }

    pub(super) fn sees(&self, id: TenantId) -> bool {
        self.tenant().is_none_or(|own| own == id)
    }
}

// === impl Rights ===

impl Rights {
    fn suffice(&self, needs: Needs) -> bool {
        match (self, needs) {
            (Rights::Platform, _) => true,
            (Rights::Tenant { .. }, Needs::Platform) => false,
            (Rights::Tenant { scope, .. }, Needs::Scope(needed)) => *scope >= needed,
        }
    }
}

// === impl Scope ===

impl Scope {
    /// The most that a key's scopes give it. None by default: unlike routes, administration has to be named.
    pub fn of(scopes: &[String]) -> Option<Scope> {
        scopes.iter().filter_map(|scope| Scope::parse(scope)).max()
    }

    fn parse(scope: &str) -> Option<Scope> {
        match scope {
            "admin:read" => Some(Scope::Read),
            "admin" => Some(Scope::Admin),
            _ => None,
        }
    }
}

// === impl Operation ===

impl Operation {
    fn row(self) -> (&'static str, Needs) {
        let row = MATRIX.iter().find(|(operation, ..)| *operation == self);
        // A test holds that every operation has its row.
        row.map_or(("unknown", Needs::Platform), |(_, action, needs)| (action, *needs))
    }

    /// `noun.verb`, as in the audit log.
    pub(super) fn action(self) -> &'static str {
        self.row().0
    }

    fn needs(self) -> Needs {
        self.row().1
    }
}

// === impl Needs ===

impl Needs {
    const fn as_str(self) -> &'static str {
        match self {
            Needs::Scope(Scope::Read) => "that needs the scope admin:read",
            Needs::Scope(Scope::Admin) => "that needs the scope admin",
            Needs::Platform => "that needs a platform token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MATRIX, Needs, Operation, Rights, Scope};
    use crate::domain::TenantId;
    use uuid::Uuid;

    #[test]
    fn every_operation_has_one_row_and_an_action_of_its_own() {
        for (at, (operation, action, _)) in MATRIX.iter().enumerate() {
            assert_eq!(operation.action(), *action);
            assert!(MATRIX[..at].iter().all(|(other, named, _)| other != operation && named != action));
        }
        // The last variant's number tells how many there are.
        assert_eq!(MATRIX.len(), Operation::Apply as usize + 1);
    }

    #[test]
    fn a_tenants_key_reads_with_admin_read_and_never_changes_what_it_is_sold() {
        let rights = |scope| Rights::Tenant { tenant: TenantId(Uuid::nil()), scope };
        for (operation, action, needs) in MATRIX {
            let is_platforms = matches!(
                operation,
                Operation::ReadPlatformAudit | Operation::Reconcile | Operation::ReadMetrics
            );
            let reads = action.ends_with(".read") && !is_platforms;
            assert_eq!(rights(Scope::Read).suffice(needs), reads, "{action}");
            assert_eq!(rights(Scope::Admin).suffice(needs), needs != Needs::Platform, "{action}");
            assert!(Rights::Platform.suffice(needs), "{action}");
        }
        use Operation::{Apply, ChangeTerms, CreateTenant, RemoveQuota, SetQuota, SetStatus};
        for operation in [Apply, ChangeTerms, CreateTenant, RemoveQuota, SetQuota, SetStatus] {
            assert_eq!(operation.needs(), Needs::Platform, "{operation:?}");
        }
    }

    #[test]
    fn a_key_administers_only_by_a_scope_that_says_so() {
        let scope =
            |scopes: &[&str]| Scope::of(&scopes.iter().map(|&scope| scope.to_owned()).collect::<Vec<_>>());
        assert_eq!(scope(&[]), None);
        assert_eq!(scope(&["orders:read", "administrator"]), None);
        assert_eq!(scope(&["admin:read"]), Some(Scope::Read));
        assert_eq!(scope(&["admin:read", "admin"]), Some(Scope::Admin));
    }
}
