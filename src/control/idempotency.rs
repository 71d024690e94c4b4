//! Requests that are sent twice and done once.
//!
//! Under a key of the caller's choice the first request is done and its answer kept for a day; the same request again
//! gets that answer, and nothing is done. Who asks is part of the key, so that nobody finds another's answer. Answers
//! may hold secrets: they are sealed with what the caller's key and our pepper make together, and the caller's key is
//! not kept.
//!
//! A process that is killed while it works on a request leaves its outcome open: then the key answers that until it is
//! forgotten.

use std::time::Duration;

use uuid::Uuid;

use super::{Control, ControlError, Principal};
use crate::domain::TenantId;
use crate::secret::seal::{DataKey, Place};

/// What there is to do about a request.
#[derive(Debug)]
pub enum Claimed {
    /// It is the first one: do it, then [`Claim::answered`].
    First(Claim),
    /// It was done: this was the answer.
    Done(String),
    /// It is being worked on, or was when a process was killed.
    Open,
    /// The key stands for another request.
    Other,
}

/// The right to do a request. Dropping it leaves the request open.
pub struct Claim {
    control: Control,
    digest: [u8; 32],
    sealing: DataKey,
}

/// How long answers are kept.
const KEPT: Duration = Duration::from_secs(24 * 3_600);

const ANSWER: Place<'static> = Place { tenant: TenantId(Uuid::nil()), name: "answer", version: 1 };

impl Control {
    /// Looks whether the request was sent before. `request` is a digest of all that makes it what it is.
    ///
    /// # Errors
    /// [`ControlError::Store`]; [`ControlError::Seal`] for an answer that was changed in the database.
    pub async fn claim(
        &self,
        principal: &Principal,
        key: &str,
        request: &[u8; 32],
    ) -> Result<Claimed, ControlError> {
        let actor = &principal.actor;
        let who = format!("{}:{}:{key}", actor.kind.as_str(), actor.id.unwrap_or_default());
        let derived = |what: &str| self.parts.peppers.current().digest(format!("{what}:{who}").as_bytes()).0;
        let (digest, sealing) = (derived("idempotency"), DataKey::of(Uuid::nil(), derived("answer")));
        let now = self.now();
        let known = self.parts.store.claim_request(&digest, request, now, now.minus(KEPT)).await?;
        Ok(match known {
            None => Claimed::First(Claim { control: self.clone(), digest, sealing }),
            Some(known) if known.request != *request => Claimed::Other,
            Some(known) => match known.answer {
                Some(sealed) => Claimed::Done(sealing.open(ANSWER, &sealed)?),
                None => Claimed::Open,
            },
        })
    }
}

// === impl Claim ===

impl Claim {
    /// Keeps the answer; `None` if nothing was done, so that the request may be sent again.
    ///
    /// # Errors
    /// [`ControlError::Store`]: then the request stays open.
    pub async fn answered(self, answer: Option<&str>) -> Result<(), ControlError> {
        let sealed = answer.map(|answer| self.sealing.seal(ANSWER, answer)).transpose()?;
        Ok(self.control.parts.store.answer_request(&self.digest, sealed.as_deref()).await?)
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Claim(***)")
    }
}
