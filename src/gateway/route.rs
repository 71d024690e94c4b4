//! The first door: which route a request takes, by host, path and method.
//!
//! Exact paths win over prefixes, longer prefixes over shorter ones, a named host over any, a named method over any.
//! A prefix ends at a segment's end: `/v1` leads to `/v1` and `/v1/x`, not to `/v1beta`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::identity::IdentityKinds;
use super::policy::ChargeSettings;
use super::refusal::Refusal;
use super::upstream::{BadUpstream, UpstreamSettings, UpstreamTarget};
use crate::domain::{Resource, UsageRecord};
use crate::listener::http1::Head;
use crate::till::Rate;

/// What the table is made from.
#[derive(Clone, Debug, Default)]
pub struct TableSettings {
    pub routes: Vec<RouteSettings>,
    pub upstreams: Vec<UpstreamSettings>,
}

/// One route, as configured.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    pub name: String,
    /// Empty: any. `*.example.com` stands for every name below.
    pub hosts: Vec<String>,
    pub path: String,
    pub exact: bool,
    /// Empty: any.
    pub methods: Vec<String>,
    pub upstream: String,
    pub charges: Vec<ChargeSettings>,
    pub on: ChargeOn,
    /// No identity, no charge.
    pub public: bool,
    pub identities: IdentityKinds,
    pub scopes: Vec<String>,
    pub rate: Option<RouteRate>,
    /// Cut from the beginning of the path that is forwarded.
    pub strip_prefix: Option<String>,
    /// From the head's end to the answer's end.
    pub timeout: Option<Duration>,
}

/// When units are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChargeOn {
    /// Always, once the upstream was sent the request.
    #[default]
    Admit,
    /// Unless the upstream failed: given back on 5xx, time-outs and broken answers.
    Success,
}

/// A rate that bursts are smoothed to, per gateway.
#[derive(Clone, Debug)]
pub struct RouteRate {
    pub per: RatePer,
    pub rate: Rate,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RatePer {
    Key,
    Tenant,
}

/// All routes and upstreams, checked. Shared by the workers; a reload swaps it whole.
#[derive(Debug, Default)]
pub struct Table {
    pub(super) routes: Vec<Route>,
    pub(super) upstreams: Vec<Arc<UpstreamTarget>>,
}

/// One route, ready to be matched.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) settings: RouteSettings,
    /// Its place among [`Table::upstreams`].
    pub(super) upstream: usize,
    hosts: Vec<HostPattern>,
}

#[derive(Debug)]
enum HostPattern {
    Is(String),
    /// With its dot: `.example.com`.
    EndsWith(String),
}

/// A table that can't be served.
#[derive(Debug, thiserror::Error)]
pub enum BadRoutes {
    #[error("route `{route}`: there is no upstream `{upstream}`")]
    NoUpstream { route: String, upstream: String },
    #[error("route `{0}`: its name is longer than {max} bytes", max = UsageRecord::ROUTE_LENGTH_MAX)]
    NameTooLong(String),
    #[error("two routes are named `{0}`")]
    Twice(String),
    #[error("route `{0}` charges more than {max} resources", max = UsageRecord::CHARGES_MAX)]
    TooManyCharges(String),
    #[error("upstream `{0}`: {1}")]
    Upstream(String, #[source] Box<BadUpstream>),
}

// === impl Table ===

impl Table {
    /// # Errors
    /// [`BadRoutes`], the first fault found. A configuration that passed its check has none.
    pub fn build(settings: TableSettings) -> Result<Table, BadRoutes> {
        Table::build_after(&Table::default(), settings)
    }

    /// The same, after another table: what it knows of upstreams that are still there goes on to hold.
    ///
    /// # Errors
    /// As [`Table::build`].
    pub fn build_after(before: &Table, settings: TableSettings) -> Result<Table, BadRoutes> {
        let mut upstreams = Vec::new();
        for upstream in &settings.upstreams {
            let before = before.upstreams.iter().find(|before| before.name() == upstream.name);
            let target = UpstreamTarget::resolve(upstream, before.map(|before| &**before))
                .map_err(|error| BadRoutes::Upstream(upstream.name.clone(), Box::new(error)))?;
            upstreams.push(Arc::new(target));
        }
        let mut names = HashSet::new();
        let mut routes = Vec::new();
        for route in settings.routes {
            if !names.insert(route.name.clone()) {
                return Err(BadRoutes::Twice(route.name));
            }
            routes.push(Route::new(route, &settings.upstreams)?);
        }
        routes.sort_by_key(|route| std::cmp::Reverse(route.rank()));
        Ok(Table { routes, upstreams })
    }

