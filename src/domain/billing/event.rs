//! Usage on its way to whoever collects what is owed.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::{DeliveryState, Resource, TenantId, Units};

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
    pub state: DeliveryState,
    /// Attempts that have begun.
    pub attempts: u32,
    /// When the next attempt is due; while one is under way, when it is given up for lost.
    pub next_at: Timestamp,
    /// The first attempt of which nobody knows whether it arrived.
    pub doubtful_since: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
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

    use super::{BillingEvent, BillingEventId, CollectorKind};
    use crate::clock::Timestamp;
    use crate::domain::{DeliveryState, Resource, TenantId, Units};

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
            state: DeliveryState::Pending,
            attempts: 0,
            next_at: at,
            doubtful_since: None,
            last_error: None,
            created_at: at,
            finished_at: None,
        };
        assert_eq!(event.identifier(), "tg:00000000-0000-0000-0000-000000000007:api_calls:1795413600:2");
        let longest = "x".repeat(Resource::LENGTH_MAX).parse().unwrap();
        let longest = BillingEvent { resource: longest, revision: u64::from(u32::MAX), ..event };
        assert!(longest.identifier().len() <= 100);
    }
}
