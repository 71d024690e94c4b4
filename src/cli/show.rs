//! Answers of the API, as a person at a terminal reads them: aligned columns, no colour, no secret but a new key.

use serde_json::Value;

/// Rows under a head, their columns aligned; numbers to the right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

/// Fields of a plan that tell a person nothing: what stands above them says it already.
const UNTOLD: [&str; 4] = ["owner", "owner_id", "prefix", "tier_version"];

pub(super) fn tenant_created(tenant: &Value) -> String {
    format!("created tenant {}\n\n{}", text(&tenant["slug"]), self::tenant(tenant))
}

pub(super) fn tenant(tenant: &Value) -> String {
    let facts = [
        ("id", "tenant_id"),
        ("slug", "slug"),
        ("name", "organization_name"),
        ("status", "tenant_status"),
        ("tier", "tenant_tier"),
        ("billing", "billing_email"),
        ("phone", "contact_phone"),
        ("timezone", "timezone"),
        ("locale", "locale"),
        ("created", "created_at"),
    ];
    format!("{}\n{}", self::facts(tenant, &facts), quotas(&tenant["quotas"]))
}

pub(super) fn tenants(listed: &Value) -> String {
    let mut table = Table::new(["SLUG", "NAME", "STATUS", "TIER", "ID"]);
    for tenant in items(listed) {
        let columns = ["slug", "organization_name", "tenant_status", "tenant_tier", "tenant_id"];
        table.row(columns.map(|column| text(&tenant[column])));
    }
    list(listed, &table, "no tenants: create one with `tollgate tenant create NAME --tier TIER`\n")
}

pub(super) fn tenant_status(tenant: &Value) -> String {
    format!("tenant {} is {}\n", text(&tenant["slug"]), text(&tenant["tenant_status"]))
}

pub(super) fn usage(usage: &Value) -> String {
    quotas(&usage["quotas"])
}

pub(super) fn recommendation(found: &Value) -> String {
    let mut table = Table::new(["RESOURCE", "PERIOD", "USED", "EXPECTED", "LIMIT", "PERCENT"]);
    let short = found["short"].as_array().map(Vec::as_slice).unwrap_or_default();
    for quota in short {
        let columns = ["resource_type", "period", "used", "expected", "limit", "percent"];
        table.row(columns.map(|column| text(&quota[column])));
    }
    let tier = text(&found["tenant_tier"]);
    match (short, &found["recommended_tier"]) {
        ([], _) => format!("the tier {tier} does\n"),
        (_, Value::Null) => format!("no tier that is sold would do\n\n{table}"),
        (_, recommended) => {
            format!(
                "instead of {tier}, {} would do: {}\n\n{table}",
                text(recommended),
                text(&found["upgrade_url"])
            )
        }
    }
}

pub(super) fn books(books: &Value) -> String {
    let mut shown = String::new();
    for (what, field) in [
        ("till", "till_units"),
        ("in flight", "in_flight_units"),
        ("journal, not flushed", "journal_units"),
        ("database", "database_units"),
        ("quarantine", "quarantined_units"),
        ("difference", "difference"),
    ] {
        shown.push_str(&format!("{what:<21} {:>16} units\n", text(&books[field])));
    }
    shown
}

pub(super) fn audit(listed: &Value) -> String {
    let mut table = Table::new(["SEQ", "AT", "WHO", "DID", "TO", "OUTCOME", "REASON"]);
    for row in items(listed) {
        table.row([
            text(&row["seq"]),
            moment(&row["at"]),
            text(&row["actor"]["name"]),
            text(&row["action"]),
            format!("{} {}", text(&row["target"]["kind"]), text(&row["target"]["id"])),
            text(&row["outcome"]),
            text(&row["reason"]),
        ]);
    }
    list(listed, &table, "nothing was done\n")
}

pub(super) fn audit_verdict(verdict: &Value) -> String {
    let place = &verdict["checkpoint"];
    let checkpoint = format!("checkpoint {}:{}\n", text(&place["seq"]), text(&place["hash"]));
    match verdict["verdict"].as_str() {
        Some("whole") => format!("{}\n{checkpoint}", verdict_line(verdict)),
        _ => format!("{}\n", verdict_line(verdict)),
    }
}

fn verdict_line(verdict: &Value) -> String {
    match verdict["verdict"].as_str() {
        Some("whole") => {
            let [rows, pruned, checkpoints] =
                ["rows", "pruned", "checkpoints"].map(|name| text(&verdict[name]));
            let pruned =
                if pruned == "0" { String::new() } else { format!(" ({pruned} before them pruned)") };
            format!("whole: {rows} rows{pruned}, {checkpoints} checkpoints agree")
        }
        _ => format!("broken at row {}: {}", text(&verdict["seq"]), text(&verdict["fault"])),
    }
}

