//! Processes that are measured or measure, each on its cores and gone with its owner.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Fault;

/// A process that ends with its owner.
pub(crate) struct Running {
    pub(crate) child: Child,
}

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);

pub(crate) fn require(program: &str) -> Result<(), Fault> {
    if is_installed(program) {
        return Ok(());
    }
    Err(format!("{program} is not installed: apt-get install wrk nghttp2-client util-linux"))
}

pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A port that was free a moment ago: the peers can't be asked which one they got.
pub(crate) fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("a free port: {error}"))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Fault> {
    fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
}

/// Pinned to cores, and silent.
pub(crate) fn pinned(cores: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What a program says, on both outputs.
pub(crate) fn output(mut command: Command) -> Result<String, Fault> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

// === impl Running ===

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Running, Fault> {
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Running { child })
    }

    pub(crate) fn listening(command: Command, port: u16) -> Result<Running, Fault> {
        let text = format!("{command:?}");
        let mut running = Running::start(command)?;
        let tries = START.as_millis() / 10;
        for _ in 0..tries {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(running);
            }
            if let Ok(Some(status)) = running.child.try_wait() {
                return Err(format!("{text} ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{text} does not listen on port {port}"))
    }
}

impl Drop for Running {
    /// SIGTERM, so that a master takes its workers along.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
