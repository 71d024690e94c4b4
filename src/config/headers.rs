//! `[headers]`: what upstreams and clients are told.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;
use super::text::{HeaderName, One};

/// What upstreams and clients are told in headers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersConfig {
    /// Begin of the headers that tell the upstream about the tenant: `x-tenant-id`, `x-tenant-tier`, …
    /// Whatever a client sends under it is dropped.
    #[serde(with = "One::<HeaderName>")]
    pub tenant_prefix: HeaderName,
    /// How clients are told what is left. Empty: not at all.
    pub dialects: Vec<Dialect>,
    /// Absent: requests to the upstream are not signed.
    pub sign: Option<SignConfig>,
}

/// A way to tell clients what is left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10.
    #[serde(rename = "draft-10")]
    Draft10,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining`, `X-RateLimit-Reset`.
    Legacy,
}

/// The signature that proves to upstreams that a request came through the gate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["key"]))]
pub struct SignConfig {
    /// An Ed25519 private key: PKCS #8 PEM, or its 32 bytes in base64.
    pub key: Secret,
    /// For how long a signature is good.
    #[serde(with = "One::<Duration>")]
    pub lifetime: Duration,
}

// === impl HeadersConfig ===

impl Default for HeadersConfig {
    fn default() -> Self {
        HeadersConfig {
            tenant_prefix: HeaderName::known("x-tenant-"),
            dialects: vec![Dialect::Draft10, Dialect::Legacy],
            sign: None,
        }
    }
}

impl HeadersConfig {
    /// Headers that a request can't do without: a prefix that covers one would drop it.
    const NEEDED: [&str; 6] =
        ["host", "content-length", "content-type", "x-request-id", "x-forwarded-for", "traceparent"];

    pub(super) fn validate(&self, at: &Check<'_>) {
        let prefix = self.tenant_prefix.as_str();
        at.key("tenant_prefix").ensure(prefix.ends_with('-'), "must end with `-`");
        if let Some(covered) = Self::NEEDED.into_iter().find(|needed| needed.starts_with(prefix)) {
            at.key("tenant_prefix").fault(format_args!("covers `{covered}`, which would be dropped"));
        }
        at.key("dialects").distinct(&self.dialects);
        if let Some(sign) = &self.sign {
            at.key("sign")
                .key("key")
                .ensure(!sign.key.expose().is_empty(), "is missing: an Ed25519 private key");
            at.key("sign").key("lifetime").positive(sign.lifetime);
        }
    }
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dialect::Draft10 => "draft-10",
            Dialect::Legacy => "legacy",
        })
    }
}

// === impl SignConfig ===

impl Default for SignConfig {
    fn default() -> Self {
        SignConfig { key: Secret::default(), lifetime: Duration::from_secs(30) }
    }
}
