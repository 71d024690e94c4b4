//! The cache in front of the store: bounded, single-flight, with negative entries.
//!
//! # Why an entry can't outlive what it was made from
//! Each entry holds a [`Freshness`] for its tenant and one for its key; a change lapses them, and what is not fresh is
//! read anew at its next use. Whose freshness to take is known only after reading, so a change may come in between:
//! changes are counted before they lapse anything, and a reading during which the count rose is repeated. There is no
//! order of reading, caching and changing in which an old entry stays in use.
//!
//! # Why a key is cached by its current digest, wherever it is stored
//! A look-up tries all of a key's digests in one snapshot, so one whose row is being renewed is found under either. What
//! was found does not depend on the digest: a renewal makes nothing untrue that anybody has cached, and needs no note.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use foldhash::quality::RandomState;
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::entitlements::{Entitlements, Freshness, FreshnessOf, Source};
use super::renewal::Renewals;
use crate::clock::{Clock, Monotonic, Timestamp};
use crate::domain::{LossPolicy, Resource, TenantId, TenantRef, Units};
use crate::secret::hash::Digests;
use crate::store::{Changed, Profile, Store, StoreError};
use crate::till::{Till, TillFull};

/// How many look-ups of different subjects may wait for the store at once; beyond it the caller is told to come back.
const LOADS_MAX: usize = 1024;

/// How often a subject is read again because something changed meanwhile, before the caller is told to come back.
const READINGS_MAX: usize = 5;

/// How many unknown subjects are remembered, and for how long: long enough to blunt a client that retries, short enough
/// that an imported key works soon.
const UNKNOWN_MAX: u64 = 100_000;
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct DirectorySettings {
    /// How many subjects are cached. About 5 KB each, measured by `benches/scale`.
    pub subjects_max: u64,
    /// What the tenant headers' names begin with: `x-tenant-`.
    pub header_prefix: String,
    /// Whether this gateway has the accounts to itself. If not, an authority knows what others use.
    pub is_alone: bool,
    /// For quotas that don't say themselves what happens when the authority can't be asked.
    pub on_loss: LossPolicy,
}

/// What is known of keys and tenants. Shared by all workers.
pub struct Directory {
    settings: DirectorySettings,
    pub(super) store: Store,
    till: Arc<Till>,
    clock: Arc<dyn Clock>,
    /// Where the store is asked: the control plane's runtime, so that its connections belong to it.
    runtime: Handle,
    /// When this till began: alone, no other till has used anything of a window that began later.
    began: Timestamp,
    known: Cache<Subject, Arc<Entitlements>, RandomState>,
    unknown: Cache<Subject, ()>,
    loads: Mutex<HashMap<Subject, Vec<oneshot::Sender<Loaded>>>>,
    held: Mutex<Held>,
    pub(super) renewals: Renewals,
    /// Changes so far.
    changes: AtomicU64,
    /// Times that the store was asked for a subject.
    asked: AtomicU64,
    /// When all changes were last known to be read.
    in_step_at: Mutex<Monotonic>,
    charged: RwLock<Arc<[Resource]>>,
}

/// By what a caller is looked up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    /// A key of ours.
    Key(Digests),
    /// The tenant that somebody else's token names.
    Tenant(TenantRef),
}

/// What a subject stands for.
#[derive(Clone, Debug)]
pub enum Lookup {
    Known(Arc<Entitlements>),
    Unknown,
}

