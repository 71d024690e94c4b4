//! `tollgate invoice`: what a tenant owes, why, and whether it is what was counted.

use std::path::Path;

use clap::{Args as Group, Subcommand};
use serde_json::{Value, json};

use super::args::{Page, TenantName};
use super::ask::{Ask, cursor, path, said, with_query};
use super::failure::Failure;
use super::show::{Table, facts, items, list, moment, text};
use super::{Found, answered};
use crate::api::Method;
use crate::domain::billing::{AtCap, Shares};

#[derive(Subcommand, Clone, Debug)]
pub enum Invoice {
    /// List a tenant's finalized invoices, newest first
    #[command(after_help = "\
Examples:
  tollgate invoice list acme --json
  tollgate invoice list acme --state exported    # all usage of the period is at Stripe or Lago")]
    List(InvoiceList),
    /// Show an invoice, or what is owed for the present period as of now
    #[command(after_help = "\
Examples:
  tollgate invoice show acme          # the running estimate
  tollgate invoice show acme 0192f0c1-7a3b-7000-8000-000000000000 --json")]
    Show(InvoiceShow),
    /// Show what another tier would change and cost; changes nothing
    #[command(after_help = "Example:\n  tollgate invoice preview acme business")]
    Preview(InvoicePreview),
    /// Finalize the invoice of the first period that is over and has none
    #[command(after_help = "\
Example:
  tollgate invoice finalize acme

A running gateway does it by itself. A second time shows the invoice that is there.")]
    Finalize(TenantName),
    /// Take back an invoice that was not paid
    #[command(
        after_help = "Example:\n  tollgate invoice void acme 0192f0c1-7a3b-7000-8000-000000000000 --reason \"wrong name\""
    )]
    Void(InvoiceVoid),
    /// Note that an invoice was paid
    #[command(after_help = "Example:\n  tollgate invoice paid acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Paid(InvoiceName),
    /// Compute an invoice again from what was counted, and compare line by line
    #[command(after_help = "\
Example:
  tollgate invoice verify acme 0192f0c1-7a3b-7000-8000-000000000000

Exit status: 0 it is what was counted, 1 it differs.")]
    Verify(InvoiceName),
    /// Show or set how much a tenant means to spend in a period at most: it is told when it comes near, or stopped
    #[command(after_help = "\
Examples:
  tollgate invoice cap acme                           # what it is, and what it leaves
  tollgate invoice cap acme --amount 500.00           # told of at 80 and 100 percent of it
  tollgate invoice cap acme --amount 500.00 --stop    # what would be charged for beyond it is refused
  tollgate invoice cap acme --amount 500.00 --stop --shares api_calls=3,alerts=1
  tollgate invoice cap acme --none

A cap that stops divides what it leaves of the money among the resources that are sold above their limits:
evenly, or by --shares, and those that are not named get nothing.")]
    Cap(InvoiceCap),
}

/// What a tenant means to spend in a period at most.
#[derive(Group, Clone, Debug)]
pub struct InvoiceCap {
    /// The tenant's id or slug
    pub tenant: String,
    /// Set it, in the currency that the tenant is billed in
    #[arg(long)]
    pub amount: Option<String>,
    /// Refuse what would be charged for beyond it
    #[arg(long, requires = "amount")]
    pub stop: bool,
    /// How what it leaves is divided: a weight for each resource
    #[arg(long, requires = "amount", value_name = "RESOURCE=WEIGHT,…")]
    pub shares: Option<Shares>,
    /// Have none any more
    #[arg(long, conflicts_with = "amount")]
    pub none: bool,
}

#[derive(Group, Clone, Debug)]
pub struct InvoiceList {
    /// The tenant's id or slug
    pub tenant: String,
    /// finalized, exported, paid or void
    #[arg(long)]
    pub state: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct InvoiceShow {
    /// The tenant's id or slug
    pub tenant: String,
    /// The invoice's id, as `invoice list` shows it; the running estimate without it
    pub invoice: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct InvoiceName {
    /// The tenant's id or slug
    pub tenant: String,
    /// The invoice's id, as `invoice list` shows it
    pub invoice: String,
}

#[derive(Group, Clone, Debug)]
pub struct InvoicePreview {
    /// The tenant's id or slug
    pub tenant: String,
    /// The other tier
    pub tier: String,
}

#[derive(Group, Clone, Debug)]
pub struct InvoiceVoid {
    #[command(flatten)]
    pub name: InvoiceName,
    /// Why, for the audit log and the invoice
    #[arg(long)]
    pub reason: String,
}

/// Numbers that differ are a problem that was found.
pub(super) fn invoice(config: Option<&Path>, command: &Invoice) -> Result<Found, Failure> {
    let found = answered(config, command.ask())?;
    let differs = matches!(command, Invoice::Verify(_))
        && serde_json::from_str::<Value>(&found.json).is_ok_and(|verified| verified["agrees"] != true);
    Ok(Found { status: u8::from(differs), ..found })
}

// === impl Invoice ===

impl Invoice {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Invoice::List(all) => {
                let page = [
                    ("state", all.state.clone()),
                    ("limit", all.page.limit.map(|limit| limit.to_string())),
                    cursor(&all.page),
                ];
                Ask::get(with_query(path(&["tenants", &all.tenant, "invoices"]), page), invoices)
            }
            Invoice::Show(show) => {
                let which = show.invoice.as_deref().unwrap_or("draft");
                Ask::get(path(&["tenants", &show.tenant, "invoices", which]), document)
            }
            Invoice::Preview(of) => Ask::post(
                path(&["tenants", &of.tenant, "subscription", "preview"]),
                json!({ "tenant_tier": of.tier }),
                preview,
            ),
            Invoice::Finalize(name) => {
                Ask::post(path(&["tenants", &name.tenant, "invoices", "finalize"]), json!({}), document)
            }
            Invoice::Void(void) => {
                Ask::post(void.name.path("void"), said([("reason", void.reason.as_str().into())]), document)
            }
            Invoice::Paid(name) => Ask::post(name.path("paid"), json!({}), document),
            Invoice::Verify(name) => Ask::get(name.path("verify"), verified),
            Invoice::Cap(cap) => {
                let at = path(&["tenants", &cap.tenant, "spend-cap"]);
                match &cap.amount {
                    None if !cap.none => Ask::get(at, capped),
                    None => {
                        Ask { method: Method::DELETE, path: at, body: None, show: |_| "no cap\n".to_owned() }
                    }
                    Some(amount) => {
                        let then = if cap.stop { AtCap::Stop } else { AtCap::Notify };
                        let body = said([
                            ("amount", json!(amount)),
                            ("then", json!(then)),
                            ("shares", json!(cap.shares)),
                        ]);
                        let body = Some(body);
                        Ask { method: Method::PUT, path: at, body, show: capped }
                    }
                }
            }
        }
    }
}

