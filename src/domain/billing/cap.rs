//! Spend caps: what a tenant means to spend in a period at most, and what that leaves of each resource.
//!
//! A cap is of the whole bill: the subscription, what is sold above limits, corrections. Subscription and corrections are
//! not refused; what they leave of the money is divided among the resources that are sold above their limits, in shares
//! that do not depend on what is used. So each resource has one limit, the same on all gateways and for the whole period,
//! and the till holds it as it holds every other: exactly, without anybody asking how much money is left.
//!
//! # Why the shares are fixed
//! Money that moved between resources while they are used would have to be taken from one before it is given to another,
//! on all gateways, before a unit is admitted. Fixed shares need no such round: the sum of what could still be charged is
//! never above the cap, whatever is used, in whatever order, and however late anybody hears of it. The price is that what
//! one resource leaves of its share buys nothing of another; [`Shares`] say which matters more.
//!
//! # What is spent already
//! A cap may come late: then a resource may have cost more than its share. It keeps that, gets no more, and the others
//! divide what is left. Nothing that was used is taken back, so a cap below what is owed already is exceeded by just that.
//!
//! # Gauges
//! They are charged for by the time that they are held. What a gauge may hold is the most that costs no more than its
//! share if it is held from now until the period ends: so what it will have cost is known to be within it, whatever is
//! given back. As long as less is held it may later hold more. What is held already stays, as above a limit that was
//! lowered.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{Currency, Holding, Item, Level, Money, Rounding, Terms, UnitPrice, overage_minor};
use crate::clock::Timestamp;
use crate::domain::{Limit, Period, Resource, Units, Window};

/// How much a tenant means to spend in a period at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpendCap {
    pub amount: Money,
    pub then: AtCap,
    /// How the money is divided; `None`: evenly.
    pub shares: Option<Shares>,
    pub set_at: Timestamp,
    /// Who set it.
    pub set_by: String,
}

/// What happens when a cap is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// The tenant is told.
    #[default]
    Notify,
    /// It is told, and what would be charged for beyond the cap is refused.
    Stop,
}

/// How the money of a cap is divided among resources: by weights. A resource without one gets nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, u32>, example = json!({ "api_calls": 3, "alerts": 1 }))]
pub struct Shares(BTreeMap<Resource, u32>);

/// Text or weights that divide nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` divides nothing: 1 to 32 resources are expected, each with a weight from 1 to 1000, like api_calls=3,alerts=1"
)]
pub struct BadShares(String);

/// The most of a resource that a cap leaves, in a window of its quota.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, ToSchema)]
pub struct Ceiling {
    pub resource_type: Resource,
    pub period: Period,
    /// Of a counter, its window; of a gauge, the period that is billed.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub limit: Units,
}

/// A resource that is sold above what is included.
#[derive(Clone, Debug)]
pub enum Sale {
    /// Charged for by what was used in the period.
    Counter { resource: Resource, used: Units, included: Limit, price: UnitPrice },
    /// Charged for by what was held: `item` is its line, of the time that ends with the period.
    Gauge { resource: Resource, item: Item, holding: Holding },
}

/// What a refusal names as its cause where the limit is what a cap leaves.
pub const SPEND_CAP: &str = "spend_cap";

// === impl SpendCap ===

impl SpendCap {
    /// Whether so many percent of it are spent.
    pub fn is_spent(&self, spent_minor: i64, percent: u32) -> bool {
        i128::from(spent_minor) * 100 >= i128::from(self.amount.minor) * i128::from(percent)
    }

    /// Of each resource the most that may be had in the period, from `now` on: used, or held, with what is there already.
    /// `fixed_minor` is what the bill comes to without them.
    pub fn leaves(&self, fixed_minor: i64, sales: &[Sale], terms: &Terms, now: Timestamp) -> Vec<Units> {
        let (currency, rounding) = (terms.currency, terms.rounding);
        let cost = |sale: &Sale, units| sale.minor(units, now, currency, rounding);
        let spent: Vec<_> = sales.iter().map(|sale| cost(sale, sale.units())).collect();
        let weights: Vec<_> = sales.iter().map(|sale| self.weight(sale.resource())).collect();
        let money = divided(self.amount.minor.saturating_sub(fixed_minor), &spent, &weights);
        sales.iter().zip(money).map(|(sale, money)| greatest(|units| cost(sale, units) <= money)).collect()
    }

    fn weight(&self, resource: Resource) -> u32 {
        self.shares.as_ref().map_or(1, |shares| shares.0.get(&resource).copied().unwrap_or(0))
    }
}

