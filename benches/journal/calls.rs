//! How many system calls a request's record makes: `strace` counts them for two numbers of requests, and what more
//! requests cost is the difference.

use std::process::Command;

use super::{charges, directory, open, pass, record};

/// Tells a process of this program how many requests to pass.
const REQUESTS: &str = "TOLLGATE_BENCH_REQUESTS";

/// Both fit into the segments that are there at the start, so that nothing is prepared meanwhile.
const FEW: u64 = 50_000;
const MANY: u64 = 250_000;

pub(super) fn wanted() -> Option<u64> {
    std::env::var(REQUESTS).ok()?.parse().ok()
}

pub(super) fn pass_all(requests: u64) {
    let directory = directory();
    let (_journal, writer) = open(directory.path());
    let charges = charges();
    (0..requests).for_each(|number| pass(&writer, &record(number.into(), &charges[..1])));
}

pub(super) fn report() -> String {
    match (counted(FEW), counted(MANY)) {
        (Some(few), Some(many)) => format!(
            "system calls: {few} for {FEW} requests, {many} for {MANY}: {} for {} more",
            many - few,
            MANY - FEW
        ),
        _ => "system calls: not counted, for strace is not here or may not trace".to_owned(),
    }
}

/// All system calls of a process that passes so many requests.
fn counted(requests: u64) -> Option<i64> {
    let program = std::env::current_exe().ok()?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o", "/dev/stdout"]).arg(program).env(REQUESTS, requests.to_string());
    let output = strace.output().ok()?;
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    let total = summary.lines().rfind(|line| line.trim_end().ends_with("total"))?;
    // % time, seconds, usecs/call, calls, errors, total
    total.split_whitespace().nth(3)?.parse().ok()
}