impl InvoiceName {
    fn path(&self, then: &str) -> String {
        path(&["tenants", &self.tenant, "invoices", &self.invoice, then])
    }
}

// === how answers look ===

fn invoices(listed: &Value) -> String {
    let mut table = Table::new(["FROM", "TO", "STATUS", "TOTAL", "ID"]);
    for invoice in items(listed) {
        table.row([
            moment(&invoice["period"]["start"]),
            moment(&invoice["period"]["end"]),
            text(&invoice["status"]),
            text(&invoice["total"]),
            text(&invoice["invoice_id"]),
        ]);
    }
    list(listed, &table, "no invoices\n")
}

fn document(invoice: &Value) -> String {
    let head = facts(
        invoice,
        &[
            ("invoice", "invoice_id"),
            ("status", "status"),
            ("exported to", "exported_to"),
            ("exported at", "exported_at"),
            ("bill to", "bill_to"),
        ],
    );
    let (from, to) = (moment(&invoice["period"]["start"]), moment(&invoice["period"]["end"]));
    let mut table = Table::new(["LINE", "DESCRIPTION", "AMOUNT"]);
    for line in invoice["lines"].as_array().into_iter().flatten() {
        table.row([text(&line["line"]), text(&line["description"]), text(&line["amount"])]);
    }
    format!("{head}period   {from} to {to}\n\n{table}\ntotal    {}\n", text(&invoice["total"]))
}

fn capped(cap: &Value) -> String {
    let head = facts(
        cap,
        &[
            ("spend cap", "amount"),
            ("then", "then"),
            ("shares", "shares"),
            ("set at", "set_at"),
            ("set by", "set_by"),
        ],
    );
    let mut table = Table::new(["RESOURCE", "FROM", "TO", "AT MOST"]);
    let leaves: Vec<_> = cap["leaves"].as_array().into_iter().flatten().collect();
    for ceiling in &leaves {
        table.row([
            text(&ceiling["resource_type"]),
            moment(&ceiling["starts_at"]),
            moment(&ceiling["ends_at"]),
            text(&ceiling["limit"]),
        ]);
    }
    if leaves.is_empty() { head } else { format!("{head}\n{table}") }
}

fn preview(preview: &Value) -> String {
    let head = facts(
        preview,
        &[
            ("tier now", "tier_now"),
            ("tier then", "tier_then"),
            ("when", "when"),
            ("effective at", "effective_at"),
            ("currency", "currency"),
            ("price now, minor", "price_now_minor"),
            ("price then, minor", "price_then_minor"),
            ("this period, minor", "prorated_minor"),
        ],
    );
    let mut table = Table::new(["RESOURCE", "PERIOD", "LIMIT NOW", "LIMIT THEN", "USED"]);
    for change in preview["changes"].as_array().into_iter().flatten() {
        table.row([
            text(&change["resource_type"]),
            text(&change["period"]),
            text(&change["limit_now"]),
            text(&change["limit_then"]),
            text(&change["used"]),
        ]);
    }
    format!("{head}\n{table}")
}

fn verified(verified: &Value) -> String {
    let mut table =
        Table::new(["LINE", "KIND", "RESOURCE", "BILLED", "COUNTED", "AMOUNT", "AGAIN", "AGREES"]);
    for line in verified["lines"].as_array().into_iter().flatten() {
        table.row([
            text(&line["line"]),
            text(&line["kind"]),
            text(&line["resource_type"]),
            text(&line["billed"]),
            text(&line["ledger"]),
            text(&line["amount_minor"]),
            text(&line["recomputed_minor"]),
            if line["agrees"] == true { "yes".to_owned() } else { "NO".to_owned() },
        ]);
    }
    let verdict = if verified["agrees"] == true {
        "it is what was counted"
    } else {
        "it differs from what was counted"
    };
    format!("{table}\n{verdict}\n")
}
