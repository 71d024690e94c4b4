//! One integration binary: black-box tests over loopback, against real processes and real servers.

#[allow(dead_code, unused_imports, reason = "each file of tests uses its part of the instruments")]
mod support;

mod alerts;
mod archive;
mod authority;
mod billing;
mod billing_export;
mod browser;
mod calendar;
mod config;
mod control;
mod crash;
mod demo;
mod deploy;
mod doctor;
mod fleet;
mod gateway;
mod harness;
mod journal;
mod metrics;
mod people;
mod postgres;
mod redis;
mod resellers;
mod slow;
mod spend_caps;
mod store;
mod supply;
mod tidy;
mod windows;
