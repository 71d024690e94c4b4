//! The control plane's operations, one function each: authorize, validate, one transaction with its audit row,
//! then tell the directory.
//!
//! Knows no HTTP, no console and no gateway: the API, the console and the command line call the same functions,
//! and what those functions change reaches the data plane through the store's `directory_changes`. A tenant that
//! the caller may not see does not exist for it. Reads write nothing, but that a tenant is told which of the platform's
//! people looks at it; whatever was refused, a read or a write, leaves one audit row and nothing else.
//!
//! Dropping the future of an operation before it is ready leaves it open whether it was done, never half done.

mod alerts;
mod analytics;
mod apply;
mod archive;
mod audit;
mod authenticate;
mod billing_events;
mod billing_news;
mod branding;
mod bulk;
mod channels;
mod checkpoints;
mod counting;
mod error;
mod exported;
mod fleet;
mod gauges;
mod glance;
mod health;
mod idempotency;
mod increments;
mod invoices;
mod keys;
mod log_ins;
mod members;
mod oidc;
mod passwords;
mod permissions;
mod principal;
mod quotas;
mod recommendation;
mod reconcile;
mod reports;
mod reservations;
mod roles;
mod second_factor;
mod sessions;
mod settings;
mod spend_caps;
mod subscriptions;
mod tenants;
mod throttle;
mod tiers;
mod usage;
mod users;
mod validate;
mod watch;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::Notify;
use uuid::{ContextV7, Uuid};

use crate::clock::{Clock, Timestamp};
use crate::domain::{ActorKind, AuditOutcome, AuditRow, Tenant, TenantId};
use crate::journal::Journal;
use crate::secret::hash::Peppers;
use crate::secret::seal::KeyRing;
use crate::store::{Snapshot, Store};
use crate::till::Till;
use passwords::Passwords;
use principal::Operation;
use throttle::Throttle;
use work::Target;

pub use crate::domain::TenantRef;
pub use alerts::{NewAlertRule, RuleInForce, RuleSource};
pub use analytics::{Analytics, AnalyticsQuery, QuotaForecast};
pub use apply::{
    DryRun, Manifest, ManifestKey, ManifestQuota, ManifestSecret, ManifestTenant, Planned, PlannedAction,
};
pub use archive::{Exported, Imported};
pub use audit::VerifiedChain;
pub use billing_events::BillingExport;
pub use billing_news::{Heard, News, NewsSettings, OnEnd};
pub use branding::Branding;
pub use bulk::NewBulkOperation;
pub use channels::{ChannelChange, ChannelSettings, CreatedChannel, NewChannel};
pub use checkpoints::{Attesting, CheckpointFile, Taken};
pub use counting::{Counting, Exceeded, Standing};
pub use error::{ControlError, FieldFault};
pub use fleet::GatewaySeen;
pub use glance::{Glance, GlanceSpan, LargestQuota};
pub use health::{HealthReason, TenantHealth, TenantHealthSettings};
pub use idempotency::{Claim, Claimed};
pub use increments::{CountedEvent, EVENTS_MAX, EventOutcome, NewEvent};
pub use invoices::{BillingSettings, Verification, VerifiedLine};
pub use keys::{Brought, CreatedKey, KeyChange, NewKey};
pub use log_ins::LogIns;
pub use members::{CreatedInvitation, NewInvitation};
pub use oidc::{Granted, GroupGrant, Oidc, OidcBegun, OidcError, OidcSettings};
pub use permissions::{Permissions, Scope};
pub use principal::{Principal, Rights};
pub use quotas::{QuotaChange, QuotaCheck, QuotaUse};
pub use recommendation::{Recommendation, ShortQuota};
pub use reconcile::{AccountBooks, Books};
pub use reports::LookBack;
pub use reservations::{NewReservation, ReservedUnits};
pub use roles::RoleView;
pub use second_factor::NewSecondFactor;
pub use sessions::{Credentials, LoggedIn, SessionSettings, Visitor};
pub use settings::{NewSetting, Rotated, SettingSource, SettingView};
pub use spend_caps::{CapInForce, NewSpendCap};
pub use subscriptions::{BillingKept, LimitChange, Subscription, TierChangePreview, TierWhen};
pub use tenants::{NewTenant, TenantChange};
pub use tiers::{OfferedTier, TierTraits};
pub use users::{Person, UserWithToken};
pub use watch::WatchSettings;

/// Pairs of one of the platform's people and a tenant that are remembered; who falls out is told of again.
const ACCESSED_MAX: u64 = 10_000;
const ACCESS_TOLD_EVERY: Duration = Duration::from_secs(3_600);

/// The door of the room. Clones are the same control plane.
#[derive(Clone)]
pub struct Control {
    parts: Arc<Parts>,
}

