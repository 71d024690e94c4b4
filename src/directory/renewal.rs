//! Keys that were found under an older pepper are stored under the current one, so that the old one can be retired.
//!
//! Whoever looks a key up only notes it and goes on. One task works the notes off in batches: after an exchange of the
//! pepper all keys come within seconds, and none of them is to wait for a write. What fails stays noted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Directory;
use crate::secret::hash::{KeyDigest, Renewal, VersionedDigest};

/// Keys that wait to be renewed. One for which there is no room is noted again when it is next read.
const NOTED_MAX: usize = 100_000;

/// Keys renewed in one transaction.
const BATCH_MAX: usize = 256;

/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What is to be stored in place of which digest.
#[derive(Default)]
pub(super) struct Renewals {
    noted: Mutex<HashMap<KeyDigest, VersionedDigest>>,
    nudge: Notify,
}

// === impl Directory ===

impl Directory {
    /// Renews keys until it is dropped. Dropping loses nothing: a key is noted again when it is next read.
    pub async fn renew_keys(self: Arc<Self>) {
        loop {
            self.renewals.nudge.notified().await;
            while self.renew_some().await {}
        }
    }

    /// Whether there was anything to renew.
    async fn renew_some(&self) -> bool {
        let batch = self.renewals.batch();
        if batch.is_empty() {
            return false;
        }
        match self.store.renew_keys(&batch).await {
            Ok(renewed) => {
                self.renewals.forget(&batch);
                tracing::info!(keys = renewed, "{renewed} keys are now stored under the current pepper");
            }
            Err(error) => {
                tracing::warn!(error = %error, "keys can't be stored under the current pepper; trying again in {RETRY_AFTER:?}");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
        true
    }
}

// === impl Renewals ===

impl Renewals {
    pub(super) fn note(&self, Renewal { old, new }: Renewal) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < NOTED_MAX {
            noted.insert(old, new);
            self.nudge.notify_one();
        }
    }

    fn batch(&self) -> Vec<Renewal> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.iter().take(BATCH_MAX).map(|(old, new)| Renewal { old: *old, new: *new }).collect()
    }

    fn forget(&self, batch: &[Renewal]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for renewal in batch {
            noted.remove(&renewal.old);
        }
    }
}
