//! Alerts: what happened, each happening once, and the rules of what is told.

use super::sql::{Row, query, select};
use super::values::{get, json, parsed, to_json};
use super::{BadPage, Cursor, Listed, Page, Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Alert, AlertId, AlertKind, AlertRule, Resource, RuleId, Severity, TenantId};

/// Which alerts. `None` is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AlertFilter {
    pub kind: Option<AlertKind>,
    pub severity: Option<Severity>,
    pub acknowledged: Option<bool>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
}

const ALERT: &str = "tenant_id, alert_id, kind, severity, resource_type, summary, details, at, acknowledged_at, \
     acknowledged_by";
const RULE: &str = "tenant_id, rule_id, kind, resource_type, threshold, enabled, created_at, updated_at";

/// By so many rounds the clocks of gateways may differ.
const ROUNDS_ASTRAY_MAX: i64 = 10;

// === impl Store ===

impl Store {
    /// Takes a round of a periodic work for the caller: of all gateways that ask, one is answered true. Rounds count
    /// up, whoever asks. One far below what was taken is of a clock that was set back, and counts.
    ///
    /// # Errors
    /// [`StoreError`]; whether the round was taken is open then.
    pub async fn take_round(&self, work: &str, round: i64) -> Result<bool, StoreError> {
        // Most who ask come second: they need not wait for their turn to write.
        let taken = query("SELECT COUNT(*) FROM rounds WHERE work = $1 AND round BETWEEN $2 AND $3");
        let taken = taken.bind(work).bind(round).bind(round + ROUNDS_ASTRAY_MAX);
        if taken.fetch_number(self.read().await?.connection()).await? > 0 {
            return Ok(false);
        }
        let mut tx = self.begin().await?;
        let taken = query(
            "INSERT INTO rounds (work, round) VALUES ($1, $2)
             ON CONFLICT (work) DO UPDATE SET round = excluded.round
             WHERE rounds.round NOT BETWEEN excluded.round AND $3",
        )
        .bind(work)
        .bind(round)
        .bind(round + ROUNDS_ASTRAY_MAX)
        .execute(tx.connection())
        .await?;
        tx.commit().await?;
        Ok(taken > 0)
    }

    /// Forgets alerts that happened before `alerts`, and deliveries that ended before `deliveries`; answers how many
    /// rows that were. What is still on its way is kept.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_alerts(&self, alerts: Timestamp, deliveries: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let old = query("DELETE FROM outbox WHERE finished_at < $1").bind(deliveries);
        let mut forgotten = old.execute(tx.connection()).await?;
        let old = query(
            "DELETE FROM alert_events WHERE at < $1 AND NOT EXISTS (SELECT 1 FROM outbox
                 WHERE outbox.tenant_id = alert_events.tenant_id AND outbox.alert_id = alert_events.alert_id)",
        );
        forgotten += old.bind(alerts).execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's alerts, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn alerts(
        &mut self,
        tenant: TenantId,
        filter: &AlertFilter,
        page: &Page,
    ) -> Result<Result<Listed<Alert>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let mut query = select(ALERT, "FROM alert_events WHERE tenant_id = $1 AND alert_id < $2")
            .bind(tenant.0)
            .bind(below);
        let AlertFilter { kind, severity, acknowledged, from, to } = filter;
        if let Some(kind) = kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        if let Some(severity) = severity {
            query.push(" AND severity = ").push_bind(severity.as_str());
        }
        match acknowledged {
            Some(true) => _ = query.push(" AND acknowledged_at IS NOT NULL"),
            Some(false) => _ = query.push(" AND acknowledged_at IS NULL"),
            None => {}
        }
        for (condition, at) in [(" AND at >= ", from), (" AND at < ", to)] {
            if let Some(at) = at {
                query.push(condition).push_bind(*at);
            }
        }
        let cursor = |last: &Alert| Cursor::behind(last.id, last.at);
        self.listed(query, "alert_id DESC", page, alert, cursor).await.map(Ok)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn alert(&mut self, tenant: TenantId, id: AlertId) -> Result<Option<Alert>, StoreError> {
        let row = select(ALERT, "FROM alert_events WHERE tenant_id = $1 AND alert_id = $2")
            .bind(tenant.0)
            .bind(id.0)
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(alert).transpose()
    }

    /// The tenant's own rules, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn alert_rules(&mut self, tenant: TenantId) -> Result<Vec<AlertRule>, StoreError> {
        let rows = select(RULE, "FROM alert_rules WHERE tenant_id = $1 ORDER BY rule_id")
            .bind(tenant.0)
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(rule).collect()
    }

    /// The lowest threshold that any tenant has set.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn lowest_threshold(&mut self) -> Result<Option<u32>, StoreError> {
        let row = query("SELECT MIN(threshold) AS threshold FROM alert_rules WHERE enabled = $1")
            .bind(true)
            .fetch_one(self.connection())
            .await?;
        Ok(get::<Option<i64>>(&row, "threshold")?.and_then(|percent| u32::try_from(percent).ok()))
    }
}

