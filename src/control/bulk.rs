//! One thing done to many tenants: made, planned, worked off, cancelled, resumed.
//!
//! To make an operation only writes down to whom it is done: the tenants that its filter finds in that moment. Gateways
//! work it off, one tenant in one transaction, which changes the tenant, its audit log and what the operation knows of it
//! together. So any number of gateways may work at the same operation, and one that is killed has done a tenant wholly or
//! not at all. What one tenant refuses stands at that tenant, and the others go on.
//!
//! Whoever asked was allowed to when they asked, and stands in every audit row; the operation's id is the correlation of
//! all of them. A dry run does the very same and takes it back.

use serde_json::{Value, json};

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{
    Control, ControlError, Principal, QuotaChange, Rights, TenantChange, TenantRef, quotas, tenants,
};
use crate::domain::billing::ScheduledTier;
use crate::domain::{
    Alert, AlertId, AlertKind, BulkAction, BulkFilter, BulkId, BulkItem, BulkItemState, BulkOperation,
    BulkState, Role, Severity, Tenant, TenantId, TenantStatus,
};
use crate::store::{Listed, Page, TenantFilter, TenantSort, Visible};

/// What is to be done, and to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBulkOperation {
    pub filter: BulkFilter,
    pub action: BulkAction,
}

/// What was done to a tenant, or is to be.
struct Done {
    before: Value,
    after: Value,
    is_change: bool,
}

/// Tenants that a filter may name.
const NAMED_MAX: usize = 1_000;
/// Tenants of a dry run in one transaction, which others wait for.
const PLANNED_AT_ONCE: usize = 50;
/// Tenants that are worked off before somebody is told how many.
pub(super) const WORKED_AT_ONCE: usize = 50;
const TEXT_LENGTH_MAX: usize = 4_000;

impl Control {
    /// Writes down what is to be done to whom; gateways begin with it within a second.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults, a filter that lets all through without saying so among them.
    pub async fn create_bulk_operation(
        &self,
        principal: &Principal,
        new: NewBulkOperation,
    ) -> Result<BulkOperation, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.create_bulk_operation(new).await;
        work.end(outcome).await
    }

    /// What an operation would do to a page of its tenants, the newest first. Changes nothing.
    ///
    /// # Errors
    /// As [`Control::create_bulk_operation`].
    pub async fn plan_bulk_operation(
        &self,
        principal: &Principal,
        new: NewBulkOperation,
        page: &Page,
    ) -> Result<Listed<BulkItem>, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.checked_bulk(new).await;
        let (new, filter) = work.take_back(outcome).await?;
        let mut snapshot = self.read().await?;
        let found = snapshot.tenants(Visible::All, &filter, TenantSort::default(), page).await??;
        drop(snapshot);
        let mut planned = Vec::with_capacity(found.items.len());
        for some in found.items.chunks(PLANNED_AT_ONCE) {
            let mut work = self.begin(principal).await?;
            let outcome = work.plan_bulk(&new.action, some).await;
            planned.extend(work.take_back(outcome).await?);
        }
        Ok(Listed { items: planned, next_cursor: found.next_cursor, total: found.total })
    }

    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] for another list's cursor.
    pub async fn bulk_operations(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listed<BulkOperation>, ControlError> {
        self.allow(principal, Operation::ReadBulk, &Target::platform("bulk_operation")).await?;
        Ok(self.read().await?.bulk_operations(page).await??)
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn bulk_operation(
        &self,
        principal: &Principal,
        id: BulkId,
    ) -> Result<BulkOperation, ControlError> {
        self.allow(principal, Operation::ReadBulk, &target(id)).await?;
        self.read().await?.bulk_operation(id).await?.ok_or_else(|| no_operation(id))
    }

    /// What came of each tenant, the newest tenants first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn bulk_items(
        &self,
        principal: &Principal,
        id: BulkId,
        state: Option<BulkItemState>,
        page: &Page,
    ) -> Result<Listed<BulkItem>, ControlError> {
        self.allow(principal, Operation::ReadBulk, &target(id)).await?;
        let mut snapshot = self.read().await?;
        snapshot.bulk_operation(id).await?.ok_or_else(|| no_operation(id))?;
        Ok(snapshot.bulk_items(id, state, page).await??)
    }

    /// Has nothing more done; what was done stays. To cancel what has ended is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn cancel_bulk_operation(
        &self,
        principal: &Principal,
        id: BulkId,
    ) -> Result<BulkOperation, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.cancel_bulk_operation(id).await;
        work.end(outcome).await
    }

    /// Goes on with an operation that was cancelled, and tries again what was refused. To resume what is running, or
    /// has nothing left to do, is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn resume_bulk_operation(
        &self,
        principal: &Principal,
        id: BulkId,
    ) -> Result<BulkOperation, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.resume_bulk_operation(id).await;
        work.end(outcome).await
    }

    /// Works off some tenants of the oldest operation that is running; answers what came of them. Nothing, if there is
    /// nothing to do.
    ///
    /// Dropping the future leaves the tenant that it was at as it was.
    ///
    /// # Errors
    /// [`ControlError::Store`]; what was not done then is still to be done.
    pub async fn work_off_bulk(&self) -> Result<Vec<BulkItemState>, ControlError> {
        let Some(operation) = self.read().await?.running_bulk_operation().await? else {
            return Ok(Vec::new());
        };
        let rights = Rights::platform(Role::PlatformOwner);
        let principal = Principal { actor: operation.actor.clone(), rights, correlation: operation.id.0 };
        let mut states = Vec::new();
        while states.len() < WORKED_AT_ONCE {
            let Some(state) = self.work_off_bulk_item(&principal, &operation).await? else { break };
            states.push(state);
        }
        Ok(states)
    }

    /// `None`: nothing is left of it.
    async fn work_off_bulk_item(
        &self,
        principal: &Principal,
        operation: &BulkOperation,
    ) -> Result<Option<BulkItemState>, ControlError> {
        let mut work = self.begin(principal).await?;
        let Some(tenant) = work.tx.next_bulk_item(operation.id).await? else {
            work.tx.end_bulk_operation(operation.id, BulkState::Done, work.now).await?;
            work.end(Ok(())).await?;
            return Ok(None);
        };
        match work.work_off(operation, tenant).await {
            Ok(state) => work.end(Ok(Some(state))).await,
            Err(error @ ControlError::Store(_)) => work.end(Err(error)).await,
            Err(refused) => {
                // Whatever was begun is taken back before it is written down that nothing was done.
                let refused = work.end::<()>(Err(refused)).await.err().map(|error| error.to_string());
                self.note_bulk_refusal(operation.id, tenant, refused.unwrap_or_default()).await
            }
        }
    }

    async fn note_bulk_refusal(
        &self,
        id: BulkId,
        tenant: TenantId,
        error: String,
    ) -> Result<Option<BulkItemState>, ControlError> {
        let mut tx = self.parts.store.begin().await?;
        if let Some(tenant) = tx.tenant(tenant).await? {
            let item = item_of(&tenant, Err(error));
            tx.end_bulk_item(id, &item, self.now()).await?;
        }
        tx.commit().await?;
        Ok(Some(BulkItemState::Failed))
    }
}

