//! The audit log: append-only, one hash chain per tenant.
//!
//! Each row holds the hash of the row before it and its own, SHA-256 over the former and the row's canonical
//! JSON (RFC 8785), so that a changed, removed or inserted row breaks the chain from there on. The newest link
//! is kept beside the log as well, so that rows missing at the end are noticed. Against someone who rewrites both
//! stand signed checkpoints, see [`checkpoints`](super::checkpoints).

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sql::{Json, Query, Row, query, select};
use super::values::{digest, get, json_or_null, parsed};
use super::{BadPage, Cursor, Listed, Page, Snapshot, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{Actor, ActorKind, AuditOutcome, AuditRow, TenantId};
use crate::secret::checkpoint::{Checkpoint, Worth};
use crate::secret::ed25519::PublicKey;
use crate::secret::hex;

/// A row of the audit log with its place in the chain.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AuditEntry {
    /// 1, 2, 3, … within its tenant: a gap is a deleted row.
    pub seq: i64,
    #[serde(flatten)]
    pub row: AuditRow,
    /// Hexadecimal SHA-256 of the row before.
    pub prev_hash: String,
    /// Hexadecimal SHA-256 over `prev_hash` and this row's canonical JSON.
    pub hash: String,
}

/// Which rows. `None` is all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditFilter {
    pub actor_kind: Option<ActorKind>,
    pub actor_id: Option<Uuid>,
    pub action: Option<String>,
    pub target_kind: Option<String>,
    pub target_id: Option<String>,
    pub outcome: Option<AuditOutcome>,
    /// The rows of one request.
    pub correlation: Option<Uuid>,
    /// Inclusive.
    pub from: Option<Timestamp>,
    /// Exclusive.
    pub to: Option<Timestamp>,
}

/// What a chain is held against.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Whose signatures count, of the checkpoints beside the log.
    pub keys: &'a [PublicKey],
    /// Places that are known from elsewhere, in any order.
    pub places: &'a [Checkpoint],
}

/// What became of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum AuditVerdict {
    Whole {
        /// How many there are.
        rows: i64,
        /// How many there were before them, which retention has taken.
        pruned: i64,
        /// How many places were known by evidence, and are as it says.
        checkpoints: u64,
    },
    /// The first row that is not what was written there.
    Broken { seq: i64, fault: &'static str },
}

/// The newest row of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link {
    seq: i64,
    hash: [u8; 32],
}

/// A chain on the way from its begin to its end.
struct Walk {
    /// What it began behind.
    base: Link,
    last: Link,
    /// Places that are known and not reached.
    places: Vec<Checkpoint>,
    compared: u64,
    /// Whether a row tells why the rows before the base are not there.
    is_accounted_for: bool,
}

/// The action of the row that says up to where the log was pruned; it says so in `after.up_to`.
pub const PRUNED: &str = "audit.prune";
/// Says what is hashed and in which form: another form gets another tag.
const TAG: &[u8] = b"tollgate audit 1\n";
/// Rows that are verified at once: bounds the memory, not the log.
const VERIFIED_AT_ONCE: u32 = 1_000;

const COLUMNS: &str = "tenant_id, seq, at, actor_kind, actor_id, actor_name, actor_ip, actor_user_agent, action, \
     target_kind, target_id, outcome, before_json, after_json, reason, correlation, prev_hash, hash";

// === impl Snapshot ===

