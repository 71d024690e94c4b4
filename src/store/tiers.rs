//! Tiers and resource types: small tables that every tenant shares.

use serde::Deserialize;

use super::quotas::on_loss;
use super::sql::{Row, query, select};
use super::values::{corrupt, get, json, limit, parsed, to_json};
use super::{Changed, Snapshot, StoreError, Tx};
use crate::domain::billing::{ChargeBy, UnitPrice};
use crate::domain::{Enforcement, LossPolicy, Resource, ResourceKind, ResourceType, Tenant, Tier, TierQuota};

/// `config/tiers.toml`: what a new database begins with.
const SHIPPED: &str = include_str!("../../config/tiers.toml");

const TIER: &str = "tier, version, display, price_minor, currency, retention_days, security_level, flags";
const TIER_QUOTA: &str =
    "resource_type, limit_amount, period, enforcement, on_loss, overage_price, overage_per, charge_by";
const RESOURCE_TYPE: &str = "slug, kind, unit, display";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shipped {
    #[serde(rename = "resource")]
    resources: Vec<ResourceType>,
    #[serde(rename = "tier")]
    tiers: Vec<ShippedTier>,
}

#[derive(Deserialize)]
struct ShippedTier {
    #[serde(flatten)]
    tier: Tier,
    aliases: Vec<String>,
}

// === impl Snapshot ===

impl Snapshot {
    /// The latest version of each tier, cheapest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tiers(&mut self) -> Result<Vec<Tier>, StoreError> {
        let rows = select(
            TIER,
            "FROM tier_versions AS t
             WHERE version = (SELECT MAX(version) FROM tier_versions WHERE tier = t.tier)
             ORDER BY price_minor, tier",
        )
        .fetch_all(self.connection())
        .await?;
        let mut tiers = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut tier = tier(row)?;
            tier.quotas = self.tier_quotas(&tier.slug, tier.version).await?;
            tiers.push(tier);
        }
        Ok(tiers)
    }

    /// The latest version of the tier with that slug or alias.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tier(&mut self, slug_or_alias: &str) -> Result<Option<Tier>, StoreError> {
        let row = select(
            TIER,
            "FROM tier_versions
             WHERE tier = COALESCE((SELECT tier FROM tier_aliases WHERE alias = $1), $1)
             ORDER BY version DESC LIMIT 1",
        )
        .bind(slug_or_alias)
        .fetch_optional(self.connection())
        .await?;
        let Some(mut tier) = row.as_ref().map(tier).transpose()? else { return Ok(None) };
        tier.quotas = self.tier_quotas(&tier.slug, tier.version).await?;
        Ok(Some(tier))
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn tier_version(&mut self, slug: &str, version: i64) -> Result<Option<Tier>, StoreError> {
        let row = select(TIER, "FROM tier_versions WHERE tier = $1 AND version = $2")
            .bind(slug)
            .bind(version)
            .fetch_optional(self.connection())
            .await?;
        let Some(mut tier) = row.as_ref().map(tier).transpose()? else { return Ok(None) };
        tier.quotas = self.tier_quotas(&tier.slug, tier.version).await?;
        Ok(Some(tier))
    }

    /// How long usage rows of the tenant are kept, by the version of its tier that it has.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tier_retention_days(&mut self, tenant: &Tenant) -> Result<i64, StoreError> {
        query("SELECT retention_days FROM tier_versions WHERE tier = $1 AND version = $2")
            .bind(&tenant.tier)
            .bind(tenant.tier_version)
            .fetch_number(self.connection())
            .await
    }

    /// The security level of the version of its tier that the tenant has.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tier_security_level(&mut self, tenant: &Tenant) -> Result<String, StoreError> {
        let row = query("SELECT security_level FROM tier_versions WHERE tier = $1 AND version = $2")
            .bind(&tenant.tier)
            .bind(tenant.tier_version)
            .fetch_one(self.connection())
            .await?;
        get(&row, "security_level")
    }

    /// Whether the version of its tier that the tenant has lets it have tenants below its own.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn is_reseller(&mut self, tenant: &Tenant) -> Result<bool, StoreError> {
        Ok(self.tier_flags(tenant).await?.iter().any(|flag| flag == Tier::RESELLER))
    }

    async fn tier_flags(&mut self, tenant: &Tenant) -> Result<Vec<String>, StoreError> {
        let row = query("SELECT flags FROM tier_versions WHERE tier = $1 AND version = $2")
            .bind(&tenant.tier)
            .bind(tenant.tier_version)
            .fetch_one(self.connection())
            .await?;
        json(&row, "flags")
    }

    /// What a version of a tier gives to each of its tenants.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tier_quotas(&mut self, slug: &str, version: i64) -> Result<Vec<TierQuota>, StoreError> {
        let rows = select(
            TIER_QUOTA,
            "FROM tier_quotas WHERE tier = $1 AND version = $2 ORDER BY resource_type, period",
        )
        .bind(slug)
        .bind(version)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(tier_quota).collect()
    }

    /// All resources that are counted.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn resource_types(&mut self) -> Result<Vec<ResourceType>, StoreError> {
        let rows =
            select(RESOURCE_TYPE, "FROM resource_types ORDER BY slug").fetch_all(self.connection()).await?;
        rows.iter().map(resource_type).collect()
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn resource_type(&mut self, slug: Resource) -> Result<Option<ResourceType>, StoreError> {
        let row = select(RESOURCE_TYPE, "FROM resource_types WHERE slug = $1")
            .bind(slug.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(resource_type).transpose()
    }
}

