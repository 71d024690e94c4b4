//! The usage log, read.

use super::principal::Operation;
use super::{Control, ControlError, Principal, TenantRef};
use crate::store::{Listed, Page, UsageFilter, UsageRow};

impl Control {
    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn usage_logs(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        filter: &UsageFilter,
        page: &Page,
    ) -> Result<Listed<UsageRow>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadUsage, tenant).await?;
        Ok(snapshot.usage_rows(tenant.id, filter, page).await??)
    }
}
