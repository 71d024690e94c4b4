//! What has to be true for Postgres to keep tenants apart, looked at before serving.
//!
//! Row-level security fails silently: a superuser, a role with BYPASSRLS and the owner of a table see all rows as if
//! there were no policies, and so does whoever reads a partition that has none of its own. Better not to start.

use super::sql::{Row, query};
use super::values::get;
use super::{Snapshot, StoreError};

/// Each row is a fault: `kind`, and `what` it is about.
const FAULTS: &str = include_str!("isolation/faults.sql");

impl Snapshot {
    /// To be asked as the login itself, of a database that was migrated.
    pub(super) async fn refuse_unisolated(&mut self) -> Result<(), StoreError> {
        let rows = query(FAULTS).fetch_all(self.connection()).await?;
        let faults = rows.iter().map(sentence).collect::<Result<Vec<_>, _>>()?;
        if faults.is_empty() { Ok(()) } else { Err(StoreError::NotIsolated(faults)) }
    }
}

fn sentence(row: &Row) -> Result<String, StoreError> {
    let (kind, login, what): (&str, &str, &str) = (get(row, "kind")?, get(row, "login")?, get(row, "what")?);
    let remedy = "let store.url name a role of its own (CREATE ROLE tollgate LOGIN NOINHERIT PASSWORD '…'), \
        store.owner_url the one that owns the database, and run `tollgate migrate`";
    Ok(match kind {
        "superuser" => {
            format!("the role {login} is a superuser, whom row-level security does not hold: {remedy}")
        }
        "bypass" => format!(
            "the role {login} is or can become {what}, whom row-level security does not hold: \
             ALTER ROLE {what} NOBYPASSRLS, or REVOKE {what} FROM {login}"
        ),
        "owner" => format!("the role {login} owns {what}, and owners can lift row-level security: {remedy}"),
        "inherits" => format!(
            "the role {login} inherits the rights of {what} and would have them in every transaction: \
             ALTER ROLE {login} NOINHERIT, REVOKE {what} FROM {login}, and run `tollgate migrate`"
        ),
        "stranger" => format!("the role {login} is no member of {what}: run `tollgate migrate`"),
        _ => format!("the table {what} has no row-level security: SELECT tollgate_isolate('{what}')"),
    })
}

#[cfg(test)]
mod tests;