fn alert(row: &Row) -> Result<Alert, StoreError> {
    Ok(Alert {
        id: AlertId(get(row, "alert_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        kind: parsed(row, "kind", AlertKind::parse)?,
        severity: parsed(row, "severity", Severity::parse)?,
        resource: resource(row)?,
        summary: get(row, "summary")?,
        details: json(row, "details")?,
        at: get(row, "at")?,
        acknowledged_at: get(row, "acknowledged_at")?,
        acknowledged_by: get(row, "acknowledged_by")?,
    })
}

fn rule(row: &Row) -> Result<AlertRule, StoreError> {
    Ok(AlertRule {
        id: RuleId(get(row, "rule_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        kind: parsed(row, "kind", AlertKind::parse)?,
        resource: resource(row)?,
        threshold: get::<Option<i64>>(row, "threshold")?.and_then(|percent| u32::try_from(percent).ok()),
        enabled: get(row, "enabled")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

fn resource(row: &Row) -> Result<Option<Resource>, StoreError> {
    match get::<Option<&str>>(row, "resource_type")? {
        Some(_) => parsed(row, "resource_type", |text| text.parse().ok()).map(Some),
        None => Ok(None),
    }
}

// === impl Tx ===

impl Tx {
    /// Answers false, and changes nothing, if the tenant has an alert of that occasion.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_alert(&mut self, alert: &Alert, occasion: &str) -> Result<bool, StoreError> {
        let inserted = query(
            "INSERT INTO alert_events (tenant_id, alert_id, occasion, kind, severity, resource_type, summary, details,
                 at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (tenant_id, occasion) DO NOTHING",
        )
        .bind(alert.tenant.0)
        .bind(alert.id.0)
        .bind(occasion)
        .bind(alert.kind.as_str())
        .bind(alert.severity.as_str())
        .bind(alert.resource.map(|resource| resource.as_str().to_owned()))
        .bind(&alert.summary)
        .bind(to_json(&alert.details))
        .bind(alert.at)
        .execute(self.connection())
        .await?;
        Ok(inserted > 0)
    }

    /// Notes who has seen the alert.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn acknowledge_alert(
        &mut self,
        tenant: TenantId,
        id: AlertId,
        by: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE alert_events SET acknowledged_at = $3, acknowledged_by = $4
             WHERE tenant_id = $1 AND alert_id = $2",
        )
        .bind(tenant.0)
        .bind(id.0)
        .bind(at)
        .bind(by)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Adds the rule, or makes it what it is now.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn set_alert_rule(&mut self, rule: &AlertRule) -> Result<(), StoreError> {
        query(
            "INSERT INTO alert_rules (tenant_id, rule_id, kind, resource_type, threshold, enabled, created_at,
                 updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (tenant_id, rule_id) DO UPDATE SET threshold = excluded.threshold,
                 enabled = excluded.enabled, updated_at = excluded.updated_at",
        )
        .bind(rule.tenant.0)
        .bind(rule.id.0)
        .bind(rule.kind.as_str())
        .bind(rule.resource.map(|resource| resource.as_str().to_owned()))
        .bind(rule.threshold.map(i64::from))
        .bind(rule.enabled)
        .bind(rule.created_at)
        .bind(rule.updated_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn remove_alert_rule(&mut self, tenant: TenantId, id: RuleId) -> Result<(), StoreError> {
        let remove = query("DELETE FROM alert_rules WHERE tenant_id = $1 AND rule_id = $2");
        remove.bind(tenant.0).bind(id.0).execute(self.connection()).await.map(drop)
    }
}
