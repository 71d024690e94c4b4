//! Usage that was reported through the API: events that count once, and what is held of gauges.
//!
//! # Why gauges are held here and not in tills
//! What is held changes seldom, and may be released by another gateway than the one that took it, weeks later. A row
//! that is changed in the transaction of the event is exact for the whole fleet at the price of that transaction.

use uuid::Uuid;

use super::sql::query;
use super::values::{get, json, parsed, to_json};
use super::{Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Owner, Resource, TenantId};

/// One row of `usage_events`.
#[derive(Clone, PartialEq, Debug)]
pub struct UsageEvent {
    pub tenant: TenantId,
    /// What its reporter calls it; unique within the tenant.
    pub event: String,
    /// Of its record in the journal, and of its row in the usage log.
    pub request: Uuid,
    pub resource: Resource,
    /// Below 0 where units of a gauge were released.
    pub amount: i64,
    pub description: Option<String>,
    /// What its reporter was told.
    pub answer: serde_json::Value,
    pub at: Timestamp,
}

/// Under which till the units stand in `account_units` that no till holds.
const HELD: Uuid = Uuid::from_u128(1);

// === impl Store ===

impl Store {
    /// Forgets events that came before `before`, and answers how many: none of them must be taken again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_usage_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin_ingest().await?;
        let forget = query("DELETE FROM usage_events WHERE created_at < $1").bind(before);
        let forgotten = forget.execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Those of the tenant's events that are there, in no order.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn usage_events(
        &mut self,
        tenant: TenantId,
        ids: &[&str],
    ) -> Result<Vec<UsageEvent>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = query(
            "SELECT event_id, request_id, resource_type, amount, description, answer, created_at
             FROM usage_events WHERE tenant_id = ",
        );
        query.push_bind(tenant.0).push(" AND event_id IN (");
        for (number, id) in ids.iter().enumerate() {
            query.push(if number > 0 { ", " } else { "" }).push_bind(*id);
        }
        query.push(")");
        let rows = query.once().fetch_all(self.connection()).await?;
        let event = |row| {
            Ok(UsageEvent {
                tenant,
                event: get(row, "event_id")?,
                request: get(row, "request_id")?,
                resource: parsed(row, "resource_type", |text| text.parse().ok())?,
                amount: get(row, "amount")?,
                description: get(row, "description")?,
                answer: json(row, "answer")?,
                at: get(row, "created_at")?,
            })
        };
        rows.iter().map(event).collect()
    }
}

// === impl Tx ===

impl Tx {
    /// Answers false, and changes nothing, if the tenant has an event of that name.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_usage_event(&mut self, event: &UsageEvent) -> Result<bool, StoreError> {
        let inserted = query(
            "INSERT INTO usage_events (tenant_id, event_id, request_id, resource_type, amount, description, answer,
                 created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant_id, event_id) DO NOTHING",
        )
        .bind(event.tenant.0)
        .bind(&event.event)
        .bind(event.request)
        .bind(event.resource.as_str())
        .bind(event.amount)
        .bind(&event.description)
        .bind(to_json(&event.answer))
        .bind(event.at)
        .execute(self.connection())
        .await?;
        Ok(inserted > 0)
    }

    /// Adds to what is held of a gauge's account, or takes from it. Whether that may be is the caller's to know; the
    /// database refuses to hold less than nothing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn add_held_units(
        &mut self,
        account: &AccountKey,
        amount: i64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO account_units (owner_kind, owner_id, resource_type, period, window_start, window_end, till,
                 units, overage, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9)
             ON CONFLICT (owner_kind, owner_id, resource_type, period, window_start, window_end, till) DO UPDATE SET
                 units = account_units.units + $10, updated_at = excluded.updated_at",
        )
        .bind_account(account)
        .bind(HELD)
        .bind(amount.max(0))
        .bind(at)
        .bind(amount)
        .execute(self.connection())
        .await?;
        match account.owner {
            Owner::Tenant(tenant) => self.note_level(tenant, account.resource, at).await,
            Owner::Key(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
