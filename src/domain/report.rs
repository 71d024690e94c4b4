//! Who uses little, or has more than is needed: lines of reports.

use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiKeyId, Limit, Resource, Slug, TenantId, TenantStatus, Units};
use crate::clock::Timestamp;

/// A tenant, and when it used something last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct TenantUse {
    pub tenant_id: TenantId,
    pub slug: Slug,
    pub organization_name: String,
    pub tenant_status: TenantStatus,
    pub tenant_tier: String,
    pub created_at: Timestamp,
    /// The day of UTC that it used something in last; `null` if it never did.
    pub last_used_at: Option<Timestamp>,
}

/// A key that was not used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct IdleKey {
    pub key_id: ApiKeyId,
    pub tenant_id: TenantId,
    /// The tenant's.
    pub slug: Slug,
    pub name: String,
    pub prefix: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

/// A tenant for which a cheaper tier would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Oversized {
    pub tenant_id: TenantId,
    pub slug: Slug,
    pub organization_name: String,
    pub tenant_tier: String,
    /// The cheapest that leaves room.
    pub smaller_tier: String,
    /// What both cost per month, in minor units of the currency.
    pub price_minor: i64,
    pub smaller_price_minor: i64,
    pub currency: String,
    pub peaks: Vec<Peak>,
}

/// The most that was used of a resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Peak {
    pub resource_type: Resource,
    /// In one month; of a gauge what is held.
    pub used: Units,
    /// Of the smaller tier.
    pub smaller_limit: Limit,
}
