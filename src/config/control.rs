//! `[control]`: the control plane.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::check::Check;

/// The control plane: REST API and console.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// The bearer token of the platform's owner: at least 32 characters. Absent: made on the first start and
    /// printed once.
    pub platform_token: Option<Secret>,
    /// What tenants' secrets are encrypted with, the same on all gateways. The highest version encrypts; keep the
    /// others until `tollgate settings rotate` has run. Absent: a key is made and kept in the data directory.
    pub secret_keys: Vec<SecretKeyConfig>,
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
        let at = at.key("secret_keys");
        for (index, key) in self.secret_keys.iter().enumerate() {
            let text = key.key.expose();
            let good = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            at.item(index).key("key").ensure(good, "must be 64 hexadecimal digits");
            at.item(index).key("version").ensure(key.version > 0, "must be at least 1");
        }
        at.distinct(&self.secret_keys.iter().map(|key| key.version).collect::<Vec<_>>());
    }
}
