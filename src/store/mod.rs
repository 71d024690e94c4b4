//! The store: everything that outlives the process and is no till and no journal.
//!
//! The only room that speaks SQL. One file per noun; reading functions are methods of [`Snapshot`], writing
//! functions are methods of [`Tx`], so that nothing can be written outside a transaction and what is read
//! together fits together. A transaction notes what it changed in `directory_changes`, which is how every
//! gateway learns of it. Knows no clock, no rights and no till: `control` brings those.
//!
//! # Two databases, one text
//! SQLite for one machine, Postgres for a fleet. Statements use what both share: `$1` placeholders, `ON CONFLICT`,
//! `RETURNING`; `sql` runs them on either, `rows` inserts many rows at once, `values` says once how values look.
//! What differs has its own place: `sqlite` and `postgres` (connections, turns, roles), `partitions`, `isolation`.
//!
//! # Who may see what
//! Each transaction works for somebody ([`Reach`]): the platform, or one tenant. There is no other way to a table. On
//! Postgres row-level security holds it to that, so that a statement that forgets its filter finds nothing that is
//! another tenant's, and serving refuses to begin where that would not hold ([`Store::prepare`]).

mod alerts;
mod archive;
mod audit;
mod billing_events;
mod billing_standings;
mod bulk;
mod changes;
mod channels;
mod checkpoints;
mod error;
mod events;
mod fleet;
mod gauges;
mod grants;
mod idempotency;
mod invoices;
mod isolation;
mod keys;
mod listing;
mod logins;
mod members;
mod migrate;
mod outbox;
mod partitions;
mod pool;
mod postgres;
mod profile;
mod quotas;
mod renewal;
mod reports;
mod ring_keys;
mod rows;
mod series;
mod sessions;
mod settings;
mod sightings;
mod spend_caps;
mod sql;
mod sqlite;
mod tenants;
#[cfg(test)]
pub(crate) mod testing;
mod tiers;
mod tokens;
mod usage;
mod values;
mod watch;

pub use alerts::AlertFilter;
pub use archive::{BadRow, PARTS, Part, Position, ROWS_AT_ONCE};
pub use audit::{AuditEntry, AuditFilter, AuditVerdict, Evidence, PRUNED};
pub use billing_events::{
    BillingAccount, BillingEventFilter, EndedAttempt, ExportProgress, SentBeside, Untaken,
};
pub use billing_standings::BillingStanding;
pub use changes::{Change, Changed};
pub use channels::ChannelSecret;
pub use error::StoreError;
pub use events::UsageEvent;
pub use fleet::Flusher;
pub use grants::{GrantSettings, Grants, Hearing, ServerFacts};
pub use idempotency::KnownRequest;
pub use invoices::UnexportedInvoice;
pub use listing::{BadPage, Cursor, Listed, Page};
pub use outbox::{Attempt, OutboxDepth};
pub use partitions::Partitions;
pub use pool::{Reach, Snapshot, Store, StoreSettings, StoreUrl, Tx};
pub use postgres::Listening;
pub use profile::Profile;
pub use quotas::{OwnQuota, QuotaSource, TenantQuota};
pub use renewal::{Found, Peppered};
pub use series::{SeriesBy, SeriesFilter, SeriesPoint};
pub use sessions::StoredTotp;
pub use settings::{StoredSetting, StoredValue};
pub use sightings::{BadKeys, NewNetwork};
pub use tenants::{TenantCount, TenantFilter, TenantSort, TenantSortBy, Visible};
pub use tokens::PlatformToken;
#[cfg(test)]
pub(crate) use usage::testing as usage_testing;
pub use usage::{
    AccountUse, Fault, Inserted, JournalRange, ParkedRecord, RecentRequests, Rollup, RollupPeriod,
    UsageBatch, UsageFilter, UsageLog, UsageRow, UsageSums,
};
pub use watch::{Exhaustion, Granted, KnownHealth, NearLimit, Refused};
