//! Tenants exported, and imported elsewhere.
//!
//! An export is all that there is of a tenant at one moment: itself with its tier, keys (digests, never texts), members and
//! roles, quotas and what they were, settings, alert rules and channels, reported events, audit log, usage, and what its
//! counters and gauges stand at. Secrets are in it as text, since what seals them here is nowhere else: the archive's own seal is all that keeps them. An import makes
//! the same state in an installation that knows nothing of the tenant, on either kind of store, in one transaction; the
//! audit log goes on there with the chain that it had.

mod own_parts;

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::own_parts::{CHANNELS, MEMBERS, RESOURCES, SETTINGS, TIER};
use super::principal::Operation;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, FieldFault, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{Slug, Tenant, TenantId};
use crate::secret::archive::{ArchiveError, ArchiveReader, ArchiveWriter, Item, Lock, Unlock};
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint};
use crate::secret::ed25519::{PublicKey, SigningKey};
use crate::secret::hex;
use crate::store::{AuditVerdict, Evidence, PARTS, Part, Position, ROWS_AT_ONCE, Snapshot};

/// An export that was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Exported {
    pub tenant_id: TenantId,
    pub slug: Slug,
    pub rows: u64,
    /// The id of the public key that verifies it.
    pub signer: String,
}

/// A tenant that is here now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Imported {
    pub tenant_id: TenantId,
    pub slug: Slug,
    pub rows: u64,
    pub signer: String,
    /// Whether its API keys work: they do under the pepper that they were made under.
    pub keys_work: bool,
}

/// What an archive says of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Header {
    tenant_id: TenantId,
    slug: String,
    exported_at: Timestamp,
    made_by: String,
    /// What the keys' digests were made with, as far as anybody may know it.
    pepper: Option<String>,
}

/// An audit log that is being imported: where it begins and ends.
#[derive(Default)]
struct Chain {
    base: Option<Checkpoint>,
    end: Option<Checkpoint>,
}

/// Parts that are looked at as they are imported.
const AUDIT_LOG: &str = "audit_log";
const KEYS: &str = "keys";

impl Control {
    /// Writes all that there is of a tenant to `output`, sealed with `lock` and signed with the audit log's key; notes in
    /// the tenant's log that it was done, which the archive itself does not have. Memory stays bounded, whatever the
    /// tenant has.
    ///
    /// Dropping the future leaves an output that is no archive.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Forbidden`]; [`ControlError::Seal`] for secrets that can't be opened;
    /// [`ControlError::Archive`] when `output` can't be written.
    pub async fn export_tenant<W: Write + Send + 'static>(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        lock: Lock,
        output: W,
    ) -> Result<(Exported, W), ControlError> {
        let mut work = self.begin_for(principal, tenant).await?;
        let outcome = work.begin_export(tenant).await;
        let (key, snapshot, tenant) = work.end(outcome).await?;
        let header = Header {
            tenant_id: tenant.id,
            slug: tenant.slug.to_string(),
            exported_at: self.now(),
            made_by: concat!("tollgate ", env!("CARGO_PKG_VERSION")).to_owned(),
            pepper: Some(self.parts.peppers.current().fingerprint()),
        };
        let writer = off_thread(move || Ok(ArchiveWriter::begin(output, lock, &json!(header))?)).await?;
        let mut export = Export { control: self, snapshot, tenant, writer };
        export.tier().await?;
        for part in &PARTS {
            export = export.table(part).await?;
            if part.name == PARTS[0].name {
                export.settings().await?;
                export.members().await?;
                export.channels().await?;
            }
        }
        let Export { tenant, writer, .. } = export;
        let signer = key.public().id();
        let (output, rows) = off_thread(move || Ok(writer.finish(&key)?)).await?;
        Ok((Exported { tenant_id: tenant.id, slug: tenant.slug, rows, signer }, output))
    }

    /// The same into a file without a name, for whoever passes it on: it is whole before its first byte is sent, and what
    /// is on the disk is sealed.
    ///
    /// # Errors
    /// As [`Control::export_tenant`].
    pub async fn spool_export(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        lock: Lock,
    ) -> Result<(Exported, File), ControlError> {
        let spool = match &self.parts.spool {
            Some(directory) => tempfile::tempfile_in(directory),
            None => tempfile::tempfile(),
        };
        let spool = BufWriter::new(spool.map_err(ArchiveError::from)?);
        let (exported, spool) = self.export_tenant(principal, tenant, lock, spool).await?;
        let mut file = spool.into_inner().map_err(|error| ArchiveError::from(error.into_error()))?;
        file.rewind().map_err(ArchiveError::from)?;
        Ok((exported, file))
    }

    /// Makes the tenant of an archive, in one transaction: all of it or nothing. The archive is read twice, and nothing is
    /// written before all of it was found to be genuine.
    ///
    /// `signed_by` names the key that should have signed it, if that is none of those that this installation believes.
    ///
    /// # Errors
    /// [`ControlError::Archive`] for what is no whole, genuine archive of a known format; [`ControlError::Conflict`] when
    /// its signer is not known, when the tenant, its slug or one of its keys is here already, or what it refers to is not;
    /// [`ControlError::Invalid`] for rows that are none.
    pub async fn import_tenant<R: Read + Seek + Send + 'static>(
        &self,
        principal: &Principal,
        input: R,
        unlock: Unlock,
        signed_by: Option<&str>,
    ) -> Result<Imported, ControlError> {
        self.allow(principal, Operation::ImportTenant, &Target::platform("tenant")).await?;
        let again = unlock.clone();
        let (mut input, key) = off_thread(move || checked(input, &unlock)).await?;
        self.believe(&key, signed_by)?;
        let opening = move || {
            input.rewind().map_err(ArchiveError::from)?;
            Ok(ArchiveReader::open(input, &again)?)
        };
        let (reader, header) = off_thread(opening).await?;
        let header: Header = serde_json::from_value(header).map_err(|_| ArchiveError::NoArchive)?;
        let mut work = self.begin(principal).await?;
        let outcome = work.import(reader, header, key).await;
        work.end(outcome).await
    }

    fn signing_key(&self) -> Result<SigningKey, ControlError> {
        let without = || ControlError::Conflict("no key to sign exports with is configured".to_owned());
        self.parts.attesting.as_deref().map(|attesting| attesting.key.clone()).ok_or_else(without)
    }

    fn believe(&self, key: &PublicKey, signed_by: Option<&str>) -> Result<(), ControlError> {
        if self.believed_keys().contains(key) || signed_by == Some(key.id().as_str()) {
            return Ok(());
        }
        Err(ControlError::Conflict(format!(
            "the archive is signed by {}, whom this installation does not know: if that is whose it should be, name it \
             as signer, or add {} to control.audit.trusted_keys",
            key.id(),
            key.x(),
        )))
    }
}

