//! From the configuration's sections to each room's own settings. The configuration's types stop here.

use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::start::StartError;
use crate::authority::AdmissionSettings;
use crate::authority::redis::{Address, RedisSettings, Servers, Tls};
use crate::collector::CollectorSettings;
use crate::config::{
    self, ApiKeyConfig, AuditConfig, ChargeUnits, Config, ControlConfig, RouteConfig, Secret, SessionsConfig,
};
use crate::control::{
    Attesting, BillingSettings, ChannelSettings, CheckpointFile, Granted, GroupGrant, NewsSettings,
    OidcSettings, OnEnd, SessionSettings, TenantHealthSettings, WatchSettings,
};
use crate::courier::{CourierSettings, MailSecurity, MailSettings};
use crate::directory::DirectorySettings;
use crate::domain::Role;
use crate::domain::billing::{CollectorKind, Proration, Rounding};
use crate::exporter::ExporterSettings;
use crate::flush::{Detail, FlushSettings};
use crate::gateway::{
    Balance, BreakerSettings, CapSettings, ChargeOn, ChargeSettings, Dialect, EndpointSettings,
    GatewayLimits, HeaderSettings, HealthSettings, IdentityKinds, IdentitySettings, IssuerSettings,
    KeySource, Protocol, RatePer, RetrySettings, RouteRate, RouteSettings, TableSettings, UnitsOf,
    UpstreamSettings, UpstreamTimeouts, UpstreamTlsSettings,
};
use crate::journal::{JournalSettings, OnFull, SyncPolicy};
use crate::listener::http1::{HeadLimits, LINES_MAX};
use crate::listener::{CertificateSettings, ProxyProtocol, TlsSettings};
use crate::secret::ed25519::{BadSigningKey, PublicKey, SigningKey};
use crate::secret::hash::{Pepper, PepperError, Peppers};
use crate::secret::jwt::{Algorithm, Claim, Rules};
use crate::secret::seal::{KeyRing, RingError};
use crate::secret::sign::Signer;
use crate::store::{GrantSettings, StoreSettings, StoreUrl};
use crate::till::supply::SupplySettings;
use crate::till::{Rate, TillSettings};

/// Keys, and tenants of tokens, that are cached. At about 1 KiB each this bounds the cache at 100 MiB.
const SUBJECTS_MAX: u64 = 100_000;

/// The address of the store.
pub fn store_url(url: &config::StoreUrl) -> StoreUrl {
    match url {
        config::StoreUrl::Sqlite(path) => StoreUrl::Sqlite(path.clone()),
        config::StoreUrl::Postgres(url) => StoreUrl::Postgres(url.expose().to_owned()),
    }
}

/// How the store is opened.
pub fn store(config: &config::StoreConfig) -> StoreSettings {
    StoreSettings {
        url: store_url(&config.url),
        connections: config.connections,
        connection_wait: config.timeout,
        statement_timeout: config.statement_timeout,
        lock_timeout: config.lock_timeout,
    }
}

pub(super) fn till(config: &Config) -> TillSettings {
    TillSettings { accounts_max: config.data.accounts_max }
}

pub(super) fn journal(config: &Config) -> JournalSettings {
    let sync = match config.journal.sync {
        config::JournalSync::Every(interval) => SyncPolicy::Every(interval),
        config::JournalSync::Always => SyncPolicy::Always,
        config::JournalSync::Never => SyncPolicy::Never,
    };
    let defaults = JournalSettings::default();
    // A segment holds what may be in flight twice over: small segments, as in tests, mean less in flight.
    let in_flight_max = usize::try_from(config.journal.segment_bytes / 4096).unwrap_or(usize::MAX);
    JournalSettings {
        segment_bytes: config.journal.segment_bytes,
        sync,
        in_flight_max: in_flight_max.min(defaults.in_flight_max),
        capacity_bytes: config.journal.capacity_bytes,
        on_full: match config.journal.on_full {
            config::OnFull::Block => OnFull::Block,
            config::OnFull::CountOnly => OnFull::CountOnly,
        },
    }
}

pub(super) fn flush(config: &Config) -> FlushSettings {
    let detail = match config.journal.detail {
        config::Detail::Aggregate => Detail::Aggregate,
        config::Detail::Request => Detail::Request,
    };
    FlushSettings { interval: config.journal.flush, detail, ..FlushSettings::default() }
}

