//! Roles: what people are to the platform, or to a tenant.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role that there is everywhere. What each may do is said in one table, the permission matrix of `control`; a tenant
/// may have roles of its own beside them, which are named like tenants are: by a [`Slug`](super::Slug).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, in all tenants.
    PlatformOwner,
    /// Reads what there is to read, in all tenants.
    PlatformSupport,
    Owner,
    /// As the owner, but for what makes somebody else one.
    Admin,
    /// What is used and owed, and whom to write to about it.
    Billing,
    /// Keys and usage.
    Developer,
    /// Reads everything, the audit log too.
    Auditor,
    /// Reads what is used and what is left.
    Viewer,
}

// === impl Role ===

impl Role {
    pub const ALL: [Role; 8] = [
        Role::PlatformOwner,
        Role::PlatformSupport,
        Role::Owner,
        Role::Admin,
        Role::Billing,
        Role::Developer,
        Role::Auditor,
        Role::Viewer,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::PlatformOwner => "platform_owner",
            Role::PlatformSupport => "platform_support",
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Billing => "billing",
            Role::Developer => "developer",
            Role::Auditor => "auditor",
            Role::Viewer => "viewer",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether it is a role at the platform, and not in a tenant.
    pub const fn is_platforms(self) -> bool {
        matches!(self, Role::PlatformOwner | Role::PlatformSupport)
    }
}
