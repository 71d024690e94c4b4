//! A gateway: a real till, real reservations, the real supply; and what is around them in a process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::clock::{Monotonic, Timestamp};
use tollgate::till::protocol::Terms;
use tollgate::till::supply::{Supply, SupplySettings};
use tollgate::till::{Account, BootId, Till, TillSettings};
use uuid::Uuid;

use super::fleet::EPOCH;
use super::plan::Micros;

/// After so long a question is given up.
pub(crate) const TIMEOUT: Micros = 50_000;
/// How long a request waits at most.
pub(crate) const WAIT_MAX: Micros = 100_000;

pub(crate) struct Gateway {
    directory: TempDir,
    pub(crate) process: Option<Process>,
    /// Counts processes: what was meant for an earlier one is for nobody.
    pub(crate) run: u64,
    boot: u128,
    pub(crate) skew: i64,
    /// Reaches nobody before.
    pub(crate) cut_until: Micros,
    /// The till's number among all there ever were.
    pub(crate) till: usize,
}

/// What `kill -9` ends.
pub(crate) struct Process {
    pub(crate) supply: Supply<u64>,
    pub(crate) waiting: BTreeMap<u64, Request>,
    /// As read from the store, by quota.
    pub(crate) terms: Vec<Terms>,
    /// The masters as of the last poll, see `book.lua`.
    pub(crate) live: String,
    pub(crate) tick_at: Option<Micros>,
    pub(crate) till: Arc<Till>,
    pub(crate) born: Micros,
}

/// A client's request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) accounts: Vec<(usize, Account)>,
    pub(crate) units: u64,
    pub(crate) deadline: Micros,
    pub(crate) rounds: u32,
    pub(crate) fate: Fate,
    /// Which account it waits for.
    pub(crate) short: usize,
    /// Accounts that it is counted on without a grant, since none came.
    pub(crate) counted: Vec<usize>,
}

/// What becomes of what a request paid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Keep,
    Refund,
    /// It cost less than was thought.
    Settle(u64),
    ReleaseAfter(Micros),
}

// === impl Gateway ===

impl Gateway {
    pub(crate) fn new(till: usize, skew: i64) -> Self {
        Gateway { directory: directory(), process: None, run: 0, boot: 1, skew, cut_until: 0, till }
    }

    /// A process starts.
    ///
    /// # Panics
    /// If the till can't be opened: it always can.
    pub(crate) fn start(&mut self, terms: Vec<Terms>, now: Micros) {
        let settings = TillSettings { accounts_max: 1_000 };
        let boot = BootId(Uuid::from_u128(self.boot));
        let till = Arc::new(Till::open_in(self.directory.path(), settings, boot).unwrap());
        let settings = SupplySettings {
            timeout: Duration::from_micros(TIMEOUT),
            recall_wait: Duration::from_millis(20),
        };
        self.run += 1;
        self.process = Some(Process {
            supply: Supply::new(till.clone(), settings, Arc::default()),
            waiting: BTreeMap::new(),
            terms,
            live: String::new(),
            tick_at: None,
            till,
            born: now,
        });
    }

    /// The machine restarts: the file may be old.
    pub(crate) fn lose_power(&mut self, till: usize) {
        self.boot += 1;
        self.till = till;
    }

    pub(crate) fn wall(&self, now: Micros) -> Timestamp {
        Timestamp::from_micros(EPOCH + self.skew + now.cast_signed())
    }
}

// === impl Process ===

impl Process {
    pub(crate) fn monotonic(&self, at: Micros) -> Monotonic {
        Monotonic::from_nanos(at.saturating_sub(self.born) * 1_000)
    }

    /// When this instant of the process is, rounded up.
    pub(crate) fn at(&self, instant: Monotonic) -> Micros {
        self.born + instant.nanos().div_ceil(1_000)
    }
}

/// In memory where there is such a place: the till's own writing is not what is tested here.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(directory) = tempfile::tempdir_in(memory)
    {
        return directory;
    }
    tempfile::tempdir().unwrap()
}