pub(super) fn directory(config: &Config) -> DirectorySettings {
    DirectorySettings {
        subjects_max: SUBJECTS_MAX,
        header_prefix: config.headers.tenant_prefix.as_str().to_owned(),
        is_alone: config.authority.url == config::AuthorityUrl::Embedded,
        on_loss: config.authority.on_loss,
    }
}

pub(super) fn admission(config: &Config) -> AdmissionSettings {
    AdmissionSettings {
        timeout: config.authority.timeout,
        open_percent: config.authority.open_percent,
        fleet_size: config.authority.fleet_size,
    }
}

/// How Redis is reached.
///
/// # Errors
/// [`StartError::Authority`] when the certificates can't be read.
pub fn redis(url: &config::RedisUrl, config: &Config) -> Result<RedisSettings, StartError> {
    let address = |(host, port): &(String, u16)| Address::new(host.clone(), *port);
    let nodes: Vec<Address> = url.nodes.iter().map(address).collect();
    let servers = match (&url.form, nodes.as_slice()) {
        (config::RedisForm::Single, [first, ..]) => Servers::Single(first.clone()),
        (config::RedisForm::Sentinel { master }, _) => {
            Servers::Sentinel { sentinels: nodes, master: master.clone() }
        }
        (config::RedisForm::Single | config::RedisForm::Cluster, _) => Servers::Cluster(nodes),
    };
    let unread = |path: &Path, error: io::Error| {
        StartError::Authority(vec![format!("authority.ca: {} can't be read: {error}", path.display())])
    };
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| unread(path, error));
    let roots = config.authority.ca.as_ref().map(read).transpose()?;
    Ok(RedisSettings {
        tls: url.tls.then_some(Tls { roots }),
        user: url.username.clone(),
        password: url.password.as_ref().map(|password| password.expose().to_owned()),
        database: url.database,
        prefix: config.authority.prefix.clone(),
        timeout: config.authority.timeout,
        wait_replicas: config.authority.wait_replicas,
        ..RedisSettings::new(servers)
    })
}

pub(super) fn grants(config: &Config) -> GrantSettings {
    GrantSettings { timeout: config.authority.timeout, ..GrantSettings::default() }
}

pub(super) fn supply(config: &Config) -> SupplySettings {
    SupplySettings { timeout: config.authority.timeout * 2, recall_wait: config.authority.recall_wait }
}

pub(super) fn identity(config: &Config) -> IdentitySettings {
    let ApiKeyConfig { headers, imported, .. } = &config.identity.api_key;
    let headers = headers.iter().map(|name| name.as_str().to_owned()).collect();
    IdentitySettings { headers, imported_keys: *imported, suspend_grace: config.identity.suspend_grace }
}

pub(super) fn issuers(config: &Config) -> Vec<IssuerSettings> {
    config.identity.jwt.iter().map(issuer).collect()
}

fn issuer(jwt: &config::JwtConfig) -> IssuerSettings {
    let keys = match (&jwt.secret, &jwt.jwks) {
        (Some(secret), _) => KeySource::Secret(secret.expose().as_bytes().to_vec()),
        (None, Some(config::JwksSource::Url(url))) => KeySource::Url(url.clone()),
        (None, Some(config::JwksSource::File(path))) => KeySource::File(path.clone()),
        (None, None) => KeySource::Discovery,
    };
    IssuerSettings {
        rules: Rules {
            issuer: jwt.issuer.clone(),
            audiences: jwt.audiences.clone(),
            leeway: jwt.leeway,
            tenant: Claim::new(&jwt.tenant_claim),
            subject: Claim::new(&jwt.subject_claim),
            scopes: Claim::new(&jwt.scope_claim),
            tier: jwt.tier_claim.as_deref().map(Claim::new),
        },
        algorithms: jwt.algorithms.iter().map(|algorithm| algorithm_of(*algorithm)).collect(),
        keys,
        ca: jwt.ca.clone(),
        passes_on: jwt.forward,
    }
}

