//! What of usage is on its way to whoever collects what is owed: seen, and sent again, by the platform.
//!
//! Hours are taken and sent by the exporter of a gateway. Here is what people have to do with it: to see what waits and
//! what was given up and why, to mend the cause, and to have it sent again.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::principal::Operation;
use super::settings::nearest;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::billing::{
    BILLING_ACCOUNT, BillingEvent, BillingEventId, BillingEventState, CollectorKind, Settled,
};
use crate::domain::{Tenant, TenantUse};
use crate::store::{BillingEventFilter, Listed, Page};

/// How bringing usage to a collector goes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct BillingExport {
    pub collector: CollectorKind,
    /// Usage from before that hour is not brought there.
    pub began_at: Timestamp,
    /// Up to when it was looked for hours that are over.
    pub looked_at: Timestamp,
    pub pending: u64,
    pub dead: u64,
    /// When the oldest that waits was taken.
    pub oldest_pending_at: Option<Timestamp>,
}

impl Control {
    /// How it goes with every collector that usage was ever brought to.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]
    pub async fn billing_exports(&self, principal: &Principal) -> Result<Vec<BillingExport>, ControlError> {
        self.allow(principal, Operation::ReadBillingEvents, &Target::platform("billing_event")).await?;
        let mut snapshot = self.read().await?;
        let mut exports = Vec::new();
        for collector in CollectorKind::ALL {
            let Some(progress) = snapshot.export_progress(collector).await? else { continue };
            let depth = snapshot.billing_depth(collector).await?;
            exports.push(BillingExport {
                collector,
                began_at: progress.began_at,
                looked_at: progress.looked_at,
                pending: depth.pending,
                dead: depth.dead,
                oldest_pending_at: depth.oldest,
            });
        }
        Ok(exports)
    }

    /// Hours of usage that were taken, newest first: of that tenant or of all.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn billing_events(
        &self,
        principal: &Principal,
        tenant: Option<&TenantRef>,
        state: Option<BillingEventState>,
        page: &Page,
    ) -> Result<Listed<BillingEvent>, ControlError> {
        self.allow(principal, Operation::ReadBillingEvents, &Target::platform("billing_event")).await?;
        let mut snapshot = self.read().await?;
        let tenant = match tenant {
            Some(tenant) => Some(principal.find(&mut snapshot, tenant).await?.id),
            None => None,
        };
        Ok(snapshot.billing_events(BillingEventFilter { tenant, state }, page).await??)
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn billing_event(
        &self,
        principal: &Principal,
        id: BillingEventId,
    ) -> Result<BillingEvent, ControlError> {
        self.allow(principal, Operation::ReadBillingEvents, &Target::platform("billing_event")).await?;
        self.read().await?.billing_event(id).await?.ok_or_else(|| no_event(id))
    }

    /// Has usage that was given up sent again, for what its tenant is called at the collector now. What waits or has
    /// arrived is not sent again: nothing is billed twice.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] if it was not given up, or the tenant has no account.
    pub async fn resend_billing_event(
        &self,
        principal: &Principal,
        id: BillingEventId,
    ) -> Result<BillingEvent, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.resend_billing_event(id).await;
        work.end(outcome).await
    }

    /// Notes what somebody has decided of usage that was given up: that its collector has it, or that it is billed to
    /// nobody. It is not sent again, and no invoice waits for it any more.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] without a reason; [`ControlError::NotFound`]; [`ControlError::Conflict`] if it was not
    /// given up.
    pub async fn settle_billing_event(
        &self,
        principal: &Principal,
        id: BillingEventId,
        settled: Settled,
        reason: Option<&str>,
    ) -> Result<BillingEvent, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.settle_billing_event(id, settled, reason).await;
        work.end(outcome).await
    }

    /// Tenants that are served and whose usage is brought to no collector, since neither they nor a tenant above are called
    /// anything there; the newest first.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn unbilled_tenants(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listed<TenantUse>, ControlError> {
        self.allow(principal, Operation::ReadReports, &Target::platform("report")).await?;
        Ok(self.read().await?.unbilled_tenants(page).await??)
    }
}

fn no_event(id: BillingEventId) -> ControlError {
    ControlError::NotFound { what: "billing event", which: id.to_string() }
}

// === impl Work ===

impl Work<'_> {
    async fn resend_billing_event(&mut self, id: BillingEventId) -> Result<BillingEvent, ControlError> {
        let (before, tenant) = self.dead_event(Operation::ResendBillingEvent, id, "sent again").await?;
        let account = nearest(&mut self.tx, &tenant, &[BILLING_ACCOUNT]).await?;
        let account = account.get(BILLING_ACCOUNT).and_then(|account| account.as_str());
        let Some(account) = account else {
            return Err(ControlError::Conflict(format!(
                "set `{BILLING_ACCOUNT}` of `{}` first: nobody knows for whom it is",
                tenant.slug
            )));
        };
        self.tx.resend_billing_event(&before, account, self.now).await?;
        let told = Told::made(json!({ "identifier": before.identifier(), "account": account }));
        let target = Target::of(&tenant, "billing_event", id.to_string());
        self.audit(Operation::ResendBillingEvent, &target, told).await?;
        let (state, account) = (BillingEventState::Pending, account.to_owned());
        Ok(BillingEvent { state, account, next_at: self.now, finished_at: None, ..before })
    }

    async fn settle_billing_event(
        &mut self,
        id: BillingEventId,
        settled: Settled,
        reason: Option<&str>,
    ) -> Result<BillingEvent, ControlError> {
        let (before, tenant) = self.dead_event(Operation::SettleBillingEvent, id, "settled").await?;
        let mut faults = Faults::default();
        let reason = faults.reason(reason);
        if reason.is_none() {
            faults.add("reason", "usage is settled by hand for a reason: say it");
        }
        faults.finish()?;
        let reason = reason.unwrap_or_default();
        self.tx.settle_billing_event(&before, settled, &reason, self.now).await?;
        let told =
            Told::made(json!({ "identifier": before.identifier(), "units": before.units, "state": settled }));
        let target = Target::of(&tenant, "billing_event", id.to_string());
        self.audit(Operation::SettleBillingEvent, &target, told.because(Some(reason.clone()))).await?;
        let state = settled.into();
        Ok(BillingEvent { state, finished_at: Some(self.now), settled_reason: Some(reason), ..before })
    }

    /// An event that was given up, and whose it is.
    async fn dead_event(
        &mut self,
        operation: Operation,
        id: BillingEventId,
        done: &str,
    ) -> Result<(BillingEvent, Tenant), ControlError> {
        let anyones = Target { id: id.to_string(), ..Target::platform("billing_event") };
        self.authorize(operation, &anyones)?;
        let event = self.tx.billing_event(id).await?.ok_or_else(|| no_event(id))?;
        if event.state != BillingEventState::Dead {
            let why = format!("it is {}: only what was given up is {done}", event.state.as_str());
            return Err(ControlError::Conflict(why));
        }
        let tenant = self.tx.tenant(event.tenant).await?.ok_or_else(|| no_event(id))?;
        Ok((event, tenant))
    }
}
