//! Tenants: made, found, changed, moved from status to status.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::principal::Operation;
use super::subscriptions::{Schedule, TierWhen, plan_of};
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::domain::billing::Segment;
use crate::domain::{Anchor, Slug, Tenant, TenantId, TenantStatus, Tier, Zone};
use crate::store::{Listed, Page, Reach, Snapshot, TenantFilter, TenantSort, Visible};

/// What a new tenant is made of. Text as it was typed: [`Control::create_tenant`] checks it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewTenant {
    pub name: String,
    /// Suggested from the name, and numbered when taken, if absent.
    pub slug: Option<String>,
    /// A tier's slug or alias; `free` if absent.
    pub tier: Option<String>,
    pub billing_email: Option<String>,
    pub contact_phone: Option<String>,
    /// IANA name; `UTC` if absent.
    pub timezone: Option<String>,
    /// BCP 47; `en` if absent.
    pub locale: Option<String>,
    /// The reseller above it: id or slug.
    pub parent: Option<String>,
}

/// What to change of a tenant: `None` leaves it as it is. Slug, tier and time zone are the platform's to change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantChange {
    pub name: Option<String>,
    pub slug: Option<String>,
    /// The one that it has withdraws what was scheduled.
    pub tier: Option<String>,
    /// When the tier changes: if absent, a dearer one at once and a cheaper one at the period's end.
    pub tier_when: Option<TierWhen>,
    /// Empty removes it.
    pub billing_email: Option<String>,
    /// Empty removes it.
    pub contact_phone: Option<String>,
    /// Moves the boundaries of the tenant's windows: what was used counts in the window that it was used in.
    pub timezone: Option<String>,
    pub locale: Option<String>,
}

/// The tier of tenants that ask for none.
const TIER_DEFAULT: &str = "free";
const LOCALE_DEFAULT: &str = "en";
impl Control {
    /// Makes a tenant. Its quotas are its tier's.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] when the given slug is taken.
    pub async fn create_tenant(&self, principal: &Principal, new: NewTenant) -> Result<Tenant, ControlError> {
        let (mut work, new) = self.begin_making(principal, new).await?;
        let outcome = work.create_tenant(&new, TenantStatus::Active).await;
        work.end(outcome).await
    }