    /// Every resource that some route charges.
    pub fn charged(&self) -> Vec<Resource> {
        let charged: HashSet<_> = self
            .routes
            .iter()
            .flat_map(|route| &route.settings.charges)
            .map(|charge| charge.resource)
            .collect();
        charged.into_iter().collect()
    }

    /// The place among [`Table::routes`] of the one that leads from here.
    pub(super) fn find(&self, head: &Head<'_>) -> Result<usize, Refusal> {
        if is_ambiguous(head.path) {
            return Err(Refusal::AmbiguousPath);
        }
        let host = host_of(head.authority);
        let leads = |route: &&Route| route.leads_from(host, head.path);
        let found = self.routes.iter().position(|route| leads(&route) && route.serves(head.method));
        found.ok_or_else(|| self.without_method(leads))
    }

    fn without_method(&self, leads: impl Fn(&&Route) -> bool) -> Refusal {
        let mut methods: Vec<_> = self
            .routes
            .iter()
            .filter(leads)
            .flat_map(|route| route.settings.methods.iter().cloned())
            .collect();
        methods.sort();
        methods.dedup();
        if methods.is_empty() {
            Refusal::NoRoute
        } else {
            Refusal::MethodNotAllowed { allow: methods.join(", ") }
        }
    }
}

// === impl Route ===

impl Route {
    fn new(settings: RouteSettings, upstreams: &[UpstreamSettings]) -> Result<Route, BadRoutes> {
        let upstream = upstreams.iter().position(|upstream| upstream.name == settings.upstream);
        let Some(upstream) = upstream else {
            return Err(BadRoutes::NoUpstream { route: settings.name, upstream: settings.upstream });
        };
        if settings.name.len() > UsageRecord::ROUTE_LENGTH_MAX {
            return Err(BadRoutes::NameTooLong(settings.name));
        }
        if settings.charges.len() > UsageRecord::CHARGES_MAX {
            return Err(BadRoutes::TooManyCharges(settings.name));
        }
        let hosts = settings.hosts.iter().map(|host| HostPattern::parse(host)).collect();
        Ok(Route { settings, upstream, hosts })
    }

    /// The higher, the earlier it is tried.
    fn rank(&self) -> (bool, usize, bool, bool) {
        let RouteSettings { exact, path, hosts, methods, .. } = &self.settings;
        (*exact, path.len(), !hosts.is_empty(), !methods.is_empty())
    }

    fn leads_from(&self, host: &str, path: &str) -> bool {
        let path_leads = match path.strip_prefix(self.settings.path.as_str()) {
            Some("") => true,
            Some(rest) => {
                !self.settings.exact && (self.settings.path.ends_with('/') || rest.starts_with('/'))
            }
            None => false,
        };
        path_leads && (self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.holds(host)))
    }

    fn serves(&self, method: &str) -> bool {
        self.settings.methods.is_empty() || self.settings.methods.iter().any(|served| served == method)
    }

    /// The path to forward.
    pub(super) fn forwarded_path<'a>(&self, path: &'a str) -> &'a str {
        let Some(prefix) = &self.settings.strip_prefix else { return path };
        // What is left begins with the prefix's last slash, so that it is a path again.
        match path.strip_prefix(prefix.trim_end_matches('/')) {
            Some(rest) if rest.starts_with('/') => rest,
            Some("") => "/",
            Some(_) | None => path,
        }
    }
}

// === impl HostPattern ===

impl HostPattern {
    fn parse(host: &str) -> HostPattern {
        match host.strip_prefix('*') {
            Some(suffix) => HostPattern::EndsWith(suffix.to_ascii_lowercase()),
            None => HostPattern::Is(host.to_ascii_lowercase()),
        }
    }

    fn holds(&self, host: &str) -> bool {
        match self {
            HostPattern::Is(name) => host.eq_ignore_ascii_case(name),
            HostPattern::EndsWith(suffix) => host.len().checked_sub(suffix.len()).is_some_and(|at| {
                at > 0 && host.is_char_boundary(at) && host[at..].eq_ignore_ascii_case(suffix)
            }),
        }
    }
}

