//! Logs: structured, on stderr, never on stdout, which belongs to results.
//!
//! One line is one event. Machines read JSON, people at a terminal read text; [`Format::for_stderr`] chooses.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON object per line, fields at its top level.
    Json,
    /// For a person at a terminal; coloured there.
    Text,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{filter}` is no log filter, like `info` or `warn,tollgate::gateway=debug`")]
    Filter { filter: String, source: tracing_subscriber::filter::ParseError },
    #[error("this process has a logger already")]
    Twice,
}

/// Starts logging for the whole process, on stderr. `filter` is in the syntax of `tracing`'s directives.
///
/// # Errors
/// [`LogError`] if the filter has a fault, or if the process logs already.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).finish().try_init(),
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).finish().try_init(),
    }
    .map_err(|_| LogError::Twice)
}

/// An error with all that caused it, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

// === impl Format ===

impl Format {
    /// Text when stderr is a terminal, JSON otherwise.
    pub fn for_stderr() -> Self {
        if io::stderr().is_terminal() { Format::Text } else { Format::Json }
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, LogError, init};

    #[test]
    fn a_filter_with_a_fault_is_named() {
        let error = init(Format::Json, "tollgate=loud").unwrap_err();
        assert!(matches!(error, LogError::Filter { .. }));
        assert_eq!(
            error.to_string(),
            "`tollgate=loud` is no log filter, like `info` or `warn,tollgate::gateway=debug`"
        );
    }
}
