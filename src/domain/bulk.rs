//! Operations over many tenants: to whom, what, and how far it has come.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Actor, Enforcement, Limit, LossPolicy, Period, Resource, Slug, TenantId, TenantStatus};
use crate::clock::Timestamp;

/// Identifies an operation over many tenants, and is the correlation of all its rows in audit logs. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct BulkId(pub Uuid);

/// To whom: tenants for whom all that is said is so. Deleted ones are never among them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BulkFilter {
    /// To all of them: has to be said where nothing else is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<TenantStatus>,
    /// Slug or alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The reseller right above them: id or slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Part of the name, slug or e-mail address, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Ids or slugs; empty is no restriction.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1_000)]
    pub tenants: Vec<String>,
}

/// What is done to each of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BulkAction {
    /// Moves it to a status; `deleted` is for one at a time.
    Status {
        status: TenantStatus,
        /// Why; needed to suspend.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Gives it the newest version of a tier; limits of its own stay.
    Tier { tier: String },
    /// Sets a limit of its own.
    Quota {
        resource_type: Resource,
        /// `null` is unlimited.
        limit: Limit,
        #[serde(default)]
        period: Option<Period>,
        #[serde(default)]
        enforcement: Option<Enforcement>,
        #[serde(default)]
        on_loss: Option<LossPolicy>,
        #[serde(default)]
        reason: Option<String>,
        #[serde(default)]
        expires_at: Option<Timestamp>,
    },
    /// Tells it something: among its alerts, and through its channels.
    Message { subject: String, text: String },
}

/// One row of `bulk_operations`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct BulkOperation {
    #[serde(rename = "operation_id")]
    pub id: BulkId,
    pub state: BulkState,
    pub filter: BulkFilter,
    pub action: BulkAction,
    /// Who asked for it, and stands in the audit log of each tenant.
    pub actor: Actor,
    /// How many tenants there were when it was made; those that come later are not among them.
    pub total: u64,
    pub changed: u64,
    /// Those that were so already.
    pub unchanged: u64,
    pub failed: u64,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkState {
    Running,
    /// What was not done by then is not done.
    Cancelled,
    Done,
}

/// What came of one tenant, or would.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct BulkItem {
    pub tenant_id: TenantId,
    pub slug: Slug,
    pub state: BulkItemState,
    /// What the change put something in the place of.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// Why it was refused.
    pub error: Option<String>,
    pub at: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkItemState {
    Pending,
    Changed,
    /// It was so already.
    Unchanged,
    /// It was refused, and left as it was.
    Failed,
}

// === impl BulkId ===

impl fmt::Display for BulkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl BulkFilter ===

impl BulkFilter {
    /// Whether it restricts nothing.
    pub fn is_empty(&self) -> bool {
        let BulkFilter { all: _, status, tier, parent, q, tenants } = self;
        let q = q.as_deref().unwrap_or_default();
        status.is_none() && tier.is_none() && parent.is_none() && q.is_empty() && tenants.is_empty()
    }
}

// === impl BulkState ===

impl BulkState {
    const ALL: [BulkState; 3] = [BulkState::Running, BulkState::Cancelled, BulkState::Done];

    pub const fn as_str(self) -> &'static str {
        match self {
            BulkState::Running => "running",
            BulkState::Cancelled => "cancelled",
            BulkState::Done => "done",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        BulkState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

// === impl BulkItemState ===

impl BulkItemState {
    pub const ALL: [BulkItemState; 4] =
        [BulkItemState::Pending, BulkItemState::Changed, BulkItemState::Unchanged, BulkItemState::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            BulkItemState::Pending => "pending",
            BulkItemState::Changed => "changed",
            BulkItemState::Unchanged => "unchanged",
            BulkItemState::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        BulkItemState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}
