//! `[identity]`: how a request says whose it is.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::text::{FromText, HeaderName, Many, Maybe, One};

/// How a request says whose it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Which identities are looked for, in this order. A request that brings two different ones is refused.
    pub order: Vec<IdentityKind>,
    pub api_key: ApiKeyConfig,
    /// Issuers of tokens.
    pub jwt: Vec<JwtConfig>,
    /// How long streams and WebSockets go on whose tenant was suspended, or whose key was revoked, meanwhile.
    #[serde(with = "One::<Duration>")]
    pub suspend_grace: Duration,
}

/// A kind of identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// A key of Tollgate's own: `tg_live_…`, `tg_test_…`.
    ApiKey,
    /// A signed token of an issuer in `[[identity.jwt]]`.
    Jwt,
    /// A client certificate of an authority in `listen.tls.client_ca` whose name a key was made for.
    Certificate,
}

/// API keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiKeyConfig {
    /// Headers that may hold a key. `Authorization: Bearer tg_…` is understood as well.
    #[serde(with = "Many::<HeaderName>")]
    pub headers: Vec<HeaderName>,
    /// Whether keys that another system made, brought along by their SHA-256, are looked for: in `headers` and as
    /// bearer tokens. Whatever stands there is then taken for a key.
    pub imported: bool,
    /// What stored digests of keys depend on besides the key: 64 hexadecimal digits, the same on each gateway.
    /// Absent: made on the first start and kept in the data directory.
    pub pepper: Option<Secret>,
    /// Number of the pepper, stored with each digest. Raise it with each new pepper.
    pub pepper_version: u32,
    /// Peppers that `pepper` has taken the place of. Keys that are stored under them are good, and are stored under
    /// `pepper` when they are used.
    pub old_peppers: Vec<PepperConfig>,
    /// The pepper that will take the place of `pepper`. Before one gateway of a fleet stores keys under it, the others
    /// must know it.
    pub next_pepper: Option<PepperConfig>,
}

/// A pepper with its number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PepperConfig {
    /// What `pepper_version` was, or will be, with it.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub pepper: Secret,
}

/// An issuer of tokens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["issuer", "audiences", "algorithms"]))]
pub struct JwtConfig {
    /// What the claim `iss` must be, to the character.
    pub issuer: String,
    /// One of them must be in the claim `aud`.
    pub audiences: Vec<String>,
    /// Where the keys are: an `https:` URL, or `file:PATH`.
    #[serde(with = "Maybe::<JwksSource>")]
    pub jwks: Option<JwksSource>,
    /// Find the keys through `<issuer>/.well-known/openid-configuration` instead of `jwks`.
    pub discovery: bool,
    /// The key of HS256, HS384 and HS512, instead of `jwks`.
    pub secret: Option<Secret>,
    /// Accepted algorithms. The token's own word never widens them.
    pub algorithms: Vec<JwtAlgorithm>,
    /// The claim that names the tenant (id or slug); a JSON pointer when it starts with `/`.
    pub tenant_claim: String,
    /// The claim that names who calls within the tenant: `x-tenant-subject`.
    pub subject_claim: String,
    /// The claim with the scopes: one text with spaces, or a list.
    pub scope_claim: String,
    /// The claim that `x-tenant-tier` says instead of the tenant's own tier, if a token has it. Limits are the
    /// tenant's in any case.
    pub tier_claim: Option<String>,
    /// Send the token on to upstreams. They could use it in its owner's name, wherever it is accepted.
    pub forward: bool,
    /// PEM file of the authorities that are trusted to vouch for the server of the keys. Absent: the system's.
    pub ca: Option<PathBuf>,
    /// How far clocks may be apart.
    #[serde(with = "One::<Duration>")]
    pub leeway: Duration,
}

/// Where an issuer's keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JwksSource {
    /// `https:`, or `http:` to this machine.
    Url(String),
    File(PathBuf),
}

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    HS256,
    HS384,
    HS512,
}

// === impl IdentityConfig ===

