//! One integration binary: black-box tests over loopback, against real processes and real servers.

#[allow(dead_code, unused_imports, reason = "each file of tests uses its part of the instruments")]
mod support;

mod config;
mod crash;
mod demo;
mod gateway;
mod harness;
mod metrics;
mod tidy;
mod windows;
