//! wrk and h2load.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::{Case, Protocol};
use crate::rig::Fault;
use crate::rig::load::{Load, word_before};
use crate::rig::process::output;
use crate::subject::Subject;

pub(crate) const CONNECTIONS: &str = "64";

/// Which program makes the load of a case.
pub(crate) const fn generator(case: &Case) -> &'static str {
    match case.protocol {
        Protocol::Http1 | Protocol::Http1OverTls => "wrk",
        Protocol::Http2OverTls => "h2load",
    }
}

/// As fast as the proxy answers. Any answer that is not 2xx, and any socket error, is a fault.
pub(crate) fn run(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
    match case.protocol {
        Protocol::Http1 | Protocol::Http1OverTls => by_wrk(case, subject, time),
        Protocol::Http2OverTls => by_h2load(case, subject, time),
    }
    .map_err(|fault| format!("{}: {fault}", subject.kind.name()))
}

fn by_wrk(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
    let mut command = pinned(case);
    command.args(["wrk", "--latency", "-t", "1", "-c", CONNECTIONS, "-d", &seconds(time)]);
    Load::of_wrk(&output(with_headers(command, subject))?)?.all_admitted()
}

/// One request at a time on each connection, as wrk does.
fn by_h2load(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
    let log = tempfile::NamedTempFile::new().map_err(|error| format!("a file for latencies: {error}"))?;
    let mut command = pinned(case);
    command.args(["h2load", "-t", "1", "-c", CONNECTIONS, "-m", "1", "-D", &seconds(time)]);
    command.arg(format!("--log-file={}", log.path().display()));
    let text = output(with_headers(command, subject))?;
    of_h2load(&text, time, log.path()).map_err(|fault| format!("{fault}\n{text}"))
}

fn of_h2load(text: &str, time: Duration, log: &Path) -> Result<Load, Fault> {
    if !text.contains("Application protocol: h2") {
        return Err("it did not speak h2".to_owned());
    }
    let statuses = text.lines().find(|line| line.starts_with("status codes:")).ok_or("no statuses")?;
    let count = |kind: &str| word_before(statuses, kind).ok()?.parse::<u64>().ok();
    let log = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let micros = |line: &str| line.split('\t').nth(2)?.trim().parse().ok();
    let mut took: Vec<u64> = log.lines().filter_map(micros).collect();
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().map(Duration::from_micros);
    let requests = count("2xx").ok_or("h2load's count of requests")?;
    Load {
        requests,
        refused: ["3xx", "4xx", "5xx"].into_iter().filter_map(count).sum(),
        per_second: per_second(requests, time),
        p50: at(50).ok_or("h2load logged no request")?,
        p99: at(99).ok_or("h2load logged no request")?,
    }
    .of_some()?
    .all_admitted()
}

fn pinned(case: &Case) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", case.workers.other_cores()]);
    command
}

fn with_headers(mut command: Command, subject: &Subject) -> Command {
    for header in &subject.headers {
        command.args(["-H", header]);
    }
    command.arg(&subject.url);
    command
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "requests of some seconds are far below 2^52")]
fn per_second(requests: u64, time: Duration) -> f64 {
    requests as f64 / time.as_secs_f64()
}
