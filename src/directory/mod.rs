//! What the gateway knows about keys and tenants: cached, told of changes, and never more than a moment behind.
//!
//! The two planes meet here. The control plane writes to the store and notes what it changed; this room reads the
//! notes, forgets what they name, and compiles it anew when it is next asked for. The data plane asks with the
//! digest of a key, or the tenant that a token names, and gets [`Entitlements`]: an immutable view with handles to
//! the till's slots, so that a request looks up one caller and then touches only atomics.
//!
//! Nothing is loaded in advance: a million tenants cost nothing until they call.

mod cache;
mod entitlements;
mod refresh;
mod renewal;

pub use cache::{Directory, DirectorySettings, Lookup, LookupFailed, Subject};
pub use entitlements::{Entitled, Entitlements};
pub use refresh::Refresh;
