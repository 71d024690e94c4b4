//! Who looks: the session behind a request, and the tenant that an address names.

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::brand::Brand;
use super::layout::{Layout, Link, Look, Place, Tab, Who};
use super::page::{HX_REQUEST, see_other};
use super::refusal::Refusal;
use super::router::Console;
use crate::clock::Timestamp;
use crate::control::{Branding, Control, Permissions, Person, Principal, Visitor};
use crate::domain::{ActorKind, ResourceNames, Tenant, TenantRef};
use crate::web;

/// Whoever's session it is. Only [`authenticate`] makes one.
#[derive(Clone)]
pub(super) struct Visiting(pub(super) Visitor);

/// Somebody who shows no session, or is about to.
pub(super) struct Passerby {
    pub(super) person: Person,
    pub(super) look: Look,
}

/// Somebody who has logged in and looks at a page.
pub(super) struct Visit {
    pub(super) control: Control,
    pub(super) visitor: Visitor,
    pub(super) principal: Principal,
    pub(super) person: Person,
    pub(super) look: Look,
    /// When the request came.
    pub(super) now: Timestamp,
    /// For the switcher: the tenants that a member of several belongs to.
    own: Vec<Tenant>,
}

/// The same on a page of the tenant in the address. Whose tenant it is not, finds no page.
pub(super) struct TenantVisit {
    pub(super) visit: Visit,
    pub(super) tenant: Tenant,
    /// By which operations name it.
    pub(super) named: TenantRef,
    /// The visitor as this tenant knows them.
    pub(super) within: Principal,
    /// Whether it may have tenants below its own.
    resells: bool,
    /// Under whose name the tenant meets the console.
    branding: Branding,
}

/// Where people come from who were sent to log in.
pub(super) const HOME: &str = "/console/";

/// Lets in who shows a session that lives; others are sent to log in and come back afterwards.
pub(super) async fn authenticate(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut parts, body) = request.into_parts();
    let person = web::person(&console.control, &parts.extensions, &parts.headers);
    let Some(token) = web::session_token(&console.control, &parts.headers).map(str::to_owned) else {
        return Ok(to_log_in(&parts));
    };
    let wanted = wanted_tenant(&mut parts).await;
    let Some(visitor) = console.control.visitor(&person, &token, wanted.as_ref()).await? else {
        return Ok(to_log_in(&parts));
    };
    parts.extensions.insert(Visiting(visitor));
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// The tenant in the path; what is neither an id nor a slug names none.
async fn wanted_tenant(parts: &mut Parts) -> Option<TenantRef> {
    let params = parts.extract::<RawPathParams>().await.ok()?;
    params.iter().find(|(param, _)| *param == "tenant").and_then(|(_, text)| text.parse().ok())
}

