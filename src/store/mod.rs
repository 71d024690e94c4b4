//! The store: everything that outlives the process and is no till and no journal.
//!
//! The only room that speaks SQL. One file per noun; reading functions are methods of [`Snapshot`], writing
//! functions are methods of [`Tx`], so that nothing can be written outside a transaction and what is read
//! together fits together. A transaction notes what it changed in `directory_changes`, which is how every
//! gateway learns of it. Knows no clock, no rights and no till: `control` brings those.
//!
//! # Two dialects, one text
//! Statements use what SQLite and Postgres share: `$1` placeholders, `ON CONFLICT`, `RETURNING`. Ids are bound
//! as [`uuid::Uuid`] (16 bytes), instants as [`Timestamp`](crate::clock::Timestamp) (fixed-width RFC 3339 text
//! on SQLite), enums as their text: `values.rs` is where their forms are said once.
//!
//! # Why SQLite syncs every commit
//! The flush forgets journal records once the database has them; a commit that a power loss takes back would
//! lose them. The flush commits a few times per second, so a sync for each costs nothing that anyone waits for.

mod audit;
mod changes;
mod error;
mod keys;
mod listing;
mod migrate;
mod pool;
mod quotas;
mod tenants;
#[cfg(test)]
pub(crate) mod testing;
mod tiers;
mod tokens;
mod usage;
mod values;

pub use audit::{AuditEntry, AuditVerdict};
pub use changes::{Change, Changed};
pub use error::StoreError;
pub use keys::KeyProfile;
pub use listing::{BadPage, Cursor, Listed, Page};
pub use pool::{Snapshot, Store, StoreUrl, Tx};
pub use quotas::{OwnQuota, QuotaSource, TenantQuota};
pub use tenants::{TenantFilter, TenantSort, TenantSortBy};
pub use tokens::PlatformToken;
pub use usage::{
    AccountUse, Fault, Inserted, JournalRange, ParkedRecord, Rollup, RollupPeriod, UsageBatch, UsageFilter,
    UsageLog, UsageRow, UsageSums,
};
