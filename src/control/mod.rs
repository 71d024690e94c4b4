//! The control plane's operations, one function each: authorize, validate, one transaction with its audit row,
//! then tell the directory.
//!
//! Knows no HTTP, no console and no gateway: the API, the console and the command line call the same functions,
//! and what those functions change reaches the data plane through the store's `directory_changes`. A tenant that
//! the caller may not see does not exist for it. Reads never write; a write that was refused leaves one audit
//! row and nothing else.
//!
//! Dropping the future of an operation before it is ready leaves it open whether it was done, never half done.

mod apply;
mod audit;
mod authenticate;
mod error;
mod keys;
mod principal;
mod quotas;
mod reconcile;
mod tenants;
mod tiers;
mod usage;
mod validate;
mod work;

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use uuid::{ContextV7, Uuid};

use crate::clock::{Clock, Timestamp};
use crate::domain::Tenant;
use crate::journal::Journal;
use crate::secret::hash::Pepper;
use crate::store::{Snapshot, Store};
use crate::till::Till;
use principal::Operation;

pub use crate::domain::TenantRef;
pub use apply::{DryRun, Manifest, ManifestKey, ManifestQuota, ManifestTenant, Planned, PlannedAction};
pub use error::{ControlError, FieldFault};
pub use keys::{Brought, CreatedKey, KeyChange, NewKey};
pub use principal::{Principal, Rights, Scope};
pub use quotas::{QuotaChange, QuotaUse};
pub use reconcile::{AccountBooks, Books};
pub use tenants::{NewTenant, TenantChange};

/// The door of the room. Clones are the same control plane.
#[derive(Clone)]
pub struct Control {
    parts: Arc<Parts>,
}

struct Parts {
    store: Store,
    clock: Arc<dyn Clock>,
    pepper: Pepper,
    changed: Arc<Notify>,
    till: Option<Arc<Till>>,
    journal: Option<Arc<Journal>>,
    /// Keeps the order of ids that are made within one millisecond.
    ids: Mutex<ContextV7>,
}

// === impl Control ===

impl Control {
    /// `changed` is notified after each committed change, so that this process's directory need not wait for its
    /// next poll.
    pub fn new(store: Store, clock: Arc<dyn Clock>, pepper: Pepper, changed: Arc<Notify>) -> Control {
        let ids = Mutex::new(ContextV7::new());
        Control { parts: Arc::new(Parts { store, clock, pepper, changed, till: None, journal: None, ids }) }
    }

    /// Beside a gateway: what its till knows of an account's use is newer than what the store was told.
    #[must_use]
    pub fn with_till(self, till: Arc<Till>) -> Control {
        let journal = self.parts.journal.clone();
        self.beside(Some(till), journal)
    }

    /// Beside a gateway: with its journal the books can be compared.
    #[must_use]
    pub fn with_journal(self, journal: Arc<Journal>) -> Control {
        let till = self.parts.till.clone();
        self.beside(till, Some(journal))
    }

    fn beside(&self, till: Option<Arc<Till>>, journal: Option<Arc<Journal>>) -> Control {
        let Parts { store, clock, pepper, changed, .. } = &*self.parts;
        let (store, clock, pepper, changed) = (store.clone(), clock.clone(), pepper.clone(), changed.clone());
        let ids = Mutex::new(ContextV7::new());
        Control { parts: Arc::new(Parts { store, clock, pepper, changed, till, journal, ids }) }
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// A UUIDv7 of this instant, above those that were made before it.
    fn new_id(&self) -> Uuid {
        let now = self.now().micros();
        let seconds = u64::try_from(now.div_euclid(1_000_000)).unwrap_or(0);
        let nanos = u32::try_from(now.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&self.parts.ids, seconds, nanos))
    }

    /// The store as it is now, for what the platform itself has to know.
    async fn read(&self) -> Result<Snapshot, ControlError> {
        Ok(self.parts.store.read().await?)
    }

    /// The store as it is now, as far as the caller's arm reaches.
    async fn read_as(&self, principal: &Principal) -> Result<Snapshot, ControlError> {
        Ok(self.parts.store.read_as(principal.reach()).await?)
    }

    /// The store as it is now and a tenant in it, for an operation that only reads.
    async fn read_tenant(
        &self,
        principal: &Principal,
        operation: Operation,
        tenant: &TenantRef,
    ) -> Result<(Snapshot, Tenant), ControlError> {
        let mut snapshot = self.read_as(principal).await?;
        let tenant = principal.find(&mut snapshot, tenant).await?;
        principal.authorize(operation)?;
        Ok((snapshot, tenant))
    }
}

#[cfg(test)]
mod tests;
