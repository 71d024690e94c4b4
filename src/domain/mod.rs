//! Plain values: what the words of this system mean, and the arithmetic that belongs to them.
//!
//! Knows no I/O, no clock and no framework. Everything here can be built and compared in a test without a
//! server. The terms are the same in code, SQL, API, metrics and documentation.

mod alert;
mod amount;
mod audit;
pub mod billing;
mod bulk;
mod color;
pub mod forecast;
mod health;
mod key;
mod period;
mod quota;
mod report;
mod resource;
mod role;
mod session;
mod setting;
mod sighting;
mod tenant;
mod tier;
mod usage;
mod user;

pub use alert::{
    Alert, AlertId, AlertKind, AlertRule, Channel, ChannelId, ChannelKind, Delivery, DeliveryId,
    DeliveryState, RuleId, Severity,
};
pub use amount::{Limit, NotUnits, Units};
pub use audit::{Actor, ActorKind, AuditOutcome, AuditRow};
pub use bulk::{BulkAction, BulkFilter, BulkId, BulkItem, BulkItemState, BulkOperation, BulkState};
pub use color::Color;
pub use health::Health;
pub use key::{ApiKey, ApiKeyId, KeyLimits};
pub use period::{Anchor, Period, UnknownPeriod, Window, Zone};
pub use quota::{AccountKey, Enforcement, LossPolicy, NotAnAccount, Owner, Quota};
pub use report::{IdleKey, Oversized, Peak, TenantUse};
pub use resource::{BadResource, Resource, ResourceKind, ResourceNames, ResourceType, grouped, in_words};
pub use role::Role;
pub use session::{Session, SessionId};
pub use setting::{Holds, SECURITY_LEVELS, SETTINGS, SettingDefault, SettingKind, SettingSpec, upgrade_link};
pub use sighting::{KeySeen, Sightings, network_of};
pub use tenant::{IllegalMove, Slug, Tenant, TenantId, TenantRef, TenantStatus};
pub use tier::{Tier, TierQuota};
pub use usage::{Outcome, RecordedCharge, RequestId, UsageRecord};
pub use user::{Invitation, InvitationId, Membership, OwnRole, RoleName, User, UserId};
