//! What several benches stand on: processes on their cores, the kernel's accounting of them, an upstream, peers to compare
//! with, and load.
//!
//! A bench that includes it uses all of it. It knows no Tollgate: how that is configured is the bench's business.

pub(crate) mod certificate;
pub(crate) mod load;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod tree;
pub(crate) mod upstream;

use std::path::{Path, PathBuf};

/// A run that can't be trusted ends with a sentence.
pub(crate) type Fault = String;

/// Where results are written: `bench` below cargo's target directory.
pub(crate) fn results() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).join("bench")
}

/// `None` of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The value of an option.
pub(crate) fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Fault> {
    value.parse().map_err(|_| format!("{name} needs a number, not `{value}`"))
}
