//! Somebody who has logged in.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::UserId;
use crate::clock::Timestamp;

/// Identifies a session. A UUIDv7, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// One row of `sessions`, less the digest of its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    pub id: SessionId,
    pub user: UserId,
    /// Whether a code was shown beside the password.
    pub is_multi_factor: bool,
    /// From where it began.
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub created_at: Timestamp,
    /// To the minute.
    pub last_seen_at: Timestamp,
    /// However much it is used.
    pub expires_at: Timestamp,
}

// === impl SessionId ===

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
