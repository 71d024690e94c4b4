//! Counting without details, while there is no space for records: one growing record per caller and accounts.
//!
//! A sum is an entry of the table of requests in flight whose record stands for many requests. When a request ends, a
//! new entry with the grown record takes the place of the sum's old one and of the request's own in a single store
//! ([`Table::replace`](super::in_flight::Table::replace)). So a `kill -9` finds each request in a sum or by itself, never in both; and a sum that a crash
//! leaves behind becomes a record like any other entry does. The entries were allocated when the journal was opened:
//! counting needs no disk.
//!
//! # What is lost
//! Routes, outcomes, times and sizes of the single requests; their number is told. No unit of any account.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::record::Charges;
use crate::clock::Timestamp;
use crate::domain::{AccountKey, ApiKeyId, Outcome, RequestId, TenantId, UsageRecord};

/// Stands in the route of a record that is a sum.
const ROUTE: &str = "(counted only)";

/// All sums of one writer.
#[derive(Default)]
pub(super) struct Counted(HashMap<Signature, Sum>);

/// What the requests of a sum have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Signature {
    tenant: TenantId,
    key: Option<ApiKeyId>,
    accounts: SmallVec<[AccountKey; 4]>,
}

/// Many requests as one.
pub(super) struct Sum {
    /// Its entry in the table; `None` until the first request is in it.
    pub(super) entry: Option<u32>,
    /// The first request's.
    request: RequestId,
    admitted_at: Timestamp,
    tenant: TenantId,
    key: Option<ApiKeyId>,
    charges: Charges,
    bytes_in: u64,
    bytes_out: u64,
}

// === impl Counted ===

impl Counted {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has_sum_of(&self, record: &UsageRecord<'_>) -> bool {
        self.0.contains_key(&Signature::of(record))
    }

    /// Adds a request to its sum.
    pub(super) fn add(&mut self, record: &UsageRecord<'_>) -> &mut Sum {
        let sum = self.0.entry(Signature::of(record)).or_insert_with(|| Sum::before(record));
        sum.add(record);
        sum
    }

    /// Takes all sums out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sum> {
        std::mem::take(&mut self.0).into_values()
    }
}

// === impl Signature ===

impl Signature {
    fn of(record: &UsageRecord<'_>) -> Signature {
        let accounts = record.charges.iter().map(|charge| charge.account).collect();
        Signature { tenant: record.tenant, key: record.key, accounts }
    }
}

// === impl Sum ===

impl Sum {
    /// A sum that a request with this record is about to begin.
    fn before(record: &UsageRecord<'_>) -> Sum {
        let UsageRecord { request, admitted_at, tenant, key, .. } = *record;
        let mut charges: Charges = record.charges.into();
        for charge in &mut charges {
            (charge.units, charge.overage) = Default::default();
        }
        Sum { entry: None, request, admitted_at, tenant, key, charges, bytes_in: 0, bytes_out: 0 }
    }

    fn add(&mut self, record: &UsageRecord<'_>) {
        for (sum, charge) in self.charges.iter_mut().zip(record.charges) {
            sum.units = sum.units.saturating_add(charge.units);
            sum.overage = sum.overage.saturating_add(charge.overage);
        }
        self.bytes_in = self.bytes_in.saturating_add(record.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(record.bytes_out);
    }

    pub(super) fn record(&self) -> UsageRecord<'_> {
        UsageRecord {
            request: self.request,
            tenant: self.tenant,
            key: self.key,
            route: ROUTE,
            charges: &self.charges,
            outcome: Outcome::Answered,
            status: 0,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            latency_micros: 0,
            admitted_at: self.admitted_at,
        }
    }
}
