//! What each command asks of the API, and how it shows the answer to a person.
//!
//! Every command on tenants, quotas and keys is one request. It is built here without sending anything, so what a
//! command means can be read, and tested, as method, path and body.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args;
use super::failure::Failure;
use super::show;
use crate::api::Method;
use crate::secret::checkpoint::SignedCheckpoint;

/// One request, and how its answer looks as text.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    pub(super) show: fn(&Value) -> String,
}

pub(super) fn tenant(command: &args::Tenant) -> Ask {
    match command {
        args::Tenant::Create(create) => Ask::post("/api/tenants", tenant_body(create), show::tenant_created),
        args::Tenant::List(list) => Ask::get(tenants_path(list), show::tenants),
        args::Tenant::Show(name) => Ask::get(path(&["tenants", &name.tenant]), show::tenant),
        args::Tenant::Status(change) => {
            let path = path(&["tenants", &change.tenant, "status", &change.status]);
            Ask::post(path, said([("reason", change.reason.as_deref().into())]), show::tenant_status)
        }
    }
}

pub(super) fn quota(command: &args::Quota) -> Ask {
    match command {
        args::Quota::Set(set) => Ask {
            method: Method::PUT,
            path: path(&["tenants", &set.tenant, "quotas", &set.resource]),
            body: Some(quota_body(set)),
            show: show::quota_set,
        },
        args::Quota::List(name) => usage(name),
        args::Quota::Recommend(name) => {
            Ask::get(path(&["tenants", &name.tenant, "recommendation"]), show::recommendation)
        }
    }
}

pub(super) fn key(command: &args::Key) -> Ask {
    match command {
        args::Key::Create(create) => {
            Ask::post(path(&["tenants", &create.tenant, "keys"]), key_body(create), show::key_created)
        }
        args::Key::List(list) => {
            let page = [("limit", list.page.limit.map(|limit| limit.to_string())), cursor(&list.page)];
            Ask::get(with_query(path(&["tenants", &list.tenant, "keys"]), page), show::keys)
        }
        args::Key::Rotate(rotate) => {
            let body = said([("grace_seconds", rotate.grace_seconds.into())]);
            Ask::post(path(&["keys", &rotate.key.key_id, "rotate"]), body, show::key_created)
        }
        args::Key::Disable(key) => key_enabled(key, false),
        args::Key::Enable(key) => key_enabled(key, true),
        args::Key::Revoke(key) => {
            Ask::post(path(&["keys", &key.key_id, "revoke"]), json!({}), show::key_revoked)
        }
    }
}

pub(super) fn member(command: &args::Member) -> Ask {
    let member = |name: &args::MemberName| path(&["tenants", &name.tenant, "members", &name.user_id]);
    match command {
        args::Member::List(list) => {
            let page = [("limit", list.page.limit.map(|limit| limit.to_string())), cursor(&list.page)];
            Ask::get(with_query(path(&["tenants", &list.tenant, "members"]), page), show::members)
        }
        args::Member::Invite(invite) => {
            let body = said([
                ("email", invite.email.as_str().into()),
                ("role", invite.role.as_str().into()),
                ("valid_seconds", invite.valid_seconds.into()),
            ]);
            Ask::post(path(&["tenants", &invite.tenant, "members"]), body, show::invited)
        }
        args::Member::Role(change) => Ask {
            method: Method::PATCH,
            path: member(&change.name),
            body: Some(json!({ "role": change.role })),
            show: show::member_changed,
        },
        args::Member::Remove(name) => {
            Ask { method: Method::DELETE, path: member(name), body: None, show: |_| "removed\n".to_owned() }
        }
    }
}

