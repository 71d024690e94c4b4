//! From an account to its slot. Only the first request of an account in a process comes here: who has an
//! [`Account`] goes to the slot directly.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use uuid::Uuid;

use super::file::{self, BootId, LostTill, MappedSlot, Opened, TillError, TillFile, TillId};
use super::protocol::Terms;
use super::refill::Pace;
use super::slot::{Counters, Slot, UNLIMITED};
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Limit, Units};

/// How large a till may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TillSettings {
    /// Accounts at the same time; each takes 192 bytes of the file, which grows as they come.
    pub accounts_max: usize,
}

/// The gateway's accounts. Shared by all threads.
///
/// Dropping it without [`Till::close`] loses nothing unless the machine loses power before the kernel has written
/// the pages back. The directory stays locked until the last [`Account`] is gone, too.
pub struct Till {
    id: TillId,
    settings: TillSettings,
    lost: Option<LostTill>,
    table: RwLock<Table>,
}

/// What an account begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    pub terms: Terms,
    /// Units that other tills used in this window, as far as the store knows.
    pub base: Units,
}

/// An account of a till. Clones are the same account; while one is held, its slot is not reused.
#[derive(Clone)]
pub struct Account(Arc<Inner>);

/// No account can be added.
#[derive(Debug, thiserror::Error)]
pub enum TillFull {
    #[error("the till holds {accounts_max} accounts already, as many as it may")]
    Accounts { accounts_max: usize },
    #[error("the till can't grow")]
    Disk(#[source] TillError),
}

/// More than is held can't be released.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{units} units can't be released, since only {used} are in use")]
pub struct NotHeld {
    pub units: Units,
    pub used: Units,
}

struct Inner {
    key: AccountKey,
    till: TillId,
    slot: MappedSlot,
    pace: Pace,
    /// The version of the slot's limit; 0 as long as this process has read none. Locked while the limit changes.
    version: Mutex<u64>,
    /// When this many units are spent, more should be asked for: before the balance is empty.
    refill_at: AtomicU64,
}

/// No number of spent units.
const NEVER: u64 = u64::MAX;

struct Table {
    file: TillFile,
    accounts: HashSet<Account>,
    /// Slots without an account; the lowest is the last.
    free: Vec<usize>,
}

// === impl TillSettings ===

impl Default for TillSettings {
    /// A million accounts: 192 MB at most.
    fn default() -> Self {
        TillSettings { accounts_max: 1_000_000 }
    }
}

// === impl Till ===

impl Till {
    /// How long after its window's end a slot is kept, so that a request which saw the window just before its end
    /// finds the account with what was used of it, and not a new one.
    pub const REUSE_GRACE: Duration = Duration::from_secs(60);

    /// Opens or creates `<directory>/till`; balances go on where the last process, however it ended, left them.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`TillError`]; a file that is not understood is left as it is.
    pub fn open(directory: &Path, settings: &TillSettings) -> Result<Till, TillError> {
        Till::open_in(directory, *settings, BootId::current())
    }

    /// As [`Till::open`], in the run of the machine that `boot` says it is: another one than before is a power loss.
    ///
    /// # Errors
    /// [`TillError`]; a file that is not understood is left as it is.
    pub fn open_in(directory: &Path, settings: TillSettings, boot: BootId) -> Result<Till, TillError> {
        let Opened { file, lost } = file::open(directory, boot, TillId(Uuid::now_v7()))?;
        Ok(Till { id: file.id(), settings, lost, table: RwLock::new(Table::read(file)?) })
    }

    pub fn id(&self) -> TillId {
        self.id
    }

    /// The till before this one, if a power loss has put it in doubt on this start: to be reported.
    pub fn lost(&self) -> Option<&LostTill> {
        self.lost.as_ref()
    }

