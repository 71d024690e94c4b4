//! `[control]`: the control plane.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::identity::{is_claim, is_safe_url};
use super::text::One;
use super::{JwtAlgorithm, Secret};
use crate::domain::{Role, RoleName, TenantRef};

/// The control plane: REST API and console.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// Where people reach the admin address, for example `https://console.example.com`. With https, browsers send
    /// sessions' cookies by nothing else.
    pub url: Option<String>,
    /// The bearer token of the platform's owner: at least 32 characters. Absent: made on the first start and
    /// printed once.
    pub platform_token: Option<Secret>,
    /// What tenants' secrets are encrypted with, the same on all gateways. The highest version encrypts; keep the
    /// others until `tollgate settings rotate` has run. Absent: a key is made and kept in the data directory.
    pub secret_keys: Vec<SecretKeyConfig>,
    pub audit: AuditConfig,
    pub sessions: SessionsConfig,
    /// A provider that people log in at. Absent: only passwords.
    pub oidc: Option<OidcConfig>,
}

/// An OpenID provider that people log in at: GET /api/sessions/oidc sends them there. Needs `control.url`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["issuer", "client_id", "roles"]))]
pub struct OidcConfig {
    /// As its description at `/.well-known/openid-configuration` says it.
    pub issuer: String,
    pub client_id: String,
    /// Absent: a public client.
    pub client_secret: Option<Secret>,
    pub scopes: Vec<String>,
    /// The claim of the ID token with the groups of who logs in; a JSON pointer when it starts with `/`.
    pub groups_claim: String,
    /// Accepted signatures of ID tokens.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Whether the provider asks everybody for more than a password, also where its tokens do not say so (`amr`).
    pub multi_factor: bool,
    /// PEM file of the authorities that are trusted to vouch for the provider. Absent: the system's.
    pub ca: Option<PathBuf>,
    /// Which group has which role. Where two say something of the same tenant, the first counts; who is in none of
    /// those that are named for a tenant is no member of it.
    pub roles: Vec<GroupRoleConfig>,
}

/// The role of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRoleConfig {
    pub group: String,
    /// `platform_owner` or `platform_support`; with a tenant, one of its roles.
    pub role: String,
    /// The tenant's id or slug.
    pub tenant: Option<String>,
}

/// What attests the audit log, and how long it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The Ed25519 private key that signs checkpoints and exports, the same on all gateways: PKCS #8 PEM, or its 32 bytes
    /// in base64 or hexadecimal. Absent: a key is made and kept in the data directory.
    pub key: Option<Secret>,
    /// Public keys whose signatures are believed as well: of keys that were exchanged, and of installations whose
    /// exports are imported here. The `x` of their JWK, as `/.well-known/jwks.json` shows it.
    pub trusted_keys: Vec<String>,
    /// Where signed checkpoints are appended: a file, or a directory that gets a file per day. It should be out of reach
    /// for whoever has the database. Absent: a file in the data directory.
    pub checkpoints: Option<PathBuf>,
    /// How often chains that have moved are signed.
    #[serde(with = "One::<Duration>")]
    pub interval: Duration,
    /// How long rows of the log are kept, at least; what is older goes, up to a checkpoint, and leaves a row that says so.
    pub retention_days: u32,
}

/// How long people stay logged in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionsConfig {
    /// Without a request.
    #[serde(with = "One::<Duration>")]
    pub idle: Duration,
    /// Whatever happens.
    #[serde(with = "One::<Duration>")]
    pub absolute: Duration,
}

/// A key-encryption key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretKeyConfig {
    /// Raise it with each new key.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub key: Secret,
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig {
            key: None,
            trusted_keys: Vec::new(),
            checkpoints: None,
            interval: Duration::from_secs(60),
            retention_days: 730,
        }
    }
}

impl AuditConfig {
    fn validate(&self, at: &Check<'_>) {
        let trusted = at.key("trusted_keys");
        for (index, key) in self.trusted_keys.iter().enumerate() {
            let good = BASE64_URL_SAFE_NO_PAD.decode(key).is_ok_and(|bytes| bytes.len() == 32);
            trusted.item(index).ensure(good, "must be 32 bytes in base64url without padding");
        }
        trusted.distinct(&self.trusted_keys);
        at.key("interval").positive(self.interval);
        // The database refuses to prune what is younger.
        at.key("retention_days").within(self.retention_days, 31, 36_500);
    }
}

