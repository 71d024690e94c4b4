//! How tenants fare: one's health with its reasons, those below a reseller, and all of them in numbers.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::quotas::QuotaUse;
use super::work::Target;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{Enforcement, Health, Period, Resource, ResourceNames, Tenant, TenantId, TenantStatus};
use crate::store::{
    Exhaustion, Listed, Page, RecentRequests, TenantCount, TenantFilter, TenantSort, Visible,
};

/// A tenant's health, as of now.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct TenantHealth {
    pub tenant_id: TenantId,
    pub health: Health,
    /// The worst first; none where all is well.
    pub reasons: Vec<HealthReason>,
    /// Requests of the last five minutes, as far as they have reached the database; without those that were denied.
    pub requests: u64,
    pub errors: u64,
    /// For want of units.
    pub denied: u64,
    pub as_of: Timestamp,
}

/// Why a tenant is not healthy.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct HealthReason {
    pub severity: Health,
    /// `status`, `quota`, `errors`, `denials` or `forecast`.
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
    /// Of recent requests, denied ones among them, in percent.
    pub denials_warning: u32,
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
            denials_warning: 1,
            requests_min: 50,
        }
    }
}

/// The health of whom there is this to say of, the worst first.
pub(super) fn assessed(reasons: &[HealthReason]) -> Health {
    reasons.first().map_or(Health::Healthy, |reason| reason.severity)
}

/// What a quota is of, as people read it: `API calls per month`.
pub(super) fn counted(resource: Resource, period: Period, names: &ResourceNames) -> String {
    match period {
        Period::Forever => names.display(resource),
        period => format!("{} per {period}", names.display(resource)),
    }
}

// === impl Control ===

impl Control {
    /// Critical if the tenant is not served, if a hard quota is used up, or if more than a tenth of its recent requests
    /// failed; a warning from 80 % of a quota, from one failure in fifty and one denial in a hundred on, and for a quota that
    /// is foreseen to be used up before it begins anew, unless the settings say otherwise.
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
        let foreseen = snapshot.exhaustions(Some(tenant.id), now).await?;
        let names = ResourceNames::of(snapshot.resource_types().await?);
        let uses = self.with_use(&mut snapshot, &tenant, quotas, now).await?;
        let settings = &self.watch_settings().health;
        let of_quota = |quota: &QuotaUse| HealthReason::of_quota(quota, &names, settings);
        let mut reasons: Vec<_> = uses.iter().filter_map(of_quota).collect();
        let own = uses.iter().filter(|quota| quota.key_id.is_none());
        let to_come = own.filter(|quota| foreseen.iter().any(|foreseen| quota.is_foreseen(foreseen)));
        let to_come = to_come.filter(|quota| of_quota(quota).is_none());
        reasons.extend(
            to_come.map(|quota| HealthReason::of_forecast(quota.resource_type, quota.period, &names)),
        );
        reasons.extend(HealthReason::of_status(tenant.status));
        reasons.extend(HealthReason::of_errors(recent, settings));
        reasons.extend(HealthReason::of_denials(recent, settings));
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.severity));
        let health = assessed(&reasons);
        let RecentRequests { requests, errors, denied } = recent;
        Ok(TenantHealth { tenant_id: tenant.id, health, reasons, requests, errors, denied, as_of: now })
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

// === impl QuotaUse ===

impl QuotaUse {
    /// Whether that was foreseen of it: of this window, and of the limit that it has now.
    fn is_foreseen(&self, foreseen: &Exhaustion) -> bool {
        let Exhaustion { resource, period, limit, window_end, .. } = *foreseen;
        (self.resource_type, self.period, self.limit.units()) == (resource, period, Some(limit))
            && self.window.end == window_end
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

    fn of_quota(
        quota: &QuotaUse,
        names: &ResourceNames,
        settings: &TenantHealthSettings,
    ) -> Option<HealthReason> {
        // Of a limit of nothing all is used, which is no news.
        quota.limit.units().filter(|limit| !limit.is_zero())?;
        let QuotaUse { resource_type, period, enforcement, .. } = *quota;
        HealthReason::of_share(resource_type, period, quota.percent?, enforcement, names, settings)
    }

    pub(super) fn of_share(
        resource: Resource,
        period: Period,
        percent: f64,
        enforcement: Enforcement,
        names: &ResourceNames,
        settings: &TenantHealthSettings,
    ) -> Option<HealthReason> {
        if percent < settings.quota_warning.into() {
            return None;
        }
        let is_out = percent >= settings.quota_critical.into() && enforcement == Enforcement::Hard;
        let severity = if is_out { Health::Critical } else { Health::Warning };
        let message = format!("{percent} % of {} are used", counted(resource, period, names));
        Some(HealthReason { severity, kind: "quota", message, resource_type: Some(resource) })
    }

    pub(super) fn of_errors(recent: RecentRequests, settings: &TenantHealthSettings) -> Option<HealthReason> {
        let RecentRequests { requests, errors, .. } = recent;
        let is_above = |percent: u32| errors * 100 > requests * u64::from(percent);
        if requests < settings.requests_min || !is_above(settings.errors_warning) {
            return None;
        }
        let severity = if is_above(settings.errors_critical) { Health::Critical } else { Health::Warning };
        let message = format!("{errors} of {requests} requests of the last five minutes failed");
        Some(HealthReason { severity, kind: "errors", message, resource_type: None })
    }

    pub(super) fn of_denials(
        recent: RecentRequests,
        settings: &TenantHealthSettings,
    ) -> Option<HealthReason> {
        let RecentRequests { requests, denied, .. } = recent;
        let asked = requests.saturating_add(denied);
        let is_above = denied * 100 > asked * u64::from(settings.denials_warning);
        if asked < settings.requests_min || !is_above {
            return None;
        }
        let message = format!("{denied} of {asked} requests of the last five minutes were denied");
        Some(HealthReason { severity: Health::Warning, kind: "denials", message, resource_type: None })
    }

    /// Of a quota that is not near its limit yet.
    pub(super) fn of_forecast(resource: Resource, period: Period, names: &ResourceNames) -> HealthReason {
        let counted = counted(resource, period, names);
        let message = format!("{counted} will be used up before it begins anew, by the forecast");
        HealthReason { severity: Health::Warning, kind: "forecast", message, resource_type: Some(resource) }
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
            let recent = RecentRequests { requests, errors, denied: 0 };
            HealthReason::of_errors(recent, &TenantHealthSettings::default()).map(|reason| reason.severity)
        };
        assert_eq!(severity(49, 49), None);
        assert_eq!(severity(100, 2), None);
        assert_eq!(severity(100, 3), Some(Health::Warning));
        assert_eq!(severity(100, 10), Some(Health::Warning));
        assert_eq!(severity(100, 11), Some(Health::Critical));
    }

    #[test]
    fn denials_are_told_of_above_one_in_a_hundred_of_all_that_was_asked_for() {
        let severity = |requests, denied| {
            let recent = RecentRequests { requests, errors: 0, denied };
            HealthReason::of_denials(recent, &TenantHealthSettings::default()).map(|reason| reason.severity)
        };
        assert_eq!(severity(0, 49), None);
        assert_eq!(severity(0, 50), Some(Health::Warning));
        assert_eq!(severity(99, 1), None);
        assert_eq!(severity(98, 2), Some(Health::Warning));
    }

    #[test]
    fn who_is_on_trial_or_active_is_well() {
        for status in TenantStatus::ALL {
            let is_well = matches!(status, TenantStatus::Trial | TenantStatus::Active);
            assert_eq!(HealthReason::of_status(status).is_none(), is_well, "{status:?}");
        }
    }
}
