//! wrk, and what it says.

use std::process::Command;
use std::time::Duration;

use crate::Fault;
use crate::subject::Subject;

pub(crate) const CONNECTIONS: &str = "64";

/// One run of the load generator.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

// === impl Load ===

impl Load {
    /// On core 1, as fast as the proxy answers. Any answer that is not 2xx, and any socket error, is a fault.
    pub(crate) fn run(subject: &Subject, time: Duration) -> Result<Load, Fault> {
        let seconds = format!("{}s", time.as_secs().max(1));
        let mut command = Command::new("taskset");
        command.args(["-c", "1", "wrk", "--latency", "-t", "1", "-c", CONNECTIONS, "-d", &seconds]);
        for header in &subject.headers {
            command.args(["-H", header]);
        }
        let output = command.arg(&subject.url).output().map_err(|error| format!("wrk: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Load::parse(&text).map_err(|fault| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("{}: {fault}\n{text}{errors}", subject.kind.name())
        })
    }

    fn parse(text: &str) -> Result<Load, Fault> {
        for bad in ["Non-2xx", "Socket errors"] {
            if let Some(line) = text.lines().find(|line| line.contains(bad)) {
                return Err(line.trim().to_owned());
            }
        }
        // Above it, every line ends with a percentage.
        let (_, distribution) = text.split_once("Latency Distribution").ok_or("wrk says no latencies")?;
        let load = Load {
            requests: word_before(text, "requests in")?.parse().map_err(|_| "wrk's count of requests")?,
            per_second: word_after(text, "Requests/sec:")?.parse().map_err(|_| "wrk's rate")?,
            p50: duration(&word_after(distribution, "50%")?)?,
            p99: duration(&word_after(distribution, "99%")?)?,
        };
        if load.requests == 0 { Err("no request was answered".to_owned()) } else { Ok(load) }
    }
}

fn word_after(text: &str, mark: &str) -> Result<String, Fault> {
    let rest = text.split_once(mark).ok_or_else(|| format!("wrk does not say `{mark}`"))?.1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

fn word_before(text: &str, mark: &str) -> Result<String, Fault> {
    let before = text.split_once(mark).ok_or_else(|| format!("wrk does not say `{mark}`"))?.0;
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
