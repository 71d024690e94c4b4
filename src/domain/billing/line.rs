//! Lines: what each is for, and what it comes to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::money::Ratio;
use super::{ChargeBy, Currency, Held, InvoiceId, Measure, Plan, Rounding, Stretch, UnitPrice};
use crate::clock::Timestamp;
use crate::domain::{Limit, Resource, Units};

/// What a line is for, with all that its amount follows from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A tier's price, or the part of it for the days (or seconds) `from..to` of the period's `of`.
    Subscription {
        tier: String,
        tier_version: i64,
        display: String,
        start: Timestamp,
        end: Timestamp,
        price_minor: i64,
        from: u64,
        to: u64,
        of: u64,
    },
    /// What was used of a resource in the period, and what of it is above what the tier includes.
    Usage {
        resource_type: Resource,
        used: Units,
        included: Limit,
        overage: Units,
        /// `None`: nothing above the limit is charged for.
        price: Option<UnitPrice>,
    },
    /// What was held of a gauge while a plan lasted, and what of it is above what the plan includes: charged for by the
    /// month, for the days (or seconds) `from..to` of the period's `of`.
    Gauge {
        resource_type: Resource,
        charge_by: ChargeBy,
        tier: String,
        start: Timestamp,
        end: Timestamp,
        held: Held,
        included: Limit,
        price: UnitPrice,
        from: u64,
        to: u64,
        of: u64,
    },
    /// What came to be known of an earlier period after its invoice was finalized.
    Correction {
        corrects: InvoiceId,
        resource_type: Resource,
        /// As billed until now.
        used_before: Units,
        used: Units,
        included: Limit,
        price: Option<UnitPrice>,
        /// What was charged for it until now.
        charged_before_minor: i64,
    },
}

/// A plan as it is sold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Priced {
    pub plan: Plan,
    pub display: String,
    pub price_minor: i64,
}

/// What the ledger says of a resource in a period, and on which terms it is had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metered {
    pub resource: Resource,
    pub used: Units,
    pub included: Limit,
    pub price: Option<UnitPrice>,
}

/// An amount is above what can be counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an amount of money is above 2^63 - 1 minor units")]
pub struct NotCountable;

/// The lines of a period, in their order: of each stretch that has a plan, then of each resource.
pub fn line_items(
    measure: &Measure,
    stretches: &[Stretch<'_>],
    priced: &[Priced],
    metered: &[Metered],
) -> Vec<Item> {
    let of = measure.whole();
    let subscription = |stretch: &Stretch<'_>| {
        let priced = priced.iter().find(|priced| Some(&priced.plan) == stretch.plan)?;
        Some(Item::Subscription {
            tier: priced.plan.tier.clone(),
            tier_version: priced.plan.tier_version,
            display: priced.display.clone(),
            start: stretch.start,
            end: stretch.end,
            price_minor: priced.price_minor,
            from: stretch.from,
            to: stretch.to,
            of,
        })
    };
    // One that was changed again on the same day has no share of it.
    let shared = stretches.iter().filter(|stretch| stretch.from < stretch.to).filter_map(subscription);
    shared.chain(metered.iter().map(Metered::item)).collect()
}

/// What is above the limit.
fn overage(used: Units, included: Limit) -> Units {
    included.units().map_or(Units::ZERO, |included| used.saturating_sub(included))
}

/// What the units above the limit cost, in minor units.
///
/// # Errors
/// [`NotCountable`]
pub fn overage_minor(
    used: Units,
    included: Limit,
    price: Option<UnitPrice>,
    currency: Currency,
    rounding: Rounding,
) -> Result<i64, NotCountable> {
    let Some(price) = price else { return Ok(0) };
    let minor = price.minor(overage(used, included).get(), currency, rounding);
    i64::try_from(minor).map_err(|_| NotCountable)
}

// === impl Metered ===

impl Metered {
    fn item(&self) -> Item {
        let Metered { resource, used, included, price } = *self;
        Item::Usage { resource_type: resource, used, included, overage: overage(used, included), price }
    }
}

// === impl Item ===

impl Item {
    /// As in JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Item::Subscription { .. } => "subscription",
            Item::Usage { .. } => "usage",
            Item::Gauge { .. } => "gauge",
            Item::Correction { .. } => "correction",
        }
    }

    pub const fn resource(&self) -> Option<Resource> {
        match self {
            Item::Subscription { .. } => None,
            Item::Usage { resource_type, .. }
            | Item::Gauge { resource_type, .. }
            | Item::Correction { resource_type, .. } => Some(*resource_type),
        }
    }

    /// What it comes to, in minor units: the one place where anything is rounded.
    ///
    /// The parts of a price are differences of what it came to until their ends, so the parts of an unchanged price add
    /// up to it, however often it was cut.
    ///
    /// # Errors
    /// [`NotCountable`]
    pub fn amount_minor(&self, currency: Currency, rounding: Rounding) -> Result<i64, NotCountable> {
        match *self {
            Item::Subscription { price_minor, from, to, of, .. } => {
                let until = |part: u64| {
                    rounding.divide(i128::from(price_minor) * i128::from(part), i128::from(of.max(1)))
                };
                i64::try_from(until(to) - until(from)).map_err(|_| NotCountable)
            }
            Item::Usage { used, included, price, .. } => {
                overage_minor(used, included, price, currency, rounding)
            }
            Item::Gauge { charge_by, held, included, price, from, to, of, .. } => {
                let share = Ratio::new((to - from).into(), of.max(1).into());
                let units = held.above(charge_by, included).times(share);
                let minor = units.and_then(|units| price.minor_of(units, currency, rounding));
                minor.and_then(|minor| i64::try_from(minor).ok()).ok_or(NotCountable)
            }
            Item::Correction { used, included, price, charged_before_minor, .. } => {
                let now = overage_minor(used, included, price, currency, rounding)?;
                now.checked_sub(charged_before_minor).ok_or(NotCountable)
            }
        }
    }

    /// One line for a person.
    pub fn description(&self) -> String {
        match self {
            Item::Subscription { display, from, to, of, .. } if to - from == *of => display.clone(),
            Item::Subscription { display, from, to, of, .. } => {
                format!("{display}, {} of {of} parts of the period", to - from)
            }
            Item::Usage { resource_type, used, included, overage, price } => {
                let sold = match price {
                    Some(price) => format!(", {overage} above at {price}"),
                    None => String::new(),
                };
                format!("{resource_type}: {used} used of {included} included{sold}")
            }
            Item::Gauge { resource_type, charge_by, held, included, price, from, to, of, .. } => {
                let (by, held) = (charge_by.words(), held.told(*charge_by));
                let share = to - from;
                format!(
                    "{resource_type}: {held} held {by} of {included} included, what is above at {price}, \
                     {share} of {of} parts of the period"
                )
            }
            Item::Correction { resource_type, used_before, used, .. } => {
                format!("{resource_type}: {used} used in an earlier period, {used_before} were billed")
            }
        }
    }
}