pub(super) fn user(command: &args::User) -> Ask {
    let put = |email: &str, role: Option<&str>| Ask {
        method: Method::PUT,
        path: path(&["users"]),
        body: Some(json!({ "email": email, "platform_role": role })),
        show: show::user_set,
    };
    match command {
        args::User::List(page) => {
            let query = [("limit", page.limit.map(|limit| limit.to_string())), cursor(page)];
            Ask::get(with_query(path(&["users"]), query), show::users)
        }
        args::User::Create(create) => put(&create.name.email, Some(&create.role)),
        args::User::Remove(name) => put(&name.email, None),
        args::User::ResetPassword(name) => {
            Ask::post(path(&["users", &name.user_id, "reset-password"]), json!({}), show::user_set)
        }
    }
}

pub(super) fn audit(command: &args::Audit) -> Ask {
    let log = |tenant: Option<&String>| {
        tenant.map_or_else(|| path(&["audit-logs"]), |tenant| path(&["tenants", tenant, "audit-logs"]))
    };
    match command {
        args::Audit::List(list) => {
            let query = [
                ("action", list.action.clone()),
                ("actor_kind", list.actor_kind.clone()),
                ("outcome", list.outcome.clone()),
                ("from", list.from.clone()),
                ("to", list.to.clone()),
                ("limit", list.page.limit.map(|limit| limit.to_string())),
                cursor(&list.page),
            ];
            Ask::get(with_query(log(list.tenant.as_ref()), query), show::audit)
        }
        args::Audit::Verify(verify) => {
            let path = format!("{}/verify", log(verify.tenant.as_ref()));
            Ask::get(with_query(path, [("checkpoint", verify.checkpoint.clone())]), show::audit_verdict)
        }
    }
}

pub(super) fn verify_chains(checkpoints: &[SignedCheckpoint]) -> Ask {
    Ask::post("/api/audit-logs/verify", json!({ "checkpoints": checkpoints }), show::chain_verdicts)
}

/// # Errors
/// When the value can't be read.
pub(super) fn settings(command: &args::Settings) -> Result<Ask, Failure> {
    Ok(match command {
        args::Settings::List(name) => Ask::get(path(&["tenants", &name.tenant, "settings"]), show::settings),
        args::Settings::Set(set) => Ask {
            method: Method::PUT,
            path: path(&["tenants", &set.name.tenant, "settings", &set.name.setting]),
            body: Some(setting_body(set)?),
            show: show::setting_set,
        },
        args::Settings::Unset(name) => Ask {
            method: Method::DELETE,
            path: path(&["tenants", &name.tenant, "settings", &name.setting]),
            body: None,
            show: |_| "unset\n".to_owned(),
        },
        args::Settings::Rotate => Ask::post("/api/secrets/rotate", json!({}), show::rotated),
    })
}

fn setting_body(set: &args::SettingSet) -> Result<Value, Failure> {
    let text = match &set.value {
        Some(text) => text.clone(),
        None => std::io::read_to_string(std::io::stdin())
            .map_err(|error| Failure::unreadable(Path::new("standard input"), &error))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
    };
    // A secret is text, whatever it looks like.
    let value =
        if set.encrypt { Value::from(text) } else { serde_json::from_str(&text).unwrap_or(text.into()) };
    let mut body = json!({ "setting_value": value });
    if set.encrypt {
        body["is_encrypted"] = true.into();
    }
    Ok(body)
}

fn key_enabled(key: &args::KeyName, enabled: bool) -> Ask {
    Ask {
        method: Method::PATCH,
        path: path(&["keys", &key.key_id]),
        body: Some(json!({ "enabled": enabled })),
        show: show::key_changed,
    }
}

pub(super) fn usage(name: &args::TenantName) -> Ask {
    Ask::get(path(&["tenants", &name.tenant, "quotas"]), show::usage)
}

pub(super) fn reconcile() -> Ask {
    Ask::get(path(&["reconcile"]), show::books)
}

/// # Errors
/// When the file can't be read, or is neither TOML nor JSON.
pub(super) fn apply(command: &args::Apply) -> Result<Ask, Failure> {
    let dry_run = command.dry_run.then(|| "true".to_owned());
    let path = with_query(path(&["apply"]), [("dry_run", dry_run)]);
    Ok(Ask::post(path, manifest(&command.file)?, show::applied))
}

