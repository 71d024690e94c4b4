//! Everything that can be asked of this room, and the one table of who may do it.
//!
//! A permission is an operation, and is called as the audit log calls it: what somebody was refused can be looked up,
//! granted and found again under the same name. Nothing is allowed by a rank or by a list that is kept elsewhere: roles
//! are columns of the table, an API key's administrative scopes stand for two of those columns, and a tenant's own roles
//! are sets of its rows.

use std::fmt;

use crate::domain::Role;

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
    /// One of a tenant's that only the platform sets. To remove it, too.
    SetPlatformSetting,
    RotateSecrets,
    ReadChildren,
    /// To be to the tenants below one's own what a reseller is to them.
    ManageChildren,
    ReadMetrics,
    EraseTenant,
    /// With its secrets as text, for whoever is named to open it.
    ExportTenant,
    ImportTenant,
    ReadMembers,
    /// Withdrawing an invitation, too.
    InviteMember,
    ChangeMember,
    RemoveMember,
    ReadRoles,
    SetRole,
    RemoveRole,
    /// Those who can log in, whatever tenants they belong to.
    ReadUsers,
    SetPlatformRole,
    ResetPassword,
    EndSessions,
    ReadAudit,
    ReadPlatformAudit,
    ReadTiers,
    ReadAnalytics,
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
    /// And what is being subscribed to, and what another tier would change.
    ReadInvoices,
    FinalizeInvoice,
    VoidInvoice,
    /// To note that it was paid.
    PayInvoice,
    ExportInvoice,
    SetSpendCap,
    RemoveSpendCap,
    /// Usage on its way to whoever collects what is owed.
    ReadBillingEvents,
    ResendBillingEvent,
    SettleBillingEvent,
    SetTier,
    ReadBulk,
    /// Whatever is done by it is the platform's to do.
    CreateBulk,
    CancelBulk,
    ResumeBulk,
    SendMessage,
    ReadReports,
    Reconcile,
    Apply,
}

/// The columns of a row that have their letter, as a bit each.
#[derive(Clone, Copy)]
struct Allowed(u16);

/// The letters of all columns: a role's initial, the platform's roles in capitals, and whether a **r**eseller may do it
/// to the tenants below its own.
const COLUMNS: &[u8] = b"PS oabduv r";
const RESELLER: u32 = 10;

