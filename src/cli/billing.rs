//! `tollgate billing`: usage on its way to whoever collects what is owed.

use clap::{Args as Group, Subcommand};
use serde_json::{Value, json};

use super::args::Page;
use super::ask::{Ask, cursor, path, with_query};
use super::report::tenants;
use super::show::{Table, items, list, moment, text};

#[derive(Subcommand, Clone, Debug)]
pub enum Billing {
    /// Show how bringing usage to Stripe or Lago goes
    #[command(after_help = "Example:\n  tollgate billing status")]
    Status,
    /// List hours of usage that were taken to be billed, newest first; with --state dead, what was given up
    #[command(after_help = "\
Examples:
  tollgate billing events --state pending
  tollgate billing events --tenant acme --state dead --json")]
    Events(Events),
    /// Send usage again that was given up; it is known there by the same identifier, and billed once
    #[command(after_help = "Example:\n  tollgate billing resend 0192f0c1-7a3b-7000-8000-000000000000")]
    Resend(Resend),
    /// Settle usage that was given up and is not to be sent again: it is there, or it is billed to nobody
    #[command(after_help = "\
Examples:
  tollgate billing settle 0192f0c1-7a3b-7000-8000-000000000000 --as delivered --reason \"entered at Stripe by hand\"
  tollgate billing settle 0192f0c1-7a3b-7000-8000-000000000000 --as abandoned --reason \"a test of ours\"

An invoice of the hour does not wait for it any more to be exported.")]
    Settle(Settle),
    /// List tenants that are not billed there: set their `billing_account`
    #[command(after_help = "\
Examples:
  tollgate billing unbilled
  tollgate settings set acme billing_account cus_NciAYcXfLnqBoz")]
    Unbilled(Page),
}

#[derive(Group, Clone, Debug)]
pub struct Events {
    /// Of this tenant only: its id or slug
    #[arg(long)]
    pub tenant: Option<String>,
    /// pending, delivered, dead or abandoned
    #[arg(long)]
    pub state: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct Resend {
    /// The event's id, as `billing events` shows it
    pub event: String,
}

#[derive(Group, Clone, Debug)]
pub struct Settle {
    /// The event's id, as `billing events` shows it
    pub event: String,
    /// delivered: it is there; abandoned: it is billed to nobody
    #[arg(long)]
    pub r#as: String,
    /// Why, for the audit log
    #[arg(long)]
    pub reason: String,
}

// === impl Billing ===

impl Billing {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Billing::Status => Ask::get(path(&["billing-exports"]), exports),
            Billing::Events(of) => Ask::get(of.path(), events),
            Billing::Resend(resend) => {
                Ask::post(path(&["billing-events", &resend.event, "resend"]), json!({}), sent)
            }
            Billing::Settle(settle) => {
                let body = json!({ "as": settle.r#as, "reason": settle.reason });
                Ask::post(path(&["billing-events", &settle.event, "settle"]), body, settled)
            }
            Billing::Unbilled(page) => {
                let query = [("limit", page.limit.map(|limit| limit.to_string())), cursor(page)];
                Ask::get(with_query(path(&["reports", "unbilled-tenants"]), query), unbilled)
            }
        }
    }
}

impl Events {
    fn path(&self) -> String {
        let query = [
            ("tenant", self.tenant.clone()),
            ("state", self.state.clone()),
            ("limit", self.page.limit.map(|limit| limit.to_string())),
            cursor(&self.page),
        ];
        with_query(path(&["billing-events"]), query)
    }
}

// === how answers look ===

fn exports(listed: &Value) -> String {
    let mut table = Table::new(["TO", "SINCE", "LOOKED AT", "PENDING", "OLDEST", "DEAD"]);
    for export in items(listed) {
        table.row([
            text(&export["collector"]),
            moment(&export["began_at"]),
            moment(&export["looked_at"]),
            text(&export["pending"]),
            moment(&export["oldest_pending_at"]),
            text(&export["dead"]),
        ]);
    }
    list(listed, &table, "usage is brought to nobody: see [billing.export] in the configuration\n")
}

fn events(listed: &Value) -> String {
    let mut table =
        Table::new(["HOUR", "ACCOUNT", "RESOURCE", "UNITS", "STATE", "ATTEMPTS", "NEXT", "ERROR", "ID"]);
    for event in items(listed) {
        table.row([
            moment(&event["bucket_start"]),
            text(&event["account"]),
            text(&event["resource_type"]),
            text(&event["units"]),
            text(&event["state"]),
            text(&event["attempts"]),
            moment(&event["next_attempt_at"]),
            text(&event["last_error"]),
            text(&event["event_id"]),
        ]);
    }
    list(listed, &table, "no usage was taken to be billed\n")
}

fn sent(event: &Value) -> String {
    format!("on its way as {}\n", text(&event["identifier"]))
}

fn settled(event: &Value) -> String {
    format!("{} is {}\n", text(&event["identifier"]), text(&event["state"]))
}

fn unbilled(listed: &Value) -> String {
    tenants(listed, "every tenant that is served is billed\n")
}
