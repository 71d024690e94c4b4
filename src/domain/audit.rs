//! Who did what: written in the same transaction as the change it tells of.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::TenantId;
use crate::clock::Timestamp;

/// Who acts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Actor {
    pub kind: ActorKind,
    /// A user's, key's or token's id; `None` for the system and for the machine's own administrator.
    pub id: Option<Uuid>,
    pub name: String,
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    User,
    /// A person with a role at the platform.
    PlatformUser,
    ApiKey,
    /// The bootstrap token of the platform's owner.
    PlatformToken,
    /// Whoever may read the data directory: the command line beside the gateway.
    LocalAdmin,
    System,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    Done,
    Denied,
}

/// One row of `tenant_audit_logs`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AuditRow {
    pub at: Timestamp,
    /// `None` for what concerns the whole platform.
    pub tenant: Option<TenantId>,
    pub actor: Actor,
    /// `noun.verb`, for example `tenant.created`.
    pub action: String,
    pub target_kind: String,
    pub target_id: String,
    pub outcome: AuditOutcome,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
    pub reason: Option<String>,
    /// One id for all rows of one request.
    pub correlation: Uuid,
}

// === impl Actor ===

impl Actor {
    pub fn system(name: &str) -> Self {
        Actor { kind: ActorKind::System, id: None, name: name.to_owned(), ip: None, user_agent: None }
    }
}

// === impl ActorKind ===

impl ActorKind {
    pub const ALL: [ActorKind; 6] = [
        ActorKind::User,
        ActorKind::PlatformUser,
        ActorKind::ApiKey,
        ActorKind::PlatformToken,
        ActorKind::LocalAdmin,
        ActorKind::System,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ActorKind::User => "user",
            ActorKind::PlatformUser => "platform_user",
            ActorKind::ApiKey => "api_key",
            ActorKind::PlatformToken => "platform_token",
            ActorKind::LocalAdmin => "local_admin",
            ActorKind::System => "system",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        ActorKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl AuditOutcome ===

impl AuditOutcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Done => "done",
            AuditOutcome::Denied => "denied",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [AuditOutcome::Done, AuditOutcome::Denied].into_iter().find(|outcome| outcome.as_str() == text)
    }
}
