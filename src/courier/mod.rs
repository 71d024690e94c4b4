//! Brings alerts to where tenants want to have them: webhooks, Slack, mail.
//!
//! Every gateway has one. It takes deliveries that are due from the store's outbox, attempts them, and writes down
//! what came of it. A delivery is attempted until its receiver has it, by the schedule; then it is a dead letter, which
//! somebody may have sent again. A gateway that dies in the middle has sent it or not: another one sends it again under
//! the same id, so receivers that heed the id get each alert once.
//!
//! Knows the store and the secrets that its messages need; no gateway, and nothing of what alerts mean.
//!
//! # Why a receiver can't harm
//! Its address is judged when it is connected to, redirects are not followed, its answer is bounded in time and bytes,
//! and what it holds up is its own: deliveries are attempted beside each other.

mod email;
mod message;
mod signature;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use self::email::Mail;
use crate::clock::Clock;
use crate::domain::{Alert, AlertKind, Channel, ChannelKind, Delivery, Tenant};
use crate::outbound::{BadTrust, Bounds, Outbound, Place, Plain, Question, Reach, jittered};
use crate::outbox::{MeterNames, Meters, Pace, every, keep_sending};
use crate::secret::seal::{self, KeyRing, SealError};
use crate::store::{Attempt, ChannelSecret, Snapshot, Store, StoreError};
use crate::telemetry::log::with_causes;

pub use self::email::{BadMail, MailSecurity, MailSettings};

/// How deliveries are made.
#[derive(Clone, Debug)]
pub struct CourierSettings {
    /// How often the outbox is looked at.
    pub interval: Duration,
    /// The pause after each attempt that failed; after the last one a delivery is dead.
    pub retries: Vec<Duration>,
    /// The longest attempt.
    pub timeout: Duration,
    pub plain: Plain,
    pub reach: Reach,
    /// PEM file of the authorities that receivers' certificates must descend from; without it the system's are trusted.
    pub ca: Option<PathBuf>,
    pub mail: Option<MailSettings>,
}

/// The one courier of a gateway.
pub struct Courier {
    store: Store,
    clock: Arc<dyn Clock>,
    secrets: KeyRing,
    settings: CourierSettings,
    outbound: Outbound,
    mail: Option<Mail>,
    meters: Meters,
}