    /// A reseller makes tenants below its own, or below those.
    async fn begin_making<'a>(
        &'a self,
        principal: &'a Principal,
        mut new: NewTenant,
    ) -> Result<(Work<'a>, NewTenant), ControlError> {
        let Some(own) = principal.tenant().filter(|_| principal.looks_below()) else {
            return Ok((self.begin(principal).await?, new));
        };
        let parent = new.parent.as_deref().map_or(Ok(TenantRef::Id(own)), str::parse);
        let parent = match parent {
            Ok(parent) => self.within(principal, &parent).await.ok().and_then(|within| within.tenant()),
            Err(()) => None,
        };
        // Whose parent is nobody that there is for the reseller is refused as if it were none.
        let Some(parent) = parent else { return Ok((self.begin(principal).await?, new)) };
        new.parent = Some(parent.to_string());
        // The new tenant is not there yet, so nobody's reach goes as far as it.
        let work = self.begin_reaching(Cow::Owned(principal.below(parent)), Reach::Platform).await?;
        Ok((work, new))
    }

    /// The tenants that the caller may see; deleted ones only if the filter asks for them.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for another list's cursor.
    pub async fn tenants(
        &self,
        principal: &Principal,
        filter: &TenantFilter,
        sort: TenantSort,
        page: &Page,
    ) -> Result<Listed<Tenant>, ControlError> {
        let (mut snapshot, filter) = self.begin_listing(principal, filter).await?;
        Ok(snapshot.tenants(principal.visible(), &filter, sort, page).await??)
    }

    /// The store, as far as the caller's tenants reach, and what is asked for in the store's words.
    pub(super) async fn begin_listing(
        &self,
        principal: &Principal,
        filter: &TenantFilter,
    ) -> Result<(Snapshot, TenantFilter), ControlError> {
        self.allow(principal, Operation::ReadTenant, &Target::platform("tenant")).await?;
        // Tenants below a reseller's are out of its reach.
        let mut snapshot = match principal.visible() {
            Visible::Below(_) => self.read().await?,
            Visible::All | Visible::One(_) => self.read_as(principal).await?,
        };
        let mut filter = filter.clone();
        if let Some(alias) = &filter.tier {
            let tier = snapshot.tier(alias).await?;
            filter.tier = tier.map(|tier| tier.slug).or(filter.tier);
        }
        Ok((snapshot, filter))
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn tenant(&self, principal: &Principal, tenant: &TenantRef) -> Result<Tenant, ControlError> {
        Ok(self.read_tenant(principal, Operation::ReadTenant, tenant).await?.1)
    }

    /// Changes what `change` holds. A dearer tier is in force at once, a cheaper one when the billing period ends, unless
    /// `tier_when` says otherwise; use carries over, overrides stay.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Stale`]; [`ControlError::Conflict`] when the slug is taken or the tenant is deleted.
    pub async fn change_tenant(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        change: TenantChange,
    ) -> Result<Tenant, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.change_tenant(tenant, &change).await;
        work.end(outcome).await
    }

    /// Moves the tenant to `status`; to be there already is success and writes nothing. `deleted` is final.
    ///
    /// # Errors
    /// [`ControlError::IllegalMove`]; [`ControlError::Invalid`] if suspended without a reason;
    /// [`ControlError::Stale`].
    pub async fn set_status(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        status: TenantStatus,
        reason: Option<String>,
    ) -> Result<Tenant, ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.set_status(tenant, status, reason.as_deref()).await;
        work.end(outcome).await
    }
}

/// What a tenant looks like in the audit log and in plans.
pub(super) fn shown(tenant: &Tenant) -> Value {
    json!({
        "name": tenant.name,
        "slug": tenant.slug,
        "status": tenant.status,
        "tier": tenant.tier,
        "tier_version": tenant.tier_version,
        "parent": tenant.parent,
        "billing_email": tenant.billing_email,
        "contact_phone": tenant.contact_phone,
        "timezone": tenant.timezone,
        "locale": tenant.locale,
    })
}

// === impl TenantChange ===

impl TenantChange {
    /// Whether it touches what only the platform may change.
    const fn is_of_terms(&self) -> bool {
        self.slug.is_some() || self.tier.is_some() || self.timezone.is_some()
    }
}

// === impl Work ===