impl Default for IdentityConfig {
    fn default() -> Self {
        IdentityConfig {
            order: vec![IdentityKind::ApiKey, IdentityKind::Jwt],
            api_key: ApiKeyConfig::default(),
            jwt: Vec::new(),
            suspend_grace: Duration::from_secs(10),
        }
    }
}

impl IdentityConfig {
    pub(super) fn validate(&self, at: &Check<'_>) {
        at.key("order")
            .ensure(!self.order.is_empty(), "must name at least one of `api_key`, `jwt`, `certificate`");
        at.key("order").distinct(&self.order);
        self.api_key.validate(&at.key("api_key"));
        for (index, jwt) in self.jwt.iter().enumerate() {
            let at = at.key("jwt").item(index);
            jwt.validate(&at);
            let is_repeated = self.jwt[..index].iter().any(|earlier| earlier.issuer == jwt.issuer);
            at.key("issuer").ensure(!is_repeated, format_args!("`{}` is there already", jwt.issuer));
        }
    }
}

impl std::fmt::Display for IdentityKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            IdentityKind::ApiKey => "api_key",
            IdentityKind::Jwt => "jwt",
            IdentityKind::Certificate => "certificate",
        })
    }
}

// === impl ApiKeyConfig ===

impl Default for ApiKeyConfig {
    fn default() -> Self {
        ApiKeyConfig {
            headers: vec![HeaderName::known("x-api-key")],
            imported: false,
            pepper: None,
            pepper_version: 1,
            old_peppers: Vec::new(),
            next_pepper: None,
        }
    }
}

impl ApiKeyConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("headers").distinct(&self.headers);
        if let Some(pepper) = &self.pepper {
            validate_pepper(pepper, &at.key("pepper"));
        }
        at.key("pepper_version").ensure(self.pepper_version > 0, "must be at least 1");
        self.validate_others(at);
    }

    fn validate_others(&self, at: &Check<'_>) {
        let current = self.pepper_version;
        let olds = at.key("old_peppers");
        for (index, old) in self.old_peppers.iter().enumerate() {
            let at = olds.item(index);
            let is_older = (1..current).contains(&old.version);
            at.key("version").ensure(is_older, "must be at least 1 and below `pepper_version`");
            validate_pepper(&old.pepper, &at.key("pepper"));
        }
        olds.distinct(&self.old_peppers.iter().map(|old| old.version).collect::<Vec<_>>());
        if let Some(next) = &self.next_pepper {
            let at = at.key("next_pepper");
            at.key("version").ensure(next.version > current, "must be above `pepper_version`");
            validate_pepper(&next.pepper, &at.key("pepper"));
        }
        let is_alone = self.old_peppers.is_empty() && self.next_pepper.is_none();
        at.key("pepper").ensure(
            self.pepper.is_some() || is_alone,
            "is missing: the one that was made is version 1, in the file `pepper` of the data directory",
        );
    }
}

fn validate_pepper(pepper: &Secret, at: &Check<'_>) {
    at.ensure(pepper.is_key(), "must be 64 hexadecimal digits: `openssl rand -hex 32` makes one");
}

// === impl JwtConfig ===

impl Default for JwtConfig {
    fn default() -> Self {
        JwtConfig {
            issuer: String::new(),
            audiences: Vec::new(),
            jwks: None,
            discovery: false,
            secret: None,
            algorithms: Vec::new(),
            tenant_claim: "tenant_id".to_owned(),
            subject_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
            tier_claim: None,
            forward: false,
            ca: None,
            leeway: Duration::from_secs(60),
        }
    }
}

impl JwtConfig {
    const LEEWAY_MAX: Duration = Duration::from_secs(300);

    fn validate(&self, at: &Check<'_>) {
        at.key("issuer").ensure(!self.issuer.is_empty(), "is missing: what the claim `iss` must be");
        at.key("audiences").ensure(
            !self.audiences.is_empty(),
            "is missing: without it any token of the issuer, for whatever service, would pass",
        );
        at.key("algorithms").ensure(!self.algorithms.is_empty(), "is missing: for example [\"RS256\"]");
        at.key("algorithms").distinct(&self.algorithms);
        let claims = [
            ("tenant_claim", Some(&self.tenant_claim)),
            ("subject_claim", Some(&self.subject_claim)),
            ("scope_claim", Some(&self.scope_claim)),
            ("tier_claim", self.tier_claim.as_ref()),
        ];
        for (key, claim) in claims {
            at.key(key).ensure(
                claim.is_none_or(|claim| is_claim(claim)),
                "expected a claim's name or a JSON pointer",
            );
        }
        at.key("leeway").ensure(self.leeway <= Self::LEEWAY_MAX, "must be at most 5m");
        self.validate_keys(at);
    }

