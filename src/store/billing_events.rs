//! Usage on its way to whoever collects what is owed: taken hour by hour, attempted until it arrives or is given up.
//!
//! An event is the difference between what the hour's rollups say and what earlier events of the hour have taken. Both
//! are compared in the transaction that adds it, so that whoever takes an hour again, or beside another gateway, takes
//! what is left of it and nothing twice: revisions are numbered, and a number is given once.
//!
//! # How late usage is found
//! Each batch says which hour is the first that it adds to. Hours that are long taken are looked at again from there on,
//! and not otherwise. A transaction may take a while from its batch's instant to its end, and gateways' clocks differ, so
//! batches are looked at for some time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outbox::{Attempt, OutboxDepth};
use super::rows::Rows;
use super::sql::{Bind, Kind, Query, Row, query, select};
use super::values::{get, parsed, whole};
use super::{BadPage, Cursor, Listed, Page, Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::billing::{
    BILLING_ACCOUNT, BillingEvent, BillingEventId, BillingEventState, BillingPeriod, CollectorKind, Settled,
};
use crate::domain::{Resource, TenantId, Units};

/// How far an export has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExportProgress {
    pub began_at: Timestamp,
    /// Up to when it was looked for what gateways had brought.
    pub looked_at: Timestamp,
    /// All hours before it were taken, as far as they had arrived by then; `None` before the first look.
    pub taken_until: Option<Timestamp>,
}

/// What of an hour no event has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Untaken {
    pub tenant: TenantId,
    pub resource: Resource,
    /// Never zero.
    pub units: Units,
    /// The next event's; 0 if there is none yet.
    pub revision: u64,
}

/// What a tenant is called at the collector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BillingAccount {
    pub account: String,
    /// Since when it is called something.
    pub since: Timestamp,
}

/// What an attempt came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedAttempt {
    pub event: BillingEvent,
    pub attempt: Attempt,
    /// The first attempt of which nobody knows whether it arrived.
    pub doubtful_since: Option<Timestamp>,
}

/// What else was sent for the same account, hour and resources as an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentBeside {
    pub delivered: Units,
    /// When the last of that arrived.
    pub delivered_at: Option<Timestamp>,
    /// Of which nobody knows.
    pub doubtful: Units,
}

/// Which events. `None` is all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BillingEventFilter {
    pub tenant: Option<TenantId>,
    pub state: Option<BillingEventState>,
}

const HOUR: Duration = Duration::from_secs(3_600);

const COLUMNS: &str = "tenant_id, event_id, resource_type, bucket_start, revision, units, collector, account, state, \
     attempts, next_at, doubtful_since, last_error, created_at, finished_at, settled_reason";

// === impl Store ===

