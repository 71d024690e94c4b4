//! The second door: whose request it is.
//!
//! Only this file makes a [`Caller`]. What the client presents is read from the head once; what is known of it in
//! memory is found there, and junk with a wrong checksum is refused there. Only what has to be asked for waits. A token
//! that was verified before costs as little as a key.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::headers::Peer;
use super::refusal::{Refusal, Shortage, Unauthenticated};
use super::regulars::Regulars;
use super::route::RatePer;
use super::strangers::Strangers;
use super::tokens::{Rejected, Tokens, Verified};
use crate::clock::Timestamp;
use crate::directory::{Directory, Entitlements, Lookup, LookupFailed, Subject};
use crate::listener::Buffer;
use crate::listener::http1::Head;
use crate::secret::hash::{ForeignDigest, KeyText, Peppers};
use crate::secret::jwt::Token;

/// Where identities are looked for.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// Header names, lower case. `Authorization: Bearer tg_…` is understood as well.
    pub headers: Vec<String>,
    /// Whether keys that another system made are looked for too: in these headers, and as bearer tokens.
    pub imported_keys: bool,
    /// How long streams go on whose tenant was suspended, or whose key was revoked, meanwhile.
    pub suspend_grace: Duration,
}

/// Which identities a route looks for. What it does not look for is the upstream's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentityKinds {
    pub api_key: bool,
    pub jwt: bool,
    /// A client certificate, which comes with the connection and not with a head.
    pub certificate: bool,
}

/// A route's way to look for identities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lookout<'s> {
    pub(super) settings: &'s IdentitySettings,
    pub(super) kinds: IdentityKinds,
}

/// A line's value that says who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Credential<'v> {
    Key(&'v [u8]),
    Token(&'v [u8]),
}

/// A recognized caller: proof that somebody's key or token was presented. Whether it may pass is `policy`'s to say.
#[derive(Debug)]
pub(super) struct Caller {
    entitlements: Arc<Entitlements>,
    token: Option<Arc<Verified>>,
}

/// Where callers are looked up.
#[derive(Clone, Copy)]
pub(super) struct Registers<'r> {
    pub(super) directory: &'r Arc<Directory>,
    pub(super) tokens: &'r Tokens,
    pub(super) strangers: &'r Strangers,
    pub(super) peppers: &'r Peppers,
    pub(super) regulars: &'r Regulars,
}

/// What a head presents.
pub(super) enum Presented {
    Nobody,
    /// A key or a certificate, and whose it is if that is known.
    Key {
        subject: Subject,
        known: Option<Arc<Entitlements>>,
    },
    /// A token that was verified before.
    Known(Arc<Verified>),
    /// A token that was not.
    Token(Box<[u8]>),
}

// === impl Caller ===

impl Caller {
    pub(super) fn entitlements(&self) -> &Entitlements {
        &self.entitlements
    }

    pub(super) fn into_entitlements(self) -> Arc<Entitlements> {
        self.entitlements
    }

    async fn by_token(
        registers: Registers<'_>,
        verified: Arc<Verified>,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let entitlements = registers.entitlements(&verified.tenant, now).await?;
        Ok(Caller { entitlements, token: Some(verified) })
    }

    /// Whether the key or the token has each of `scopes`.
    pub(super) fn has_scopes(&self, scopes: &[String]) -> bool {
        let own = self.token.as_ref().map_or(self.entitlements.scopes(), |token| &token.scopes);
        scopes.iter().all(|scope| own.contains(scope))
    }

    /// Who calls within the tenant, as a token says it.
    pub(super) fn subject(&self) -> Option<&str> {
        self.token.as_ref()?.subject.as_deref()
    }

    /// Whose requests are counted together with this one.
    pub(super) fn rate_owner(&self, per: RatePer) -> Uuid {
        let tenant = self.entitlements.tenant().0;
        match (per, &self.token) {
            (RatePer::Tenant, _) => tenant,
            (RatePer::Key, Some(token)) => token.rate_owner,
            (RatePer::Key, None) => self.entitlements.key().map_or(tenant, |key| key.0),
        }
    }

