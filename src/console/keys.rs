//! A tenant's keys: made, changed, exchanged, revoked. The text of a key is on one answer, and never in an address.

use std::net::IpAddr;
use std::time::Duration;

use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use uuid::Uuid;

use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::page::html;
use super::refusal::Refusal;
use super::session::TenantVisit;
use super::text::{day, instant};
use crate::clock::Timestamp;
use crate::control::{ControlError, CreatedKey, KeyChange, NewKey};
use crate::domain::{ApiKey, ApiKeyId, KeyLimits};

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage {
    layout: Layout,
    base: String,
    rows: Vec<KeyRow>,
    may_create: bool,
    next_page: Option<String>,
}

/// A key, as the list shows it.
struct KeyRow {
    id: ApiKeyId,
    name: String,
    prefix: String,
    /// How it stands, and the style of that.
    state: (&'static str, &'static str),
    last_used: String,
    expires: String,
}

#[derive(Template)]
#[template(path = "new_key.html")]
struct NewKeyPage {
    layout: Layout,
    base: String,
    form: Form,
}

#[derive(Template)]
#[template(path = "key.html")]
struct KeyPage {
    layout: Layout,
    address: String,
    key: ApiKey,
    state: (&'static str, &'static str),
    form: Form,
    graces: Vec<(String, String)>,
    may_change: bool,
    may_rotate: bool,
    may_revoke: bool,
}

#[derive(Template)]
#[template(path = "key_secret.html")]
struct KeySecretPage {
    layout: Layout,
    base: String,
    name: String,
    text: String,
}

const GRACES: [(&str, &str); 4] =
    [("0", "It ends at once"), ("3600", "An hour"), ("86400", "A day"), ("604800", "A week")];

/// `GET /console/tenants/{tenant}/keys?cursor=`
pub(super) async fn list(place: TenantVisit, asked: Filters) -> Result<Response, Refusal> {
    let visit = &place.visit;
    let listed = visit.control.keys(&visit.principal, &place.named, &asked.page()?).await?;
    let now = visit.now;
    let base = place.address("/keys");
    let next_page = asked.next(&base, listed.next_cursor);
    html(&KeysPage {
        layout: place.layout("Keys", Tab::Keys),
        rows: listed.items.into_iter().map(|key| KeyRow::of(key, now)).collect(),
        may_create: place.may("key.create"),
        base,
        next_page,
    })
}

/// `GET /console/tenants/{tenant}/keys/new`
pub(super) async fn show_new(place: TenantVisit) -> Result<Response, Refusal> {
    new_page(&place, Form::default())
}

/// `POST /console/tenants/{tenant}/keys/new`
pub(super) async fn create(place: TenantVisit, Posted(mut form): Posted) -> Result<Response, Refusal> {
    let limits = limits(&mut form);
    let made = match limits {
        Some(limits) => {
            let new = NewKey { name: form.text("name").to_owned(), limits, test: form.has("test", "yes") };
            place.visit.control.create_key(&place.visit.principal, &place.named, new).await
        }
        None => Err(ControlError::Invalid(Vec::new())),
    };
    match made {
        Ok(made) => secret_page(&place, made),
        Err(error) => new_page(&place, form.refused(error)?),
    }
}

fn new_page(place: &TenantVisit, form: Form) -> Result<Response, Refusal> {
    let page = NewKeyPage { layout: place.layout("New key", Tab::Keys), base: place.address("/keys"), form };
    of_form(&page.form, &page)
}

fn secret_page(place: &TenantVisit, made: CreatedKey) -> Result<Response, Refusal> {
    let layout = place.layout("Your new key", Tab::Keys);
    let CreatedKey { key, text } = made;
    let page = html(&KeySecretPage { layout, base: place.address("/keys"), name: key.name, text })?;
    Ok((StatusCode::CREATED, page).into_response())
}

/// `GET /console/tenants/{tenant}/keys/{key}`
pub(super) async fn show(place: TenantVisit, path: Path<(String, String)>) -> Result<Response, Refusal> {
    let key = key(&place, id(&path)?).await?;
    let form = filled(&key);
    page(&place, key, form)
}

/// `POST /console/tenants/{tenant}/keys/{key}`: what it may be used for.
pub(super) async fn change(
    place: TenantVisit,
    path: Path<(String, String)>,
    Posted(mut form): Posted,
) -> Result<Response, Refusal> {
    let id = id(&path)?;
    let outcome = match limits(&mut form) {
        Some(limits) => {
            let change = KeyChange {
                name: Some(form.text("name").to_owned()),
                scopes: Some(limits.scopes),
                routes: Some(limits.routes),
                networks: Some(limits.networks),
                expires_at: Some(limits.expires_at),
                enabled: Some(form.has("enabled", "yes")),
            };
            let control = place.visit.control.expecting(form.version());
            control.change_key(&place.within, id, change).await
        }
        None => Err(ControlError::Invalid(Vec::new())),
    };
    done_or_shown(&place, id, form, outcome.map(|key| format!("The key {} is changed.", key.name))).await
}

