//! Log-ins in numbers.

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts};

use super::ControlError;

/// What became of an attempt to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LogIn {
    Done,
    /// Something of the credentials was wrong.
    Refused,
    /// The password was good and a code is missing.
    SecondFactor,
    Throttled,
    /// Nobody could say.
    Failed,
}

/// Counters of log-ins, by outcome. Clones are the same.
#[derive(Clone)]
pub struct LogIns(IntCounterVec);

// === impl LogIn ===

impl LogIn {
    const ALL: [LogIn; 5] =
        [LogIn::Done, LogIn::Refused, LogIn::SecondFactor, LogIn::Throttled, LogIn::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            LogIn::Done => "done",
            LogIn::Refused => "refused",
            LogIn::SecondFactor => "second_factor",
            LogIn::Throttled => "throttled",
            LogIn::Failed => "failed",
        }
    }
}

// === impl LogIns ===

impl Default for LogIns {
    fn default() -> Self {
        let opts =
            Opts::new("tollgate_logins_total", "Attempts of people to log in, by what became of them.");
        let counters = IntCounterVec::new(opts, &["outcome"]).expect("a literal name");
        for outcome in LogIn::ALL {
            // A series that is there from the start: the first attack is a rise, and not a beginning.
            counters.with_label_values(&[outcome.as_str()]);
        }
        LogIns(counters)
    }
}

impl LogIns {
    /// Counts an attempt, however it was made.
    pub(super) fn note<T>(&self, outcome: &Result<T, ControlError>) {
        let outcome = match outcome {
            Ok(_) => LogIn::Done,
            Err(ControlError::BadCredentials) => LogIn::Refused,
            Err(ControlError::SecondFactor) => LogIn::SecondFactor,
            Err(ControlError::Throttled { .. }) => LogIn::Throttled,
            Err(_) => LogIn::Failed,
        };
        self.0.with_label_values(&[outcome.as_str()]).inc();
    }

    /// To be registered once.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.0.clone())
    }
}