/// Why there can be no courier.
#[derive(Debug, thiserror::Error)]
pub enum BadCourier {
    #[error(transparent)]
    Trust(#[from] BadTrust),
    #[error("mail can't be sent")]
    Mail(#[from] BadMail),
}

/// All that one attempt needs.
struct Errand {
    delivery: Delivery,
    alert: Alert,
    channel: Channel,
    tenant: Tenant,
    /// Opened, newest first.
    secrets: Vec<String>,
}

/// Why an attempt failed.
struct Failed {
    why: String,
    /// Another attempt would fare no better.
    is_final: bool,
}

/// Deliveries that are attempted beside each other.
const AT_ONCE: usize = 32;
/// How often the outbox is counted.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
const METERS: MeterNames = MeterNames {
    attempts: (
        "tollgate_alert_deliveries_total",
        "Attempts of this gateway to deliver an alert, by what they came to: delivered, failed (there will be another) or \
         dead.",
    ),
    pending: ("tollgate_outbox_pending", "Deliveries of alerts that wait, of the whole fleet."),
    dead: ("tollgate_outbox_dead", "Deliveries that were given up and not sent again since."),
    oldest_seconds: (
        "tollgate_outbox_oldest_seconds",
        "Age of the oldest delivery that waits; 0 if none does.",
    ),
};
/// What of an answer is read: nobody looks at it.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// What is kept of why an attempt failed.
const ERROR_CHARS_MAX: usize = 300;
/// The receiver wants nothing any more.
const GONE: u16 = 410;

// === impl Courier ===

impl Courier {
    /// # Errors
    /// [`BadCourier`] when certificates can't be read, or the mail server's name is none.
    ///
    /// # Panics
    /// If the registry has metrics of these names already.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        secrets: KeyRing,
        settings: CourierSettings,
        registry: &Registry,
    ) -> Result<Courier, BadCourier> {
        let outbound = Outbound::new(settings.ca.as_deref())?;
        let mail = settings.mail.as_ref().map(|mail| Mail::new(mail, settings.timeout)).transpose()?;
        Ok(Courier {
            store,
            clock,
            secrets,
            settings,
            outbound,
            mail,
            meters: Meters::register(registry, METERS),
        })
    }

    /// Delivers for ever. May be dropped at any point: what was under way is attempted again, by whichever gateway is
    /// there.
    pub async fn run(&self) {
        let pace = Pace { at_once: AT_ONCE, interval: self.settings.interval };
        tokio::join!(
            every(MEASURED_EVERY, || self.measure()),
            keep_sending(pace, |free| self.take(free), |delivery| self.attempt(delivery)),
        );
    }

    async fn take(&self, free: usize) -> Vec<Delivery> {
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        let now = self.clock.now();
        // Long enough for the attempt and for writing down what came of it.
        let until = now.plus(self.settings.timeout * 2 + Duration::from_secs(10));
        if limit == 0 {
            return Vec::new();
        }
        self.store.take_deliveries(now, until, limit).await.unwrap_or_else(|error| {
            tracing::warn!("the outbox can't be looked at: {}", with_causes(&error));
            Vec::new()
        })
    }

    async fn measure(&self) {
        if let Ok(depth) = self.store.outbox_depth().await {
            self.meters.set_depth(depth, self.clock.now());
        }
    }

    async fn attempt(&self, delivery: Delivery) {
        let attempt = match self.errand(&delivery).await {
            Ok(Some(errand)) => self.run_errand(&errand).await,
            // Removed meanwhile, and the delivery with it.
            Ok(None) => return,
            Err(error) => self.failed(&delivery, &Failed::again(with_causes(&error))),
        };
        self.meters.count(&attempt);
        match self.store.end_attempt(&delivery, &attempt, self.clock.now()).await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    delivery.id = %delivery.id,
                    "what an attempt came to can't be written down, so there will be another: {}",
                    with_causes(&error)
                );
            }
        }
    }

    async fn run_errand(&self, errand: &Errand) -> Attempt {
        let delivery = &errand.delivery;
        let sent = match errand.channel.kind {
            _ if !errand.channel.enabled && errand.alert.kind != AlertKind::Test => {
                Err(Failed::finally("the channel is disabled"))
            }
            ChannelKind::Webhook => self.send_webhook(errand).await,
            ChannelKind::Slack => self.send_slack(errand).await,
            ChannelKind::Email => self.send_email(errand).await,
        };
        match sent {
            Ok(()) => Attempt::Delivered,
            Err(failed) => self.failed(delivery, &failed),
        }
    }

    fn failed(&self, delivery: &Delivery, failed: &Failed) -> Attempt {
        let error: String = failed.why.chars().take(ERROR_CHARS_MAX).collect();
        let attempts = usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
        // The first attempt's pause is the first of the schedule.
        let pause = self.settings.retries.get(attempts.saturating_sub(1)).filter(|_| !failed.is_final);
        match pause {
            Some(pause) => Attempt::Failed { error, next_at: self.clock.now().plus(jittered(*pause)) },
            None => {
                tracing::warn!(
                    tenant.id = %delivery.tenant,
                    channel.id = %delivery.channel,
                    delivery.id = %delivery.id,
                    "an alert could not be delivered in {attempts} attempts: {error}"
                );
                Attempt::Dead { error }
            }
        }
    }

    async fn errand(&self, delivery: &Delivery) -> Result<Option<Errand>, ErrandError> {
        let mut snapshot = self.store.read().await?;
        let Some(channel) = snapshot.channel(delivery.tenant, delivery.channel).await? else {
            return Ok(None);
        };
        let Some(alert) = snapshot.alert(delivery.tenant, delivery.alert).await? else { return Ok(None) };
        let Some(tenant) = snapshot.tenant(delivery.tenant).await? else { return Ok(None) };
        let now = self.clock.now();
        let sealed = snapshot.channel_secrets(delivery.tenant, delivery.channel, now).await?;
        let secrets = self.opened(&mut snapshot, &channel, &sealed).await?;
        Ok(Some(Errand { delivery: delivery.clone(), alert, channel, tenant, secrets }))
    }

    async fn opened(
        &self,
        snapshot: &mut Snapshot,
        channel: &Channel,
        sealed: &[ChannelSecret],
    ) -> Result<Vec<String>, ErrandError> {
        let keys = snapshot.data_keys(channel.tenant).await?;
        let name = channel.id.secret_name();
        let open = |secret: &ChannelSecret| {
            let place = seal::Place { tenant: channel.tenant, name: &name, version: secret.version };
            self.secrets.open(&keys, secret.data_key, place, &secret.sealed)
        };
        Ok(sealed.iter().map(open).collect::<Result<_, _>>()?)
    }

    async fn send_webhook(&self, errand: &Errand) -> Result<(), Failed> {
        let body = message::webhook(&errand.alert);
        let now = self.clock.now();
        let id = errand.delivery.id.to_string();
        let secrets = errand.secrets.iter().map(String::as_str);
        let signature = signature::signatures(secrets, &id, now, &body);
        let signature = signature.ok_or_else(|| Failed::finally("the channel has no secret to sign with"))?;
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id),
            ("webhook-timestamp", now.seconds().to_string()),
            ("webhook-signature", signature),
        ];
        self.post(&errand.channel.target, Question { headers, body: Some(body) }).await
    }

    async fn send_slack(&self, errand: &Errand) -> Result<(), Failed> {
        let url = errand.secrets.first().ok_or_else(|| Failed::finally("the channel has no URL"))?;
        let headers = vec![("content-type", "application/json".to_owned())];
        let body = message::slack(&errand.alert, &errand.tenant);
        self.post(url, Question { headers, body: Some(body) }).await
    }

    async fn send_email(&self, errand: &Errand) -> Result<(), Failed> {
        let mail =
            self.mail.as_ref().ok_or_else(|| Failed::again("no mail server is configured".to_owned()))?;
        let text = message::plain(&errand.alert, &errand.tenant);
        let sent = mail.send(errand.delivery.id, &errand.channel.target, &text).await;
        sent.map_err(|error| Failed { is_final: error.is_final(), why: with_causes(&error) })
    }

    async fn post(&self, url: &str, question: Question) -> Result<(), Failed> {
        let place = Place::parse(url, self.settings.plain);
        let place = place.ok_or_else(|| Failed::again("this URL may not be used any more".to_owned()))?;
        let bounds = Bounds { within: self.settings.timeout, bytes_max: ANSWER_BYTES_MAX };
        let answer = self.outbound.send(&place, question, &self.settings.reach, bounds).await;
        let answer = answer.map_err(|error| Failed::again(with_causes(&error)))?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(Failed { why: format!("it answers {status}"), is_final: status == GONE }),
        }
    }
}

/// Why an attempt did not even begin.
#[derive(Debug, thiserror::Error)]
enum ErrandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the channel's secret can't be opened")]
    Seal(#[from] SealError),
}

// === impl Failed ===

impl Failed {
    fn again(why: String) -> Failed {
        Failed { why, is_final: false }
    }

    fn finally(why: &str) -> Failed {
        Failed { why: why.to_owned(), is_final: true }
    }
}

impl Default for CourierSettings {
    fn default() -> Self {
        CourierSettings {
            interval: Duration::from_secs(1),
            // As Standard Webhooks suggests: about three days in all.
            retries: CourierSettings::RETRIES.map(Duration::from_secs).to_vec(),
            timeout: Duration::from_secs(15),
            plain: Plain::Never,
            reach: Reach::Public { and: Vec::new() },
            ca: None,
            mail: None,
        }
    }
}

impl CourierSettings {
    /// In seconds.
    pub const RETRIES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
}

#[cfg(test)]
mod tests;