/// Who may do what, and how the audit log calls it.
const MATRIX: [(Operation, &str, Allowed); 75] = [
    // P platform_owner  S platform_support   o owner  a admin  b billing  d developer  u auditor  v viewer   r reseller
    (Operation::CreateTenant, "tenant.create", allowed("P- ------ r")),
    (Operation::ReadTenant, "tenant.read", allowed("PS oabduv -")),
    (Operation::ChangeTenant, "tenant.change", allowed("P- oab--- -")),
    (Operation::ChangeTerms, "tenant.change_terms", allowed("P- ------ r")),
    (Operation::SetStatus, "tenant.set_status", allowed("P- ------ r")),
    (Operation::ReadQuotas, "quota.read", allowed("PS oabduv -")),
    (Operation::SetQuota, "quota.set", allowed("P- ------ r")),
    (Operation::RemoveQuota, "quota.remove", allowed("P- ------ r")),
    (Operation::SetKeyQuota, "key_quota.set", allowed("P- oa-d-- -")),
    (Operation::RemoveKeyQuota, "key_quota.remove", allowed("P- oa-d-- -")),
    (Operation::ReadKeys, "key.read", allowed("PS oa-du- -")),
    (Operation::CreateKey, "key.create", allowed("P- oa-d-- -")),
    (Operation::ImportKey, "key.import", allowed("P- ------ -")),
    (Operation::ChangeKey, "key.change", allowed("P- oa-d-- -")),
    (Operation::RotateKey, "key.rotate", allowed("P- oa-d-- -")),
    (Operation::RevokeKey, "key.revoke", allowed("P- oa-d-- -")),
    (Operation::ReadUsage, "usage.read", allowed("PS oabduv -")),
    (Operation::ReportUsage, "usage.report", allowed("P- oa-d-- -")),
    (Operation::ReadSettings, "setting.read", allowed("PS oa-du- -")),
    (Operation::SetSetting, "setting.set", allowed("P- oa---- -")),
    (Operation::RemoveSetting, "setting.remove", allowed("P- oa---- -")),
    (Operation::SetPlatformSetting, "platform_setting.set", allowed("P- ------ -")),
    (Operation::RotateSecrets, "secret.rotate", allowed("P- ------ -")),
    (Operation::ReadChildren, "children.read", allowed("PS oabduv -")),
    (Operation::ManageChildren, "children.manage", allowed("P- oa---- -")),
    (Operation::ReadMetrics, "metrics.read", allowed("PS ------ -")),
    (Operation::EraseTenant, "tenant.erase", allowed("P- ------ -")),
    (Operation::ExportTenant, "tenant.export", allowed("P- o----- -")),
    (Operation::ImportTenant, "tenant.import", allowed("P- ------ -")),
    (Operation::ReadMembers, "member.read", allowed("PS oa--u- -")),
    (Operation::InviteMember, "member.invite", allowed("P- oa---- -")),
    (Operation::ChangeMember, "member.change", allowed("P- oa---- -")),
    (Operation::RemoveMember, "member.remove", allowed("P- oa---- -")),
    (Operation::ReadRoles, "role.read", allowed("PS oabduv -")),
    (Operation::SetRole, "role.set", allowed("P- o----- -")),
    (Operation::RemoveRole, "role.remove", allowed("P- o----- -")),
    (Operation::ReadUsers, "user.read", allowed("PS ------ -")),
    (Operation::SetPlatformRole, "user.set_platform_role", allowed("P- ------ -")),
    (Operation::ResetPassword, "user.reset_password", allowed("P- ------ -")),
    (Operation::EndSessions, "session.end", allowed("P- ------ -")),
    (Operation::ReadAudit, "audit.read", allowed("PS oa--u- -")),
    (Operation::ReadPlatformAudit, "platform_audit.read", allowed("PS ------ -")),
    (Operation::ReadTiers, "tier.read", allowed("PS oabduv -")),
    (Operation::ReadAnalytics, "analytics.read", allowed("PS oabduv -")),
    (Operation::ReadAlerts, "alert.read", allowed("PS oabduv -")),
    (Operation::AcknowledgeAlert, "alert.acknowledge", allowed("P- oabd-- -")),
    (Operation::CreateAlertRule, "alert_rule.create", allowed("P- oa---- -")),
    (Operation::ChangeAlertRule, "alert_rule.change", allowed("P- oa---- -")),
    (Operation::RemoveAlertRule, "alert_rule.remove", allowed("P- oa---- -")),
    (Operation::ReadChannels, "channel.read", allowed("PS oa--u- -")),
    (Operation::CreateChannel, "channel.create", allowed("P- oa---- -")),
    (Operation::ChangeChannel, "channel.change", allowed("P- oa---- -")),
    (Operation::RemoveChannel, "channel.remove", allowed("P- oa---- -")),
    (Operation::RotateChannel, "channel.rotate", allowed("P- oa---- -")),
    (Operation::TestChannel, "channel.test", allowed("P- oa---- -")),
    (Operation::ResendDelivery, "delivery.resend", allowed("P- oa---- -")),
    (Operation::ReadInvoices, "invoice.read", allowed("PS oab-u- -")),
    (Operation::FinalizeInvoice, "invoice.finalize", allowed("P- ------ -")),
    (Operation::VoidInvoice, "invoice.void", allowed("P- ------ -")),
    (Operation::PayInvoice, "invoice.pay", allowed("P- ------ -")),
    (Operation::ExportInvoice, "invoice.export", allowed("P- ------ -")),
    (Operation::SetSpendCap, "spend_cap.set", allowed("P- ------ r")),
    (Operation::RemoveSpendCap, "spend_cap.remove", allowed("P- ------ r")),
    (Operation::ReadBillingEvents, "billing_event.read", allowed("PS ------ -")),
    (Operation::ResendBillingEvent, "billing_event.resend", allowed("P- ------ -")),
    (Operation::SettleBillingEvent, "billing_event.settle", allowed("P- ------ -")),
    (Operation::SetTier, "tier.set", allowed("P- ------ -")),
    (Operation::ReadBulk, "bulk.read", allowed("PS ------ -")),
    (Operation::CreateBulk, "bulk.create", allowed("P- ------ -")),
    (Operation::CancelBulk, "bulk.cancel", allowed("P- ------ -")),
    (Operation::ResumeBulk, "bulk.resume", allowed("P- ------ -")),
    (Operation::SendMessage, "message.send", allowed("P- ------ -")),
    (Operation::ReadReports, "report.read", allowed("PS ------ -")),
    (Operation::Reconcile, "books.read", allowed("PS ------ -")),
    (Operation::Apply, "manifest.apply", allowed("P- ------ -")),
];

