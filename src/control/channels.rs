//! Channels that tenants are told through: made, changed, given new secrets, tried out; and what became of what was
//! sent there.
//!
//! Nothing is sent here: what a channel is to bring is written to the outbox, in the transaction of what it tells of.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::principal::Operation;
use super::validate::Faults;
use super::work::{Target, Told, Work};
use super::{Control, ControlError, Principal, TenantRef};
use crate::clock::Timestamp;
use crate::domain::{
    Alert, AlertId, AlertKind, Channel, ChannelId, ChannelKind, Delivery, DeliveryId, DeliveryState,
    Severity, Tenant,
};
use crate::outbound::{Place, Plain, Reach};
use crate::secret::seal;
use crate::store::{ChannelSecret, Listed, Page, Tx};

/// What tenants' channels may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelSettings {
    /// `http:` is good enough.
    pub allow_http: bool,
    /// Networks that are not public and may be reached all the same.
    pub networks: Vec<IpNet>,
    /// There is a server that takes mail from us.
    pub has_mail: bool,
}

/// What a new channel is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewChannel {
    pub name: String,
    pub kind: ChannelKind,
    /// A URL or an e-mail address.
    pub target: String,
    /// What is brought there; empty is everything.
    pub kinds: Vec<AlertKind>,
}

/// What to change of a channel: `None` leaves it as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChannelChange {
    pub name: Option<String>,
    pub target: Option<String>,
    pub kinds: Option<Vec<AlertKind>>,
    pub enabled: Option<bool>,
}

/// A channel at the only moment when its secret is known.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedChannel {
    pub channel: Channel,
    /// Of webhooks: what their receivers verify signatures with. Shown once, kept sealed.
    pub secret: Option<String>,
}

/// A target as it was checked.
struct CheckedTarget {
    shown: String,
    /// Of a URL that is a secret itself.
    secret: Option<String>,
}

/// Of one tenant.
const CHANNELS_MAX: usize = 20;
/// Tests of one channel that wait to be delivered: a receiver that hangs must not take all couriers' time.
const WAITING_MAX: usize = 10;
const URL_LENGTH_MAX: usize = 2_048;
/// Standard Webhooks: 24 to 64 bytes.
const SECRET_BYTES: usize = 32;
const SECRET_PREFIX: &str = "whsec_";
/// How long a webhook's old secret may go on signing beside the new one.
const GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Control {
    /// Oldest first.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn channels(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
    ) -> Result<Vec<Channel>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadChannels, tenant).await?;
        Ok(snapshot.channels(tenant.id).await?)
    }

    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: ChannelId,
    ) -> Result<Channel, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadChannels, tenant).await?;
        snapshot.channel(tenant.id, id).await?.ok_or_else(|| no_channel(id))
    }

    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::Conflict`] for a deleted tenant, and beyond twenty
    /// channels.
    pub async fn create_channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        new: NewChannel,
    ) -> Result<CreatedChannel, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.create_channel(tenant, &new).await;
        work.end(outcome).await
    }

    /// What is so already is success and writes nothing.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names all faults; [`ControlError::NotFound`].
    pub async fn change_channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: ChannelId,
        change: ChannelChange,
    ) -> Result<Channel, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.change_channel(tenant, id, change).await;
        work.end(outcome).await
    }

    /// Removes the channel, with what is on its way there.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn remove_channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: ChannelId,
    ) -> Result<(), ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.remove_channel(tenant, id).await;
        work.end(outcome).await
    }

    /// Gives a webhook a new secret. For `grace` what is sent carries the signatures of both.
    ///
    /// # Errors
    /// [`ControlError::Conflict`] for a channel that signs nothing; [`ControlError::Invalid`] for more than 30 days.
    pub async fn rotate_channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: ChannelId,
        grace: Duration,
    ) -> Result<CreatedChannel, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.rotate_channel(tenant, id, grace).await;
        work.end(outcome).await
    }

    /// Sends something to the channel, also to one that is disabled; what becomes of it is seen in its deliveries.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Conflict`] while much waits to be delivered there.
    pub async fn test_channel(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: ChannelId,
    ) -> Result<Delivery, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.test_channel(tenant, id).await;
        work.end(outcome).await
    }

    /// What was sent to a channel, or to all, newest first. The dead ones are the dead letters.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]; [`ControlError::Invalid`] for another list's cursor.
    pub async fn deliveries(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        channel: Option<ChannelId>,
        state: Option<DeliveryState>,
        page: &Page,
    ) -> Result<Listed<Delivery>, ControlError> {
        let (mut snapshot, tenant) = self.read_tenant(principal, Operation::ReadChannels, tenant).await?;
        if let Some(id) = channel
            && snapshot.channel(tenant.id, id).await?.is_none()
        {
            return Err(no_channel(id));
        }
        Ok(snapshot.deliveries(tenant.id, channel, state, page).await??)
    }

    /// Has a delivery that has ended attempted again, from the first attempt on; its receiver knows it by the same id.
    /// One that is on its way is tried at once.
    ///
    /// # Errors
    /// [`ControlError::NotFound`]
    pub async fn resend_delivery(
        &self,
        principal: &Principal,
        tenant: &TenantRef,
        id: DeliveryId,
    ) -> Result<Delivery, ControlError> {
        let mut work = self.begin(principal).await?;
        let outcome = work.resend_delivery(tenant, id).await;
        work.end(outcome).await
    }

    /// Writes down what happened, and that these channels are told. Answers what is on its way now, or `None` if all
    /// that was done before.
    pub(super) async fn tell(
        &self,
        tx: &mut Tx,
        alert: &Alert,
        occasion: &str,
        channels: impl IntoIterator<Item = ChannelId>,
    ) -> Result<Option<Vec<Delivery>>, ControlError> {
        if !tx.insert_alert(alert, occasion).await? {
            return Ok(None);
        }
        let deliveries: Vec<_> =
            channels.into_iter().map(|channel| self.new_delivery(alert, channel)).collect();
        for delivery in &deliveries {
            tx.set_delivery(delivery).await?;
        }
        Ok(Some(deliveries))
    }

    fn new_delivery(&self, alert: &Alert, channel: ChannelId) -> Delivery {
        Delivery {
            id: DeliveryId(self.new_id()),
            tenant: alert.tenant,
            alert: alert.id,
            channel,
            state: DeliveryState::Pending,
            attempts: 0,
            next_at: alert.at,
            last_error: None,
            created_at: alert.at,
            finished_at: None,
        }
    }
}

