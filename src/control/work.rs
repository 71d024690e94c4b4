//! One writing operation: its transaction, its audit rows, its end.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::principal::Operation;
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{AuditOutcome, AuditRow, Tenant, TenantId, TenantStatus};
use crate::store::{Reach, Tx};

/// A transaction on behalf of somebody. [`Work::end`] commits it if the operation succeeded.
pub(super) struct Work<'a> {
    pub(super) control: &'a Control,
    pub(super) principal: Cow<'a, Principal>,
    pub(super) tx: Tx,
    /// When the operation happens: the same instant for all it writes.
    pub(super) now: Timestamp,
    /// The audit row of the attempt that was refused.
    denied: Option<AuditRow>,
}

/// What an audit row is about.
pub(super) struct Target {
    pub(super) tenant: Option<TenantId>,
    pub(super) kind: &'static str,
    pub(super) id: String,
}

/// What an audit row tells of its target.
#[derive(Default)]
pub(super) struct Told {
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
    pub(super) reason: Option<String>,
}

// === impl Control ===

impl Control {
    pub(super) async fn begin<'a>(&'a self, principal: &'a Principal) -> Result<Work<'a>, ControlError> {
        self.begin_reaching(Cow::Borrowed(principal), principal.reach()).await
    }

    /// The same, for what a reseller may do to a tenant below its own.
    pub(super) async fn begin_for<'a>(
        &'a self,
        principal: &'a Principal,
        tenant: &TenantRef,
    ) -> Result<Work<'a>, ControlError> {
        match self.towards(principal, tenant).await? {
            Cow::Borrowed(principal) => self.begin(principal).await,
            // Names that are taken and limits of its siblings bear on a tenant below. They are out of its own reach.
            below @ Cow::Owned(_) => self.begin_reaching(below, Reach::Platform).await,
        }
    }

    pub(super) async fn begin_reaching<'a>(
        &'a self,
        principal: Cow<'a, Principal>,
        reach: Reach,
    ) -> Result<Work<'a>, ControlError> {
        let tx = self.parts.store.begin_as(reach).await?;
        Ok(Work { control: self, principal, tx, now: self.now(), denied: None })
    }
}

// === impl Work ===

impl Work<'_> {
    /// Makes a success permanent and tells the directory; takes back all else, but notes an attempt that was
    /// refused.
    pub(super) async fn end<T>(self, outcome: Result<T, ControlError>) -> Result<T, ControlError> {
        let Work { control, tx, denied, .. } = self;
        match &outcome {
            Ok(_) => {
                tx.commit().await?;
                control.parts.changed.notify_one();
            }
            Err(_) => {
                tx.rollback().await?;
                if let Some(row) = denied {
                    control.note_denied(&row).await?;
                }
            }
        }
        outcome
    }

    /// Takes everything back, a success too; but notes an attempt that was refused.
    pub(super) async fn take_back<T>(self, outcome: Result<T, ControlError>) -> Result<T, ControlError> {
        match outcome {
            Ok(value) => {
                self.tx.rollback().await?;
                Ok(value)
            }
            Err(error) => self.end(Err(error)).await,
        }
    }

    /// The tenant of that name, if the caller may do that to it.
    pub(super) async fn tenant_for(
        &mut self,
        operation: Operation,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        let found = self.principal.find(&mut self.tx, tenant).await;
        if let Err(ControlError::NotFound { .. }) = &found {
            self.note_foreign(operation, "tenant", tenant.to_string());
        }
        let found = found?;
        self.authorize(operation, &Target::tenant(&found))?;
        Ok(found)
    }

    /// The same, of a tenant that can still be changed.
    pub(super) async fn living_tenant_for(
        &mut self,
        operation: Operation,
        tenant: &TenantRef,
    ) -> Result<Tenant, ControlError> {
        let found = self.tenant_for(operation, tenant).await?;
        if found.status == TenantStatus::Deleted {
            return Err(ControlError::Conflict(format!("tenant `{}` is deleted", found.slug)));
        }
        Ok(found)
    }

    pub(super) fn authorize(&mut self, operation: Operation, target: &Target) -> Result<(), ControlError> {
        let allowed = self.principal.authorize(operation);
        if allowed.is_err() {
            self.denied = Some(self.row(operation, target, AuditOutcome::Denied, Told::default()));
        }
        allowed
    }

    /// Somebody asked for what is not theirs, or is not there: noted in their own tenant's log.
    pub(super) fn note_foreign(&mut self, operation: Operation, kind: &'static str, id: String) {
        if let Some(own) = self.principal.tenant() {
            let target = Target { tenant: Some(own), kind, id };
            self.denied = Some(self.row(operation, &target, AuditOutcome::Denied, Told::default()));
        }
    }

    /// Writes down what was done.
    pub(super) async fn audit(
        &mut self,
        operation: Operation,
        target: &Target,
        told: Told,
    ) -> Result<(), ControlError> {
        let row = self.row(operation, target, AuditOutcome::Done, told);
        Ok(self.tx.audit(&row).await?)
    }

    fn row(&self, operation: Operation, target: &Target, outcome: AuditOutcome, told: Told) -> AuditRow {
        AuditRow {
            at: self.now,
            tenant: target.tenant,
            actor: self.principal.actor.clone(),
            action: operation.action().to_owned(),
            target_kind: target.kind.to_owned(),
            target_id: target.id.clone(),
            outcome,
            before: told.before,
            after: told.after,
            reason: told.reason,
            correlation: self.principal.correlation,
        }
    }
}

impl Control {
    /// The platform notes it: what was denied may be out of the caller's reach.
    async fn note_denied(&self, row: &AuditRow) -> Result<(), ControlError> {
        let mut tx = self.parts.store.begin().await?;
        tx.audit(row).await?;
        Ok(tx.commit().await?)
    }
}

// === impl Target ===

impl Target {
    pub(super) fn tenant(tenant: &Tenant) -> Target {
        Target { tenant: Some(tenant.id), kind: "tenant", id: tenant.id.to_string() }
    }

    pub(super) fn of(tenant: &Tenant, kind: &'static str, id: impl Into<String>) -> Target {
        Target { tenant: Some(tenant.id), kind, id: id.into() }
    }
}

// === impl Told ===

impl Told {
    pub(super) fn made(after: Value) -> Told {
        Told { after: Some(after), ..Told::default() }
    }

    /// Only the members that differ.
    pub(super) fn changed(before: &Value, after: &Value) -> Told {
        Told {
            before: Some(members_unlike(before, after)),
            after: Some(members_unlike(after, before)),
            ..Told::default()
        }
    }

    pub(super) fn because(self, reason: Option<String>) -> Told {
        Told { reason, ..self }
    }
}

fn members_unlike(one: &Value, other: &Value) -> Value {
    let members = one.as_object().into_iter().flatten();
    let unlike = members.filter(|(name, value)| other.get(name) != Some(value));
    unlike.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into()
}
