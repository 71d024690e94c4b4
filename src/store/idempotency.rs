//! Answers that may be asked for again.

use super::sql::query;
use super::values::{digest, get};
use super::{Store, StoreError};
use crate::clock::Timestamp;

/// A request that came under an idempotency key before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownRequest {
    /// What was asked, as a digest.
    pub request: [u8; 32],
    /// Sealed; `None` as long as it is being worked on.
    pub answer: Option<Vec<u8>>,
}

// === impl Store ===

impl Store {
    /// Notes that the request is being worked on, unless there is one under that key already. What is older than
    /// `before` is forgotten first.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn claim_request(
        &self,
        key: &[u8; 32],
        request: &[u8; 32],
        at: Timestamp,
        before: Timestamp,
    ) -> Result<Option<KnownRequest>, StoreError> {
        let mut tx = self.begin().await?;
        let forget = query("DELETE FROM idempotency_keys WHERE created_at < $1").bind(before);
        forget.execute(tx.connection()).await?;
        let claimed = query(
            "INSERT INTO idempotency_keys (digest, request, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(key.as_slice())
        .bind(request.as_slice())
        .bind(at)
        .execute(tx.connection())
        .await?;
        let known = match claimed {
            0 => {
                let known = query("SELECT request, answer FROM idempotency_keys WHERE digest = $1");
                let row = known.bind(key.as_slice()).fetch_one(tx.connection()).await?;
                Some(KnownRequest { request: digest(&row, "request")?, answer: get(&row, "answer")? })
            }
            _ => None,
        };
        tx.commit().await?;
        Ok(known)
    }

    /// Keeps the answer of a request that was claimed; `None` forgets the request, which may then be sent again.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn answer_request(&self, key: &[u8; 32], answer: Option<&[u8]>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let text = match answer {
            Some(_) => "UPDATE idempotency_keys SET answer = $2 WHERE digest = $1",
            None => "DELETE FROM idempotency_keys WHERE digest = $1 AND $2 IS NULL",
        };
        query(text).bind(key.as_slice()).bind(answer).execute(tx.connection()).await?;
        tx.commit().await
    }
}
