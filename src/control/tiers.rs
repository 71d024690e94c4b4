//! Tiers and resource types: what can be sold, and what is counted.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::domain::billing::Currency;
use crate::domain::{
    Enforcement, Period, ResourceKind, ResourceType, SECURITY_LEVELS, Slug, Tier, TierQuota,
};

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
            true => tier.without_prices(),
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

    /// Sells a tier as it stands there from now on: as its next version, or as a new tier. Whoever has an older version
    /// keeps it until its tier changes. What is sold already is success and writes nothing. The version that is given is
    /// not looked at.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults.
    pub async fn set_tier(&self, principal: &Principal, tier: Tier) -> Result<Tier, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.set_tier(tier).await;
        work.end(outcome).await
    }
}

fn check_terms(faults: &mut Faults, tier: &Tier) {
    let is_slug = tier.slug.parse::<Slug>().is_ok();
    faults.check_that(is_slug, "slug", "1 to 63 of a-z, 0-9 and - are expected, beginning with a letter");
    faults.check_that(!tier.display.trim().is_empty(), "display", "a name is expected");
    faults.check_that(tier.price_minor >= 0, "price_minor", "0 or more is expected");
    let currency = Currency::parse(&tier.currency);
    faults.check_that(currency.is_some(), "currency", "a currency of ISO 4217 is expected, like USD");
    faults.check_that((1..=3_650).contains(&tier.retention_days), "retention_days", "1 to 3650 are expected");
    let is_level = SECURITY_LEVELS.contains(&tier.security_level.as_str());
    faults.check_that(
        is_level,
        "security_level",
        &format!("one of {} is expected", SECURITY_LEVELS.join(", ")),
    );
}

fn check_quotas(faults: &mut Faults, quotas: &[TierQuota], known: &[ResourceType]) {
    for (at, quota) in quotas.iter().enumerate() {
        let field = format!("quotas[{at}]");
        let Some(of) = known.iter().find(|known| known.slug == quota.resource) else {
            faults.add(&field, "there is no such resource");
            continue;
        };
        let same = |other: &TierQuota| (other.resource, other.period) == (quota.resource, quota.period);
        faults.check_that(!quotas[..at].iter().any(same), &field, "there is such a quota already");
        let is_gauge = of.kind == ResourceKind::Gauge;
        let fits = is_gauge == (quota.period == Period::Forever);
        faults.check_that(fits, &field, "gauges are held forever, counters begin anew");
        // What a hard limit denies can't be sold, and only what a month counted or a gauge held is on an invoice.
        let is_billed = is_gauge || quota.period == Period::Month;
        let is_soft = quota.enforcement != Enforcement::Hard && is_billed;
        let can_be_sold = quota.overage.is_none() || is_soft;
        faults.check_that(
            can_be_sold,
            &field,
            "what is above a limit is sold per month, where the limit is soft",
        );
        let says_how = quota.charge_by.is_some() == (is_gauge && quota.overage.is_some());
        faults.check_that(
            says_how,
            &field,
            "a gauge that is sold says `charge_by`, which is `maximum` or `average`, and nothing else does",
        );
    }
}

// === impl Work ===

impl Work<'_> {
    async fn set_tier(&mut self, mut tier: Tier) -> Result<Tier, ControlError> {
        let target = Target { tenant: None, kind: "tier", id: tier.slug.clone() };
        self.authorize(Operation::SetTier, &target)?;
        let mut faults = Faults::default();
        check_terms(&mut faults, &tier);
        check_quotas(&mut faults, &tier.quotas, &self.tx.resource_types().await?);
        let sold = self.tx.tier(&tier.slug).await?;
        if sold.as_ref().is_some_and(|sold| sold.slug != tier.slug) {
            faults.add("slug", "a tier is called so as well");
        }
        faults.finish()?;
        // As the store lists them.
        let place = |quota: &TierQuota| (quota.resource.to_string(), quota.period.as_str());
        tier.quotas.sort_unstable_by_key(place);
        tier.version = sold.as_ref().map_or(1, |sold| sold.version);
        if sold.as_ref() == Some(&tier) {
            return Ok(tier);
        }
        tier.version = sold.as_ref().map_or(1, |sold| sold.version + 1);
        self.tx.add_tier_version(&tier).await?;
        let told = Told { before: sold.map(|sold| json!(sold)), after: Some(json!(tier)), ..Told::default() };
        self.audit(Operation::SetTier, &target, told).await?;
        Ok(tier)
    }
}

// === impl OfferedTier ===

impl OfferedTier {
    fn without_prices(self) -> OfferedTier {
        let quotas = self
            .quotas
            .into_iter()
            .map(|quota| TierQuota { overage: None, charge_by: None, ..quota })
            .collect();
        OfferedTier { price_minor: None, currency: None, quotas, ..self }
    }
}

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
