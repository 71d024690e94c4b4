//! `/api/tenants/{tenant}/export`: all that there is of a tenant, as one sealed and signed file.

use std::fs::File;
use std::io::Read;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use utoipa::ToSchema;

use super::error::Problem;
use super::extract::{Caller, Json, TenantPath};
use super::router::Api;
use crate::control::FieldFault;
use crate::secret::archive::Lock;

/// The body of `POST …/export`: who can open the archive. One of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportBody {
    passphrase: Option<String>,
    /// The public half of an age key: `age1…`.
    recipient: Option<String>,
}

/// Shorter ones could be guessed by whoever has the file.
const PASSPHRASE_LENGTH_MIN: usize = 12;
/// The type of an archive.
pub(super) const ARCHIVE: &str = "application/age";
/// What is read of the file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Exports all that there is of a tenant, sealed and signed, as one file of age's format.
#[utoipa::path(
    post, path = "/api/tenants/{tenant}/export",
    request_body = ExportBody,
    responses((status = 200, description = "The archive", content_type = "application/age", body = String)),
)]
pub(super) async fn export(
    Caller(principal): Caller,
    State(api): State<Api>,
    TenantPath(tenant): TenantPath,
    Json(body): Json<ExportBody>,
) -> Result<Response, Problem> {
    let lock = body.lock().map_err(|fault| Problem::invalid(vec![fault]))?;
    let (exported, file) = api.control.spool_export(&principal, &tenant, lock).await?;
    let name = format!("attachment; filename=\"{}.tollgate.age\"", exported.slug.as_str());
    let length = file.metadata().map(|metadata| metadata.len()).ok();
    let mut response = Response::new(streamed(file));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ARCHIVE));
    // A slug is ASCII, and so is a key's id.
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// Reads on as the caller takes what was read, off this thread.
fn streamed(file: File) -> Body {
    let chunks = stream::try_unfold(file, |file| async move {
        let read = tokio::task::spawn_blocking(move || chunk(file)).await;
        read.unwrap_or_else(|ended| Err(std::io::Error::other(ended)))
    });
    Body::from_stream(chunks)
}

fn chunk(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let mut bytes = Vec::with_capacity(CHUNK_BYTES);
    let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
    Ok((read > 0).then(|| (bytes.into(), file)))
}

// === impl ExportBody ===

impl ExportBody {
    fn lock(self) -> Result<Lock, FieldFault> {
        match (self.passphrase, self.recipient) {
            (Some(passphrase), None) if passphrase.len() < PASSPHRASE_LENGTH_MIN => {
                let expected = format!("at least {PASSPHRASE_LENGTH_MIN} characters are expected");
                Err(FieldFault::new("passphrase", expected))
            }
            (Some(passphrase), None) => Ok(Lock::Passphrase(passphrase)),
            (None, Some(recipient)) => Lock::recipient(&recipient)
                .ok_or_else(|| FieldFault::new("recipient", "an age key is expected: age1…")),
            (None, None) => Err(FieldFault::new("recipient", "it, or a passphrase, is needed")),
            (Some(_), Some(_)) => Err(FieldFault::new("recipient", "either it or a passphrase is expected")),
        }
    }
}
