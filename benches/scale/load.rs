//! Load by wrk, spread over keys and gateways, and what it took to bear it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::OTHER_CORE;
use crate::gateway::Gateway;
use crate::rig::load::Load;
use crate::rig::process::{Running, output, write};
use crate::rig::{Fault, micros, tree};

/// To each gateway.
const CONNECTIONS: usize = 64;

/// Long enough for caches, pools and the branch predictor.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);

/// Requests for a path with each of some keys in turn.
pub(crate) struct Spread {
    /// One key per line.
    keys: PathBuf,
    path: &'static str,
    directory: PathBuf,
}

/// CPU time of what bore a load.
pub(crate) struct Spent {
    pub(crate) load: Load,
    pub(crate) gateways: Duration,
    /// Of that, what the threads took that serve requests.
    pub(crate) workers: Duration,
    pub(crate) helpers: Duration,
}

/// CPU time so far.
struct Taken {
    gateways: Duration,
    workers: Duration,
    helpers: Duration,
}

/// Whatever the answers are.
pub(crate) fn warm_up(spread: &Spread, gateways: &[&Gateway]) -> Result<(), Fault> {
    spread.load(gateways, 0, WARM_UP).map(drop)
}

// === impl Spread ===

impl Spread {
    /// `name` is that of its files in `directory`.
    pub(crate) fn over(
        keys: &[String],
        path: &'static str,
        directory: &Path,
        name: &str,
    ) -> Result<Spread, Fault> {
        let file = directory.join(format!("{name}.keys"));
        write(&file, &(keys.join("\n") + "\n"))?;
        fs::write(directory.join("spread.lua"), include_str!("spread.lua"))
            .map_err(|error| format!("writing spread.lua: {error}"))?;
        Ok(Spread { keys: file, path, directory: directory.to_owned() })
    }

    /// As fast as the gateways answer, from the key with the number `first` on. Answers may be refusals; a socket error is
    /// a fault.
    pub(crate) fn load(&self, gateways: &[&Gateway], first: u64, time: Duration) -> Result<Load, Fault> {
        let ports: Vec<String> = gateways.iter().map(|gateway| gateway.port.to_string()).collect();
        let mut command = Command::new("taskset");
        command.args(["-c", OTHER_CORE, "wrk", "--latency", "-t", &ports.len().to_string()]);
        command.args([
            "-c",
            &(ports.len() * CONNECTIONS).to_string(),
            "-d",
            &format!("{}s", time.as_secs().max(1)),
            "-s",
        ]);
        command.arg(self.directory.join("spread.lua"));
        command.arg(format!("http://127.0.0.1:{}{}", ports[0], self.path));
        command.env("SPREAD_KEYS", &self.keys).env("SPREAD_PORTS", ports.join(","));
        Load::of_wrk(&output({
            command.env("SPREAD_FIRST", first.to_string());
            command
        })?)
    }

    /// The same with what it took.
    pub(crate) fn spent(
        &self,
        gateways: &[&Gateway],
        helpers: &[&Running],
        time: Duration,
    ) -> Result<Spent, Fault> {
        let before = Taken::by(gateways, helpers)?;
        let load = self.load(gateways, 0, time)?;
        let after = Taken::by(gateways, helpers)?;
        Ok(Spent {
            load,
            gateways: after.gateways - before.gateways,
            workers: after.workers - before.workers,
            helpers: after.helpers - before.helpers,
        })
    }
}

// === impl Taken ===

impl Taken {
    fn by(gateways: &[&Gateway], helpers: &[&Running]) -> Result<Taken, Fault> {
        Ok(Taken {
            gateways: gateways.iter().map(|gateway| tree::cpu(gateway.id())).sum::<Result<_, _>>()?,
            workers: gateways.iter().map(|gateway| gateway.workers_cpu()).sum::<Result<_, _>>()?,
            helpers: helpers.iter().map(|helper| tree::cpu(helper.child.id())).sum::<Result<_, _>>()?,
        })
    }
}

// === impl Spent ===

impl Spent {
    /// Any answer that is not 2xx is a fault.
    pub(crate) fn all_admitted(self) -> Result<Spent, Fault> {
        Ok(Spent { load: self.load.all_admitted()?, ..self })
    }

    /// Any answer that is 2xx is a fault.
    pub(crate) fn all_refused(self) -> Result<Spent, Fault> {
        match self.load.requests - self.load.refused {
            0 => Ok(self),
            admitted => Err(format!("{admitted} of {} requests were admitted", self.load.requests)),
        }
    }

    /// Microseconds.
    #[expect(clippy::cast_precision_loss, reason = "requests of some seconds are far below 2^52")]
    pub(crate) fn per_request(&self, spent: Duration) -> f64 {
        micros(spent) / self.load.requests as f64
    }
}
