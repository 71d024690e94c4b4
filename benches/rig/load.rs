//! What wrk says of a run.

use std::time::Duration;

use super::Fault;

/// One run of a load generator.
pub(crate) struct Load {
    /// Answers, whatever their status.
    pub(crate) requests: u64,
    /// Those that were not 2xx.
    pub(crate) refused: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Load {
    /// Of what wrk printed with `--latency`. A socket error is a fault.
    pub(crate) fn of_wrk(text: &str) -> Result<Load, Fault> {
        Load::read(text).map_err(|fault| format!("{fault}\n{text}"))
    }

    fn read(text: &str) -> Result<Load, Fault> {
        if let Some(line) = text.lines().find(|line| line.contains("Socket errors")) {
            return Err(line.trim().to_owned());
        }
        // Above it, every line ends with a percentage.
        let (_, distribution) = text.split_once("Latency Distribution").ok_or("wrk says no latencies")?;
        let refused = word_after(text, "Non-2xx or 3xx responses:").unwrap_or("0".to_owned());
        Load {
            requests: word_before(text, "requests in")?.parse().map_err(|_| "wrk's count of requests")?,
            refused: refused.parse().map_err(|_| "wrk's count of refusals")?,
            per_second: word_after(text, "Requests/sec:")?.parse().map_err(|_| "wrk's rate")?,
            p50: duration(&word_after(distribution, "50%")?)?,
            p99: duration(&word_after(distribution, "99%")?)?,
        }
        .of_some()
    }

    pub(crate) fn of_some(self) -> Result<Load, Fault> {
        if self.requests == 0 { Err("no request was answered".to_owned()) } else { Ok(self) }
    }

    /// Any answer that is not 2xx is a fault.
    pub(crate) fn all_admitted(self) -> Result<Load, Fault> {
        match self.refused {
            0 => Ok(self),
            refused => Err(format!("{refused} of {} answers were not 2xx", self.requests)),
        }
    }
}

fn word_after(text: &str, mark: &str) -> Result<String, Fault> {
    let rest = text.split_once(mark).ok_or_else(|| format!("the load generator does not say `{mark}`"))?.1;
    Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
}

pub(crate) fn word_before(text: &str, mark: &str) -> Result<String, Fault> {
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
