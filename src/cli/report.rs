//! `tollgate report`: who is idle, and who has more than is needed.

use clap::{Args as Group, Subcommand};
use serde_json::Value;

use super::args::Page;
use super::ask::{Ask, cursor, path, with_query};
use super::show::{Table, items, list, moment, text};

#[derive(Subcommand, Clone, Debug)]
pub enum Report {
    /// List tenants, or keys, that were not used for a while
    #[command(after_help = "\
Examples:
  tollgate report idle
  tollgate report idle --keys --days 90 --json")]
    Idle(Idle),
    /// List tenants for which a cheaper tier would have done, by their busiest month
    #[command(after_help = "\
Examples:
  tollgate report oversized
  tollgate report oversized --days 365 --json")]
    Oversized(Oversized),
}

#[derive(Group, Clone, Debug)]
pub struct Idle {
    /// Keys instead of tenants
    #[arg(long)]
    pub keys: bool,
    /// How many days to look back; 30 if not given
    #[arg(long)]
    pub days: Option<u32>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct Oversized {
    /// How many days to look back; 90 if not given
    #[arg(long)]
    pub days: Option<u32>,
    #[command(flatten)]
    pub page: Page,
}

// === what is asked ===

impl Report {
    pub(super) fn ask(&self) -> Ask {
        match self {
            Report::Idle(Idle { keys: true, days, page }) => {
                Ask::get(report("idle-keys", *days, page), idle_keys)
            }
            Report::Idle(Idle { days, page, .. }) => {
                Ask::get(report("idle-tenants", *days, page), idle_tenants)
            }
            Report::Oversized(Oversized { days, page }) => {
                Ask::get(report("oversized", *days, page), oversized)
            }
        }
    }
}

fn report(what: &str, days: Option<u32>, page: &Page) -> String {
    let query = [
        ("days", days.map(|days| days.to_string())),
        ("limit", page.limit.map(|limit| limit.to_string())),
        cursor(page),
    ];
    with_query(path(&["reports", what]), query)
}

// === how answers look ===

fn idle_tenants(listed: &Value) -> String {
    tenants(listed, "no tenant is idle\n")
}

/// Tenants, and when each used something last.
pub(super) fn tenants(listed: &Value, none: &str) -> String {
    let mut table = Table::new(["SLUG", "NAME", "STATUS", "TIER", "LAST USED", "CREATED"]);
    for tenant in items(listed) {
        table.row([
            text(&tenant["slug"]),
            text(&tenant["organization_name"]),
            text(&tenant["tenant_status"]),
            text(&tenant["tenant_tier"]),
            moment(&tenant["last_used_at"]),
            moment(&tenant["created_at"]),
        ]);
    }
    list(listed, &table, none)
}

fn idle_keys(listed: &Value) -> String {
    let mut table = Table::new(["TENANT", "NAME", "PREFIX", "LAST USED", "CREATED", "ID"]);
    for key in items(listed) {
        table.row([
            text(&key["slug"]),
            text(&key["name"]),
            text(&key["prefix"]),
            moment(&key["last_used_at"]),
            moment(&key["created_at"]),
            text(&key["key_id"]),
        ]);
    }
    list(listed, &table, "no key is idle\n")
}

fn oversized(listed: &Value) -> String {
    let mut table = Table::new(["SLUG", "TIER", "WOULD DO", "PRICE", "INSTEAD", "MOST USED"]);
    for tenant in items(listed) {
        let peaks = tenant["peaks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let used: Vec<_> = peaks
            .iter()
            .filter(|peak| peak["used"] != 0)
            .map(|peak| format!("{} {}", text(&peak["used"]), text(&peak["resource_type"])))
            .collect();
        table.row([
            text(&tenant["slug"]),
            text(&tenant["tenant_tier"]),
            text(&tenant["smaller_tier"]),
            text(&tenant["price_minor"]),
            text(&tenant["smaller_price_minor"]),
            used.join(", "),
        ]);
    }
    list(listed, &table, "no tier is too large\n")
}
