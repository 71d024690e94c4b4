//! Tiers and resource types, read.

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::work::Target;
use super::{Control, ControlError, Principal, TenantRef};
use crate::domain::{ResourceType, Tier, TierQuota};

/// A tier as it is offered to somebody.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[schema(as = Tier)]
pub struct OfferedTier {
    pub slug: String,
    pub version: i64,
    pub display: String,
    /// Price per month in minor units of `currency`; `null` for tenants below a reseller: what the reseller pays is not
    /// theirs to know, and what they pay is between the two.
    pub price_minor: Option<i64>,
    /// ISO 4217; `null` where the price is.
    pub currency: Option<String>,
    pub retention_days: i64,
    /// `basic`, `standard`, `advanced` or `enterprise`.
    pub security_level: String,
    pub flags: Vec<String>,
    pub quotas: Vec<TierQuota>,
}

/// What a tenant's tier allows it, beside quotas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierTraits {
    /// The highest that the tenant can choose.
    pub security_level: String,
    /// Whether it may have tenants below its own.
    pub resells: bool,
}

impl Control {
    /// The latest version of each tier, cheapest first, with its price.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn tiers(&self, principal: &Principal) -> Result<Vec<Tier>, ControlError> {
        self.allow(principal, Operation::ReadTiers, &Target::platform("tier")).await?;
        Ok(self.read_as(principal).await?.tiers().await?)
    }

    /// The same as they are offered to the caller: without prices to who belongs to a tenant below a reseller.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn offered_tiers(&self, principal: &Principal) -> Result<Vec<OfferedTier>, ControlError> {
        let tiers = self.tiers(principal).await?.into_iter().map(OfferedTier::from);
        let own = match principal.tenant() {
            Some(own) => self.read_as(principal).await?.tenant(own).await?,
            None => None,
        };
        let is_resold = own.is_some_and(|own| own.parent.is_some());
        let priced = |tier: OfferedTier| match is_resold {
            true => OfferedTier { price_minor: None, currency: None, ..tier },
            false => tier,
        };
        Ok(tiers.map(priced).collect())
    }

    /// Everything that is counted.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn resource_types(&self, principal: &Principal) -> Result<Vec<ResourceType>, ControlError> {
        self.allow(principal, Operation::ReadTiers, &Target::platform("tier")).await?;
        Ok(self.read_as(principal).await?.resource_types().await?)
    }

    /// What the version of its tier that the tenant has allows it.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn tier_traits(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<TierTraits, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadTenant, tenant).await?;
        let security_level = snapshot.tier_security_level(&tenant).await?;
        Ok(TierTraits { security_level, resells: snapshot.is_reseller(&tenant).await? })
    }
}

// === impl OfferedTier ===

impl From<Tier> for OfferedTier {
    fn from(tier: Tier) -> Self {
        OfferedTier {
            slug: tier.slug,
            version: tier.version,
            display: tier.display,
            price_minor: Some(tier.price_minor),
            currency: Some(tier.currency),
            retention_days: tier.retention_days,
            security_level: tier.security_level,
            flags: tier.flags,
            quotas: tier.quotas,
        }
    }
}
