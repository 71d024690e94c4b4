//! wrk and h2load, and what they say.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Fault;
use crate::case::{Case, Protocol};
use crate::subject::Subject;

pub(crate) const CONNECTIONS: &str = "64";

/// One run of a load generator.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

/// Which program makes the load of a case.
pub(crate) const fn generator(case: &Case) -> &'static str {
    match case.protocol {
        Protocol::Http1 | Protocol::Http1OverTls => "wrk",
        Protocol::Http2OverTls => "h2load",
    }
}

// === impl Load ===

impl Load {
    /// As fast as the proxy answers. Any answer that is not 2xx, and any socket error, is a fault.
    pub(crate) fn run(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
        match case.protocol {
            Protocol::Http1 | Protocol::Http1OverTls => Load::by_wrk(case, subject, time),
            Protocol::Http2OverTls => Load::by_h2load(case, subject, time),
        }
        .map_err(|fault| format!("{}: {fault}", subject.kind.name()))
    }

    fn by_wrk(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
        let mut command = pinned(case);
        command.args(["wrk", "--latency", "-t", "1", "-c", CONNECTIONS, "-d", &seconds(time)]);
        let text = output(with_headers(command, subject))?;
        Load::of_wrk(&text).map_err(|fault| format!("{fault}\n{text}"))
    }

    fn of_wrk(text: &str) -> Result<Load, Fault> {
        for bad in ["Non-2xx", "Socket errors"] {
            if let Some(line) = text.lines().find(|line| line.contains(bad)) {
                return Err(line.trim().to_owned());
            }
        }
        // Above it, every line ends with a percentage.
        let (_, distribution) = text.split_once("Latency Distribution").ok_or("wrk says no latencies")?;
        Load {
            requests: word_before(text, "requests in")?.parse().map_err(|_| "wrk's count of requests")?,
            per_second: word_after(text, "Requests/sec:")?.parse().map_err(|_| "wrk's rate")?,
            p50: duration(&word_after(distribution, "50%")?)?,
            p99: duration(&word_after(distribution, "99%")?)?,
        }
        .of_some()
    }

    /// One request at a time on each connection, as wrk does.
    fn by_h2load(case: &Case, subject: &Subject, time: Duration) -> Result<Load, Fault> {
        let log = tempfile::NamedTempFile::new().map_err(|error| format!("a file for latencies: {error}"))?;
        let mut command = pinned(case);
        command.args(["h2load", "-t", "1", "-c", CONNECTIONS, "-m", "1", "-D", &seconds(time)]);
        command.arg(format!("--log-file={}", log.path().display()));
        let text = output(with_headers(command, subject))?;
        Load::of_h2load(&text, time, log.path()).map_err(|fault| format!("{fault}\n{text}"))
    }

    fn of_h2load(text: &str, time: Duration, log: &Path) -> Result<Load, Fault> {
        if !text.contains("Application protocol: h2") {
            return Err("it did not speak h2".to_owned());
        }
        let statuses = text.lines().find(|line| line.starts_with("status codes:")).ok_or("no statuses")?;
        if ["3xx", "4xx", "5xx"]
            .iter()
            .any(|kind| word_before(statuses, kind).is_ok_and(|count| count != "0"))
        {
            return Err(statuses.to_owned());
        }
        let log = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let micros = |line: &str| line.split('\t').nth(2)?.trim().parse().ok();
        let mut took: Vec<u64> = log.lines().filter_map(micros).collect();
        took.sort_unstable();
        let at = |share: usize| took.get(took.len() * share / 100).copied().map(Duration::from_micros);
        let requests = word_before(statuses, "2xx")?.parse().map_err(|_| "h2load's count of requests")?;
        Load {
            requests,
            per_second: per_second(requests, time),
            p50: at(50).ok_or("h2load logged no request")?,
            p99: at(99).ok_or("h2load logged no request")?,
        }
        .of_some()
    }

    fn of_some(self) -> Result<Load, Fault> {
        if self.requests == 0 { Err("no request was answered".to_owned()) } else { Ok(self) }
    }
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

fn output(mut command: Command) -> Result<String, Fault> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "requests of some seconds are far below 2^52")]
fn per_second(requests: u64, time: Duration) -> f64 {
    requests as f64 / time.as_secs_f64()
}

fn word_after(text: &str, mark: &str) -> Result<String, Fault> {
    let rest = text.split_once(mark).ok_or_else(|| format!("the load generator does not say `{mark}`"))?.1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

fn word_before(text: &str, mark: &str) -> Result<String, Fault> {
    let before = text.split_once(mark).ok_or_else(|| format!("the load generator does not say `{mark}`"))?.0;
    Ok(before.split_whitespace().last().unwrap_or_default().to_owned())
}

/// `1.23ms`, `456.00us`, `1.20s`.
fn duration(text: &str) -> Result<Duration, Fault> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no duration"))?;
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(format!("`{text}` is no duration")),
    };
    Ok(Duration::from_secs_f64(number * seconds))
}
