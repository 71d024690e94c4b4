//! Passwords, looked at one by one: each look costs memory and time by intent, so few happen at once, and never on a
//! thread that requests wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::validate::Faults;
use super::{Control, ControlError};
use crate::secret::password::{self, HashError};

/// Looks at a time: 38 MiB, and as many cores.
const AT_ONCE: usize = 2;
/// Looks that wait for their turn, about a second of work.
const WAITING_MAX: usize = 64;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// OWASP ASVS 4.0.3, 2.1.1.
const LENGTH_MIN: usize = 12;
/// Hashing takes longer for a longer text.
const LENGTH_MAX: usize = 256;
/// What is typed by holding a key is no password.
const LETTERS_MIN: usize = 5;

/// The queue in front of argon2. Clones share it.
#[derive(Clone)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

// === impl Passwords ===

impl Default for Passwords {
    fn default() -> Self {
        Passwords {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Arc::new(Semaphore::new(AT_ONCE + WAITING_MAX)),
        }
    }
}

impl Passwords {
    /// What is kept of a password.
    ///
    /// # Errors
    /// [`ControlError::Throttled`] when too many wait already.
    pub(super) async fn hash(&self, password: &str) -> Result<String, ControlError> {
        let password = password.to_owned();
        let hashed = self.in_turn(move || password::hash(&password)).await?;
        hashed.map_err(|error| match error {
            HashError::Random(error) => ControlError::Random(error),
            HashError::Argon2(_) => ControlError::Unanswered("the memory that a password takes"),
        })
    }

    /// Whether it is the password of that hash. Where there is none it takes as long to say that it is not.
    ///
    /// # Errors
    /// [`ControlError::Throttled`] when too many wait already.
    pub(super) async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, ControlError> {
        let password = password.to_owned();
        // Longer than any that was taken: it costs nobody anything to say no.
        if password.len() > 4 * LENGTH_MAX {
            return Ok(false);
        }
        self.in_turn(move || password::verify(&password, hash.as_deref())).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ControlError> {
        let busy = || ControlError::Throttled { again_after: AGAIN_AFTER };
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| busy())?;
        // Both are given back when the look ends, even if nobody waits for it any more.
        let looked = spawn_blocking(move || {
            let _held = (place, turn);
            look()
        });
        match looked.await {
            Ok(looked) => Ok(looked),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Control {
    pub(super) fn passwords(&self) -> &Passwords {
        &self.parts.passwords
    }
}

impl Faults {
    /// What may become somebody's password.
    pub(super) fn password(&mut self, field: &str, password: &str, email: &str) {
        let mut letters: Vec<_> = password.chars().collect();
        let length = letters.len();
        letters.sort_unstable();
        letters.dedup();
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) {
            self.add(field, format!("{LENGTH_MIN} to {LENGTH_MAX} characters are expected"));
        } else if letters.len() < LETTERS_MIN {
            self.add(field, format!("at least {LETTERS_MIN} different characters are expected"));
        } else if password.to_lowercase().contains(email) {
            self.add(field, "it holds your e-mail address, which others know");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::Faults;

    #[test]
    fn a_password_is_long_and_no_single_key_and_not_ones_address() {
        let is_good = |password: &str| {
            let mut faults = Faults::default();
            faults.password("password", password, "ann@example.com");
            faults.is_empty()
        };
        assert!(is_good("correct horse") && is_good("ünïcödé-ünïcödé"));
        for bad in ["", "eleven char", "aaaaaaaaaaaaaaaa", "xx Ann@Example.com xx", &"abcdefgh".repeat(33)] {
            assert!(!is_good(bad), "{bad}");
        }
    }
}
