//! How tenants fare: one's health with its reasons, those below a reseller, and all of them in numbers.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::quotas::QuotaUse;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{Enforcement, Resource, Tenant, TenantId, TenantStatus};
use crate::store::{Listed, Page, RecentRequests, TenantCount, TenantFilter, TenantSort};

/// A tenant's health, as of now.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct TenantHealth {
    pub tenant_id: TenantId,
    pub health: Health,
    /// The worst first; none where all is well.
    pub reasons: Vec<HealthReason>,
    /// Requests of the last five minutes, as far as they have reached the database.
    pub requests: u64,
    pub errors: u64,
    pub as_of: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Healthy,
    Warning,
    Critical,
}

/// Why a tenant is not healthy.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct HealthReason {
    pub severity: Health,
    /// `status`, `quota` or `errors`.
    pub kind: &'static str,
    pub message: String,
    pub resource_type: Option<Resource>,
}

/// Errors are looked at over so long, and said nothing of below so many requests.
const RECENT: Duration = Duration::from_secs(300);
const REQUESTS_MIN: u64 = 50;
/// In percent.
const ERRORS_WARNING: u64 = 2;
const ERRORS_CRITICAL: u64 = 10;
const QUOTA_WARNING: f64 = 80.0;
const QUOTA_CRITICAL: f64 = 100.0;

impl Control {
    /// Critical if the tenant is not served, if a hard quota is used up, or if more than a tenth of its recent requests
    /// failed; a warning from 80 % of a quota and from one failure in fifty on.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn health(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<TenantHealth, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadTenant, tenant).await?;
        let now = self.now();
        let quotas = snapshot.quotas(&tenant, now).await?;
        let recent = snapshot.recent_requests(tenant.id, now.minus(RECENT)).await?;
        let uses = self.with_use(&mut snapshot, &tenant, quotas, now).await?;
        let mut reasons: Vec<_> = uses.iter().filter_map(HealthReason::of_quota).collect();
        reasons.extend(HealthReason::of_status(tenant.status));
        reasons.extend(HealthReason::of_errors(recent));
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        let health = reasons.first().map_or(Health::Healthy, |reason| reason.severity);
        let RecentRequests { requests, errors } = recent;
        Ok(TenantHealth { tenant_id: tenant.id, health, reasons, requests, errors, as_of: now })
    }

    /// The tenants right below a reseller.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn children(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        page: &Page,
    ) -> Result<Listed<Tenant>, ControlError> {
        let (_, tenant) = self.read_tenant(principal, Operation::ReadChildren, tenant).await?;
        let filter = TenantFilter { parent: Some(tenant.id), ..TenantFilter::default() };
        // Other tenants are out of a tenant's reach; its children are its own all the same.
        Ok(self.read().await?.tenants(None, &filter, TenantSort::default(), page).await??)
    }

    /// How many tenants there are, by status and tier.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]
    pub async fn tenant_counts(&self, principal: &Principal) -> Result<Vec<TenantCount>, ControlError> {
        principal.authorize(Operation::ReadMetrics)?;
        Ok(self.read().await?.tenant_counts().await?)
    }
}

// === impl HealthReason ===

impl HealthReason {
    fn of_status(status: TenantStatus) -> Option<HealthReason> {
        let severity = match status {
            TenantStatus::Active | TenantStatus::Trial => return None,
            TenantStatus::PastDue
            | TenantStatus::Suspended
            | TenantStatus::Cancelled
            | TenantStatus::Deleted => Health::Critical,
        };
        let message = format!("the tenant's status is {}", status.as_str());
        Some(HealthReason { severity, kind: "status", message, resource_type: None })
    }

    fn of_quota(quota: &QuotaUse) -> Option<HealthReason> {
        let percent = quota.percent.filter(|percent| *percent >= QUOTA_WARNING)?;
        // Of a limit of nothing all is used, which is no news.
        quota.limit.units().filter(|limit| !limit.is_zero())?;
        let is_out = percent >= QUOTA_CRITICAL && quota.enforcement == Enforcement::Hard;
        let severity = if is_out { Health::Critical } else { Health::Warning };
        let (resource, period) = (quota.resource_type, quota.period);
        let message = format!("{percent} % of {resource} per {period} are used");
        Some(HealthReason { severity, kind: "quota", message, resource_type: Some(resource) })
    }

    fn of_errors(recent: RecentRequests) -> Option<HealthReason> {
        let RecentRequests { requests, errors } = recent;
        let is_above = |percent: u64| errors * 100 > requests * percent;
        if requests < REQUESTS_MIN || !is_above(ERRORS_WARNING) {
            return None;
        }
        let severity = if is_above(ERRORS_CRITICAL) { Health::Critical } else { Health::Warning };
        let message = format!("{errors} of {requests} requests of the last five minutes failed");
        Some(HealthReason { severity, kind: "errors", message, resource_type: None })
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, HealthReason};
    use crate::domain::TenantStatus;
    use crate::store::RecentRequests;

    #[test]
    fn errors_are_told_of_above_their_shares_and_not_of_a_handful() {
        let severity = |requests, errors| {
            HealthReason::of_errors(RecentRequests { requests, errors }).map(|reason| reason.severity)
        };
        assert_eq!(severity(49, 49), None);
        assert_eq!(severity(100, 2), None);
        assert_eq!(severity(100, 3), Some(Health::Warning));
        assert_eq!(severity(100, 10), Some(Health::Warning));
        assert_eq!(severity(100, 11), Some(Health::Critical));
    }

    #[test]
    fn who_is_on_trial_or_active_is_well() {
        for status in TenantStatus::ALL {
            let is_well = matches!(status, TenantStatus::Trial | TenantStatus::Active);
            assert_eq!(HealthReason::of_status(status).is_none(), is_well, "{status:?}");
        }
    }
}
