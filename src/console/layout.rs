//! What every page shows around its own matter: who looks, where they are, what was just done, and how it looks.

use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::assets;
use super::brand::Brand;
use super::session::here;
use super::theme::Theme;
use crate::control::Control;
use crate::domain::TenantStatus;
use crate::web;

/// What a request says about how its page looks.
#[derive(Clone, Debug)]
pub(super) struct Look {
    theme: Theme,
    /// The page's own address.
    here: String,
    /// What was just done.
    flash: Option<String>,
}

/// What `base.html` shows.
pub(super) struct Layout {
    pub(super) title: String,
    pub(super) look: Look,
    pub(super) who: Option<Who>,
    pub(super) place: Option<Place>,
    /// Of a page that is of no tenant, and for a tenant's people all the same.
    brand: Option<Brand>,
}

/// Who looks.
pub(super) struct Who {
    pub(super) email: String,
    /// For the forms of the page.
    pub(super) csrf: String,
    pub(super) is_platforms: bool,
    pub(super) looks_after_tenants: bool,
    /// The tenants of somebody who belongs to several.
    pub(super) tenants: Vec<Link>,
}

/// The tenant that the page is about.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) status: TenantStatus,
    pub(super) tier: String,
    /// Whether one of the platform's people looks, which the tenant is told.
    pub(super) is_foreign: bool,
    pub(super) tabs: Vec<Link>,
    pub(super) brand: Brand,
}

pub(super) struct Link {
    pub(super) label: String,
    pub(super) href: String,
    pub(super) is_current: bool,
}

/// The pages of a tenant, in the order of their tabs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tab {
    Overview,
    Quotas,
    Usage,
    Keys,
    Members,
    Settings,
    Alerts,
    Billing,
    Audit,
    Children,
}

const FLASH_COOKIE: &str = "tollgate_flash";
/// It is shown by the page that comes next, or not at all.
const FLASH_SECONDS: u64 = 60;

/// Tells on the next page what was done.
pub(super) fn flash(control: &Control, response: &mut Response, message: &str) {
    let value = URL_SAFE_NO_PAD.encode(message);
    web::set_cookie(control, response, FLASH_COOKIE, &value, "/console", FLASH_SECONDS);
}

/// It was shown.
pub(super) fn forget_flash(control: &Control, response: &mut Response) {
    web::set_cookie(control, response, FLASH_COOKIE, "", "/console", 0);
}

// === impl Look ===

impl Look {
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Look {
        let kept = web::cookie(headers, FLASH_COOKIE).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let flash = kept.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| !text.is_empty());
        Look { theme: Theme::of(headers), here: here(uri), flash }
    }

    pub(super) fn has_flash(&self) -> bool {
        self.flash.is_some()
    }
}

// === impl Layout ===

impl Layout {
    /// Without anybody who has logged in.
    pub(super) fn bare(title: impl Into<String>, look: &Look) -> Layout {
        Layout { title: title.into(), look: look.clone(), who: None, place: None, brand: None }
    }

    pub(super) fn of(self, who: Who) -> Layout {
        Layout { who: Some(who), ..self }
    }

    pub(super) fn at(self, place: Place) -> Layout {
        Layout { place: Some(place), ..self }
    }

    pub(super) fn branded(self, brand: Brand) -> Layout {
        Layout { brand: Some(brand), ..self }
    }

    pub(super) fn theme(&self) -> &'static str {
        self.look.theme.as_str()
    }

    pub(super) fn themes(&self) -> [(Theme, bool); 3] {
        Theme::ALL.map(|theme| (theme, theme == self.look.theme))
    }

    pub(super) fn here(&self) -> &str {
        &self.look.here
    }

    pub(super) fn flash(&self) -> Option<&str> {
        self.look.flash.as_deref()
    }

    /// The brand of the tenant that the page is about, or for; elsewhere it is ours.
    pub(super) fn brand(&self) -> Option<&Brand> {
        self.place.as_ref().map(|place| &place.brand).or(self.brand.as_ref())
    }

    /// The value of every form's field `csrf`.
    pub(super) fn csrf(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.csrf)
    }

    pub(super) fn asset(&self, name: &str) -> &'static str {
        assets::address(name)
    }
}

// === impl Tab ===

impl Tab {
    pub(super) const ALL: [Tab; 10] = [
        Tab::Overview,
        Tab::Quotas,
        Tab::Usage,
        Tab::Keys,
        Tab::Members,
        Tab::Settings,
        Tab::Alerts,
        Tab::Billing,
        Tab::Audit,
        Tab::Children,
    ];

    /// Below the tenant's address.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Tab::Overview => "",
            Tab::Quotas => "/quotas",
            Tab::Usage => "/usage",
            Tab::Keys => "/keys",
            Tab::Members => "/members",
            Tab::Settings => "/settings",
            Tab::Alerts => "/alerts",
            Tab::Billing => "/billing",
            Tab::Audit => "/audit",
            Tab::Children => "/children",
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Quotas => "Quotas",
            Tab::Usage => "Usage",
            Tab::Keys => "Keys",
            Tab::Members => "Members",
            Tab::Settings => "Settings",
            Tab::Alerts => "Alerts",
            Tab::Billing => "Billing",
            Tab::Audit => "Audit",
            Tab::Children => "Tenants below",
        }
    }

    /// Who may not do that is not shown the tab.
    pub(super) const fn permission(self) -> &'static str {
        match self {
            Tab::Overview => "tenant.read",
            Tab::Quotas => "quota.read",
            Tab::Usage => "analytics.read",
            Tab::Keys => "key.read",
            Tab::Members => "member.read",
            Tab::Settings => "setting.read",
            Tab::Alerts => "alert.read",
            Tab::Billing => "invoice.read",
            Tab::Audit => "audit.read",
            Tab::Children => "children.read",
        }
    }
}