impl Work<'_> {
    pub(super) async fn create_tenant(
        &mut self,
        new: &NewTenant,
        status: TenantStatus,
    ) -> Result<Tenant, ControlError> {
        let anyone = Target { tenant: None, kind: "tenant", id: new.name.clone() };
        self.authorize(Operation::CreateTenant, &anyone)?;
        let (mut tenant, tier) = self.checked(new).await?;
        tenant.status = status;
        self.tx.insert_tenant(&tenant, tier.retention_days).await?;
        let plan = plan_of(&tenant);
        self.tx.set_segment(tenant.id, &Segment { starts_at: self.now, plan }).await?;
        self.audit(Operation::CreateTenant, &Target::tenant(&tenant), Told::made(shown(&tenant))).await?;
        Ok(tenant)
    }

    async fn checked(&mut self, new: &NewTenant) -> Result<(Tenant, Tier), ControlError> {
        let mut faults = Faults::default();
        let name = faults.name("name", &new.name);
        let asked_slug = new.slug.as_deref().map(|slug| faults.slug("slug", slug));
        let tier = self.tier(&mut faults, new.tier.as_deref().unwrap_or(TIER_DEFAULT)).await?;
        let billing_email = faults.email("billing_email", new.billing_email.as_deref().unwrap_or(""));
        let contact_phone = faults.phone("contact_phone", new.contact_phone.as_deref().unwrap_or(""));
        let timezone = faults.timezone("timezone", new.timezone.as_deref().unwrap_or(Zone::UTC.name()));
        let locale = faults.locale("locale", new.locale.as_deref().unwrap_or(LOCALE_DEFAULT));
        let parent = self.parent(&mut faults, new.parent.as_deref()).await?;
        let all_good = faults.is_empty();
        let (Some(name), Some(tier), Some(timezone), Some(locale), true) =
            (name, tier, timezone, locale, all_good)
        else {
            return Err(faults.refusal());
        };
        let slug = match asked_slug.flatten() {
            Some(slug) => self.free(slug).await?,
            None => self.suggested(&name).await?,
        };
        let tenant = Tenant {
            id: TenantId(self.control.new_id()),
            name,
            slug,
            status: TenantStatus::Active,
            tier: tier.slug.clone(),
            tier_version: tier.version,
            parent,
            billing_email: billing_email.flatten(),
            contact_phone: contact_phone.flatten(),
            timezone,
            locale,
            anchor: Anchor::Anniversary(self.now),
            created_at: self.now,
            updated_at: self.now,
            version: 1,
        };
        Ok((tenant, tier))
    }

    async fn tier(&mut self, faults: &mut Faults, asked: &str) -> Result<Option<Tier>, ControlError> {
        let Some(tier) = self.tx.tier(asked).await? else {
            let known: Vec<_> = self.tx.tiers().await?.into_iter().map(|tier| tier.slug).collect();
            faults.add("tier", format!("there is no such tier; there are {}", known.join(", ")));
            return Ok(None);
        };
        if self.principal.tenant().is_some() && tier.resells() {
            faults.add("tier", "only the platform makes resellers");
        }
        Ok(Some(tier))
    }

    async fn parent(
        &mut self,
        faults: &mut Faults,
        asked: Option<&str>,
    ) -> Result<Option<TenantId>, ControlError> {
        let Some(asked) = asked else { return Ok(None) };
        let found = match asked.parse::<TenantRef>() {
            Ok(TenantRef::Id(id)) => self.tx.tenant(id).await?,
            Ok(TenantRef::Slug(slug)) => self.tx.tenant_by_slug(&slug).await?,
            Err(()) => None,
        };
        let Some(parent) = found.filter(|parent| parent.status != TenantStatus::Deleted) else {
            faults.add("parent", "there is no such tenant");
            return Ok(None);
        };
        let tier = self.tx.tier(&parent.tier).await?;
        if !tier.is_some_and(|tier| tier.resells()) {
            faults.add("parent", format!("the tier {} may not have tenants below its own", parent.tier));
        }
        Ok(Some(parent.id))
    }

    async fn free(&mut self, slug: Slug) -> Result<Slug, ControlError> {
        if self.tx.is_slug_taken(&slug).await? {
            return Err(ControlError::Conflict(format!("the slug `{slug}` is taken")));
        }
        Ok(slug)
    }

    /// The slug that the name suggests, with a number if that is taken.
    ///
    /// Doubles the number until a free one is found and then halves the gap, so that the thousandth tenant of a
    /// name costs twenty look-ups.
    async fn suggested(&mut self, name: &str) -> Result<Slug, ControlError> {
        let slug = Slug::suggested(name);
        if !self.tx.is_slug_taken(&slug).await? {
            return Ok(slug);
        }
        let (mut taken, mut free) = (1, 2);
        while self.tx.is_slug_taken(&slug.numbered(free)).await? {
            taken = free;
            free *= 2;
        }
        while free - taken > 1 {
            let middle = taken + (free - taken) / 2;
            if self.tx.is_slug_taken(&slug.numbered(middle)).await? { taken = middle } else { free = middle }
        }
        Ok(slug.numbered(free))
    }

    pub(super) async fn change_tenant(
        &mut self,
        tenant: &TenantRef,
        change: &TenantChange,
    ) -> Result<Tenant, ControlError> {
        let before = self.living_tenant_for(Operation::ChangeTenant, tenant).await?;
        if change.is_of_terms() {
            self.authorize(Operation::ChangeTerms, &Target::tenant(&before))?;
        }
        self.control.expects(before.version)?;
        let mut after = self.changed(&before, change).await?;
        let schedule = match change.tier {
            Some(_) => self.scheduled(&before, &mut after, change.tier_when).await?,
            None => Schedule::Kept,
        };
        match schedule {
            Schedule::Kept if after == before => return Ok(before),
            Schedule::Kept => {}
            Schedule::Becomes(scheduled) => {
                self.schedule(&before, scheduled).await?;
                if after == before {
                    self.tx.touch_tenant(before.id, self.now).await?;
                    return Ok(self.tx.tenant(before.id).await?.unwrap_or(before));
                }
            }
        }
        self.update(Operation::ChangeTenant, &before, after, None).await
    }

    /// What `before` becomes; its version and instants are still as they were.
    async fn changed(&mut self, before: &Tenant, change: &TenantChange) -> Result<Tenant, ControlError> {
        let mut faults = Faults::default();
        let mut after = before.clone();
        replace(&mut after.name, change.name.as_deref(), |text| faults.name("name", text));
        replace(&mut after.slug, change.slug.as_deref(), |text| faults.slug("slug", text));
        replace(&mut after.billing_email, change.billing_email.as_deref(), |text| {
            faults.email("billing_email", text)
        });
        replace(&mut after.contact_phone, change.contact_phone.as_deref(), |text| {
            faults.phone("contact_phone", text)
        });
        replace(&mut after.timezone, change.timezone.as_deref(), |text| faults.timezone("timezone", text));
        replace(&mut after.locale, change.locale.as_deref(), |text| faults.locale("locale", text));
        if let Some(asked) = &change.tier
            && let Some(tier) = self.tier(&mut faults, asked).await?
            && tier.slug != before.tier
        {
            (after.tier, after.tier_version) = (tier.slug, tier.version);
        }
        faults.finish()?;
        if after.slug != before.slug {
            after.slug = self.free(after.slug).await?;
        }
        Ok(after)
    }

    pub(super) async fn set_status(
        &mut self,
        tenant: &TenantRef,
        status: TenantStatus,
        reason: Option<&str>,
    ) -> Result<Tenant, ControlError> {
        let before = self.tenant_for(Operation::SetStatus, tenant).await?;
        self.control.expects(before.version)?;
        if before.status == status {
            return Ok(before);
        }
        let mut faults = Faults::default();
        let reason = faults.reason(reason);
        if status == TenantStatus::Suspended && reason.is_none() {
            faults.add("reason", "a tenant is suspended for a reason: say it");
        }
        if status == TenantStatus::Deleted && self.principal.tenant().is_some() {
            faults.add("status", "only the platform deletes tenants: cancel it");
        }
        let status = before.status.moved_to(status)?;
        faults.finish()?;
        let after = Tenant { status, ..before.clone() };
        self.tx.forget_suspension_for_billing(before.id).await?;
        self.update(Operation::SetStatus, &before, after, reason).await
    }

    async fn update(
        &mut self,
        operation: Operation,
        before: &Tenant,
        mut after: Tenant,
        reason: Option<String>,
    ) -> Result<Tenant, ControlError> {
        after.version = before.version + 1;
        after.updated_at = self.now;
        let retention_days = self.tx.tier_retention_days(&after).await?;
        self.tx.update_tenant(&after, retention_days).await?;
        self.resubscribe(before, &after, self.now).await?;
        let told = Told::changed(&shown(before), &shown(&after)).because(reason);
        self.audit(operation, &Target::tenant(&after), told).await?;
        Ok(after)
    }
}

/// Puts what `read` makes of the text, if there is text and it is good, into the place.
fn replace<T>(place: &mut T, text: Option<&str>, read: impl FnOnce(&str) -> Option<T>) {
    if let Some(value) = text.and_then(read) {
        *place = value;
    }
}