impl Store {
    /// Since when usage is brought to the collector: since now, if it was not yet.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn begin_export(
        &self,
        collector: CollectorKind,
        now: Timestamp,
    ) -> Result<ExportProgress, StoreError> {
        if let Some(known) = self.read().await?.export_progress(collector).await? {
            return Ok(known);
        }
        let mut tx = self.begin().await?;
        let begun = query(
            "INSERT INTO billing_exports (collector, began_at, looked_at) VALUES ($1, $2, $2)
             ON CONFLICT (collector) DO NOTHING",
        );
        begun.bind(collector.as_str()).bind(now).execute(tx.connection()).await?;
        let begun = tx.export_progress(collector).await?;
        tx.commit().await?;
        Ok(begun.unwrap_or(ExportProgress { began_at: now, looked_at: now, taken_until: None }))
    }

    /// Notes up to when it was looked for what gateways had brought, and that all hours before `taken_until` were taken.
    /// Never goes back.
    ///
    /// # Errors
    /// [`StoreError`]; then it is looked for again.
    pub async fn note_look(
        &self,
        collector: CollectorKind,
        looked_at: Timestamp,
        taken_until: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        query(
            "UPDATE billing_exports SET looked_at = $2, taken_until = $3
             WHERE collector = $1 AND (looked_at < $2 OR taken_until IS NULL)",
        )
        .bind(collector.as_str())
        .bind(looked_at)
        .bind(taken_until)
        .execute(tx.connection())
        .await?;
        tx.commit().await
    }

    /// Takes events whose attempt is due: at most `limit`, the longest due first. Nobody else gets them before `until`. The
    /// attempt is in doubt from now on, since what becomes of it may never be known; the events are answered as they were
    /// before.
    ///
    /// # Errors
    /// [`StoreError`]; what was taken all the same is due again at `until`.
    pub async fn take_billing_events(
        &self,
        collector: CollectorKind,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<BillingEvent>, StoreError> {
        let due = query(
            "SELECT COUNT(*) FROM billing_events WHERE collector = $1 AND state = 'pending' AND next_at <= $2",
        );
        let due = due.bind(collector.as_str()).bind(now);
        // Hardly ever is there one: who only looks need not wait for a turn to write.
        if due.fetch_number(self.read().await?.connection()).await? == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let mut taken = query(
            "UPDATE billing_events SET attempts = attempts + 1, next_at = $3,
                 doubtful_since = COALESCE(doubtful_since, $2)
             WHERE (tenant_id, event_id) IN (SELECT tenant_id, event_id FROM billing_events
                 WHERE collector = $1 AND state = 'pending' AND next_at <= $2 ORDER BY next_at, event_id LIMIT $4)
             RETURNING ",
        );
        taken.push(COLUMNS);
        let taken = taken.bind(collector.as_str()).bind(now).bind(until).bind(limit);
        let rows = taken.fetch_all(tx.connection()).await?;
        let mut events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        tx.commit().await?;
        events.sort_by_key(|event| event.id);
        // The row is in doubt by the attempt that begins now; what is answered says whether it was before.
        for event in &mut events {
            event.doubtful_since = event.doubtful_since.filter(|since| *since != now);
        }
        Ok(events)
    }

    /// Notes what attempts came to, all of it or nothing; what a later attempt has begun on is left out.
    ///
    /// # Errors
    /// [`StoreError`]; the events are attempted once more then.
    pub async fn end_billing_attempts(
        &self,
        ended: &[EndedAttempt],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for EndedAttempt { event, attempt, doubtful_since } in ended {
            let (state, error, next_at) = match attempt {
                Attempt::Delivered => (BillingEventState::Delivered, None, event.next_at),
                Attempt::Failed { error, next_at } => (BillingEventState::Pending, Some(error), *next_at),
                Attempt::Dead { error } => (BillingEventState::Dead, Some(error), event.next_at),
            };
            query(
                "UPDATE billing_events SET state = $4, last_error = $5, next_at = $6, finished_at = $7,
                     doubtful_since = $8
                 WHERE tenant_id = $1 AND event_id = $2 AND attempts = $3 AND state = 'pending'",
            )
            .bind(event.tenant.0)
            .bind(event.id.0)
            .bind(event.attempts)
            .bind(state.as_str())
            .bind(error)
            .bind(next_at)
            .bind((state != BillingEventState::Pending).then_some(now))
            .bind(*doubtful_since)
            .execute(tx.connection())
            .await?;
        }
        tx.commit().await
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn billing_depth(&self, collector: CollectorKind) -> Result<OutboxDepth, StoreError> {
        let mut snapshot = self.read().await?;
        snapshot.billing_depth(collector).await
    }

    /// Forgets what arrived of hours before `before`, and what collectors told before then; answers how many rows. Hours
    /// whose rollups are still there must not be forgotten: they would be taken again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_billing_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let old = query(
            "DELETE FROM billing_events WHERE bucket_start < $1 AND state IN ('delivered', 'abandoned')",
        );
        let mut forgotten = old.bind(before).execute(tx.connection()).await?;
        let old = query("DELETE FROM billing_news WHERE heard_at < $1");
        forgotten += old.bind(before).execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(forgotten)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// How far the export to that collector has come; `None` if none ever began.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn export_progress(
        &mut self,
        collector: CollectorKind,
    ) -> Result<Option<ExportProgress>, StoreError> {
        let known =
            query("SELECT began_at, looked_at, taken_until FROM billing_exports WHERE collector = $1");
        let row = known.bind(collector.as_str()).fetch_optional(self.connection()).await?;
        let progress = |row: &Row| {
            Ok(ExportProgress {
                began_at: get(row, "began_at")?,
                looked_at: get(row, "looked_at")?,
                taken_until: get(row, "taken_until")?,
            })
        };
        row.as_ref().map(progress).transpose()
    }

    /// What waits to be brought to that collector, and what was given up.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn billing_depth(&mut self, collector: CollectorKind) -> Result<OutboxDepth, StoreError> {
        let waits = query(
            "SELECT COUNT(*) AS pending, MIN(created_at) AS oldest FROM billing_events
             WHERE collector = $1 AND state = 'pending'",
        );
        let row = waits.bind(collector.as_str()).fetch_one(self.connection()).await?;
        let dead = query("SELECT COUNT(*) FROM billing_events WHERE collector = $1 AND state = 'dead'");
        let dead = dead.bind(collector.as_str()).fetch_number(self.connection()).await?.unsigned_abs();
        Ok(OutboxDepth { pending: whole(&row, "pending")?, dead, oldest: get(&row, "oldest")? })
    }

    /// The first hour that batches since then have added to.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn first_hour_brought(&mut self, since: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let first = query("SELECT MIN(first_hour) AS first FROM usage_batches WHERE committed_at >= $1");
        let row = first.bind(since).fetch_one(self.connection()).await?;
        get(&row, "first")
    }

    /// What of these resources was used in that hour and no event has taken, of all tenants.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn untaken(
        &mut self,
        hour: Timestamp,
        resources: &[Resource],
    ) -> Result<Vec<Untaken>, StoreError> {
        let mut untaken = query(
            "SELECT used.tenant_id, used.resource_type, used.units - COALESCE(taken.units, 0) AS units,
                 COALESCE(taken.revisions, 0) AS revision
             FROM (SELECT tenant_id, resource_type, CAST(SUM(units) AS BIGINT) AS units FROM usage_rollups
                 WHERE period = 'hour' AND bucket_start = $1 AND ",
        )
        .bind(hour);
        push_resources(&mut untaken, resources);
        untaken.push(
            " GROUP BY tenant_id, resource_type) AS used
             LEFT JOIN (SELECT tenant_id, resource_type, CAST(SUM(units) AS BIGINT) AS units,
                     MAX(revision) + 1 AS revisions
                 FROM billing_events WHERE bucket_start = $1 GROUP BY tenant_id, resource_type) AS taken
                 ON taken.tenant_id = used.tenant_id AND taken.resource_type = used.resource_type
             WHERE used.units > COALESCE(taken.units, 0) ORDER BY used.tenant_id, used.resource_type",
        );
        let rows = untaken.fetch_all(self.connection()).await?;
        let untaken = |row: &Row| {
            Ok(Untaken {
                tenant: TenantId(get(row, "tenant_id")?),
                resource: parsed(row, "resource_type", |text| text.parse().ok())?,
                units: Units::saturating(whole(row, "units")?),
                revision: whole(row, "revision")?,
            })
        };
        rows.iter().map(untaken).collect()
    }

    /// What tenants are called at the collector, of those that are called something.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn billing_accounts(&mut self) -> Result<BTreeMap<TenantId, BillingAccount>, StoreError> {
        let rows = query(
            "SELECT tenant_id, setting_value, created_at FROM tenant_settings
             WHERE setting_key = $1 AND setting_value IS NOT NULL",
        )
        .bind(BILLING_ACCOUNT)
        .fetch_all(self.connection())
        .await?;
        let account = |row: &Row| {
            let account = parsed(row, "setting_value", |text| serde_json::from_str(text).ok())?;
            let since = get(row, "created_at")?;
            Ok((TenantId(get(row, "tenant_id")?), BillingAccount { account, since }))
        };
        rows.iter().map(account).collect()
    }

    /// What a tenant is called there by these `accounts`, or else the nearest tenant above that is called something: a
    /// reseller is billed for what the tenants below it use.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn billed_as(
        &mut self,
        accounts: &BTreeMap<TenantId, BillingAccount>,
        id: TenantId,
    ) -> Result<Option<BillingAccount>, StoreError> {
        if let Some(own) = accounts.get(&id) {
            return Ok(Some(own.clone()));
        }
        let Some(tenant) = self.tenant(id).await? else { return Ok(None) };
        let above = self.tenants_above(&tenant).await?;
        Ok(above.iter().find_map(|above| accounts.get(&above.id)).cloned())
    }

    /// Whether something is on its way, or was given up, of what was taken for that account in a period. An hour that is
    /// only in part of the period counts.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn has_open_billing_events(
        &mut self,
        collector: CollectorKind,
        account: &str,
        period: BillingPeriod,
    ) -> Result<bool, StoreError> {
        let open = query(
            "SELECT COUNT(*) FROM billing_events WHERE collector = $1 AND account = $2
                 AND bucket_start > $3 AND bucket_start < $4 AND state IN ('pending', 'dead')",
        )
        .bind(collector.as_str())
        .bind(account)
        .bind(period.start.minus(HOUR))
        .bind(period.end);
        Ok(open.fetch_number(self.connection()).await? > 0)
    }

    /// Who is called that at the collector.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tenants_billed_as(&mut self, account: &str) -> Result<Vec<TenantId>, StoreError> {
        let rows = query(
            "SELECT tenant_id FROM tenant_settings WHERE setting_key = 'billing_account' AND setting_value = $1
             ORDER BY tenant_id",
        )
        .bind(serde_json::Value::from(account).to_string())
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok(TenantId(get(row, "tenant_id")?))).collect()
    }

    /// What else was sent of these resources for the event's account and hour.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn sent_beside(
        &mut self,
        event: &BillingEvent,
        resources: &[Resource],
    ) -> Result<SentBeside, StoreError> {
        let mut sent = query(
            "SELECT CAST(COALESCE(SUM(CASE WHEN state = 'delivered' THEN units ELSE 0 END), 0) AS BIGINT) AS delivered,
                 MAX(CASE WHEN state = 'delivered' THEN finished_at END) AS delivered_at,
                 CAST(COALESCE(SUM(CASE WHEN state <> 'delivered' THEN units ELSE 0 END), 0) AS BIGINT) AS doubtful
             FROM billing_events WHERE collector = $1 AND account = $2 AND bucket_start = $3 AND event_id <> $4
                 AND (state = 'delivered' OR doubtful_since IS NOT NULL) AND ",
        )
        .bind(event.collector.as_str())
        .bind(&event.account)
        .bind(event.bucket)
        .bind(event.id.0);
        push_resources(&mut sent, resources);
        let row = sent.fetch_one(self.connection()).await?;
        Ok(SentBeside {
            delivered: Units::saturating(whole(&row, "delivered")?),
            delivered_at: get(&row, "delivered_at")?,
            doubtful: Units::saturating(whole(&row, "doubtful")?),
        })
    }

    /// Events of all tenants, newest first.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn billing_events(
        &mut self,
        filter: BillingEventFilter,
        page: &Page,
    ) -> Result<Result<Listed<BillingEvent>, BadPage>, StoreError> {
        let Ok(below) = page.below() else { return Ok(Err(BadPage::Cursor)) };
        let mut query = select(COLUMNS, "FROM billing_events WHERE event_id < $1").bind(below);
        if let Some(tenant) = filter.tenant {
            query.push(" AND tenant_id = ").push_bind(tenant.0);
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        let cursor = |last: &BillingEvent| Cursor::behind(last.id, last.created_at);
        self.listed(query, "event_id DESC", page, event, cursor).await.map(Ok)
    }

    /// # Errors
    /// [`StoreError`]
    pub async fn billing_event(&mut self, id: BillingEventId) -> Result<Option<BillingEvent>, StoreError> {
        let found = select(COLUMNS, "FROM billing_events WHERE event_id = $1").bind(id.0);
        found.fetch_optional(self.connection()).await?.as_ref().map(event).transpose()
    }
}

