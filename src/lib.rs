//! Tollgate: the reverse proxy that knows its tenants and enforces, to the unit, what each may use.
//!
//! It stands in front of HTTP APIs that exist already. It recognizes the tenant of each request by its API key, takes
//! the request's cost from the tenant's quotas in one atomic step, forwards it with headers that say who calls, and
//! keeps a durable record of what was used that agrees with the counters to the unit, whatever is killed when.
//!
//! # The house
//!
//! A room imports only from below; a test (`tests/it/tidy.rs`) holds it.
//!
//! | layer | rooms |
//! | --- | --- |
//! | 7 | `main`, [`cli`]: the command line |
//! | 6 | [`app`]: the composition root, which knows every room and decides nothing about requests |
//! | 5 | [`api`]: the REST API · [`console`]: the same for people, as pages · [`admin`]: metrics, health, readiness · [`web`]: what both doors read of a request alike |
//! | 4 | [`control`]: operations of administrators · [`gateway`]: the walk of a request · [`flush`]: journal to database, exactly once · [`courier`]: alerts to where tenants want them · [`exporter`]: usage to who collects what is owed |
//! | 3 | [`directory`]: what is known of keys and tenants, compiled and cached · [`outbox`]: sending what waits in one |
//! | 2 | [`store`]: the database · [`authority`]: who grants units · [`collector`]: Stripe and Lago, as they are spoken to |
//! | 1 | [`till`]: granted and spent units, in a mapped file of atomics · [`journal`]: records, in mapped files · [`listener`]: sockets, workers, strict HTTP/1 · [`secret`]: keys and peppers · [`outbound`]: questions to servers elsewhere · [`config`]: the configuration file |
//! | 0 | [`domain`]: plain values and calendar arithmetic · [`clock`]: time · [`telemetry`]: logs, readiness |
//!
//! # A request's way
//!
//! [`listener`] accepts it on a worker thread and parses its head; [`gateway`] finds the route, presents the key to
//! [`directory`], which hands out the caller's entitlements with handles to the till's slots; one compare-and-swap per
//! charge in [`till`] admits or denies it; [`journal`] is told before the upstream is, and again when the answer has
//! ended; [`flush`] brings the record to [`store`]. On the way no lock is taken, and no system call is made but two
//! reads and two writes.
//!
//! The control plane changes the store; the directory learns of it and compiles anew. The two planes meet in
//! `directory` (what is allowed), `till` (what was granted) and `journal` → `flush` → `store` (what was used).

pub mod admin;
pub mod api;
pub mod app;
pub mod authority;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod console;
pub mod control;
pub mod courier;
pub mod directory;
pub mod domain;
pub mod exporter;
pub mod flush;
pub mod gateway;
pub mod journal;
pub mod listener;
pub mod outbound;
pub mod outbox;
pub mod secret;
pub mod store;
pub mod telemetry;
pub mod till;
pub mod web;
