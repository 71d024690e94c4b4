//! The control plane's operations, one function each: authorize, validate, one transaction with its audit row,
//! then tell the directory.
//!
//! Knows no HTTP, no console and no gateway: the API, the console and the command line call the same functions,
//! and what those functions change reaches the data plane through the store's `directory_changes`. A tenant that
//! the caller may not see does not exist for it. Reads never write; a write that was refused leaves one audit
//! row and nothing else.
//!
//! Dropping the future of an operation before it is ready leaves it open whether it was done, never half done.

mod alerts;
mod apply;
mod audit;
mod authenticate;
mod channels;
mod counting;
mod error;
mod health;
mod idempotency;
mod increments;
mod keys;
mod principal;
mod quotas;
mod reconcile;
mod reservations;
mod settings;
mod tenants;
mod tiers;
mod usage;
mod validate;
mod watch;
mod work;

use std::sync::{Arc, Mutex};

use moka::sync::Cache;
use tokio::sync::Notify;
use uuid::{ContextV7, Uuid};

use crate::clock::{Clock, Timestamp};
use crate::domain::{Tenant, TenantId};
use crate::journal::Journal;
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::{Snapshot, Store};
use crate::till::Till;
use principal::Operation;

pub use crate::domain::TenantRef;
pub use alerts::{NewAlertRule, RuleInForce, RuleSource};
pub use apply::{DryRun, Manifest, ManifestKey, ManifestQuota, ManifestTenant, Planned, PlannedAction};
pub use channels::{ChannelChange, ChannelSettings, CreatedChannel, NewChannel};
pub use counting::{Counting, Exceeded, Standing};
pub use error::{ControlError, FieldFault};
pub use health::{HealthReason, TenantHealth, TenantHealthSettings};
pub use idempotency::{Claim, Claimed};
pub use increments::{CountedEvent, EVENTS_MAX, EventOutcome, NewEvent};
pub use keys::{Brought, CreatedKey, KeyChange, NewKey};
pub use principal::{Principal, Rights, Scope};
pub use quotas::{QuotaChange, QuotaCheck, QuotaUse};
pub use reconcile::{AccountBooks, Books};
pub use reservations::{NewReservation, ReservedUnits};
pub use settings::{NewSetting, Rotated, SettingSource, SettingView};
pub use tenants::{NewTenant, TenantChange};
pub use watch::WatchSettings;

/// The door of the room. Clones are the same control plane.
#[derive(Clone)]
pub struct Control {
    parts: Arc<Parts>,
}

#[derive(Clone)]
struct Parts {
    store: Store,
    clock: Arc<dyn Clock>,
    pepper: Pepper,
    changed: Arc<Notify>,
    till: Option<Arc<Till>>,
    journal: Option<Arc<Journal>>,
    counting: Option<Arc<Counting>>,
    secrets: Option<KeyRing>,
    channels: ChannelSettings,
    watch: Arc<WatchSettings>,
    /// What the watch knows to be written down; the store would say so again.
    noted: Cache<(TenantId, String), ()>,
    /// Keeps the order of ids that are made within one millisecond.
    ids: Arc<Mutex<ContextV7>>,
}

/// About 200 bytes each.
const NOTED_MAX: u64 = 50_000;

// === impl Control ===

impl Control {
    /// `changed` is notified after each committed change, so that this process's directory need not wait for its
    /// next poll.
    pub fn new(store: Store, clock: Arc<dyn Clock>, pepper: Pepper, changed: Arc<Notify>) -> Control {
        let (till, journal, counting, secrets, ids) = (None, None, None, None, Arc::default());
        let (channels, watch, noted) = (ChannelSettings::default(), Arc::default(), Cache::new(NOTED_MAX));
        let parts = Parts {
            store,
            clock,
            pepper,
            changed,
            till,
            journal,
            counting,
            secrets,
            channels,
            watch,
            noted,
            ids,
        };
        Control { parts: Arc::new(parts) }
    }

    /// With the keys that tenants' secrets are sealed with; without them no secret can be set or read.
    #[must_use]
    pub fn with_secrets(self, secrets: KeyRing) -> Control {
        Control { parts: Arc::new(Parts { secrets: Some(secrets), ..(*self.parts).clone() }) }
    }

    /// With what tenants' channels may be; without it they are public https URLs.
    #[must_use]
    pub fn with_channels(self, channels: ChannelSettings) -> Control {
        Control { parts: Arc::new(Parts { channels, ..(*self.parts).clone() }) }
    }

    /// With what tenants are told of without having asked, and what is called unwell.
    #[must_use]
    pub fn with_watch(self, watch: WatchSettings) -> Control {
        Control { parts: Arc::new(Parts { watch: Arc::new(watch), ..(*self.parts).clone() }) }
    }

    /// Beside a gateway: what its till knows of an account's use is newer than what the store was told.
    #[must_use]
    pub fn with_till(self, till: Arc<Till>) -> Control {
        Control { parts: Arc::new(Parts { till: Some(till), ..(*self.parts).clone() }) }
    }

    /// Beside a gateway: with its journal the books can be compared.
    #[must_use]
    pub fn with_journal(self, journal: Arc<Journal>) -> Control {
        Control { parts: Arc::new(Parts { journal: Some(journal), ..(*self.parts).clone() }) }
    }

    /// Beside a gateway: usage can be reported.
    #[must_use]
    pub fn with_counting(self, counting: Arc<Counting>) -> Control {
        Control { parts: Arc::new(Parts { counting: Some(counting), ..(*self.parts).clone() }) }
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn channel_settings(&self) -> &ChannelSettings {
        &self.parts.channels
    }

    fn watch_settings(&self) -> &WatchSettings {
        &self.parts.watch
    }

    /// A UUIDv7 of this instant, above those that were made before it.
    fn new_id(&self) -> Uuid {
        let now = self.now().micros();
        let seconds = u64::try_from(now.div_euclid(1_000_000)).unwrap_or(0);
        let nanos = u32::try_from(now.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(&*self.parts.ids, seconds, nanos))
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
