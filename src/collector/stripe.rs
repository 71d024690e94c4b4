//! Stripe: meter events, one by one; what its meters counted; and how subscriptions stand.
//!
//! # Why each attempt has an idempotency key of its own
//! Stripe keeps the answer to a key for a day, a fault of its own included: under the same key an event that once met
//! one would meet it all day. What makes an event arrive once is its identifier, which Stripe keeps for a day as well,
//! and which is refused by name when it is there already.
//!
//! # Why an hour is sent as its beginning
//! The instant has to lie in the hour, in the past and within 35 days. An hour belongs to the period that it begins in.

use serde_json::Value;

use super::{Collector, Fate, Setback, Trouble, code};
use crate::clock::Timestamp;
use crate::domain::billing::BillingEvent;
use crate::domain::{Resource, Units};
use crate::outbound::{Question, form, form_encoded};

/// How a subscription stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StripeSubscription {
    pub id: String,
    pub customer: String,
    pub standing: Standing,
    /// The ids of the prices that it is made of.
    pub prices: Vec<String>,
}

/// What matters of a subscription's status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Active, or on trial.
    Good,
    /// A payment has failed.
    Unpaid,
    /// It is over.
    Ended,
    /// Not begun, or at rest: nothing follows from it.
    Other,
}

const SECONDS_PER_HOUR: i64 = 3_600;
/// Meters are looked through in pages of so many, and so many pages.
const PAGE: usize = 100;
const PAGES_MAX: usize = 20;

// === impl Collector ===

impl Collector {
    pub(super) async fn send_to_stripe(&self, events: &[BillingEvent]) -> Vec<Fate> {
        let mut fates = Vec::with_capacity(events.len());
        for event in events {
            fates.push(self.send_meter_event(event).await);
        }
        fates
    }

    async fn send_meter_event(&self, event: &BillingEvent) -> Fate {
        let Some(meter) = self.meter(event.resource) else { return Fate::not_counted(event.resource) };
        let (identifier, value) = (event.identifier(), event.units.get().to_string());
        let body = form(&[
            ("event_name", meter),
            ("identifier", &identifier),
            ("timestamp", &event.bucket.seconds().to_string()),
            ("payload[stripe_customer_id]", &event.account),
            ("payload[value]", &value),
        ]);
        let headers = vec![
            ("authorization", self.stripe_key()),
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("idempotency-key", format!("{identifier}:{}", event.attempts)),
        ];
        let question = Question { headers, body: Some(body.into_bytes()) };
        match self.ask("/v1/billing/meter_events", question).await {
            Ok(_) => Fate::Arrived,
            Err(Trouble::Refused { status: 400, body }) if is_known(&body) => Fate::Arrived,
            Err(trouble) => trouble.fate(),
        }
    }

    /// What Stripe has counted of a resource, and of those that share its meter, for that customer in the hour that
    /// begins then. Events of the last minutes may not be in it.
    ///
    /// # Errors
    /// [`Setback`], also if there is no such meter.
    pub async fn counted(
        &self,
        customer: &str,
        resource: Resource,
        hour: Timestamp,
    ) -> Result<Units, Setback> {
        let name = self.meter(resource).unwrap_or_default();
        let meter = self.meter_id(name).await?;
        let query = form(&[
            ("customer", customer),
            ("start_time", &hour.seconds().to_string()),
            ("end_time", &(hour.seconds() + SECONDS_PER_HOUR).to_string()),
        ]);
        let path = format!("/v1/billing/meters/{}/event_summaries?{query}", form_encoded(&meter));
        let answer = self.read(&path).await.map_err(Trouble::setback)?;
        let summaries = answer["data"].as_array().ok_or_else(|| Setback::surely(unreadable("summaries")))?;
        let counted: f64 = summaries.iter().filter_map(|one| one["aggregated_value"].as_f64()).sum();
        whole(counted).ok_or_else(|| Setback::surely(format!("its meter `{name}` has counted {counted}")))
    }

    async fn meter_id(&self, name: &str) -> Result<String, Setback> {
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/billing/meters?status=active&limit={PAGE}{after}");
            let answer = self.read(&path).await.map_err(Trouble::setback)?;
            let meters = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(found) = meters.iter().find(|meter| meter["event_name"] == name) {
                return Ok(text(&found["id"]));
            }
            let Some(last) = meters.last().filter(|_| answer["has_more"] == true) else { break };
            after = format!("&starting_after={}", form_encoded(&text(&last["id"])));
        }
        Err(Setback::surely(format!("it has no active meter `{name}`")))
    }

    /// How a subscription stands now.
    ///
    /// # Errors
    /// [`Setback`]; `Ok(None)` if there is none of that id.
    pub async fn subscription(&self, id: &str) -> Result<Option<StripeSubscription>, Setback> {
        match self.read(&format!("/v1/subscriptions/{}", form_encoded(id))).await {
            Ok(body) => {
                let read = StripeSubscription::read(&body);
                read.map(Some).ok_or_else(|| Setback::surely(unreadable("subscription")))
            }
            Err(Trouble::Refused { status: 404, .. }) => Ok(None),
            Err(trouble) => Err(trouble.setback()),
        }
    }

    async fn read(&self, path: &str) -> Result<Value, Trouble> {
        let question = Question { headers: vec![("authorization", self.stripe_key())], body: None };
        self.ask(path, question).await
    }

    fn stripe_key(&self) -> String {
        format!("Bearer {}", self.settings.secret)
    }
}

/// Whether an event is refused because it is there. Stripe's second API has a code for it, the first says it in words.
fn is_known(body: &Value) -> bool {
    let says = body["error"]["message"].as_str().unwrap_or_default();
    says.contains("already exists with identifier") || code(body) == Some("duplicate_meter_event")
}

fn unreadable(what: &str) -> String {
    format!("what it answers is no {what}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Units are whole, and exact as far as they may go.
fn whole(counted: f64) -> Option<Units> {
    let is_exact = counted >= 0.0 && counted.fract() == 0.0 && counted <= Units::MAX.get() as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
    is_exact.then(|| Units::saturating(counted as u64))
}

// === impl StripeSubscription ===

impl StripeSubscription {
    fn read(body: &Value) -> Option<StripeSubscription> {
        let customer = body["customer"].as_str().or_else(|| body["customer"]["id"].as_str())?;
        let items = body["items"]["data"].as_array()?;
        let prices = items.iter().filter_map(|item| item["price"]["id"].as_str().map(str::to_owned));
        Some(StripeSubscription {
            id: body["id"].as_str()?.to_owned(),
            customer: customer.to_owned(),
            standing: Standing::of(body["status"].as_str()?),
            prices: prices.collect(),
        })
    }
}

// === impl Standing ===

impl Standing {
    fn of(status: &str) -> Standing {
        match status {
            "active" | "trialing" => Standing::Good,
            "past_due" | "unpaid" => Standing::Unpaid,
            "canceled" => Standing::Ended,
            _ => Standing::Other,
        }
    }
}

// === impl Fate ===

impl Fate {
    /// Of an event of a resource that is not brought to the collector any more.
    pub(super) fn not_counted(resource: Resource) -> Fate {
        Fate::Refused(format!("{resource} is not in [billing.export.meters]"))
    }
}