    /// How many accounts there are.
    pub fn len(&self) -> usize {
        self.read().accounts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds or begins an account. One that exists takes the opening's limit, as by [`Account::set_terms`], and
    /// never loses what was used. May lock, and blocks on the disk when the file grows.
    ///
    /// # Errors
    /// [`TillFull`] if it is a new one and there is no room.
    pub fn account(&self, key: &AccountKey, opening: Opening) -> Result<Account, TillFull> {
        if let Some(account) = self.find(key) {
            account.reopen(opening);
            return Ok(account);
        }
        self.begin(key, opening)
    }

    pub fn find(&self, key: &AccountKey) -> Option<Account> {
        self.read().accounts.get(key).cloned()
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> Vec<Account> {
        self.read().accounts.iter().cloned().collect()
    }

    /// Of every account, in no order.
    pub fn counters(&self) -> Vec<(AccountKey, Counters)> {
        self.read().accounts.iter().map(|account| (*account.key(), account.counters())).collect()
    }

    /// For the flush only: the database has committed records of `units` of the account in total. Smaller numbers
    /// than before, and accounts that are gone, are ignored.
    pub fn set_journalled(&self, key: &AccountKey, units: u64) {
        if let Some(account) = self.find(key) {
            account.slot().set_journalled(units);
        }
    }

    /// For recovery only, before requests are served: gives back units that were taken for requests which were
    /// never sent. Lowers the overage first. Never below zero; an account that is gone is ignored.
    pub fn write_back(&self, key: &AccountKey, units: Units) {
        if let Some(account) = self.find(key) {
            let used = account.counters().used();
            account.slot().release(units.get().min(used));
        }
    }

    /// Frees the slots of windows that ended [`Till::REUSE_GRACE`] ago, whose use the database has to the unit
    /// and which nobody holds. Answers how many.
    pub fn reuse_ended(&self, now: Timestamp) -> usize {
        let ended = now.minus(Till::REUSE_GRACE);
        let mut table = self.write();
        let before = table.accounts.len();
        let Table { accounts, free, .. } = &mut *table;
        accounts.retain(|account| {
            let is_over = account.key().window.end <= ended && account.is_unheld() && account.is_settled();
            if is_over {
                account.0.slot.clear();
                free.push(account.0.slot.index());
            }
            !is_over
        });
        before - table.accounts.len()
    }

    /// Writes everything back and marks the file as whole. Accounts may still be used afterwards; what they then
    /// change survives a kill, but not a power loss. Blocks on the disk.
    ///
    /// # Errors
    /// [`TillError::Io`]: the file then counts as not whole.
    pub fn close(&self) -> Result<(), TillError> {
        self.write().file.close()
    }

    fn begin(&self, key: &AccountKey, opening: Opening) -> Result<Account, TillFull> {
        let mut table = self.write();
        if let Some(account) = table.accounts.get(key).cloned() {
            account.reopen(opening);
            return Ok(account);
        }
        if table.accounts.len() >= self.settings.accounts_max {
            return Err(TillFull::Accounts { accounts_max: self.settings.accounts_max });
        }
        table.begin(key, opening)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Account ===

impl Account {
    pub fn key(&self) -> &AccountKey {
        &self.0.key
    }

    /// The till that it is an account of.
    pub fn till(&self) -> TillId {
        self.0.till
    }

    pub fn counters(&self) -> Counters {
        self.slot().counters()
    }

    pub fn limit(&self) -> Limit {
        from_limit(self.slot().limit())
    }

    /// Units that other tills used, as far as is known.
    pub fn base(&self) -> Units {
        Units::saturating(self.slot().base())
    }

    /// The limit, and the version that it is of.
    pub fn terms(&self) -> Terms {
        let version = self.version();
        Terms { limit: self.limit(), version: *version }
    }

    /// Changes the limit and nothing else: what was used stays used. A higher one may be used at once, as soon as
    /// the authority has granted it; under a lower one no unit is admitted that is above it, from the next
    /// admission on. A version older than the known one changes nothing.
    pub fn set_terms(&self, terms: Terms) {
        let mut version = self.version();
        if terms.version >= *version {
            *version = terms.version;
            self.slot().set_limit(to_limit(terms.limit));
        }
    }

    /// Units of the whole account in use, as far as is known: this till's and those of others.
    pub fn used(&self) -> Units {
        let elsewhere = self.slot().base().max(self.slot().elsewhere());
        Units::saturating(elsewhere.saturating_add(self.counters().used()))
    }

    /// What is left of the limit, as far as is known; `None` if there is no limit.
    pub fn remaining(&self) -> Option<Units> {
        self.limit().units().map(|limit| limit.saturating_sub(self.used()))
    }

    /// Whether the authority has nothing left to grant: a charge that the balance can't pay is denied without
    /// asking. Any change that might help (a limit, units given back) ends it.
    pub fn is_spent(&self) -> bool {
        self.slot().is_spent()
    }

    /// Gauges: lowers use. All of it or nothing.
    ///
    /// # Errors
    /// [`NotHeld`] if fewer units are in use.
    pub fn release(&self, units: Units) -> Result<(), NotHeld> {
        if self.slot().release(units.get()) {
            return Ok(());
        }
        Err(NotHeld { units, used: Units::saturating(self.counters().used()) })
    }

    /// Gives at most `units` of the idle balance back to the authority, which may then grant them to another
    /// till. Answers how many.
    pub fn give_back(&self, units: Units) -> Units {
        Units::saturating(self.slot().give_back(units.get()))
    }

    /// Whether the balance runs low and nobody has been told yet: who is answered `true` asks for more.
    #[inline]
    pub fn runs_low(&self) -> bool {
        let refill_at = &self.0.refill_at;
        self.slot().spent() >= refill_at.load(Ordering::Relaxed)
            && refill_at.swap(NEVER, Ordering::Relaxed) != NEVER
    }

    pub(super) fn refill_at(&self, spent: Option<u64>) {
        self.0.refill_at.store(spent.unwrap_or(NEVER), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot {
        &self.0.slot
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.0.pace
    }

    fn new(key: AccountKey, till: TillId, slot: MappedSlot) -> Account {
        let refill_at = AtomicU64::new(NEVER);
        Account(Arc::new(Inner {
            key,
            till,
            slot,
            pace: Pace::default(),
            version: Mutex::default(),
            refill_at,
        }))
    }

    fn reopen(&self, opening: Opening) {
        self.slot().raise_base(opening.base.get());
        self.set_terms(opening.terms);
    }

    fn version(&self) -> MutexGuard<'_, u64> {
        self.0.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the database has exactly what was used.
    fn is_settled(&self) -> bool {
        let counters = self.counters();
        counters.journalled == counters.used()
    }

    /// Whether only the table has it. True for good while the table is locked for writing, since an account is
    /// only cloned from another one.
    fn is_unheld(&self) -> bool {
        let is_unheld = Arc::strong_count(&self.0) == 1;
        // What the last holder did to the counters comes before what the caller reads of them.
        fence(Ordering::Acquire);
        is_unheld
    }
}

/// Accounts of the same key are equal.
impl PartialEq for Account {
    fn eq(&self, other: &Account) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Account {}

/// As its key's, so that the table finds it by its key.
impl Hash for Account {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl Borrow<AccountKey> for Account {
    fn borrow(&self) -> &AccountKey {
        &self.0.key
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("key", &self.0.key)
            .field("limit", &self.limit())
            .field("base", &self.base())
            .field("counters", &self.counters())
            .finish()
    }
}

// === impl Table ===

impl Table {
    fn read(file: TillFile) -> Result<Table, TillError> {
        let mut table = Table { accounts: HashSet::new(), free: Vec::new(), file };
        for index in (0..table.file.slots()).rev() {
            table.read_slot(index)?;
        }
        Ok(table)
    }

    fn read_slot(&mut self, index: usize) -> Result<(), TillError> {
        let slot = self.file.slot(index);
        let key = self.file.key_of(&slot).map_err(|what| self.file.damaged(what))?;
        let Some(key) = key else {
            self.free.push(index);
            return Ok(());
        };
        slot.forget_spent();
        if self.accounts.insert(Account::new(key, self.file.id(), slot)) {
            return Ok(());
        }
        Err(self.file.damaged(format!("an account has two slots (slot {index})")))
    }

    fn begin(&mut self, key: &AccountKey, opening: Opening) -> Result<Account, TillFull> {
        let index = self.free_slot().map_err(TillFull::Disk)?;
        let slot = self.file.write(index, key, to_limit(opening.terms.limit), opening.base.get());
        let account = Account::new(*key, self.file.id(), slot);
        *account.version() = opening.terms.version;
        self.accounts.insert(account.clone());
        Ok(account)
    }

    fn free_slot(&mut self) -> Result<usize, TillError> {
        if let Some(index) = self.free.pop() {
            return Ok(index);
        }
        let first = self.file.slots();
        self.file.grow()?;
        self.free.extend((first + 1..self.file.slots()).rev());
        Ok(first)
    }
}

fn to_limit(limit: Limit) -> u64 {
    limit.units().map_or(UNLIMITED, Units::get)
}

fn from_limit(limit: u64) -> Limit {
    if limit == UNLIMITED { Limit::Unlimited } else { Limit::Of(Units::saturating(limit)) }
}