const fn algorithm_of(algorithm: config::JwtAlgorithm) -> Algorithm {
    match algorithm {
        config::JwtAlgorithm::RS256 => Algorithm::RS256,
        config::JwtAlgorithm::RS384 => Algorithm::RS384,
        config::JwtAlgorithm::RS512 => Algorithm::RS512,
        config::JwtAlgorithm::PS256 => Algorithm::PS256,
        config::JwtAlgorithm::PS384 => Algorithm::PS384,
        config::JwtAlgorithm::PS512 => Algorithm::PS512,
        config::JwtAlgorithm::ES256 => Algorithm::ES256,
        config::JwtAlgorithm::ES384 => Algorithm::ES384,
        config::JwtAlgorithm::ES512 => Algorithm::ES512,
        config::JwtAlgorithm::EdDSA => Algorithm::EdDSA,
        config::JwtAlgorithm::HS256 => Algorithm::HS256,
        config::JwtAlgorithm::HS384 => Algorithm::HS384,
        config::JwtAlgorithm::HS512 => Algorithm::HS512,
    }
}

fn identities(route: &RouteConfig, config: &Config) -> IdentityKinds {
    let looked_for = route.identity.as_ref().unwrap_or(&config.identity.order);
    IdentityKinds {
        api_key: looked_for.contains(&config::IdentityKind::ApiKey),
        jwt: looked_for.contains(&config::IdentityKind::Jwt),
        certificate: looked_for.contains(&config::IdentityKind::Certificate),
    }
}

pub(super) fn headers(config: &Config) -> Result<HeaderSettings, BadSigningKey> {
    let dialects = config.headers.dialects.iter().map(|dialect| match dialect {
        config::Dialect::Draft10 => Dialect::Draft10,
        config::Dialect::Legacy => Dialect::Legacy,
    });
    let sign = config.headers.sign.as_ref();
    let signer = sign.map(|sign| Signer::new(sign.key.expose(), sign.lifetime)).transpose()?;
    Ok(HeaderSettings {
        tenant_prefix: config.headers.tenant_prefix.as_str().to_owned(),
        dialects: dialects.collect(),
        trusted: config.listen.trust.proxies.clone(),
        signer: signer.map(Arc::new),
    })
}

pub(super) fn limits(config: &Config) -> GatewayLimits {
    let limits = &config.listen.limits;
    GatewayLimits {
        head: HeadLimits {
            bytes: usize::try_from(limits.header_bytes).unwrap_or(usize::MAX),
            target_bytes: usize::try_from(limits.target_bytes).unwrap_or(usize::MAX),
            lines: limits.headers.min(LINES_MAX),
        },
        // 0 is how an operator says unlimited.
        body_bytes: if limits.body_bytes == 0 { u64::MAX } else { limits.body_bytes },
        head_time: limits.header_timeout,
        body_idle: limits.body_idle_timeout,
        write: limits.write_timeout,
        body_rate_min: limits.body_min_rate,
        idle: limits.idle_timeout,
    }
}

pub(super) fn proxy_protocol(config: &Config) -> ProxyProtocol {
    match config.listen.trust.proxy_protocol {
        config::ProxyProtocol::Off => ProxyProtocol::Off,
        config::ProxyProtocol::Optional => ProxyProtocol::Optional,
        config::ProxyProtocol::Required => ProxyProtocol::Required,
    }
}

/// `None` where no address speaks TLS.
pub fn tls(config: &Config) -> Option<TlsSettings> {
    let tls = config.listen.tls.as_ref()?;
    let certificates = tls.certificates.iter().map(|certificate| CertificateSettings {
        cert: certificate.cert.clone(),
        key: certificate.key.clone(),
        names: certificate.names.iter().map(|name| name.as_str().to_owned()).collect(),
    });
    Some(TlsSettings {
        certificates: certificates.collect(),
        client_ca: tls.client_ca.clone(),
        client_may_be_anonymous: tls.client_certificate == config::ClientCertificate::Optional,
    })
}

pub(super) fn table(config: &Config) -> TableSettings {
    let routes = config.routes.iter().zip(0..).map(|(settings, id)| route(settings, id, config));
    let upstreams = config.upstreams.iter().map(upstream);
    TableSettings { routes: routes.collect(), upstreams: upstreams.collect() }
}

