//! A tenant's settings: what holds, where it comes from, and what else may be chosen. Secrets go in and never out.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use serde_json::Value;

use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::control::{ControlError, NewSetting, SettingSource, SettingView};
use crate::domain::{Holds, SECURITY_LEVELS, SettingDefault, SettingKind, SettingSpec};

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    layout: Layout,
    here: String,
    settings: Vec<SettingRow>,
    may_add: bool,
    /// For a setting of the tenant's own.
    form: Form,
}

/// A setting, and what changes it.
struct SettingRow {
    key: String,
    about: &'static str,
    source: &'static str,
    /// `None` for a secret.
    value: Option<String>,
    is_set: bool,
    may_set: bool,
    may_remove: bool,
    /// 0 where nothing is set.
    version: i64,
    input: Input,
    /// What is wrong with what was typed.
    fault: Option<String>,
}

/// How a value is entered.
enum Input {
    /// One of these words, and whether the tenant's tier has it.
    Choice(Vec<(&'static str, bool)>),
    Number(i64, i64),
    /// A line of text, of that type of HTML's.
    Line(&'static str),
    Secret,
}

const PATH: &str = "/settings";

/// `GET …/settings`
pub(super) async fn show(here: TenantVisit) -> Result<Response, Refusal> {
    page(&here, "", Form::filled([("setting_key", "custom.")])).await
}

/// `key`: the setting that `form` is of; empty for one of the tenant's own that is not there yet.
async fn page(here: &TenantVisit, key: &str, form: Form) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let views = control.settings(who, &here.named).await?;
    let level = control.tier_traits(who, &here.named).await?.security_level;
    let mut settings: Vec<_> = views.into_iter().map(|view| SettingRow::of(here, view, &level)).collect();
    if let Some(row) = settings.iter_mut().find(|row| row.key == key) {
        row.typed(&form);
    }
    let page = SettingsPage {
        layout: here.layout("Settings", Tab::Settings),
        here: here.address(PATH),
        settings,
        may_add: here.may("setting.set"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/settings/{setting}`
pub(super) async fn set(
    here: TenantVisit,
    Path((_, key)): Path<(String, String)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let value = Value::from(form.text("value"));
    let new = NewSetting { value, is_encrypted: None };
    let control = here.visit.control.expecting(form.version());
    match control.set_setting(&here.visit.principal, &here.named, &key, new).await {
        Ok(_) => done(&here.visit, &here.address(PATH), &format!("{key} is set.")),
        Err(error) => page(&here, &key, form.refused(error)?).await,
    }
}

/// `POST …/settings`: one of the tenant's own.
pub(super) async fn add(here: TenantVisit, Posted(form): Posted) -> Result<Response, Refusal> {
    let key = form.text("setting_key").to_owned();
    let new = NewSetting {
        value: Value::from(form.text("setting_value")),
        is_encrypted: Some(form.has("is_encrypted", "yes")),
    };
    // One that is there already is not overwritten.
    match here
        .visit
        .control
        .expecting(Some(0))
        .set_setting(&here.visit.principal, &here.named, &key, new)
        .await
    {
        Ok(_) => done(&here.visit, &here.address(PATH), &format!("{key} is set.")),
        Err(error) => page(&here, "", of_key(form, error)?).await,
    }
}

/// A name that no setting can have is a fault of the form here, and not an address without a page.
fn of_key(mut form: Form, error: ControlError) -> Result<Form, Refusal> {
    match error {
        ControlError::NotFound { .. } => {
            form.fail("setting_key", "A name like custom.crm_address is expected.");
            Ok(form)
        }
        other => form.refused(other),
    }
}

/// `POST …/settings/{setting}/reset`
pub(super) async fn reset(
    here: TenantVisit,
    Path((_, key)): Path<(String, String)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let control = here.visit.control.expecting(form.version());
    match control.remove_setting(&here.visit.principal, &here.named, &key).await {
        Ok(()) => done(&here.visit, &here.address(PATH), &format!("{key} is reset.")),
        Err(error) => page(&here, &key, form.refused(error)?).await,
    }
}

// === impl SettingRow ===

impl SettingRow {
    fn of(here: &TenantVisit, view: SettingView, tier_level: &str) -> SettingRow {
        let spec = SettingSpec::named(&view.setting_key);
        let is_theirs = spec.is_none_or(|spec| !spec.is_platforms) || here.may("platform_setting.set");
        SettingRow {
            may_set: is_theirs && here.may("setting.set"),
            may_remove: is_theirs && here.may("setting.remove"),
            about: view.about.unwrap_or("A setting of your own"),
            source: source(view.source),
            value: (!view.is_encrypted).then(|| shown(&view.setting_value)),
            is_set: view.is_set,
            version: view.version.unwrap_or(0),
            input: match spec {
                Some(spec) => Input::of(spec, tier_level),
                None if view.setting_type == SettingKind::Secret => Input::Secret,
                None => Input::Line("text"),
            },
            key: view.setting_key,
            fault: None,
        }
    }

    /// Shows what was typed, and what is wrong with it.
    fn typed(&mut self, form: &Form) {
        let fault = form.fault("setting_value").or(form.fault("is_encrypted")).map(str::to_owned);
        self.fault = fault.or_else(|| form.others(&["setting_value", "is_encrypted"]).pop());
        if let Some(value) = &mut self.value {
            form.text("value").clone_into(value);
        }
    }

    /// Of its field on the page.
    fn id(&self) -> String {
        self.key.replace('.', "-")
    }

    /// What people call it.
    fn label(&self) -> String {
        let name = self.key.strip_prefix("custom.").unwrap_or(&self.key).replace('_', " ");
        let mut letters = name.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
        format!("{first}{}", letters.as_str())
    }

    fn shown(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    fn is(&self, word: &str) -> bool {
        self.shown() == word
    }

    /// Whether it is a secret that there is.
    fn is_replaced(&self) -> bool {
        self.is_set && self.value.is_none()
    }
}

const fn source(source: SettingSource) -> &'static str {
    match source {
        SettingSource::Tenant => "set here",
        SettingSource::Reseller => "from the reseller",
        SettingSource::Tier => "from the tier",
        SettingSource::Default => "by default",
    }
}

/// As it is typed.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join("\n"),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

// === impl Input ===

impl Input {
    fn of(spec: &SettingSpec, tier_level: &str) -> Input {
        let rank = |level: &str| SECURITY_LEVELS.iter().position(|known| *known == level);
        match spec.holds {
            Holds::OneOf(words) => {
                let is_capped = matches!(spec.default, SettingDefault::TierSecurityLevel);
                let is_had = |word: &str| !is_capped || rank(word) <= rank(tier_level);
                Input::Choice(words.iter().map(|word| (*word, is_had(word))).collect())
            }
            Holds::Truth => Input::Choice(vec![("true", true), ("false", true)]),
            Holds::Between(least, most) => Input::Number(least, most),
            Holds::Url => Input::Line("url"),
            // A picker would show a color where none is set.
            Holds::Color | Holds::Picture | Holds::AnyText | Holds::Name => Input::Line("text"),
        }
    }
}
