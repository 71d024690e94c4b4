//! Tollgate: the reverse proxy that knows its tenants and enforces, to the unit, what each may use.

pub mod clock;
pub mod domain;
pub mod listener;
