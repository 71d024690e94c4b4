//! Tollgate, as it is measured here: one worker, with a configuration and a data directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::rig::certificate::Certificate;
use crate::rig::process::{Running, free_port, pinned, write};
use crate::rig::{Fault, tree};
use crate::{Options, PROXY_CORE, http};

/// The pepper of keys, which the filling knows too, and whatever else gateways on one database have in common.
pub(crate) const SECRET: [u8; 32] = [0x5a; 32];

/// A gateway that is ready.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    pub(crate) admin: u16,
    /// From the process's start until it said that it is ready.
    pub(crate) started_in: Duration,
    process: Running,
}

/// What a gateway is started with.
pub(crate) struct Place<'a> {
    /// For its configuration and data.
    pub(crate) directory: PathBuf,
    /// As the configuration says it.
    pub(crate) store: String,
    pub(crate) upstream: u16,
    pub(crate) certificate: Option<&'a Certificate>,
    /// More sections of the configuration.
    pub(crate) more: String,
}

// === impl Place ===

impl Place<'_> {
    /// On a SQLite file, in clear, alone.
    pub(crate) fn new(directory: &Path, database: &Path, upstream: u16) -> Place<'static> {
        Place {
            directory: directory.to_owned(),
            store: format!("sqlite:{}", database.display()),
            upstream,
            certificate: None,
            more: String::new(),
        }
    }

    pub(crate) fn start(&self, options: &Options) -> Result<Gateway, Fault> {
        let file = self.directory.join("tollgate.toml");
        let (port, admin) = (free_port()?, free_port()?);
        fs::create_dir_all(&self.directory)
            .map_err(|error| format!("{}: {error}", self.directory.display()))?;
        write(&file, &self.configuration(port, admin)?)?;
        let mut command = pinned(PROXY_CORE, &options.tollgate);
        command.arg("serve").arg("--config").arg(&file).current_dir(&self.directory);
        let log = self.directory.join("tollgate.log");
        command.stderr(fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?);
        let began = Instant::now();
        let process = Running::listening(command, port)
            .map_err(|fault| format!("{fault}\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        http::until("the gateway is ready", || http::get(admin, "/readyz"))?;
        Ok(Gateway { port, admin, started_in: began.elapsed(), process })
    }

    fn configuration(&self, port: u16, admin: u16) -> Result<String, Fault> {
        let secret: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
        let (plain, tls) = match self.certificate {
            None => (port, String::new()),
            Some(Certificate { certificate, key, .. }) => (
                free_port()?,
                format!(
                    "[listen.tls]\naddress = \"127.0.0.1:{port}\"\ncertificates = [{{ cert = {certificate:?}, key = {key:?} }}]"
                ),
            ),
        };
        let Place { store, upstream, more, .. } = self;
        Ok(format!(
            r#"
[listen]
proxy = "127.0.0.1:{plain}"
admin = "127.0.0.1:{admin}"
workers = 1
{tls}
[listen.limits]
idle_timeout = "1h"
[store]
url = "{store}"
[data]
directory = "data"
[identity.api_key]
pepper = "{secret}"
[control]
secret_keys = [{{ version = 1, key = "{secret}" }}]
audit.key = "{secret}"
[[upstream]]
name = "origin"
urls = ["http://127.0.0.1:{upstream}"]
[[route]]
name = "charged"
path = "/v1/"
upstream = "origin"
charge = {{ api_calls = 1 }}
[[route]]
name = "public"
path = "/public/"
upstream = "origin"
public = true
{more}
"#
        ))
    }
}

// === impl Gateway ===

impl Gateway {
    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// CPU time so far of the threads that serve requests; the rest is what brings usage to the database, keeps books and
    /// answers administrators.
    pub(crate) fn workers_cpu(&self) -> Result<Duration, Fault> {
        let threads = format!("/proc/{}/task", self.id());
        let threads = fs::read_dir(&threads).map_err(|error| format!("{threads}: {error}"))?;
        let is_worker = |thread: &PathBuf| {
            fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("worker"))
        };
        let threads = threads.flatten().map(|thread| thread.path()).filter(is_worker);
        Ok(threads.map(|thread| tree::of_thread(&thread)).sum())
    }

    /// The sum over all labels of a metric.
    pub(crate) fn metric(&self, name: &str) -> Result<f64, Fault> {
        let text = http::get(self.admin, "/metrics").ok_or("the gateway has no metrics")?;
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values =
            text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }
}
