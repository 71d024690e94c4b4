//! Connections that were used once and are kept: what each takes of the proxy's memory.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;

use crate::fill::fill;
use crate::gateway::{Gateway, Place};
use crate::memory::Memory;
use crate::report::{Row, Table};
use crate::rig::Fault;
use crate::rig::certificate::Certificate;
use crate::rig::peer::{Encryption, Peer};
use crate::rig::process::{Running, free_port, is_installed};
use crate::rig::upstream::Upstream;
use crate::{ANSWER_BYTES, OTHER_CORE, Options, PROXY_CORE};

const NAMES: [&str; 3] = ["tollgate", "nginx", "haproxy"];

/// Before anything is counted: buffers, pools and caches that do not grow with connections.
const BEFORE: usize = 64;

/// How long a proxy may take to let go of what it needed for a request.
const SETTLE: Duration = Duration::from_secs(2);

/// A proxy that answers on a port.
enum Subject {
    Tollgate(Gateway),
    Peer(Running, u16),
}

/// Where proxies are started.
struct Ground<'a> {
    options: &'a Options,
    directory: &'a Path,
    database: &'a Path,
    certificate: &'a Certificate,
    upstream: u16,
}

/// One who opens connections.
struct Client {
    runtime: Runtime,
    key: String,
    tls: Option<TlsConnector>,
}

/// A connection that is kept, encrypted or not.
type Kept = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let (directory, database) = (directory.path(), &directory.path().join("tollgate.db"));
    let certificate = &Certificate::make(directory)?;
    let keys = fill(database, 1, 1)?;
    let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
    let ground = Ground { options, directory, database, certificate, upstream: upstream.port };
    let mut table = Table::new(format!("{} idle connections", options.connections));
    for is_encrypted in [false, true] {
        for name in NAMES {
            if name != NAMES[0] && !is_installed(name) {
                println!("{name}: skipped, it is not installed");
                continue;
            }
            let client = Client::new(&keys[0], is_encrypted.then_some(certificate))?;
            table.add(ground.row(name, is_encrypted, &client)?);
            eprint!(".");
        }
    }
    eprintln!();
    Ok(table)
}

// === impl Ground ===

impl Ground<'_> {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    fn row(&self, name: &str, is_encrypted: bool, client: &Client) -> Result<Row, Fault> {
        let subject = self.start(name, is_encrypted)?;
        let fresh = Memory::of(subject.id())?;
        drop(client.open(subject.port(), BEFORE)?);
        std::thread::sleep(SETTLE);
        let before = Memory::of(subject.id())?;
        let kept = client.open(subject.port(), self.options.connections)?;
        std::thread::sleep(SETTLE);
        let after = Memory::of(subject.id())?;
        let per_connection = (after.own - before.own) / kept.len() as f64;
        let lane = if is_encrypted { "TLS" } else { "plain" };
        Ok(Row::of(format!("{name}, {lane}"))
            .with("B/connection", per_connection)
            .with("fresh: own MiB", fresh.own / f64::from(1 << 20))
            .with("mapped MiB", fresh.mapped / f64::from(1 << 20)))
    }

    fn start(&self, name: &str, is_encrypted: bool) -> Result<Subject, Fault> {
        let directory = self.directory.join(format!("{name}-{is_encrypted}"));
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let certificate = is_encrypted.then_some(self.certificate);
        if name == NAMES[0] {
            let place = Place::new(&directory, self.database, self.upstream);
            return Ok(Subject::Tollgate(Place { certificate, ..place }.start(self.options)?));
        }
        let port = free_port()?;
        let peer = Peer {
            directory: &directory,
            cores: PROXY_CORE,
            workers: 1,
            port,
            upstream: self.upstream,
            encryption: certificate.map(|certificate| Encryption { certificate, http2: false }),
            connections: self.options.connections + BEFORE,
        };
        let running = if name == "nginx" { peer.nginx("", "")? } else { peer.haproxy()? };
        Ok(Subject::Peer(running, port))
    }
}

// === impl Subject ===

impl Subject {
    fn id(&self) -> u32 {
        match self {
            Subject::Tollgate(gateway) => gateway.id(),
            Subject::Peer(running, _) => running.child.id(),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Subject::Tollgate(gateway) => gateway.port,
            Subject::Peer(_, port) => *port,
        }
    }
}

// === impl Client ===

impl Client {
    fn new(key: &str, certificate: Option<&Certificate>) -> Result<Client, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("a runtime: {error}"))?;
        let tls = certificate.map(|certificate| trusting(&certificate.certificate)).transpose()?;
        Ok(Client { runtime, key: key.to_owned(), tls })
    }

    /// So many connections, each of which was answered one request.
    fn open(&self, port: u16, count: usize) -> Result<Vec<Kept>, Fault> {
        let all = async {
            let mut kept = Vec::with_capacity(count);
            for _ in 0..count {
                kept.push(self.connect(port).await?);
            }
            Ok(kept)
        };
        self.runtime.block_on(all).map_err(|error: io::Error| format!("opening {count} connections: {error}"))
    }

    async fn connect(&self, port: u16) -> io::Result<Kept> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut stream: Kept = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Box::new(tls.connect(name, stream).await?)
            }
        };
        self.ask(&mut stream).await?;
        Ok(stream)
    }

    async fn ask(&self, stream: &mut Kept) -> io::Result<()> {
        let request = format!("GET /v1/scan HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\r\n", self.key);
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        match answer.starts_with(b"HTTP/1.1 200") {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
        }
    }
}

/// A head and what the upstream says, or a refusal.
fn is_whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() >= head + 4 + ANSWER_BYTES)
}

fn trusting(certificate: &Path) -> Result<TlsConnector, Fault> {
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", certificate.display());
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).map_err(|error| fault(&error))?;
    roots.add(certificate).map_err(|error| fault(&error))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
