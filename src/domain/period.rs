//! Calendar arithmetic: the one place where the boundaries of windows are computed.
//!
//! A [`Window`] is half-open, `[start, end)`, and kept as UTC instants. Days, weeks and months begin at local
//! midnight of the tenant's zone; a midnight that a DST gap swallows is replaced by the first instant after the
//! gap, one that occurs twice by its first occurrence. Seconds, minutes and hours are aligned to UTC, because
//! zones that shift by half an hour would otherwise make windows overlap.
//!
//! Boundaries are computed from the calendar each time and never by adding to the previous one, so they tile
//! time without gap or overlap, and an anniversary on the 31st returns to the 31st after February.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::clock::Timestamp;

/// How long a window is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    /// One window that never ends: gauges.
    Forever,
}

/// Where weeks and months begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    /// Monday; the 1st.
    Calendar,
    /// The weekday, or the day of the month, of this instant in the tenant's zone; clamped to a shorter month's
    /// last day.
    Anniversary(Timestamp),
}

/// An IANA time zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone(TimeZone);

/// One period of a quota, half-open: `start` belongs to it, `end` does not. Both are whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    pub period: Period,
    pub start: Timestamp,
    pub end: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no period: second, minute, hour, day, week, month or forever")]
pub struct UnknownPeriod(pub String);

// === impl Period ===

impl Period {
    pub const ALL: [Period; 7] = [
        Period::Second,
        Period::Minute,
        Period::Hour,
        Period::Day,
        Period::Week,
        Period::Month,
        Period::Forever,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
            Period::Forever => "forever",
        }
    }

    /// A stable number for files: never renumbered.
    pub const fn code(self) -> u8 {
        match self {
            Period::Second => 1,
            Period::Minute => 2,
            Period::Hour => 3,
            Period::Day => 4,
            Period::Week => 5,
            Period::Month => 6,
            Period::Forever => 7,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Period::ALL.into_iter().find(|period| period.code() == code)
    }

    /// The window of this period that holds `now`.
    pub fn window(self, anchor: Anchor, zone: &Zone, now: Timestamp) -> Window {
        let (start, end) = match self {
            Period::Second => aligned(now, 1),
            Period::Minute => aligned(now, 60),
            Period::Hour => aligned(now, 3_600),
            Period::Day => local(zone, now, zone.date(now), |date, steps| date.saturating_add(steps.days())),
            Period::Week => {
                let first = anchor.first_weekday(zone);
                let back = i64::from(zone.date(now).weekday().since(first));
                let monday = zone.date(now).saturating_sub(back.days());
                local(zone, now, monday, |date, steps| date.saturating_add(Span::new().weeks(steps)))
            }
            Period::Month => {
                let day = anchor.day_of_month(zone);
                local(zone, now, zone.date(now).first_of_month(), |date, steps| {
                    let month = date.first_of_month().saturating_add(steps.months());
                    clamped(month, day)
                })
            }
            Period::Forever => (Timestamp::from_seconds(0), Timestamp::MAX),
        };
        Window { period: self, start, end }
    }
}

impl FromStr for Period {
    type Err = UnknownPeriod;

    fn from_str(text: &str) -> Result<Self, UnknownPeriod> {
        Period::ALL
            .into_iter()
            .find(|period| period.as_str() == text)
            .ok_or_else(|| UnknownPeriod(text.to_owned()))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn aligned(now: Timestamp, seconds: i64) -> (Timestamp, Timestamp) {
    let start = now.seconds().div_euclid(seconds) * seconds;
    (Timestamp::from_seconds(start), Timestamp::from_seconds(start + seconds))
}

/// The two neighbouring boundaries around `now`, where boundary `n` is local midnight of `date_of(near, n)`.
///
/// `near` is at most one step off, except where a zone skips a whole day, so a few steps always suffice.
fn local(
    zone: &Zone,
    now: Timestamp,
    near: Date,
    date_of: impl Fn(Date, i64) -> Date,
) -> (Timestamp, Timestamp) {
    let boundary = |steps| zone.midnight(date_of(near, steps));
    let mut next = -2;
    while boundary(next) <= now {
        next += 1;
    }
    // A skipped day leaves two boundaries on one instant; the window before it ends there all the same.
    let mut last = next - 1;
    while boundary(last) > now {
        last -= 1;
    }
    (boundary(last), boundary(next))
}

fn clamped(month: Date, day: i8) -> Date {
    let day = day.min(month.days_in_month());
    Date::new(month.year(), month.month(), day).unwrap_or(month)
}

// === impl Anchor ===

impl Anchor {
    fn first_weekday(self, zone: &Zone) -> Weekday {
        match self {
            Anchor::Calendar => Weekday::Monday,
            Anchor::Anniversary(since) => zone.date(since).weekday(),
        }
    }

    fn day_of_month(self, zone: &Zone) -> i8 {
        match self {
            Anchor::Calendar => 1,
            Anchor::Anniversary(since) => zone.date(since).day(),
        }
    }
}

// === impl Zone ===

impl Zone {
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone of that IANA name, for example `Europe/Zurich`; `None` if there is none.
    pub fn named(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The instant as clocks there show it, to the minute: `1 Dec 2026, 00:00 Europe/Zurich`.
    pub fn told(&self, at: Timestamp) -> String {
        let there = self.0.to_datetime(at.to_jiff());
        format!("{} {}", there.strftime("%-d %b %Y, %H:%M"), self.name())
    }

    /// The day that it is there.
    pub fn date(&self, at: Timestamp) -> Date {
        self.0.to_datetime(at.to_jiff()).date()
    }

    /// The first instant of `date`, or of what follows it if the zone skipped that instant.
    fn midnight(&self, date: Date) -> Timestamp {
        let midnight = self.0.to_ambiguous_timestamp(date.to_datetime(Time::midnight()));
        let instant = match midnight.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => midnight.earlier(),
            AmbiguousOffset::Gap { .. } => {
                // Read with the offset from before the gap, the swallowed midnight falls behind the transition.
                midnight.later().map(|after| self.transition_at_or_before(after))
            }
        };
        instant.map_or(Timestamp::MAX, Timestamp::from_jiff)
    }

    fn transition_at_or_before(&self, instant: jiff::Timestamp) -> jiff::Timestamp {
        let just_after = instant.saturating_add(1.nanoseconds()).unwrap_or(instant);
        self.0.preceding(just_after).next().map_or(instant, |transition| transition.timestamp())
    }
}

impl PartialSchema for Zone {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).examples(["Europe/Zurich"]).into()
    }
}

impl ToSchema for Zone {}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Zone::named(&name).ok_or_else(|| {
            serde::de::Error::custom(format!("`{name}` is no IANA time zone, like Europe/Zurich"))
        })
    }
}

// === impl Window ===

impl Window {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

#[cfg(test)]
mod tests;
