//! Why an operation was not done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::counting::Exceeded;
use crate::domain::{IllegalMove, TenantStatus};
use crate::secret::archive::ArchiveError;
use crate::secret::seal::SealError;
use crate::secret::stripe::BadStripeSignature;
use crate::store::{BadPage, StoreError};

/// An operation was not done; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is none, or the caller may not see it: the same answer for both.
    #[error("there is no {what} `{which}`")]
    NotFound { what: &'static str, which: String },
    /// The caller sees it but may not do that.
    #[error("{actor} may not do {operation}: {needs}")]
    Forbidden { actor: String, operation: &'static str, needs: String },
    /// All faults of the input at once.
    #[error("{}", faults_text(.0))]
    Invalid(Vec<FieldFault>),
    /// The input is good, but something that exists stands against it.
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    /// Somebody else changed it first.
    #[error("version {expected} was expected, but it is at version {actual}: read it again")]
    Stale { expected: i64, actual: i64 },
    /// A quota has too little left; nothing was counted.
    #[error("{} of {} are more than what is left", .0.requested, .0.resource_type)]
    Exceeded(Box<Exceeded>),
    /// The tenant, or one above it, is not served.
    #[error("the tenant is not served: its status is {}", .0.as_str())]
    Stopped(TenantStatus),
    /// Only a running gateway counts.
    #[error("usage is counted by a running gateway, and none runs on this data directory")]
    NoGateway,
    /// Something that has to be asked for units did not answer; nothing was counted.
    #[error("{0} can't be asked right now")]
    Unanswered(&'static str),
    /// Some of it is wrong; which is not told.
    #[error("the e-mail address, the password or the code is wrong")]
    BadCredentials,
    /// The credentials are good as far as they go.
    #[error("a code of your device is needed as well, or a recovery code")]
    SecondFactor,
    /// Too many attempts, or too many at a time: the same may be tried again after a while.
    #[error("there were too many attempts")]
    Throttled { again_after: Duration },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret can't be sealed or opened: a fault of the configuration, or of whoever touched the database.
    #[error("a secret can't be sealed or opened")]
    Seal(#[from] SealError),
    /// The file of the audit log's checkpoints: a fault of the machine.
    #[error("the audit log's checkpoints can't be written to, or read from, {}", .0.display())]
    Checkpoints(PathBuf, #[source] io::Error),
    /// What was given is no archive that can be read, or none could be written.
    #[error("the archive can't be used")]
    Archive(#[from] ArchiveError),
    /// A message that says it is of somebody else's, and can't be believed.
    #[error(transparent)]
    Unbelievable(#[from] BadStripeSignature),
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

/// A fault of the input, and the field it is in, for example `billing_email`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct FieldFault {
    pub field: String,
    pub message: String,
}

fn faults_text(faults: &[FieldFault]) -> String {
    let lines: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
    lines.join("; ")
}

// === impl ControlError ===

impl From<BadPage> for ControlError {
    fn from(bad: BadPage) -> Self {
        let field = match bad {
            BadPage::Limit(_) => "limit",
            BadPage::Offset(_) => "offset",
            BadPage::Cursor => "cursor",
        };
        ControlError::Invalid(vec![FieldFault::new(field, bad.to_string())])
    }
}

// === impl FieldFault ===

impl FieldFault {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> FieldFault {
        FieldFault { field: field.into(), message: message.into() }
    }
}