impl Snapshot {
    /// The tenant's log, newest first; `None` is the platform's own.
    ///
    /// # Errors
    /// [`StoreError`]; `Ok(Err(BadPage::Cursor))` for another list's cursor.
    pub async fn audit_entries(
        &mut self,
        tenant: Option<TenantId>,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Result<Listed<AuditEntry>, BadPage>, StoreError> {
        let Ok(before) = page.cursor().map(|cursor| cursor.after.parse::<i64>()).transpose() else {
            return Ok(Err(BadPage::Cursor));
        };
        let mut query = select(COLUMNS, "FROM tenant_audit_logs WHERE tenant_id = $1 AND seq < $2")
            .bind(chain_id(tenant))
            .bind(before.unwrap_or(i64::MAX));
        push_filter(&mut query, filter);
        let cursor = |last: &AuditEntry| Cursor { after: last.seq.to_string(), id: String::new() };
        self.listed(query, "seq DESC", page, |row| Ok(entry(row)?.0), cursor).await.map(Ok)
    }

    /// Recomputes the tenant's whole chain and holds it against the evidence; `None` is the platform's own.
    ///
    /// # Errors
    /// [`StoreError`]; a row that can't even be read is one, and names its column.
    pub async fn verify_audit(
        &mut self,
        tenant: Option<TenantId>,
        evidence: Evidence<'_>,
    ) -> Result<AuditVerdict, StoreError> {
        let base = self.audit_base(tenant, evidence.keys).await?;
        let mut walk = Walk::from(base, evidence.places);
        if let Err(broken) = walk.compare() {
            return Ok(broken);
        }
        loop {
            let rows = self.audit_rows_after(tenant, walk.last.seq).await?;
            let Some(end) = rows.last().map(|row| get::<i64>(row, "seq")).transpose()? else { break };
            if let Err(broken) = self.collect_evidence(tenant, evidence.keys, &mut walk, end).await? {
                return Ok(broken);
            }
            for row in &rows {
                if let Err(broken) = walk.step(row)? {
                    return Ok(broken);
                }
            }
        }
        if let Err(broken) = self.collect_evidence(tenant, evidence.keys, &mut walk, i64::MAX).await? {
            return Ok(broken);
        }
        Ok(walk.ended(self.audit_head(tenant).await?))
    }

    /// Where the log begins: behind a checkpoint that somebody whom we believe has signed, or with the first row.
    async fn audit_base(&mut self, tenant: Option<TenantId>, keys: &[PublicKey]) -> Result<Link, StoreError> {
        let first = query("SELECT MIN(seq) AS seq FROM tenant_audit_logs WHERE tenant_id = $1")
            .bind(chain_id(tenant))
            .fetch_one(self.connection())
            .await?;
        let before = match get::<Option<i64>>(&first, "seq")? {
            Some(first) => first - 1,
            None => self.audit_head(tenant).await?.seq,
        };
        let checkpoints = self.checkpoints_of(tenant, before - 1, before).await?;
        let believed = checkpoints.into_iter().find(|signed| signed.worth(keys) == Worth::Good);
        let hash = believed.and_then(|signed| hex::decoded(&signed.place.hash));
        Ok(hash.map_or(Link::ROOT, |hash| Link { seq: before, hash }))
    }

    /// Lets the walk know the places up to `end` that the checkpoints beside the log attest.
    async fn collect_evidence(
        &mut self,
        tenant: Option<TenantId>,
        keys: &[PublicKey],
        walk: &mut Walk,
        end: i64,
    ) -> Result<Result<(), AuditVerdict>, StoreError> {
        let mut after = walk.last.seq;
        loop {
            let some = self.checkpoints_of(tenant, after, end).await?;
            let Some(last) = some.last().map(|signed| signed.place.seq) else { return Ok(Ok(())) };
            for signed in some {
                match signed.worth(keys) {
                    Worth::Good => walk.places.push(signed.place),
                    Worth::Unknown => {}
                    Worth::Forged => {
                        let fault = "its checkpoint was not signed by who it says";
                        return Ok(Err(AuditVerdict::Broken { seq: signed.place.seq, fault }));
                    }
                }
            }
            after = last;
        }
    }

    /// The newest place of the chain, to be written down elsewhere.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit_checkpoint(&mut self, tenant: Option<TenantId>) -> Result<Checkpoint, StoreError> {
        let Link { seq, hash } = self.audit_head(tenant).await?;
        Ok(Checkpoint { seq, hash: hex::encoded(&hash) })
    }

    async fn audit_rows_after(&mut self, tenant: Option<TenantId>, seq: i64) -> Result<Vec<Row>, StoreError> {
        let rest = "FROM tenant_audit_logs WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let query = select(COLUMNS, rest).bind(chain_id(tenant)).bind(seq).bind(VERIFIED_AT_ONCE);
        query.fetch_all(self.connection()).await
    }

    async fn audit_head(&mut self, tenant: Option<TenantId>) -> Result<Link, StoreError> {
        let row = query("SELECT seq, hash FROM audit_chains WHERE tenant_id = $1")
            .bind(chain_id(tenant))
            .fetch_optional(self.connection())
            .await?;
        row.map_or(Ok(Link::ROOT), |row| Ok(Link { seq: get(&row, "seq")?, hash: digest(&row, "hash")? }))
    }
}

