//! What takes its time: many rounds, many clients, figures of how long things take.

mod billing;
mod bulk;
mod console;
mod fleet;
mod flood;
mod instructions;
mod restore;
mod revocation;
mod scale;
mod schema;
