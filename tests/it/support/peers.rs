//! Other people's software, in other people's languages.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::client::RawClient;

/// A program of Node with the libraries of `tests/it/peers/package.json`.
pub(crate) fn node(script: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg(script);
    command
}

/// A program of Python with the libraries of `tests/it/peers/requirements.txt`.
pub(crate) fn python(script: &Path) -> Command {
    let mut command = Command::new(peers().join("python/bin/python"));
    command.arg(script);
    command
}

/// Where the libraries are.
pub(crate) fn peers() -> PathBuf {
    std::env::var_os("TOLLGATE_TEST_PEERS").map(PathBuf::from).expect(
        "TOLLGATE_TEST_PEERS names no folder of libraries: run the tests with tests/run, or with \
         `tests/run -- cargo test`",
    )
}

/// A real OpenID provider, which makes a new key whenever it starts.
pub(crate) struct OpenIdProvider {
    port: u16,
    tenant: String,
    /// Where people are sent back to who have logged in.
    redirect: Option<String>,
    process: Child,
}

// === impl OpenIdProvider ===

impl OpenIdProvider {
    /// One whose tokens name that tenant.
    pub(crate) fn start(tenant: &str) -> Self {
        OpenIdProvider::start_with(tenant, None)
    }

    /// One that people log in at, and that sends them back there: whoever gives a name is believed.
    pub(crate) fn start_for(redirect: &str) -> Self {
        OpenIdProvider::start_with("", Some(redirect.to_owned()))
    }

    fn start_with(tenant: &str, redirect: Option<String>) -> Self {
        // Nobody else is given the port soon: the kernel hands them out in turn.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let port = free.expect("a free port").port();
        let process = spawn(port, tenant, redirect.as_deref());
        OpenIdProvider { port, tenant: tenant.to_owned(), redirect, process }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it. Nothing answers at its address.
    pub(crate) fn stop(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it has ended");
    }

    /// Another key from now on, and only that.
    pub(crate) fn rotate(&mut self) {
        self.stop();
        self.process = spawn(self.port, &self.tenant, self.redirect.as_deref());
    }

    /// A token of its client.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        let body = b"grant_type=client_credentials&scope=orders%3Aread&client_id=orders&\
                     client_secret=a%20secret%20of%20the%20test";
        let host = format!("host: 127.0.0.1:{}", self.port);
        let head = [
            "POST /token HTTP/1.1",
            &host,
            "content-type: application/x-www-form-urlencoded",
            "connection: close",
        ];
        let response = RawClient::connect(SocketAddr::from(([127, 0, 0, 1], self.port))).request(&head, body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["access_token"].as_str().expect("a token").to_owned()
    }
}

impl Drop for OpenIdProvider {
    fn drop(&mut self) {
        // It may be stopped already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, tenant: &str, redirect: Option<&str>) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/provider.mjs");
    let mut process = node(&script)
        .args([&port.to_string(), tenant])
        .args(redirect)
        .env("TOLLGATE_TEST_PEERS", peers())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node starts");
    let mut ready = String::new();
    let output = process.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut ready).expect("it says something");
    assert_eq!(ready.trim(), "ready", "the provider does not start");
    process
}
