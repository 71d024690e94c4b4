//! The atomics of a slot. The interleaving test puts loom's in their place.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
