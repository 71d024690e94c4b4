//! The data plane: a request's walk from its head to its settlement.
//!
//! `Request → &Route → Caller → Charges → Reservation → Outcome → UsageRecord → Response`. Each arrow is a door with
//! a file of its own, and each type carries proof: only [`identity`] makes a `Caller`, only `admission` makes a
//! `Passage`, and forwarding to a tenant's route needs both.
//!
//! Knows no SQL, no Redis, no store, no control plane. It sees tenants only through `directory`, units only through
//! `till`, and writes only to `journal`.

mod admission;
mod authorize;
mod connection;
mod forward;
mod forwarded;
mod grace;
mod handle;
mod headers;
mod identity;
mod meters;
mod passage;
mod policy;
mod pressure;
mod random;
mod refusal;
mod regulars;
mod route;
mod sightings;
mod strangers;
mod streams;
mod tokens;
mod tunnel;
mod upstream;

pub use handle::{Gateway, GatewayLimits, GatewayShared};
pub use headers::{Dialect, HeaderSettings};
pub use identity::{IdentityKinds, IdentitySettings};
pub use meters::GatewayMetrics;
pub use policy::{ChargeSettings, UnitsOf};
pub use pressure::{MemoryPressure, MemoryStanding};
pub use route::{BadRoutes, ChargeOn, RatePer, RouteRate, RouteSettings, Table, TableSettings};
pub use sightings::SightingsShared;
pub use strangers::Strangers;
pub use tokens::{BadIssuer, IssuerSettings, KeySource, Rejected, Tokens, Verified};
pub use upstream::{
    BadUpstream, BadUpstreamTls, Balance, BreakerSettings, CapSettings, EndpointSettings, HealthSettings,
    Protocol, RetrySettings, UpstreamKeeper, UpstreamSettings, UpstreamTimeouts, UpstreamTlsSettings,
};
