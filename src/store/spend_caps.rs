//! How much tenants mean to spend in a period at most.

use super::sql::{Row, query};
use super::values::{get, parsed};
use super::{Snapshot, StoreError, Tx};
use crate::domain::TenantId;
use crate::domain::billing::{Currency, Money, SpendCap};

// === impl Snapshot ===

impl Snapshot {
    /// # Errors
    /// [`StoreError`]
    pub async fn spend_cap(&mut self, tenant: TenantId) -> Result<Option<SpendCap>, StoreError> {
        let row = query("SELECT amount_minor, currency, set_at, set_by FROM spend_caps WHERE tenant_id = $1")
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
            "SELECT tenant_id, amount_minor, currency, set_at, set_by FROM spend_caps
             WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2",
        )
        .bind(behind.0)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok((TenantId(get(row, "tenant_id")?), spend_cap(row)?))).collect()
    }
}

fn spend_cap(row: &Row) -> Result<SpendCap, StoreError> {
    let currency = parsed(row, "currency", Currency::parse)?;
    Ok(SpendCap {
        amount: Money { minor: get(row, "amount_minor")?, currency },
        set_at: get(row, "set_at")?,
        set_by: get(row, "set_by")?,
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
                "INSERT INTO spend_caps (tenant_id, amount_minor, currency, set_at, set_by)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant_id) DO UPDATE SET amount_minor = excluded.amount_minor,
                     currency = excluded.currency, set_at = excluded.set_at, set_by = excluded.set_by",
            )
            .bind(tenant.0)
            .bind(cap.amount.minor)
            .bind(cap.amount.currency.as_str())
            .bind(cap.set_at)
            .bind(&cap.set_by),
        };
        statement.execute(self.connection()).await?;
        Ok(())
    }
}
