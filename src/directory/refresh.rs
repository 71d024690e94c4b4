//! Learning of changes: told at once by whoever made them, in this process or (on Postgres) in another, and asking
//! once a second all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::Directory;
use crate::store::{Listening, Store, StoreError};

/// A change that nobody told of is seen at most this much later.
const POLL: Duration = Duration::from_secs(1);

/// Changes read in one go.
const CHANGES_MAX: u32 = 1000;

/// Follows the store's notes of changes.
pub struct Refresh {
    store: Store,
    directory: Arc<Directory>,
    nudge: Arc<Notify>,
    seen: i64,
}

// === impl Refresh ===

impl Refresh {
    /// Begins at the latest change: nothing older can be cached yet.
    ///
    /// # Errors
    /// [`StoreError`] if the store can't be read.
    pub async fn begin(
        store: Store,
        directory: Arc<Directory>,
        nudge: Arc<Notify>,
    ) -> Result<Refresh, StoreError> {
        let seen = store.latest_change().await?;
        Ok(Refresh { store, directory, nudge, seen })
    }

    /// Runs until it is dropped. Dropping loses nothing: the notes stay in the store.
    pub async fn run(mut self) {
        let mut failing = false;
        let mut listening = self.store.listen();
        loop {
            // Whichever it is, there may be something to read.
            tokio::select! {
                _ = timeout(POLL, self.nudge.notified()) => {}
                () = heard(&mut listening) => {}
            }
            match self.follow().await {
                Ok(()) => failing = false,
                Err(error) if failing => tracing::debug!(error = %error, "changes still can't be read"),
                Err(error) => {
                    failing = true;
                    tracing::warn!(error = %error, "changes of keys and tenants can't be read; going on with what is known");
                }
            }
        }
    }

    async fn follow(&mut self) -> Result<(), StoreError> {
        loop {
            let changes = self.store.changes_after(self.seen, CHANGES_MAX).await?;
            let Some(last) = changes.last() else {
                self.directory.in_step();
                return Ok(());
            };
            let last = last.version;
            for change in &changes {
                self.directory.forget(&change.what);
            }
            self.seen = last;
        }
    }
}

/// Ready when another process told of a change; never where none can.
async fn heard(listening: &mut Option<Listening>) {
    match listening {
        Some(listening) => listening.heard().await,
        None => std::future::pending().await,
    }
}