fn target(id: BulkId) -> Target {
    Target { id: id.to_string(), ..Target::platform("bulk_operation") }
}

fn no_operation(id: BulkId) -> ControlError {
    ControlError::NotFound { what: "operation", which: id.to_string() }
}

/// What an operation looks like in the platform's audit log.
fn shown(operation: &BulkOperation) -> Value {
    json!({ "filter": operation.filter, "action": operation.action, "total": operation.total })
}

/// Under what an item tells of a tier that is to come.
const SCHEDULED: &str = "scheduled_tier";

fn scheduled(waiting: Option<&ScheduledTier>) -> Value {
    waiting.map_or(Value::Null, |waiting| json!({ "tier": waiting.tier, "at": waiting.effective_at }))
}

fn item_of(tenant: &Tenant, outcome: Result<Done, String>) -> BulkItem {
    let (state, before, after, error) = match outcome {
        Ok(Done { is_change: false, .. }) => (BulkItemState::Unchanged, None, None, None),
        Ok(Done { before, after, .. }) => {
            let Told { before, after, .. } = Told::changed(&before, &after);
            (BulkItemState::Changed, before, after, None)
        }
        Err(error) => (BulkItemState::Failed, None, None, Some(error)),
    };
    BulkItem { tenant_id: tenant.id, slug: tenant.slug.clone(), state, before, after, error, at: None }
}

// === impl Work ===

