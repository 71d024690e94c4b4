//! The document: lines of a period with their sum, and what became of it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{BillingPeriod, CollectorKind, Currency, Item, Money, NotCountable, Proration, Rounding};
use crate::clock::Timestamp;
use crate::domain::{TenantId, Zone};

/// Identifies an invoice. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct InvoiceId(pub Uuid);

/// What becomes of an invoice. What is computed when somebody asks is a draft, and in no table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    Draft,
    Finalized,
    Exported,
    Paid,
    Void,
}

/// How an invoice is computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    pub currency: Currency,
    pub proration: Proration,
    pub rounding: Rounding,
    /// Whose days count.
    pub zone: Zone,
}

/// What is owed for a period, and by whom: the same whoever computes it, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bill {
    pub tenant: TenantId,
    pub period: BillingPeriod,
    pub terms: Terms,
    /// The tenant's name.
    pub bill_to: String,
    pub billing_email: Option<String>,
    pub lines: Vec<InvoiceLine>,
    /// The sum of the lines.
    pub total_minor: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvoiceLine {
    pub amount_minor: i64,
    pub item: Item,
}

/// A bill that was finalized: it never changes, but for what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invoice {
    pub id: InvoiceId,
    pub bill: Bill,
    pub finalized_at: Timestamp,
    pub status: InvoiceStatus,
    /// Since when it has that status.
    pub status_at: Timestamp,
    pub status_reason: Option<String>,
    /// When everything that was counted in its period had reached its collector; also of one that was paid since.
    pub exported: Option<ExportedTo>,
}

/// Where the usage of a period was brought, and when all of it was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExportedTo {
    pub at: Timestamp,
    pub collector: CollectorKind,
}

// === impl InvoiceId ===

impl fmt::Display for InvoiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl InvoiceStatus ===

impl InvoiceStatus {
    pub const ALL: [InvoiceStatus; 5] = [
        InvoiceStatus::Draft,
        InvoiceStatus::Finalized,
        InvoiceStatus::Exported,
        InvoiceStatus::Paid,
        InvoiceStatus::Void,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            InvoiceStatus::Draft => "draft",
            InvoiceStatus::Finalized => "finalized",
            InvoiceStatus::Exported => "exported",
            InvoiceStatus::Paid => "paid",
            InvoiceStatus::Void => "void",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        InvoiceStatus::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

// === impl Bill ===

impl Bill {
    /// With each item's amount, and no line yet to begin with.
    ///
    /// # Errors
    /// [`NotCountable`]
    pub fn with(self, items: Vec<Item>) -> Result<Bill, NotCountable> {
        let Terms { currency, rounding, .. } = self.terms;
        let line =
            |item: Item| Ok(InvoiceLine { amount_minor: item.amount_minor(currency, rounding)?, item });
        let lines = items.into_iter().map(line).collect::<Result<Vec<_>, NotCountable>>()?;
        let sum = |sum: i64, line: &InvoiceLine| sum.checked_add(line.amount_minor);
        let total_minor = lines.iter().try_fold(0, sum).ok_or(NotCountable)?;
        Ok(Bill { lines, total_minor, ..self })
    }

    pub fn money(&self, minor: i64) -> Money {
        Money { minor, currency: self.terms.currency }
    }
}