pub(super) fn chain_verdicts(verdicts: &Value) -> String {
    let chains = verdicts["chains"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut table = Table::new(["LOG OF", "VERDICT"]);
    for chain in chains {
        let of = chain["tenant_id"].as_str().unwrap_or("the platform");
        table.row([of.to_owned(), verdict_line(chain)]);
    }
    table.to_string()
}

pub(super) fn exported(exported: &Value) -> String {
    let [slug, rows, signer] = ["slug", "rows", "signer"].map(|name| text(&exported[name]));
    format!("exported tenant {slug}: {rows} rows, signed by {signer}\n")
}

pub(super) fn imported(imported: &Value) -> String {
    let [slug, id, rows] = ["slug", "tenant_id", "rows"].map(|name| text(&imported[name]));
    let keys = match imported["keys_work"].as_bool() {
        Some(true) => "its API keys work",
        _ => "its API keys do not work here: they were made under another pepper (identity.api_key.pepper)",
    };
    format!("imported tenant {slug} ({id}): {rows} rows; {keys}\n")
}

pub(super) fn settings(listed: &Value) -> String {
    let mut table = Table::new(["SETTING", "VALUE", "FROM", "ABOUT"]);
    for setting in items(listed) {
        table.row([
            text(&setting["setting_key"]),
            setting_value(setting),
            text(&setting["source"]),
            text(&setting["about"]),
        ]);
    }
    list(listed, &table, "no settings\n")
}

pub(super) fn setting_set(setting: &Value) -> String {
    format!("{}: {}\n", text(&setting["setting_key"]), setting_value(setting))
}

fn setting_value(setting: &Value) -> String {
    match (&setting["is_encrypted"], &setting["is_set"], &setting["setting_value"]) {
        (Value::Bool(true), Value::Bool(true), _) => "***".to_owned(),
        (_, _, Value::String(value)) => value.clone(),
        (_, _, Value::Null) => "-".to_owned(),
        (_, _, other) => other.to_string(),
    }
}

pub(super) fn rotated(rotated: &Value) -> String {
    format!("{} keys wrapped with version {}\n", text(&rotated["rewrapped"]), text(&rotated["version"]))
}

pub(super) fn quota_set(quota: &Value) -> String {
    let (resource, period) = (text(&quota["resource_type"]), text(&quota["period"]));
    let (limit, used) = (limit(&quota["limit"]), text(&quota["used"]));
    format!("{resource} per {period}: limit {limit}, used {used}\n")
}

pub(super) fn keys(listed: &Value) -> String {
    let mut table = Table::new(["NAME", "PREFIX", "STATE", "CREATED", "LAST USED", "ID"]);
    for key in items(listed) {
        table.row([
            text(&key["name"]),
            text(&key["prefix"]),
            key_state(key),
            moment(&key["created_at"]),
            moment(&key["last_used_at"]),
            text(&key["key_id"]),
        ]);
    }
    list(listed, &table, "no keys: create one with `tollgate key create TENANT --name NAME`\n")
}

pub(super) fn members(listed: &Value) -> String {
    let mut table = Table::new(["EMAIL", "ROLE", "JOINED", "ID"]);
    for member in items(listed) {
        table.row([
            text(&member["email"]),
            text(&member["role"]),
            moment(&member["joined_at"]),
            text(&member["user_id"]),
        ]);
    }
    list(listed, &table, "no members: invite one with `tollgate member invite TENANT EMAIL --role owner`\n")
}

pub(super) fn invited(invitation: &Value) -> String {
    let facts = [("email", "email"), ("role", "role"), ("until", "expires_at"), ("token", "token")];
    let next = "Pass the token on: it is shown this once, and is sent to POST /api/invitations/accept.";
    format!("{}\n{next}\n", self::facts(invitation, &facts))
}

pub(super) fn member_changed(member: &Value) -> String {
    format!("{} is {}\n", text(&member["email"]), text(&member["role"]))
}

pub(super) fn users(listed: &Value) -> String {
    let mut table = Table::new(["EMAIL", "PLATFORM ROLE", "PASSWORD", "CODES", "ID"]);
    for user in items(listed) {
        table.row([
            text(&user["email"]),
            text(&user["platform_role"]),
            text(&user["has_password"]),
            text(&user["is_multi_factor"]),
            text(&user["user_id"]),
        ]);
    }
    list(listed, &table, "nobody can log in: `tollgate user create EMAIL --role platform_owner`\n")
}

pub(super) fn user_set(user: &Value) -> String {
    let facts = [("id", "user_id"), ("email", "email"), ("role", "platform_role"), ("token", "token")];
    if user["token"].is_null() {
        return self::facts(user, &facts[..3]);
    }
    let next = "Pass the token on: it is shown this once, and sets a password at POST /api/users/password.";
    format!("{}\n{next}\n", self::facts(user, &facts))
}

fn key_state(key: &Value) -> String {
    match (&key["revoked_at"], &key["enabled"]) {
        (Value::String(_), _) => "revoked".to_owned(),
        (_, Value::Bool(false)) => "disabled".to_owned(),
        _ if key["expires_at"].is_string() => format!("until {}", moment(&key["expires_at"])),
        _ => "active".to_owned(),
    }
}

pub(super) fn key_created(key: &Value) -> String {
    let facts = [("id", "key_id"), ("name", "name"), ("key", "key")];
    if key["key"].is_null() {
        return self::facts(key, &facts[..2]);
    }
    format!("{}\nKeep the key: it is shown this once.\n", self::facts(key, &facts))
}

pub(super) fn key_changed(key: &Value) -> String {
    format!("key {} ({}): {}\n", text(&key["key_id"]), text(&key["name"]), key_state(key))
}

pub(super) fn key_revoked(key: &Value) -> String {
    let since = moment(&key["revoked_at"]);
    format!("key {} ({}) is revoked since {since}\n", text(&key["key_id"]), text(&key["name"]))
}

/// `+` is made, `~` is changed, field by field.
pub(super) fn applied(applied: &Value) -> String {
    let planned = applied["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let changes: Vec<_> = planned.iter().filter(|change| change["action"] != "none").collect();
    if changes.is_empty() {
        return "everything is as it should be\n".to_owned();
    }
    let mut shown: String = changes.iter().map(|change| difference(change)).collect();
    let done = if applied["dry_run"] == true { "to make; nothing was changed" } else { "made" };
    let plural = if changes.len() == 1 { "change" } else { "changes" };
    shown.push_str(&format!("\n{} {plural} {done}\n", changes.len()));
    shown
}

fn difference(change: &Value) -> String {
    let sign = if change["action"] == "create" { '+' } else { '~' };
    let mut shown = format!("{sign} {}\n", text(&change["what"]));
    for field in fields(&change["before"], &change["after"]) {
        let (before, after) = (&change["before"][field], &change["after"][field]);
        if before == after || UNTOLD.contains(&field) {
            continue;
        }
        shown.push_str(&match before {
            Value::Null => format!("    {field}: {}\n", text(after)),
            before => format!("    {field}: {} -> {}\n", text(before), text(after)),
        });
    }
    if let Value::String(key) = &change["key"] {
        shown.push_str(&format!("    key: {key}   (shown this once)\n"));
    }
    shown
}

/// The names of both objects' fields, each once.
fn fields<'a>(before: &'a Value, after: &'a Value) -> Vec<&'a str> {
    let names = |value: &'a Value| value.as_object().into_iter().flat_map(serde_json::Map::keys);
    let mut fields: Vec<_> = names(before).chain(names(after)).map(String::as_str).collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

fn quotas(quotas: &Value) -> String {
    let mut table = Table::new(["RESOURCE", "PERIOD", "USED", "LIMIT", "REMAINING", "%", "RESETS", "SOURCE"]);
    for quota in quotas.as_array().into_iter().flatten() {
        table.row([
            resource(quota),
            text(&quota["period"]),
            text(&quota["used"]),
            limit(&quota["limit"]),
            limit(&quota["remaining"]),
            percent(&quota["percent"]),
            moment(&quota["window"]["end"]),
            text(&quota["source"]),
        ]);
    }
    table.to_string()
}

/// A key's own quota is told by the key's id behind the resource.
fn resource(quota: &Value) -> String {
    match &quota["key_id"] {
        Value::String(key) => format!("{} (key {key})", text(&quota["resource_type"])),
        _ => text(&quota["resource_type"]),
    }
}

fn percent(percent: &Value) -> String {
    percent.as_f64().map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}"))
}

fn limit(limit: &Value) -> String {
    if limit.is_null() { "unlimited".to_owned() } else { text(limit) }
}

/// To the second, which is what windows and people count in.
pub(super) fn moment(instant: &Value) -> String {
    let text = text(instant);
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A value without quotes; `-` for what is absent. Control characters of a tenant's making never reach the terminal.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        other => other.to_string(),
    }
}

pub(super) fn facts(object: &Value, facts: &[(&str, &str)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().map(|(name, field)| format!("{name:width$}  {}\n", text(&object[field]))).collect()
}

pub(super) fn items(listed: &Value) -> &[Value] {
    listed["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn list(listed: &Value, table: &Table, none: &str) -> String {
    if items(listed).is_empty() {
        return none.to_owned();
    }
    match &listed["next_cursor"] {
        Value::String(cursor) => format!("{table}\nmore: --cursor {cursor}\n"),
        _ => table.to_string(),
    }
}

// === impl Table ===

impl Table {
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Table { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, columns: [String; N]) {
        self.rows.push(columns.into());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    }

    /// Whether all that stands below the head is a number, or no value.
    fn is_numeric(&self, column: usize) -> bool {
        let number =
            |text: &String| ["-", "unlimited"].contains(&text.as_str()) || text.parse::<f64>().is_ok();
        self.rows.len() > 1
            && self.rows[1..].iter().all(|row| number(&row[column]))
            && self.rows[1..].iter().any(|row| row[column].parse::<f64>().is_ok())
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows[0].len();
        let layout: Vec<_> =
            (0..columns).map(|column| (self.width(column), self.is_numeric(column))).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&layout).map(|(text, &(width, is_numeric))| {
                if is_numeric { format!("{text:>width$}") } else { format!("{text:width$}") }
            });
            let line: Vec<_> = cells.collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}
