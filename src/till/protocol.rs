//! What a till and an authority say to each other.
//!
//! All numbers are absolute and only rise, and each side merges them by maximum: a message that is lost, repeated
//! or late does no harm, and a retry after an unknown outcome needs no thought. No clock is needed for safety.

use std::future::Future;

use smallvec::SmallVec;

use super::file::TillId;
use super::slot::Counters;
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Limit, Units};

/// An account and its ancestors, the leaf first. A grant to the leaf counts against the limit of each.
pub type AccountPath = SmallVec<[AccountKey; 1]>;

/// In the order of the questions, one each.
pub type Answers = SmallVec<[Answer; 1]>;

/// Who grants units of accounts to tills.
pub trait Authority: Send + Sync {
    /// Merges the tills' counters and grants what they ask for, as far as the limits allow. One answer each.
    ///
    /// Dropping the future leaves open whether the authority has granted; asking again finds out and grants
    /// nothing twice.
    fn renew(&self, batch: &[Renew]) -> impl Future<Output = Result<Answers, AuthorityLost>> + Send;

    /// Tells the authority of accounts that it does not know. Those it knows stay as they are.
    fn init(&self, accounts: &[Init]) -> impl Future<Output = Result<(), AuthorityLost>> + Send;

    /// Changes a limit and nothing else. An account that the authority does not know is none of its business yet.
    fn set_limit(
        &self,
        account: &AccountKey,
        limit: Limit,
    ) -> impl Future<Output = Result<(), AuthorityLost>> + Send;
}

/// The authority can't be reached, or does not answer in time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the authority does not answer: {0}")]
pub struct AuthorityLost(pub String);

/// Which life of the authority: another one may have forgotten grants. Its client fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Epoch(pub u64);

/// One till's claim on one account, and what it asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renew {
    pub path: AccountPath,
    pub till: TillId,
    pub epoch: Epoch,
    pub claim: Counters,
    /// What `claim.granted` should become. Absolute: asking twice asks for nothing more.
    pub granted_target: u64,
    /// Comes back with the answer: what the till knew when it asked.
    pub asked_at: u64,
}

/// An account that the authority is to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Init {
    pub account: AccountKey,
    pub limit: Limit,
    /// Units that were used by tills which will not claim them themselves.
    pub base: Units,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Renewed(Renewed),
    /// A level of the path is not known, which does not mean that nothing was used of it: [`Authority::init`].
    NoAccount(AccountKey),
}

/// What a till was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// Everything this till was ever granted of the account.
    pub granted: u64,
    /// What the authority could still grant, to any till.
    pub remaining: Units,
    /// Units that other tills hold and have not used: they were recalled if nothing remains.
    pub idle_elsewhere: Units,
    /// The authority grants nothing yet, since it is still collecting claims.
    pub learning: bool,
    /// The authority's clock.
    pub at: Timestamp,
    /// Raised by every change of the account's limit.
    pub version: u64,
    /// [`Renew::asked_at`].
    pub asked_at: u64,
}

// === impl Renewed ===

impl Renewed {
    /// Whether asking again is useless until something changes.
    pub fn is_nothing_left(&self) -> bool {
        self.remaining.is_zero() && self.idle_elsewhere.is_zero() && !self.learning
    }
}
