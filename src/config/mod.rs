//! What the operator wrote, as typed sections; or everything that is wrong with it, in one report.
//!
//! The keys of the file are a public contract: each is a field of one struct per section, and the JSON Schema is
//! generated from the same structs. Reading goes `text → tree → sections → validation`: the tree knows where each
//! key stands, so a fault names file, line, column and key whether the grammar, a type or a rule is broken.
//!
//! Knows no other room but `domain`, and no I/O but reading the file and what its values refer to (`env:NAME`,
//! `file:PATH`); this is the only room that reads the environment. Nothing below `app` sees these types: each room
//! takes its own small settings.

mod root;

mod alerts;
mod authority;
mod billing;
mod control;
mod data;
mod headers;
mod identity;
mod journal;
mod listen;
mod route;
mod store;
mod telemetry;
mod upstream;

mod secret;
mod text;

mod check;
mod fault;
mod outside;
mod read;
mod schema;
mod tree;

#[cfg(test)]
mod tests;

pub use alerts::{AlertsConfig, SmtpConfig, SmtpSecurity, TenantHealthConfig};
pub use authority::{AuthorityConfig, AuthorityUrl, RedisForm, RedisUrl};
pub use billing::{
    BillingConfig, BillingExportConfig, CollectorConfig, OnEndConfig, ProrationConfig, RoundingConfig,
};
pub use control::{AuditConfig, ControlConfig, GroupRoleConfig, OidcConfig, SecretKeyConfig, SessionsConfig};
pub use data::DataConfig;
pub use fault::{Fault, Faults, Position};
pub use headers::{Dialect, HeadersConfig, SignConfig};
pub use identity::{
    ApiKeyConfig, IdentityConfig, IdentityKind, JwksSource, JwtAlgorithm, JwtConfig, PepperConfig,
};
pub use journal::{Detail, JournalConfig, JournalSync, OnFull};
pub use listen::{
    CertificateConfig, ClientCertificate, LimitsConfig, ListenConfig, ProxyProtocol, TlsConfig, TrustConfig,
};
pub use root::{Config, Loaded, Source};
pub use route::{ChargeOn, ChargeUnits, RateConfig, RatePer, RouteConfig};
pub use schema::schema;
pub use secret::Secret;
pub use store::{StoreConfig, StoreUrl};
pub use telemetry::{LogFormat, TelemetryConfig};
pub use text::{HeaderName, HostPattern, Method};
pub use upstream::{
    Balance, BreakerConfig, EndpointConfig, HealthConfig, PoolConfig, RetryConfig, Scheme, TimeoutsConfig,
    UpstreamConfig, UpstreamTlsConfig, UpstreamUrl,
};
