//! Periods that are billed, and how tiers share one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::domain::{Anchor, Period, Window, Zone};

/// What an invoice is for, half-open: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
pub struct BillingPeriod {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// A version of a tier, which is what a tenant subscribes to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    pub tier: String,
    pub tier_version: i64,
}

/// From when on a tenant has which plan: until its next segment begins, so segments have neither gap nor overlap.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Segment {
    pub starts_at: Timestamp,
    /// `null`: no subscription, as on trial or after it was cancelled.
    pub plan: Option<Plan>,
}

/// A tier that a tenant is to have from an instant on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ScheduledTier {
    pub tier: String,
    pub effective_at: Timestamp,
    pub requested_at: Timestamp,
    /// Who asked for it.
    pub requested_by: String,
}

/// By what a period is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// Days of the tenant's zone, each of which belongs to the plan that holds at its end.
    #[default]
    Day,
    Second,
}

/// A period with its divisions: how far one is within it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measure {
    period: BillingPeriod,
    /// The ends of the period's days; none if it is measured in seconds.
    days: Option<Vec<Timestamp>>,
}

/// The part of a period in which one plan held, from and to so many of its divisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch<'s> {
    pub plan: Option<&'s Plan>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub from: u64,
    pub to: u64,
}

/// A period is found by what lies so far behind its start: no month is shorter, and a zone or an anchor that was changed
/// moves boundaries by less. So nobody is billed for a month of a few hours.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(14 * 86_400);

/// The first period from `after` on (the end of what was billed last) in which there is a plan; `None` if there is no plan
/// any more. Without `after` it begins with the month of the first segment.
pub fn next_period(
    segments: &[Segment],
    after: Option<Timestamp>,
    anchor: Anchor,
    zone: &Zone,
) -> Option<BillingPeriod> {
    let first = segments.first()?.starts_at;
    let month = |at| Period::Month.window(anchor, zone, at);
    let from = after.unwrap_or_else(|| month(first).start);
    let held = segments.iter().rev().find(|segment| segment.starts_at <= from);
    let start = match held.and_then(|segment| segment.plan.as_ref()) {
        Some(_) => from,
        None => {
            let next = segments.iter().find(|segment| segment.starts_at > from && segment.plan.is_some())?;
            month(next.starts_at).start.max(from)
        }
    };
    Some(BillingPeriod { start, end: month(start.plus(WITHIN)).end })
}

/// The plans of a period, in their order: without gap or overlap from its start to its end.
pub fn stretches<'s>(segments: &'s [Segment], measure: &Measure) -> Vec<Stretch<'s>> {
    let BillingPeriod { start, end } = measure.period;
    let held = segments.iter().rposition(|segment| segment.starts_at <= start);
    let inside = segments.iter().filter(|segment| segment.starts_at > start && segment.starts_at < end);
    let changes = inside.map(|segment| (segment.starts_at, segment.plan.as_ref()));
    let before = held.and_then(|at| segments[at].plan.as_ref());
    let mut begun = vec![(start, before)];
    begun.extend(changes);
    let ends = begun.iter().skip(1).map(|(at, _)| *at).chain([end]).collect::<Vec<_>>();
    let stretch = |((start, plan), end): ((Timestamp, Option<&'s Plan>), Timestamp)| Stretch {
        plan,
        start,
        end,
        from: measure.until(start),
        to: measure.until(end),
    };
    begun.into_iter().zip(ends).map(stretch).collect()
}

/// The same with neighbours of one plan as one: what is measured over them does not depend on where they were cut.
pub fn joined<'s>(stretches: &[Stretch<'s>]) -> Vec<Stretch<'s>> {
    let mut joined: Vec<Stretch<'s>> = Vec::new();
    for stretch in stretches {
        match joined.last_mut().filter(|last| last.plan == stretch.plan) {
            Some(last) => (last.end, last.to) = (stretch.end, stretch.to),
            None => joined.push(stretch.clone()),
        }
    }
    joined
}

// === impl BillingPeriod ===

impl BillingPeriod {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether what is used in a month is billed with it: a month belongs to the period that its middle is in, so that
    /// each belongs to exactly one, also where a zone was changed and boundaries moved by hours.
    pub fn has(&self, month: Window) -> bool {
        self.contains(month.start.plus(month.end.since(month.start) / 2))
    }
}

// === impl Proration ===

impl Proration {
    pub const ALL: [Proration; 2] = [Proration::Day, Proration::Second];

    pub const fn as_str(self) -> &'static str {
        match self {
            Proration::Day => "day",
            Proration::Second => "second",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Proration::ALL.into_iter().find(|proration| proration.as_str() == text)
    }
}

// === impl Measure ===

impl Measure {
    pub fn of(period: BillingPeriod, proration: Proration, zone: &Zone) -> Measure {
        let days = (proration == Proration::Day).then(|| {
            let mut ends = Vec::new();
            let mut at = period.start;
            while at < period.end {
                // A day that a zone skipped has no window; the one after it begins later all the same.
                at = Period::Day.window(Anchor::Calendar, zone, at).end.min(period.end);
                ends.push(at);
            }
            ends
        });
        Measure { period, days }
    }

    pub const fn period(&self) -> BillingPeriod {
        self.period
    }

    /// Divisions of the period that have ended at `at`.
    pub fn until(&self, at: Timestamp) -> u64 {
        match &self.days {
            Some(days) => days.partition_point(|end| *end <= at) as u64,
            None => at.min(self.period.end).since(self.period.start).as_secs(),
        }
    }

    /// Divisions of the whole period; never none.
    pub fn whole(&self) -> u64 {
        self.until(self.period.end).max(1)
    }
}
