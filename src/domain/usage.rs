//! What was used: the value that the data plane writes to the journal and the flush brings to the database.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{AccountKey, ApiKeyId, TenantId, Units};
use crate::clock::Timestamp;

/// Identifies one request. A UUIDv7: its first 48 bits are the milliseconds of the admission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

/// How an admitted request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The upstream's whole answer was passed on, whatever its status.
    Answered,
    /// The client went away before the answer's end, or was sent away.
    ClientGone,
    /// The upstream broke off, before or in the middle of its answer.
    UpstreamBroke,
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The gateway died while the request was with the upstream.
    Crashed,
    /// No request of a client: usage that was reported through the API.
    Reported,
}

/// What one admitted request used. One record of the journal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UsageRecord<'a> {
    pub request: RequestId,
    pub tenant: TenantId,
    /// `None` when the caller had no API key (tokens).
    pub key: Option<ApiKeyId>,
    /// Name of the route; at most [`UsageRecord::ROUTE_LENGTH_MAX`] bytes.
    pub route: &'a str,
    /// At most [`UsageRecord::CHARGES_MAX`].
    pub charges: &'a [RecordedCharge],
    pub outcome: Outcome,
    /// HTTP status that the client was sent; 0 if none.
    pub status: u16,
    /// Body bytes from the client to the upstream.
    pub bytes_in: u64,
    /// Body bytes from the upstream to the client.
    pub bytes_out: u64,
    /// From the head's last byte in to the answer's last byte out, in microseconds.
    pub latency_micros: u32,
    pub admitted_at: Timestamp,
}

/// What a request took from one account, after refunds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordedCharge {
    pub account: AccountKey,
    /// All units, those above the limit included.
    pub units: Units,
    /// How many of `units` were above the limit of a soft or monitored quota.
    pub overage: Units,
}

// === impl RequestId ===

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Outcome ===

impl Outcome {
    pub const ALL: [Outcome; 6] = [
        Outcome::Answered,
        Outcome::ClientGone,
        Outcome::UpstreamBroke,
        Outcome::UpstreamTimeout,
        Outcome::Crashed,
        Outcome::Reported,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::ClientGone => "client_gone",
            Outcome::UpstreamBroke => "upstream_broke",
            Outcome::UpstreamTimeout => "upstream_timeout",
            Outcome::Crashed => "crashed",
            Outcome::Reported => "reported",
        }
    }

    /// A stable number for files: never renumbered.
    pub const fn code(self) -> u8 {
        match self {
            Outcome::Answered => 1,
            Outcome::ClientGone => 2,
            Outcome::UpstreamBroke => 3,
            Outcome::UpstreamTimeout => 4,
            Outcome::Crashed => 5,
            Outcome::Reported => 6,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Outcome::ALL.into_iter().find(|outcome| outcome.code() == code)
    }
}

// === impl UsageRecord ===

impl UsageRecord<'_> {
    pub const CHARGES_MAX: usize = 8;
    pub const ROUTE_LENGTH_MAX: usize = 63;
}
