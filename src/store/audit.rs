//! The audit log: append-only, one hash chain per tenant.
//!
//! Each row holds the hash of the row before it and its own, SHA-256 over the former and the row's canonical
//! JSON (RFC 8785), so that a changed, removed or inserted row breaks the chain from there on. The newest link
//! is kept beside the log as well, so that rows missing at the end are noticed; only a copy of it off the
//! machine, which has its own issue, holds against someone who rewrites both.

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

/// A place of a chain that somebody has written down elsewhere: what is verified against it can't have been rewritten,
/// nor cut off behind it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    pub seq: i64,
    /// Hexadecimal.
    pub hash: String,
}

/// What became of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum AuditVerdict {
    Whole {
        rows: i64,
    },
    /// The first row that is not what was written there.
    Broken {
        seq: i64,
        fault: &'static str,
    },
}

/// The newest row of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Link {
    seq: i64,
    hash: [u8; 32],
}

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
        query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(page.limit()) + 1);
        query.push(" OFFSET ").push_bind(i64::from(page.offset()));
        let rows = query.fetch_all(self.connection()).await?;
        let entries = rows.iter().map(|row| Ok(entry(row)?.0)).collect::<Result<Vec<_>, StoreError>>()?;
        let cursor = |last: &AuditEntry| Cursor { after: last.seq.to_string(), id: String::new() };
        Ok(Ok(Listed::of(entries, page, cursor)))
    }

    /// Recomputes the tenant's whole chain; `None` is the platform's own.
    ///
    /// # Errors
    /// [`StoreError`]; a row that can't even be read is one, and names its column.
    pub async fn verify_audit(
        &mut self,
        tenant: Option<TenantId>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<AuditVerdict, StoreError> {
        let mut last = Link::ROOT;
        loop {
            let rows = self.audit_rows_after(tenant, last.seq).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                match last.followed_by(row)? {
                    Ok(next) if next.contradicts(checkpoint) => {
                        let fault = "it is not the row of the checkpoint";
                        return Ok(AuditVerdict::Broken { seq: next.seq, fault });
                    }
                    Ok(next) => last = next,
                    Err(fault) => return Ok(AuditVerdict::Broken { seq: last.seq + 1, fault }),
                }
            }
        }
        let is_short = checkpoint.is_some_and(|checkpoint| checkpoint.seq > last.seq);
        if last == self.audit_head(tenant).await? && !is_short {
            return Ok(AuditVerdict::Whole { rows: last.seq });
        }
        Ok(AuditVerdict::Broken { seq: last.seq + 1, fault: "rows are missing at the end" })
    }

    /// The newest place of the chain, to be written down elsewhere.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn audit_checkpoint(&mut self, tenant: Option<TenantId>) -> Result<Checkpoint, StoreError> {
        let Link { seq, hash } = self.audit_head(tenant).await?;
        Ok(Checkpoint { seq, hash: hexadecimal(&hash) })
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
fn chain_id(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), |tenant| tenant.0)
}

/// A row as it is read, and its two hashes.
fn entry(row: &Row) -> Result<(AuditEntry, [u8; 32], [u8; 32]), StoreError> {
    let (prev_hash, hash) = (digest(row, "prev_hash")?, digest(row, "hash")?);
    let entry = AuditEntry {
        seq: get(row, "seq")?,
        row: audit_row(row)?,
        prev_hash: hexadecimal(&prev_hash),
        hash: hexadecimal(&hash),
    };
    Ok((entry, prev_hash, hash))
}

fn audit_row(row: &Row) -> Result<AuditRow, StoreError> {
    let tenant: Uuid = get(row, "tenant_id")?;
    Ok(AuditRow {
        at: get(row, "at")?,
        tenant: (!tenant.is_nil()).then_some(TenantId(tenant)),
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

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// === impl Link ===

impl Link {
    /// Before the first row.
    const ROOT: Link = Link { seq: 0, hash: [0; 32] };

    fn contradicts(self, checkpoint: Option<&Checkpoint>) -> bool {
        checkpoint.is_some_and(|checkpoint| {
            checkpoint.seq == self.seq && checkpoint.hash != hexadecimal(&self.hash)
        })
    }

    fn next(self, row: &AuditRow) -> Link {
        let seq = self.seq + 1;
        let mut hash = Sha256::new_with_prefix(TAG);
        hash.update(self.hash);
        hash.update(canonical(&hashed_form(seq, row)));
        Link { seq, hash: hash.finalize().into() }
    }

    fn followed_by(self, row: &Row) -> Result<Result<Link, &'static str>, StoreError> {
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
            Ok(next)
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
fn canonical(value: &Value) -> String {
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
