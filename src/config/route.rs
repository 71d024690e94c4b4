//! `[[route]]`: which requests go where, and what they cost.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::{Resource, Units, UsageRecord};

use super::check::Check;
use super::identity::{IdentityConfig, IdentityKind};
use super::text::{HeaderName, HostPattern, Many, Maybe, Method, One};
use super::upstream::UpstreamConfig;

/// Which requests go where, and what they cost. The longest `path` wins; `exact` wins over any `path`; a route
/// that names the host wins over one that doesn't, and so with methods.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["name", "upstream"], "oneOf" = [{ "required": ["path"] }, { "required": ["exact"] }]))]
pub struct RouteConfig {
    /// How metrics and records call it.
    pub name: String,
    /// Only requests to these hosts. Empty: to any.
    #[serde(with = "Many::<HostPattern>")]
    pub hosts: Vec<HostPattern>,
    /// Requests whose path begins with this.
    pub path: Option<String>,
    /// Requests whose path is this.
    pub exact: Option<String>,
    /// Only requests with these methods. Empty: with any.
    #[serde(with = "Many::<Method>")]
    pub methods: Vec<Method>,
    /// The name of an `[[upstream]]`.
    pub upstream: String,
    /// What a request costs: units by resource. Either all are taken or the request is denied.
    #[schemars(with = "BTreeMap<String, ChargeUnits>")]
    pub charge: BTreeMap<Resource, ChargeUnits>,
    pub on: ChargeOn,
    /// Forward without an identity and without a charge.
    pub public: bool,
    /// Scopes of which the key or token must have every one.
    pub scopes: Vec<String>,
    /// How fast one caller may go, below any quota's window.
    pub rate: Option<RateConfig>,
    /// Cut from the path before it is forwarded.
    pub strip_prefix: Option<String>,
    /// From admission to the answer's last byte. Absent: as the upstream says.
    #[serde(with = "Maybe::<Duration>")]
    pub timeout: Option<Duration>,
    /// Which identities are looked for, instead of `identity.order`.
    pub identity: Option<Vec<IdentityKind>>,
}

/// Units of one charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChargeUnits {
    /// The same for each request.
    Fixed(Units),
    /// The bytes of the request's body.
    RequestBytes,
    /// The bytes of the answer's body.
    ResponseBytes,
    /// What the upstream says in a header of its answer, from 0 to `max`. `max` is reserved at admission.
    Header { header: HeaderName, max: Units },
}

/// When a charge is final.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeOn {
    /// Once the request is admitted.
    #[default]
    Admit,
    /// Given back when the upstream answers 5xx, fails or takes too long.
    Success,
}

/// A rate of requests, smoothed by each gateway for its share of the fleet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["requests"]))]
pub struct RateConfig {
    pub per: RatePer,
    /// Requests in each `window`.
    pub requests: u32,
    #[serde(with = "One::<Duration>")]
    pub window: Duration,
    /// Most requests at once. Absent: `requests`.
    pub burst: Option<u32>,
}

/// Whose rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatePer {
    /// Each API key on its own.
    #[default]
    Key,
    /// All keys of a tenant together.
    Tenant,
}

/// The other sections that a route refers to.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) upstreams: &'a [UpstreamConfig],
    pub(super) identity: &'a IdentityConfig,
    /// Whether clients may show certificates.
    pub(super) has_client_ca: bool,
}

// === impl RouteConfig ===

impl RouteConfig {
    pub(super) fn validate(&self, at: &Check<'_>, around: Surroundings<'_>) {
        at.key("name").ensure(!self.name.is_empty(), "is missing: a name for metrics and records");
        self.validate_match(at);
        self.validate_upstream(&at.key("upstream"), around.upstreams);
        self.validate_charge(&at.key("charge"));
        if self.public {
            self.validate_public(at);
        }
        for (index, scope) in self.scopes.iter().enumerate() {
            at.key("scopes").item(index).ensure(is_scope(scope), "expected a scope such as \"orders:read\"");
        }
        if let Some(rate) = &self.rate {
            rate.validate(&at.key("rate"));
        }
        if let Some(timeout) = self.timeout {
            at.key("timeout").positive(timeout);
        }
        if let Some(kinds) = &self.identity {
            validate_kinds(kinds, &at.key("identity"), around);
        }
    }

