//! The built binary as a gateway of one's own: in a fresh directory, on free ports.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::RawClient;
use super::disk::SmallDisk;
use super::upstream::StubUpstream;
use super::wait::until;
use super::wire::Response;

/// A running gateway. Killed when it is dropped, with everything it wrote.
pub(crate) struct TestGateway {
    directory: TempDir,
    /// The URL of its store.
    store: String,
    /// Starts the process in its own way; `None`: as it is.
    launcher: Option<Launcher>,
    process: Option<Child>,
    /// The environment that it starts in.
    variables: Vec<(String, String)>,
    /// What its data directory is on, if that is not the disk of all.
    disk: Option<SmallDisk>,
    addresses: Option<Addresses>,
}

/// A script of bash that ends by becoming the gateway (`"$@"`).
struct Launcher {
    script: String,
    /// Become its stdin and stdout.
    sockets: Option<[TcpListener; 2]>,
}

/// A tenant that can send requests.
#[derive(Clone, Debug)]
pub(crate) struct Customer {
    pub tenant_id: String,
    pub slug: String,
    pub key_id: String,
    /// The API key itself.
    pub key: String,
}

/// What a command did.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

#[derive(Clone, Debug)]
struct Addresses {
    proxy: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    authorize: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// Runs `tollgate` in `directory`, with nothing of the tests' environment.
#[track_caller]
pub(crate) fn tollgate<A: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = A>) -> Run {
    run(command(directory).args(arguments))
}

/// Runs `tollgate` in `directory`, with these variables alone as its environment.
#[track_caller]
pub(crate) fn tollgate_with(variables: &[(&str, &str)], directory: &Path, arguments: &[&str]) -> Run {
    run(command(directory).envs(variables.iter().copied()).args(arguments))
}

