//! Waiting for conditions: the only place in the tests that lets time pass.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What `condition` gives once it gives something.
///
/// # Panics
/// After [`PATIENCE`], with `what` was waited for.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        pass(LOOK);
    }
}

/// Lets time pass, where passing time is what is tested.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}
