//! The audit log, read and verified.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::principal::Operation;
use super::work::Target;
use super::{Control, ControlError, FieldFault, Principal, TenantRef};
use crate::domain::TenantId;
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint, Worth};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Evidence, Listed, Page};

/// What became of one chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct VerifiedChain {
    /// `None` is the platform's own.
    pub tenant_id: Option<TenantId>,
    #[serde(flatten)]
    pub verdict: AuditVerdict,
}

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
        self.allow(principal, Operation::ReadPlatformAudit, &Target::platform("audit_log")).await?;
        Ok(self.read().await?.audit_entries(None, filter, page).await??)
    }

    /// Recomputes the chain of the tenant's log, or of the platform's own, holds it against all checkpoints that are at
    /// hand (in the database, in this gateway's file, and the one that is given) and names the first broken row. Answers
    /// the newest place, too: the next checkpoint.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Forbidden`]; [`ControlError::Checkpoints`] when the file is there and
    /// can't be read.
    pub async fn verify_audit(
        &self,
        principal: &Principal,
        tenant: Option<&TenantRef>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(AuditVerdict, Checkpoint), ControlError> {
        let chain = match tenant {
            None => {
                self.allow(principal, Operation::ReadPlatformAudit, &Target::platform("audit_log")).await?;
                None
            }
            Some(tenant) => Some(self.read_tenant(principal, Operation::ReadAudit, tenant).await?.1.id),
        };
        self.verified(principal, chain, checkpoint.cloned()).await
    }

    /// Verifies each chain that one of the checkpoints is of, a chain that is gone included, in the order of their ids.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]; [`ControlError::Invalid`] for checkpoints that nobody signed whom this installation
    /// believes: they would prove nothing.
    pub async fn verify_chains(
        &self,
        principal: &Principal,
        checkpoints: Vec<SignedCheckpoint>,
    ) -> Result<Vec<VerifiedChain>, ControlError> {
        self.allow(principal, Operation::ReadPlatformAudit, &Target::platform("audit_log")).await?;
        let mut verified = Vec::new();
        for (tenant_id, newest) in self.newest_of_each(checkpoints)? {
            let (verdict, _) = self.verified(principal, tenant_id, Some(newest)).await?;
            verified.push(VerifiedChain { tenant_id, verdict });
        }
        Ok(verified)
    }

    fn newest_of_each(
        &self,
        checkpoints: Vec<SignedCheckpoint>,
    ) -> Result<BTreeMap<Option<TenantId>, Checkpoint>, ControlError> {
        let keys = self.believed_keys();
        let mut newest = BTreeMap::<Option<TenantId>, Checkpoint>::new();
        let mut faults = Vec::new();
        for (at, signed) in checkpoints.into_iter().enumerate() {
            let fault = match signed.worth(&keys) {
                Worth::Good => None,
                Worth::Unknown => Some(format!("its signer {} is not known here", signed.signer)),
                Worth::Forged => Some(format!("it was not signed by {}", signed.signer)),
            };
            faults.extend(fault.map(|fault| FieldFault::new(format!("checkpoints[{at}]"), fault)));
            let place = newest.entry(signed.tenant_id).or_insert_with(|| signed.place.clone());
            if signed.place.seq > place.seq {
                *place = signed.place;
            }
        }
        if faults.is_empty() { Ok(newest) } else { Err(ControlError::Invalid(faults)) }
    }

    async fn verified(
        &self,
        principal: &Principal,
        chain: Option<TenantId>,
        given: Option<Checkpoint>,
    ) -> Result<(AuditVerdict, Checkpoint), ControlError> {
        // First: what the file gets while the log is read is of rows that the snapshot does not have.
        let mut places = self.written_places(chain).await?;
        places.extend(given);
        let keys = self.believed_keys();
        let mut snapshot = self.read_as(principal).await?;
        let verdict = snapshot.verify_audit(chain, Evidence { keys: &keys, places: &places }).await?;
        Ok((verdict, snapshot.audit_checkpoint(chain).await?))
    }
}
