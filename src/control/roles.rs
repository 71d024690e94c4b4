//! Roles: those that there are everywhere, and sets of permissions that a tenant makes its own roles of.
//!
//! Nobody makes a role that may do more than they may, and nobody makes anybody more than they are.

use serde_json::{Value, json};

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Permissions, Principal, TenantRef};
use crate::domain::{OwnRole, Role, RoleName, SECURITY_LEVELS, Slug, Tenant, TenantId};
use crate::store::{Snapshot, StoreError};

/// A role that members of a tenant can have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleView {
    pub name: RoleName,
    pub permissions: Permissions,
}

/// Roles of one tenant's own.
const ROLES_MAX: usize = 50;

impl Control {
    /// Everything that a member of the tenant can be.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn roles(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<RoleView>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadRoles, tenant).await?;
        let built_in = Role::ALL.into_iter().filter(|role| !role.is_platforms());
        let built_in = built_in
            .map(|role| RoleView { name: RoleName::BuiltIn(role), permissions: Permissions::of(role) });
        let own = snapshot.own_roles(tenant.id).await?;
        Ok(built_in.chain(own.iter().map(RoleView::from)).collect())
    }

    /// Makes a role of the tenant's own, or makes it another set of permissions, which holds for its members at once.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] where the tier has no roles of its own.
    pub async fn set_role(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        name: &str,
        permissions: &[String],
    ) -> Result<RoleView, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_role(tenant, name, permissions).await;
        work.end(outcome).await
    }

    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] while somebody has it, or is invited to it.
    pub async fn remove_role(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        name: &str,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_role(tenant, name).await;
        work.end(outcome).await
    }
}

/// What the role may do in that tenant; `None` if it has no such role (any more).
pub(super) async fn permissions_of(
    snapshot: &mut Snapshot,
    tenant: TenantId,
    role: &RoleName,
) -> Result<Option<Permissions>, StoreError> {
    Ok(match role {
        RoleName::BuiltIn(role) => Some(Permissions::of(*role)),
        RoleName::Own(name) => snapshot.own_role(tenant, name).await?.as_ref().map(permissions),
    })
}

/// What is not a permission any more, after an update, allows nothing.
fn permissions(role: &OwnRole) -> Permissions {
    let known = role.permissions.iter().filter_map(|name| Permissions::named(&[name]).ok());
    known.fold(Permissions::NONE, Permissions::and)
}

fn shown(role: &OwnRole) -> Value {
    json!({ "permissions": role.permissions })
}

fn no_role(name: &str) -> ControlError {
    ControlError::NotFound { what: "role of the tenant's own", which: name.to_owned() }
}

// === impl RoleView ===

impl From<&OwnRole> for RoleView {
    fn from(role: &OwnRole) -> Self {
        RoleView { name: RoleName::Own(role.name.clone()), permissions: permissions(role) }
    }
}

// === impl Work ===

impl Work<'_> {
    async fn set_role(
        &mut self,
        tenant: &TenantRef,
        name: &str,
        permissions: &[String],
    ) -> Result<RoleView, ControlError> {
        let tenant = self.living_tenant_for(Operation::SetRole, tenant).await?;
        self.refuse_low_tier(&tenant).await?;
        let name = self.checked_role(name, permissions)?;
        let before = self.tx.own_role(tenant.id, &name).await?;
        if before.is_none() && self.tx.own_roles(tenant.id).await?.len() >= ROLES_MAX {
            return Err(ControlError::Conflict(format!("a tenant has at most {ROLES_MAX} roles of its own")));
        }
        let created_at = before.as_ref().map_or(self.now, |before| before.created_at);
        let mut permissions = permissions.to_vec();
        permissions.sort_unstable();
        permissions.dedup();
        let after = OwnRole { name, permissions, created_at, updated_at: self.now };
        if before.as_ref().is_some_and(|before| before.permissions == after.permissions) {
            return Ok(RoleView::from(&after));
        }
        self.tx.set_own_role(tenant.id, &after).await?;
        let told = Told { before: before.as_ref().map(shown), ..Told::made(shown(&after)) };
        let target = Target::of(&tenant, "role", after.name.as_str());
        self.audit(Operation::SetRole, &target, told).await?;
        Ok(RoleView::from(&after))
    }

    async fn refuse_low_tier(&mut self, tenant: &Tenant) -> Result<(), ControlError> {
        let highest = SECURITY_LEVELS[SECURITY_LEVELS.len() - 1];
        if self.tx.tier_security_level(tenant).await? == highest {
            return Ok(());
        }
        let why =
            format!("the tier {} has no roles of its own: the security level {highest} has", tenant.tier);
        Err(ControlError::Conflict(why))
    }

    fn checked_role(&self, name: &str, permissions: &[String]) -> Result<Slug, ControlError> {
        let mut faults = Faults::default();
        let name = match Role::parse(name) {
            Some(_) => faults.check("role", None, "that role is there already, in every tenant"),
            None => faults.slug("role", name),
        };
        // What is the platform's alone makes no role in a tenant, whoever makes it.
        let allowed = self.principal.rights.permissions.only(Permissions::of(Role::Owner));
        for (at, permission) in permissions.iter().enumerate() {
            let field = format!("permissions[{at}]");
            match Permissions::named(&[permission]) {
                Ok(one) if one.is_within(allowed) => {}
                Ok(_) => faults.add(&field, format!("you may not do {permission} here yourself")),
                Err(_) => faults.add(&field, "there is no such permission"),
            }
        }
        let all_good = faults.is_empty();
        name.filter(|_| all_good).ok_or_else(|| faults.refusal())
    }

    async fn remove_role(&mut self, tenant: &TenantRef, name: &str) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::RemoveRole, tenant).await?;
        let slug: Slug = name.parse().map_err(|()| no_role(name))?;
        let before = self.tx.own_role(tenant.id, &slug).await?.ok_or_else(|| no_role(name))?;
        let role = RoleName::Own(slug.clone());
        let invited = self.tx.invitations(tenant.id).await?;
        if self.tx.others_in_role(tenant.id, &role, None).await? > 0
            || invited.iter().any(|invited| invited.role == role)
        {
            let why = format!("members or invitations have the role {name}: give them another first");
            return Err(ControlError::Conflict(why));
        }
        self.tx.remove_own_role(tenant.id, &slug).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveRole, &Target::of(&tenant, "role", name), told).await
    }
}