/// What was posted is not posted again after the log-in, so that its page is where one comes back to.
fn to_log_in(parts: &Parts) -> Response {
    let back = if parts.method.is_safe() { here(&parts.uri) } else { HOME.to_owned() };
    let query: String = form_encoded(&back);
    let address = format!("/console/log-in?next={query}");
    if !parts.headers.contains_key(HX_REQUEST) {
        return see_other(&address);
    }
    // A part of a page can't be replaced by a log-in: the whole page goes there.
    match HeaderValue::from_str(&address) {
        Ok(address) => (StatusCode::NO_CONTENT, [("hx-redirect", address)]).into_response(),
        Err(_) => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The address of a page, as a link on this site.
pub(super) fn here(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| HOME.to_owned(), ToString::to_string)
}

/// How the visitor's browser reaches this site, for links that are sent to others. Who asks under a false name gets links
/// of that name, and nobody else does.
pub(super) fn origin(control: &Control, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = if control.session_settings().is_secure { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// Text as it stands in a query.
pub(super) fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => {
                encoded.push('%');
                for digit in [other >> 4, other & 15] {
                    encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    encoded
}

/// Where to go on: an address of the console, whatever the query or the form says.
pub(super) fn local(next: &str) -> &str {
    let is_ours = next.starts_with(HOME) && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { next } else { HOME }
}

// === impl Passerby ===

impl FromRequestParts<Console> for Passerby {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Refusal> {
        let person = web::person(&console.control, &parts.extensions, &parts.headers);
        Ok(Passerby { person, look: Look::of(&parts.uri, &parts.headers) })
    }
}

// === impl Visit ===

impl Visit {
    /// What every page shows.
    pub(super) fn layout(&self, title: impl Into<String>) -> Layout {
        Layout::bare(title, &self.look).of(self.who())
    }

    /// Whether a page may offer it. What is done about it is `control`'s to decide.
    pub(super) fn may(&self, permission: &str) -> bool {
        self.principal.rights.permissions.has(permission)
    }

    /// What people call resources.
    pub(super) async fn names(&self) -> Result<ResourceNames, Refusal> {
        Ok(ResourceNames::of(self.control.resource_types(&self.principal).await?))
    }

    pub(super) fn is_platforms(&self) -> bool {
        self.principal.rights.tenant.is_none()
    }

    /// Whether there can be more tenants to list than the visitor's own.
    pub(super) fn looks_after_tenants(&self) -> bool {
        self.is_platforms() || self.principal.rights.resells
    }

    fn who(&self) -> Who {
        let tenants = self.own.iter().map(|tenant| Link {
            label: tenant.name.clone(),
            href: format!("/console/tenants/{}", tenant.slug),
            is_current: self.principal.rights.tenant == Some(tenant.id),
        });
        Who {
            email: self.visitor.user.email.clone(),
            csrf: self.control.csrf_token(&self.visitor.session),
            is_platforms: self.is_platforms(),
            looks_after_tenants: self.looks_after_tenants(),
            tenants: tenants.collect(),
        }
    }
}

impl FromRequestParts<Console> for Visit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Refusal> {
        let Passerby { person, look } = Passerby::from_request_parts(parts, console).await?;
        let visiting = parts.extensions.get::<Visiting>().cloned();
        debug_assert!(visiting.is_some(), "every page of a visitor's is behind `authenticate`");
        let Some(Visiting(visitor)) = visiting else { return Err(Refusal::Forged) };
        let control = console.control.clone();
        let own =
            if visitor.memberships.len() > 1 { control.tenants_of(&visitor).await? } else { Vec::new() };
        let (rights, actor) = (visitor.rights, visitor.actor.clone());
        let principal = Principal { actor, rights, correlation: person.correlation };
        let now = console.clock.now();
        Ok(Visit { control, visitor, principal, person, look, now, own })
    }
}

// === impl TenantVisit ===

impl TenantVisit {
    /// What every page of a tenant shows.
    pub(super) fn layout(&self, title: &str, tab: Tab) -> Layout {
        let TenantVisit { visit, tenant, .. } = self;
        let is_foreign = visit.principal.actor.kind == ActorKind::PlatformUser;
        let tabs = Tab::ALL.iter().filter(|known| self.shows(**known)).map(|known| Link {
            label: known.label().to_owned(),
            href: self.address(known.path()),
            is_current: *known == tab,
        });
        let place = Place {
            name: tenant.name.clone(),
            status: tenant.status,
            tier: tenant.tier.clone(),
            is_foreign,
            tabs: tabs.collect(),
            brand: Brand::of(&self.branding),
        };
        visit.layout(format!("{title} · {}", tenant.name)).at(place)
    }

    /// Whether there is such a page for the visitor.
    pub(super) fn shows(&self, tab: Tab) -> bool {
        let is_there = match tab {
            Tab::Children => self.resells,
            Tab::Billing => !self.visit.control.is_billed_above(&self.visit.principal, &self.tenant),
            _ => true,
        };
        is_there && self.may(tab.permission())
    }

    /// Whether a page may offer it in this tenant.
    pub(super) fn may(&self, permission: &str) -> bool {
        self.within.rights.permissions.has(permission)
    }

    /// What the visitor may do in this tenant.
    pub(super) fn permissions(&self) -> Permissions {
        self.within.rights.permissions
    }

    /// An address of the API below the tenant's: with a slash in front.
    pub(super) fn api(&self, below: &str) -> String {
        format!("/api/tenants/{}{below}", self.tenant.slug)
    }

    /// An address below the tenant's own: empty, or with a slash in front.
    pub(super) fn address(&self, below: &str) -> String {
        format!("/console/tenants/{}{below}", self.tenant.slug)
    }
}

impl FromRequestParts<Console> for TenantVisit {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Refusal> {
        let visit = Visit::from_request_parts(parts, console).await?;
        let none = || Refusal::NotFound("such tenant".to_owned());
        let named = wanted_tenant(parts).await.ok_or_else(none)?;
        let within = visit.control.within(&visit.principal, &named).await?;
        if within.rights.lacks_second_factor && visit.visitor.user.has_password {
            return Err(Refusal::SecondFactor);
        }
        let tenant = visit.control.tenant(&visit.principal, &named).await?;
        let resells = visit.control.tier_traits(&visit.principal, &named).await?.resells;
        let branding = visit.control.branding(&named).await?;
        Ok(TenantVisit { visit, tenant, named, within, resells, branding })
    }
}

#[cfg(test)]
mod tests {
    use super::{form_encoded, local};

    #[test]
    fn after_the_log_in_people_stay_on_this_site() {
        for (next, expected) in [
            ("/console/tenants/acme?tab=1", "/console/tenants/acme?tab=1"),
            ("https://elsewhere.example/console/", "/console/"),
            ("//elsewhere.example/console/", "/console/"),
            ("/\\elsewhere.example", "/console/"),
            ("/console/\\elsewhere", "/console/"),
            ("/console/\r\nset-cookie: a=b", "/console/"),
            ("/api/tenants", "/console/"),
            ("", "/console/"),
        ] {
            assert_eq!(local(next), expected, "{next}");
        }
        assert_eq!(form_encoded("/console/a?b=c&d=ü"), "/console/a%3Fb%3Dc%26d%3D%C3%BC");
    }
}
