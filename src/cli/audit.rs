//! `tollgate audit verify --checkpoints`: all logs held against lines that were kept elsewhere.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::failure::Failure;
use super::{Found, answered, args, ask, show};
use crate::control::CheckpointFile;
use crate::domain::TenantId;
use crate::secret::checkpoint::SignedCheckpoint;

/// Chains that are asked about in one request: well below what a body may have.
const CHAINS_AT_ONCE: usize = 1_000;

/// A broken chain is a problem that was found.
pub(super) fn audit(config: Option<&Path>, command: &args::Audit) -> Result<Found, Failure> {
    let found = match command {
        args::Audit::Verify(args::AuditVerify { checkpoints: Some(file), .. }) => held_against(config, file)?,
        _ => answered(config, ask::audit(command))?,
    };
    let is_broken =
        serde_json::from_str::<Value>(&found.json).is_ok_and(|answer| answer["verdict"] == "broken");
    Ok(Found { status: u8::from(is_broken), ..found })
}

fn held_against(config: Option<&Path>, file: &Path) -> Result<Found, Failure> {
    let newest = newest(file)?;
    let mut chains = Vec::new();
    for some in newest.chunks(CHAINS_AT_ONCE) {
        let found = answered(config, ask::verify_chains(some))?;
        let answer: Value = serde_json::from_str(&found.json).unwrap_or_default();
        chains.extend(answer["chains"].as_array().cloned().unwrap_or_default());
    }
    let is_broken = chains.iter().any(|chain| chain["verdict"] == "broken");
    let verdict = if is_broken { "broken" } else { "whole" };
    let whole = json!({ "verdict": verdict, "chains": chains });
    Ok(Found { text: show::chain_verdicts(&whole), json: whole.to_string(), status: 0 })
}

/// The newest line of each chain: it proves what the older ones prove.
fn newest(file: &Path) -> Result<Vec<SignedCheckpoint>, Failure> {
    let mut newest = BTreeMap::<Option<TenantId>, SignedCheckpoint>::new();
    let each = |signed: SignedCheckpoint| {
        let is_newer = |known: &SignedCheckpoint| known.place.seq < signed.place.seq;
        if newest.get(&signed.tenant_id).is_none_or(is_newer) {
            newest.insert(signed.tenant_id, signed);
        }
    };
    let read = CheckpointFile::new(file.to_owned()).each(each);
    read.map_err(|error| Failure::unreadable(file, &error))?;
    if newest.is_empty() {
        return Err(Failure::new(format!("{} holds no checkpoint", file.display())));
    }
    Ok(newest.into_values().collect())
}
