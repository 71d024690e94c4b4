//! The audit log, read and verified.

use super::principal::Operation;
use super::{Control, ControlError, Principal, TenantRef};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Checkpoint, Listed, Page};

impl Control {
    /// The tenant's log, newest first. The log of a deleted tenant is there as before.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn audit_logs(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listed<AuditEntry>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAudit, tenant).await?;
        Ok(snapshot.audit_entries(Some(tenant.id), filter, page).await??)
    }

    /// The log of what concerns no single tenant, newest first.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn platform_audit_logs(
        &self,
        principal: &Principal,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Listed<AuditEntry>, ControlError> {
        principal.authorize(Operation::ReadPlatformAudit)?;
        Ok(self.read().await?.audit_entries(None, filter, page).await??)
    }

    /// Recomputes the chain of the tenant's log, or of the platform's own, and names the first broken row. With a
    /// checkpoint that was written down elsewhere, rows that were rewritten before it and rows that were cut off at the
    /// end are found as well. Answers the newest place, too: the next checkpoint.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Forbidden`]
    pub async fn verify_audit(
        &self,
        principal: &Principal,
        tenant: Option<&TenantRef>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(AuditVerdict, Checkpoint), ControlError> {
        let (mut snapshot, chain) = match tenant {
            None => {
                principal.authorize(Operation::ReadPlatformAudit)?;
                (self.read().await?, None)
            }
            Some(tenant) => {
                let (snapshot, tenant) = self.read_tenant(principal, Operation::ReadAudit, tenant).await?;
                (snapshot, Some(tenant.id))
            }
        };
        let verdict = snapshot.verify_audit(chain, checkpoint).await?;
        Ok((verdict, snapshot.audit_checkpoint(chain).await?))
    }
}
