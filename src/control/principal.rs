//! Who asks, what they may do, and which tenants exist for them.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Control, ControlError, Permissions};
use crate::domain::{Actor, Role, Tenant, TenantId, TenantRef};
use crate::store::{Reach, Snapshot, Visible};

pub(super) use super::permissions::Operation;

/// Who asks: made by the door that authenticated them.
#[derive(Clone, PartialEq, Debug)]
pub struct Principal {
    pub actor: Actor,
    pub rights: Rights,
    /// One id for all audit rows of one request.
    pub correlation: Uuid,
}

/// What somebody may do, and how far their arm reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// The tenant that they belong to; `None` is the platform, and so all of them.
    pub tenant: Option<TenantId>,
    pub permissions: Permissions,
    /// Whether the tenants below their own are theirs to look after.
    pub resells: bool,
    /// Whether they may do nothing because their tenant wants more than a password.
    pub lacks_second_factor: bool,
}

// === impl Principal ===

impl Principal {
    /// The machine itself, whoever may read its data directory, or the platform's owner.
    pub fn platform(actor: Actor, correlation: Uuid) -> Principal {
        Principal { actor, rights: Rights::platform(Role::PlatformOwner), correlation }
    }

    /// The tenant that the caller belongs to: what `current` means.
    pub const fn tenant(&self) -> Option<TenantId> {
        self.rights.tenant
    }

    /// The rows that there are for the caller.
    pub(super) fn reach(&self) -> Reach {
        self.tenant().map_or(Reach::Platform, Reach::Tenant)
    }

    /// The tenants that there are for the caller.
    pub(super) fn visible(&self) -> Visible {
        match self.tenant() {
            None => Visible::All,
            Some(own) if self.looks_below() => Visible::Below(own),
            Some(own) => Visible::One(own),
        }
    }

    pub(super) fn authorize(&self, operation: Operation) -> Result<(), ControlError> {
        if self.rights.permissions.contains(operation) {
            return Ok(());
        }
        Err(ControlError::Forbidden {
            actor: self.actor.name.clone(),
            operation: operation.action(),
            needs: if self.rights.lacks_second_factor {
                "the tenant wants a second factor first".to_owned()
            } else {
                operation.who()
            },
        })
    }

    /// The tenant of that name, if it exists for the caller.
    pub(super) async fn find(
        &self,
        snapshot: &mut Snapshot,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        let found = named(snapshot, tenant).await?;
        let visible = found.filter(|found| self.sees(found.id));
        visible.ok_or_else(|| ControlError::NotFound { what: "tenant", which: tenant.to_string() })
    }

    pub(super) fn sees(&self, id: TenantId) -> bool {
        self.tenant().is_none_or(|own| own == id)
    }

    pub(super) fn looks_below(&self) -> bool {
        self.rights.resells && self.rights.permissions.contains(Operation::ReadChildren)
    }

    /// The caller as a tenant below its own knows it: with its own rights, and those of a reseller if it may use them.
    pub(super) fn below(&self, tenant: TenantId) -> Principal {
        let own = self.rights.permissions;
        let manages = own.contains(Operation::ManageChildren);
        let more = if manages { Permissions::of_resellers() } else { Permissions::NONE };
        let rights = Rights { resells: false, ..self.rights };
        let rights = Rights { tenant: Some(tenant), permissions: own.and(more), ..rights };
        Principal { rights, ..self.clone() }
    }
}

impl Control {
    /// The caller, as the tenant of that name knows it: another one than itself only for a reseller, of whom a tenant
    /// below has to do with. Who is not below stays out of reach.
    pub(super) async fn towards<'p>(
        &self,
        principal: &'p Principal,
        tenant: &TenantRef,
    ) -> Result<Cow<'p, Principal>, ControlError> {
        let Some(own) = principal.tenant().filter(|_| principal.looks_below()) else {
            return Ok(Cow::Borrowed(principal));
        };
        // What stands above whom is out of a tenant's reach.
        let mut snapshot = self.read().await?;
        let Some(found) = named(&mut snapshot, tenant).await? else { return Ok(Cow::Borrowed(principal)) };
        let is_below = snapshot.tenants_above(&found).await?.iter().any(|above| above.id == own);
        Ok(if is_below { Cow::Owned(principal.below(found.id)) } else { Cow::Borrowed(principal) })
    }

    /// The caller within one tenant: no credential reaches further than that tenant there.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn within(&self, principal: &Principal, tenant: &TenantRef) -> Result<Principal, ControlError> {
        let mut within = self.towards(principal, tenant).await?.into_owned();
        let found = within.find(&mut self.read_as(&within).await?, tenant).await;
        if let Err(ControlError::NotFound { .. }) = &found {
            self.note_foreign_read(&within, Operation::ReadTenant, tenant).await?;
        }
        within.rights.tenant = Some(found?.id);
        Ok(within)
    }
}

async fn named(snapshot: &mut Snapshot, tenant: &TenantRef) -> Result<Option<Tenant>, ControlError> {
    Ok(match tenant {
        TenantRef::Id(id) => snapshot.tenant(*id).await?,
        TenantRef::Slug(slug) => snapshot.tenant_by_slug(slug).await?,
    })
}

// === impl Rights ===

impl Rights {
    /// Of somebody who belongs nowhere: no tenant has that id, so there is none for them.
    pub const NOBODYS: Rights = Rights {
        tenant: Some(TenantId(Uuid::nil())),
        permissions: Permissions::NONE,
        resells: false,
        lacks_second_factor: false,
    };

    /// Those of one of the platform's roles.
    pub fn platform(role: Role) -> Rights {
        debug_assert!(role.is_platforms(), "{role:?} is a role in a tenant");
        Rights { tenant: None, permissions: Permissions::of(role), ..Rights::NOBODYS }
    }

    /// In one tenant only.
    pub const fn in_tenant(tenant: TenantId, permissions: Permissions) -> Rights {
        Rights { tenant: Some(tenant), permissions, ..Rights::NOBODYS }
    }

    /// Whether it is somebody who is nothing to nobody.
    pub fn is_nobodys(&self) -> bool {
        self.tenant == Rights::NOBODYS.tenant
    }
}
