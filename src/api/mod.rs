//! The REST API of the control plane: HTTP in, one [`control`](crate::control) operation, JSON out.
//!
//! [`router()`] holds the whole API on one page. Knows no gateway, no SQL and no rule of its own: who may do what and
//! what is valid is said in `control`, so the console and the command line can't differ from it. Paths, bodies and
//! the `type` of each refusal are a contract; their forms are the view types of each resource's file and not the
//! types of `control`, which may change.

mod alerts;
mod analytics;
mod apply;
mod archives;
mod audit_logs;
mod billing_events;
mod billing_news;
mod bulk;
mod channels;
mod client;
mod error;
mod export;
mod extract;
mod gauges;
mod health;
mod idempotency;
mod invoices;
mod keys;
mod local;
mod members;
mod oidc;
mod openapi;
mod quotas;
mod reconcile;
mod reported;
mod reports;
mod router;
mod seal;
mod sessions;
mod settings;
mod spend_caps;
mod tag;
mod tenants;
mod tiers;
mod usage_logs;
mod users;

pub use client::{Answer, Client, ClientError, Method};
pub use local::{LocalDoor, LocalToken};
pub use router::{document, router};

#[cfg(test)]
mod tests;
