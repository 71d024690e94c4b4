//! The audit log, read and verified.

use super::principal::Operation;
use super::{Control, ControlError, Principal, TenantRef};
use crate::store::{AuditEntry, AuditVerdict, Listed, Page};

impl Control {
    /// The tenant's log, newest first. The log of a deleted tenant is there as before.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn audit_logs(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        page: &Page,
    ) -> Result<Listed<AuditEntry>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAudit, tenant).await?;
        Ok(snapshot.audit_entries(Some(tenant.id), page).await??)
    }

    /// The log of what concerns no single tenant, newest first.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn platform_audit_logs(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listed<AuditEntry>, ControlError> {
        principal.authorize(Operation::ReadPlatformAudit)?;
        Ok(self.read().await?.audit_entries(None, page).await??)
    }

    /// Recomputes the chain of the tenant's log, or of the platform's own, and names the first broken row.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Forbidden`]
    pub async fn verify_audit(
        &self,
        principal: &Principal,
        tenant: Option<&TenantRef>,
    ) -> Result<AuditVerdict, ControlError> {
        let Some(tenant) = tenant else {
            principal.authorize(Operation::ReadPlatformAudit)?;
            return Ok(self.read().await?.verify_audit(None).await?);
        };
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadAudit, tenant).await?;
        Ok(snapshot.verify_audit(Some(tenant.id)).await?)
    }
}