fn push_filter(query: &mut Query, filter: &AuditFilter) {
    let AuditFilter { actor_kind, actor_id, action, target_kind, target_id, outcome, correlation, from, to } =
        filter;
    let texts = [
        (" AND actor_kind = ", actor_kind.map(ActorKind::as_str)),
        (" AND action = ", action.as_deref()),
        (" AND target_kind = ", target_kind.as_deref()),
        (" AND target_id = ", target_id.as_deref()),
        (" AND outcome = ", outcome.map(AuditOutcome::as_str)),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text);
        }
    }
    for (condition, id) in [(" AND actor_id = ", actor_id), (" AND correlation = ", correlation)] {
        if let Some(id) = id {
            query.push(condition).push_bind(*id);
        }
    }
    for (condition, at) in [(" AND at >= ", from), (" AND at < ", to)] {
        if let Some(at) = at {
            query.push(condition).push_bind(*at);
        }
    }
}

/// Chains are known by their tenant; the nil UUID is the platform's.
pub(super) fn chain_id(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), |tenant| tenant.0)
}

pub(super) fn chain_of(id: Uuid) -> Option<TenantId> {
    (!id.is_nil()).then_some(TenantId(id))
}

/// A row as it is read, and its two hashes.
fn entry(row: &Row) -> Result<(AuditEntry, [u8; 32], [u8; 32]), StoreError> {
    let (prev_hash, hash) = (digest(row, "prev_hash")?, digest(row, "hash")?);
    let entry = AuditEntry {
        seq: get(row, "seq")?,
        row: audit_row(row)?,
        prev_hash: hex::encoded(&prev_hash),
        hash: hex::encoded(&hash),
    };
    Ok((entry, prev_hash, hash))
}

fn audit_row(row: &Row) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        at: get(row, "at")?,
        tenant: chain_of(get(row, "tenant_id")?),
        actor: Actor {
            kind: parsed(row, "actor_kind", ActorKind::parse)?,
            id: get(row, "actor_id")?,
            name: get(row, "actor_name")?,
            ip: get::<Option<&str>>(row, "actor_ip")?.and_then(|ip| ip.parse().ok()),
            user_agent: get(row, "actor_user_agent")?,
        },
        action: get(row, "action")?,
        target_kind: get(row, "target_kind")?,
        target_id: get(row, "target_id")?,
        outcome: parsed(row, "outcome", AuditOutcome::parse)?,
        before: json_or_null(row, "before_json")?,
        after: json_or_null(row, "after_json")?,
        reason: get(row, "reason")?,
        correlation: get(row, "correlation")?,
    })
}

// === impl Walk ===

impl Walk {
    fn from(base: Link, places: &[Checkpoint]) -> Walk {
        let places = places.iter().filter(|place| place.seq >= base.seq).cloned().collect();
        Walk { base, last: base, places, compared: 0, is_accounted_for: base == Link::ROOT }
    }

    fn step(&mut self, row: &Row) -> Result<Result<(), AuditVerdict>, StoreError> {
        let entry = match self.last.followed_by(row)? {
            Ok((next, entry)) => {
                self.last = next;
                entry
            }
            Err(fault) => return Ok(Err(AuditVerdict::Broken { seq: self.last.seq + 1, fault })),
        };
        self.is_accounted_for |= entry.row.action == PRUNED
            && entry.row.outcome == AuditOutcome::Done
            && entry.row.after.is_some_and(|after| after["up_to"] == self.base.seq);
        Ok(self.compare())
    }

    /// The places that were reached are as they are known.
    fn compare(&mut self) -> Result<(), AuditVerdict> {
        let (last, hash) = (self.last, hex::encoded(&self.last.hash));
        let reached = self.places.extract_if(.., |place| place.seq <= last.seq);
        for place in reached {
            if place.seq == last.seq && place.hash != hash {
                let fault = "it is not the row of the checkpoint";
                return Err(AuditVerdict::Broken { seq: last.seq, fault });
            }
            self.compared += 1;
        }
        Ok(())
    }

    fn ended(self, head: Link) -> AuditVerdict {
        let Link { seq: last, .. } = self.last;
        if self.last != head || !self.places.is_empty() {
            return AuditVerdict::Broken { seq: last + 1, fault: "rows are missing at the end" };
        }
        if !self.is_accounted_for {
            let fault = "it and all before it are gone, and no row says that they were pruned";
            return AuditVerdict::Broken { seq: self.base.seq, fault };
        }
        AuditVerdict::Whole { rows: last - self.base.seq, pruned: self.base.seq, checkpoints: self.compared }
    }
}