fn push_resources(query: &mut Query, resources: &[Resource]) {
    // A resource that no name can be: a list of none is no SQL.
    query.push("resource_type IN (''");
    for resource in resources {
        query.push(", ").push_bind(resource.as_str());
    }
    query.push(")");
}

fn event(row: &Row) -> Result<BillingEvent, StoreError> {
    Ok(BillingEvent {
        id: BillingEventId(get(row, "event_id")?),
        tenant: TenantId(get(row, "tenant_id")?),
        resource: parsed(row, "resource_type", |text| text.parse().ok())?,
        bucket: get(row, "bucket_start")?,
        revision: whole(row, "revision")?,
        units: Units::saturating(whole(row, "units")?),
        collector: parsed(row, "collector", CollectorKind::parse)?,
        account: get(row, "account")?,
        state: parsed(row, "state", BillingEventState::parse)?,
        attempts: u32::try_from(whole(row, "attempts")?).unwrap_or(u32::MAX),
        next_at: get(row, "next_at")?,
        doubtful_since: get(row, "doubtful_since")?,
        last_error: get(row, "last_error")?,
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
        settled_reason: get(row, "settled_reason")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Adds events. One whose revision another one has is left out: it was taken meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_billing_events(&mut self, events: &[BillingEvent]) -> Result<(), StoreError> {
        let columns = [
            ("tenant_id", Kind::Id),
            ("event_id", Kind::Id),
            ("resource_type", Kind::Text),
            ("bucket_start", Kind::Instant),
            ("revision", Kind::Integer),
            ("units", Kind::Integer),
            ("collector", Kind::Text),
            ("account", Kind::Text),
            ("state", Kind::Text),
            ("attempts", Kind::Integer),
            ("next_at", Kind::Instant),
            ("created_at", Kind::Instant),
        ];
        let rows = events.iter().map(|event| {
            [
                event.tenant.0.value(),
                event.id.0.value(),
                event.resource.as_str().value(),
                event.bucket.value(),
                i64::try_from(event.revision).unwrap_or(i64::MAX).value(),
                i64::try_from(event.units.get()).unwrap_or(i64::MAX).value(),
                event.collector.as_str().value(),
                event.account.as_str().value(),
                event.state.as_str().value(),
                event.attempts.value(),
                event.next_at.value(),
                event.created_at.value(),
            ]
        });
        let taken = "ON CONFLICT (tenant_id, resource_type, bucket_start, revision) DO NOTHING";
        Rows::of("billing_events", columns, rows).insert(taken, self.connection()).await
    }

    /// Has an event that was given up attempted again, for that account.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn resend_billing_event(
        &mut self,
        event: &BillingEvent,
        account: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE billing_events SET state = 'pending', account = $3, next_at = $4, finished_at = NULL
             WHERE tenant_id = $1 AND event_id = $2 AND state = 'dead'",
        )
        .bind(event.tenant.0)
        .bind(event.id.0)
        .bind(account)
        .bind(now)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes what somebody has decided of an event that was given up.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn settle_billing_event(
        &mut self,
        event: &BillingEvent,
        settled: Settled,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE billing_events SET state = $3, settled_reason = $4, finished_at = $5
             WHERE tenant_id = $1 AND event_id = $2 AND state = 'dead'",
        )
        .bind(event.tenant.0)
        .bind(event.id.0)
        .bind(BillingEventState::from(settled).as_str())
        .bind(reason)
        .bind(now)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
