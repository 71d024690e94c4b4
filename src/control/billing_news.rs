//! What Stripe tells of subscriptions, and what follows for tenants: notice, grace, suspension, service again, a tier.
//!
//! A message is believed that is signed, heeded once, and taken as a hint only: *something has changed about that
//! subscription*. How it stands is asked of Stripe itself, so a message that is old, late, or came before an earlier one
//! does no harm. What follows is done in the transaction that notes the message: whoever is killed in between has done
//! neither, and Stripe sends it again.
//!
//! # What follows
//! Of a subscription that is unpaid: the tenant is `past_due`, which is served, and is told until when; after the grace it
//! is suspended, once Stripe was asked again. Of one that is in good standing: the tenant is active again, if being unpaid
//! is all that it was stopped for, and has the tier that its price is of. Of one that is over: what is configured. A tenant
//! has one subscription: what becomes of another than the last that was good or unpaid is no news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::tenants::TenantChange;
use super::work::Work;
use super::{Control, ControlError, FieldFault, Principal, TenantRef, TierWhen};
use crate::clock::Timestamp;
use crate::collector::{Collector, Standing, StripeSubscription};
use crate::domain::billing::CollectorKind;
use crate::domain::{Actor, Alert, AlertId, AlertKind, AlertRule, Severity, Tenant, TenantId, TenantStatus};
use crate::secret::stripe;
use crate::store::BillingStanding;
use crate::telemetry::log::with_causes;

/// What is made of Stripe's messages.
#[derive(Clone)]
pub struct NewsSettings {
    /// What messages are signed with; several while one takes another's place.
    pub secrets: Vec<String>,
    /// Which tier a price is of.
    pub tiers: BTreeMap<String, String>,
    pub on_end: OnEnd,
    /// For so long a tenant that has not paid is served.
    pub grace: Duration,
}

/// What becomes of a tenant whose subscription is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnEnd {
    Suspend,
    Cancel,
    Keep,
}

/// Who is asked, and what is made of it.
pub struct News {
    collector: Arc<Collector>,
    settings: NewsSettings,
    heard: IntCounterVec,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// What followed is done.
    Heeded,
    /// It was heeded before.
    Known,
    /// It is of a kind, or of somebody, that nothing follows for.
    Unrelated,
}

/// What of a message matters.
struct Message {
    id: String,
    kind: String,
    customer: String,
    subscription: String,
}

/// How the rounds of looking for tenants whose grace is over are called, and how often there is one.
const GRACE: &str = "billing_grace";
const GRACE_INTERVAL: Duration = Duration::from_secs(600);

// === impl News ===

impl News {
    /// # Panics
    /// If the registry has a metric of that name already.
    pub fn new(collector: Arc<Collector>, settings: NewsSettings, registry: &Registry) -> News {
        let heard = Opts::new(
            "tollgate_billing_news_total",
            "Messages of Stripe's that this gateway heard, by what became of them: heeded, known, unrelated, refused (not \
             Stripe's, or not to be read) or failed (Stripe sends it again).",
        );
        let heard = IntCounterVec::new(heard, &["outcome"]).expect("a literal name");
        registry.register(Box::new(heard.clone())).expect("registered once");
        for outcome in ["heeded", "known", "unrelated", "refused", "failed"] {
            heard.with_label_values(&[outcome]);
        }
        News { collector, settings, heard }
    }

    fn count(&self, outcome: &Result<Heard, ControlError>) {
        let outcome = match outcome {
            Ok(heard) => heard.as_str(),
            Err(ControlError::Unbelievable(_) | ControlError::Invalid(_)) => "refused",
            Err(_) => "failed",
        };
        self.heard.with_label_values(&[outcome]).inc();
    }
}

// === impl Heard ===

impl Heard {
    const fn as_str(self) -> &'static str {
        match self {
            Heard::Heeded => "heeded",
            Heard::Known => "known",
            Heard::Unrelated => "unrelated",
        }
    }
}

// === impl Message ===

