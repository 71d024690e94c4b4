//! The audit log attested, and pruned: signed checkpoints of its chains, here and off the machine.
//!
//! One gateway of a fleet does it at a time. It signs the newest place of each chain that has moved, writes the lines to
//! its checkpoint file, and only then to the database: a line is true as soon as it is signed, and a file that lacks one
//! that the database has would be the worse fault.

mod file;

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::{Control, ControlError};
use crate::clock::Timestamp;
use crate::domain::{Actor, AuditOutcome, AuditRow, TenantId};
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::secret::ed25519::{PublicKey, SigningKey};
use crate::store::PRUNED;

pub use file::CheckpointFile;

/// What attests the audit log.
#[derive(Debug)]
pub struct Attesting {
    pub key: SigningKey,
    /// Whose signatures are believed beside those of `key`.
    pub trusted: Vec<PublicKey>,
    pub file: CheckpointFile,
    /// Who keeps the log tells the others so for this long.
    pub kept_for: Duration,
    /// How long rows stay in the log, at least.
    pub retention: Duration,
    /// Tells gateways apart.
    pub holder: Uuid,
}

/// What was done for the audit log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// Checkpoints that were signed.
    pub checkpoints: u64,
    /// Rows that retention took.
    pub pruned: u64,
}

/// Chains that are attested, or pruned, in one transaction.
const CHAINS_AT_ONCE: u32 = 500;
/// A log is pruned when its oldest row is older than the retention by this: each time leaves a row that says so, and
/// one a month is little beside what it says.
const PRUNED_EVERY: Duration = Duration::from_secs(30 * 86_400);

impl Control {
    /// Signs the newest place of each chain that has moved since it was last signed, and prunes logs that are older
    /// than their retention; nothing, while another gateway does so. Without [`Attesting`] it does nothing at all.
    ///
    /// Dropping the future leaves nothing half done: what is missing is done by the next one.
    ///
    /// # Errors
    /// [`ControlError::Store`]; [`ControlError::Checkpoints`] when the file can't be written, and then the checkpoints
    /// are not in the database either.
    pub async fn keep_audit(&self) -> Result<Taken, ControlError> {
        let Some(attesting) = self.parts.attesting.as_deref() else { return Ok(Taken::default()) };
        let (store, now) = (&self.parts.store, self.now());
        if !store.keep_audit(attesting.holder, now, now.plus(attesting.kept_for)).await? {
            return Ok(Taken::default());
        }
        let checkpoints = self.take_checkpoints(attesting).await?;
        Ok(Taken { checkpoints, pruned: self.prune_audit(attesting).await? })
    }

    /// The last checkpoints of a gateway that ends; another one may go on at once.
    ///
    /// # Errors
    /// As [`Control::keep_audit`].
    pub async fn end_audit(&self) -> Result<Taken, ControlError> {
        let taken = self.keep_audit().await?;
        if let Some(attesting) = self.parts.attesting.as_deref() {
            // Whose turn it is not changes nothing by this.
            self.parts.store.keep_audit(attesting.holder, self.now(), self.now()).await?;
        }
        Ok(taken)
    }

    async fn take_checkpoints(&self, attesting: &Attesting) -> Result<u64, ControlError> {
        let mut taken = 0;
        loop {
            let chains = self.read().await?.unattested_chains(CHAINS_AT_ONCE).await?;
            if chains.is_empty() {
                return Ok(taken);
            }
            let now = self.now();
            let sign = |(tenant, place)| SignedCheckpoint::sign(&attesting.key, tenant, place, now);
            let signed: Vec<_> = chains.into_iter().map(sign).collect();
            attesting.file.append(&signed, now).await?;
            let mut tx = self.parts.store.begin().await?;
            for signed in &signed {
                tx.insert_checkpoint(signed).await?;
            }
            tx.commit().await?;
            taken += signed.len() as u64;
        }
    }

    async fn prune_audit(&self, attesting: &Attesting) -> Result<u64, ControlError> {
        let now = self.now();
        let before = now.minus(attesting.retention);
        let mut pruned = 0;
        loop {
            let oldest = before.minus(PRUNED_EVERY);
            let places = self.read().await?.prunable_audit(before, oldest, CHAINS_AT_ONCE).await?;
            if places.is_empty() {
                return Ok(pruned);
            }
            for (tenant, place) in places {
                pruned += self.prune_chain(tenant, &place, now).await?;
            }
        }
    }

    /// The row that says so is in the chain before the rows are gone, and of one transaction with it.
    async fn prune_chain(
        &self,
        tenant: Option<TenantId>,
        place: &Checkpoint,
        now: Timestamp,
    ) -> Result<u64, ControlError> {
        let mut tx = self.parts.store.begin().await?;
        tx.audit(&AuditRow {
            at: now,
            tenant,
            actor: Actor::system("audit retention"),
            action: PRUNED.to_owned(),
            target_kind: "audit_log".to_owned(),
            target_id: tenant.map_or_else(|| "platform".to_owned(), |tenant| tenant.to_string()),
            outcome: AuditOutcome::Done,
            before: None,
            after: Some(json!({ "up_to": place.seq, "hash": place.hash })),
            reason: None,
            correlation: self.new_id(),
        })
        .await?;
        let pruned = tx.prune_audit(tenant, place.seq, now).await?;
        tx.commit().await?;
        Ok(pruned)
    }

    /// Whose signatures of checkpoints are believed.
    pub(super) fn believed_keys(&self) -> Vec<PublicKey> {
        self.parts.attesting.as_deref().map(Attesting::believed).unwrap_or_default()
    }

    /// What the checkpoint file says of a chain, as far as it is signed by who is believed.
    pub(super) async fn written_places(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<Vec<Checkpoint>, ControlError> {
        match self.parts.attesting.as_deref() {
            Some(attesting) => Ok(attesting.file.places_of(tenant, attesting.believed()).await?),
            None => Ok(Vec::new()),
        }
    }
}

// === impl Attesting ===

impl Attesting {
    pub fn believed(&self) -> Vec<PublicKey> {
        std::iter::once(self.key.public()).chain(self.trusted.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests;
