//! Private Redis servers: one, replicated, watched by a Sentinel, or a cluster. Each in a directory of its own, on a
//! port that nobody has, and gone when it is dropped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait::until;

/// A running server, or one that was killed and may be started again.
pub(crate) struct RedisServer {
    directory: TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
    /// What `redis-cli` needs to be let in.
    login: Vec<String>,
}

/// A master, its replica, and the Sentinel that watches them.
pub(crate) struct SentinelTrio {
    pub sentinel: RedisServer,
    pub master: RedisServer,
    pub replica: RedisServer,
}

/// Three masters, each with a replica.
pub(crate) struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

/// Something that several tests use at the same time, and that ends with the last of them.
pub(crate) struct Shared<T>(Mutex<Weak<T>>);

/// What the Sentinel calls the master.
pub(crate) const MASTER_NAME: &str = "fleet";

/// Below what systems give to outgoing connections, so that a server which is down finds its port free again.
const PORT_MIN: u16 = 18_000;
const PORT_MAX: u16 = 29_000;

static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on.
fn free_port() -> u16 {
    // Processes that test at the same time begin at different places.
    let begin = u16::try_from(std::process::id() % u32::from(PORT_MAX - PORT_MIN)).expect("less than 65536");
    loop {
        let step = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = PORT_MIN + (begin.wrapping_add(step)) % (PORT_MAX - PORT_MIN);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[track_caller]
fn output(command: &mut Command) -> Output {
    let name = command.get_program().to_owned();
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}", missing(name.as_ref(), &error)))
}

fn missing(program: &Path, error: &std::io::Error) -> String {
    let package = match program.to_str() {
        Some("redis-server") => "redis-server",
        Some("redis-cli") => "redis-tools",
        _ => "openssl",
    };
    let program = program.display();
    format!("{program} does not start ({error}); these tests need it: apt-get install {package}")
}

// === impl RedisServer ===

impl RedisServer {
    #[track_caller]
    pub(crate) fn start() -> Self {
        RedisServer::start_with(&[])
    }

    /// With these arguments more, for example `["--requirepass", "word"]`.
    #[track_caller]
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        RedisServer::launch(arguments, &[])
    }

    /// With a password for everybody.
    #[track_caller]
    pub(crate) fn start_with_password(password: &str) -> Self {
        RedisServer::launch(&["--requirepass", password], &["--no-auth-warning", "-a", password])
    }

    /// Over TLS, with a certificate for 127.0.0.1 that descends from [`RedisServer::roots`].
    #[track_caller]
    pub(crate) fn start_with_tls() -> Self {
        let mut server = RedisServer::prepare(&[], &[]);
        server.make_certificates();
        let path = |name: &str| server.path(name).to_str().expect("a path in UTF-8").to_owned();
        let (port, ca, cert, key) =
            (server.port.to_string(), path("ca.crt"), path("tls.crt"), path("tls.key"));
        let tls = ["--port", "0", "--tls-port", &port, "--tls-ca-cert-file", &ca];
        let own = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
        server.arguments.extend(tls.iter().chain(&own).map(|&argument| argument.to_owned()));
        server.login = ["--tls", "--cacert", &ca].map(str::to_owned).to_vec();
        server.restart();
        server
    }

    #[track_caller]
    pub(crate) fn start_replica_of(master: &RedisServer) -> Self {
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        until("a replica in step", || {
            replica.info("replication").contains("master_link_status:up").then_some(())
        });
        replica
    }

    #[track_caller]
    fn launch(arguments: &[&str], login: &[&str]) -> Self {
        let mut server = RedisServer::prepare(arguments, login);
        server.restart();
        server
    }

    fn prepare(arguments: &[&str], login: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the server");
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (arguments, login) = (own(arguments), own(login));
        RedisServer { directory, port: free_port(), arguments, process: None, login }
    }

    /// Starts the process, after killing the one that runs, with what is in its directory.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = File::create(self.path("log")).expect("a log file");
        let mut command = Command::new("redis-server");
        if self.path("sentinel.conf").exists() {
            command.args(["sentinel.conf", "--sentinel"]);
        } else {
            let port = self.port.to_string();
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            // A replica is in step at once, and hears of it.
            command.args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
            command.args(&self.arguments);
        }
        command
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let process =
            command.spawn().unwrap_or_else(|error| panic!("{}", missing("redis-server".as_ref(), &error)));
        self.process = Some(process);
        until("a server that answers", || {
            self.must_be_running();
            (self.try_cli(&["PING"]).is_some_and(|answer| answer == "PONG")).then_some(())
        });
    }

    #[track_caller]
    fn must_be_running(&mut self) {
        let process = self.process.as_mut().expect("a process");
        if let Some(status) = process.try_wait().expect("a child can be asked") {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            panic!("redis-server ended ({status}):\n{log}");
        }
    }

    /// Kills the process, as `kill -9` does. Without persistence, a restart is empty.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops the process where it stands: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("a running server");
        kill_process(Pid::from_child(process), signal).expect("a child takes signals");
    }

    pub(crate) fn flush(&self) {
        self.cli(&["FLUSHALL"]);
    }

    /// What `redis-cli` answers, as text.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|| panic!("no answer to {arguments:?}"))
    }

    fn try_cli(&self, arguments: &[&str]) -> Option<String> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port]).args(&self.login).args(arguments);
        let output = output(&mut command);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    pub(crate) fn info(&self, section: &str) -> String {
        self.try_cli(&["INFO", section]).unwrap_or_default()
    }

    /// Removes what begins with `prefix`, as if the server had never heard of it.
    pub(crate) fn forget(&self, prefix: &str) {
        let keys = self.cli(&["--scan", "--pattern", &format!("{prefix}:*")]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            self.cli(&["DEL", key]);
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The certificate that the server's descends from.
    pub(crate) fn roots(&self) -> Vec<u8> {
        fs::read(self.path("ca.crt")).expect("a server with TLS")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make_certificates(&self) {
        let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let root = ["-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.crt"];
        self.openssl(&[&new[..], &root[..]].concat());
        let own = ["-subj", "/CN=redis", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
        let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "tls.key", "-out", "tls.crt"];
        self.openssl(&[&new[..], &own[..], &signed[..]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = output(Command::new("openssl").current_dir(&self.directory).args(arguments));
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

// === impl SentinelTrio ===

impl SentinelTrio {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let master = RedisServer::start();
        let replica = RedisServer::start_replica_of(&master);
        let mut sentinel = RedisServer::prepare(&[], &[]);
        // A failover within a second, not half a minute.
        let conf = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor {MASTER_NAME} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {MASTER_NAME} 300\nsentinel failover-timeout {MASTER_NAME} 3000\n",
            sentinel.port, master.port
        );
        fs::write(sentinel.path("sentinel.conf"), conf).expect("the configuration is written");
        sentinel.restart();
        let trio = SentinelTrio { sentinel, master, replica };
        until("a Sentinel that knows the replica", || trio.knows_replica().then_some(()));
        trio
    }

    fn knows_replica(&self) -> bool {
        let replicas = self.sentinel.cli(&["SENTINEL", "REPLICAS", MASTER_NAME]);
        replicas.contains(&self.replica.port.to_string()) && replicas.contains("\nmaster-link-status\nok\n")
    }

    /// The port of whom the Sentinel takes for the master.
    pub(crate) fn master_port(&self) -> u16 {
        let address = self.sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]);
        address.lines().nth(1).and_then(|port| port.parse().ok()).expect("an address")
    }
}

// === impl RedisCluster ===

impl RedisCluster {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let cluster = RedisCluster { nodes: (0..6).map(|_| RedisCluster::start_node()).collect() };
        let addresses: Vec<String> =
            cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let create: Vec<&str> =
            ["--cluster", "create"].into_iter().chain(addresses.iter().map(String::as_str)).collect();
        cluster.nodes[0].cli(&[&create[..], &["--cluster-replicas", "1", "--cluster-yes"]].concat());
        until("a cluster that is whole", || cluster.is_whole().then_some(()));
        cluster
    }

    fn start_node() -> RedisServer {
        let bus = free_port().to_string();
        RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            "1500",
        ])
    }

    /// Whether all nodes agree that all slots are served, and all replicas are in step.
    fn is_whole(&self) -> bool {
        let in_step = |info: &str| info.contains("role:master") || info.contains("master_link_status:up");
        let masters = self.masters();
        let all = |role: &str| self.nodes.iter().all(|node| self.sees(node, role) == 3);
        masters.len() == 3
            && all("master")
            && all("slave")
            && self.nodes.iter().all(|node| in_step(&node.info("replication")))
            && self.nodes.iter().all(|node| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    }

    fn sees(&self, node: &RedisServer, role: &str) -> usize {
        let sound = |line: &&str| line.contains(role) && !line.contains("fail");
        node.cli(&["CLUSTER", "NODES"]).lines().filter(sound).count()
    }

    /// The nodes that are masters and serve something.
    pub(crate) fn masters(&self) -> Vec<&RedisServer> {
        self.nodes.iter().filter(|node| node.process.is_some() && node.serves_slots()).collect()
    }

    /// The master of the slot of `key`, and a master of other slots.
    pub(crate) fn master_of(&self, key: &str) -> (&RedisServer, &RedisServer) {
        let masters = self.masters();
        let keeps = |node: &&&RedisServer| node.cli(&["EXISTS", key]).parse::<u8>().is_ok();
        let own = *masters.iter().find(keeps).expect("a master of the slot");
        let other = *masters.iter().find(|node| node.port != own.port).expect("another master");
        (own, other)
    }

    /// Begins to move the slot of `key` from one master to another: new keys are made there already.
    pub(crate) fn begin_move(&self, key: &str, from: &RedisServer, to: &RedisServer) -> String {
        let slot = from.cli(&["CLUSTER", "KEYSLOT", key]);
        to.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.cluster_id()]);
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.cluster_id()]);
        slot
    }

    /// Moves the keys of a slot.
    pub(crate) fn move_keys(&self, slot: &str, from: &RedisServer, to: &RedisServer) {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, "1000"]);
        let port = to.port.to_string();
        for key in keys.lines().filter(|key| !key.is_empty()) {
            from.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
    }

    /// Tells all masters that the slot has moved.
    pub(crate) fn end_move(&self, slot: &str, from: &RedisServer, to: &RedisServer) {
        let id = to.cluster_id();
        for node in [to, from].into_iter().chain(self.masters()) {
            node.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &id]);
        }
    }
}

impl RedisServer {
    fn cluster_id(&self) -> String {
        self.cli(&["CLUSTER", "MYID"])
    }

    fn serves_slots(&self) -> bool {
        let nodes = self.cli(&["CLUSTER", "NODES"]);
        let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
        own.contains("master") && own.split(' ').count() > 8
    }
}

// === impl Shared ===

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Shared(Mutex::new(Weak::new()))
    }

    /// The one that is in use, or a new one.
    pub(crate) fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(start());
            *known = Arc::downgrade(&fresh);
            fresh
        })
    }
}
