//! What a till and an authority say to each other.
//!
//! All numbers are absolute and only rise, and each side merges them by maximum: a message that is lost, repeated
//! or late does no harm, and a retry after an unknown outcome needs no thought. No clock is needed for safety.
//!
//! # Why an account has no ancestors here
//! A request of a reseller's customer pays its own account and each one above it: several charges, all or nothing,
//! in the till. Each account is granted by itself. A grant that had to fit several limits at once would tie units of
//! one window to another that ends at another time, and would let idle units of one customer starve its siblings.
//!
//! # Lives
//! An authority that has forgotten grants would grant them again. Accounts are kept in [`BOOKS`] books, and each book
//! has a [`Life`]: it changes whenever writes may have been lost (an empty restart, a replica that was promoted).
//! With a new life the book *learns* for a while: it takes claims and grants nothing, and every till that hears of it
//! claims what it holds. Afterwards the book knows again what is out.
//!
//! An account that is missing in a book whose life began after the account's window did is *missing*, never zero:
//! the answer is [`Answer::Unseeded`], and it grants nothing until [`Authority::seed`] has told what was used.

use std::future::Future;
use std::time::Duration;

use smallvec::SmallVec;

use super::file::TillId;
use super::slot::Counters;
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Limit, Period, Units};

/// Parts that an authority's memory is divided into; accounts of one owner are in the same. Enough to spread over the
/// masters of a cluster, few enough to ask each for its life several times a second. Part of the key form: never changed.
pub const BOOKS: u16 = 64;

/// Accounts are kept this long after their window, so that late claims still find them and nobody whose clock is slow
/// is granted what is spent. Windows of seconds may be many, so theirs are kept for a shorter time.
const KEPT_MIN: Duration = Duration::from_secs(180);
const KEPT_MAX: Duration = Duration::from_secs(3_600);

/// In the order of the questions, one each.
pub type Answers = SmallVec<[Answer; 1]>;

/// Who grants units of accounts to tills.
pub trait Authority: Send + Sync + 'static {
    /// Merges the tills' counters and grants what they ask for, as far as the limits allow. One answer each; one that
    /// could not be had is [`Answer::Lost`].
    ///
    /// Dropping the future leaves open whether the authority has granted; asking again finds out and grants
    /// nothing twice.
    fn renew(&self, batch: &[Renew]) -> impl Future<Output = Answers> + Send;

    /// Tells what was used of accounts that were [`Answer::Unseeded`]. Those that are seeded stay as they are.
    ///
    /// # Errors
    /// [`AuthorityLost`]: some may be seeded. Do it again.
    fn seed(&self, seeds: &[Seed]) -> impl Future<Output = Result<(), AuthorityLost>> + Send;

    /// The lives of all books, begun if there were none. Also how it is found out whether the authority is there.
    ///
    /// # Errors
    /// [`AuthorityLost`]
    fn lives(&self) -> impl Future<Output = Result<Vec<Book>, AuthorityLost>> + Send;
}

/// The authority can't be reached, or does not answer in time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the authority does not answer: {0}")]
pub struct AuthorityLost(pub String);

/// Which life of a book. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Life(pub u64);

/// A limit, and the revision of the store that it was read at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    pub limit: Limit,
    pub version: u64,
}

/// One of [`BOOKS`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Book {
    pub life: Life,
    /// It collects claims and grants nothing yet.
    pub learning: bool,
}

/// One till's claim on one account, and what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renew {
    pub account: AccountKey,
    pub till: TillId,
    /// The limit as this till knows it; the authority goes by the newest.
    pub terms: Terms,
    pub claim: Counters,
    /// What `claim.granted` should become. Absolute: asking twice asks for nothing more. `claim.granted` itself if the
    /// till only claims.
    pub granted_target: u64,
    /// Less than this is of no use: then nothing is granted. At most `granted_target`.
    pub granted_least: u64,
    /// This till has more to claim of the same book: it should not cease to learn yet.
    pub more: bool,
}

/// What was used of an account by tills that have not claimed it themselves since its book forgot it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seed {
    pub account: AccountKey,
    pub terms: Terms,
    /// Units by till, as far as the database knows. What a till claims itself takes the place of its entry.
    pub used: Vec<(TillId, Units)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Renewed(Renewed),
    /// The claim is taken, but what others used is not known, so nothing is granted: [`Authority::seed`].
    Unseeded(Life),
    /// No answer, or not in time.
    Lost(AuthorityLost),
}

/// What a till was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewed {
    pub life: Life,
    /// Everything this till was ever granted of the account.
    pub granted: u64,
    /// What the authority could still grant, to any till.
    pub remaining: Units,
    /// Units that other tills hold and have not used: they were recalled if less than asked for remained.
    pub idle_elsewhere: Units,
    /// What other tills have used, as far as they have told.
    pub used_elsewhere: Units,
    /// The authority grants nothing yet, since it is still collecting claims.
    pub learning: bool,
}

/// What an authority calls out to all gateways. Losing one costs time, never units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// `by` wants units of this account: give back what is idle, and claim.
    Recall { account: AccountKey, by: TillId },
    /// Units of this account may be had again.
    Freed(AccountKey),
    /// A book has a new life: ask for the [lives](Authority::lives).
    Reborn,
    /// Calls may have been missed.
    Gap,
}

/// The book of an account.
pub fn book(account: &AccountKey) -> u16 {
    // The id's last bytes are random in every version of UUID that is in use.
    let [.., high, low] = *account.owner.uuid().as_bytes();
    u16::from_be_bytes([high, low]) % BOOKS
}

/// When an authority may forget an account; `None` is never.
pub fn kept_until(account: &AccountKey) -> Option<Timestamp> {
    let window = account.window;
    let kept_for = window.end.since(window.start).clamp(KEPT_MIN, KEPT_MAX);
    (window.period != Period::Forever).then(|| window.end.plus(kept_for))
}

// === impl Terms ===

/// As of before the store's first revision: all others replace it.
impl From<Limit> for Terms {
    fn from(limit: Limit) -> Self {
        Terms { limit, version: 0 }
    }
}

// === impl News ===

impl News {
    /// What a message says: `recall <account> <till>`, `freed <account>` or `reborn`; `None` for what another version
    /// may say.
    pub fn parse(message: &str, read_account: impl FnOnce(&str) -> Option<AccountKey>) -> Option<News> {
        let mut words = message.split(' ');
        let (word, account) = (words.next()?, words.next().and_then(read_account));
        match word {
            "recall" => {
                let by = words.next().and_then(|till| till.parse().ok()).map(TillId)?;
                Some(News::Recall { account: account?, by })
            }
            "freed" => Some(News::Freed(account?)),
            "reborn" => Some(News::Reborn),
            _ => None,
        }
    }
}

// === impl Renewed ===

impl Renewed {
    /// Whether asking again is useless until something changes.
    pub fn is_nothing_left(&self) -> bool {
        self.remaining.is_zero() && self.idle_elsewhere.is_zero() && !self.learning
    }
}
