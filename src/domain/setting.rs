//! What tenants can set: the registry of known settings, their types, defaults and caps.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::billing::BILLING_ACCOUNT;
use super::{Color, Tenant};

/// A setting that is known, because something in the program goes by it. Everybody else's are named `custom.…`; they may
/// be anything, and secret.
#[derive(Clone, Copy, Debug)]
pub struct SettingSpec {
    pub key: &'static str,
    pub kind: SettingKind,
    pub holds: Holds,
    pub default: SettingDefault,
    /// Whether tenants below a reseller have its value as long as they have none of their own.
    pub is_inherited: bool,
    /// Whether only the platform sets it: what is owed depends on it.
    pub is_platforms: bool,
    /// What people read.
    pub about: &'static str,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    String,
    Int,
    Bool,
    Json,
    /// Text that is sealed at rest and never shown.
    Secret,
}

/// What a value must be, beside its kind.
#[derive(Clone, Copy, Debug)]
pub enum Holds {
    AnyText,
    /// Printable ASCII without blanks, as other systems name things.
    Name,
    OneOf(&'static [&'static str]),
    Between(i64, i64),
    /// An http or https address.
    Url,
    Truth,
    /// `#rrggbb`, to be seen on white.
    Color,
    /// A small picture, as a data URL: pages show nothing from elsewhere.
    Picture,
}

/// What holds where nothing is set.
#[derive(Clone, Copy, Debug)]
pub enum SettingDefault {
    Nothing,
    False,
    /// The tier's security level, which is the most that can be set, too.
    TierSecurityLevel,
}

/// Security levels, the lowest first.
pub const SECURITY_LEVELS: [&str; 4] = ["basic", "standard", "advanced", "enterprise"];

/// What text may be as long as, in characters.
const SETTING_TEXT_MAX: usize = 4_096;
/// What other systems name a thing by.
const NAME_LENGTH_MAX: usize = 255;

const fn text(key: &'static str, holds: Holds, default: SettingDefault, about: &'static str) -> SettingSpec {
    let kind = SettingKind::String;
    SettingSpec { key, kind, holds, default, is_inherited: false, is_platforms: false, about }
}

/// Every setting that is known, by its key.
pub const SETTINGS: [SettingSpec; 9] = [
    SettingSpec {
        is_platforms: true,
        ..text(
            BILLING_ACCOUNT,
            Holds::Name,
            SettingDefault::Nothing,
            "What the tenant is called by who collects what it owes: its customer at Stripe, its subscription at Lago",
        )
    },
    SettingSpec {
        is_inherited: true,
        ..text("branding_color", Holds::Color, SettingDefault::Nothing, "The console's accent, like #0a7cff")
    },
    SettingSpec {
        is_inherited: true,
        ..text(
            "branding_logo_url",
            Holds::Picture,
            SettingDefault::Nothing,
            "The console's logo: data:image/png;base64,…, of 32 KiB at most",
        )
    },
    SettingSpec {
        is_inherited: true,
        ..text("branding_name", Holds::AnyText, SettingDefault::Nothing, "What the console is called")
    },
    SettingSpec {
        kind: SettingKind::Int,
        ..text(
            "key_age_days_max",
            Holds::Between(1, 3_650),
            SettingDefault::Nothing,
            "For how many days a new key may work at most",
        )
    },
    text(
        "security_level",
        Holds::OneOf(&SECURITY_LEVELS),
        SettingDefault::TierSecurityLevel,
        "How strict the tenant is with itself; at most as strict as the tier allows",
    ),
    SettingSpec {
        is_inherited: true,
        ..text("support_url", Holds::Url, SettingDefault::Nothing, "Where the tenant's users find help")
    },
    SettingSpec {
        kind: SettingKind::Bool,
        is_inherited: true,
        ..text(
            "upgrade_prompts",
            Holds::Truth,
            SettingDefault::False,
            "Whether the tenant's own callers are told, too, where more can be bought",
        )
    },
    SettingSpec {
        is_inherited: true,
        ..text(
            "upgrade_url",
            Holds::Url,
            SettingDefault::Nothing,
            "Where more can be bought; {tenant} in it is the tenant's slug, and {tenant_id} its id",
        )
    },
];

