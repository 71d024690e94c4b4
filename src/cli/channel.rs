//! `tollgate channel`: where a tenant is told of alerts, and what arrived there.

use clap::{Args as Group, Subcommand};
use serde_json::{Value, json};

use super::args::{Page, TenantName};
use super::ask::{Ask, cursor, path, said, with_query};
use super::show::{Table, items, list, moment, text};
use crate::api::Method;

#[derive(Subcommand, Clone, Debug)]
pub enum Channel {
    /// Add a webhook, a Slack channel or an e-mail address; a webhook's secret is shown this once
    #[command(after_help = "\
Examples:
  tollgate channel create acme --name ops --kind webhook --target https://ops.acme.example/tollgate
  tollgate channel create acme --name chat --kind slack --target https://hooks.slack.com/services/T0/B0/x --only quota
  tollgate channel create acme --name mail --kind email --target ops@acme.example --json")]
    Create(ChannelCreate),
    /// List the channels of a tenant
    #[command(after_help = "Example:\n  tollgate channel list acme")]
    List(TenantName),
    /// Let a channel rest: nothing is brought there until it is enabled again
    #[command(after_help = "Example:\n  tollgate channel disable acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Disable(ChannelName),
    /// Let a disabled channel work again
    #[command(after_help = "Example:\n  tollgate channel enable acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Enable(ChannelName),
    /// Remove a channel, with what is on its way there
    #[command(after_help = "Example:\n  tollgate channel remove acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Remove(ChannelName),
    /// Give a webhook a new secret; the old one signs as well for a while
    #[command(after_help = "\
Examples:
  tollgate channel rotate acme 0192f0c1-7a3b-7000-8000-000000000000
  tollgate channel rotate acme 0192f0c1-7a3b-7000-8000-000000000000 --grace-seconds 0")]
    Rotate(ChannelRotate),
    /// Send something to a channel, to see it work
    #[command(after_help = "Example:\n  tollgate channel test acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Test(ChannelName),
    /// List what was sent, newest first; with --state dead, what was given up
    #[command(after_help = "\
Examples:
  tollgate channel deliveries acme
  tollgate channel deliveries acme --state dead --json")]
    Deliveries(ChannelDeliveries),
    /// Send something again that was delivered or given up; its receiver knows it by the same id
    #[command(after_help = "Example:\n  tollgate channel resend acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Resend(ChannelResend),
}

#[derive(Group, Clone, Debug)]
pub struct ChannelCreate {
    /// The tenant's id or slug
    pub tenant: String,
    /// What people call the channel
    #[arg(long)]
    pub name: String,
    /// webhook, slack or email
    #[arg(long)]
    pub kind: String,
    /// A URL, or an e-mail address
    #[arg(long)]
    pub target: String,
    /// Bring only alerts of this kind; may be repeated; all if not given
    #[arg(long = "only", value_name = "KIND")]
    pub kinds: Vec<String>,
}

#[derive(Group, Clone, Debug)]
pub struct ChannelName {
    /// The tenant's id or slug
    pub tenant: String,
    /// The channel's id, as `channel list` shows it
    pub channel: String,
}

#[derive(Group, Clone, Debug)]
pub struct ChannelRotate {
    #[command(flatten)]
    pub name: ChannelName,
    /// How long the old secret signs as well; a day if not given
    #[arg(long, value_name = "SECONDS")]
    pub grace_seconds: Option<u64>,
}

