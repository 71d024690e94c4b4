//! The whole configuration, and the way to it.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alerts::AlertsConfig;
use super::authority::{AuthorityConfig, AuthorityUrl};
use super::billing::BillingConfig;
use super::check::{Check, Ledger};
use super::control::ControlConfig;
use super::data::DataConfig;
use super::fault::Faults;
use super::headers::HeadersConfig;
use super::identity::IdentityConfig;
use super::journal::JournalConfig;
use super::listen::ListenConfig;
use super::outside::{Outside, environment};
use super::read::{Reading, read};
use super::route::{self, RouteConfig, Surroundings};
use super::store::StoreConfig;
use super::telemetry::TelemetryConfig;
use super::tree::{Node, Offsets};
use super::upstream::UpstreamConfig;

/// What a gateway is told: `tollgate.toml`, section by section.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: ListenConfig,
    pub store: StoreConfig,
    pub authority: AuthorityConfig,
    pub data: DataConfig,
    pub journal: JournalConfig,
    pub identity: IdentityConfig,
    /// Services behind the gate.
    #[serde(rename = "upstream")]
    pub upstreams: Vec<UpstreamConfig>,
    /// Which requests go where, and what they cost.
    #[serde(rename = "route")]
    pub routes: Vec<RouteConfig>,
    pub headers: HeadersConfig,
    pub control: ControlConfig,
    pub alerts: AlertsConfig,
    pub billing: BillingConfig,
    pub telemetry: TelemetryConfig,
}

/// A configuration without faults, and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    pub config: Config,
    pub source: Source,
}

/// Where a configuration came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    File(PathBuf),
    /// Those of `config/tollgate.toml`, which is built in.
    Defaults,
}

// === impl Config ===

impl Config {
    /// The file that is looked for in the working directory when none is named.
    pub const FILE: &str = "tollgate.toml";

    const BUILT_IN: &str = include_str!("../../config/tollgate.toml");

    /// A larger file is no configuration.
    const FILE_BYTES_MAX: u64 = 4 << 20;

    /// Reads the file at `path`; without one, `tollgate.toml` in the working directory; without that, the
    /// built-in defaults. Paths inside the file are relative to the working directory as well. Resolves
    /// `env:NAME` and `file:PATH`.
    ///
    /// # Errors
    /// [`Faults`]: everything that is wrong with the file, at once.
    pub fn load(path: Option<&Path>) -> Result<Loaded, Faults> {
        match path.or_else(|| Some(Path::new(Config::FILE)).filter(|path| path.exists())) {
            Some(path) => {
                let config = Config::parse(&read_text(path)?, path)?;
                Ok(Loaded { config, source: Source::File(path.to_owned()) })
            }
            None => {
                let config = Config::parse(Config::BUILT_IN, Path::new("config/tollgate.toml"))?;
                Ok(Loaded { config, source: Source::Defaults })
            }
        }
    }

    /// Reads `text`; `file` is what faults call it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Config, Faults> {
        Config::parse_with(text, file, &Outside::new(&environment))
    }

    pub(super) fn parse_with(text: &str, file: &Path, outside: &Outside<'_>) -> Result<Config, Faults> {
        let root = match Node::parse(text) {
            Ok(root) => root,
            Err(finding) => {
                return Faults::of(vec![finding], text, file).map_or_else(|| Ok(Config::default()), Err);
            }
        };
        let Reading { value, mut findings, cut } = read::<Config>(&root, outside);
        let config = value.unwrap_or_default();
        if !cut.contains("") {
            let offsets = Offsets::of(&root);
            let ledger = Ledger::new(&offsets, &cut);
            config.validate(&ledger.root());
            findings.extend(ledger.into_findings());
        }
        Faults::of(findings, text, file).map_or(Ok(config), Err)
    }

    fn validate(&self, at: &Check<'_>) {
        self.listen.validate(&at.key("listen"));
        self.store.validate(&at.key("store"));
        self.authority.validate(&at.key("authority"));
        self.data.validate(&at.key("data"));
        self.journal.validate(&at.key("journal"));
        self.identity.validate(&at.key("identity"));
        self.validate_upstreams(&at.key("upstream"));
        self.validate_routes(&at.key("route"));
        self.headers.validate(&at.key("headers"));
        self.control.validate(&at.key("control"));
        self.alerts.validate(&at.key("alerts"));
        self.billing.validate(&at.key("billing"));
        self.telemetry.validate(&at.key("telemetry"));
        at.key("authority").key("url").ensure(
            self.authority.url != AuthorityUrl::Store || self.store.url.is_postgres(),
            "`store` needs a `store.url` of Postgres: SQLite serves one gateway, for which `embedded` is exact",
        );
        at.key("identity").key("api_key").key("pepper").ensure(
            self.authority.url == AuthorityUrl::Embedded || self.identity.api_key.pepper.is_some(),
            "is missing: the gateways of a fleet must share one, or each would refuse the others' keys",
        );
    }

    fn validate_upstreams(&self, at: &Check<'_>) {
        for (index, upstream) in self.upstreams.iter().enumerate() {
            let at = at.item(index);
            upstream.validate(&at);
            let mut earlier = self.upstreams[..index].iter();
            let is_repeated = !upstream.name.is_empty() && earlier.any(|other| other.name == upstream.name);
            at.key("name")
                .ensure(!is_repeated, format_args!("there is an upstream `{}` already", upstream.name));
        }
    }

    fn validate_routes(&self, at: &Check<'_>) {
        let has_client_ca = self.listen.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let around = Surroundings { upstreams: &self.upstreams, identity: &self.identity, has_client_ca };
        for (index, route) in self.routes.iter().enumerate() {
            route.validate(&at.item(index), around);
        }
        route::validate_together(&self.routes, at);
    }
}

fn read_text(path: &Path) -> Result<String, Faults> {
    use std::io::Read as _;
    let mut text = String::new();
    let reading = std::fs::File::open(path)
        .and_then(|file| file.take(Config::FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match reading {
        Err(error) => Err(Faults::of_file(path, format_args!("can't be read: {error}"))),
        Ok(bytes) if bytes as u64 > Config::FILE_BYTES_MAX => {
            Err(Faults::of_file(path, "is larger than 4 MiB, so it is no configuration"))
        }
        Ok(_) => Ok(text),
    }
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Defaults => f.write_str("built-in defaults (config/tollgate.toml)"),
        }
    }
}