    fn validate_match(&self, at: &Check<'_>) {
        match (&self.path, &self.exact) {
            (None, None) => at.key("path").fault("is missing: a prefix such as \"/v1/\", or `exact`"),
            (Some(_), Some(_)) => at.key("exact").fault("only one of `path` and `exact` may be given"),
            (Some(path), None) => validate_path(path, &at.key("path")),
            (None, Some(exact)) => validate_path(exact, &at.key("exact")),
        }
        if let Some(prefix) = &self.strip_prefix {
            let at = at.key("strip_prefix");
            validate_path(prefix, &at);
            let path = self.path.as_ref().or(self.exact.as_ref());
            let is_inside = path.is_none_or(|path| path.starts_with(prefix.as_str()));
            at.ensure(is_inside, "is no prefix of the route's path, so it would never be cut");
        }
        at.key("hosts").distinct(&self.hosts);
        at.key("methods").distinct(&self.methods);
    }

    fn validate_upstream(&self, at: &Check<'_>, upstreams: &[UpstreamConfig]) {
        if self.upstream.is_empty() {
            return at.fault("is missing: the name of an `[[upstream]]`");
        }
        // A nameless upstream has its own fault, and may be the one that is meant.
        if upstreams.iter().all(|upstream| !upstream.name.is_empty()) {
            at.known("upstream", &self.upstream, upstreams.iter().map(|upstream| upstream.name.as_str()));
        }
    }

    fn validate_charge(&self, at: &Check<'_>) {
        let most = UsageRecord::CHARGES_MAX;
        at.ensure(self.charge.len() <= most, format_args!("a request may have at most {most} charges"));
        for (resource, units) in &self.charge {
            units.validate(&at.key(resource.as_str()));
        }
    }

    fn validate_public(&self, at: &Check<'_>) {
        let needs_identity = [
            ("charge", !self.charge.is_empty()),
            ("scopes", !self.scopes.is_empty()),
            ("rate", self.rate.is_some()),
            ("identity", self.identity.is_some()),
        ];
        for (key, _) in needs_identity.into_iter().filter(|(_, is_given)| *is_given) {
            at.key(key).fault("has no effect on a public route: nobody is identified there");
        }
    }

    /// What this route matches, as points that no other route may match as well.
    fn points(&self) -> impl Iterator<Item = Point<'_>> {
        let any_host = self.hosts.is_empty().then_some(None);
        let hosts = self.hosts.iter().map(|host| Some(host.as_str())).chain(any_host);
        hosts.flat_map(move |host| {
            let any_method = self.methods.is_empty().then_some(None);
            let methods = self.methods.iter().map(|method| Some(method.as_str())).chain(any_method);
            methods.map(move |method| Point { host, path: &self.path, exact: &self.exact, method })
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Point<'a> {
    host: Option<&'a str>,
    path: &'a Option<String>,
    exact: &'a Option<String>,
    method: Option<&'a str>,
}

/// Names are unique, and no request fits two routes equally well.
pub(super) fn validate_together(routes: &[RouteConfig], at: &Check<'_>) {
    let mut names = HashMap::new();
    let mut points = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let at = at.item(index);
        let is_new = route.name.is_empty() || names.insert(&route.name, index).is_none();
        at.key("name").ensure(is_new, format_args!("there is a route `{}` already", route.name));
        let has_path = route.path.is_some() || route.exact.is_some();
        let taken = route.points().filter(|_| has_path).find_map(|point| points.insert(point, index));
        if let Some(earlier) = taken.filter(|earlier| *earlier != index) {
            at.fault(format_args!(
                "matches the same requests as route[{earlier}] (`{}`)",
                routes[earlier].name
            ));
        }
    }
}

fn validate_path(path: &str, at: &Check<'_>) {
    let is_target = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    at.ensure(path.starts_with('/'), "must start with `/`");
    at.ensure(path.bytes().all(is_target), "expected a path as it is sent: no `?`, `#`, space or non-ASCII");
}

/// A scope-token of RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

fn validate_kinds(kinds: &[IdentityKind], at: &Check<'_>, around: Surroundings<'_>) {
    at.ensure(
        !kinds.is_empty(),
        "must name at least one of `api_key`, `jwt`, `certificate`; or is it `public`?",
    );
    at.distinct(kinds);
    let has_jwt = !around.identity.jwt.is_empty() || !kinds.contains(&IdentityKind::Jwt);
    at.ensure(has_jwt, "names `jwt`, but there is no `[[identity.jwt]]`");
    let has_ca = around.has_client_ca || !kinds.contains(&IdentityKind::Certificate);
    at.ensure(has_ca, "names `certificate`, but there is no `listen.tls.client_ca` to vouch for one");
}

// === impl ChargeUnits ===

impl ChargeUnits {
    fn validate(&self, at: &Check<'_>) {
        match self {
            ChargeUnits::Fixed(units) => at.ensure(!units.is_zero(), "must be at least 1"),
            ChargeUnits::Header { max, .. } => {
                at.ensure(
                    !max.is_zero(),
                    "needs `max`, the units that are reserved until the header is known, for example { header = \"x-usage-units\", max = 4000 }",
                );
            }
            ChargeUnits::RequestBytes | ChargeUnits::ResponseBytes => {}
        }
    }
}

/// The written form of a charge by header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderUnits {
    #[serde(with = "One::<HeaderName>")]
    header: HeaderName,
    #[serde(default)]
    max: Units,
}