#[derive(Group, Clone, Debug)]
pub struct ChannelDeliveries {
    /// The tenant's id or slug
    pub tenant: String,
    /// To this channel only
    #[arg(long, value_name = "CHANNEL_ID")]
    pub channel: Option<String>,
    /// pending, delivered or dead
    #[arg(long)]
    pub state: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct ChannelResend {
    /// The tenant's id or slug
    pub tenant: String,
    /// The delivery's id, as `channel deliveries` shows it
    pub delivery: String,
}

// === impl Channel ===

impl Channel {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Channel::Create(create) => {
                Ask::post(path(&["tenants", &create.tenant, "channels"]), create.body(), created)
            }
            Channel::List(name) => Ask::get(path(&["tenants", &name.tenant, "channels"]), channels),
            Channel::Disable(name) => name.change(json!({ "enabled": false })),
            Channel::Enable(name) => name.change(json!({ "enabled": true })),
            Channel::Remove(name) => Ask {
                method: Method::DELETE,
                path: name.path(),
                body: None,
                show: |_| "removed\n".to_owned(),
            },
            Channel::Rotate(rotate) => {
                let body = said([("grace_seconds", rotate.grace_seconds.into())]);
                Ask::post(format!("{}/rotate", rotate.name.path()), body, created)
            }
            Channel::Test(name) => Ask::post(format!("{}/test", name.path()), json!({}), sent),
            Channel::Deliveries(of) => Ask::get(of.path(), deliveries),
            Channel::Resend(resend) => {
                let path = path(&["tenants", &resend.tenant, "deliveries", &resend.delivery, "resend"]);
                Ask::post(path, json!({}), sent)
            }
        }
    }
}

impl ChannelCreate {
    fn body(&self) -> Value {
        said([
            ("name", self.name.as_str().into()),
            ("kind", self.kind.as_str().into()),
            ("target", self.target.as_str().into()),
            ("kinds", self.kinds.as_slice().into()),
        ])
    }
}

impl ChannelName {
    fn path(&self) -> String {
        path(&["tenants", &self.tenant, "channels", &self.channel])
    }

    fn change(&self, body: Value) -> Ask {
        Ask { method: Method::PATCH, path: self.path(), body: Some(body), show: changed }
    }
}

impl ChannelDeliveries {
    fn path(&self) -> String {
        let query = [
            ("channel_id", self.channel.clone()),
            ("state", self.state.clone()),
            ("limit", self.page.limit.map(|limit| limit.to_string())),
            cursor(&self.page),
        ];
        with_query(path(&["tenants", &self.tenant, "deliveries"]), query)
    }
}

// === how answers look ===

fn created(channel: &Value) -> String {
    let mut shown = format!("channel {} ({})\n", text(&channel["channel_id"]), text(&channel["name"]));
    if let Some(secret) = channel["secret"].as_str() {
        shown.push_str(&format!(
            "\n{secret}\n\nIts receiver verifies signatures with it. It is not shown again.\n"
        ));
    }
    shown
}

fn changed(channel: &Value) -> String {
    let state = if channel["enabled"] == true { "enabled" } else { "disabled" };
    format!("channel {} is {state}\n", text(&channel["name"]))
}

fn channels(listed: &Value) -> String {
    let mut table = Table::new(["NAME", "KIND", "TARGET", "ONLY", "STATE", "ID"]);
    for channel in items(listed) {
        let kinds = channel["kinds"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(",");
        table.row([
            text(&channel["name"]),
            text(&channel["kind"]),
            text(&channel["target"]),
            if kinds.is_empty() { "-".to_owned() } else { kinds },
            if channel["enabled"] == true { "enabled".to_owned() } else { "disabled".to_owned() },
            text(&channel["channel_id"]),
        ]);
    }
    list(listed, &table, "no channels: add one with `tollgate channel create`\n")
}

fn sent(delivery: &Value) -> String {
    format!("on its way as {}\n", text(&delivery["delivery_id"]))
}

fn deliveries(listed: &Value) -> String {
    let mut table = Table::new(["AT", "STATE", "ATTEMPTS", "NEXT", "ERROR", "ID"]);
    for delivery in items(listed) {
        table.row([
            moment(&delivery["created_at"]),
            text(&delivery["state"]),
            text(&delivery["attempts"]),
            moment(&delivery["next_attempt_at"]),
            text(&delivery["last_error"]),
            text(&delivery["delivery_id"]),
        ]);
    }
    list(listed, &table, "nothing was sent\n")
}
