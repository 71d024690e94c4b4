//! Postgres servers: the one that all tests share, and private ones that a test may kill.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::until;

/// The superuser's URL of the server that tests share.
///
/// # Panics
/// Without one; says how to get it.
pub(crate) fn shared_postgres() -> String {
    std::env::var("TOLLGATE_TEST_POSTGRES").expect(
        "TOLLGATE_TEST_POSTGRES names no server: run the tests with tests/run, or with `tests/run -- cargo test`",
    )
}

/// The URL of a role and a database of the server that tests share.
pub(crate) fn shared_url(role: &str, database: &str) -> String {
    let shared = shared_postgres();
    let (address, options) = shared.split_once('?').unwrap_or((&shared, ""));
    let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
    let host = server.rsplit(['@', '/']).next().unwrap_or_default();
    format!("postgres://{role}@{host}/{database}?{options}")
}

/// Runs SQL by `psql` as whoever `url` names, and answers its rows, unaligned, one per line.
///
/// # Panics
/// When the server refuses it.
#[track_caller]
pub(crate) fn psql(url: &str, sql: &str) -> String {
    try_psql(url, sql).unwrap_or_else(|refused| panic!("{sql}: {refused}"))
}

/// The same, of a script and its variables.
#[track_caller]
pub(crate) fn psql_file(url: &str, script: &Path, variables: &[(&str, u64)]) {
    let mut arguments = vec!["-f".to_owned(), script.display().to_string()];
    arguments.extend(variables.iter().flat_map(|(name, value)| ["-v".to_owned(), format!("{name}={value}")]));
    run_psql(url, &arguments).unwrap_or_else(|refused| panic!("{}: {refused}", script.display()));
}

/// The same, of SQL that may be refused.
pub(crate) fn try_psql(url: &str, sql: &str) -> Result<String, String> {
    run_psql(url, &["-c".to_owned(), sql.to_owned()])
}

fn run_psql(url: &str, arguments: &[String]) -> Result<String, String> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1"]).args(arguments).arg(url);
    let output = psql.output().expect("psql comes with Postgres: tests/run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// A server of one test, on a TCP port of its own, that may be killed and started again. Unlike the shared one it
/// brings every commit to the disk, because what a kill takes is what is tested.
pub(crate) struct PrivatePostgres {
    folder: TempDir,
    programs: PathBuf,
    account: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
}

/// How `initdb` makes a server with nothing on it.
const EMPTY: [&str; 5] =
    ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"];

// === impl PrivatePostgres ===

impl PrivatePostgres {
    /// Initializes and starts it.
    pub(crate) fn start() -> PrivatePostgres {
        PrivatePostgres::made_by("initdb", &EMPTY)
    }

    /// A copy that follows it until [`PrivatePostgres::promote`].
    pub(crate) fn start_standby(&self) -> PrivatePostgres {
        let primary = self.url("postgres", "postgres");
        let options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--dbname", &primary];
        PrivatePostgres::made_by("pg_basebackup", &options)
    }

    /// With data that this program makes.
    fn made_by(program: &str, options: &[&str]) -> PrivatePostgres {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let account = is_root().then(account);
        if let Some((user, group)) = account {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).expect("root gives it away");
        }
        let mut postgres = PrivatePostgres { folder, programs: programs(), account, port: 0, server: None };
        postgres.make(program, options);
        postgres.restart();
        postgres
    }

    fn make(&self, program: &str, options: &[&str]) {
        let made = self.command(program).args(options).arg("-D").arg(self.data()).output();
        let made = made.expect("it comes with Postgres: tests/run");
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Becomes a new, empty server at the same address.
    pub(crate) fn lose_everything(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("a folder of ours");
        self.make("initdb", &EMPTY);
        self.restart();
    }

    /// Follows its primary no longer: what that writes from now on is missed.
    pub(crate) fn stop_following(&self) {
        let url = self.url("postgres", "postgres");
        psql(&url, "ALTER SYSTEM SET primary_conninfo = ''");
        psql(&url, "SELECT pg_reload_conf()");
        until("an end of following", || {
            (psql(&url, "SELECT COUNT(*) FROM pg_stat_wal_receiver") == "0").then_some(())
        });
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        assert_eq!(psql(&self.url("postgres", "postgres"), "SELECT pg_promote()"), "t");
    }

    /// The URL of a role and a database of it, by TCP.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// As a power cut would for everything but the disk: the server and all its backends, at once.
    pub(crate) fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = server.id();
        let backends =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let backends = backends.split_whitespace().filter_map(|pid| pid.parse().ok());
        // The server first, so that it makes no new ones.
        for pid in [pid.cast_signed()].into_iter().chain(backends).filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        server.wait().expect("our child");
    }

    /// Starts it again after a kill, on the same port, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.kill();
        if self.port == 0 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            self.port = free.expect("a free port").port();
        }
        let url = self.url("postgres", "postgres");
        until("Postgres answers", || {
            // The first attempt after a kill may find the shared memory of backends that have not gone yet.
            if self.server.as_mut().is_none_or(|server| server.try_wait().expect("our child").is_some()) {
                self.server = Some(self.spawn());
            }
            TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            try_psql(&url, "SELECT 1").ok()
        });
    }

    fn spawn(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        self.command("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .stderr(log.expect("a folder of ours"))
            .stdout(Stdio::null())
            .spawn()
            .expect("initdb was there as well")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of the server, as an account that it accepts.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Postgres refuses to be root.
fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// User and group of `postgres`, or else of `nobody`.
fn account() -> (u32, u32) {
    let number = |flag, name| {
        let output = Command::new("id").args([flag, name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some((number("-u", name)?, number("-g", name)?)))
        .expect("an account that Postgres may run as: postgres or nobody")
}

/// Where the newest server's programs are: Debian keeps them out of the PATH, where they are looked for else.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let servers = versions.filter(|version| version.path().join("bin/initdb").exists());
    let newest = servers.max_by_key(|version| version.file_name().to_string_lossy().parse().unwrap_or(0_u32));
    newest.map_or_else(PathBuf::new, |version| version.path().join("bin"))
}