impl Work<'_> {
    async fn create_bulk_operation(&mut self, new: NewBulkOperation) -> Result<BulkOperation, ControlError> {
        let (NewBulkOperation { filter, action }, tenants) = self.checked_bulk(new).await?;
        let mut operation = BulkOperation {
            id: BulkId(self.control.new_id()),
            state: BulkState::Running,
            filter,
            action,
            actor: self.principal.actor.clone(),
            total: 0,
            changed: 0,
            unchanged: 0,
            failed: 0,
            created_at: self.now,
            finished_at: None,
        };
        operation.total = self.tx.insert_bulk_operation(&operation, &tenants).await?;
        self.audit(Operation::CreateBulk, &target(operation.id), Told::made(shown(&operation))).await?;
        Ok(operation)
    }

    /// The operation in its proper form, and the filter as the store knows it.
    async fn checked_bulk(
        &mut self,
        new: NewBulkOperation,
    ) -> Result<(NewBulkOperation, TenantFilter), ControlError> {
        self.authorize(Operation::CreateBulk, &Target::platform("bulk_operation"))?;
        let mut faults = Faults::default();
        let tenants = self.checked_filter(&mut faults, &new.filter).await?;
        let action = self.checked_action(&mut faults, new.action).await?;
        faults.finish()?;
        Ok((NewBulkOperation { action, ..new }, tenants))
    }

    async fn checked_filter(
        &mut self,
        faults: &mut Faults,
        filter: &BulkFilter,
    ) -> Result<TenantFilter, ControlError> {
        if filter.is_empty() && !filter.all {
            faults.add("filter", "it lets all tenants through: say so with `all`, or name some");
        }
        if filter.status == Some(TenantStatus::Deleted) {
            faults.add("filter.status", "nothing is done to deleted tenants");
        }
        if filter.tenants.len() > NAMED_MAX {
            faults.add("filter.tenants", format!("{NAMED_MAX} at most"));
            return Ok(TenantFilter::default());
        }
        let tier = match &filter.tier {
            Some(alias) => {
                let tier = self.tx.tier(alias).await?.map(|tier| tier.slug);
                faults.check("filter.tier", tier, "there is no such tier")
            }
            None => None,
        };
        let parent = match &filter.parent {
            Some(named) => self.named(faults, "filter.parent", named).await?,
            None => None,
        };
        let mut only = Vec::with_capacity(filter.tenants.len());
        for (at, named) in filter.tenants.iter().enumerate() {
            only.extend(self.named(faults, &format!("filter.tenants[{at}]"), named).await?);
        }
        Ok(TenantFilter { status: filter.status, tier, q: filter.q.clone(), parent, only, health: None })
    }

    async fn named(
        &mut self,
        faults: &mut Faults,
        field: &str,
        named: &str,
    ) -> Result<Option<TenantId>, ControlError> {
        let found = match named.parse::<TenantRef>() {
            Ok(named) => match self.principal.find(&mut self.tx, &named).await {
                Ok(tenant) => Some(tenant.id),
                Err(ControlError::NotFound { .. }) => None,
                Err(error) => return Err(error),
            },
            Err(()) => None,
        };
        Ok(faults.check(field, found, "there is no such tenant"))
    }

    async fn checked_action(
        &mut self,
        faults: &mut Faults,
        action: BulkAction,
    ) -> Result<BulkAction, ControlError> {
        Ok(match action {
            BulkAction::Status { status, reason } => {
                let reason = faults.reason(reason.as_deref());
                match status {
                    TenantStatus::Deleted => faults.add("action.status", "tenants are deleted one at a time"),
                    TenantStatus::Suspended if reason.is_none() => {
                        faults.add("action.reason", "tenants are suspended for a reason: say it");
                    }
                    _ => {}
                }
                BulkAction::Status { status, reason }
            }
            BulkAction::Tier { tier } => {
                let known = self.tx.tier(&tier).await?.map(|tier| tier.slug);
                let known = faults.check("action.tier", known, "there is no such tier");
                BulkAction::Tier { tier: known.unwrap_or(tier) }
            }
            BulkAction::Quota { resource_type, .. } => {
                if self.tx.resource_type(resource_type).await?.is_none() {
                    faults.unknown_resource(&self.tx.resource_types().await?);
                }
                action
            }
            BulkAction::Message { subject, text } => {
                let subject = faults.name("action.subject", &subject).unwrap_or_default();
                let length = text.trim().chars().count();
                if length == 0 || length > TEXT_LENGTH_MAX {
                    faults.add("action.text", format!("1 to {TEXT_LENGTH_MAX} characters are expected"));
                }
                BulkAction::Message { subject, text: text.trim().to_owned() }
            }
        })
    }

    /// Does it to these tenants, for it to be taken back.
    async fn plan_bulk(
        &mut self,
        action: &BulkAction,
        tenants: &[Tenant],
    ) -> Result<Vec<BulkItem>, ControlError> {
        let mut planned = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            let outcome = match self.do_to(action, tenant.id).await {
                Ok(done) => Ok(done),
                Err(error @ ControlError::Store(_)) => return Err(error),
                Err(refused) => Err(refused.to_string()),
            };
            planned.push(item_of(tenant, outcome));
        }
        Ok(planned)
    }

    async fn work_off(
        &mut self,
        operation: &BulkOperation,
        tenant: TenantId,
    ) -> Result<BulkItemState, ControlError> {
        let done = self.do_to(&operation.action, tenant).await?;
        let tenant = self.tx.tenant(tenant).await?.ok_or_else(|| no_operation(operation.id))?;
        let item = item_of(&tenant, Ok(done));
        self.tx.end_bulk_item(operation.id, &item, self.now).await?;
        Ok(item.state)
    }

    async fn do_to(&mut self, action: &BulkAction, id: TenantId) -> Result<Done, ControlError> {
        let tenant = TenantRef::Id(id);
        match action {
            BulkAction::Status { status, reason } => {
                let before = self.living_tenant_for(Operation::SetStatus, &tenant).await?;
                let after = self.set_status(&tenant, *status, reason.as_deref()).await?;
                Ok(Done::of_tenant(&before, &after))
            }
            BulkAction::Tier { tier } => {
                let before = self.living_tenant_for(Operation::ChangeTenant, &tenant).await?;
                let waiting = self.tx.scheduled_tier(id).await?;
                let change = TenantChange { tier: Some(tier.clone()), ..TenantChange::default() };
                let after = self.change_tenant(&tenant, &change).await?;
                let mut done = Done::of_tenant(&before, &after);
                // A cheaper tier comes when the period ends.
                done.before[SCHEDULED] = scheduled(waiting.as_ref());
                done.after[SCHEDULED] = scheduled(self.tx.scheduled_tier(id).await?.as_ref());
                Ok(done)
            }
            BulkAction::Quota { resource_type, limit, period, enforcement, on_loss, reason, expires_at } => {
                let change = QuotaChange {
                    resource: *resource_type,
                    limit: *limit,
                    period: *period,
                    enforcement: *enforcement,
                    on_loss: *on_loss,
                    key: None,
                    reason: reason.clone(),
                    expires_at: *expires_at,
                };
                let (_, set) = self.set_quota(&tenant, &change).await?;
                let before = set.before.as_ref().map_or(Value::Null, quotas::shown);
                Ok(Done { before, after: quotas::shown(&set.after), is_change: set.is_change() })
            }
            BulkAction::Message { subject, text } => self.send_message(&tenant, subject, text).await,
        }
    }

    /// Among the tenant's alerts, and on its way to its channels.
    async fn send_message(
        &mut self,
        tenant: &TenantRef,
        subject: &str,
        text: &str,
    ) -> Result<Done, ControlError> {
        let tenant = self.living_tenant_for(Operation::SendMessage, tenant).await?;
        let alert = Alert {
            id: AlertId(self.control.new_id()),
            tenant: tenant.id,
            kind: AlertKind::Message,
            severity: Severity::Info,
            resource: None,
            summary: subject.to_owned(),
            details: json!({ "text": text }),
            at: self.now,
            acknowledged_at: None,
            acknowledged_by: None,
        };
        let channels = self.tx.channels(tenant.id).await?;
        let to = channels.iter().filter(|channel| channel.takes(alert.kind)).map(|channel| channel.id);
        let occasion = format!("message:{}", alert.id);
        let told = self.control.tell(&mut self.tx, &alert, &occasion, to).await?;
        let after = json!({ "alert_id": alert.id, "deliveries": told.map_or(0, |told| told.len()) });
        let subject = json!({ "alert_id": alert.id, "subject": subject });
        self.audit(Operation::SendMessage, &Target::tenant(&tenant), Told::made(subject)).await?;
        Ok(Done { before: Value::Null, after, is_change: true })
    }

    async fn cancel_bulk_operation(&mut self, id: BulkId) -> Result<BulkOperation, ControlError> {
        self.authorize(Operation::CancelBulk, &target(id))?;
        let operation = self.tx.bulk_operation(id).await?.ok_or_else(|| no_operation(id))?;
        if self.tx.end_bulk_operation(id, BulkState::Cancelled, self.now).await? {
            self.audit(Operation::CancelBulk, &target(id), Told::default()).await?;
        }
        Ok(self.tx.bulk_operation(id).await?.unwrap_or(operation))
    }

    async fn resume_bulk_operation(&mut self, id: BulkId) -> Result<BulkOperation, ControlError> {
        self.authorize(Operation::ResumeBulk, &target(id))?;
        let operation = self.tx.bulk_operation(id).await?.ok_or_else(|| no_operation(id))?;
        let is_over = operation.changed + operation.unchanged == operation.total;
        if operation.state == BulkState::Running || is_over {
            return Ok(operation);
        }
        self.tx.resume_bulk_operation(id).await?;
        self.audit(Operation::ResumeBulk, &target(id), Told::default()).await?;
        Ok(self.tx.bulk_operation(id).await?.unwrap_or(operation))
    }
}

// === impl Done ===

impl Done {
    fn of_tenant(before: &Tenant, after: &Tenant) -> Done {
        let is_change = before.version != after.version;
        Done { before: tenants::shown(before), after: tenants::shown(after), is_change }
    }
}