/// A set of operations that somebody may do.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions(u128);

/// What an API key may do to its own tenant. Keys have it by a scope of that name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// `admin:read`: what the role auditor may.
    Read,
    /// `admin`: what the role admin may.
    Admin,
}

/// Reads a row of the table. A letter in another's column does not compile.
const fn allowed(row: &str) -> Allowed {
    let row = row.as_bytes();
    assert!(row.len() == COLUMNS.len());
    let (mut column, mut bits) = (0, 0);
    while column < row.len() {
        assert!(row[column] == COLUMNS[column] || row[column] == b'-');
        if row[column] != b'-' {
            bits |= 1 << column;
        }
        column += 1;
    }
    Allowed(bits)
}

const fn column(role: Role) -> u32 {
    match role {
        Role::PlatformOwner => 0,
        Role::PlatformSupport => 1,
        Role::Owner => 3,
        Role::Admin => 4,
        Role::Billing => 5,
        Role::Developer => 6,
        Role::Auditor => 7,
        Role::Viewer => 8,
    }
}

// === impl Operation ===

impl Operation {
    fn row(self) -> (&'static str, Allowed) {
        let row = MATRIX.iter().find(|(operation, ..)| *operation == self);
        // A test holds that every operation has its row.
        row.map_or(("unknown", Allowed(0)), |(_, action, allowed)| (action, *allowed))
    }

    /// `noun.verb`, as in the audit log and in a tenant's own roles.
    pub(super) fn action(self) -> &'static str {
        self.row().0
    }

    /// Who may do it, for people.
    pub(super) fn who(self) -> String {
        let allowed = self.row().1;
        let roles = Role::ALL.into_iter().filter(|role| allowed.has(column(*role)));
        let roles: Vec<_> = roles.map(Role::as_str).collect();
        format!("only {} may", roles.join(", "))
    }

    /// A bit of its own.
    const fn bit(self) -> u128 {
        1 << (self as u32)
    }
}

// === impl Allowed ===

impl Allowed {
    const fn has(self, column: u32) -> bool {
        self.0 & (1 << column) != 0
    }
}

// === impl Permissions ===

impl Permissions {
    pub const NONE: Permissions = Permissions(0);

    /// What the role may do: at the platform in every tenant, else in its own.
    pub fn of(role: Role) -> Permissions {
        Permissions::in_column(column(role))
    }

    /// What a reseller may do to the tenants below its own, beside what it may do in its own.
    pub(super) fn of_resellers() -> Permissions {
        Permissions::in_column(RESELLER)
    }

    /// Everything that changes nothing.
    pub(super) fn reads() -> Permissions {
        Permissions::of(Role::PlatformSupport)
    }

    fn in_column(column: u32) -> Permissions {
        let rows = MATRIX.iter().filter(|(_, _, allowed)| allowed.has(column));
        Permissions(rows.fold(0, |bits, (operation, ..)| bits | operation.bit()))
    }

