//! Signed checkpoints of audit chains, and the pruning of logs up to one of them.
//!
//! # Why they are here as well as elsewhere
//! Who has this database in hand can delete the newest ones, which copies elsewhere show. Those that remain can't be
//! changed, whoever has the database, and so show most of what was done to a log without asking anybody else.

use uuid::Uuid;

use super::audit::{chain_id, chain_of};
use super::sql::{Dialect, Row, query, select};
use super::values::{corrupt, digest, get};
use super::{Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::TenantId;
use crate::secret::checkpoint::{Checkpoint, Signature, SignedCheckpoint};
use crate::secret::hex;

const COLUMNS: &str = "tenant_id, seq, hash, at, signer, signature";
/// Checkpoints that are read at once: bounds the memory.
const READ_AT_ONCE: u32 = 1_000;

// === impl Store ===

impl Store {
    /// Whether `holder` keeps the audit log until `until`: it did so before, or nobody does.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn keep_audit(
        &self,
        holder: Uuid,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let held = query(
            "INSERT INTO audit_keeper (place, holder, until) VALUES (1, $1, $2)
             ON CONFLICT (place) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE audit_keeper.holder = $1 OR audit_keeper.until <= $3",
        );
        let held = held.bind(holder).bind(until).bind(now).execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(held > 0)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The newest places of chains that have rows behind their newest checkpoint, in the order of the chains.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn unattested_chains(
        &mut self,
        limit: u32,
    ) -> Result<Vec<(Option<TenantId>, Checkpoint)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, seq, hash FROM audit_chains
             WHERE seq > COALESCE((SELECT MAX(seq) FROM audit_checkpoints
                 WHERE audit_checkpoints.tenant_id = audit_chains.tenant_id), 0)
             ORDER BY tenant_id LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(place).collect()
    }

    /// The chain's checkpoints behind `after` and up to `end`, oldest first: some of them, if there are many.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn checkpoints_of(
        &mut self,
        tenant: Option<TenantId>,
        after: i64,
        end: i64,
    ) -> Result<Vec<SignedCheckpoint>, StoreError> {
        let rest =
            "FROM audit_checkpoints WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4";
        let query = select(COLUMNS, rest).bind(chain_id(tenant)).bind(after).bind(end).bind(READ_AT_ONCE);
        query.fetch_all(self.connection()).await?.iter().map(signed).collect()
    }

    /// Places up to which logs may be pruned, some of them: the newest checkpoint of each chain that is older than
    /// `before`, where the oldest row is older than `oldest`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn prunable_audit(
        &mut self,
        before: Timestamp,
        oldest: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Option<TenantId>, Checkpoint)>, StoreError> {
        let rows = query(
            "SELECT tenant_id, seq, hash FROM audit_checkpoints AS newest
             WHERE at < $1 AND pruned_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM audit_checkpoints AS newer
                   WHERE newer.tenant_id = newest.tenant_id AND newer.seq > newest.seq AND newer.at < $1)
               AND EXISTS (SELECT 1 FROM tenant_audit_logs AS log
                   WHERE log.tenant_id = newest.tenant_id AND log.seq <= newest.seq AND log.at < $2)
             ORDER BY tenant_id LIMIT $3",
        )
        .bind(before)
        .bind(oldest)
        .bind(limit)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(place).collect()
    }
}

fn place(row: &Row) -> Result<(Option<TenantId>, Checkpoint), StoreError> {
    let hash = hex::encoded(&digest(row, "hash")?);
    Ok((chain_of(get(row, "tenant_id")?), Checkpoint { seq: get(row, "seq")?, hash }))
}

fn signed(row: &Row) -> Result<SignedCheckpoint, StoreError> {
    let (tenant_id, place) = place(row)?;
    Ok(SignedCheckpoint {
        tenant_id,
        place,
        at: get(row, "at")?,
        signer: get(row, "signer")?,
        signature: Signature(get(row, "signature")?),
    })
}

// === impl Tx ===

impl Tx {
    /// Keeps a checkpoint; one of that place that is there already stays.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn insert_checkpoint(&mut self, signed: &SignedCheckpoint) -> Result<(), StoreError> {
        let SignedCheckpoint { tenant_id, place, at, signer, signature } = signed;
        let hash = hex::decoded(&place.hash).ok_or_else(|| corrupt("hash", place.hash.clone()))?;
        query(
            "INSERT INTO audit_checkpoints (tenant_id, seq, hash, at, signer, signature)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, seq) DO NOTHING",
        )
        .bind(chain_id(*tenant_id))
        .bind(place.seq)
        .bind(hash.as_slice())
        .bind(*at)
        .bind(signer)
        .bind(signature.0.as_slice())
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Takes the rows of a log up to a checkpoint away, and the checkpoints before it; answers how many rows. The
    /// database refuses it of what is younger than 30 days.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn prune_audit(
        &mut self,
        tenant: Option<TenantId>,
        up_to: i64,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let chain = chain_id(tenant);
        if self.connection().dialect() == Dialect::Postgres {
            let prune = query("SELECT tollgate_prune_audit($1, $2, $3)").bind(chain).bind(up_to).bind(now);
            return Ok(prune.fetch_number(self.connection()).await?.unsigned_abs());
        }
        let mark = query("UPDATE audit_checkpoints SET pruned_at = $3 WHERE tenant_id = $1 AND seq = $2");
        mark.bind(chain).bind(up_to).bind(now).execute(self.connection()).await?;
        let prune = query("DELETE FROM tenant_audit_logs WHERE tenant_id = $1 AND seq <= $2");
        let gone = prune.bind(chain).bind(up_to).execute(self.connection()).await?;
        let forget = query("DELETE FROM audit_checkpoints WHERE tenant_id = $1 AND seq < $2");
        forget.bind(chain).bind(up_to).execute(self.connection()).await?;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests;