fn upstream(config: &config::UpstreamConfig) -> UpstreamSettings {
    UpstreamSettings {
        name: config.name.clone(),
        endpoints: config.urls.iter().map(endpoint).collect(),
        balance: match config.balance {
            config::Balance::RoundRobin => Balance::RoundRobin,
            config::Balance::LeastRequest => Balance::LeastRequest,
            config::Balance::HashTenant => Balance::HashTenant,
        },
        health: health(&config.health),
        retry: retry(&config.retry),
        breaker: BreakerSettings {
            failures_percent: config.breaker.failures_percent,
            requests_min: config.breaker.requests_min,
            window: config.breaker.window,
            open_for: config.breaker.open_for,
        },
        caps: CapSettings {
            requests: config.pool.requests_max,
            requests_per_tenant: config.pool.requests_per_tenant_max,
        },
        tls: upstream_tls(&config.tls),
        timeouts: UpstreamTimeouts {
            connect: config.timeouts.connect,
            first_byte: config.timeouts.first_byte,
            idle: config.timeouts.idle,
        },
        idle_per_worker_max: config.pool.idle_max,
        idle_for: config.pool.idle_timeout,
        look_up_interval: config.dns.interval,
    }
}

fn health(config: &config::HealthConfig) -> HealthSettings {
    HealthSettings {
        path: config.path.clone(),
        host: config.host.clone(),
        statuses: config.statuses.clone(),
        interval: config.interval,
        timeout: config.timeout,
        healthy_after: config.healthy_after,
        unhealthy_after: config.unhealthy_after,
        eject_after: config.eject_after,
        eject_for: config.eject_for,
        eject_percent_max: config.eject_percent_max,
    }
}

fn retry(config: &config::RetryConfig) -> RetrySettings {
    RetrySettings {
        attempts: config.attempts,
        budget_percent: config.budget_percent,
        body_bytes: usize::try_from(config.body_bytes).unwrap_or(usize::MAX),
        statuses: config.statuses.clone(),
        try_timeout: config.try_timeout,
    }
}

fn endpoint(config: &config::EndpointConfig) -> EndpointSettings {
    EndpointSettings {
        host: config.url.host.clone(),
        port: config.url.port,
        protocol: match config.url.scheme {
            config::Scheme::Http => Protocol::Http,
            config::Scheme::H2c => Protocol::H2c,
            config::Scheme::Https => Protocol::Https,
        },
        weight: config.weight,
    }
}

fn upstream_tls(config: &config::UpstreamTlsConfig) -> UpstreamTlsSettings {
    let config::UpstreamTlsConfig { ca, cert, key, server_name } = config.clone();
    UpstreamTlsSettings { ca, identity: cert.zip(key), server_name }
}

fn route(route: &RouteConfig, id: u32, config: &Config) -> RouteSettings {
    let total = config.upstreams.iter().find(|upstream| upstream.name == route.upstream);
    let total = total.and_then(|upstream| upstream.timeouts.total);
    RouteSettings {
        name: route.name.clone(),
        hosts: route.hosts.iter().map(|host| host.as_str().to_owned()).collect(),
        path: route.exact.clone().or_else(|| route.path.clone()).unwrap_or_else(|| "/".to_owned()),
        exact: route.exact.is_some(),
        methods: route.methods.iter().map(|method| method.as_str().to_owned()).collect(),
        upstream: route.upstream.clone(),
        charges: charges(route),
        on: match route.on {
            config::ChargeOn::Admit => ChargeOn::Admit,
            config::ChargeOn::Success => ChargeOn::Success,
        },
        public: route.public,
        identities: identities(route, config),
        scopes: route.scopes.clone(),
        rate: route.rate.as_ref().map(|limit| rate(limit, id)),
        strip_prefix: route.strip_prefix.clone(),
        timeout: route.timeout.or(total),
    }
}

fn charges(route: &RouteConfig) -> Vec<ChargeSettings> {
    let units = |units: &ChargeUnits| match units {
        ChargeUnits::Fixed(units) => UnitsOf::Fixed(*units),
        ChargeUnits::RequestBytes => UnitsOf::RequestBytes,
        ChargeUnits::ResponseBytes => UnitsOf::ResponseBytes,
        ChargeUnits::Header { header, max } => {
            UnitsOf::Header { name: header.as_str().to_owned(), max: *max }
        }
    };
    route
        .charge
        .iter()
        .map(|(resource, of)| ChargeSettings { resource: *resource, units: units(of) })
        .collect()
}

