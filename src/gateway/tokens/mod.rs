//! Callers by token: which issuers are trusted, and which tokens were verified before.
//!
//! The verdict on a token is [`secret::jwt`](crate::secret::jwt)'s; this room has the keys at hand and remembers
//! verdicts. A signature costs tens of microseconds, so a good token is remembered until it expires, or until its
//! issuer publishes other keys. Refusals are not remembered: whoever sends junk can send other junk.
//!
//! # Why a token is remembered by its whole text
//! A cache that lets callers in must not be fooled by two texts with one hash. A cryptographic hash of a kilobyte
//! costs more than everything else that a warm request does; a keyed, quick one finds the place, and comparing the
//! text settles it. What it takes is memory, which is bounded in bytes.

mod fetch;
mod issuer;

use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use moka::sync::Cache;
use prometheus::Registry;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::headers::percent_encoded;
use crate::clock::{Clock, Timestamp};
use crate::directory::Subject;
use crate::domain::TenantRef;
use crate::secret::jwt::{BadToken, Claims, Token};
use issuer::{Generation, Issuer, IssuerMetrics};

pub use issuer::{BadIssuer, IssuerSettings, KeySource};

/// Bytes of remembered tokens, with what was made of them.
const REMEMBERED_BYTES_MAX: u64 = 64 << 20;

/// A remembered token is verified again after this long, lest it outlive keys that could not be renewed for a day.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// What a remembered token takes beside its text, about.
const REMEMBERED_BESIDE: usize = 512;

/// The issuers of tokens, and the tokens that were verified. Shared by all workers.
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    verified: Cache<Box<[u8]>, Arc<Verified>, RandomState>,
    /// What header lines about the tenant begin with.
    header_prefix: String,
}

/// A caller that somebody else vouches for: proof that a trusted issuer signed its token.
pub struct Verified {
    /// The tenant that it belongs to.
    pub(super) tenant: Subject,
    pub(super) subject: Option<String>,
    pub(super) scopes: Vec<String>,
    /// Header lines for the upstream, each with its CR LF: subject and scopes.
    pub(super) lines: Box<[u8]>,
    /// The tier's header line, if the token says one.
    pub(super) tier_line: Option<Box<[u8]>>,
    /// The `Authorization` line, if the issuer's tokens are passed on.
    pub(super) authorization: Option<Box<[u8]>>,
    /// Stands for the issuer's subject where requests are counted per caller.
    pub(super) rate_owner: Uuid,
    remembered_until: Timestamp,
    /// The issuer's keys that verified it.
    generation: Generation,
}

/// Why a token makes nobody a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejected {
    Bad(BadToken),
    /// Its issuer's keys are not to be had: not the caller's fault.
    NoKeys,
}

// === impl Tokens ===

impl Tokens {
    /// # Errors
    /// [`BadIssuer`] for keys that can't work.
    pub fn new(
        issuers: Vec<IssuerSettings>,
        header_prefix: String,
        clock: &Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Tokens, BadIssuer> {
        let metrics = IssuerMetrics::register(registry);
        let issuers = issuers
            .into_iter()
            .map(|settings| Issuer::new(settings, &metrics, clock.clone()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let verified = Cache::<Box<[u8]>, Arc<Verified>>::builder()
            .max_capacity(REMEMBERED_BYTES_MAX)
            .weigher(|text, _| weight(text))
            .build_with_hasher(RandomState::default());
        Ok(Tokens { issuers, verified, header_prefix })
    }

    /// Whether any issuer is trusted.
    pub(super) fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// Keeps the issuers' keys new. Runs until it is dropped.
    pub async fn follow(self: Arc<Self>) {
        let mut following = JoinSet::new();
        for issuer in &self.issuers {
            let issuer = issuer.clone();
            following.spawn(async move { issuer.follow().await });
        }
        while following.join_next().await.is_some() {}
    }

    /// The caller of a token that was verified before and still holds at `now`. Neither waits nor allocates.
    pub fn known(&self, text: &[u8], now: Timestamp) -> Option<Arc<Verified>> {
        let verified = self.verified.get(text)?;
        (now < verified.remembered_until && verified.generation.is_current()).then_some(verified)
    }

    /// Forgets the tokens that were verified: each is verified again when it comes again.
    pub fn shrink(&self) {
        self.verified.invalidate_all();
        self.verified.run_pending_tasks();
    }

    /// Verifies a token. Waits only for keys: when its issuer may have new ones, they are asked for once, for all
    /// who wait, and at most twice a minute.
    ///
    /// Dropping the future leaves a question for keys that has begun to be answered for others.
    ///
    /// # Errors
    /// [`Rejected`]
    pub async fn verify(&self, text: &[u8], now: Timestamp) -> Result<Arc<Verified>, Rejected> {
        let token = Token::read(text).map_err(Rejected::Bad)?;
        let named = token.issuer().unwrap_or_default();
        let issuer = self.issuers.iter().find(|issuer| issuer.is_named(named));
        let issuer = issuer.ok_or(Rejected::Bad(BadToken::Issuer))?;
        let mut checked = issuer.check(&token, now);
        let is_worth_asking = matches!(checked, Err(Rejected::NoKeys | Rejected::Bad(BadToken::Key)));
        if is_worth_asking && issuer.renewed().await {
            checked = issuer.check(&token, now);
        }
        let (claims, generation) = checked?;
        let mut verified = self.caller(issuer, text, claims, generation)?;
        verified.remembered_until = verified.remembered_until.min(now.plus(REMEMBERED_FOR));
        let verified = Arc::new(verified);
        self.verified.insert(text.into(), verified.clone());
        Ok(verified)
    }

    fn caller(
        &self,
        issuer: &Issuer,
        text: &[u8],
        claims: Claims,
        generation: Generation,
    ) -> Result<Verified, Rejected> {
        let tenant: TenantRef = claims.tenant.parse().map_err(|()| Rejected::Bad(BadToken::Claim))?;
        let prefix = &self.header_prefix;
        let mut lines = String::new();
        if let Some(subject) = &claims.subject {
            lines.push_str(&format!("{prefix}subject: {}\r\n", percent_encoded(subject)));
        }
        if !claims.scopes.is_empty() {
            lines.push_str(&format!("{prefix}scopes: {}\r\n", claims.scopes.join(" ")));
        }
        let tier_line =
            claims.tier.as_deref().map(|tier| format!("{prefix}tier: {}\r\n", percent_encoded(tier)));
        let authorization = [b"authorization: Bearer ", text, b"\r\n"].concat();
        Ok(Verified {
            tenant: Subject::Tenant(tenant),
            rate_owner: rate_owner(issuer.name(), claims.subject.as_deref().unwrap_or(&claims.tenant)),
            subject: claims.subject,
            scopes: claims.scopes,
            lines: lines.into_bytes().into(),
            tier_line: tier_line.map(|line| line.into_bytes().into()),
            authorization: issuer.is_passed_on().then_some(authorization.into()),
            remembered_until: claims.expires_at,
            generation,
        })
    }
}

// === impl Verified ===

/// Without the token, which lets in whoever has it.
impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// Bytes that remembering a token takes.
fn weight(text: &[u8]) -> u32 {
    u32::try_from(text.len() + REMEMBERED_BESIDE).unwrap_or(u32::MAX)
}

/// Who is counted as one caller.
fn rate_owner(issuer: &str, subject: &str) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(issuer.as_bytes());
    // No issuer has a line's end in its name, so the pair can be told apart.
    hash.update(b"\n");
    hash.update(subject.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    Uuid::from_slice(&digest[..16]).unwrap_or_default()
}