/// What a picture is as large as at most, in bytes.
const PICTURE_BYTES_MAX: usize = 32 * 1_024;
/// Kinds of pictures, and how their bytes begin. SVG is none of them: it may hold programs.
const PICTURES: [(&str, &[u8]); 4] = [
    ("data:image/png;base64,", b"\x89PNG\r\n\x1a\n"),
    ("data:image/jpeg;base64,", b"\xff\xd8\xff"),
    ("data:image/gif;base64,", b"GIF8"),
    ("data:image/webp;base64,", b"RIFF"),
];
/// What WCAG 2.2 asks of parts of a page that have to be told from what is beside them.
const CONTRAST_MIN: f64 = 3.0;

/// What settings outside of the registry begin with.
const CUSTOM: &str = "custom.";
const KEY_LENGTH_MAX: usize = 64;

// === impl SettingSpec ===

impl SettingSpec {
    /// The setting of that name; a custom one is a secret if it is to be.
    pub fn named(key: &str) -> Option<&'static SettingSpec> {
        SETTINGS.iter().find(|spec| spec.key == key)
    }

    /// Whether gateways obey it, and so have to be told when it changes.
    pub fn reaches_gateways(key: &str) -> bool {
        ["upgrade_prompts", "upgrade_url"].contains(&key)
    }

    /// Whether `key` may name a setting that the registry does not know.
    pub fn is_custom(key: &str) -> bool {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
        key.len() <= KEY_LENGTH_MAX
            && key.strip_prefix(CUSTOM).is_some_and(|name| !name.is_empty() && name.bytes().all(letter))
    }
}

// === impl SettingKind ===

impl SettingKind {
    const ALL: [SettingKind; 5] =
        [SettingKind::String, SettingKind::Int, SettingKind::Bool, SettingKind::Json, SettingKind::Secret];

