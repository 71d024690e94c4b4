//! What was held of a gauge over a time: the most of it, and its average as an exact fraction.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::money::Ratio;
use crate::clock::Timestamp;
use crate::domain::{Limit, Units};

/// By what a gauge is charged for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeBy {
    /// The most that was held at any instant.
    Maximum,
    /// What was held on average, each instant weighing the same.
    Average,
}

/// What is held from an instant on, until the next level; before the first, nothing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Level {
    pub since: Timestamp,
    pub units: Units,
}

/// What was held over a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The most at any instant.
    pub maximum: Units,
    /// The average without its fraction,
    pub average: Units,
    /// which is so many of `micros`.
    pub rest: u64,
    /// How long the time was, in microseconds.
    pub micros: u64,
}

/// A time that is gone through, level by level.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    start: Timestamp,
    end: Timestamp,
    /// Until when it is summed up.
    until: Timestamp,
    /// What is held since then.
    units: Units,
    maximum: Units,
    /// Units times microseconds: 2^53 of the one and 2^64 of the other are below 2^128.
    sum: u128,
}

// === impl ChargeBy ===

impl ChargeBy {
    pub const ALL: [ChargeBy; 2] = [ChargeBy::Maximum, ChargeBy::Average];

    pub const fn as_str(self) -> &'static str {
        match self {
            ChargeBy::Maximum => "maximum",
            ChargeBy::Average => "average",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        ChargeBy::ALL.into_iter().find(|by| by.as_str() == text)
    }

    /// As a line says it: “at most” or “on average” so many.
    pub const fn words(self) -> &'static str {
        match self {
            ChargeBy::Maximum => "at most",
            ChargeBy::Average => "on average",
        }
    }
}

impl fmt::Display for ChargeBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl Holding ===

impl Holding {
    /// Half-open: `end` does not belong to it.
    pub fn over(start: Timestamp, end: Timestamp) -> Holding {
        Holding { start, end, until: start, units: Units::ZERO, maximum: Units::ZERO, sum: 0 }
    }

    /// The next level, in their order. What lies before the start is what is held at the start.
    pub fn becomes(&mut self, level: Level) {
        self.pass_to(level.since);
        self.units = level.units;
    }

    /// What is held as of the last level.
    pub(super) const fn units(&self) -> Units {
        self.units
    }

    fn pass_to(&mut self, at: Timestamp) {
        let at = at.min(self.end);
        if at > self.until {
            self.sum += u128::from(self.units.get()) * at.since(self.until).as_micros();
            self.maximum = self.maximum.max(self.units);
            self.until = at;
        }
    }

    /// The last level is held until the end.
    pub fn held(mut self) -> Held {
        self.pass_to(self.end);
        let micros = self.end.since(self.start).as_micros().max(1);
        // A time of microseconds since 1970 and its average are far below 2^64.
        let narrow = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Held {
            maximum: self.maximum,
            average: Units::saturating(narrow(self.sum / micros)),
            rest: narrow(self.sum % micros),
            micros: narrow(micros),
        }
    }
}

// === impl Held ===

impl Held {
    /// What is above the limit.
    pub(super) fn above(&self, by: ChargeBy, included: Limit) -> Ratio {
        let Some(included) = included.units() else { return Ratio::ZERO };
        match by {
            ChargeBy::Maximum => Ratio::whole(self.maximum.saturating_sub(included).get()),
            ChargeBy::Average => {
                let micros = u128::from(self.micros);
                let sum = u128::from(self.average.get()) * micros + u128::from(self.rest);
                Ratio::new(sum.saturating_sub(u128::from(included.get()) * micros), micros)
            }
        }
    }

    /// What is charged by, without its fraction.
    pub const fn units(&self, by: ChargeBy) -> Units {
        match by {
            ChargeBy::Maximum => self.maximum,
            ChargeBy::Average => self.average,
        }
    }

    /// The same for people: an average to two decimals, rounded down.
    pub fn told(&self, by: ChargeBy) -> String {
        match by {
            ChargeBy::Maximum => self.maximum.to_string(),
            ChargeBy::Average => {
                let hundredths = u128::from(self.rest) * 100 / u128::from(self.micros.max(1));
                format!("{}.{hundredths:02}", self.average)
            }
        }
    }
}