#[derive(Clone)]
struct Parts {
    store: Store,
    clock: Arc<dyn Clock>,
    peppers: Peppers,
    changed: Arc<Notify>,
    till: Option<Arc<Till>>,
    journal: Option<Arc<Journal>>,
    counting: Option<Arc<Counting>>,
    secrets: Option<KeyRing>,
    attesting: Option<Arc<Attesting>>,
    spool: Option<PathBuf>,
    /// The version that what is changed must have, if it matters.
    expected: Option<i64>,
    passwords: Passwords,
    throttle: Arc<Throttle>,
    sessions: SessionSettings,
    log_ins: LogIns,
    oidc: Option<Arc<Oidc>>,
    /// Whose access the platform's people were told of lately, so that it is told once in a while.
    accessed: Cache<(Uuid, TenantId), ()>,
    channels: ChannelSettings,
    watch: Arc<WatchSettings>,
    billing: BillingSettings,
    news: Option<Arc<News>>,
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
    pub fn new(store: Store, clock: Arc<dyn Clock>, peppers: Peppers, changed: Arc<Notify>) -> Control {
        let throttle = Arc::new(Throttle::new(clock.clone()));
        Control {
            parts: Arc::new(Parts {
                store,
                clock,
                peppers,
                changed,
                till: None,
                journal: None,
                counting: None,
                secrets: None,
                attesting: None,
                spool: None,
                passwords: Passwords::default(),
                throttle,
                sessions: SessionSettings::default(),
                log_ins: LogIns::default(),
                oidc: None,
                accessed: Cache::builder().max_capacity(ACCESSED_MAX).time_to_live(ACCESS_TOLD_EVERY).build(),
                channels: ChannelSettings::default(),
                watch: Arc::default(),
                billing: BillingSettings::default(),
                news: None,
                noted: Cache::new(NOTED_MAX),
                expected: None,
                ids: Arc::default(),
            }),
        }
    }

    /// With the keys that tenants' secrets are sealed with; without them no secret can be set or read.
    #[must_use]
    pub fn with_secrets(self, secrets: KeyRing) -> Control {
        Control { parts: Arc::new(Parts { secrets: Some(secrets), ..(*self.parts).clone() }) }
    }

    /// With what attests the audit log: its key, whose word is believed beside it, and where checkpoints go.
    #[must_use]
    pub fn with_attesting(self, attesting: Attesting) -> Control {
        Control { parts: Arc::new(Parts { attesting: Some(Arc::new(attesting)), ..(*self.parts).clone() }) }
    }

    /// With a directory for files that are in the making; the system's own for temporary files, without one.
    #[must_use]
    pub fn with_spool(self, spool: PathBuf) -> Control {
        Control { parts: Arc::new(Parts { spool: Some(spool), ..(*self.parts).clone() }) }
    }

    /// With other lengths of sessions than those of [`SessionSettings::default`].
    #[must_use]
    pub fn with_sessions(self, sessions: SessionSettings) -> Control {
        Control { parts: Arc::new(Parts { sessions, ..(*self.parts).clone() }) }
    }

    /// With a provider that people can log in at.
    #[must_use]
    pub fn with_oidc(self, oidc: Oidc) -> Control {
        Control { parts: Arc::new(Parts { oidc: Some(Arc::new(oidc)), ..(*self.parts).clone() }) }
    }

    /// Log-ins in numbers.
    pub fn log_ins(&self) -> LogIns {
        self.parts.log_ins.clone()
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

    /// With another way to bill than that of [`BillingSettings::default`].
    #[must_use]
    pub fn with_billing(self, billing: BillingSettings) -> Control {
        Control { parts: Arc::new(Parts { billing, ..(*self.parts).clone() }) }
    }

    /// With a collector whose messages are heeded.
    #[must_use]
    pub fn with_news(self, news: News) -> Control {
        Control { parts: Arc::new(Parts { news: Some(Arc::new(news)), ..(*self.parts).clone() }) }
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

    /// For one change: it is done only to a tenant, quota, key or setting of that version, which for quotas is the tenant's, and
    /// 0 for a setting that is not set.
    /// `None` is any. Whatever else is done by it does not look.
    #[must_use]
    pub fn expecting(&self, version: Option<i64>) -> Control {
        if version.is_none() {
            return self.clone();
        }
        Control { parts: Arc::new(Parts { expected: version, ..(*self.parts).clone() }) }
    }

    /// # Errors
    /// [`ControlError::Stale`] if another version is expected.
    fn expects(&self, actual: i64) -> Result<(), ControlError> {
        match self.parts.expected {
            Some(expected) if expected != actual => Err(ControlError::Stale { expected, actual }),
            _ => Ok(()),
        }
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
        let principal = self.towards(principal, tenant).await?;
        let mut snapshot = self.read_as(&principal).await?;
        let found = principal.find(&mut snapshot, tenant).await;
        if let Err(ControlError::NotFound { .. }) = &found {
            self.note_foreign_read(&principal, operation, tenant).await?;
        }
        let found = found?;
        self.allow(&principal, operation, &Target::tenant(&found)).await?;
        if principal.actor.kind == ActorKind::PlatformUser {
            self.tell_access(&principal, operation, &found).await?;
        }
        Ok((snapshot, found))
    }

    /// A tenant is told which of the platform's people looks at it: once an hour, with the first look.
    async fn tell_access(
        &self,
        principal: &Principal,
        operation: Operation,
        tenant: &Tenant,
    ) -> Result<(), ControlError> {
        let pair = (principal.actor.id.unwrap_or_default(), tenant.id);
        if self.parts.accessed.contains_key(&pair) {
            return Ok(());
        }
        let mut tx = self.parts.store.begin().await?;
        tx.audit(&AuditRow {
            at: self.now(),
            tenant: Some(tenant.id),
            actor: principal.actor.clone(),
            action: "tenant.access".to_owned(),
            target_kind: "tenant".to_owned(),
            target_id: tenant.id.to_string(),
            outcome: AuditOutcome::Done,
            before: None,
            after: Some(serde_json::json!({ "operation": operation.action() })),
            reason: None,
            correlation: principal.correlation,
        })
        .await?;
        tx.commit().await?;
        self.parts.accessed.insert(pair, ());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
