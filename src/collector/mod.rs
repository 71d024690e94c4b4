//! Whoever collects what is owed, as it is spoken to: Stripe or Lago.
//!
//! Sends events, and says of each what became of it; asks what was counted and how a subscription stands. Knows no store
//! and no clock: when something is sent, and again, is decided by who sends.
//!
//! # What an answer says
//! An event is known to have arrived when it was accepted, or when it is refused because it is there already: its
//! identifier says the same of the same usage, whoever sends it. It is known not to have arrived when it is refused for
//! another reason, or when nobody could be reached. After anything else (a connection that broke, an answer that did not
//! come, a fault of the server) nobody knows.

mod lago;
mod stripe;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::domain::Resource;
use crate::domain::billing::{BillingEvent, CollectorKind};
use crate::outbound::{Answer, BadTrust, Bounds, Outbound, Place, Plain, Question, Reach};
use crate::telemetry::log::with_causes;

pub use stripe::{Standing, StripeSubscription};

/// Where a collector is, and what is known there.
#[derive(Clone)]
pub struct CollectorSettings {
    pub kind: CollectorKind,
    /// Without a path.
    pub url: String,
    /// What it knows us by.
    pub secret: String,
    /// What resources are called there: event names of Stripe's meters, codes of Lago's billable metrics.
    pub meters: BTreeMap<Resource, String>,
    /// The longest question.
    pub timeout: Duration,
    /// PEM file of the authorities that its certificate must descend from; without it the system's are trusted.
    pub ca: Option<PathBuf>,
}

/// A collector.
pub struct Collector {
    settings: CollectorSettings,
    outbound: Outbound,
}

/// What became of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is there.
    Arrived,
    /// It is not, and never will be as it is.
    Refused(String),
    /// To be sent again.
    Waits(Setback),
}

/// Why something is not done yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setback {
    pub why: String,
    /// Whether the collector may have it all the same.
    pub may_have_arrived: bool,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// Why a question has no good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The same question will always be refused.
    Refused { status: u16, body: Value },
    /// Another time, perhaps.
    Setback(Setback),
}

/// Answers are small: a page of summaries is the largest.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What is told of a refusal.
const WHY_CHARS_MAX: usize = 300;

// === impl CollectorSettings ===

impl CollectorSettings {
    pub fn resources(&self) -> Vec<Resource> {
        self.meters.keys().copied().collect()
    }
}

// === impl Collector ===

impl Collector {
    /// # Errors
    /// [`BadTrust`]
    pub fn new(settings: CollectorSettings) -> Result<Collector, BadTrust> {
        Ok(Collector { outbound: Outbound::new(settings.ca.as_deref())?, settings })
    }

    pub const fn settings(&self) -> &CollectorSettings {
        &self.settings
    }

    pub const fn kind(&self) -> CollectorKind {
        self.settings.kind
    }

    /// How many events are sent in one question.
    pub const fn batch_max(&self) -> usize {
        match self.settings.kind {
            CollectorKind::Stripe => 1,
            CollectorKind::Lago => lago::BATCH_MAX,
        }
    }

    /// Sends events, at most [`Collector::batch_max`] of them; answers what became of each, in their order.
    ///
    /// Dropping the future leaves it open which of them arrived.
    pub async fn send(&self, events: &[BillingEvent]) -> Vec<Fate> {
        match self.settings.kind {
            CollectorKind::Stripe => self.send_to_stripe(events).await,
            CollectorKind::Lago => self.send_to_lago(events).await,
        }
    }

    /// What the resource of an event is called there, and the other resources that are called so.
    fn meter(&self, resource: Resource) -> Option<&str> {
        self.settings.meters.get(&resource).map(String::as_str)
    }

    /// The resources that are called there what this one is.
    pub fn counted_with(&self, resource: Resource) -> Vec<Resource> {
        let name = self.meter(resource);
        let same = self.settings.meters.iter().filter(|(_, other)| Some(other.as_str()) == name);
        same.map(|(resource, _)| *resource).collect()
    }

    async fn ask(&self, path: &str, question: Question) -> Result<Value, Trouble> {
        let url = format!("{}{path}", self.settings.url.trim_end_matches('/'));
        let unusable = || Setback::surely("its URL can't be used".to_owned());
        // The operator chose it: it may be on this machine.
        let place = Place::parse(&url, Plain::Here).ok_or_else(|| Trouble::Setback(unusable()))?;
        let bounds = Bounds { within: self.settings.timeout, bytes_max: ANSWER_BYTES_MAX };
        let asked = self.outbound.send(&place, question, &Reach::Anywhere, bounds).await;
        let answer = asked.map_err(|error| {
            let may_have_arrived = error.may_have_arrived();
            Trouble::Setback(Setback { why: with_causes(&error), may_have_arrived, retry_after: None })
        })?;
        judged(answer)
    }
}

fn judged(answer: Answer) -> Result<Value, Trouble> {
    let Answer { status, retry_after, body } = answer;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let is_final = match status {
        // Our key is not good, or an address is wrong: nothing that an event could do about.
        401 | 403 | 405 => false,
        // Without a code it is the address that is not there.
        404 => code(&body).is_some(),
        // Somebody sends the same at this moment, or it is too early, or too much.
        408 | 409 | 425 | 429 => false,
        status => (400..500).contains(&status),
    };
    if is_final {
        return Err(Trouble::Refused { status, body });
    }
    let why = format!("it answers {}", described(status, &body));
    // A server with a fault may have found it after it had taken the event.
    let may_have_arrived = status >= 500 || status == 408;
    Err(Trouble::Setback(Setback { why, may_have_arrived, retry_after }))
}

/// Stripe's and Lago's names of what is wrong.
fn code(body: &Value) -> Option<&str> {
    body["error"]["code"].as_str().or_else(|| body["code"].as_str())
}

/// For people: the status, and what is said of it.
fn described(status: u16, body: &Value) -> String {
    let said = body["error"]["message"].as_str().or_else(|| code(body)).or_else(|| body["error"].as_str());
    let details = body["error_details"].as_object().map(|_| body["error_details"].to_string());
    let words = [Some(status.to_string()), said.map(str::to_owned), details];
    let text: Vec<_> = words.into_iter().flatten().collect();
    text.join(": ").chars().take(WHY_CHARS_MAX).collect()
}

// === impl Setback ===

impl Setback {
    /// Of something that did not arrive.
    pub const fn surely(why: String) -> Setback {
        Setback { why, may_have_arrived: false, retry_after: None }
    }
}

// === impl Trouble ===

impl Trouble {
    /// What becomes of the event that met it.
    fn fate(self) -> Fate {
        match self {
            Trouble::Refused { status, body } => Fate::Refused(described(status, &body)),
            Trouble::Setback(setback) => Fate::Waits(setback),
        }
    }

    /// The same where nothing was sent: no refusal is the last word then.
    pub fn setback(self) -> Setback {
        match self {
            Trouble::Refused { status, body } => {
                Setback::surely(format!("it answers {}", described(status, &body)))
            }
            Trouble::Setback(setback) => Setback { may_have_arrived: false, ..setback },
        }
    }
}

/// What answers as they do: the tests of the whole program have the same.
#[cfg(test)]
#[path = "../../tests/it/support/collectors.rs"]
#[allow(dead_code, reason = "each file of tests uses its part of it")]
pub(crate) mod testing;