    /// Header lines that tell the upstream who calls.
    pub(super) fn push_lines(&self, out: &mut Buffer) {
        out.push(self.entitlements.upstream_lines());
        let Some(token) = &self.token else {
            out.push(self.entitlements.tier_line());
            return;
        };
        out.push(token.tier_line.as_deref().unwrap_or(self.entitlements.tier_line()));
        out.push(&token.lines);
        if let Some(authorization) = &token.authorization {
            out.push(authorization);
        }
    }
}

// === impl Presented ===

impl Presented {
    /// Reads what the head presents, and what the connection does; [`Presented::Nobody`] if neither presents
    /// anything.
    ///
    /// # Errors
    /// [`Unauthenticated`] for what can't be anybody, and for two different identities: a key and a token, or a
    /// certificate, are two, whoever they belong to.
    pub(super) fn read(
        head: &Head<'_>,
        peer: &Peer,
        lookout: Lookout<'_>,
        registers: Registers<'_>,
        now: Timestamp,
    ) -> Result<Presented, Unauthenticated> {
        let certificate = peer.certificate.as_ref().filter(|_| lookout.kinds.certificate);
        match lookout.find(head)? {
            Some(_) if certificate.is_some() => Err(Unauthenticated::Ambiguous),
            None => Ok(match certificate {
                Some(digests) => registers.presented(Subject::Key(digests.clone()), now),
                None => Presented::Nobody,
            }),
            Some(Credential::Key(text)) => {
                lookout.settings.key(text, registers, now).ok_or(Unauthenticated::Malformed)
            }
            Some(Credential::Token(text)) => Ok(match registers.tokens.known(text, now) {
                Some(verified) => Presented::Known(verified),
                None => Presented::Token(text.into()),
            }),
        }
    }

    /// The caller behind it. Ready at once when cached.
    ///
    /// Dropping the future leaves a look-up that has begun to finish for others.
    pub(super) async fn resolve(
        &self,
        registers: Registers<'_>,
        client: IpAddr,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        match self {
            Presented::Nobody => Err(Refusal::Unauthenticated(Unauthenticated::Missing)),
            // What was known may have changed since, where a stream asks again.
            Presented::Key { known: Some(known), .. } if known.holds(now) => {
                Ok(Caller { entitlements: known.clone(), token: None })
            }
            Presented::Key { subject, .. } => {
                Ok(Caller { entitlements: registers.key(subject, client, now).await?, token: None })
            }
            Presented::Known(verified) => Caller::by_token(registers, verified.clone(), now).await,
            Presented::Token(text) => {
                let verified = registers.tokens.verify(text, now).await.map_err(rejected)?;
                Caller::by_token(registers, verified, now).await
            }
        }
    }
}

/// Without the token, which lets in whoever has it.
impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Presented::Nobody => f.write_str("Nobody"),
            Presented::Key { subject, .. } => f.debug_tuple("Key").field(subject).finish(),
            Presented::Known(verified) => f.debug_tuple("Known").field(verified).finish(),
            Presented::Token(_) => f.write_str("Token(***)"),
        }
    }
}

// === impl Registers ===

impl Registers<'_> {
    fn presented(&self, subject: Subject, now: Timestamp) -> Presented {
        let known = self.known(&subject, now);
        Presented::Key { subject, known }
    }

    fn known(&self, subject: &Subject, now: Timestamp) -> Option<Arc<Entitlements>> {
        match self.directory.cached(subject, now) {
            Some(Lookup::Known(entitlements)) => Some(entitlements),
            Some(Lookup::Unknown) | None => None,
        }
    }

    /// What a key stands for. Sources of keys that are nobody's have to wait, except with keys that are known.
    async fn key(&self, key: &Subject, client: IpAddr, now: Timestamp) -> Result<Arc<Entitlements>, Refusal> {
        let cached = self.directory.cached(key, now);
        if let Some(Lookup::Known(entitlements)) = cached {
            return Ok(entitlements);
        }
        if !self.directory.remembers(key) {
            self.strangers.admit(client).map_err(|wait| Refusal::Strange { wait })?;
        }
        let found = self.looked_up(key, cached).await;
        if matches!(found, Err(Refusal::Unauthenticated(Unauthenticated::Unknown))) {
            self.strangers.note(client);
        }
        found
    }

    async fn entitlements(&self, subject: &Subject, now: Timestamp) -> Result<Arc<Entitlements>, Refusal> {
        self.looked_up(subject, self.directory.cached(subject, now)).await
    }

    /// What is cached, or else what the store says.
    async fn looked_up(
        &self,
        subject: &Subject,
        cached: Option<Lookup>,
    ) -> Result<Arc<Entitlements>, Refusal> {
        let lookup = match cached {
            Some(lookup) => lookup,
            None => self.directory.load(subject.clone()).await.map_err(|error| short(&error))?,
        };
        match lookup {
            Lookup::Known(entitlements) => Ok(entitlements),
            Lookup::Unknown => Err(Refusal::Unauthenticated(Unauthenticated::Unknown)),
        }
    }
}

