//! Reading a small document from a trusted place: the address is the operator's. Plain `http:` is for this machine
//! only.

use std::path::Path;
use std::time::Duration;

pub(super) use crate::outbound::{BadTrust, SendError};
use crate::outbound::{Bounds, Outbound, Place, Plain, Question, Reach};

/// Real sets of keys have some kilobytes.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

const BOUNDS: Bounds = Bounds { within: Duration::from_secs(5), bytes_max: BODY_BYTES_MAX };

/// A client for documents.
pub(super) struct Fetcher(Outbound);

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("it answers {0}, and only 200 is good (redirects are not followed)")]
    Status(u16),
}

// === impl Fetcher ===

impl Fetcher {
    /// A client that trusts the certificates in `ca`, or the system's if it is `None`.
    ///
    /// # Errors
    /// [`BadTrust`]
    pub(super) fn new(ca: Option<&Path>) -> Result<Fetcher, BadTrust> {
        Outbound::new(ca).map(Fetcher)
    }

    /// Reads the document at `url`. Dropping the future ends the connection.
    ///
    /// # Errors
    /// [`FetchError`]
    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let place = Place::parse(url, Plain::Here).ok_or(SendError::Url)?;
        let question = Question { headers: vec![("accept", "application/json".to_owned())], body: None };
        let answer = self.0.send(&place, question, &Reach::Anywhere, BOUNDS).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(FetchError::Status(answer.status)) }
    }
}

/// Whether two URLs lead to one host; ports may differ.
pub(super) fn are_of_one_host(one: &str, other: &str) -> bool {
    match (Place::parse(one, Plain::Here), Place::parse(other, Plain::Here)) {
        (Some(one), Some(other)) => one.host.eq_ignore_ascii_case(&other.host),
        _ => false,
    }
}