/// `POST /console/tenants/{tenant}/keys/{key}/rotate`
pub(super) async fn rotate(
    place: TenantVisit,
    path: Path<(String, String)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let id = id(&path)?;
    let grace = Duration::from_secs(form.text("grace").parse().unwrap_or(0));
    match place.visit.control.rotate_key(&place.within, id, grace).await {
        Ok(made) => secret_page(&place, made),
        Err(error) => done_or_shown(&place, id, form, Err(error)).await,
    }
}

/// `POST /console/tenants/{tenant}/keys/{key}/revoke`
pub(super) async fn revoke(
    place: TenantVisit,
    path: Path<(String, String)>,
    Posted(mut form): Posted,
) -> Result<Response, Refusal> {
    let id = id(&path)?;
    let outcome = if form.has("confirm", "yes") {
        place.visit.control.revoke_key(&place.within, id).await
    } else {
        form.fail("confirm", "Check the box: a revoked key never works again.");
        Err(ControlError::Invalid(Vec::new()))
    };
    done_or_shown(&place, id, form, outcome.map(|key| format!("The key {} is revoked.", key.name))).await
}

/// Back to the list, or the key's page again with what is wrong.
async fn done_or_shown(
    place: &TenantVisit,
    id: ApiKeyId,
    form: Form,
    outcome: Result<String, ControlError>,
) -> Result<Response, Refusal> {
    match outcome {
        Ok(message) => done(&place.visit, &place.address("/keys"), &message),
        Err(error) => {
            let form = form.refused(error)?;
            let key = key(place, id).await?;
            let form = form.over(filled(&key));
            page(place, key, form)
        }
    }
}

async fn key(place: &TenantVisit, id: ApiKeyId) -> Result<ApiKey, Refusal> {
    Ok(place.visit.control.key(&place.within, id).await?)
}

fn page(place: &TenantVisit, key: ApiKey, form: Form) -> Result<Response, Refusal> {
    let is_there = key.revoked_at.is_none();
    let page = KeyPage {
        layout: place.layout(&key.name, Tab::Keys),
        address: place.address(&format!("/keys/{}", key.id)),
        state: state(&key, place.visit.now),
        may_change: is_there && place.may("key.change"),
        may_rotate: is_there && place.may("key.rotate"),
        may_revoke: is_there && place.may("key.revoke"),
        graces: GRACES.map(|(value, label)| (value.to_owned(), label.to_owned())).into(),
        key,
        form,
    };
    of_form(&page.form, &page)
}

fn id(Path((_, text)): &Path<(String, String)>) -> Result<ApiKeyId, Refusal> {
    let id = Uuid::try_parse(text).map_err(|_| Refusal::NotFound("such key".to_owned()))?;
    Ok(ApiKeyId(id))
}

/// What the form says of a key; `None` if it can't be read, which its fields tell.
fn limits(form: &mut Form) -> Option<KeyLimits> {
    let list = |text: &str| {
        text.split([',', ' ', '\n', '\r'])
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (scopes, routes) = (list(form.text("scopes")), list(form.text("routes")));
    let mut networks = Vec::new();
    for text in list(form.text("networks")) {
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => form.fail("networks", format!("`{text}` is no network, like 203.0.113.0/24")),
        }
    }
    let expires_at = form.optional("expires_at").map(|text| Timestamp::parse(&format!("{text}T00:00:00Z")));
    if expires_at == Some(None) {
        form.fail("expires_at", "A day like 2026-12-31 is expected.");
    }
    form.is_good().then_some(KeyLimits { scopes, routes, networks, expires_at: expires_at.flatten() })
}

fn filled(key: &ApiKey) -> Form {
    let networks: Vec<_> = key.limits.networks.iter().map(ToString::to_string).collect();
    let enabled = if key.enabled { "yes" } else { "" };
    Form::filled([
        ("name", key.name.clone()),
        ("scopes", key.limits.scopes.join(", ")),
        ("routes", key.limits.routes.join(", ")),
        ("networks", networks.join(", ")),
        ("expires_at", key.limits.expires_at.map_or_else(String::new, day)),
        ("enabled", enabled.to_owned()),
        ("grace", "86400".to_owned()),
        ("version", key.version.to_string()),
    ])
}

fn state(key: &ApiKey, now: Timestamp) -> (&'static str, &'static str) {
    if key.revoked_at.is_some() {
        ("Revoked", "bad")
    } else if key.limits.expires_at.is_some_and(|end| end <= now) {
        ("Expired", "bad")
    } else if key.enabled {
        ("Works", "good")
    } else {
        ("Switched off", "warning")
    }
}

// === impl KeyRow ===

impl KeyRow {
    fn of(key: ApiKey, now: Timestamp) -> KeyRow {
        KeyRow {
            state: state(&key, now),
            last_used: key.last_used_at.map_or_else(|| "Never".to_owned(), instant),
            expires: key.limits.expires_at.map_or_else(|| "Never".to_owned(), instant),
            id: key.id,
            name: key.name,
            prefix: key.prefix,
        }
    }
}
