//! The till: the gateway's own memory of what it was granted and what it spent, in a mapped file of atomics.
//!
//! A request is admitted by one compare-and-swap on this memory: no network, no system call, no lock, no heap.
//! Who grants units is asked only when the till runs low ([`refill`], [`Authority`]). The file outlives the
//! process: after `kill -9` the kernel still has the pages, and the next process goes on with the same balances.
//!
//! The room knows no runtime, no store and no wall clock: time and answers come in as arguments.
//!
//! # Why nothing can be admitted twice
//! 1. In each slot the balance is read and reduced by one compare-and-swap on a counter that only rises.
//! 2. The granted units of a slot are only ever copied from an authority's answer, which has committed them first.
//! 3. The authority commits only while the sum stays within the limit.
//!
//! So the units spent are never more than the limit, whatever is lost, repeated, reordered or killed.
//!
//! # Why all counters only rise
//! A message, a page or a retry that shows an older state is then recognized by its numbers: the larger one is the
//! newer one. Units that come back raise a counter of their own.

mod atomic;
mod file;
mod key;
pub mod protocol;
pub mod rate;
pub mod refill;
mod reserve;
mod slot;
pub mod supply;
mod table;

pub use file::{BootId, LostTill, TillError, TillId};
pub use protocol::{Authority, Terms};
pub use rate::{Rate, RateLimits, source};
pub use reserve::{Charge, Dry, Reservation, WhenDry, reserve};
pub use slot::Counters;
pub use table::{Account, NotHeld, Opening, Till, TillFull, TillSettings};

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
