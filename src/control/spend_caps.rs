//! Spend caps: a tenant is told when what it owes for the present period comes near to what it means to spend.
//!
//! A cap is of the whole estimate: subscription, what was used above limits, and corrections. It is looked at once a minute
//! by one gateway of the fleet, and each threshold is told of once per period and cap. Nothing is refused because of it:
//! how much may be used is what quotas say.

use serde_json::json;

use super::principal::Operation;
use super::subscriptions::{currency_of, had_tier};
use super::validate::Faults;
use super::watch::Happening;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::domain::billing::{Bill, Money, SpendCap};
use crate::domain::{Alert, AlertKind, Severity, Tenant, TenantId};
use crate::store::Snapshot;

/// In percent of the cap.
const THRESHOLDS: [u32; 2] = [80, 100];
/// Tenants that are looked at in one go.
const TENANTS_AT_ONCE: u32 = 500;

// === impl Control ===

impl Control {
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Forbidden`] to who is not told what the tenant owes.
    pub async fn spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Option<SpendCap>, ControlError> {
        let (mut snapshot, tenant) = self.read_billed(principal, tenant).await?;
        Ok(snapshot.spend_cap(tenant.id).await?)
    }

    /// Sets the tenant's cap: a decimal of whole units of the currency that it is billed in. The same again is success and
    /// writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for what is no amount above zero.
    pub async fn set_spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        amount: &str,
    ) -> Result<SpendCap, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_spend_cap(tenant, amount).await;
        work.end(outcome).await
    }

    /// Removes the tenant's cap.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], also if it has none.
    pub async fn remove_spend_cap(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<(), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.remove_spend_cap(tenant).await;
        work.end(outcome).await
    }

    /// Tells of caps that are nearly spent, or are.
    pub(super) async fn watch_spending(&self, told: &mut Vec<Alert>) -> Result<(), ControlError> {
        let mut behind = TenantId(uuid::Uuid::nil());
        loop {
            let mut snapshot = self.read().await?;
            let some = snapshot.capped_tenants(behind, TENANTS_AT_ONCE).await?;
            let Some((last, _)) = some.last() else { return Ok(()) };
            behind = *last;
            for (id, cap) in &some {
                let Some(tenant) = snapshot.tenant(*id).await? else { continue };
                let happenings = self.spending(&mut snapshot, &tenant, cap).await?;
                told.extend(self.note(&mut snapshot, *id, happenings, None).await?);
            }
        }
    }

    async fn spending(
        &self,
        snapshot: &mut Snapshot,
        tenant: &Tenant,
        cap: &SpendCap,
    ) -> Result<Vec<Happening>, ControlError> {
        let bill = match self.estimated(snapshot, tenant).await {
            Ok(bill) => bill,
            // Without a subscription nothing is spent; and one who can't be billed keeps nobody else from being told.
            Err(ControlError::Conflict(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let passed = THRESHOLDS.into_iter().filter(|percent| cap.is_spent(bill.total_minor, *percent));
        Ok(passed.map(|percent| spent(&bill, cap.amount, percent)).collect())
    }
}

fn spent(bill: &Bill, cap: Money, percent: u32) -> Happening {
    let (total, start) = (bill.money(bill.total_minor), bill.period.start);
    Happening {
        occasion: format!("spend_cap:{}:{}:{percent}", start.seconds(), cap.minor),
        kind: AlertKind::Billing,
        severity: if percent < 100 { Severity::Warning } else { Severity::Critical },
        resource: None,
        summary: format!("{percent} % of the spend cap are reached: {total} of {cap} in this period."),
        details: json!({
            "threshold": percent,
            "cap_minor": cap.minor,
            "total_minor": bill.total_minor,
            "currency": cap.currency,
            "period": bill.period,
        }),
    }
}

fn shown(cap: &SpendCap) -> serde_json::Value {
    json!({ "amount_minor": cap.amount.minor, "currency": cap.amount.currency })
}

fn target(tenant: &Tenant) -> Target {
    Target::of(tenant, "spend_cap", tenant.id.to_string())
}

// === impl Work ===

impl Work<'_> {
    async fn set_spend_cap(&mut self, tenant: &TenantRef, amount: &str) -> Result<SpendCap, ControlError> {
        let tenant = self.living_tenant_for(Operation::SetSpendCap, tenant).await?;
        let currency = currency_of(&had_tier(&mut self.tx, &tenant).await?)?;
        let mut faults = Faults::default();
        let amount = Money::parse(amount.trim(), currency).filter(|amount| amount.minor > 0);
        let expected = format!("an amount above 0 is expected, in {currency} and like 500.00");
        let amount = faults.check("amount", amount, expected);
        faults.finish()?;
        let before = self.tx.spend_cap(tenant.id).await?;
        if let Some(same) = before.clone().filter(|before| Some(before.amount) == amount) {
            return Ok(same);
        }
        let amount = amount.unwrap_or(Money { minor: 0, currency });
        let after = SpendCap { amount, set_at: self.now, set_by: self.principal.actor.name.clone() };
        self.tx.set_spend_cap(tenant.id, Some(&after)).await?;
        let told = Told { before: before.as_ref().map(shown), ..Told::made(shown(&after)) };
        self.audit(Operation::SetSpendCap, &target(&tenant), told).await?;
        Ok(after)
    }

    async fn remove_spend_cap(&mut self, tenant: &TenantRef) -> Result<(), ControlError> {
        let tenant = self.living_tenant_for(Operation::RemoveSpendCap, tenant).await?;
        let Some(before) = self.tx.spend_cap(tenant.id).await? else {
            return Err(ControlError::NotFound { what: "spend cap", which: tenant.slug.to_string() });
        };
        self.tx.set_spend_cap(tenant.id, None).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveSpendCap, &target(&tenant), told).await
    }
}
