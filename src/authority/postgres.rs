//! The strict authority: grants by the store's own database, one Postgres for a whole fleet.
//!
//! What is granted is decided by functions inside the database and is on its disk before anybody hears of it, so that
//! a server that comes back grants nothing twice and has nothing to learn. This room carries questions to
//! [`Grants`] and answers back, in time. It speaks no SQL, and it never decides about a unit.
//!
//! # Why a call goes on when its caller has left
//! Nobody waits longer than `timeout`. But a connection that is being made, and would be given up each time, would never
//! be made; and what was asked may as well be answered, since asking again finds out. So calls run on tasks of their
//! own, whose time the server and the store bound.
//!
//! # Why no request ever waits for Postgres to come back
//! After [`LOSSES_MAX`] calls in a row without an answer in time, callers hear so at once ([`Breaker`]). One call at a
//! time still goes through and finds out when that is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::finding::{Finding, Severity};
use crate::clock::Timestamp;
use crate::store::{Grants, Hearing, ServerFacts, StoreError};
use crate::till::protocol::{Answer, Answers, Authority, AuthorityLost, BOOKS, Book, Renew, Seed};

/// The store as the authority. Questions may be asked on any runtime with time and I/O.
pub struct Postgres {
    grants: Arc<Grants>,
    breaker: Arc<Breaker>,
}

/// Whether it is worth waiting for an answer.
#[derive(Debug, Default)]
struct Breaker {
    /// Calls in a row that had no answer in time.
    losses: AtomicU32,
    is_probed: AtomicBool,
}

/// A call that may be made; while it lasts, the only one if it is a probe.
struct Pass {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

/// So many calls in a row without an answer, and callers no longer wait. One may be a pause of the server's.
const LOSSES_MAX: u32 = 3;

/// Windows begin and end by clocks.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(1);

// === impl Postgres ===

impl Postgres {
    /// Connects with the first question.
    pub fn new(grants: Grants) -> Postgres {
        Postgres { grants: Arc::new(grants), breaker: Arc::default() }
    }

    /// What tills are told.
    pub fn listen(&self) -> Hearing {
        self.grants.listen()
    }

    /// What an operator should know about the server, as of `now`.
    ///
    /// # Errors
    /// [`AuthorityLost`]
    pub async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, AuthorityLost> {
        let grants = self.grants.clone();
        let facts = self.call(async move { grants.facts().await }).await?;
        Ok(judge(&facts, now))
    }

    /// The outcome of `work` if there is one in time.
    async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, AuthorityLost> {
        let pass = self.breaker.pass().ok_or_else(|| lost("several calls in a row had no answer"))?;
        let job = tokio::spawn(async move {
            let outcome = work.await;
            drop(pass);
            outcome
        });
        let limit = self.grants.settings().timeout;
        let outcome = match timeout(limit, job).await {
            Ok(Ok(outcome)) => outcome.map_err(|error| lost(&with_cause(&error))),
            // Only a fault of ours ends a call early.
            Ok(Err(panic)) => Err(lost(&panic.to_string())),
            Err(_) => Err(lost(&format!("not within {limit:?}"))),
        };
        self.breaker.note(outcome.is_ok());
        outcome
    }
}

impl Authority for Postgres {
    /// One round trip for the whole batch, answered for all or lost for all.
    async fn renew(&self, batch: &[Renew]) -> Answers {
        let (grants, questions) = (self.grants.clone(), batch.to_vec());
        match self.call(async move { grants.renew(&questions).await }).await {
            Ok(answers) => answers,
            Err(error) => batch.iter().map(|_| Answer::Lost(error.clone())).collect(),
        }
    }

    async fn seed(&self, seeds: &[Seed]) -> Result<(), AuthorityLost> {
        let (grants, seeds) = (self.grants.clone(), seeds.to_vec());
        self.call(async move { grants.seed(&seeds).await }).await
    }

    /// A server forgets for all books at once: they have one life.
    async fn lives(&self) -> Result<Vec<Book>, AuthorityLost> {
        let grants = self.grants.clone();
        let book = self.call(async move { grants.life().await }).await?;
        Ok(vec![book; BOOKS.into()])
    }
}

fn judge(facts: &ServerFacts, now: Timestamp) -> Vec<Finding> {
    let ServerFacts { version, fsync, full_page_writes, is_standby, now: theirs } = facts;
    let finding = |severity, what: String| Finding { severity, what };
    let mut findings = vec![finding(Severity::Good, format!("Postgres {version} answers"))];
    if *is_standby {
        let what = "Postgres is a standby, which takes no writes: let store.url name the primary";
        findings.push(finding(Severity::Refusal, what.to_owned()));
    }
    for (is_on, name) in [(fsync, "fsync"), (full_page_writes, "full_page_writes")] {
        if !is_on {
            let what = format!(
                "Postgres runs with {name} = off: what it has acknowledged may be lost when its machine fails; set it on"
            );
            findings.push(finding(Severity::Warning, what));
        }
    }
    let apart = theirs.since(now).max(now.since(*theirs));
    if apart > CLOCKS_DIFFER_MAX {
        let what = format!("the clock of Postgres differs from ours by {apart:.0?}: synchronize both");
        findings.push(finding(Severity::Warning, what));
    }
    findings
}

fn lost(what: &str) -> AuthorityLost {
    AuthorityLost(format!("Postgres: {what}"))
}

fn with_cause(error: &StoreError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

// === impl Breaker ===

impl Breaker {
    /// Leave for a call, unless many had no answer and one is finding out already.
    fn pass(self: &Arc<Self>) -> Option<Pass> {
        let is_probe = self.losses.load(Ordering::Relaxed) >= LOSSES_MAX;
        let is_refused = is_probe && self.is_probed.swap(true, Ordering::AcqRel);
        (!is_refused).then(|| Pass { breaker: self.clone(), is_probe })
    }

    fn note(&self, is_answered: bool) {
        if is_answered {
            self.losses.store(0, Ordering::Relaxed);
        } else {
            self.losses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Pass ===

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.is_probed.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