fn rate(limit: &config::RateConfig, id: u32) -> RouteRate {
    let requests = NonZeroU32::new(limit.requests).unwrap_or(NonZeroU32::MIN);
    let burst = limit.burst.and_then(NonZeroU32::new).unwrap_or(requests);
    RouteRate {
        per: match limit.per {
            config::RatePer::Key => RatePer::Key,
            config::RatePer::Tenant => RatePer::Tenant,
        },
        rate: Rate { id, requests, window: limit.window, burst },
    }
}

/// The provider that people log in at, if there is one.
pub(super) fn oidc(config: &ControlConfig) -> Option<OidcSettings> {
    let (oidc, url) = (config.oidc.as_ref()?, config.url.as_ref()?);
    Some(OidcSettings {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret: oidc.client_secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec()),
        scopes: oidc.scopes.clone(),
        groups: Claim::new(&oidc.groups_claim),
        algorithms: oidc.algorithms.iter().map(|algorithm| algorithm_of(*algorithm)).collect(),
        grants: oidc.roles.iter().filter_map(group_grant).collect(),
        is_multi_factor: oidc.multi_factor,
        ca: oidc.ca.clone(),
        redirect_url: format!("{url}/api/sessions/oidc/callback"),
    })
}

/// Validation has seen to it that there is one.
fn group_grant(role: &config::GroupRoleConfig) -> Option<GroupGrant> {
    let to = match &role.tenant {
        None => Granted::AtPlatform(Role::parse(&role.role)?),
        Some(tenant) => Granted::In(tenant.parse().ok()?, role.role.parse().ok()?),
    };
    Some(GroupGrant { group: role.group.clone(), to })
}

/// How long people stay logged in, how their cookies travel, and which proxies are believed.
pub(super) fn sessions(config: &Config) -> SessionSettings {
    let SessionsConfig { idle, absolute } = config.control.sessions;
    let is_secure = config.control.url.as_ref().is_some_and(|url| url.starts_with("https://"));
    SessionSettings { idle, absolute, is_secure, proxies: config.listen.trust.proxies.clone() }
}

/// What tenants' channels may be.
pub fn channels(config: &config::AlertsConfig) -> ChannelSettings {
    ChannelSettings {
        allow_http: config.allow_http,
        networks: config.networks.clone(),
        has_mail: config.smtp.is_some(),
    }
}

/// What tenants are told of without having asked.
pub fn billing(config: &config::BillingConfig) -> BillingSettings {
    let proration = match config.proration {
        config::ProrationConfig::Day => Proration::Day,
        config::ProrationConfig::Second => Proration::Second,
    };
    let rounding = match config.rounding {
        config::RoundingConfig::HalfEven => Rounding::HalfEven,
        config::RoundingConfig::HalfUp => Rounding::HalfUp,
    };
    BillingSettings { grace: config.grace, proration, rounding }
}

/// Who collects what is owed.
pub(super) fn collector(config: &config::BillingExportConfig) -> CollectorSettings {
    CollectorSettings {
        kind: match config.kind {
            config::CollectorConfig::Stripe => CollectorKind::Stripe,
            config::CollectorConfig::Lago => CollectorKind::Lago,
        },
        url: config.url().to_owned(),
        secret: config.secret.expose().to_owned(),
        meters: config.meters.clone(),
        timeout: config.timeout,
        ca: config.ca.clone(),
    }
}

/// What is made of its messages.
pub(super) fn news(config: &config::BillingConfig, export: &config::BillingExportConfig) -> NewsSettings {
    NewsSettings {
        secrets: export.webhook_secrets.iter().map(|secret| secret.expose().to_owned()).collect(),
        tiers: export.tiers.clone(),
        on_end: match export.on_end {
            config::OnEndConfig::Suspend => OnEnd::Suspend,
            config::OnEndConfig::Cancel => OnEnd::Cancel,
            config::OnEndConfig::Keep => OnEnd::Keep,
        },
        grace: Duration::from_secs(u64::from(config.grace_days) * 86_400),
    }
}

