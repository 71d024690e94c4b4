//! How much tenants mean to spend in a period at most, and what that leaves of each resource.

use super::sql::{Row, query};
use super::values::{get, json_or_null, parsed, to_json, whole};
use super::{Changed, Snapshot, StoreError, Tx};
use crate::domain::billing::{AtCap, Ceiling, Currency, Money, SpendCap};
use crate::domain::{TenantId, Units};

// === impl Snapshot ===

impl Snapshot {
    /// # Errors
    /// [`StoreError`]
    pub async fn spend_cap(&mut self, tenant: TenantId) -> Result<Option<SpendCap>, StoreError> {
        let row = query(
            "SELECT amount_minor, currency, at_cap, shares, set_at, set_by FROM spend_caps WHERE tenant_id = $1",
        )
        .bind(tenant.0)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(spend_cap).transpose()
    }

    /// Tenants that have a cap, after `behind` in the order of their ids; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn capped_tenants(
        &mut self,
        behind: TenantId,
        limit: u32,
    ) -> Result<Vec<(TenantId, SpendCap)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, amount_minor, currency, at_cap, shares, set_at, set_by FROM spend_caps
             WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2",
        )
        .bind(behind.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((TenantId(get(row, "tenant_id")?), spend_cap(row)?))).collect()
    }

    /// Whether the tenant has a cap that refuses what would be charged for beyond it.
    pub(super) async fn is_stopped_at_cap(&mut self, tenant: TenantId) -> Result<bool, StoreError> {
        let caps = query("SELECT COUNT(*) FROM spend_caps WHERE tenant_id = $1 AND at_cap = 'stop'");
        Ok(caps.bind(tenant.0).fetch_number(self.connection()).await? > 0)
    }

    /// What the tenant's cap leaves of each resource, in their order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn ceilings(&mut self, tenant: TenantId) -> Result<Vec<Ceiling>, StoreError> {
        let rows = query(
            "SELECT resource_type, period, starts_at, ends_at, limit_amount FROM spend_ceilings
             WHERE tenant_id = $1",
        )
        .bind(tenant.0)
        .fetch_all(self.connection())
        .await?;
        // By what they are and not by how the database sorts names: they are compared with what is computed.
        let mut ceilings = rows.iter().map(ceiling).collect::<Result<Vec<_>, _>>()?;
        ceilings.sort_unstable();
        Ok(ceilings)
    }
}

fn spend_cap(row: &Row) -> Result<SpendCap, StoreError> {
    let currency = parsed(row, "currency", Currency::parse)?;
    Ok(SpendCap {
        amount: Money { minor: get(row, "amount_minor")?, currency },
        then: parsed(row, "at_cap", AtCap::parse)?,
        shares: json_or_null(row, "shares")?,
        set_at: get(row, "set_at")?,
        set_by: get(row, "set_by")?,
    })
}

fn ceiling(row: &Row) -> Result<Ceiling, StoreError> {
    Ok(Ceiling {
        resource_type: parsed(row, "resource_type", |text| text.parse().ok())?,
        period: parsed(row, "period", |text| text.parse().ok())?,
        starts_at: get(row, "starts_at")?,
        ends_at: get(row, "ends_at")?,
        limit: Units::saturating(whole(row, "limit_amount")?),
    })
}

// === impl Tx ===

impl Tx {
    /// The tenant's cap from now on; `None`: none.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_spend_cap(
        &mut self,
        tenant: TenantId,
        cap: Option<&SpendCap>,
    ) -> Result<(), StoreError> {
        let statement = match cap {
            None => query("DELETE FROM spend_caps WHERE tenant_id = $1").bind(tenant.0),
            Some(cap) => query(
                "INSERT INTO spend_caps (tenant_id, amount_minor, currency, at_cap, shares, set_at, set_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (tenant_id) DO UPDATE SET amount_minor = excluded.amount_minor,
                     currency = excluded.currency, at_cap = excluded.at_cap, shares = excluded.shares,
                     set_at = excluded.set_at, set_by = excluded.set_by",
            )
            .bind(tenant.0)
            .bind(cap.amount.minor)
            .bind(cap.amount.currency.as_str())
            .bind(cap.then.as_str())
            .bind(cap.shares.as_ref().map(to_json))
            .bind(cap.set_at)
            .bind(&cap.set_by),
        };
        statement.execute(self.connection()).await?;
        self.changed(Changed::Tenant(tenant));
        match cap.map(|cap| cap.then) {
            Some(AtCap::Stop) => Ok(()),
            Some(AtCap::Notify) | None => self.set_ceilings(tenant, &[]).await,
        }
    }

    /// What the tenant's cap leaves from now on, in the order of [`Snapshot::ceilings`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_ceilings(&mut self, tenant: TenantId, ceilings: &[Ceiling]) -> Result<(), StoreError> {
        if self.ceilings(tenant).await? == ceilings {
            return Ok(());
        }
        let gone = query("DELETE FROM spend_ceilings WHERE tenant_id = $1").bind(tenant.0);
        gone.execute(self.connection()).await?;
        for ceiling in ceilings {
            query(
                "INSERT INTO spend_ceilings (tenant_id, resource_type, period, starts_at, ends_at, limit_amount)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(tenant.0)
            .bind(ceiling.resource_type.as_str())
            .bind(ceiling.period.as_str())
            .bind(ceiling.starts_at)
            .bind(ceiling.ends_at)
            .bind(ceiling.limit.to_i64())
            .execute(self.connection())
            .await?;
        }
        self.changed(Changed::Tenant(tenant));
        Ok(())
    }
}