impl Message {
    /// `Ok(None)` for one that nothing follows from.
    fn read(body: &[u8]) -> Result<Option<Message>, ControlError> {
        let event: Value = serde_json::from_slice(body).unwrap_or_default();
        let (Some(id), Some(kind)) = (event["id"].as_str(), event["type"].as_str()) else {
            return Err(ControlError::Invalid(vec![FieldFault::new(
                "body",
                "an event of Stripe's is expected",
            )]));
        };
        let object = &event["data"]["object"];
        let subscription = match kind {
            "invoice.payment_failed" | "invoice.paid" => of_invoice(object),
            _ if kind.starts_with("customer.subscription.") => name(&object["id"]),
            _ => None,
        };
        let message = |(customer, subscription)| Message {
            id: id.to_owned(),
            kind: kind.to_owned(),
            customer,
            subscription,
        };
        Ok(name(&object["customer"]).zip(subscription).map(message))
    }
}

/// The subscription that an invoice is for, as Stripe's versions say it.
fn of_invoice(invoice: &Value) -> Option<String> {
    name(&invoice["subscription"])
        .or_else(|| name(&invoice["parent"]["subscription_details"]["subscription"]))
}

/// An object's id, which stands in its place unless it was expanded.
fn name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["id"].as_str()).map(str::to_owned)
}

// === impl Control ===

impl Control {
    /// Heeds a message of Stripe's. The same again is success and changes nothing.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] if none is expected here; [`ControlError::Unbelievable`] for one that is not Stripe's;
    /// [`ControlError::Invalid`]; [`ControlError::Unanswered`] if Stripe can't be asked: then nothing is noted, and it
    /// sends the message again.
    pub async fn hear_stripe(&self, signature: &str, body: &[u8]) -> Result<Heard, ControlError> {
        let news = self.news()?;
        let outcome = self.heard(news, signature, body).await;
        news.count(&outcome);
        outcome
    }

    fn news(&self) -> Result<&News, ControlError> {
        let none = || ControlError::NotFound { what: "collector", which: "that sends messages".to_owned() };
        let news = self.parts.news.as_deref().filter(|news| !news.settings.secrets.is_empty());
        news.ok_or_else(none)
    }

    async fn heard(&self, news: &News, signature: &str, body: &[u8]) -> Result<Heard, ControlError> {
        let secrets = news.settings.secrets.iter().map(String::as_str);
        stripe::verify(signature, body, secrets, self.now())?;
        let Some(message) = Message::read(body)? else { return Ok(Heard::Unrelated) };
        let mut snapshot = self.read().await?;
        if snapshot.is_heeded(CollectorKind::Stripe, &message.id).await? {
            return Ok(Heard::Known);
        }
        let billed = snapshot.tenants_billed_as(&message.customer).await?;
        drop(snapshot);
        let Some(tenant) = billed.first() else { return Ok(Heard::Unrelated) };
        self.look_after(news, *tenant, &message.subscription, Some(&message)).await
    }

    /// Suspends tenants that have not paid for longer than the grace, by Stripe's own word. Any number of gateways may:
    /// each is suspended once. Answers how many.
    ///
    /// # Errors
    /// [`ControlError::Store`]; the rest is looked at in the next round.
    pub async fn end_graces(&self) -> Result<u64, ControlError> {
        let Ok(news) = self.news() else { return Ok(0) };
        if !self.take_round(GRACE, GRACE_INTERVAL).await? {
            return Ok(0);
        }
        let due = self.read().await?.unpaid_since(self.now().minus(news.settings.grace)).await?;
        let mut suspended = 0;
        for standing in due {
            let Some(subscription) = &standing.subscription else { continue };
            match self.look_after(news, standing.tenant, subscription, None).await {
                Ok(_) => {}
                // Nobody is suspended on old news.
                Err(ControlError::Unanswered(_)) => continue,
                Err(error) => return Err(error),
            }
            let tenant = self.read().await?.tenant(standing.tenant).await?;
            suspended += u64::from(tenant.is_some_and(|tenant| tenant.status == TenantStatus::Suspended));
        }
        Ok(suspended)
    }