    /// The permissions of those names.
    ///
    /// # Errors
    /// The index of the first name that is none of a permission.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Result<Permissions, usize> {
        let mut bits = 0;
        for (at, name) in names.iter().enumerate() {
            let row = MATRIX.iter().find(|(_, action, _)| *action == name.as_ref());
            bits |= row.ok_or(at)?.0.bit();
        }
        Ok(Permissions(bits))
    }

    /// Their names, in the order of the table.
    pub fn names(self) -> Vec<&'static str> {
        let rows = MATRIX.iter().filter(|(operation, ..)| self.contains(*operation));
        rows.map(|(_, action, _)| *action).collect()
    }

    pub(super) const fn contains(self, operation: Operation) -> bool {
        self.0 & operation.bit() != 0
    }

    /// Whether the permission of that name is among them.
    pub fn has(self, name: &str) -> bool {
        MATRIX.iter().any(|(operation, known, _)| *known == name && self.contains(*operation))
    }

    /// Whether there is nothing in it that is not in `other`, too.
    pub const fn is_within(self, other: Permissions) -> bool {
        self.0 & !other.0 == 0
    }

    #[must_use]
    pub const fn and(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }

    #[must_use]
    pub const fn only(self, other: Permissions) -> Permissions {
        Permissions(self.0 & other.0)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

// === impl Scope ===

impl Scope {
    /// The most that a key's scopes give it. None by default: unlike routes, administration has to be named.
    pub fn of(scopes: &[String]) -> Option<Scope> {
        scopes.iter().filter_map(|scope| Scope::parse(scope)).max()
    }

    pub fn permissions(self) -> Permissions {
        Permissions::of(match self {
            Scope::Read => Role::Auditor,
            Scope::Admin => Role::Admin,
        })
    }

    fn parse(scope: &str) -> Option<Scope> {
        match scope {
            "admin:read" => Some(Scope::Read),
            "admin" => Some(Scope::Admin),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MATRIX, Operation, Permissions, Scope, column};
    use crate::domain::Role;

    #[test]
    fn every_operation_has_one_row_and_an_action_of_its_own() {
        for (at, (operation, action, _)) in MATRIX.iter().enumerate() {
            assert_eq!(operation.action(), *action);
            assert!(MATRIX[..at].iter().all(|(other, named, _)| other != operation && named != action));
        }
        // The last variant's number tells how many there are.
        assert_eq!(MATRIX.len(), Operation::Apply as usize + 1);
        assert!(MATRIX.len() <= 128, "each has a bit of its own");
    }

    #[test]
    fn the_platforms_owner_may_do_everything_and_its_support_only_and_always_read() {
        for (operation, action, allowed) in MATRIX {
            assert!(allowed.has(column(Role::PlatformOwner)), "{action}");
            assert_eq!(allowed.has(column(Role::PlatformSupport)), action.ends_with(".read"), "{action}");
            assert!(Permissions::of(Role::PlatformOwner).contains(operation));
        }
    }

    #[test]
    fn in_a_tenant_the_owner_may_most_the_auditor_only_reads_and_nobody_changes_what_is_sold() {
        let owner = Permissions::of(Role::Owner);
        for role in [Role::Admin, Role::Billing, Role::Developer, Role::Auditor, Role::Viewer] {
            assert!(Permissions::of(role).is_within(owner), "{role:?}");
        }
        for role in [Role::Auditor, Role::Viewer] {
            assert!(Permissions::of(role).is_within(Permissions::reads()), "{role:?}");
        }
        assert_eq!(Permissions::of(Role::Auditor), owner.only(Permissions::reads()), "all that there is");
        for (operation, action, _) in MATRIX {
            let is_sold = matches!(
                operation,
                Operation::Apply
                    | Operation::ChangeTerms
                    | Operation::CreateTenant
                    | Operation::EraseTenant
                    | Operation::ExportInvoice
                    | Operation::FinalizeInvoice
                    | Operation::ImportKey
                    | Operation::ImportTenant
                    | Operation::PayInvoice
                    | Operation::RemoveQuota
                    | Operation::RemoveSpendCap
                    | Operation::ResendBillingEvent
                    | Operation::RotateSecrets
                    | Operation::SetPlatformSetting
                    | Operation::SetQuota
                    | Operation::SetSpendCap
                    | Operation::SetStatus
                    | Operation::SetTier
                    | Operation::SettleBillingEvent
                    | Operation::VoidInvoice
            );
            assert!(!(is_sold && owner.contains(operation)), "{action}");
        }
    }

    #[test]
    fn a_reseller_makes_stops_and_limits_tenants_below_it() {
        let expected = [
            "tenant.create",
            "tenant.change_terms",
            "tenant.set_status",
            "quota.set",
            "quota.remove",
            "spend_cap.set",
            "spend_cap.remove",
        ];
        assert_eq!(Permissions::of_resellers().names(), expected);
    }

    #[test]
    fn permissions_are_called_as_their_operations_are() {
        let set = Permissions::named(&["key.read", "key.create"]).unwrap();
        assert!(set.contains(Operation::CreateKey) && !set.contains(Operation::RevokeKey));
        assert_eq!(set.names(), ["key.read", "key.create"]);
        assert_eq!(Permissions::named(&["key.read", "key.steal"]), Err(1));
    }

    #[test]
    fn a_key_administers_only_by_a_scope_that_says_so() {
        let scope =
            |scopes: &[&str]| Scope::of(&scopes.iter().map(|&scope| scope.to_owned()).collect::<Vec<_>>());
        assert_eq!(scope(&[]), None);
        assert_eq!(scope(&["orders:read", "administrator"]), None);
        assert_eq!(scope(&["admin:read"]), Some(Scope::Read));
        assert_eq!(scope(&["admin:read", "admin"]), Some(Scope::Admin));
        assert!(Scope::Read.permissions().is_within(Scope::Admin.permissions()));
    }
}
