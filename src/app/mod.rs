//! The composition root: the only place that knows every room.
//!
//! It turns the configuration into each room's settings, builds the rooms from the bottom up, starts the workers and
//! the named tasks, and owns the order in which all of it ends. It decides nothing about requests.

mod alerts;
mod authority;
mod billing;
mod bulk;
mod demo;
mod echo;
mod memory;
mod metrics;
mod reload;
mod running;
mod settings;
mod sightings;
mod sockets;
mod start;
mod tasks;

pub use demo::{Demo, DemoError, demo};
pub use running::{Running, serve};
pub use settings::{
    BadAttesting, attesting, billing as billing_settings, channels as channel_settings, peppers,
    redis as redis_settings, store as store_settings, store_url, tls as tls_settings,
    watch as watch_settings,
};
pub use start::{StartError, Started};