fn tier(row: &Row) -> Result<Tier, StoreError> {
    Ok(Tier {
        slug: get(row, "tier")?,
        version: get(row, "version")?,
        display: get(row, "display")?,
        price_minor: get(row, "price_minor")?,
        currency: get(row, "currency")?,
        retention_days: get(row, "retention_days")?,
        security_level: get(row, "security_level")?,
        flags: json(row, "flags")?,
        quotas: Vec::new(),
    })
}

fn tier_quota(row: &Row) -> Result<TierQuota, StoreError> {
    Ok(TierQuota {
        resource: parsed(row, "resource_type", |text| text.parse().ok())?,
        limit: limit(row, "limit_amount")?,
        period: parsed(row, "period", |text| text.parse().ok())?,
        enforcement: parsed(row, "enforcement", Enforcement::parse)?,
        on_loss: on_loss(row)?,
        overage: overage(row)?,
        charge_by: charge_by(row)?,
    })
}

fn overage(row: &Row) -> Result<Option<UnitPrice>, StoreError> {
    let Some(price) = get::<Option<&str>>(row, "overage_price")? else { return Ok(None) };
    let bad = || corrupt("overage_price", format!("`{price}`"));
    let per = get::<Option<i64>>(row, "overage_per")?.and_then(|per| u64::try_from(per).ok());
    UnitPrice::new(price, per.ok_or_else(bad)?).map(Some).map_err(|_| bad())
}

fn charge_by(row: &Row) -> Result<Option<ChargeBy>, StoreError> {
    let text: Option<&str> = get(row, "charge_by")?;
    let read = |text: &str| ChargeBy::parse(text).ok_or_else(|| corrupt("charge_by", format!("`{text}`")));
    text.map(read).transpose()
}

fn resource_type(row: &Row) -> Result<ResourceType, StoreError> {
    Ok(ResourceType {
        slug: parsed(row, "slug", |text| text.parse().ok())?,
        kind: parsed(row, "kind", ResourceKind::parse)?,
        unit: get(row, "unit")?,
        display: get(row, "display")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds a resource that is counted, unless there is one of that name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn add_resource_type(&mut self, resource: &ResourceType) -> Result<(), StoreError> {
        query(
            "INSERT INTO resource_types (slug, kind, unit, display) VALUES ($1, $2, $3, $4)
             ON CONFLICT (slug) DO NOTHING",
        )
        .bind(resource.slug.as_str())
        .bind(resource.kind.as_str())
        .bind(&resource.unit)
        .bind(&resource.display)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Adds a version of a tier, and the tier if there was none.
    ///
    /// # Errors
    /// [`StoreError`], also if there is that version already.
    pub async fn add_tier_version(&mut self, tier: &Tier) -> Result<(), StoreError> {
        query("INSERT INTO tiers (slug) VALUES ($1) ON CONFLICT (slug) DO NOTHING")
            .bind(&tier.slug)
            .execute(self.connection())
            .await?;
        self.insert_tier_version(tier).await?;
        self.changed(Changed::Tier(tier.slug.clone()));
        Ok(())
    }

    pub(super) async fn load_shipped_tiers(&mut self) -> Result<(), StoreError> {
        let shipped: Shipped = toml::from_str(SHIPPED).map_err(StoreError::Tiers)?;
        for resource in &shipped.resources {
            self.add_resource_type(resource).await?;
        }
        for ShippedTier { tier, aliases } in &shipped.tiers {
            self.load_shipped_tier(tier, aliases).await?;
        }
        Ok(())
    }

    async fn load_shipped_tier(&mut self, tier: &Tier, aliases: &[String]) -> Result<(), StoreError> {
        let new = query("INSERT INTO tiers (slug) VALUES ($1) ON CONFLICT (slug) DO NOTHING")
            .bind(&tier.slug)
            .execute(self.connection())
            .await?
            > 0;
        if new {
            for alias in aliases {
                self.insert_tier_alias(alias, &tier.slug).await?;
            }
            self.insert_tier_version(tier).await?;
            self.changed(Changed::Tier(tier.slug.clone()));
        }
        Ok(())
    }

    async fn insert_tier_alias(&mut self, alias: &str, tier: &str) -> Result<(), StoreError> {
        query("INSERT INTO tier_aliases (alias, tier) VALUES ($1, $2) ON CONFLICT (alias) DO NOTHING")
            .bind(alias)
            .bind(tier)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn insert_tier_version(&mut self, tier: &Tier) -> Result<(), StoreError> {
        query(
            "INSERT INTO tier_versions
                 (tier, version, display, price_minor, currency, retention_days, security_level, flags)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&tier.slug)
        .bind(tier.version)
        .bind(&tier.display)
        .bind(tier.price_minor)
        .bind(&tier.currency)
        .bind(tier.retention_days)
        .bind(&tier.security_level)
        .bind(to_json(&tier.flags))
        .execute(self.connection())
        .await?;
        for quota in &tier.quotas {
            self.insert_tier_quota(tier, quota).await?;
        }
        Ok(())
    }

    async fn insert_tier_quota(&mut self, tier: &Tier, quota: &TierQuota) -> Result<(), StoreError> {
        query(
            "INSERT INTO tier_quotas (tier, version, resource_type, period, limit_amount, enforcement, on_loss,
                 overage_price, overage_per, charge_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(&tier.slug)
        .bind(tier.version)
        .bind(quota.resource.as_str())
        .bind(quota.period.as_str())
        .bind(quota.limit.to_sql())
        .bind(quota.enforcement.as_str())
        .bind(quota.on_loss.map(LossPolicy::as_str))
        .bind(quota.overage.map(|price| price.price()))
        .bind(quota.overage.and_then(|price| i64::try_from(price.per()).ok()))
        .bind(quota.charge_by.map(ChargeBy::as_str))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
