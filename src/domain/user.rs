//! People who administrate: their log-ins, what they are to tenants, and who is asked to become somebody.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Role, Slug, TenantId};
use crate::clock::Timestamp;

/// Identifies a person. A UUIDv7, unless another program chose it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

/// Identifies an invitation. A UUIDv7, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct InvitationId(pub Uuid);

/// What somebody is in a tenant: one of the roles that there are everywhere, or one of the tenant's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RoleName {
    BuiltIn(Role),
    Own(Slug),
}

/// A person who can come to administrate, without what they are known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub id: UserId,
    /// In lower case.
    pub email: String,
    /// What they are to the platform itself.
    pub platform_role: Option<Role>,
    pub has_password: bool,
    /// Whether a code is asked for beside the password.
    pub is_multi_factor: bool,
    pub created_at: Timestamp,
}

/// Somebody is something in a tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    pub tenant: TenantId,
    pub user: UserId,
    pub email: String,
    pub role: RoleName,
    pub created_at: Timestamp,
}

/// Whoever brings its token becomes a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invitation {
    pub id: InvitationId,
    pub tenant: TenantId,
    pub email: String,
    pub role: RoleName,
    /// The name of who invited.
    pub invited_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A tenant's own role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnRole {
    pub name: Slug,
    /// Names of permissions.
    pub permissions: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

// === impl UserId ===

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl InvitationId ===

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl RoleName ===

impl RoleName {
    pub const OWNER: RoleName = RoleName::BuiltIn(Role::Owner);

    pub fn as_str(&self) -> &str {
        match self {
            RoleName::BuiltIn(role) => role.as_str(),
            RoleName::Own(slug) => slug.as_str(),
        }
    }
}

impl FromStr for RoleName {
    type Err = ();

    /// The platform's roles are nobody's in a tenant.
    fn from_str(text: &str) -> Result<Self, ()> {
        match Role::parse(text) {
            Some(role) if role.is_platforms() => Err(()),
            Some(role) => Ok(RoleName::BuiltIn(role)),
            None => text.parse().map(RoleName::Own),
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::RoleName;
    use crate::domain::Role;

    #[test]
    fn a_role_in_a_tenant_is_one_of_all_tenants_or_of_its_own_and_never_the_platforms() {
        assert_eq!("owner".parse(), Ok(RoleName::OWNER));
        let own: RoleName = "on-call".parse().unwrap();
        assert_eq!((own.as_str(), matches!(own, RoleName::Own(_))), ("on-call", true));
        for bad in ["platform_owner", "platform_support", "", "On Call"] {
            assert!(bad.parse::<RoleName>().is_err(), "{bad}");
        }
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
    }
}
