//! `tollgate export` and `tollgate import`: on the store itself, beside a running gateway or without one, because an
//! archive may be larger than what is sent over the admin address. Gateways notice within a second.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use uuid::Uuid;

use super::failure::Failure;
use super::{Found, args, place, session, show, waited_for};
use crate::control::{ControlError, Exported, Principal, TenantRef};
use crate::domain::{Actor, ActorKind};
use crate::secret::archive::{Lock, Unlock};

/// A longer one is no passphrase, and no key.
const SECRET_BYTES_MAX: u64 = 4_096;

pub(super) fn export(config: Option<&Path>, command: &args::Export) -> Result<Found, Failure> {
    let lock = match (&command.passphrase_file, &command.recipient) {
        (Some(file), _) => Lock::Passphrase(passphrase(file)?),
        (None, Some(recipient)) => Lock::recipient(recipient)
            .ok_or_else(|| Failure::new(format!("`{recipient}` is no age key: age1… is expected")))?,
        // clap asks for one of the two.
        (None, None) => {
            return Err(Failure::new("nobody could open it: say --passphrase-file or --recipient"));
        }
    };
    let tenant: TenantRef = command
        .tenant
        .parse()
        .map_err(|()| Failure::new(format!("`{}` is neither a tenant's id nor a slug", command.tenant)))?;
    if command.file.exists() {
        return Err(Failure::new(format!("{} is there already", command.file.display())));
    }
    let place = place(config)?;
    let exported = waited_for(exported(&place, &tenant, lock, &command.file))?;
    let json = json!(exported);
    Ok(Found { text: show::exported(&json), json: json.to_string(), status: 0 })
}

/// The file has its name only once it is whole.
async fn exported(
    place: &session::Place,
    tenant: &TenantRef,
    lock: Lock,
    file: &Path,
) -> Result<Exported, Failure> {
    let draft = PathBuf::from(format!("{}.draft", file.display()));
    let failed = |error: io::Error| Failure::caused(format!("{} can't be written", draft.display()), &error);
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
    let output = BufWriter::new(output.map_err(failed)?);
    let control = session::control(place).await?;
    let written = control.export_tenant(&administrator(), tenant, lock, output).await;
    let finished = written.map_err(|error| refused("the tenant can't be exported", &error)).and_then(
        |(exported, output)| {
            let output = output.into_inner().map_err(|error| failed(error.into_error()))?;
            output.sync_all().and_then(|()| fs::rename(&draft, file)).map_err(failed)?;
            Ok(exported)
        },
    );
    if finished.is_err() {
        // Nothing that could be taken for an archive stays behind; if it does, it does not open.
        let _ = fs::remove_file(&draft);
    }
    finished
}

pub(super) fn import(config: Option<&Path>, command: &args::Import) -> Result<Found, Failure> {
    let unlock = match (&command.passphrase_file, &command.identity) {
        (Some(file), _) => Unlock::Passphrase(passphrase(file)?),
        (None, Some(file)) => Unlock::identity(&secret(file)?)
            .ok_or_else(|| Failure::new(format!("{} holds no age key: AGE-SECRET-KEY-1…", file.display())))?,
        (None, None) => return Err(Failure::new("say --passphrase-file or --identity: who can open it")),
    };
    let unreadable = |error: io::Error| Failure::unreadable(&command.file, &error);
    let input = BufReader::new(File::open(&command.file).map_err(unreadable)?);
    let place = place(config)?;
    let imported = waited_for(async {
        let control = session::control(&place).await?;
        let signed_by = command.signed_by.as_deref();
        let imported = control.import_tenant(&administrator(), input, unlock, signed_by).await;
        imported.map_err(|error| refused("the archive is not imported, and nothing was changed", &error))
    })?;
    let json = json!(imported);
    Ok(Found { text: show::imported(&json), json: json.to_string(), status: 0 })
}

/// Whoever may open the store: the same as the API's local administrator.
fn administrator() -> Principal {
    let actor = Actor { kind: ActorKind::LocalAdmin, ..Actor::system("local administrator") };
    Principal::platform(actor, Uuid::now_v7())
}

fn refused(what: &str, error: &ControlError) -> Failure {
    Failure::caused(what, error)
}

fn passphrase(file: &Path) -> Result<String, Failure> {
    let text = secret(file)?.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() {
        Err(Failure::new(format!("{} holds no passphrase", file.display())))
    } else {
        Ok(text)
    }
}

/// `-` is standard input.
fn secret(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: io::Error| Failure::unreadable(file, &error);
    let mut text = String::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().take(SECRET_BYTES_MAX).read_to_string(&mut text),
        _ => File::open(file).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text)),
    };
    read.map(|_| text).map_err(unreadable)
}
