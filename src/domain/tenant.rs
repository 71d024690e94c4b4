//! Who uses the API.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Anchor, Zone};
use crate::clock::Timestamp;

/// Identifies a tenant. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct TenantId(pub Uuid);

/// A tenant's name in URLs and on the command line; unique, for example `acme`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(max_length = 63, pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$")]
pub struct Slug(String);

/// How people name a tenant: by its id or its slug.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TenantRef {
    Id(TenantId),
    Slug(Slug),
}

/// Where a tenant stands. Text in SQL and JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TenantStatus {
    Trial,
    Active,
    PastDue,
    Suspended,
    Cancelled,
    Deleted,
}

/// A status change that the status machine does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a tenant that is {from} can't become {to}; from {from} it may become {}", .from.moves_text())]
pub struct IllegalMove {
    pub from: TenantStatus,
    pub to: TenantStatus,
}

/// An organization that uses the API: one row of `organizations`.
#[derive(Clone, PartialEq, Debug)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub slug: Slug,
    pub status: TenantStatus,
    pub tier: String,
    pub tier_version: i64,
    /// The reseller above it.
    pub parent: Option<TenantId>,
    pub billing_email: Option<String>,
    pub contact_phone: Option<String>,
    pub timezone: Zone,
    pub locale: String,
    /// The start of the subscription: months are counted from its day.
    pub anchor: Anchor,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Raised by every change of the tenant, its quotas or its tier: an `ETag`.
    pub version: i64,
}

// === impl TenantId ===

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Slug ===

impl Slug {
    pub const LENGTH_MAX: usize = 63;

    /// Words that stand in a tenant's place in URLs, as in `/api/tenants/current`.
    const RESERVED: [&str; 2] = ["current", "metrics"];

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The slug that a name suggests: `Acme & Sons` gives `acme-sons`. Never empty, never a UUID.
    pub fn suggested(name: &str) -> Slug {
        let mut slug = String::new();
        for letter in name.chars().flat_map(char::to_lowercase) {
            if letter.is_ascii_alphanumeric() {
                slug.push(letter);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(48);
        let slug = slug.trim_end_matches('-');
        slug.parse().unwrap_or_else(|()| Slug(format!("tenant-{slug}").trim_end_matches('-').to_owned()))
    }

    /// The same slug with a number behind it, for when the first is taken.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Slug {
        Slug(format!("{}-{number}", self.0))
    }
}

impl FromStr for Slug {
    type Err = ();

    /// 1 to 63 of `a-z`, `0-9` and `-`, beginning with a letter, and no UUID: an id and a slug can't be confused.
    /// Nor one of the words that stand in a tenant's place in URLs.
    fn from_str(text: &str) -> Result<Self, ()> {
        let body = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = text.len() <= Slug::LENGTH_MAX
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.bytes().all(body)
            && !Slug::RESERVED.contains(&text)
            && Uuid::try_parse(text).is_err();
        if good { Ok(Slug(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| {
            serde::de::Error::custom(format!(
                "`{text}` is no slug: 1 to 63 of a-z, 0-9 and -, beginning with a letter, and no UUID"
            ))
        })
    }
}

// === impl TenantRef ===

impl FromStr for TenantRef {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Uuid::try_parse(text)
            .map(|id| TenantRef::Id(TenantId(id)))
            .or_else(|_| text.parse().map(TenantRef::Slug))
    }
}

impl fmt::Display for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TenantRef::Id(id) => id.fmt(f),
            TenantRef::Slug(slug) => slug.fmt(f),
        }
    }
}

// === impl TenantStatus ===

impl TenantStatus {
    pub const ALL: [TenantStatus; 6] = [
        TenantStatus::Trial,
        TenantStatus::Active,
        TenantStatus::PastDue,
        TenantStatus::Suspended,
        TenantStatus::Cancelled,
        TenantStatus::Deleted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            TenantStatus::Trial => "trial",
            TenantStatus::Active => "active",
            TenantStatus::PastDue => "past_due",
            TenantStatus::Suspended => "suspended",
            TenantStatus::Cancelled => "cancelled",
            TenantStatus::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        TenantStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether it pays for its tier.
    pub const fn is_charged(self) -> bool {
        !matches!(self, TenantStatus::Trial | TenantStatus::Cancelled | TenantStatus::Deleted)
    }

    /// Whether the tenant's requests are served.
    pub const fn is_served(self) -> bool {
        matches!(self, TenantStatus::Trial | TenantStatus::Active | TenantStatus::PastDue)
    }

    /// Where it may go from here. Only `deleted` is final.
    pub const fn moves(self) -> &'static [TenantStatus] {
        use TenantStatus::{Active, Cancelled, Deleted, PastDue, Suspended, Trial};
        match self {
            Trial => &[Active, Suspended, Cancelled, Deleted],
            Active => &[PastDue, Suspended, Cancelled, Deleted],
            PastDue => &[Active, Suspended, Cancelled, Deleted],
            Suspended => &[Active, PastDue, Cancelled, Deleted],
            Cancelled => &[Active, Deleted],
            Deleted => &[],
        }
    }

    /// The status after the move; moving to where one stands is no change and always legal.
    ///
    /// # Errors
    /// [`IllegalMove`], which names the legal ones.
    pub fn moved_to(self, to: TenantStatus) -> Result<TenantStatus, IllegalMove> {
        if self == to || self.moves().contains(&to) { Ok(to) } else { Err(IllegalMove { from: self, to }) }
    }

    fn moves_text(self) -> String {
        let names: Vec<_> = self.moves().iter().map(|status| status.as_str()).collect();
        if names.is_empty() { "nothing else".to_owned() } else { names.join(", ") }
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Slug, TenantStatus};

    #[test]
    fn a_slug_is_suggested_by_any_name() {
        for (name, slug) in [
            ("Acme", "acme"),
            ("Acme & Sons, Inc.", "acme-sons-inc"),
            ("3M", "tenant-3m"),
            ("Current", "tenant-current"),
            ("日本", "tenant"),
            ("", "tenant"),
            ("  --  ", "tenant"),
        ] {
            assert_eq!(Slug::suggested(name).as_str(), slug, "{name}");
            assert!(Slug::suggested(name).as_str().parse::<Slug>().is_ok());
        }
        assert!("0192f0c1-7a3b-7000-8000-000000000000".parse::<Slug>().is_err());
    }

    #[test]
    fn deleted_is_final_and_staying_is_no_move() {
        for status in TenantStatus::ALL {
            assert_eq!(status.moved_to(status), Ok(status));
            assert_eq!(TenantStatus::Deleted.moved_to(status).is_ok(), status == TenantStatus::Deleted);
            assert_eq!(TenantStatus::parse(status.as_str()), Some(status));
        }
        let refused = TenantStatus::Cancelled.moved_to(TenantStatus::Trial).unwrap_err().to_string();
        assert_eq!(
            refused,
            "a tenant that is cancelled can't become trial; from cancelled it may become active, deleted"
        );
    }
}
