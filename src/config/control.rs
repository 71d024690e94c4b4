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
    }
}