/// Why it can't be told who calls. Not the caller's fault.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupFailed {
    #[error("the store could not be read")]
    Store(#[source] Arc<StoreError>),
    #[error("the till has no slot left for another account")]
    Till(#[source] Arc<TillFull>),
    #[error("too many callers are being looked up at once")]
    Busy,
}

type Loaded = Result<Lookup, LookupFailed>;

/// The freshness of every tenant and key that something is compiled from.
#[derive(Default)]
struct Held {
    subjects: HashMap<Uuid, Weak<Freshness>>,
    purge_at: usize,
}

// === impl Directory ===

impl Directory {
    /// Must be called inside a tokio runtime: the one that will ask the store.
    pub fn new(
        settings: DirectorySettings,
        store: Store,
        till: Arc<Till>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Directory {
            known: Cache::builder()
                .max_capacity(settings.subjects_max)
                .build_with_hasher(RandomState::default()),
            unknown: Cache::builder().max_capacity(UNKNOWN_MAX).time_to_live(UNKNOWN_FOR).build(),
            runtime: Handle::current(),
            began: clock.now(),
            settings,
            store,
            till,
            loads: Mutex::default(),
            held: Mutex::default(),
            renewals: Renewals::default(),
            changes: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            in_step_at: Mutex::new(clock.monotonic()),
            charged: RwLock::new(Arc::from([])),
            clock,
        })
    }

    /// What is cached of that subject, if it still holds at `now`. Neither waits nor allocates.
    pub fn cached(&self, subject: &Subject, now: Timestamp) -> Option<Lookup> {
        if let Some(entitlements) = self.known.get(subject) {
            return entitlements.holds(now).then_some(Lookup::Known(entitlements));
        }
        self.unknown.contains_key(subject).then_some(Lookup::Unknown)
    }

    /// Whether the subject was somebody when it was last looked up, though it may have changed since.
    pub fn remembers(&self, subject: &Subject) -> bool {
        self.known.contains_key(subject)
    }

    /// Reads that subject from the store, once for all who ask at the same time. Dropping the future leaves the reading
    /// to go on for the others.
    ///
    /// # Errors
    /// [`LookupFailed`]; nothing is cached then.
    pub async fn load(self: &Arc<Self>, subject: Subject) -> Result<Lookup, LookupFailed> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waiting) = loads.get_mut(&subject) {
                waiting.push(sender);
            } else if loads.len() >= LOADS_MAX {
                return Err(LookupFailed::Busy);
            } else {
                loads.insert(subject.clone(), vec![sender]);
                let directory = self.clone();
                self.runtime.spawn(async move { directory.load_for_all(&subject).await });
            }
        }
        receiver.await.unwrap_or(Err(LookupFailed::Busy))
    }

    /// What the tenant pays from for these resources, read from the store as it is now; `None` if there is no such
    /// tenant. For who reports usage seldom, and of resources that no route charges: nothing of it is cached.
    ///
    /// # Errors
    /// [`LookupFailed`]
    pub async fn paying(
        &self,
        tenant: TenantId,
        resources: &[Resource],
    ) -> Result<Option<Entitlements>, LookupFailed> {
        let now = self.clock.now();
        let read = self.store.tenant_profile(&TenantRef::Id(tenant), now).await;
        let Some(profile) = read.map_err(|error| LookupFailed::Store(Arc::new(error)))? else {
            return Ok(None);
        };
        let (profile, freshness) = (Arc::new(profile), FreshnessOf::new());
        let source = Source { profile, freshness, settings: &self.settings, charged: resources };
        let bases = self.bases(&source, now).await?;
        let compiled = source.compile(&self.till, &bases, now);
        compiled.map(Some).map_err(|error| LookupFailed::Till(Arc::new(error)))
    }

    /// Forgets what a change made untrue. What is unknown may have become known.
    pub fn forget(&self, changed: &Changed) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        match changed {
            Changed::Tenant(id) => self.lapse(id.0),
            Changed::Key(id) => self.lapse(id.0),
            Changed::Tier(_) => self.forget_all(),
        }
        self.unknown.invalidate_all();
    }

    /// How often something has changed. Another number is another state; what changed is told by
    /// [`Entitlements::is_fresh`].
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// All changes so far are known.
    pub(super) fn in_step(&self) {
        *self.in_step_at.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.monotonic();
    }

    /// How far behind the store what is cached may be: no change is older that is not obeyed.
    pub fn staleness(&self) -> Duration {
        let at = *self.in_step_at.lock().unwrap_or_else(PoisonError::into_inner);
        self.clock.monotonic().since(at)
    }

    /// How often the store was asked for a subject that was not cached.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Forgets everything: after a gap in the notes of changes, or a change that concerns all.
    pub fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for freshness in held.subjects.drain().filter_map(|(_, freshness)| freshness.upgrade()) {
            freshness.lapse();
        }
    }

    /// Lets go of what it could only ask the store for again: unknown subjects, and known ones that have changed or ended
    /// since they were read. What holds is kept: the store may be away.
    pub fn shrink(&self) {
        self.unknown.invalidate_all();
        self.unknown.run_pending_tasks();
        let now = self.clock.now();
        for (subject, _) in self.known.iter().filter(|(_, entitlements)| !entitlements.profile_holds(now)) {
            self.known.invalidate(&*subject);
        }
        self.known.run_pending_tasks();
    }

    /// Names the resources that routes charge: entitlements are compiled for these.
    pub fn set_charged(&self, resources: Arc<[Resource]>) {
        *self.charged.write().unwrap_or_else(PoisonError::into_inner) = resources;
        self.forget_all();
    }

    /// How many subjects are cached, about.
    pub fn len(&self) -> u64 {
        self.known.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    async fn load_for_all(&self, subject: &Subject) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let loaded = self.read(subject).await;
        let waiting = self.loads.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
        for sender in waiting.into_iter().flatten() {
            // Whoever no longer waits has gone away.
            let _ = sender.send(loaded.clone());
        }
    }

    async fn read(&self, subject: &Subject) -> Loaded {
        if let Some(old) = self.known.get(subject).filter(|old| old.profile_holds(self.clock.now())) {
            return self.compile(subject, old.profile().clone(), old.freshness().clone()).await;
        }
        for _ in 0..READINGS_MAX {
            let changes = self.changes.load(Ordering::Acquire);
            let profile = self.profile(subject).await;
            let Some(profile) = profile.map_err(|error| LookupFailed::Store(Arc::new(error)))? else {
                self.known.invalidate(subject);
                self.unknown.insert(subject.clone(), ());
                return Ok(Lookup::Unknown);
            };
            let freshness = self.freshness_of(&profile);
            let loaded = self.compile(subject, Arc::new(profile), freshness).await?;
            if self.changes.load(Ordering::Acquire) == changes {
                return Ok(loaded);
            }
        }
        self.known.invalidate(subject);
        Err(LookupFailed::Busy)
    }

    async fn profile(&self, subject: &Subject) -> Result<Option<Profile>, StoreError> {
        let now = self.clock.now();
        match subject {
            Subject::Key(digests) => {
                let Some(found) = self.store.key_profile(digests, now).await? else { return Ok(None) };
                if let Some(renewal) = found.renewal {
                    self.renewals.note(renewal);
                }
                Ok(Some(found.what))
            }
            Subject::Tenant(named) => self.store.tenant_profile(named, now).await,
        }
    }

    async fn compile(&self, subject: &Subject, profile: Arc<Profile>, freshness: FreshnessOf) -> Loaded {
        let now = self.clock.now();
        let charged = self.charged.read().unwrap_or_else(PoisonError::into_inner).clone();
        let source = Source { profile, freshness, settings: &self.settings, charged: &charged };
        let bases = self.bases(&source, now).await?;
        let entitlements = Arc::new(
            source.compile(&self.till, &bases, now).map_err(|error| LookupFailed::Till(Arc::new(error)))?,
        );
        self.known.insert(subject.clone(), entitlements.clone());
        Ok(Lookup::Known(entitlements))
    }

    /// What other tills have used of the accounts: this one's predecessor, if its file was lost.
    async fn bases(&self, source: &Source<'_>, now: Timestamp) -> Result<Vec<Units>, LookupFailed> {
        let accounts = source.accounts(now);
        let is_told = !self.settings.is_alone;
        let all_began_here = accounts.iter().all(|account| account.window.start >= self.began);
        if is_told || all_began_here || accounts.iter().all(|account| self.till.find(account).is_some()) {
            return Ok(vec![Units::ZERO; accounts.len()]);
        }
        let units = async { self.store.read().await?.other_tills_units(&accounts, self.till.id().0).await };
        units.await.map_err(|error| LookupFailed::Store(Arc::new(error)))
    }

    fn freshness_of(&self, profile: &Profile) -> FreshnessOf {
        let key = profile.key.as_ref().map(|key| key.id.0);
        let above = profile.above.iter().map(|tenant| tenant.id.0);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        [profile.tenant.id.0].into_iter().chain(key).chain(above).map(|subject| held.of(subject)).collect()
    }

    fn lapse(&self, subject: Uuid) {
        let freshness = self.held.lock().unwrap_or_else(PoisonError::into_inner).subjects.remove(&subject);
        if let Some(freshness) = freshness.and_then(|freshness| freshness.upgrade()) {
            freshness.lapse();
        }
    }
}

// === impl Held ===

impl Held {
    const PURGE_AT_LEAST: usize = 1024;

    fn of(&mut self, subject: Uuid) -> Arc<Freshness> {
        if let Some(freshness) = self.subjects.get(&subject).and_then(Weak::upgrade) {
            return freshness;
        }
        if self.subjects.len() >= self.purge_at {
            self.subjects.retain(|_, freshness| freshness.strong_count() > 0);
            self.purge_at = (self.subjects.len() * 2).max(Held::PURGE_AT_LEAST);
        }
        let freshness = Arc::new(Freshness::default());
        self.subjects.insert(subject, Arc::downgrade(&freshness));
        freshness
    }
}
