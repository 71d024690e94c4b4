//! How tenants fare: one's health with its reasons, those below a reseller, and all of them in numbers.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::quotas::QuotaUse;
use super::work::Target;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{Enforcement, Health, Period, Resource, Tenant, TenantId, TenantStatus};
use crate::store::{Listed, Page, RecentRequests, TenantCount, TenantFilter, TenantSort, Visible};

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

/// Why a tenant is not healthy.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct HealthReason {
    pub severity: Health,
    /// `status`, `quota` or `errors`.
    pub kind: &'static str,
    pub message: String,
    pub resource_type: Option<Resource>,
}

/// What is called unwell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TenantHealthSettings {
    /// Of a quota, in percent.
    pub quota_warning: u32,
    /// A hard quota of which so much is used is critical.
    pub quota_critical: u32,
    /// Of recent requests, in percent.
    pub errors_warning: u32,
    pub errors_critical: u32,
    /// Of fewer requests nothing is said.
    pub requests_min: u64,
}

/// Requests are looked at over so long.
const RECENT: Duration = Duration::from_secs(300);

// === impl TenantHealthSettings ===

impl Default for TenantHealthSettings {
    fn default() -> Self {
        TenantHealthSettings {
            quota_warning: 80,
            quota_critical: 100,
            errors_warning: 2,
            errors_critical: 10,
            requests_min: 50,
        }
    }
}

/// The health of whom there is this to say of, the worst first.
pub(super) fn assessed(reasons: &[HealthReason]) -> Health {
    reasons.first().map_or(Health::Healthy, |reason| reason.severity)
}

// === impl Control ===

impl Control {
    /// Critical if the tenant is not served, if a hard quota is used up, or if more than a tenth of its recent requests
    /// failed; a warning from 80 % of a quota and from one failure in fifty on, unless the settings say otherwise.
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
        let settings = &self.watch_settings().health;
        let of_quota = |quota: &QuotaUse| HealthReason::of_quota(quota, settings);
        let mut reasons: Vec<_> = uses.iter().filter_map(of_quota).collect();
        reasons.extend(HealthReason::of_status(tenant.status));
        reasons.extend(HealthReason::of_errors(recent, settings));
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        let health = assessed(&reasons);
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
        Ok(self.read().await?.tenants(Visible::All, &filter, TenantSort::default(), page).await??)
    }

    /// How many tenants there are, by status and tier.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]
    pub async fn tenant_counts(&self, principal: &Principal) -> Result<Vec<TenantCount>, ControlError> {
        self.allow(principal, Operation::ReadMetrics, &Target::platform("metrics")).await?;
        Ok(self.read().await?.tenant_counts().await?)
    }
}

// === impl HealthReason ===

impl HealthReason {
    pub(super) fn of_status(status: TenantStatus) -> Option<HealthReason> {
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

    fn of_quota(quota: &QuotaUse, settings: &TenantHealthSettings) -> Option<HealthReason> {
        // Of a limit of nothing all is used, which is no news.
        quota.limit.units().filter(|limit| !limit.is_zero())?;
        let QuotaUse { resource_type, period, enforcement, .. } = *quota;
        HealthReason::of_share(resource_type, period, quota.percent?, enforcement, settings)
    }

    pub(super) fn of_share(
        resource: Resource,
        period: Period,
        percent: f64,
        enforcement: Enforcement,
        settings: &TenantHealthSettings,
    ) -> Option<HealthReason> {
        if percent < settings.quota_warning.into() {
            return None;
        }
        let is_out = percent >= settings.quota_critical.into() && enforcement == Enforcement::Hard;
        let severity = if is_out { Health::Critical } else { Health::Warning };
        let message = format!("{percent} % of {resource} per {period} are used");
        Some(HealthReason { severity, kind: "quota", message, resource_type: Some(resource) })
    }

    pub(super) fn of_errors(recent: RecentRequests, settings: &TenantHealthSettings) -> Option<HealthReason> {
        let RecentRequests { requests, errors } = recent;
        let is_above = |percent: u32| errors * 100 > requests * u64::from(percent);
        if requests < settings.requests_min || !is_above(settings.errors_warning) {
            return None;
        }
        let severity = if is_above(settings.errors_critical) { Health::Critical } else { Health::Warning };
        let message = format!("{errors} of {requests} requests of the last five minutes failed");
        Some(HealthReason { severity, kind: "errors", message, resource_type: None })
    }
}

#[cfg(test)]
mod tests {
    use super::{HealthReason, TenantHealthSettings};
    use crate::domain::{Health, TenantStatus};
    use crate::store::RecentRequests;

    #[test]
    fn errors_are_told_of_above_their_shares_and_not_of_a_handful() {
        let severity = |requests, errors| {
            let recent = RecentRequests { requests, errors };
            HealthReason::of_errors(recent, &TenantHealthSettings::default()).map(|reason| reason.severity)
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
