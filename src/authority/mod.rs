//! Who grants units: one behaviour, several homes. Knows tills only by their messages, except the embedded one,
//! which lives in the same process.

mod admission;
mod embedded;
pub mod finding;
mod meters;
mod postgres;
pub mod redis;
mod refiller;

pub use self::redis::Redis;
pub use admission::{Admission, AdmissionSettings, Short, Source};
pub use embedded::Embedded;
pub use meters::AuthorityMeters;
pub use postgres::Postgres;
pub use refiller::{RefillParts, RefillTask, Refiller};
