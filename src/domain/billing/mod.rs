//! What is owed: money, prices, who had which tier when, and the lines that make an invoice.
//!
//! Pure functions from what is known (tiers, the times of their change, what the ledger counted) to lines. They know
//! neither clock nor store, so an invoice can be computed again at any time and must come out the same: that is how it
//! is drawn up, how it is estimated beforehand, and how it is verified afterwards.
//!
//! # How money is exact
//! An amount is a whole number of minor units. A price is a decimal, a prorated price a fraction; both are kept as
//! numerator and denominator of 128 bits and rounded once, when they become the amount of a line. The total is the sum
//! of rounded lines. A decimal type would have to round thirds before that.
//!
//! # How a period is divided
//! By whole days of the tenant's zone, unless the installation counts seconds, and always over the whole period: what is
//! left of a price after ten of thirty days is twenty thirtieths. A day belongs to the tier that holds at its end.

mod cap;
mod event;
mod held;
mod invoice;
mod line;
mod money;
mod period;

pub use cap::{AtCap, BadShares, Ceiling, SPEND_CAP, Sale, Shares, SpendCap};
pub use event::{BILLING_ACCOUNT, BillingEvent, BillingEventId, BillingEventState, CollectorKind, Settled};
pub use held::{ChargeBy, Held, Holding, Level};
pub use invoice::{Bill, ExportedTo, Invoice, InvoiceId, InvoiceLine, InvoiceStatus, Terms};
pub use line::{Item, Metered, NotCountable, Priced, line_items, overage_minor};
pub use money::{BadPrice, Currency, Money, Rounding, UnitPrice};
pub use period::{
    BillingPeriod, Measure, Plan, Proration, ScheduledTier, Segment, Stretch, joined, next_period, stretches,
};

#[cfg(test)]
mod tests;