fn no_channel(id: ChannelId) -> ControlError {
    ControlError::NotFound { what: "channel", which: id.to_string() }
}

/// What a channel looks like in the audit log.
fn shown(channel: &Channel) -> Value {
    json!({
        "name": channel.name,
        "kind": channel.kind,
        "target": channel.target,
        "kinds": channel.kinds,
        "enabled": channel.enabled,
    })
}

fn draw_secret() -> Result<String, ControlError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(ControlError::Random)?;
    Ok(format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(bytes)))
}

// === impl ChannelSettings ===

impl Default for ChannelSettings {
    /// HTTPS to the public internet, and no mail.
    fn default() -> Self {
        ChannelSettings { allow_http: false, networks: Vec::new(), has_mail: false }
    }
}

impl ChannelSettings {
    /// Whether a URL of a tenant's may be `http:`.
    pub const fn plain(&self) -> Plain {
        if self.allow_http { Plain::Anywhere } else { Plain::Never }
    }

    /// What a URL of a tenant's may lead to.
    pub fn reach(&self) -> Reach {
        Reach::Public { and: self.networks.clone() }
    }

    fn check(&self, kind: ChannelKind, target: &str, faults: &mut Faults) -> Option<CheckedTarget> {
        match kind {
            ChannelKind::Webhook => {
                self.check_url(target, faults)?;
                Some(CheckedTarget { shown: target.to_owned(), secret: None })
            }
            ChannelKind::Slack => {
                let place = self.check_url(target, faults)?;
                let scheme = if place.is_tls { "https" } else { "http" };
                let shown = format!("{scheme}://{}/…", place.host);
                Some(CheckedTarget { shown, secret: Some(target.to_owned()) })
            }
            ChannelKind::Email if !self.has_mail => {
                faults.add("kind", "no server for mail is configured: see [alerts.smtp]");
                None
            }
            ChannelKind::Email => {
                let address = faults.email("target", target)?;
                let shown = faults.check("target", address, "an e-mail address is expected")?;
                Some(CheckedTarget { shown, secret: None })
            }
        }
    }

    /// Names are judged again each time that something is sent: where they lead changes.
    fn check_url(&self, url: &str, faults: &mut Faults) -> Option<Place> {
        let forms = if self.allow_http { "an http or https URL" } else { "an https URL" };
        let place = Place::parse(url, self.plain()).filter(|_| url.len() <= URL_LENGTH_MAX);
        let place = faults.check("target", place, format!("{forms} without a user is expected"))?;
        let is_reachable = place.address().is_none_or(|address| self.reach().covers(address));
        let message = "this address is not of the public internet, and not of alerts.networks";
        faults.check("target", is_reachable.then_some(place), message)
    }
}