    /// Exactly one source of keys, and algorithms that fit it: a public key must never serve as an HMAC secret.
    fn validate_keys(&self, at: &Check<'_>) {
        let sources = [self.jwks.is_some(), self.discovery, self.secret.is_some()];
        match sources.into_iter().filter(|is_given| *is_given).count() {
            0 => at.key("jwks").fault("is missing: one of `jwks`, `discovery = true` or `secret`"),
            1 => {}
            _ => at.fault("only one of `jwks`, `discovery` and `secret` may be given"),
        }
        if self.discovery && !is_safe_url(&self.issuer) {
            at.key("discovery").fault("needs an `issuer` that is an https URL");
        }
        for (index, algorithm) in self.algorithms.iter().enumerate() {
            let at = at.key("algorithms").item(index);
            match (algorithm.is_symmetric(), self.secret.is_some()) {
                (true, false) => at.fault(format_args!("{algorithm} needs a `secret`")),
                (false, true) => at.fault(format_args!("{algorithm} can't be checked with a `secret`")),
                (true, true) => self.validate_secret(*algorithm, &at),
                (false, false) => {}
            }
        }
    }

    fn validate_secret(&self, algorithm: JwtAlgorithm, at: &Check<'_>) {
        let (length, least) =
            (self.secret.as_ref().map_or(0, |secret| secret.expose().len()), algorithm.secret_bytes_min());
        at.ensure(length >= least, format_args!("{algorithm} needs a `secret` of at least {least} bytes"));
    }
}

/// A name, or a JSON pointer of RFC 6901, where `~` comes only as `~0` and `~1`.
pub(super) fn is_claim(text: &str) -> bool {
    let escapes = || text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    !text.is_empty() && (!text.starts_with('/') || escapes())
}

/// TLS, or this machine; and nothing that could be mistaken for a host.
pub(super) fn is_safe_url(url: &str) -> bool {
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['@', '\\', '#']) {
        return false;
    }
    let host = |rest: &str| rest.split(['/', ':', '?']).next().unwrap_or_default().to_owned();
    match url.split_once("://") {
        Some(("https", rest)) => !host(rest).is_empty(),
        Some(("http", rest)) => ["localhost", "127.0.0.1"].contains(&&*host(rest)),
        _ => false,
    }
}

// === impl JwtAlgorithm ===

impl JwtAlgorithm {
    /// Whether one secret both signs and verifies.
    pub const fn is_symmetric(self) -> bool {
        self.secret_bytes_min() > 0
    }

    /// A secret must be as long as the hash (RFC 7518, section 3.2); 0 where there is none.
    const fn secret_bytes_min(self) -> usize {
        match self {
            JwtAlgorithm::HS256 => 32,
            JwtAlgorithm::HS384 => 48,
            JwtAlgorithm::HS512 => 64,
            _ => 0,
        }
    }
}

impl std::fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The names of the variants are the names of the RFCs.
        write!(f, "{self:?}")
    }
}

// === impl JwksSource ===

impl FromText for JwksSource {
    const NAME: &'static str = "JwksSource";
    const EXPECTED: &'static str = "an https URL or \"file:PATH\"";
    /// `file:` names the file that is watched; it does not stand for what the file holds.
    const IS_VERBATIM: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix("file:") {
            Some("") => None,
            Some(path) => Some(JwksSource::File(path.into())),
            None => is_safe_url(text).then(|| JwksSource::Url(text.to_owned())),
        }
    }

    fn to_text(&self) -> String {
        match self {
            JwksSource::Url(url) => url.clone(),
            JwksSource::File(path) => format!("file:{}", path.display()),
        }
    }
}
