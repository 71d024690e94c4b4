//! Units and limits: integers that cannot be mixed up with other integers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

/// The integer in which a resource is counted. Bytes are bytes; 1 GB is 10^9 of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, ToSchema)]
#[schema(maximum = 9_007_199_254_740_991_i64)]
pub struct Units(u64);

/// How many units may be used in a window. `null` in JSON and SQL means unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    Of(Units),
    Unlimited,
}

/// A number that is no amount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is outside 0..=9007199254740991 (2^53 - 1)")]
pub struct NotUnits(pub i128);

// === impl Units ===

impl Units {
    /// 2^53 - 1: the largest integer that Redis's Lua and JSON's readers hold exactly.
    pub const MAX: Units = Units((1 << 53) - 1);
    pub const ZERO: Units = Units(0);
    pub const ONE: Units = Units(1);

    /// # Errors
    /// [`NotUnits`] above [`Units::MAX`].
    pub const fn new(units: u64) -> Result<Self, NotUnits> {
        if units > Units::MAX.0 { Err(NotUnits(units as i128)) } else { Ok(Units(units)) }
    }

    /// The largest amount that is not above `units`.
    pub const fn saturating(units: u64) -> Self {
        if units > Units::MAX.0 { Units::MAX } else { Units(units) }
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// As SQL stores it. Never negative.
    pub const fn to_i64(self) -> i64 {
        self.0.cast_signed()
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Units) -> Units {
        Units(self.0.saturating_sub(other.0))
    }

    #[must_use]
    pub const fn saturating_add(self, other: Units) -> Units {
        Units::saturating(self.0.saturating_add(other.0))
    }
}

impl TryFrom<i64> for Units {
    type Error = NotUnits;

    fn try_from(units: i64) -> Result<Self, NotUnits> {
        u64::try_from(units).map_err(|_| NotUnits(units.into())).and_then(Units::new)
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Units::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

// === impl Limit ===

impl Limit {
    /// `None` for unlimited.
    pub const fn units(self) -> Option<Units> {
        match self {
            Limit::Of(units) => Some(units),
            Limit::Unlimited => None,
        }
    }

    /// As SQL stores it: `NULL` is unlimited.
    pub fn to_sql(self) -> Option<i64> {
        self.units().map(Units::to_i64)
    }

    /// # Errors
    /// [`NotUnits`] for a negative or too large number.
    pub fn from_sql(limit: Option<i64>) -> Result<Self, NotUnits> {
        limit.map_or(Ok(Limit::Unlimited), |units| Units::try_from(units).map(Limit::Of))
    }
}

impl From<Option<Units>> for Limit {
    fn from(units: Option<Units>) -> Self {
        units.map_or(Limit::Unlimited, Limit::Of)
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        Option::<Units>::schema()
    }
}

impl ToSchema for Limit {}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Of(units) => units.fmt(f),
            Limit::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.units().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<Units>::deserialize(deserializer).map(Limit::from)
    }
}