/// Divides money by weights, rounded down. Who has spent more than its part keeps that, and the others divide the rest.
fn divided(money: i64, spent: &[i64], weights: &[u32]) -> Vec<i64> {
    let mut is_over = vec![false; spent.len()];
    loop {
        let kept: i128 =
            spent.iter().zip(&is_over).filter(|(_, over)| **over).map(|(spent, _)| i128::from(*spent)).sum();
        let left = (i128::from(money) - kept).max(0);
        let among: i128 =
            weights.iter().zip(&is_over).filter(|(_, over)| !**over).map(|(one, _)| i128::from(*one)).sum();
        // At most the money, which is an i64.
        let part = |weight: u32| i64::try_from(left * i128::from(weight) / among.max(1)).unwrap_or(i64::MAX);
        let parts: Vec<_> = spent
            .iter()
            .zip(weights)
            .zip(&is_over)
            .map(|((spent, weight), over)| if *over { *spent } else { part(*weight) })
            .collect();
        if parts.iter().zip(spent).all(|(part, spent)| spent <= part) {
            return parts;
        }
        for (over, (part, spent)) in is_over.iter_mut().zip(parts.iter().zip(spent)) {
            *over |= spent > part;
        }
    }
}

/// The most units for which something holds that holds for fewer, too.
fn greatest(holds: impl Fn(Units) -> bool) -> Units {
    let (mut most, mut above) = (0, Units::MAX.get() + 1);
    while above - most > 1 {
        let middle = most + (above - most) / 2;
        if holds(Units::saturating(middle)) {
            most = middle;
        } else {
            above = middle;
        }
    }
    Units::saturating(most)
}

// === impl AtCap ===

impl AtCap {
    pub const ALL: [AtCap; 2] = [AtCap::Notify, AtCap::Stop];

    pub const fn as_str(self) -> &'static str {
        match self {
            AtCap::Notify => "notify",
            AtCap::Stop => "stop",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        AtCap::ALL.into_iter().find(|then| then.as_str() == text)
    }
}

// === impl Shares ===

impl Shares {
    const RESOURCES_MAX: usize = 32;
    const WEIGHT_MAX: u32 = 1_000;

    /// # Errors
    /// [`BadShares`] for none, too many, or a weight that is out of range.
    pub fn new(weights: BTreeMap<Resource, u32>) -> Result<Shares, BadShares> {
        let is_good = (1..=Shares::RESOURCES_MAX).contains(&weights.len())
            && weights.values().all(|weight| (1..=Shares::WEIGHT_MAX).contains(weight));
        let shares = Shares(weights);
        if is_good { Ok(shares) } else { Err(BadShares(shares.to_string())) }
    }

    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        self.0.keys().copied()
    }
}

/// `alerts=1,api_calls=3`
impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights: Vec<_> =
            self.0.iter().map(|(resource, weight)| format!("{resource}={weight}")).collect();
        f.pad(&weights.join(","))
    }
}

impl FromStr for Shares {
    type Err = BadShares;

    fn from_str(text: &str) -> Result<Self, BadShares> {
        let weight = |part: &str| {
            let (resource, weight) = part.split_once('=')?;
            Some((resource.trim().parse().ok()?, weight.trim().parse().ok()?))
        };
        let weights = text.split(',').map(weight).collect::<Option<_>>();
        Shares::new(weights.ok_or_else(|| BadShares(text.to_owned()))?)
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shares::new(BTreeMap::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

// === impl Ceiling ===

impl Ceiling {
    /// Whether it is of that quota, in the window that it has at `now`.
    pub fn is_of(&self, resource: Resource, window: Window, now: Timestamp) -> bool {
        let is_same = (self.resource_type, self.period) == (resource, window.period);
        let holds = self.starts_at <= now && now < self.ends_at;
        is_same && holds && (window.period == Period::Forever || self.starts_at == window.start)
    }
}

// === impl Sale ===

impl Sale {
    pub fn resource(&self) -> Resource {
        match self {
            Sale::Counter { resource, .. } | Sale::Gauge { resource, .. } => *resource,
        }
    }

    /// What is used, or held.
    fn units(&self) -> Units {
        match self {
            Sale::Counter { used, .. } => *used,
            Sale::Gauge { holding, .. } => holding.units(),
        }
    }

    /// What it comes to if so many units are used in all, or held from `now` until the end. What can't be counted is
    /// above all money.
    fn minor(&self, units: Units, now: Timestamp, currency: Currency, rounding: Rounding) -> i64 {
        let minor = match self {
            Sale::Counter { included, price, .. } => {
                overage_minor(units, *included, Some(*price), currency, rounding)
            }
            Sale::Gauge { item, holding, .. } => {
                let mut holding = *holding;
                holding.becomes(Level { since: now, units });
                let mut item = item.clone();
                if let Item::Gauge { held, .. } = &mut item {
                    *held = holding.held();
                }
                item.amount_minor(currency, rounding)
            }
        };
        minor.unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
