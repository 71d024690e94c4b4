//! Limits of resources, and the accounts that units are taken from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ApiKeyId, Limit, Period, Resource, TenantId, Window};
use crate::clock::Timestamp;

/// Whose units: a tenant's, or one key's of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owner {
    Tenant(TenantId),
    Key(ApiKeyId),
}

/// What happens at the limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Deny.
    #[default]
    Hard,
    /// Allow, and mark what is above as overage.
    Soft,
    /// Only count, and report what would have been denied.
    Monitor,
}

/// What happens when the authority can't be reached and the till is dry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossPolicy {
    /// Deny with 503: it is not the tenant's fault.
    #[default]
    Till,
    /// Allow up to a stated cap; booked as debt on recovery.
    Open,
    /// Deny even what the till holds.
    Closed,
    /// Allow this gateway's share of the limit.
    Share,
}

/// The limit of a resource for an owner in a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota {
    pub owner: Owner,
    pub resource: Resource,
    pub period: Period,
    pub limit: Limit,
    pub enforcement: Enforcement,
    /// `None`: as the gateway's configuration says.
    pub on_loss: Option<LossPolicy>,
    /// Whether the limit is what the tenant's spend cap leaves.
    pub is_capped: bool,
}

/// What units are taken from. A configuration's revision is no part of it, so changing a limit resets nothing.
///
/// Its text, `t:<tenant>:<resource>:<period>:<start>:<end>` or `k:<key>:…` with instants in microseconds, is how
/// authorities elsewhere name it: never changed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountKey {
    pub owner: Owner,
    pub resource: Resource,
    pub window: Window,
}

/// A text that names no account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the name of an account")]
pub struct NotAnAccount;

// === impl Owner ===

impl Owner {
    pub const fn uuid(self) -> Uuid {
        match self {
            Owner::Tenant(TenantId(id)) | Owner::Key(ApiKeyId(id)) => id,
        }
    }

    /// `tenant` or `key`: how SQL, the API and messages name the kind of owner.
    pub const fn kind(self) -> &'static str {
        match self {
            Owner::Tenant(_) => "tenant",
            Owner::Key(_) => "key",
        }
    }

    /// The inverse of [`Owner::kind`] and [`Owner::uuid`].
    pub fn of_kind(kind: &str, id: Uuid) -> Option<Owner> {
        match kind {
            "tenant" => Some(Owner::Tenant(TenantId(id))),
            "key" => Some(Owner::Key(ApiKeyId(id))),
            _ => None,
        }
    }
}

// === impl AccountKey ===

impl AccountKey {
    /// The quota's name among a caller's policies: `api_calls-month`, `key-api_calls-day`.
    pub fn policy_name(&self) -> String {
        let AccountKey { owner, resource, window } = self;
        match owner {
            Owner::Tenant(_) => format!("{resource}-{}", window.period),
            Owner::Key(_) => format!("key-{resource}-{}", window.period),
        }
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccountKey { owner, resource, window: Window { period, start, end } } = self;
        let kind = match owner {
            Owner::Tenant(_) => 't',
            Owner::Key(_) => 'k',
        };
        write!(f, "{kind}:{}:{resource}:{period}:{}:{}", owner.uuid(), start.micros(), end.micros())
    }
}

impl FromStr for AccountKey {
    type Err = NotAnAccount;

    fn from_str(text: &str) -> Result<Self, NotAnAccount> {
        read_account(text).ok_or(NotAnAccount)
    }
}

fn read_account(text: &str) -> Option<AccountKey> {
    let parts: Vec<&str> = text.split(':').collect();
    let [kind, id, resource, period, start, end] = parts[..] else { return None };
    let id: Uuid = id.parse().ok()?;
    let owner = match kind {
        "t" => Owner::Tenant(TenantId(id)),
        "k" => Owner::Key(ApiKeyId(id)),
        _ => return None,
    };
    let instant = |micros: &str| micros.parse().ok().map(Timestamp::from_micros);
    let window = Window { period: period.parse().ok()?, start: instant(start)?, end: instant(end)? };
    Some(AccountKey { owner, resource: resource.parse().ok()?, window })
}

// === impl LossPolicy ===

impl LossPolicy {
    pub const ALL: [LossPolicy; 4] =
        [LossPolicy::Till, LossPolicy::Open, LossPolicy::Closed, LossPolicy::Share];

    pub const fn as_str(self) -> &'static str {
        match self {
            LossPolicy::Till => "till",
            LossPolicy::Open => "open",
            LossPolicy::Closed => "closed",
            LossPolicy::Share => "share",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        LossPolicy::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

// === impl Enforcement ===

impl Enforcement {
    pub const ALL: [Enforcement; 3] = [Enforcement::Hard, Enforcement::Soft, Enforcement::Monitor];

    pub const fn as_str(self) -> &'static str {
        match self {
            Enforcement::Hard => "hard",
            Enforcement::Soft => "soft",
            Enforcement::Monitor => "monitor",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Enforcement::ALL.into_iter().find(|enforcement| enforcement.as_str() == text)
    }
}
