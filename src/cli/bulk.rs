//! `tollgate bulk`: one thing done to many tenants.

use clap::{Args as Group, Subcommand};
use serde_json::{Value, json};

use super::args::{Enforcement, Limit, Page, limit};
use super::ask::{Ask, cursor, path, said, with_query};
use super::show::{Table, facts, items, list, moment, text};

#[derive(Subcommand, Clone, Debug)]
pub enum Bulk {
    /// Move many tenants to a status
    #[command(after_help = "\
Examples:
  tollgate bulk status suspended --reason unpaid --where-status past_due --dry-run
  tollgate bulk status suspended --reason unpaid --where-status past_due")]
    Status(BulkStatus),
    /// Give many tenants another tier
    #[command(after_help = "\
Examples:
  tollgate bulk tier business --where-tier pro --dry-run
  tollgate bulk tier business --tenant acme --tenant globex")]
    Tier(BulkTier),
    /// Set a limit of many tenants
    #[command(after_help = "\
Examples:
  tollgate bulk quota api_calls --limit 20000 --reason \"launch week\" --expires 2026-12-01T00:00:00Z --where-tier pro")]
    Quota(BulkQuota),
    /// Tell many tenants something: among their alerts, and through their channels
    #[command(after_help = "\
Example:
  tollgate bulk message \"Maintenance on Sunday\" --text \"From 02:00 to 03:00 UTC answers may be slow.\" --all")]
    Message(BulkMessage),
    /// List operations, newest first
    #[command(after_help = "Example:\n  tollgate bulk list")]
    List(Page),
    /// Show how far an operation has come
    #[command(after_help = "Example:\n  tollgate bulk show 0192f0c1-7a3b-7000-8000-000000000000")]
    Show(OperationName),
    /// List what came of each tenant
    #[command(
        after_help = "Example:\n  tollgate bulk items 0192f0c1-7a3b-7000-8000-000000000000 --state failed"
    )]
    Items(BulkItems),
    /// Have nothing more done; what was done stays
    #[command(after_help = "Example:\n  tollgate bulk cancel 0192f0c1-7a3b-7000-8000-000000000000")]
    Cancel(OperationName),
    /// Go on with what was cancelled, and try again what was refused
    #[command(after_help = "Example:\n  tollgate bulk resume 0192f0c1-7a3b-7000-8000-000000000000")]
    Resume(OperationName),
}

/// To whom. Running gateways do it, and go on after a restart.
#[derive(Group, Clone, Debug)]
pub struct To {
    /// To all tenants
    #[arg(long)]
    pub all: bool,
    /// Only to those with this status
    #[arg(long, value_name = "STATUS")]
    pub where_status: Option<String>,
    /// Only to those of this tier
    #[arg(long, value_name = "TIER")]
    pub where_tier: Option<String>,
    /// Only to those right below this reseller
    #[arg(long, value_name = "TENANT")]
    pub where_parent: Option<String>,
    /// Only to those with this text in name, slug or e-mail address
    #[arg(long, value_name = "TEXT")]
    pub where_text: Option<String>,
    /// Only to this one, by id or slug; may be repeated
    #[arg(long = "tenant", value_name = "TENANT")]
    pub tenants: Vec<String>,
    /// Only say what would be done to the newest of them
    #[arg(long)]
    pub dry_run: bool,
    /// How many of them a dry run shows, 1 to 1000
    #[arg(long, value_name = "ROWS", requires = "dry_run")]
    pub limit_rows: Option<u32>,
}

#[derive(Group, Clone, Debug)]
pub struct BulkStatus {
    /// trial, active, past_due, suspended or cancelled
    pub status: String,
    /// Why; needed to suspend, and kept in the audit logs
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub to: To,
}

#[derive(Group, Clone, Debug)]
pub struct BulkTier {
    pub tier: String,
    #[command(flatten)]
    pub to: To,
}

#[derive(Group, Clone, Debug)]
pub struct BulkQuota {
    /// What is counted, for example api_calls
    pub resource: String,
    /// Units per period, or unlimited
    #[arg(long, value_name = "UNITS", value_parser = limit)]
    pub limit: Limit,
    /// second, minute, hour, day, week, month or forever; as in each tenant's tier if not given
    #[arg(long)]
    pub period: Option<String>,
    /// What happens at the limit
    #[arg(long)]
    pub enforcement: Option<Enforcement>,
    /// Why; kept in the audit logs
    #[arg(long)]
    pub reason: Option<String>,
    /// When the tier's limit holds again, for example 2026-12-31T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub expires: Option<String>,
    #[command(flatten)]
    pub to: To,
}

#[derive(Group, Clone, Debug)]
pub struct BulkMessage {
    /// In one line
    pub subject: String,
    #[arg(long)]
    pub text: String,
    #[command(flatten)]
    pub to: To,
}

#[derive(Group, Clone, Debug)]
pub struct OperationName {
    /// The operation's id, as `bulk list` shows it
    pub operation: String,
}

