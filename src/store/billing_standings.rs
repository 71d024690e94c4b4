//! How tenants stand with their collector, and which of its messages were heeded.
//!
//! A question is numbered before it is asked. What was answered to a later one is never replaced by what was answered to
//! an earlier one, however the answers overtake each other: so it does not matter in which order messages come, or on
//! which gateways, or whether clocks agree.

use super::sql::{Row, query, select};
use super::values::{get, whole};
use super::{Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::TenantId;
use crate::domain::billing::CollectorKind;

/// One row of `billing_standings`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BillingStanding {
    pub tenant: TenantId,
    /// What its subscription is called at the collector.
    pub subscription: Option<String>,
    /// The question whose answer this is.
    pub answered: u64,
    pub unpaid_since: Option<Timestamp>,
    /// For being unpaid or for its subscription being over, and for nothing else.
    pub suspended_at: Option<Timestamp>,
}

const COLUMNS: &str = "tenant_id, subscription, answered, unpaid_since, suspended_at";

// === impl Store ===

impl Store {
    /// The number of a question that is to be asked about the tenant: above all before.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn number_question(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let number = query(
            "INSERT INTO billing_standings (tenant_id, asked, answered) VALUES ($1, 1, 0)
             ON CONFLICT (tenant_id) DO UPDATE SET asked = billing_standings.asked + 1 RETURNING asked",
        );
        let number = number.bind(tenant.0).fetch_number(tx.connection()).await?;
        tx.commit().await?;
        Ok(number.unsigned_abs())
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// # Errors
    /// [`StoreError`]
    pub async fn billing_standing(
        &mut self,
        tenant: TenantId,
    ) -> Result<Option<BillingStanding>, StoreError> {
        let found = select(COLUMNS, "FROM billing_standings WHERE tenant_id = $1").bind(tenant.0);
        found.fetch_optional(self.connection()).await?.as_ref().map(standing).transpose()
    }

    /// Those that are unpaid since then or longer, and are still served.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unpaid_since(&mut self, since: Timestamp) -> Result<Vec<BillingStanding>, StoreError> {
        let unpaid = select(
            COLUMNS,
            "FROM billing_standings WHERE unpaid_since <= $1 AND tenant_id IN
                 (SELECT tenant_id FROM organizations WHERE status = 'past_due') ORDER BY unpaid_since",
        );
        let rows = unpaid.bind(since).fetch_all(self.connection()).await?;
        rows.iter().map(standing).collect()
    }

    /// Whether that message of the collector was heeded.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn is_heeded(&mut self, collector: CollectorKind, news: &str) -> Result<bool, StoreError> {
        let known = query("SELECT COUNT(*) FROM billing_news WHERE collector = $1 AND news_id = $2");
        let known = known.bind(collector.as_str()).bind(news);
        Ok(known.fetch_number(self.connection()).await? > 0)
    }
}

fn standing(row: &Row) -> Result<BillingStanding, StoreError> {
    Ok(BillingStanding {
        tenant: TenantId(get(row, "tenant_id")?),
        subscription: get(row, "subscription")?,
        answered: whole(row, "answered")?,
        unpaid_since: get(row, "unpaid_since")?,
        suspended_at: get(row, "suspended_at")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Notes that a message of the collector is heeded. Answers false, and changes nothing, if it was before.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn heed(
        &mut self,
        collector: CollectorKind,
        news: &str,
        kind: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let heeded = query(
            "INSERT INTO billing_news (collector, news_id, kind, heard_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (collector, news_id) DO NOTHING",
        );
        let heeded = heeded.bind(collector.as_str()).bind(news).bind(kind).bind(now);
        Ok(heeded.execute(self.connection()).await? > 0)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn set_billing_standing(&mut self, standing: &BillingStanding) -> Result<(), StoreError> {
        query(
            "UPDATE billing_standings SET subscription = $2, answered = $3, unpaid_since = $4, suspended_at = $5
             WHERE tenant_id = $1",
        )
        .bind(standing.tenant.0)
        .bind(&standing.subscription)
        .bind(i64::try_from(standing.answered).unwrap_or(i64::MAX))
        .bind(standing.unpaid_since)
        .bind(standing.suspended_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Somebody has said which status the tenant has: a payment does not change what they meant.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_suspension_for_billing(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        query("UPDATE billing_standings SET suspended_at = NULL WHERE tenant_id = $1 AND suspended_at IS NOT NULL")
            .bind(tenant.0)
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
