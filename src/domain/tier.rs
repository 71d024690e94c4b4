//! Named, versioned sets of limits and prices.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::billing::{ChargeBy, UnitPrice};
use super::{Enforcement, Limit, LossPolicy, Owner, Period, Quota, Resource};

/// One version of a tier. Shipped as data in `config/tiers.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Tier {
    pub slug: String,
    pub version: i64,
    pub display: String,
    /// Price per month in minor units of `currency` (cents).
    pub price_minor: i64,
    /// ISO 4217.
    pub currency: String,
    pub retention_days: i64,
    /// `basic`, `standard`, `advanced` or `enterprise`.
    pub security_level: String,
    pub flags: Vec<String>,
    pub quotas: Vec<TierQuota>,
}

// === impl Tier ===

impl Tier {
    /// The flag of tiers whose tenants may have tenants below their own.
    pub const RESELLER: &str = "reseller";

    /// Whether its tenants may have tenants below their own.
    pub fn resells(&self) -> bool {
        self.flags.iter().any(|flag| flag == Tier::RESELLER)
    }
}

/// A quota that a tier gives to each of its tenants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TierQuota {
    pub resource: Resource,
    pub limit: Limit,
    pub period: Period,
    #[serde(default)]
    pub enforcement: Enforcement,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<LossPolicy>,
    /// What units above the limit cost, in whole units of the tier's currency; `None`: nothing above it is sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage: Option<UnitPrice>,
    /// Of a gauge that is sold above its limit: by what of it. Counters are charged for what they count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_by: Option<ChargeBy>,
}

// === impl TierQuota ===

impl TierQuota {
    /// Whether more than the limit is had, for money.
    pub fn is_sold(&self) -> bool {
        self.overage.is_some_and(|price| !price.is_nothing())
    }

    /// Whether it sells more of what that quota of a tenant limits.
    pub fn sells(&self, quota: &Quota) -> bool {
        let is_tenants = matches!(quota.owner, Owner::Tenant(_));
        is_tenants && self.is_sold() && (self.resource, self.period) == (quota.resource, quota.period)
    }
}
