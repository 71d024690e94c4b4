//! Deliveries: written with the alert that they bring, attempted until they arrive or are given up.
//!
//! # Why an attempt moves `next_at`
//! Whoever takes a delivery moves its next attempt to when it gives up on this one. So the row needs no lease beside
//! it: a gateway that dies in the middle has only delayed it, and two can't hold it at once, because writers of the
//! store take turns. What the attempt came to is written only if no later one has begun.

use std::time::Duration;

use super::sql::{Row, query, select};
use super::values::{get, parsed, whole};
use super::{BadPage, Cursor, Listed, Page, Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{AlertId, ChannelId, Delivery, DeliveryId, DeliveryState, TenantId};

/// What an attempt came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attempt {
    Delivered,
    /// To be tried again then.
    Failed {
        error: String,
        next_at: Timestamp,
    },
    /// Not to be tried again.
    Dead {
        error: String,
    },
}

/// What waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutboxDepth {
    pub pending: u64,
    pub dead: u64,
    /// When the oldest that waits was written.
    pub oldest: Option<Timestamp>,
}

const COLUMNS: &str = "tenant_id, delivery_id, alert_id, channel_id, state, attempts, next_at, last_error, created_at, finished_at";

// === impl Attempt ===

impl Attempt {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Attempt::Delivered => "delivered",
            Attempt::Failed { .. } => "failed",
            Attempt::Dead { .. } => "dead",
        }
    }
}

// === impl OutboxDepth ===

impl OutboxDepth {
    /// Of the oldest that waits; zero if none does.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}

// === impl Store ===

impl Store {
    /// Takes deliveries whose attempt is due: at most `limit`, the longest due first. Nobody else gets them before
    /// `until`.
    ///
    /// # Errors
    /// [`StoreError`]; what was taken all the same is due again at `until`.
    pub async fn take_deliveries(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        let due = "FROM outbox WHERE state = 'pending' AND next_at <= $1";
        let mut count = query("SELECT COUNT(*) ");
        count.push(due);
        // Hardly ever is there one: who only looks need not wait for a turn to write.
        if count.bind(now).fetch_number(self.read().await?.connection()).await? == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let mut taken = select(COLUMNS, due).bind(now);
        taken.push(" ORDER BY next_at LIMIT ").push_bind(limit);
        let rows = taken.fetch_all(tx.connection()).await?;
        let mut deliveries = rows.iter().map(delivery).collect::<Result<Vec<_>, _>>()?;
        for delivery in &mut deliveries {
            delivery.attempts += 1;
            delivery.next_at = until;
            tx.set_delivery(delivery).await?;
        }
        tx.commit().await?;
        Ok(deliveries)
    }

    /// Notes what the attempt came to. Answers false, and changes nothing, if a later one has begun or the delivery is
    /// gone.
    ///
    /// # Errors
    /// [`StoreError`]; the delivery is attempted once more then.
    pub async fn end_attempt(
        &self,
        delivery: &Delivery,
        attempt: &Attempt,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (state, error, next_at) = match attempt {
            Attempt::Delivered => (DeliveryState::Delivered, None, delivery.next_at),
            Attempt::Failed { error, next_at } => (DeliveryState::Pending, Some(error), *next_at),
            Attempt::Dead { error } => (DeliveryState::Dead, Some(error), delivery.next_at),
        };
        let finished_at = (state != DeliveryState::Pending).then_some(now);
        let mut tx = self.begin().await?;
        let changed = query(
            "UPDATE outbox SET state = $4, last_error = $5, next_at = $6, finished_at = $7
             WHERE tenant_id = $1 AND delivery_id = $2 AND attempts = $3 AND state = 'pending'",
        )
        .bind(delivery.tenant.0)
        .bind(delivery.id.0)
        .bind(delivery.attempts)
        .bind(state.as_str())
        .bind(error)
        .bind(next_at)
        .bind(finished_at)
        .execute(tx.connection())
        .await?;
        tx.commit().await?;
        Ok(changed > 0)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        let mut snapshot = self.read().await?;
        let waits = query(
            "SELECT COUNT(*) AS pending, MIN(created_at) AS oldest FROM outbox WHERE state = 'pending'",
        );
        let row = waits.fetch_one(snapshot.connection()).await?;
        let dead = query("SELECT COUNT(*) FROM outbox WHERE finished_at IS NOT NULL AND state = 'dead'");
        let dead = dead.fetch_number(snapshot.connection()).await?.unsigned_abs();
        Ok(OutboxDepth { pending: whole(&row, "pending")?, dead, oldest: get(&row, "oldest")? })
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's deliveries, to one channel or to all, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn deliveries(
        &mut self,
        tenant: TenantId,
        channel: Option<ChannelId>,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Result<Listed<Delivery>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let rest = "FROM outbox WHERE tenant_id = $1 AND delivery_id < $2";
        let mut query = select(COLUMNS, rest).bind(tenant.0).bind(below);
        if let Some(channel) = channel {
            query.push(" AND channel_id = ").push_bind(channel.0);
        }
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        let cursor = |last: &Delivery| Cursor::behind(last.id, last.created_at);
        self.listed(query, "delivery_id DESC", page, delivery, cursor).await.map(Ok)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn delivery(
        &mut self,
        tenant: TenantId,
        id: DeliveryId,
    ) -> Result<Option<Delivery>, StoreError> {
        let row = select(COLUMNS, "FROM outbox WHERE tenant_id = $1 AND delivery_id = $2")
            .bind(tenant.0)
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(delivery).transpose()
    }
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        id: DeliveryId(get(row, "delivery_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        alert: AlertId(get(row, "alert_id")?),
        channel: ChannelId(get(row, "channel_id")?),
        state: parsed(row, "state", DeliveryState::parse)?,
        attempts: u32::try_from(whole(row, "attempts")?).unwrap_or(u32::MAX),
        next_at: get(row, "next_at")?,
        last_error: get(row, "last_error")?,
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds the delivery, or makes it what it is now.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_delivery(&mut self, delivery: &Delivery) -> Result<(), StoreError> {
        query(
            "INSERT INTO outbox (tenant_id, delivery_id, alert_id, channel_id, state, attempts, next_at, last_error,
                 created_at, finished_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (tenant_id, delivery_id) DO UPDATE SET state = excluded.state,
                 attempts = excluded.attempts, next_at = excluded.next_at, last_error = excluded.last_error,
                 finished_at = excluded.finished_at",
        )
        .bind(delivery.tenant.0)
        .bind(delivery.id.0)
        .bind(delivery.alert.0)
        .bind(delivery.channel.0)
        .bind(delivery.state.as_str())
        .bind(delivery.attempts)
        .bind(delivery.next_at)
        .bind(&delivery.last_error)
        .bind(delivery.created_at)
        .bind(delivery.finished_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
