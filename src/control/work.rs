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
    reach: Reach,
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
        Ok(Work { control: self, principal, tx, reach, now: self.now(), denied: None })
    }
}

// === impl Work ===

impl Work<'_> {
    /// Makes a success permanent and tells the directory; takes back all else, but notes an attempt that was
    /// refused.
    pub(super) async fn end<T>(mut self, outcome: Result<T, ControlError>) -> Result<T, ControlError> {
        let outcome = match outcome {
            // Hardly anybody has a cap: what it takes is not in the future of every operation.
            Ok(value) => Box::pin(self.recap_changed()).await.map(|()| value),
            Err(error) => Err(error),
        };
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

    /// Whatever changes what a tenant is sold may move what its spend cap leaves. What tenants change of themselves does
    /// not, and they may not write it.
    async fn recap_changed(&mut self) -> Result<(), ControlError> {
        if self.reach == Reach::Platform {
            for tenant in self.tx.tenants_changed() {
                self.recap(tenant).await?;
            }
        }
        Ok(())
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
        AuditRow { outcome, ..target.row(&self.principal, operation, told, self.now) }
    }
}

impl Control {
    /// Whether the caller may do that, where nothing is written otherwise: an attempt that is refused is noted.
    pub(super) async fn allow(
        &self,
        principal: &Principal,
        operation: Operation,
        target: &Target,
    ) -> Result<(), ControlError> {
        let allowed = principal.authorize(operation);
        if allowed.is_err() {
            self.note_refused(principal, operation, target).await?;
        }
        allowed
    }

    /// Notes that somebody asked to read what is not theirs, or is not there, in their own tenant's log.
    pub(super) async fn note_foreign_read(
        &self,
        principal: &Principal,
        operation: Operation,
        tenant: &TenantRef,
    ) -> Result<(), ControlError> {
        let Some(own) = principal.tenant() else { return Ok(()) };
        let target = Target { tenant: Some(own), kind: "tenant", id: tenant.to_string() };
        self.note_refused(principal, operation, &target).await
    }

    async fn note_refused(
        &self,
        principal: &Principal,
        operation: Operation,
        target: &Target,
    ) -> Result<(), ControlError> {
        let row = target.row(principal, operation, Told::default(), self.now());
        self.note_denied(&AuditRow { outcome: AuditOutcome::Denied, ..row }).await
    }

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

    /// What concerns no single tenant.
    pub(super) fn platform(kind: &'static str) -> Target {
        Target { tenant: None, kind, id: String::new() }
    }

    fn row(&self, principal: &Principal, operation: Operation, told: Told, at: Timestamp) -> AuditRow {
        AuditRow {
            at,
            tenant: self.tenant,
            actor: principal.actor.clone(),
            action: operation.action().to_owned(),
            target_kind: self.kind.to_owned(),
            target_id: self.id.clone(),
            outcome: AuditOutcome::Done,
            before: told.before,
            after: told.after,
            reason: told.reason,
            correlation: principal.correlation,
        }
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
