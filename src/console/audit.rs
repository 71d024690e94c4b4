//! Who did what to a tenant, or to the platform: filtered, with what changed, and whether the log is whole.

use std::time::Duration;

use askama::Template;
use axum::response::Response;

use super::diff::{FieldChange, changes};
use super::filters;
use super::forms::Form;
use super::layout::{Layout, Tab};
use super::lists::{Filters, any_of, word};
use super::page::html;
use super::refusal::Refusal;
use super::session::{TenantVisit, Visit, form_encoded};
use crate::clock::Timestamp;
use crate::control::{Control, ControlError, Principal, TenantRef};
use crate::domain::{ActorKind, AuditOutcome, AuditRow};
use crate::store::{AuditEntry, AuditFilter, AuditVerdict, Listed, Page};

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    layout: Layout,
    title: &'static str,
    here: String,
    rows: Vec<Row>,
    next: Option<String>,
    /// The filters as they are in the address.
    form: Form,
    is_filtered: bool,
    actors: Vec<(String, String)>,
    outcomes: Vec<(String, String)>,
    /// Where the API has the newest of these rows to take along.
    csv: String,
    ndjson: String,
    /// What became of the verification, if one was asked for.
    chain: Option<AuditVerdict>,
    /// The address that asks for it.
    verify: String,
}

/// One row of the log.
struct Row {
    seq: i64,
    row: AuditRow,
    changes: Vec<FieldChange>,
    /// The address of all that happened in the same request.
    together: String,
}

/// Filters as the page's address names them, and as the API does.
const FIELDS: [(&str, &str); 7] = [
    ("actor_kind", "actor_kind"),
    ("actor_id", "actor_id"),
    ("action", "action"),
    ("target_kind", "target_kind"),
    ("target_id", "target_id"),
    ("outcome", "outcome"),
    ("correlation", "request_id"),
];
const VERIFY: &str = "verify";
const DAY: Duration = Duration::from_secs(86_400);

/// `GET …/audit?action=…&verify=yes`
pub(super) async fn show(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let listed = control.audit_logs(who, &here.named, &filter(&filters.0), &filters.page()?).await?;
    let chain = verified(control, who, Some(&here.named), &filters.0).await?;
    let layout = here.layout("Audit log", Tab::Audit);
    let (title, address, api) = ("Audit log", here.address("/audit"), here.api("/audit-logs"));
    html(&AuditPage::of(layout, title, address, &api, filters, listed, chain))
}

/// `GET /console/audit`: what concerns no single tenant.
pub(super) async fn show_platform(visit: Visit, filters: Filters) -> Result<Response, Refusal> {
    let (control, who) = (&visit.control, &visit.principal);
    let listed = control.platform_audit_logs(who, &filter(&filters.0), &filters.page()?).await?;
    let chain = verified(control, who, None, &filters.0).await?;
    let (title, here) = ("The platform’s audit log", "/console/audit".to_owned());
    html(&AuditPage::of(visit.layout(title), title, here, "/api/audit-logs", filters, listed, chain))
}

/// Only when it is asked for: it reads the whole log.
async fn verified(
    control: &Control,
    who: &Principal,
    tenant: Option<&TenantRef>,
    form: &Form,
) -> Result<Option<AuditVerdict>, ControlError> {
    if !form.has(VERIFY, "yes") {
        return Ok(None);
    }
    let (verdict, _) = control.verify_audit(who, tenant, None).await?;
    Ok(Some(verdict))
}

/// What can't be read filters nothing: its field is empty then.
fn filter(form: &Form) -> AuditFilter {
    AuditFilter {
        actor_kind: ActorKind::parse(form.text("actor_kind")),
        actor_id: form.text("actor_id").parse().ok(),
        action: form.optional("action"),
        target_kind: form.optional("target_kind"),
        target_id: form.optional("target_id"),
        outcome: AuditOutcome::parse(form.text("outcome")),
        correlation: form.text("correlation").parse().ok(),
        from: day(form.text("from")),
        to: day(form.text("to")).map(|day| day.plus(DAY)),
    }
}

/// The same rows at the API, as many as it tells at once.
fn exported(api: &str, form: &Form, format: &str) -> String {
    let mut address = format!("{api}?format={format}&limit={}", Page::LIMIT_MAX);
    let mut say = |name: &str, value: String| {
        address.push_str(&format!("&{name}={}", form_encoded(&value)));
    };
    for (name, there) in FIELDS {
        if let Some(value) = form.optional(name) {
            say(there, value);
        }
    }
    let AuditFilter { from, to, .. } = filter(form);
    for (name, at) in [("from", from), ("to", to)] {
        if let Some(at) = at {
            say(name, at.to_string());
        }
    }
    address
}

/// The beginning of a day of UTC.
fn day(text: &str) -> Option<Timestamp> {
    Timestamp::parse(&format!("{text}T00:00:00Z"))
}

// === impl AuditPage ===

impl AuditPage {
    fn of(
        layout: Layout,
        title: &'static str,
        here: String,
        api: &str,
        filters: Filters,
        listed: Listed<AuditEntry>,
        chain: Option<AuditVerdict>,
    ) -> AuditPage {
        let outcomes = [AuditOutcome::Done, AuditOutcome::Denied];
        AuditPage {
            csv: exported(api, &filters.0, "csv"),
            ndjson: exported(api, &filters.0, "ndjson"),
            next: filters.next(&here, listed.next_cursor),
            verify: filters.with(&here, VERIFY, "yes"),
            rows: listed.items.into_iter().map(|entry| Row::of(&here, entry)).collect(),
            is_filtered: filter(&filters.0) != AuditFilter::default(),
            actors: any_of(ActorKind::ALL.map(|kind| word(kind.as_str()))),
            outcomes: any_of(outcomes.map(|outcome| word(outcome.as_str()))),
            form: filters.0,
            title,
            layout,
            here,
            chain,
        }
    }
}

// === impl Row ===

impl Row {
    fn of(here: &str, AuditEntry { seq, row, .. }: AuditEntry) -> Row {
        let changes = changes(row.before.as_ref(), row.after.as_ref());
        Row { seq, changes, together: format!("{here}?correlation={}", row.correlation), row }
    }

    fn is_denied(&self) -> bool {
        self.row.outcome == AuditOutcome::Denied
    }
}
