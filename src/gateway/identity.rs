//! The second door: whose request it is.
//!
//! Only this file makes a [`Caller`]. What the client presents is read from the head once, without a look-up; junk
//! with a wrong checksum is refused there.

use std::sync::Arc;

use super::refusal::{Refusal, Shortage, Unauthenticated};
use crate::clock::Timestamp;
use crate::directory::{Directory, Entitlements, Lookup, LookupFailed};
use crate::listener::http1::Head;
use crate::secret::hash::{KeyDigest, KeyText, Pepper};

/// Where keys are looked for.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Header names, lower case. `Authorization: Bearer tg_…` is understood as well.
    pub headers: Vec<String>,
}

/// A recognized caller: proof that somebody's key was presented. Whether it may pass is `policy`'s to say.
#[derive(Debug)]
pub(super) struct Caller {
    entitlements: Arc<Entitlements>,
}

/// What a head presents.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Presented {
    Nobody,
    Key(KeyDigest),
}

// === impl Caller ===

impl Caller {
    pub(super) fn entitlements(&self) -> &Entitlements {
        &self.entitlements
    }
}

// === impl Presented ===

impl Presented {
    /// Reads what the head presents; [`Presented::Nobody`] if it presents nothing.
    pub(super) fn read(
        head: &Head<'_>,
        settings: &IdentitySettings,
        pepper: &Pepper,
    ) -> Result<Presented, Unauthenticated> {
        let mut text: Option<&[u8]> = None;
        for line in head.lines {
            let Some(presented) = settings.credential(line.name, line.value) else { continue };
            match text {
                // The same key twice is one identity.
                Some(before) if before != presented => return Err(Unauthenticated::Ambiguous),
                _ => text = Some(presented),
            }
        }
        let Some(text) = text else { return Ok(Presented::Nobody) };
        KeyText::parse(text).ok_or(Unauthenticated::Malformed)?;
        Ok(Presented::Key(pepper.digest(text)))
    }

    /// The caller behind it. Ready at once when cached.
    ///
    /// Dropping the future leaves a look-up that has begun to finish for others.
    pub(super) async fn resolve(
        &self,
        directory: &Arc<Directory>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let Presented::Key(digest) = self else {
            return Err(Refusal::Unauthenticated(Unauthenticated::Missing));
        };
        let lookup = match directory.cached(digest, now) {
            Some(lookup) => lookup,
            None => directory.load(*digest).await.map_err(|error| short(&error))?,
        };
        match lookup {
            Lookup::Known(entitlements) => Ok(Caller { entitlements }),
            Lookup::Unknown => Err(Refusal::Unauthenticated(Unauthenticated::Unknown)),
        }
    }
}

fn short(error: &LookupFailed) -> Refusal {
    tracing::warn!(error = %error, "a key could not be looked up: {error}");
    Refusal::ReducedCapacity(match error {
        LookupFailed::Store(_) | LookupFailed::Busy => Shortage::Directory,
        LookupFailed::Till(_) => Shortage::Till,
    })
}

// === impl IdentitySettings ===

impl IdentitySettings {
    /// The key's text if this line presents one. Such a line is never forwarded.
    pub(super) fn credential<'v>(&self, name: &str, value: &'v [u8]) -> Option<&'v [u8]> {
        if name.len() == "authorization".len() && name.eq_ignore_ascii_case("authorization") {
            return bearer(value).filter(|token| token.starts_with(b"tg_"));
        }
        self.headers.iter().any(|header| name.eq_ignore_ascii_case(header)).then_some(value)
    }
}

/// Whether a line's value is a key of ours, bare or as a token.
pub(super) fn is_key(value: &[u8]) -> bool {
    let text = bearer(value).unwrap_or(value);
    text.starts_with(b"tg_live_") || text.starts_with(b"tg_test_")
}

/// The token of a `Bearer` authorization; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}