/// What waits for a disk, or for a cipher, waits elsewhere.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ControlError> + Send + 'static,
) -> Result<T, ControlError> {
    let ended = |_| ArchiveError::Io(std::io::Error::other("the process ends"));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}

/// Reads the whole of an archive, and answers who signed it.
fn checked<R: Read + Seek>(mut input: R, unlock: &Unlock) -> Result<(R, PublicKey), ControlError> {
    let (mut reader, _) = ArchiveReader::open(&mut input, unlock)?;
    loop {
        if let Item::End(key) = reader.read()? {
            drop(reader);
            return Ok((input, key));
        }
    }
}

// === impl Export ===

/// An export under way.
struct Export<'a, W: Write> {
    control: &'a Control,
    snapshot: Snapshot,
    tenant: Tenant,
    writer: ArchiveWriter<W>,
}

impl<W: Write + Send + 'static> Export<'_, W> {
    async fn table(mut self, part: &'static Part) -> Result<Self, ControlError> {
        self.writer.part(part.name)?;
        let mut position = Position::default();
        loop {
            let rows = self.snapshot.part_rows(part, self.tenant.id, &mut position).await?;
            if rows.is_empty() {
                return Ok(self);
            }
            let mut writer = self.writer;
            let written = off_thread(move || {
                rows.into_iter().try_for_each(|row| writer.row(row))?;
                Ok(writer)
            });
            self.writer = written.await?;
        }
    }
}

// === impl Work ===