impl ControlConfig {
    const TOKEN_LENGTH_MIN: usize = 32;

    pub(super) fn validate(&self, at: &Check<'_>) {
        if let Some(token) = &self.platform_token {
            let at = at.key("platform_token");
            at.ensure(token.expose().len() >= Self::TOKEN_LENGTH_MIN, "must have at least 32 characters");
            at.ensure(
                token.expose().bytes().all(|byte| byte.is_ascii_graphic()),
                "must be of printable ASCII",
            );
        }
        self.audit.validate(&at.key("audit"));
        if let Some(url) = &self.url {
            at.key("url")
                .ensure(is_origin(url), "must be https://HOST or http://HOST, with a port or without");
        }
        self.sessions.validate(&at.key("sessions"));
        if let Some(oidc) = &self.oidc {
            at.key("oidc")
                .ensure(self.url.is_some(), "needs `control.url`, where the provider sends people back to");
            oidc.validate(&at.key("oidc"));
        }
        let at = at.key("secret_keys");
        for (index, key) in self.secret_keys.iter().enumerate() {
            at.item(index).key("key").ensure(key.key.is_key(), "must be 64 hexadecimal digits");
            at.item(index).key("version").ensure(key.version > 0, "must be at least 1");
        }
        at.distinct(&self.secret_keys.iter().map(|key| key.version).collect::<Vec<_>>());
    }
}

/// Scheme, host and port, and nothing behind them.
fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    })
}

// === impl SessionsConfig ===

/// OWASP ASVS 4.0.3, 3.3.2, level 2.
impl Default for SessionsConfig {
    fn default() -> Self {
        SessionsConfig { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(12 * 3_600) }
    }
}

impl SessionsConfig {
    /// Last use is noted once a minute.
    const IDLE_MIN: Duration = Duration::from_secs(120);
    const ABSOLUTE_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

    fn validate(&self, at: &Check<'_>) {
        at.key("idle").ensure(self.idle >= Self::IDLE_MIN, "must be at least 2m");
        at.key("idle").ensure(self.idle <= self.absolute, "must be at most `absolute`");
        at.key("absolute").ensure(self.absolute <= Self::ABSOLUTE_MAX, "must be at most 30d");
    }
}

// === impl OidcConfig ===

impl Default for OidcConfig {
    fn default() -> Self {
        OidcConfig {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: None,
            scopes: vec!["openid".to_owned(), "email".to_owned()],
            groups_claim: "groups".to_owned(),
            algorithms: vec![JwtAlgorithm::RS256],
            multi_factor: false,
            ca: None,
            roles: Vec::new(),
        }
    }
}

impl OidcConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("issuer").ensure(is_safe_url(&self.issuer), "must be an https URL");
        at.key("client_id").not_empty(&self.client_id);
        at.key("scopes").ensure(self.scopes.iter().any(|scope| scope == "openid"), "must hold `openid`");
        at.key("groups_claim")
            .ensure(is_claim(&self.groups_claim), "expected a claim's name or a JSON pointer");
        let is_good = !self.algorithms.is_empty() && !self.algorithms.iter().any(|one| one.is_symmetric());
        at.key("algorithms").ensure(is_good, "must be of public keys, for example [\"RS256\"]");
        at.key("roles").ensure(!self.roles.is_empty(), "is missing: without it nobody has a role");
        for (index, role) in self.roles.iter().enumerate() {
            role.validate(&at.key("roles").item(index));
        }
    }
}

// === impl GroupRoleConfig ===

impl GroupRoleConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("group").not_empty(&self.group);
        let Some(tenant) = &self.tenant else {
            let is_platforms = Role::parse(&self.role).is_some_and(Role::is_platforms);
            at.key("role")
                .ensure(is_platforms, "must be platform_owner or platform_support, or have a `tenant`");
            return;
        };
        at.key("tenant").ensure(tenant.parse::<TenantRef>().is_ok(), "expected a tenant's id or slug");
        at.key("role")
            .ensure(self.role.parse::<RoleName>().is_ok(), "expected a role in a tenant, like developer");
    }
}
