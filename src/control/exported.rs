//! Invoices that were exported: everything that was counted in their period has reached whoever collects what is owed.
//!
//! What is brought there is usage, hour by hour, and not the document: the collector makes
//! its own. So an invoice is exported once no usage of its period is on the way any more: all hours of the period were
//! taken, and of what was taken for the tenant's account everything has arrived or was settled by people. What arrives
//! later is a correction of the next invoice, and on its way then. Usage from before the export began, or from before the
//! tenant was called anything there, is nobody's to bring: it is not waited for.
//!
//! The tenants below a reseller are billed to its account where they have none, so its invoice waits for theirs.

use std::collections::BTreeMap;

use serde_json::json;

use super::principal::Operation;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal};
use crate::domain::TenantId;
use crate::domain::billing::{CollectorKind, ExportedTo, InvoiceStatus};
use crate::store::{BillingAccount, Snapshot, UnexportedInvoice};

/// Invoices that are looked at in one go.
const INVOICES_AT_ONCE: u32 = 500;

// === impl Control ===

impl Control {
    /// Notes which invoices were exported since; answers how many.
    pub(super) async fn note_exported(&self, system: &Principal) -> Result<u64, ControlError> {
        let mut exported = 0;
        for collector in CollectorKind::ALL {
            let mut snapshot = self.read().await?;
            let Some(progress) = snapshot.export_progress(collector).await? else { continue };
            let accounts = snapshot.billing_accounts().await?;
            drop(snapshot);
            let mut behind = None;
            loop {
                let mut snapshot = self.read().await?;
                let some = snapshot.unexported_invoices(progress, behind, INVOICES_AT_ONCE).await?;
                let Some(last) = some.last() else { break };
                behind = Some((last.tenant, last.id));
                for invoice in &some {
                    if is_brought(&mut snapshot, collector, &accounts, invoice).await? {
                        exported += u64::from(self.note_one_exported(system, invoice, collector).await?);
                    }
                }
            }
        }
        Ok(exported)
    }

    async fn note_one_exported(
        &self,
        system: &Principal,
        invoice: &UnexportedInvoice,
        collector: CollectorKind,
    ) -> Result<bool, ControlError> {
        let mut work = self.begin(system).await?;
        let outcome = work.export_invoice(invoice, collector).await;
        work.end(outcome).await
    }
}

/// Whether the tenant is called something there, and nothing is on the way any more of what was taken for that account.
async fn is_brought(
    snapshot: &mut Snapshot,
    collector: CollectorKind,
    accounts: &BTreeMap<TenantId, BillingAccount>,
    invoice: &UnexportedInvoice,
) -> Result<bool, ControlError> {
    let billed = snapshot.billed_as(accounts, invoice.tenant).await?;
    let Some(billed) = billed.filter(|billed| billed.since < invoice.period.end) else { return Ok(false) };
    Ok(!snapshot.has_open_billing_events(collector, &billed.account, invoice.period).await?)
}

// === impl Work ===

impl Work<'_> {
    /// Whether it was not exported yet, and is now.
    async fn export_invoice(
        &mut self,
        invoice: &UnexportedInvoice,
        collector: CollectorKind,
    ) -> Result<bool, ControlError> {
        let known = self.tx.invoice(invoice.tenant, invoice.id).await?;
        let is_open = known.is_some_and(|known| known.status == InvoiceStatus::Finalized);
        let Some(tenant) = self.tx.tenant(invoice.tenant).await?.filter(|_| is_open) else {
            return Ok(false);
        };
        let exported = ExportedTo { at: self.now, collector };
        self.tx.set_invoice_exported(invoice.tenant, invoice.id, exported).await?;
        let (before, after) = (
            json!({ "status": InvoiceStatus::Finalized }),
            json!({ "status": InvoiceStatus::Exported, "collector": collector }),
        );
        let target = Target::of(&tenant, "invoice", invoice.id.to_string());
        self.audit(Operation::ExportInvoice, &target, Told::changed(&before, &after)).await?;
        Ok(true)
    }
}
