//! Usage on its way to whoever collects what is owed.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::{Resource, TenantId, Units};

/// Identifies an event here; its collector knows it by its [`identifier`](BillingEvent::identifier). A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct BillingEventId(pub Uuid);

/// Who collects what is owed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CollectorKind {
    Stripe,
    Lago,
}

/// What has become of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BillingEventState {
    Pending,
    Delivered,
    /// Given up; somebody may have it sent again, or settle it.
    Dead,
    /// Somebody has decided that it is billed to nobody.
    Abandoned,
}

/// What somebody says of an event that was given up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Its collector has it, or was told of it by hand.
    Delivered,
    /// It is billed to nobody.
    Abandoned,
}

/// One row of `billing_events`: what a tenant used of a resource in one hour, as far as no earlier revision brings it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BillingEvent {
    pub id: BillingEventId,
    pub tenant: TenantId,
    pub resource: Resource,
    /// Start of the hour.
    pub bucket: Timestamp,
    /// From 0; usage that came late for an hour that was taken is in the next one.
    pub revision: u64,
    /// Never zero.
    pub units: Units,
    pub collector: CollectorKind,
    /// What the tenant is called there.
    pub account: String,
    pub state: BillingEventState,
    /// Attempts that have begun.
    pub attempts: u32,
    /// When the next attempt is due; while one is under way, when it is given up for lost.
    pub next_at: Timestamp,
    /// The first attempt of which nobody knows whether it arrived.
    pub doubtful_since: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Why somebody has settled it.
    pub settled_reason: Option<String>,
}

/// The setting that says what a tenant is called at the collector.
pub const BILLING_ACCOUNT: &str = "billing_account";

// === impl BillingEventId ===

impl fmt::Display for BillingEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl CollectorKind ===

impl CollectorKind {
    pub const ALL: [CollectorKind; 2] = [CollectorKind::Stripe, CollectorKind::Lago];

    pub const fn as_str(self) -> &'static str {
        match self {
            CollectorKind::Stripe => "stripe",
            CollectorKind::Lago => "lago",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        CollectorKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for CollectorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl BillingEventState ===

impl BillingEventState {
    pub const ALL: [BillingEventState; 4] = [
        BillingEventState::Pending,
        BillingEventState::Delivered,
        BillingEventState::Dead,
        BillingEventState::Abandoned,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            BillingEventState::Pending => "pending",
            BillingEventState::Delivered => "delivered",
            BillingEventState::Dead => "dead",
            BillingEventState::Abandoned => "abandoned",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        BillingEventState::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl From<Settled> for BillingEventState {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Delivered => BillingEventState::Delivered,
            Settled::Abandoned => BillingEventState::Abandoned,
        }
    }
}

// === impl BillingEvent ===

impl BillingEvent {
    /// The same for the same usage, whichever gateway takes or sends it: what collectors know twice by. The hour is in
    /// seconds since 1970. At most 100 characters, which is Stripe's limit.
    pub fn identifier(&self) -> String {
        let BillingEvent { tenant, resource, bucket, revision, .. } = self;
        format!("tg:{tenant}:{resource}:{}:{revision}", bucket.seconds())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{BillingEvent, BillingEventId, BillingEventState, CollectorKind};
    use crate::clock::Timestamp;
    use crate::domain::{Resource, TenantId, Units};

    #[test]
    fn an_identifier_says_what_was_used_and_is_short_enough_for_stripe() {
        let at = Timestamp::parse("2026-11-23T06:00:00Z").unwrap();
        let event = BillingEvent {
            id: BillingEventId(Uuid::max()),
            tenant: TenantId(Uuid::from_u128(7)),
            resource: "api_calls".parse().unwrap(),
            bucket: at,
            revision: 2,
            units: Units::ONE,
            collector: CollectorKind::Stripe,
            account: "cus_1".to_owned(),
            state: BillingEventState::Pending,
            attempts: 0,
            next_at: at,
            doubtful_since: None,
            last_error: None,
            created_at: at,
            finished_at: None,
            settled_reason: None,
        };
        assert_eq!(event.identifier(), "tg:00000000-0000-0000-0000-000000000007:api_calls:1795413600:2");
        let longest = "x".repeat(Resource::LENGTH_MAX).parse().unwrap();
        let longest = BillingEvent { resource: longest, revision: u64::from(u32::MAX), ..event };
        assert!(longest.identifier().len() <= 100);
    }
}