#[track_caller]
fn run(command: &mut Command) -> Run {
    let output = command.output().expect("the binary starts");
    Run {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

/// In its own directory.
const OWN_STORE: &str = "sqlite:data/tollgate.db";

// === impl Customer ===

impl Customer {
    /// `GET /` with its key, in the bytes of HTTP/1.
    pub(crate) fn request(&self) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", self.key).into_bytes()
    }
}

// === impl TestGateway ===

impl TestGateway {
    /// A gateway that charges one `api_calls` for each request to `upstream`.
    #[track_caller]
    pub(crate) fn start(upstream: &StubUpstream) -> Self {
        TestGateway::start_with(&charging_all(upstream))
    }

    /// The same, with its store at this URL, and keys that are good at all gateways of that store.
    #[track_caller]
    pub(crate) fn start_on(store: &str, upstream: &StubUpstream) -> Self {
        let pepper = format!("[identity.api_key]\npepper = \"{}\"\n", "07".repeat(32));
        TestGateway::start_in(store, &format!("{}{pepper}", charging_all(upstream)))
    }

    /// A gateway with these upstreams, routes and whatever else is not said by [`TestGateway::configure`].
    #[track_caller]
    pub(crate) fn start_with(configuration: &str) -> Self {
        TestGateway::start_in(OWN_STORE, configuration)
    }

    /// The same on a store that other gateways may share.
    #[track_caller]
    pub(crate) fn start_in(store: &str, configuration: &str) -> Self {
        TestGateway::launch(store, configuration, None)
    }

    /// The same, started by a script of bash that ends with `exec "$@"`.
    #[track_caller]
    pub(crate) fn start_by(script: &str, configuration: &str) -> Self {
        let launcher = Launcher { script: script.to_owned(), sockets: None };
        TestGateway::launch(OWN_STORE, configuration, Some(launcher))
    }

    /// The same, on sockets that stay open while no process serves them, as systemd hands them over.
    #[track_caller]
    pub(crate) fn start_on_sockets(configuration: &str) -> Self {
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [proxy, admin] = [0, 1].map(|index: usize| sockets[index].local_addr().expect("a bound socket"));
        let script = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\"";
        let launcher = Launcher { script: script.to_owned(), sockets: Some(sockets) };
        let configuration =
            format!("[listen]\nproxy = \"{proxy}\"\nadmin = \"{admin}\"\nworkers = 2\n{configuration}");
        TestGateway::launch(OWN_STORE, &configuration, Some(launcher))
    }

    #[track_caller]
    fn launch(store: &str, configuration: &str, launcher: Option<Launcher>) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the gateway");
        let store = store.to_owned();
        let mut gateway = TestGateway {
            directory,
            store,
            launcher,
            process: None,
            variables: Vec::new(),
            disk: None,
            addresses: None,
        };
        gateway.configure(configuration);
        gateway.restart();
        gateway
    }

    /// With its data directory on a disk of so many mebibytes, and its store elsewhere.
    #[track_caller]
    pub(crate) fn start_on_small_disk(mebibytes: u32, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the gateway");
        let disk = SmallDisk::over(&directory.path().join("data"), mebibytes);
        let store = format!("sqlite:{}/tollgate.db", directory.path().display());
        let mut gateway = TestGateway {
            directory,
            store,
            launcher: None,
            process: None,
            variables: Vec::new(),
            disk: Some(disk),
            addresses: None,
        };
        gateway.configure(configuration);
        gateway.restart();
        gateway
    }

    /// The disk of [`TestGateway::start_on_small_disk`].
    #[track_caller]
    pub(crate) fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a gateway on a small disk")
    }

    /// Writes the configuration anew; takes effect with [`TestGateway::restart`] or [`TestGateway::hang_up`].
    pub(crate) fn configure(&self, configuration: &str) {
        let store = &self.store;
        // A `[listen]` of the test's own is completed.
        let listen = "[listen]\nproxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = 2\n";
        let configuration = match configuration.contains("[listen]\n") {
            true if configuration.contains("[listen]\nproxy = ") => configuration.to_owned(),
            true => configuration.replacen("[listen]\n", listen, 1),
            false => format!("{configuration}\n{listen}"),
        };
        // Gateways of one store have one key for its secrets.
        let shared = match store.as_str() {
            OWN_STORE => String::new(),
            _ => format!("control.secret_keys = [{{ version = 1, key = \"{}\" }}]\n", "5e".repeat(32)),
        };
        let own = format!(
            "{shared}[store]\nurl = \"{store}\"\ntimeout = \"20s\"\n\
             [data]\ndirectory = \"data\"\naccounts_max = 4096\n"
        );
        fs::write(self.config(), format!("{own}{configuration}")).expect("the configuration is written");
    }

    /// Starts the process, after ending the one that runs, and waits until it is ready.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill9();
        let _ = fs::remove_file(self.path("data/addresses.json"));
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        self.process = Some(self.spawn(log));
        let addresses = until("addresses.json", || {
            self.must_be_running();
            self.read_addresses()
        });
        self.addresses = Some(addresses);
        until("ready", || {
            self.must_be_running();
            (self.admin_get("/readyz")?.status == 200).then_some(())
        });
    }

    /// The same in this environment, which it keeps.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, variables: &[(String, String)]) {
        variables.clone_into(&mut self.variables);
        self.restart();
    }

    fn spawn(&self, log: File) -> Child {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(log);
        if let Some(Launcher { script, sockets }) = &self.launcher {
            let mut launched = Command::new("/bin/bash");
            launched.current_dir(self.directory.path()).env_clear();
            launched.args(["-c", script, "bash"]).arg(command.get_program());
            let log = OpenOptions::new().append(true).open(self.log_path()).expect("a log file");
            launched.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            if let Some([proxy, admin]) = sockets {
                let socket = |socket: &TcpListener| OwnedFd::from(socket.try_clone().expect("a descriptor"));
                launched.stdin(socket(proxy)).stdout(socket(admin));
            }
            command = launched;
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config"]).arg(self.config());
        command.spawn().expect("the binary starts")
    }

    /// Starts the process, which must end by itself, and gives what it logged.
    #[track_caller]
    pub(crate) fn fails_to_start(&mut self) -> String {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("a log file");
        self.process = Some(self.spawn(log));
        assert!(!self.ended().success());
        self.log()
    }

    /// Processor time of the process so far.
    #[track_caller]
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a running gateway");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        // Linux counts in hundredths of a second.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running gateway").id()
    }

    #[track_caller]
    fn must_be_running(&mut self) {
        let ended =
            self.process.as_mut().and_then(|process| process.try_wait().expect("a child can be asked"));
        if let Some(status) = ended {
            panic!("the gateway ended ({status}):\n{}", self.log());
        }
    }

    fn read_addresses(&self) -> Option<Addresses> {
        let text = fs::read_to_string(self.path("data/addresses.json")).ok()?;
        let json: Value = serde_json::from_str(&text).ok()?;
        let address = |json: &Value| json.as_str()?.parse().ok();
        let list = |json: &Value| json.as_array()?.iter().map(address).collect::<Option<Vec<SocketAddr>>>();
        Some(Addresses {
            proxy: list(&json["proxy"])?,
            tls: list(&json["tls"])?,
            authorize: list(&json["authorize"])?,
            admin: address(&json["admin"])?,
        })
    }

    fn admin_get(&self, target: &str) -> Option<Response> {
        let mut client = RawClient::try_connect(self.admin()).ok()?;
        client.try_send(format!("GET {target} HTTP/1.1\r\nhost: admin\r\n\r\n").as_bytes()).ok()?;
        client.try_response("GET").ok()
    }

    /// Kills the process, as `kill -9` does. What it wrote stays.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits for the end of a process that was told to end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("a running gateway");
        until("the end of the process", || process.try_wait().expect("a child can be asked"))
    }

    /// Sends SIGHUP: read the configuration again.
    #[track_caller]
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running gateway");
        kill_process(Pid::from_child(process), signal).expect("a child takes signals");
    }

    /// The most memory that the process has had since [`TestGateway::peak_memory_from_now`], in bytes.
    #[track_caller]
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory that the process has now, in bytes.
    #[track_caller]
    pub(crate) fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// A line of proc(5), `status`.
    #[track_caller]
    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = value.and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.expect("the kernel knows it") * 1_024
    }

    /// Forgets what the process needed at its start (proc(5), `clear_refs`); gives what it has now.
    #[track_caller]
    pub(crate) fn peak_memory_from_now(&self) -> u64 {
        let process = self.process.as_ref().expect("a running gateway");
        fs::write(format!("/proc/{}/clear_refs", process.id()), "5").expect("a process of our own");
        self.peak_memory()
    }

    /// The first address of the data plane.
    #[track_caller]
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.addresses.as_ref().expect("a gateway that was started").proxy[0]
    }

    /// The first address that speaks TLS.
    #[track_caller]
    pub(crate) fn tls(&self) -> SocketAddr {
        self.addresses.as_ref().expect("a gateway that was started").tls[0]
    }

    /// The first address where other proxies ask.
    #[track_caller]
    pub(crate) fn authorize(&self) -> SocketAddr {
        self.addresses.as_ref().expect("a gateway that was started").authorize[0]
    }

    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.addresses.as_ref().expect("a gateway that was started").admin
    }

    /// Memory that the process has in use.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let pid = self.process.as_ref().expect("a gateway that was started").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// A connection to the data plane.
    #[track_caller]
    pub(crate) fn client(&self) -> RawClient {
        RawClient::connect(self.proxy())
    }

    /// A GET on the admin address, without a token.
    #[track_caller]
    pub(crate) fn admin_text(&self, target: &str) -> String {
        self.admin_get(target).expect("an answer of the admin address").text()
    }

    /// The value of a metric: the sum over its series whose labels contain `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin_text("/metrics");
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let own = series.filter(|(series, _)| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && series.contains(labels)
        });
        own.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// Runs a command beside the gateway, on its configuration.
    #[track_caller]
    pub(crate) fn tollgate(&self, arguments: &[&str]) -> Run {
        let config = self.config();
        let config = [OsStr::new("--config"), config.as_os_str()];
        run(self.command().args(arguments.iter().map(OsStr::new).chain(config)))
    }

    fn command(&self) -> Command {
        let Some(disk) = &self.disk else { return command(self.directory.path()) };
        let mut command = disk.enter(env!("CARGO_BIN_EXE_tollgate").as_ref(), self.directory.path());
        command.env_clear().stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed, and reads what it prints.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.tollgate(&[arguments, &["--json"]].concat());
        assert!(run.status.success(), "{arguments:?}: {}\n{}", run.stderr, self.log());
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
    }

    /// A new tenant of `tier` with a key.
    #[track_caller]
    pub(crate) fn customer(&self, name: &str, tier: &str) -> Customer {
        let tenant = self.json(&["tenant", "create", name, "--tier", tier]);
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
        let (tenant_id, slug) = (text(&tenant["tenant_id"]), text(&tenant["slug"]));
        let key = self.json(&["key", "create", &tenant_id, "--name", "test"]);
        Customer { tenant_id, slug, key_id: text(&key["key_id"]), key: text(&key["key"]) }
    }

    /// A new tenant with this limit of `api_calls`, and a key.
    #[track_caller]
    pub(crate) fn customer_with_limit(&self, name: &str, limit: u64) -> Customer {
        let customer = self.customer(name, "free");
        self.json(&["quota", "set", &customer.tenant_id, "api_calls", "--limit", &limit.to_string()]);
        customer
    }

    /// The newest rows of the customer's usage log.
    #[track_caller]
    pub(crate) fn usage_rows(&self, customer: &Customer) -> Vec<Value> {
        let target = format!("GET /api/tenants/{}/usage-logs?limit=1000", customer.tenant_id);
        self.api(&target, None).1["items"].as_array().expect("items").clone()
    }

    /// What opens the API to whoever may read the data directory.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let door = fs::read_to_string(self.path("data/admin.token")).expect("a running gateway's door");
        door.lines().nth(1).expect("a token on the second line").to_owned()
    }

    /// What the API answers to the local administrator; `line` is `METHOD /path`.
    #[track_caller]
    pub(crate) fn api(&self, line: &str, body: Option<&Value>) -> (u16, Value) {
        self.api_as(&self.token(), line, body)
    }

    /// The same to whoever has that token or key.
    #[track_caller]
    pub(crate) fn api_as(&self, token: &str, line: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut client = RawClient::connect(self.admin());
        let lines = [
            &format!("{line} HTTP/1.1"),
            "host: admin",
            "content-type: application/json",
            &format!("content-length: {}", body.len()),
            &format!("authorization: Bearer {token}"),
        ];
        let answer = client.request(&lines, body.as_bytes());
        (answer.status, serde_json::from_str(&answer.text()).unwrap_or(Value::Null))
    }

    /// A path in the gateway's directory, which is its working directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        let path = self.directory.path().join(relative);
        self.disk
            .as_ref()
            .filter(|_| relative.starts_with("data/"))
            .map_or(path.clone(), |disk| disk.path(&path))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("gateway.toml")
    }

    /// Everything it has logged, over all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.path("stderr.log")
    }
}

/// One route to it, which charges one `api_calls` for each request.
pub(crate) fn charging_all(upstream: &StubUpstream) -> String {
    format!(
        "[[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n",
        upstream.url()
    )
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.kill9();
        #[expect(clippy::print_stderr, reason = "a failing test shows what the gateway said")]
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
        }
    }
}