#[derive(Group, Clone, Debug)]
pub struct BulkItems {
    #[command(flatten)]
    pub operation: OperationName,
    /// pending, changed, unchanged or failed
    #[arg(long)]
    pub state: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

// === what is asked ===

impl Bulk {
    pub(super) fn ask(&self) -> Ask {
        let of = |name: &OperationName| path(&["bulk-operations", &name.operation]);
        let post = |name: &OperationName, what: &str| {
            Ask::post(format!("{}/{what}", of(name)), json!({}), operation)
        };
        match self {
            Bulk::Status(asked) => asked.to.ask(&said([
                ("kind", "status".into()),
                ("status", asked.status.as_str().into()),
                ("reason", asked.reason.as_deref().into()),
            ])),
            Bulk::Tier(asked) => asked.to.ask(&json!({ "kind": "tier", "tier": asked.tier })),
            Bulk::Quota(asked) => asked.to.ask(&asked.action()),
            Bulk::Message(asked) => {
                asked.to.ask(&json!({ "kind": "message", "subject": asked.subject, "text": asked.text }))
            }
            Bulk::List(page) => {
                let query = [("limit", page.limit.map(|limit| limit.to_string())), cursor(page)];
                Ask::get(with_query(path(&["bulk-operations"]), query), operations)
            }
            Bulk::Show(name) => Ask::get(of(name), operation),
            Bulk::Items(asked) => {
                let query = [
                    ("state", asked.state.clone()),
                    ("limit", asked.page.limit.map(|limit| limit.to_string())),
                    cursor(&asked.page),
                ];
                Ask::get(with_query(format!("{}/items", of(&asked.operation)), query), tenants)
            }
            Bulk::Cancel(name) => post(name, "cancel"),
            Bulk::Resume(name) => post(name, "resume"),
        }
    }
}

impl To {
    fn ask(&self, action: &Value) -> Ask {
        let mut filter = said([
            ("status", self.where_status.as_deref().into()),
            ("tier", self.where_tier.as_deref().into()),
            ("parent", self.where_parent.as_deref().into()),
            ("q", self.where_text.as_deref().into()),
        ]);
        if self.all {
            filter["all"] = true.into();
        }
        if !self.tenants.is_empty() {
            filter["tenants"] = json!(self.tenants);
        }
        let body = json!({ "filter": filter, "action": action });
        if !self.dry_run {
            return Ask::post(path(&["bulk-operations"]), body, operation);
        }
        let limit = [("limit", self.limit_rows.map(|rows| rows.to_string()))];
        Ask::post(with_query(path(&["bulk-operations", "dry-run"]), limit), body, tenants)
    }
}

impl BulkQuota {
    fn action(&self) -> Value {
        let mut action = said([
            ("kind", "quota".into()),
            ("resource_type", self.resource.as_str().into()),
            ("period", self.period.as_deref().into()),
            ("enforcement", self.enforcement.map(Enforcement::as_str).into()),
            ("reason", self.reason.as_deref().into()),
            ("expires_at", self.expires.as_deref().into()),
        ]);
        action["limit"] = match self.limit {
            Limit::Of(units) => units.into(),
            Limit::Unlimited => Value::Null,
        };
        action
    }
}

// === how answers look ===

fn operation(operation: &Value) -> String {
    facts(
        operation,
        &[
            ("id", "operation_id"),
            ("state", "state"),
            ("action", "action"),
            ("filter", "filter"),
            ("tenants", "total"),
            ("changed", "changed"),
            ("unchanged", "unchanged"),
            ("failed", "failed"),
            ("created", "created_at"),
            ("finished", "finished_at"),
        ],
    )
}

fn operations(listed: &Value) -> String {
    let mut table = Table::new(["AT", "STATE", "ACTION", "TENANTS", "CHANGED", "UNCHANGED", "FAILED", "ID"]);
    for operation in items(listed) {
        table.row([
            moment(&operation["created_at"]),
            text(&operation["state"]),
            text(&operation["action"]["kind"]),
            text(&operation["total"]),
            text(&operation["changed"]),
            text(&operation["unchanged"]),
            text(&operation["failed"]),
            text(&operation["operation_id"]),
        ]);
    }
    list(listed, &table, "no operations\n")
}

/// What became of it, or becomes of it when its period ends.
fn after(after: &Value) -> String {
    match &after["scheduled_tier"] {
        Value::Null => text(after),
        waiting => format!("{}, scheduled for {}", text(&waiting["tier"]), moment(&waiting["at"])),
    }
}

fn tenants(listed: &Value) -> String {
    let mut table = Table::new(["TENANT", "STATE", "BEFORE", "AFTER", "WHY"]);
    for item in items(listed) {
        table.row([
            text(&item["slug"]),
            text(&item["state"]),
            text(&item["before"]),
            after(&item["after"]),
            text(&item["error"]),
        ]);
    }
    let mut shown = list(listed, &table, "no tenants\n");
    if let Some(total) = listed["total"].as_u64() {
        shown.push_str(&format!("{total} tenants in all\n"));
    }
    shown
}