fn short(error: &LookupFailed) -> Refusal {
    tracing::warn!(error = %error, "a caller could not be looked up: {error}");
    Refusal::ReducedCapacity(match error {
        LookupFailed::Store(_) | LookupFailed::Busy => Shortage::Directory,
        LookupFailed::Till(_) => Shortage::Till,
    })
}

fn rejected(rejected: Rejected) -> Refusal {
    match rejected {
        Rejected::Bad(fault) => Refusal::Unauthenticated(Unauthenticated::Token(fault)),
        Rejected::NoKeys => Refusal::ReducedCapacity(Shortage::Issuer),
    }
}

// === impl Lookout ===

impl Lookout<'_> {
    /// What this line says of who calls. Such a line is never forwarded as it is.
    pub(super) fn credential<'v>(&self, name: &str, value: &'v [u8]) -> Option<Credential<'v>> {
        if name.len() == "authorization".len() && name.eq_ignore_ascii_case("authorization") {
            let text = bearer(value)?;
            if text.starts_with(b"tg_") {
                return self.kinds.api_key.then_some(Credential::Key(text));
            }
            if self.kinds.jwt && Token::is_shaped_like_one(text) {
                return Some(Credential::Token(text));
            }
            let is_foreign = self.kinds.api_key && self.settings.imported_keys;
            return is_foreign.then_some(Credential::Key(text));
        }
        let is_ours = self.kinds.api_key && self.settings.is_ours(name);
        is_ours.then_some(Credential::Key(value))
    }

    /// Whether the line is kept from the upstream: what says who calls, and a key of ours that nobody asked for.
    pub(super) fn keeps(&self, name: &str, value: &[u8]) -> bool {
        self.credential(name, value).is_some() || (!self.kinds.api_key && is_key(value))
    }

    /// The one identity that the head presents. The same twice is one.
    fn find<'h>(&self, head: &Head<'h>) -> Result<Option<Credential<'h>>, Unauthenticated> {
        let mut found = None;
        for line in head.lines {
            let Some(credential) = self.credential(line.name, line.value) else { continue };
            if found.is_some_and(|before| before != credential) {
                return Err(Unauthenticated::Ambiguous);
            }
            found = Some(credential);
        }
        Ok(found)
    }
}

// === impl IdentitySettings ===

impl IdentitySettings {
    fn is_ours(&self, name: &str) -> bool {
        // Most clients write it as it is set, and then it need not be compared letter by letter.
        self.headers.iter().any(|header| name == header || name.eq_ignore_ascii_case(header))
    }

    /// By what a key is looked up, and whose it is if that is known; `None` for what can't be anybody's.
    fn key(&self, text: &[u8], registers: Registers<'_>, now: Timestamp) -> Option<Presented> {
        let Registers { peppers, regulars, .. } = registers;
        if let Some((subject, known)) = regulars.find(text, now) {
            return Some(Presented::Key { subject, known: Some(known) });
        }
        if !text.starts_with(b"tg_") && self.imported_keys {
            let foreign = ForeignDigest::of(text)?;
            return Some(registers.presented(Subject::Key(peppers.digests_of_foreign(foreign)), now));
        }
        let key = KeyText::parse(text)?;
        let subject = Subject::Key(peppers.digests(key.as_bytes()));
        let known = registers.known(&subject, now);
        if let Some(known) = &known {
            regulars.remember(key, subject.clone(), known.clone());
        }
        Some(Presented::Key { subject, known })
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