fn tenant_body(create: &args::TenantCreate) -> Value {
    said([
        ("organization_name", create.name.as_str().into()),
        ("tenant_tier", create.tier.as_str().into()),
        ("slug", create.slug.as_deref().into()),
        ("billing_email", create.billing_email.as_deref().into()),
        ("contact_phone", create.contact_phone.as_deref().into()),
        ("timezone", create.timezone.as_deref().into()),
        ("locale", create.locale.as_deref().into()),
        ("parent_id", create.parent.as_deref().into()),
    ])
}

fn tenants_path(list: &args::TenantList) -> String {
    let query = [
        ("status", list.status.clone()),
        ("tier", list.tier.clone()),
        ("q", list.search.clone()),
        ("health", list.health.clone()),
        ("sort", list.sort.clone()),
        ("limit", list.page.limit.map(|limit| limit.to_string())),
        cursor(&list.page),
    ];
    with_query(path(&["tenants"]), query)
}

pub(super) fn cursor(page: &args::Page) -> (&'static str, Option<String>) {
    ("cursor", page.cursor.clone())
}

fn quota_body(set: &args::QuotaSet) -> Value {
    let mut body = said([
        ("period", set.period.as_deref().into()),
        ("enforcement", set.enforcement.map(args::Enforcement::as_str).into()),
        ("on_loss", set.on_loss.map(args::OnLoss::as_str).into()),
        ("key_id", set.key.as_deref().into()),
        ("reason", set.reason.as_deref().into()),
        ("expires_at", set.expires.as_deref().into()),
    ]);
    body["limit"] = match set.limit {
        args::Limit::Of(units) => units.into(),
        args::Limit::Unlimited => Value::Null,
    };
    body
}

fn key_body(create: &args::KeyCreate) -> Value {
    said([
        ("name", create.name.as_str().into()),
        ("scopes", create.scopes.as_slice().into()),
        ("routes", create.routes.as_slice().into()),
        ("networks", create.networks.as_slice().into()),
        ("expires_at", create.expires.as_deref().into()),
        ("test", create.test.into()),
        ("sha256", create.sha256.as_deref().into()),
        ("certificate", create.certificate.as_deref().into()),
    ])
}

/// An object of what was said: `null` was not.
pub(super) fn said<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let said = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(said.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// What a file says: TOML, or JSON if its name ends so.
pub(super) fn manifest(file: &Path) -> Result<Value, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::unreadable(file, &error))?;
    if file.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_str(&text).map_err(|error| Failure::unreadable(file, &error));
    }
    let table: toml::Table = text.parse().map_err(|error| Failure::unreadable(file, &error))?;
    Ok(json_of(toml::Value::Table(table)))
}

/// TOML has instants and JSON has none: they become text.
fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(instant) => instant.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(name, value)| (name, json_of(value))).collect::<Map<_, _>>().into()
        }
    }
}

/// `/api/` and the segments, whatever characters they hold.
pub(super) fn path(segments: &[&str]) -> String {
    let segments: Vec<_> = segments.iter().map(|segment| escaped(segment)).collect();
    format!("/api/{}", segments.join("/"))
}

pub(super) fn with_query<const N: usize>(path: String, params: [(&str, Option<String>); N]) -> String {
    let pairs = params.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}={}", escaped(&value))).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encoded, except what RFC 3986 calls unreserved. A segment of dots only would mean another path.
fn escaped(text: &str) -> String {
    let dots = text.bytes().all(|byte| byte == b'.');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && !dots);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

// === impl Ask ===

impl Ask {
    pub(super) fn get(path: String, show: fn(&Value) -> String) -> Self {
        Ask { method: Method::GET, path, body: None, show }
    }

    pub(super) fn post(path: impl Into<String>, body: Value, show: fn(&Value) -> String) -> Self {
        Ask { method: Method::POST, path: path.into(), body: Some(body), show }
    }
}