    /// Asks Stripe how the subscription stands, and does what follows.
    async fn look_after(
        &self,
        news: &News,
        tenant: TenantId,
        subscription: &str,
        message: Option<&Message>,
    ) -> Result<Heard, ControlError> {
        let question = self.parts.store.number_question(tenant).await?;
        let found = news.collector.subscription(subscription).await.map_err(|setback| {
            tracing::warn!(tenant.id = %tenant, "how a subscription stands can't be asked of Stripe: {}", setback.why);
            ControlError::Unanswered("Stripe")
        })?;
        let found = found.unwrap_or_else(|| StripeSubscription {
            id: subscription.to_owned(),
            customer: String::new(),
            standing: Standing::Ended,
            prices: Vec::new(),
        });
        let system = Principal::platform(Actor::system("stripe"), self.new_id());
        let mut work = self.begin(&system).await?;
        let outcome = work.follow(news, tenant, question, &found, message).await;
        let outcome = work.end(outcome).await;
        if let Err(error) = &outcome {
            tracing::error!(tenant.id = %tenant, "what Stripe tells can't be heeded: {}", with_causes(error));
        }
        outcome
    }
}

// === impl Work ===

impl Work<'_> {
    /// Does what follows from how a subscription stands, unless a later question was answered already.
    async fn follow(
        &mut self,
        news: &News,
        id: TenantId,
        question: u64,
        found: &StripeSubscription,
        message: Option<&Message>,
    ) -> Result<Heard, ControlError> {
        if let Some(Message { id, kind, .. }) = message
            && !self.tx.heed(CollectorKind::Stripe, id, kind, self.now).await?
        {
            return Ok(Heard::Known);
        }
        let (Some(tenant), Some(before)) = (self.tx.tenant(id).await?, self.tx.billing_standing(id).await?)
        else {
            return Ok(Heard::Unrelated);
        };
        let is_overtaken = before.answered > question;
        let takes_over = matches!(found.standing, Standing::Good | Standing::Unpaid);
        let is_its = takes_over || before.subscription.as_deref().is_none_or(|own| own == found.id);
        let is_there = !matches!(tenant.status, TenantStatus::Cancelled | TenantStatus::Deleted);
        if is_overtaken || !is_its || !is_there {
            return Ok(if is_its && is_there { Heard::Heeded } else { Heard::Unrelated });
        }
        let subscription = Some(found.id.clone());
        let standing = BillingStanding { subscription, answered: question, ..before };
        let standing = match found.standing {
            Standing::Good => self.serve_again(news, tenant, standing, found).await?,
            Standing::Unpaid => self.press(news, tenant, standing).await?,
            Standing::Ended => self.end_service(news, tenant, standing).await?,
            Standing::Other => standing,
        };
        self.tx.set_billing_standing(&standing).await?;
        Ok(Heard::Heeded)
    }

    async fn serve_again(
        &mut self,
        news: &News,
        tenant: Tenant,
        standing: BillingStanding,
        found: &StripeSubscription,
    ) -> Result<BillingStanding, ControlError> {
        let is_stopped_for_that = match tenant.status {
            TenantStatus::PastDue => standing.unpaid_since.is_some(),
            TenantStatus::Suspended => standing.suspended_at.is_some(),
            _ => false,
        };
        if is_stopped_for_that {
            self.moves(&tenant, TenantStatus::Active, "its subscription at Stripe is paid").await?;
        }
        let mut tiers = found.prices.iter().filter_map(|price| news.settings.tiers.get(price));
        if let Some(tier) = tiers.next().filter(|tier| **tier != tenant.tier) {
            // When it changes was Stripe's to decide.
            let (tier, tier_when) = (Some(tier.clone()), Some(TierWhen::Now));
            let change = TenantChange { tier, tier_when, ..TenantChange::default() };
            match self.change_tenant(&TenantRef::Id(tenant.id), &change).await {
                // It can't be had: that is the configuration's fault, and no reason not to serve who has paid.
                Err(error @ (ControlError::Invalid(_) | ControlError::Conflict(_))) => {
                    tracing::error!(tenant.id = %tenant.id, "the tier of a price at Stripe can't be had: {error}");
                }
                changed => drop(changed?),
            }
        }
        Ok(BillingStanding { unpaid_since: None, suspended_at: None, ..standing })
    }

    /// It is told, and served until the grace is over.
    async fn press(
        &mut self,
        news: &News,
        tenant: Tenant,
        standing: BillingStanding,
    ) -> Result<BillingStanding, ControlError> {
        let unpaid_since = standing.unpaid_since.unwrap_or(self.now);
        let ends_at = unpaid_since.plus(news.settings.grace);
        let standing = BillingStanding { unpaid_since: Some(unpaid_since), ..standing };
        if tenant.status == TenantStatus::Suspended {
            return Ok(standing);
        }
        if tenant.status == TenantStatus::Trial {
            self.moves(&tenant, TenantStatus::Active, "its subscription at Stripe has begun").await?;
        }
        if self.now < ends_at {
            self.moves(&tenant, TenantStatus::PastDue, "a payment at Stripe has failed").await?;
            let summary = format!("A payment has failed. Without one the service ends on {}.", day(ends_at));
            let details = json!({ "unpaid_since": unpaid_since, "ends_at": ends_at });
            self.notify(&tenant, Severity::Warning, summary, details, "unpaid", unpaid_since).await?;
            return Ok(standing);
        }
        let reason = format!("unpaid since {}, and the grace is over", day(unpaid_since));
        self.moves(&tenant, TenantStatus::Suspended, &reason).await?;
        let summary = format!("The service has ended: nothing was paid since {}.", day(unpaid_since));
        let details = json!({ "unpaid_since": unpaid_since, "ended_at": self.now });
        self.notify(&tenant, Severity::Critical, summary, details, "ended", unpaid_since).await?;
        Ok(BillingStanding { suspended_at: Some(self.now), ..standing })
    }

    async fn end_service(
        &mut self,
        news: &News,
        tenant: Tenant,
        standing: BillingStanding,
    ) -> Result<BillingStanding, ControlError> {
        let standing = BillingStanding { unpaid_since: None, ..standing };
        let why = "its subscription at Stripe is over";
        match news.settings.on_end {
            OnEnd::Keep => Ok(standing),
            OnEnd::Cancel => {
                self.moves(&tenant, TenantStatus::Cancelled, why).await?;
                Ok(standing)
            }
            OnEnd::Suspend if tenant.status == TenantStatus::Suspended => Ok(standing),
            OnEnd::Suspend => {
                self.moves(&tenant, TenantStatus::Suspended, why).await?;
                Ok(BillingStanding { suspended_at: Some(self.now), ..standing })
            }
        }
    }

    async fn moves(&mut self, tenant: &Tenant, to: TenantStatus, why: &str) -> Result<(), ControlError> {
        self.set_status(&TenantRef::Id(tenant.id), to, Some(why)).await.map(drop)
    }

    /// Tells the tenant what happened, once for each time that it is unpaid.
    async fn notify(
        &mut self,
        tenant: &Tenant,
        severity: Severity,
        summary: String,
        details: Value,
        what: &str,
        since: Timestamp,
    ) -> Result<(), ControlError> {
        let rules = self.tx.alert_rules(tenant.id).await?;
        if AlertRule::silences(&rules, AlertKind::Billing) {
            return Ok(());
        }
        let alert = Alert {
            id: AlertId(self.control.new_id()),
            tenant: tenant.id,
            kind: AlertKind::Billing,
            severity,
            resource: None,
            summary,
            details,
            at: self.now,
            acknowledged_at: None,
            acknowledged_by: None,
        };
        let channels = self.tx.channels(tenant.id).await?;
        let to = channels.iter().filter(|channel| channel.takes(alert.kind)).map(|channel| channel.id);
        let occasion = format!("billing:{what}:{since}");
        self.control.tell(&mut self.tx, &alert, &occasion, to).await?;
        Ok(())
    }
}

#[cfg(test)]
impl Control {
    /// As if an earlier question had been answered only now, that the subscription is unpaid.
    pub(super) async fn answered_late(
        &self,
        tenant: TenantId,
        question: u64,
        subscription: &str,
    ) -> Result<Heard, ControlError> {
        let (id, customer) = (subscription.to_owned(), String::new());
        let found = StripeSubscription { id, customer, standing: Standing::Unpaid, prices: Vec::new() };
        let system = Principal::platform(Actor::system("stripe"), self.new_id());
        let mut work = self.begin(&system).await?;
        let outcome = work.follow(self.news()?, tenant, question, &found, None).await;
        work.end(outcome).await
    }
}

/// As people read it, in UTC.
fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}
