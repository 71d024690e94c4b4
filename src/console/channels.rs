//! Where alerts are brought, and what became of each.

use std::time::Duration;

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use uuid::Uuid;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, any_of, done, of_form, word};
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::control::{ChannelChange, CreatedChannel, NewChannel};
use crate::domain::{AlertKind, Channel, ChannelId, ChannelKind, Delivery, DeliveryId, DeliveryState};

#[derive(Template)]
#[template(path = "channels.html")]
struct ChannelsPage {
    layout: Layout,
    alerts: String,
    here: String,
    channels: Vec<Channel>,
    /// One that was just made or given another secret.
    created: Option<CreatedChannel>,
    form: Form,
    channel_kinds: Vec<(String, String)>,
    alert_kinds: Vec<(String, String)>,
    may_create: bool,
    may_change: bool,
    may_remove: bool,
    may_rotate: bool,
    may_test: bool,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    layout: Layout,
    alerts: String,
    here: String,
    deliveries: Vec<Sent>,
    next: Option<String>,
    form: Form,
    is_filtered: bool,
    channels: Vec<(String, String)>,
    states: Vec<(String, String)>,
    may_resend: bool,
}

/// A delivery, and the name of where it goes.
struct Sent {
    delivery: Delivery,
    channel: String,
}

const ALERTS: &str = "/alerts";
const PATH: &str = "/alerts/channels";
const DELIVERIES: &str = "/alerts/deliveries";
/// For how long a webhook's old secret goes on signing beside the new one.
const GRACE: Duration = Duration::from_secs(24 * 3_600);

/// `GET …/alerts/channels`
pub(super) async fn show(here: TenantVisit) -> Result<Response, Refusal> {
    page(&here, Form::default(), None).await
}

async fn page(here: &TenantVisit, form: Form, created: Option<CreatedChannel>) -> Result<Response, Refusal> {
    // Tests go to whatever channel is tested.
    let alert_kinds = AlertKind::ALL.into_iter().filter(|kind| *kind != AlertKind::Test);
    let page = ChannelsPage {
        layout: here.layout("Channels", Tab::Alerts),
        alerts: here.address(ALERTS),
        here: here.address(PATH),
        channels: here.visit.control.channels(&here.visit.principal, &here.named).await?,
        created,
        channel_kinds: ChannelKind::ALL.map(|kind| word(kind.as_str())).to_vec(),
        alert_kinds: alert_kinds.map(|kind| word(kind.as_str())).collect(),
        may_create: here.may("channel.create"),
        may_change: here.may("channel.change"),
        may_remove: here.may("channel.remove"),
        may_rotate: here.may("channel.rotate"),
        may_test: here.may("channel.test"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/alerts/channels`: a webhook's secret is on this answer's page and nowhere else.
pub(super) async fn create(here: TenantVisit, Posted(mut form): Posted) -> Result<Response, Refusal> {
    let Some(kind) = ChannelKind::parse(form.text("kind")) else {
        form.fail("kind", "A channel is of a kind that there is.");
        return page(&here, form, None).await;
    };
    let new = NewChannel {
        name: form.text("name").to_owned(),
        kind,
        target: form.text("target").to_owned(),
        kinds: form.all("kinds").iter().filter_map(|kind| AlertKind::parse(kind)).collect(),
    };
    match here.visit.control.create_channel(&here.visit.principal, &here.named, new).await {
        Ok(created) => page(&here, Form::default(), Some(created)).await,
        Err(error) => page(&here, form.refused(error)?, None).await,
    }
}

/// `POST …/alerts/channels/{channel}`: turns it on or off.
pub(super) async fn switch(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let is_on = form.has("state", "on");
    let change = ChannelChange { enabled: Some(is_on), ..ChannelChange::default() };
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let channel = control.change_channel(who, &here.named, ChannelId(id), change).await?;
    let state = if is_on { "on" } else { "off: nothing is brought there" };
    done(&here.visit, &here.address(PATH), &format!("{} is {state}.", channel.name))
}

/// `POST …/alerts/channels/{channel}/rotate`: the new secret is on this answer's page and nowhere else.
pub(super) async fn rotate(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    match control.rotate_channel(who, &here.named, ChannelId(id), GRACE).await {
        Ok(created) => page(&here, Form::default(), Some(created)).await,
        Err(error) => page(&here, form.refused(error)?, None).await,
    }
}

/// `POST …/alerts/channels/{channel}/test`
pub(super) async fn test(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    match here.visit.control.test_channel(&here.visit.principal, &here.named, ChannelId(id)).await {
        Ok(_) => {
            let message = "A test is on its way. Reload this page to see it arrive.";
            done(&here.visit, &here.address(DELIVERIES), message)
        }
        Err(error) => page(&here, form.refused(error)?, None).await,
    }
}

/// `POST …/alerts/channels/{channel}/remove`
pub(super) async fn remove(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    here.visit.control.remove_channel(&here.visit.principal, &here.named, ChannelId(id)).await?;
    done(&here.visit, &here.address(PATH), "The channel is removed.")
}

/// `GET …/alerts/deliveries?channel=…&state=…`
pub(super) async fn deliveries(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    let channel = filters.0.text("channel").parse().ok().map(ChannelId);
    let state = DeliveryState::parse(filters.0.text("state"));
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let channels = control.channels(who, &here.named).await?;
    let listed = control.deliveries(who, &here.named, channel, state, &filters.page()?).await?;
    let address = here.address(DELIVERIES);
    html(&DeliveriesPage {
        layout: here.layout("Deliveries", Tab::Alerts),
        alerts: here.address(ALERTS),
        next: filters.next(&address, listed.next_cursor),
        here: address,
        deliveries: listed.items.into_iter().map(|delivery| Sent::of(delivery, &channels)).collect(),
        is_filtered: channel.is_some() || state.is_some(),
        channels: any_of(channels.iter().map(|channel| (channel.id.to_string(), channel.name.clone()))),
        states: any_of(DeliveryState::ALL.map(|state| word(state.as_str()))),
        may_resend: here.may("delivery.resend"),
        form: filters.0,
    })
}

/// `POST …/alerts/deliveries/{delivery}/resend`
pub(super) async fn resend(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    here.visit.control.resend_delivery(&here.visit.principal, &here.named, DeliveryId(id)).await?;
    done(&here.visit, &here.address(DELIVERIES), "It is sent again.")
}

// === impl Sent ===

impl Sent {
    fn of(delivery: Delivery, channels: &[Channel]) -> Sent {
        let known = channels.iter().find(|channel| channel.id == delivery.channel);
        let channel = known.map_or("a channel that is gone", |channel| &channel.name).to_owned();
        Sent { delivery, channel }
    }

    fn state(&self) -> &'static str {
        match self.delivery.state {
            DeliveryState::Pending => "on its way",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dead => "given up",
        }
    }
}