// === impl Link ===

impl Link {
    /// Before the first row.
    const ROOT: Link = Link { seq: 0, hash: [0; 32] };

    fn next(self, row: &AuditRow) -> Link {
        let seq = self.seq + 1;
        let mut hash = Sha256::new_with_prefix(TAG);
        hash.update(self.hash);
        hash.update(canonical(&hashed_form(seq, row)));
        Link { seq, hash: hash.finalize().into() }
    }

    fn followed_by(self, row: &Row) -> Result<Result<(Link, AuditEntry), &'static str>, StoreError> {
        let (entry, prev_hash, hash) = entry(row)?;
        if entry.seq != self.seq + 1 {
            return Ok(Err("a row is missing"));
        }
        let next = self.next(&entry.row);
        Ok(if prev_hash != self.hash {
            Err("it does not follow the row before it")
        } else if hash != next.hash {
            Err("it is not what was written")
        } else {
            Ok((next, entry))
        })
    }
}

/// Names each field, so that the form does not change when the type in `domain` does.
fn hashed_form(seq: i64, row: &AuditRow) -> Value {
    json!({
        "seq": seq,
        "at": row.at.to_string(),
        "tenant": row.tenant.map(|tenant| tenant.to_string()),
        "actor": {
            "kind": row.actor.kind.as_str(),
            "id": row.actor.id.map(|id| id.to_string()),
            "name": row.actor.name,
            "ip": row.actor.ip.map(|ip| ip.to_string()),
            "user_agent": row.actor.user_agent,
        },
        "action": row.action,
        "target_kind": row.target_kind,
        "target_id": row.target_id,
        "outcome": row.outcome.as_str(),
        "before": row.before,
        "after": row.after,
        "reason": row.reason,
        "correlation": row.correlation.to_string(),
    })
}

/// RFC 8785 for what audit rows hold: no fractions, so numbers are written the same way everywhere.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

// === impl Tx ===

impl Tx {
    /// Appends `row` to its tenant's chain.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit(&mut self, row: &AuditRow) -> Result<(), StoreError> {
        let link = self.lock_audit_chain(row.tenant).await?;
        let next = link.next(row);
        self.insert_audit_row(row, link, next).await?;
        query("UPDATE audit_chains SET seq = $2, hash = $3 WHERE tenant_id = $1")
            .bind(chain_id(row.tenant))
            .bind(next.seq)
            .bind(next.hash.as_slice())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// The newest link. Writing its row makes other writers of the chain wait for this transaction's end.
    async fn lock_audit_chain(&mut self, tenant: Option<TenantId>) -> Result<Link, StoreError> {
        let row = query(
            "INSERT INTO audit_chains (tenant_id, seq, hash) VALUES ($1, $2, $3)
             ON CONFLICT (tenant_id) DO UPDATE SET seq = audit_chains.seq
             RETURNING seq, hash",
        )
        .bind(chain_id(tenant))
        .bind(Link::ROOT.seq)
        .bind(Link::ROOT.hash.as_slice())
        .fetch_one(self.connection())
        .await?;
        Ok(Link { seq: get(&row, "seq")?, hash: digest(&row, "hash")? })
    }

    async fn insert_audit_row(&mut self, row: &AuditRow, last: Link, next: Link) -> Result<(), StoreError> {
        query(
            "INSERT INTO tenant_audit_logs (tenant_id, seq, at, actor_kind, actor_id, actor_name, actor_ip,
                 actor_user_agent, action, target_kind, target_id, outcome, before_json, after_json, reason,
                 correlation, prev_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        )
        .bind(chain_id(row.tenant))
        .bind(next.seq)
        .bind(row.at)
        .bind(row.actor.kind.as_str())
        .bind(row.actor.id)
        .bind(&row.actor.name)
        .bind(row.actor.ip.map(|ip| ip.to_string()))
        .bind(&row.actor.user_agent)
        .bind(&row.action)
        .bind(&row.target_kind)
        .bind(&row.target_id)
        .bind(row.outcome.as_str())
        .bind(row.before.as_ref().map(canonical).map(Json))
        .bind(row.after.as_ref().map(canonical).map(Json))
        .bind(&row.reason)
        .bind(row.correlation)
        .bind(last.hash.as_slice())
        .bind(next.hash.as_slice())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