/// When usage is brought there.
pub(super) const fn exporter(config: &config::BillingExportConfig) -> ExporterSettings {
    ExporterSettings { interval: config.interval, delay: config.delay }
}

pub fn watch(config: &config::AlertsConfig) -> WatchSettings {
    let config::TenantHealthConfig {
        quota_warning,
        quota_critical,
        errors_warning,
        errors_critical,
        denials_warning,
        requests_min,
    } = config.health;
    WatchSettings {
        thresholds: config.thresholds.clone(),
        interval: config.interval,
        slow_interval: config.slow_interval,
        audit_interval: config.audit_interval,
        health: TenantHealthSettings {
            quota_warning,
            quota_critical,
            errors_warning,
            errors_critical,
            denials_warning,
            requests_min,
        },
        refusals_min: config.refusals_min,
        surge_factor: config.surge_factor,
        surge_requests_min: config.surge_requests_min,
        bad_keys_min: config.bad_keys_min,
        forecast_interval: config.forecast_interval,
    }
}

pub(super) fn courier(config: &config::AlertsConfig) -> CourierSettings {
    let channels = channels(config);
    CourierSettings {
        interval: config.delivery_interval,
        retries: config.retries.clone(),
        timeout: config.timeout,
        plain: channels.plain(),
        reach: channels.reach(),
        ca: config.ca.clone(),
        mail: config.smtp.as_ref().map(mail),
    }
}

fn mail(config: &config::SmtpConfig) -> MailSettings {
    let credentials = config.username.clone().zip(config.password.as_ref());
    MailSettings {
        host: config.host.clone(),
        port: config.port(),
        security: match config.security {
            config::SmtpSecurity::Tls => MailSecurity::Tls,
            config::SmtpSecurity::Starttls => MailSecurity::StartTls,
            config::SmtpSecurity::None => MailSecurity::Plain,
        },
        credentials: credentials.map(|(user, password)| (user, password.expose().to_owned())),
        from: config.from.clone(),
        ca: config.ca.clone(),
    }
}

/// The configured peppers of keys; `None` if one is kept in the data directory.
///
/// # Errors
/// [`PepperError`], which a configuration that was validated never gives.
pub fn peppers(config: &ApiKeyConfig) -> Result<Option<Peppers>, PepperError> {
    let Some(current) = &config.pepper else { return Ok(None) };
    let parse = |version: u32, text: &Secret| Pepper::parse(version.into(), text.expose());
    let others = config.old_peppers.iter().chain(&config.next_pepper);
    let others = others.map(|other| parse(other.version, &other.pepper)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Peppers::new(parse(config.pepper_version, current)?, others)))
}

/// What tenants' secrets are sealed with: the configured keys, or else one that is kept in the data directory.
pub(super) fn key_ring(config: &ControlConfig, data: &Path) -> Result<KeyRing, RingError> {
    if config.secret_keys.is_empty() {
        return KeyRing::load_or_create(&data.join("secret.key"));
    }
    KeyRing::parse(config.secret_keys.iter().map(|key| (key.version.into(), key.key.expose())))
}

/// What attests the audit log; `holder` is the gateway that does so.
///
/// # Errors
/// [`BadAttesting`]
pub fn attesting(config: &AuditConfig, data: &Path, holder: Uuid) -> Result<Attesting, BadAttesting> {
    let key = match &config.key {
        Some(key) => SigningKey::parse(key.expose())?,
        None => SigningKey::load_or_create(&data.join("audit.key"))?,
    };
    let checkpoints = config.checkpoints.clone().unwrap_or_else(|| data.join("audit-checkpoints.ndjson"));
    Ok(Attesting {
        key,
        trusted: config.trusted_keys.iter().filter_map(|key| PublicKey::parse(key)).collect(),
        file: CheckpointFile::new(checkpoints),
        // One that misses two turns in a row is gone.
        kept_for: config.interval * 3,
        retention: Duration::from_secs(86_400 * u64::from(config.retention_days)),
        holder,
    })
}

/// The key that signs the audit log's checkpoints can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BadAttesting {
    #[error("control.audit.key can't be used")]
    Configured(#[from] BadSigningKey),
    #[error("the key of the audit log can't be had")]
    Kept(#[from] PepperError),
}
