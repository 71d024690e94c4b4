//! Connections in: worker threads, accepting, buffers, deadlines, and the strict HTTP/1 lane.
//!
//! Knows sockets and bytes; knows nothing of tenants, routes or quotas. What a request is let to do is decided in
//! `gateway`, which is handed an [`Accepted`] connection and reads its heads through [`http1`].

mod alarm;
mod buffer;
pub mod http1;
mod worker;

pub use alarm::{Alarm, Alarms, Expired, TICK};
pub use buffer::{Buffer, Buffers, decimal};
pub use worker::{Accepted, Admittance, Phase, Seat, Service, WorkerParts, bind, spawn};