struct ChargeVisitor;

impl<'de> Deserialize<'de> for ChargeUnits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChargeVisitor)
    }
}

impl<'de> Visitor<'de> for ChargeVisitor {
    type Value = ChargeUnits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("units: an integer, \"request_bytes\", \"response_bytes\" or { header, max }")
    }

    fn visit_u64<E: de::Error>(self, units: u64) -> Result<ChargeUnits, E> {
        Units::new(units).map(ChargeUnits::Fixed).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ChargeUnits, E> {
        match text {
            "request_bytes" => Ok(ChargeUnits::RequestBytes),
            "response_bytes" => Ok(ChargeUnits::ResponseBytes),
            // A reference (`env:NAME`) may hold the integer.
            other => match other.parse() {
                Ok(units) => self.visit_u64(units),
                Err(_) => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
            },
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ChargeUnits, A::Error> {
        let HeaderUnits { header, max } =
            Deserialize::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(ChargeUnits::Header { header, max })
    }
}

impl Serialize for ChargeUnits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ChargeUnits::Fixed(units) => units.serialize(serializer),
            ChargeUnits::RequestBytes => serializer.serialize_str("request_bytes"),
            ChargeUnits::ResponseBytes => serializer.serialize_str("response_bytes"),
            ChargeUnits::Header { header, max } => {
                HeaderUnits { header: header.clone(), max: *max }.serialize(serializer)
            }
        }
    }
}

impl JsonSchema for ChargeUnits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChargeUnits".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let header = generator.subschema_for::<One<HeaderName>>();
        let units = json_schema!({ "type": "integer", "minimum": 1, "maximum": Units::MAX.get() });
        json_schema!({
            "description": "Units of one charge: the same for each request, the bytes of a body, or what the upstream says in a header of its answer (`max` is reserved until then).",
            "anyOf": [
                units,
                { "enum": ["request_bytes", "response_bytes"] },
                {
                    "type": "object",
                    "properties": { "header": header, "max": units },
                    "required": ["header", "max"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

// === impl RateConfig ===

impl Default for RateConfig {
    fn default() -> Self {
        RateConfig { per: RatePer::Key, requests: 0, window: Duration::from_secs(1), burst: None }
    }
}

impl RateConfig {
    fn validate(&self, at: &Check<'_>) {
        at.key("requests")
            .ensure(self.requests > 0, "is missing: how many requests per `window`, at least 1");
        at.key("window").positive(self.window);
        at.key("burst").ensure(self.burst != Some(0), "must be at least 1");
    }
}