// === impl CreatedChannel ===

/// Without the secret.
impl std::fmt::Debug for CreatedChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedChannel").field("channel", &self.channel).finish_non_exhaustive()
    }
}

// === impl Work ===

impl Work<'_> {
    async fn create_channel(
        &mut self,
        tenant: &TenantRef,
        new: &NewChannel,
    ) -> Result<CreatedChannel, ControlError> {
        let tenant = self.living_tenant_for(Operation::CreateChannel, tenant).await?;
        if self.tx.channels(tenant.id).await?.len() >= CHANNELS_MAX {
            return Err(ControlError::Conflict(format!("a tenant has {CHANNELS_MAX} channels at most")));
        }
        let mut faults = Faults::default();
        let name = faults.name("name", &new.name);
        let kinds = checked_kinds(&new.kinds, &mut faults);
        let target = self.control.channel_settings().check(new.kind, &new.target, &mut faults);
        let (Some(name), Some(kinds), Some(target)) = (name, kinds, target) else {
            return Err(faults.refusal());
        };
        let channel = Channel {
            id: ChannelId(self.control.new_id()),
            tenant: tenant.id,
            name,
            kind: new.kind,
            target: target.shown,
            kinds,
            enabled: true,
            created_at: self.now,
            updated_at: self.now,
        };
        self.tx.set_channel(&channel).await?;
        let secret = match new.kind {
            ChannelKind::Webhook => Some(draw_secret()?),
            ChannelKind::Slack | ChannelKind::Email => None,
        };
        if let Some(kept) = secret.as_ref().or(target.secret.as_ref()) {
            self.keep_secret(&tenant, channel.id, kept, self.now).await?;
        }
        let target = Target::of(&tenant, "channel", channel.id.to_string());
        self.audit(Operation::CreateChannel, &target, Told::made(shown(&channel))).await?;
        Ok(CreatedChannel { channel, secret })
    }

    /// Seals the channel's new secret; the others end then.
    async fn keep_secret(
        &mut self,
        tenant: &Tenant,
        id: ChannelId,
        text: &str,
        others_end: Timestamp,
    ) -> Result<(), ControlError> {
        let data_key = self.data_key(tenant.id).await?;
        let newest =
            self.tx.channel_secrets(tenant.id, id, self.now).await?.first().map(|newest| newest.version);
        let version = newest.map_or(0, |newest| newest + 1).max(self.now.micros());
        let place = seal::Place { tenant: tenant.id, name: &id.secret_name(), version };
        let sealed = data_key.seal(place, text)?;
        let secret = ChannelSecret { version, data_key: data_key.id, sealed, expires_at: None };
        Ok(self.tx.add_channel_secret(tenant.id, id, &secret, others_end, self.now).await?)
    }

    async fn channel_for(
        &mut self,
        operation: Operation,
        tenant: &TenantRef,
        id: ChannelId,
    ) -> Result<(Tenant, Channel), ControlError> {
        let tenant = self.living_tenant_for(operation, tenant).await?;
        let channel = self.tx.channel(tenant.id, id).await?.ok_or_else(|| no_channel(id))?;
        Ok((tenant, channel))
    }

    async fn change_channel(
        &mut self,
        tenant: &TenantRef,
        id: ChannelId,
        change: ChannelChange,
    ) -> Result<Channel, ControlError> {
        let (tenant, before) = self.channel_for(Operation::ChangeChannel, tenant, id).await?;
        let mut faults = Faults::default();
        let mut after = before.clone();
        if let Some(name) = change.name.and_then(|name| faults.name("name", &name)) {
            after.name = name;
        }
        if let Some(kinds) = change.kinds.and_then(|kinds| checked_kinds(&kinds, &mut faults)) {
            after.kinds = kinds;
        }
        let settings = self.control.channel_settings();
        let target = change.target.and_then(|target| settings.check(before.kind, &target, &mut faults));
        faults.finish()?;
        after.enabled = change.enabled.unwrap_or(before.enabled);
        let secret = target.and_then(|target| {
            after.target = target.shown;
            target.secret
        });
        if after == before && secret.is_none() {
            return Ok(before);
        }
        after.updated_at = self.now;
        self.tx.set_channel(&after).await?;
        if let Some(secret) = secret {
            self.keep_secret(&tenant, id, &secret, self.now).await?;
        }
        let told = Told::changed(&shown(&before), &shown(&after));
        self.audit(Operation::ChangeChannel, &Target::of(&tenant, "channel", id.to_string()), told).await?;
        Ok(after)
    }

    async fn remove_channel(&mut self, tenant: &TenantRef, id: ChannelId) -> Result<(), ControlError> {
        let (tenant, before) = self.channel_for(Operation::RemoveChannel, tenant, id).await?;
        self.tx.remove_channel(tenant.id, id).await?;
        let told = Told { before: Some(shown(&before)), ..Told::default() };
        self.audit(Operation::RemoveChannel, &Target::of(&tenant, "channel", id.to_string()), told).await
    }

    async fn rotate_channel(
        &mut self,
        tenant: &TenantRef,
        id: ChannelId,
        grace: Duration,
    ) -> Result<CreatedChannel, ControlError> {
        let (tenant, channel) = self.channel_for(Operation::RotateChannel, tenant, id).await?;
        if channel.kind != ChannelKind::Webhook {
            let why = format!("a channel of kind {} signs nothing", channel.kind.as_str());
            return Err(ControlError::Conflict(why));
        }
        if grace > GRACE_MAX {
            let mut faults = Faults::default();
            faults.add("grace_seconds", format!("at most {}", GRACE_MAX.as_secs()));
            return Err(faults.refusal());
        }
        let secret = draw_secret()?;
        let others_end = self.now.plus(grace);
        // Two are good at a time and not three.
        self.tx.end_old_channel_secrets(tenant.id, id).await?;
        self.keep_secret(&tenant, id, &secret, others_end).await?;
        let told = Told::made(json!({ "others_end": others_end }));
        self.audit(Operation::RotateChannel, &Target::of(&tenant, "channel", id.to_string()), told).await?;
        Ok(CreatedChannel { channel, secret: Some(secret) })
    }

    async fn test_channel(&mut self, tenant: &TenantRef, id: ChannelId) -> Result<Delivery, ControlError> {
        let (tenant, channel) = self.channel_for(Operation::TestChannel, tenant, id).await?;
        let waiting = Some(DeliveryState::Pending);
        let waiting = self.tx.deliveries(tenant.id, Some(id), waiting, &Page::default()).await??;
        if waiting.items.len() >= WAITING_MAX {
            let why = "too much waits to be delivered there: see what became of it first";
            return Err(ControlError::Conflict(why.to_owned()));
        }
        let alert = Alert {
            id: AlertId(self.control.new_id()),
            tenant: tenant.id,
            kind: AlertKind::Test,
            severity: Severity::Info,
            resource: None,
            summary: format!("This is a test of the channel {}.", channel.name),
            details: json!({ "channel_id": id }),
            at: self.now,
            acknowledged_at: None,
            acknowledged_by: None,
        };
        let occasion = format!("test:{}", alert.id);
        let told = self.control.tell(&mut self.tx, &alert, &occasion, [id]).await?;
        let delivery = told.and_then(|told| told.into_iter().next()).ok_or_else(|| no_channel(id))?;
        let told = Told::made(json!({ "delivery_id": delivery.id }));
        self.audit(Operation::TestChannel, &Target::of(&tenant, "channel", id.to_string()), told).await?;
        Ok(delivery)
    }

    async fn resend_delivery(
        &mut self,
        tenant: &TenantRef,
        id: DeliveryId,
    ) -> Result<Delivery, ControlError> {
        let tenant = self.living_tenant_for(Operation::ResendDelivery, tenant).await?;
        let no_delivery = || ControlError::NotFound { what: "delivery", which: id.to_string() };
        let before = self.tx.delivery(tenant.id, id).await?.ok_or_else(no_delivery)?;
        // An attempt that is under way keeps its number, so that what comes of it is noted.
        let attempts = if before.state == DeliveryState::Pending { before.attempts } else { 0 };
        let (state, finished_at) = (DeliveryState::Pending, None);
        let after = Delivery { state, attempts, next_at: self.now, finished_at, ..before };
        self.tx.set_delivery(&after).await?;
        let told = Told::made(json!({ "channel_id": after.channel, "alert_id": after.alert }));
        self.audit(Operation::ResendDelivery, &Target::of(&tenant, "delivery", id.to_string()), told).await?;
        Ok(after)
    }
}

/// Each once. Tests are always brought.
fn checked_kinds(kinds: &[AlertKind], faults: &mut Faults) -> Option<Vec<AlertKind>> {
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let is_good = !sorted.contains(&AlertKind::Test);
    faults.check("kinds", is_good.then_some(sorted), "tests are sent to whatever channel is tested")
}