impl Work<'_> {
    /// The moment of the export is before the row that tells of it.
    async fn begin_export(
        &mut self,
        tenant: &TenantRef,
    ) -> Result<(SigningKey, Snapshot, Tenant), ControlError> {
        self.tenant_for(Operation::ExportTenant, tenant).await?;
        let key = self.control.signing_key()?;
        let mut snapshot = self.control.read_as(&self.principal).await?;
        let tenant = self.principal.find(&mut snapshot, tenant).await?;
        self.audit(Operation::ExportTenant, &Target::tenant(&tenant), Told::default()).await?;
        Ok((key, snapshot, tenant))
    }

    async fn import<R: Read + Send + 'static>(
        &mut self,
        mut reader: ArchiveReader<R>,
        header: Header,
        key: PublicKey,
    ) -> Result<Imported, ControlError> {
        let tenant = header.tenant_id;
        let slug = self.free_place(&header).await?;
        let (mut chain, mut part, mut rows) = (Chain::default(), String::new(), 0);
        loop {
            let (again, some, next) = off_thread(move || batch(reader)).await?;
            reader = again;
            rows += some.len() as u64;
            self.import_rows(tenant, &part, &some, &mut chain).await?;
            match next {
                Some(Item::Part(name)) => part = name,
                Some(Item::End(signer)) if signer == key => break,
                Some(Item::End(_) | Item::Row(_)) => return Err(ArchiveError::Damaged.into()),
                None => {}
            }
        }
        self.import_chain(tenant, chain).await?;
        let signer = key.id();
        let target = Target { tenant: None, kind: "tenant", id: tenant.to_string() };
        let told = Told::made(json!({ "slug": slug, "rows": rows, "signer": signer }));
        self.audit(Operation::ImportTenant, &target, told).await?;
        let keys_work = header.pepper.as_ref().is_some_and(|pepper| self.control.parts.peppers.know(pepper));
        Ok(Imported { tenant_id: tenant, slug, rows, signer, keys_work })
    }

    /// Nothing of the tenant is here, and nobody has its name.
    async fn free_place(&mut self, header: &Header) -> Result<Slug, ControlError> {
        let taken = |what: String| Err(ControlError::Conflict(format!("{what} is here already")));
        let bad = || FieldFault::new("header.slug", "it is no slug");
        let slug: Slug = header.slug.parse().map_err(|()| ControlError::Invalid(vec![bad()]))?;
        if self.tx.has_rows_of(header.tenant_id).await? {
            return taken(format!("the tenant {} (`{slug}`)", header.tenant_id));
        }
        if self.tx.is_slug_taken(&slug).await? {
            return taken(format!("a tenant of the name `{slug}`"));
        }
        Ok(slug)
    }

    async fn import_rows(
        &mut self,
        tenant: TenantId,
        part: &str,
        rows: &[Value],
        chain: &mut Chain,
    ) -> Result<(), ControlError> {
        if rows.is_empty() {
            return Ok(());
        }
        match part {
            TIER => self.import_tiers(rows).await,
            RESOURCES => self.import_resources(rows).await,
            SETTINGS => self.import_settings(tenant, rows).await,
            MEMBERS => self.import_members(tenant, rows).await,
            CHANNELS => self.import_channels(tenant, rows).await,
            _ => {
                let table = Part::named(part).ok_or_else(|| bad_part(part))?;
                if part == PARTS[0].name {
                    self.parent_is_here(rows).await?;
                }
                if part == AUDIT_LOG {
                    chain.follow(rows);
                }
                let inserted = self.tx.insert_part(table, tenant, rows).await;
                let inserted = inserted.map_err(|error| match error.is_taken() {
                    true if part == KEYS => {
                        ControlError::Conflict("one of its keys is here already".to_owned())
                    }
                    _ => error.into(),
                })?;
                inserted.map_err(|bad| {
                    ControlError::Invalid(vec![FieldFault::new(
                        format!("{part}.{}", bad.0),
                        "it can't be read",
                    )])
                })
            }
        }
    }

    async fn parent_is_here(&mut self, rows: &[Value]) -> Result<(), ControlError> {
        let parents = rows.iter().filter_map(|row| row["parent_id"].as_str());
        for parent in parents.filter_map(|text| text.parse().ok()) {
            if self.tx.tenant(TenantId(parent)).await?.is_none() {
                let what = format!("its reseller {parent} is not here: import that one first");
                return Err(ControlError::Conflict(what));
            }
        }
        Ok(())
    }

    /// The log that was inserted is one chain, and goes on from its end; where it begins behind rows that were pruned, this
    /// installation attests what the archive did.
    async fn import_chain(&mut self, tenant: TenantId, chain: Chain) -> Result<(), ControlError> {
        let Some(end) = chain.end else { return Ok(()) };
        if let Some(base) = chain.base {
            let key = self.control.signing_key()?;
            self.tx.insert_checkpoint(&SignedCheckpoint::sign(&key, Some(tenant), base, self.now)).await?;
        }
        self.tx.set_audit_end(tenant, &end).await?;
        let keys = self.control.believed_keys();
        let evidence = Evidence { keys: &keys, places: &[] };
        match self.tx.verify_audit(Some(tenant), evidence).await? {
            AuditVerdict::Whole { .. } => Ok(()),
            AuditVerdict::Broken { seq, fault } => {
                Err(ControlError::Conflict(format!("its audit log is broken at row {seq}: {fault}")))
            }
        }
    }
}

/// The reader, rows of one part, and what comes behind them; that is nothing if there may be more of them.
type Batch<R> = (ArchiveReader<R>, Vec<Value>, Option<Item>);

fn batch<R: Read>(mut reader: ArchiveReader<R>) -> Result<Batch<R>, ControlError> {
    let mut rows = Vec::new();
    while rows.len() < ROWS_AT_ONCE {
        match reader.read()? {
            Item::Row(row) => rows.push(row),
            other => return Ok((reader, rows, Some(other))),
        }
    }
    Ok((reader, rows, None))
}

fn bad_part(part: &str) -> ControlError {
    ControlError::Invalid(vec![FieldFault::new(part, "there is no such part")])
}

// === impl Chain ===

impl Chain {
    fn follow(&mut self, rows: &[Value]) {
        let place = |row: &Value, before: i64, hash: &str| {
            let seq = row["seq"].as_i64()? - before;
            let hash = BASE64_STANDARD.decode(row[hash].as_str()?).ok()?;
            Some(Checkpoint { seq, hash: hex::encoded(&hash) })
        };
        if let (None, Some(first)) = (&self.end, rows.first()) {
            self.base = place(first, 1, "prev_hash").filter(|base| base.seq > 0);
        }
        self.end = rows.last().and_then(|last| place(last, 0, "hash"));
    }
}

#[cfg(test)]
mod tests;
