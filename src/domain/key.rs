//! API keys, as everything but the moment of their making knows them: without the secret.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::TenantId;
use crate::clock::Timestamp;

/// Identifies an API key in the database, the journal and `x-tenant-key-id`. A UUIDv7, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct ApiKeyId(pub Uuid);

/// One row of `api_keys`, less the digest of its secret.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub tenant: TenantId,
    pub name: String,
    /// The first part of the key's text, `tg_live_` and ten characters: what people recognize a key by.
    pub prefix: String,
    pub limits: KeyLimits,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    /// Raised by every change of it: an `ETag`.
    pub version: i64,
}

/// What a key may be used for. Empty lists allow everything.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    pub scopes: Vec<String>,
    /// Names of routes.
    pub routes: Vec<String>,
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<IpNet>,
    pub expires_at: Option<Timestamp>,
}

// === impl ApiKeyId ===

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl ApiKey ===

impl ApiKey {
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.enabled && self.revoked_at.is_none() && self.limits.expires_at.is_none_or(|end| now < end)
    }
}