/// The authority without its port and without the root's dot.
fn host_of(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether an upstream could take the path for another one: dot segments and backslashes, however they are encoded.
/// An encoded slash alone is part of a name; beside dots it would lead elsewhere for whoever decodes before looking.
fn is_ambiguous(path: &str) -> bool {
    if !path.contains("/.") && !path.contains('%') && !path.contains('\\') {
        return false;
    }
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "\\");
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    plain.contains('\\') || plain.split('/').any(is_dots)
}

#[cfg(test)]
mod tests {
    use super::{IdentityKinds, RouteSettings, Table, TableSettings, host_of, is_ambiguous};
    use crate::gateway::refusal::Refusal;
    use crate::gateway::upstream::{EndpointSettings, Protocol, UpstreamSettings};
    use crate::listener::http1::{BodyLength, Head};

    fn route(name: &str, hosts: &[&str], path: &str, exact: bool, methods: &[&str]) -> RouteSettings {
        RouteSettings {
            name: name.into(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            path: path.into(),
            exact,
            methods: methods.iter().map(ToString::to_string).collect(),
            upstream: "u".into(),
            charges: vec![],
            on: super::ChargeOn::Admit,
            public: true,
            identities: IdentityKinds { api_key: true, jwt: true, certificate: false },
            scopes: vec![],
            rate: None,
            strip_prefix: (path != "/").then(|| path.into()),
            timeout: None,
        }
    }

    fn table() -> Table {
        let upstream = UpstreamSettings {
            name: "u".into(),
            endpoints: vec![EndpointSettings {
                host: "127.0.0.1".into(),
                port: 1,
                protocol: Protocol::Http,
                weight: 1,
            }],
            ..UpstreamSettings::default()
        };
        let routes = vec![
            route("any", &[], "/", false, &[]),
            route("v1", &[], "/v1", false, &["GET", "POST"]),
            route("v1-deep", &[], "/v1/deep/", false, &[]),
            route("exact", &[], "/v1/deep/x", true, &[]),
            route("api", &["api.example.com", "*.tenants.example"], "/v1", false, &[]),
        ];
        Table::build(TableSettings { routes, upstreams: vec![upstream] }).unwrap()
    }

    fn find(method: &str, authority: &str, path: &str) -> Result<(String, String), Refusal> {
        let head = Head {
            method,
            path,
            query: "",
            authority,
            lines: &[],
            body: BodyLength::Empty,
            closes: false,
            expects_continue: false,
            upgrades: false,
            is_http10: false,
            takes_trailers: false,
        };
        let table = table();
        let route = &table.routes[table.find(&head)?];
        Ok((route.settings.name.clone(), route.forwarded_path(path).to_owned()))
    }

    #[test]
    fn the_most_particular_route_wins() {
        for (method, host, path, name, forwarded) in [
            ("GET", "x", "/", "any", "/"),
            ("GET", "x", "/v1beta", "any", "/v1beta"),
            ("GET", "x", "/v1", "v1", "/"),
            ("GET", "x", "/v1/a", "v1", "/a"),
            ("DELETE", "x", "/v1/a", "any", "/v1/a"),
            ("GET", "x", "/v1/deep/y", "v1-deep", "/y"),
            ("GET", "x", "/v1/deep/x", "exact", "/"),
            ("GET", "API.example.com:8080", "/v1/a", "api", "/a"),
            ("GET", "api.example.com.", "/v1/a", "api", "/a"),
            ("GET", "a.tenants.example", "/v1/a", "api", "/a"),
            ("GET", ".tenants.example", "/v1/a", "v1", "/a"),
            ("GET", "tenants.example", "/v1/a", "v1", "/a"),
        ] {
            assert_eq!(
                find(method, host, path),
                Ok((name.into(), forwarded.into())),
                "{method} {host} {path}"
            );
        }
    }

    #[test]
    fn a_path_that_could_be_read_two_ways_is_refused() {
        for path in [
            "/v1/../x",
            "/..",
            "/.",
            "/a/./b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a\\b",
            "/a%5Cb",
            "/a/..;x/b",
            "/a%2F..",
        ] {
            assert!(is_ambiguous(path), "{path}");
            assert_eq!(find("GET", "x", path), Err(Refusal::AmbiguousPath));
        }
        for path in ["/", "/a/...", "/.well-known/x", "/a.b/..c", "/a/%2ehidden", "/a%2fb"] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn a_port_is_no_part_of_the_host() {
        for (authority, host) in
            [("a", "a"), ("a:1", "a"), ("[::1]", "[::1]"), ("[::1]:80", "[::1]"), ("", "")]
        {
            assert_eq!(host_of(authority), host);
        }
    }
}