    pub const fn as_str(self) -> &'static str {
        match self {
            SettingKind::String => "string",
            SettingKind::Int => "int",
            SettingKind::Bool => "bool",
            SettingKind::Json => "json",
            SettingKind::Secret => "secret",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        SettingKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl Holds ===

impl Holds {
    /// The value in its proper form, or what is expected. Numbers and truths may come as text.
    ///
    /// # Errors
    /// What is expected, as the end of "… is expected".
    pub fn read(self, value: &Value) -> Result<Value, String> {
        let text = value.as_str();
        match self {
            Holds::AnyText => {
                let good =
                    text.filter(|text| text.chars().count() <= SETTING_TEXT_MAX && !text.contains('\0'));
                good.map(Value::from).ok_or_else(|| format!("text of at most {SETTING_TEXT_MAX} characters"))
            }
            Holds::Name => {
                let is_name = |text: &&str| {
                    (1..=NAME_LENGTH_MAX).contains(&text.len())
                        && text.bytes().all(|byte| byte.is_ascii_graphic())
                };
                let good = text.filter(is_name).map(Value::from);
                good.ok_or_else(|| format!("a name of at most {NAME_LENGTH_MAX} characters without blanks"))
            }
            Holds::OneOf(words) => {
                let good = text.filter(|text| words.contains(text));
                good.map(Value::from).ok_or_else(|| format!("one of {}", words.join(", ")))
            }
            Holds::Between(least, most) => {
                let number = value.as_i64().or_else(|| text?.parse().ok());
                let good = number.filter(|number| (least..=most).contains(number));
                good.map(Value::from).ok_or_else(|| format!("a whole number from {least} to {most}"))
            }
            Holds::Url => {
                let is_url = |text: &&str| {
                    ["https://", "http://"]
                        .iter()
                        .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
                        && text.len() <= 2_048
                        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\".contains(&byte))
                };
                text.filter(is_url).map(Value::from).ok_or_else(|| "an http or https address".to_owned())
            }
            Holds::Truth => {
                let truth = value.as_bool().or_else(|| text?.parse().ok());
                truth.map(Value::from).ok_or_else(|| "true or false".to_owned())
            }
            Holds::Color => {
                let color = text.and_then(Color::parse);
                let color = color.ok_or_else(|| "a color like #0a7cff".to_owned())?;
                if color.contrast(Color::WHITE) < CONTRAST_MIN {
                    return Err(format!("a color with a contrast of {CONTRAST_MIN}:1 to white"));
                }
                Ok(color.to_string().into())
            }
            Holds::Picture => {
                let good = text.filter(|text| is_picture(text));
                let expected =
                    format!("PNG, JPEG, GIF or WebP as a data URL of {PICTURE_BYTES_MAX} bytes at most");
                good.map(Value::from).ok_or(expected)
            }
        }
    }
}

fn is_picture(text: &str) -> bool {
    PICTURES.iter().any(|(kind, beginning)| {
        let bytes = text.strip_prefix(kind).and_then(|base64| BASE64_STANDARD.decode(base64).ok());
        bytes.is_some_and(|bytes| bytes.len() <= PICTURE_BYTES_MAX && bytes.starts_with(beginning))
    })
}

/// Where that tenant can buy more: `upgrade_url` with the tenant in its places.
pub fn upgrade_link(template: &str, tenant: &Tenant) -> String {
    template.replace("{tenant}", tenant.slug.as_str()).replace("{tenant_id}", &tenant.id.to_string())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    use super::{Holds, SETTINGS, SettingDefault, SettingKind, SettingSpec};

    #[test]
    fn every_setting_has_a_key_of_its_own_and_a_default_of_its_kind() {
        for (at, spec) in SETTINGS.iter().enumerate() {
            assert!(
                SETTINGS[..at].iter().all(|other| other.key < spec.key),
                "{}: in the order of keys",
                spec.key
            );
            let fits = match spec.default {
                SettingDefault::Nothing => true,
                SettingDefault::TierSecurityLevel => spec.kind == SettingKind::String,
                SettingDefault::False => spec.kind == SettingKind::Bool,
            };
            assert!(fits && !SettingSpec::is_custom(spec.key), "{}", spec.key);
        }
    }

    #[test]
    fn values_are_read_as_what_they_must_be() {
        let good = |holds: Holds, value: serde_json::Value| holds.read(&value).ok();
        assert_eq!(good(Holds::Between(5, 10), json!("7")), Some(json!(7)));
        assert_eq!(good(Holds::Between(5, 10), json!(11)), None);
        assert_eq!(good(Holds::Between(5, 10), json!(7.5)), None);
        assert_eq!(good(Holds::OneOf(&["a"]), json!("b")), None);
        for bad in ["javascript:alert(1)", "https://", "https://a b", "http://\"x"] {
            assert_eq!(good(Holds::Url, json!(bad)), None, "{bad}");
        }
        assert_eq!(good(Holds::Color, json!("#12345g")), None);
        assert_eq!(good(Holds::Color, json!("#0A7CFF")), Some(json!("#0a7cff")));
        assert_eq!(good(Holds::Color, json!("#ffff00")), None, "not to be seen on white");
        assert_eq!(good(Holds::Truth, json!("true")), Some(json!(true)));
        let picture = |kind: &str, bytes: &[u8]| {
            json!(format!("data:image/{kind};base64,{}", BASE64_STANDARD.encode(bytes)))
        };
        let png = b"\x89PNG\r\n\x1a\n";
        assert!(good(Holds::Picture, picture("png", png)).is_some());
        for bad in [
            picture("jpeg", png),
            picture("svg+xml", b"<svg/>"),
            picture("png", &[png.as_slice(), &[0; super::PICTURE_BYTES_MAX]].concat()),
            json!("data:image/png;base64,no base64"),
            json!("https://example.com/logo.png"),
        ] {
            assert_eq!(good(Holds::Picture, bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn names_of_ones_own_begin_with_custom() {
        assert!(SettingSpec::is_custom("custom.crm_token"));
        for bad in ["custom.", "crm", "custom.CRM", "custom.a b", &format!("custom.{}", "x".repeat(64))] {
            assert!(!SettingSpec::is_custom(bad), "{bad}");
        }
    }
}
