//! Why a command was not done, and what to do about it. Told on stderr; exit status 1.

use std::error::Error;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::api::{Answer, ClientError};

/// A command was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    what: String,
    /// One line each, below what happened.
    details: Vec<String>,
    /// What to do.
    help: Option<String>,
}

// === impl Failure ===

impl Failure {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Failure { what: what.into(), details: Vec::new(), help: None }
    }

    /// An error with all that caused it.
    pub(super) fn caused(what: impl Into<String>, cause: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(cause), |&error| error.source());
        Failure { details: causes.map(ToString::to_string).collect(), ..Failure::new(what) }
    }

    /// Lines below what happened.
    #[must_use]
    pub(super) fn details(mut self, details: impl Iterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn unreadable(file: &Path, error: &(dyn Error + 'static)) -> Self {
        Failure::caused(format!("{} can't be read", file.display()), error)
    }

    /// A refusal of the API.
    pub(super) fn refused(answer: &Answer) -> Self {
        let said = |name: &str| answer.body[name].as_str().map(str::to_owned);
        let faults = answer.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let what = match faults {
            [] => said("detail").or_else(|| said("title")),
            _ => said("title"),
        };
        Failure {
            what: what.unwrap_or_else(|| format!("the gateway answered {}", answer.status)),
            details: faults.iter().map(fault).collect(),
            help: help(answer),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Failure::caused("the gateway can't be asked", &error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        for detail in &self.details {
            writeln!(f, "  {detail}")?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "help: {help}")?;
        }
        Ok(())
    }
}

fn fault(fault: &Value) -> String {
    let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    format!("{}: {}", text("field"), text("message"))
}

fn help(answer: &Answer) -> Option<String> {
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    let help = match answer.body["type"].as_str()? {
        "/problems/not-found" if detail.contains("tenant") => {
            "`tollgate tenant list` shows the tenants there are"
        }
        "/problems/not-found" if detail.contains("key") => "`tollgate key list TENANT` shows a tenant's keys",
        "/problems/unavailable" => "try again; if it stays so, see the gateway's log",
        "/problems/internal" => "see the gateway's log under this request_id",
        _ => return None,
    };
    Some(match answer.body["request_id"].as_str() {
        Some(id) if answer.status.is_server_error() => format!("{help}: {id}"),
        _ => help.to_owned(),
    })
}
