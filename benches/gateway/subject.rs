//! What is measured: each started with a configuration of its own, on the cores and with the workers of the case.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::case::{Case, Certificate, Protocol};
use crate::{Fault, cpu, load};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    NginxPlain,
    TollgateEnforcing,
    TollgatePublic,
    HaproxyPlain,
    /// What one builds by hand: a key's tenant and its counter in one round trip to Redis.
    NginxRedis,
}

/// A proxy that answers at `url`.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) headers: Vec<String>,
    proxy: Running,
    helpers: Vec<Running>,
}

/// What a subject is started for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) case: &'a Case,
    pub(crate) certificate: &'a Certificate,
    pub(crate) directory: &'a Path,
    pub(crate) upstream: u16,
}

/// A process that ends with its owner.
pub(crate) struct Running {
    pub(crate) child: Child,
}

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);

/// Debian's directory of dynamic modules.
const LUA_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_lua_module.so";

/// More than any run uses, and exact in every reader.
const LIMIT: &str = "1000000000000";

pub(crate) fn require(program: &str) -> Result<(), Fault> {
    if is_installed(program) {
        return Ok(());
    }
    Err(format!("{program} is not installed: apt-get install wrk nghttp2-client util-linux"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A port that was free a moment ago: the peers can't be asked which one they got.
fn free_port() -> Result<u16, Fault> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("a free port: {error}"))
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
}

/// Pinned to a core, and silent.
fn pinned(core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

// === impl Kind ===

impl Kind {
    /// The reference is the first.
    pub(crate) const ALL: [Kind; 5] = [
        Kind::NginxPlain,
        Kind::TollgateEnforcing,
        Kind::TollgatePublic,
        Kind::HaproxyPlain,
        Kind::NginxRedis,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::NginxPlain => "nginx plain",
            Kind::TollgateEnforcing => "tollgate enforcing",
            Kind::TollgatePublic => "tollgate public",
            Kind::HaproxyPlain => "haproxy plain",
            Kind::NginxRedis => "nginx + lua + redis",
        }
    }

    /// Why it can't be measured here.
    pub(crate) fn missing(self, tollgate: &Path) -> Option<String> {
        let program = |name: &str| (!is_installed(name)).then(|| format!("{name} is not installed"));
        match self {
            Kind::NginxPlain => program("nginx"),
            Kind::TollgateEnforcing | Kind::TollgatePublic => {
                (!tollgate.is_file()).then(|| format!("{} does not exist", tollgate.display()))
            }
            Kind::HaproxyPlain => program("haproxy"),
            Kind::NginxRedis => program("nginx").or_else(|| program("redis-server")).or_else(|| {
                (!Path::new(LUA_MODULE).is_file()).then(|| format!("{LUA_MODULE} is not installed"))
            }),
        }
    }
}

// === impl Subject ===

impl Subject {
    pub(crate) fn start(kind: Kind, place: Place<'_>, tollgate: &Path) -> Result<Subject, Fault> {
        let directory = place.directory.join(kind.name().replace(' ', "-"));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let place = Place { directory: &directory, ..place };
        match kind {
            Kind::NginxPlain => nginx(kind, place, "", ""),
            Kind::NginxRedis => nginx_redis(place),
            Kind::HaproxyPlain => haproxy(place),
            Kind::TollgateEnforcing | Kind::TollgatePublic => {
                Tollgate { program: tollgate, place }.start(kind)
            }
        }
    }

    /// CPU time of the proxy's processes so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Fault> {
        cpu::of_tree(self.proxy.child.id())
    }

    /// CPU time of what the proxy needs beside it.
    pub(crate) fn helpers_cpu(&self) -> Result<Duration, Fault> {
        self.helpers.iter().map(|helper| cpu::of_tree(helper.child.id())).sum()
    }
}

// === impl Running ===

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Running, Fault> {
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Running { child })
    }

    fn listening(command: Command, port: u16) -> Result<Running, Fault> {
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

// === the peers ===

/// nginx as one would run it: keep-alive on both sides, no access log.
fn nginx(kind: Kind, place: Place<'_>, modules: &str, access: &str) -> Result<Subject, Fault> {
    let Place { case, certificate, directory, upstream } = place;
    let port = free_port()?;
    let (listen, tls) = match case.protocol {
        Protocol::Http1 => ("", String::new()),
        Protocol::Http1OverTls => (" ssl", ssl(certificate)),
        Protocol::Http2OverTls => (" ssl http2", ssl(certificate)),
    };
    let text = format!(
        "{modules}
        daemon off; worker_processes {workers}; pid {directory}/nginx.pid; error_log {directory}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; keepalive_requests 1000000000; client_body_temp_path {directory}/body;
            proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
            uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
            upstream origin {{
                server 127.0.0.1:{upstream}; keepalive {connections}; keepalive_requests 1000000000;
            }}
            server {{
                listen 127.0.0.1:{port}{listen}; {tls}
                location / {{
                    {access}
                    proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
                }}
            }}
        }}",
        directory = directory.display(),
        connections = load::CONNECTIONS,
        workers = case.workers.count(),
    );
    let file = directory.join("nginx.conf");
    write(&file, &text)?;
    let mut command = pinned(case.workers.cores(), "nginx");
    command.arg("-c").arg(&file).arg("-p").arg(directory);
    let proxy = Running::listening(command, port)?;
    let url = case.url(port, "/v1/scan");
    Ok(Subject { kind, url, headers: vec!["x-api-key: bench".to_owned()], proxy, helpers: Vec::new() })
}

fn ssl(certificate: &Certificate) -> String {
    let Certificate { certificate, key, .. } = certificate;
    format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
}

fn nginx_redis(place: Place<'_>) -> Result<Subject, Fault> {
    let port = free_port()?;
    let mut command = pinned(place.case.workers.other_cores(), "redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
    let redis = Running::listening(command, port)?;
    let modules = "load_module modules/ndk_http_module.so; load_module modules/ngx_http_lua_module.so;";
    let modules = modules.replace("modules/", "/usr/lib/nginx/modules/");
    let access = format!(
        "access_by_lua_block {{
            local key = ngx.var.http_x_api_key
            if not key then return ngx.exit(401) end
            local redis = ngx.socket.tcp()
            if not redis:connect('127.0.0.1', {port}) then return ngx.exit(503) end
            redis:send('*2\\r\\n$3\\r\\nGET\\r\\n$' .. #key .. '\\r\\n' .. key .. '\\r\\n'
                .. '*2\\r\\n$4\\r\\nINCR\\r\\n$5\\r\\nusage\\r\\n')
            redis:receive()
            local used = redis:receive()
            if not used then return ngx.exit(503) end
            redis:setkeepalive(60000, 128)
            if tonumber(used:sub(2)) > {LIMIT} then return ngx.exit(429) end
            ngx.req.set_header('x-tenant-id', 'bench')
        }}"
    );
    let subject = nginx(Kind::NginxRedis, place, &modules, &access)?;
    Ok(Subject { helpers: vec![redis], ..subject })
}

fn haproxy(place: Place<'_>) -> Result<Subject, Fault> {
    let Place { case, certificate, directory, upstream } = place;
    let port = free_port()?;
    let tls = match case.protocol {
        Protocol::Http1 => String::new(),
        Protocol::Http1OverTls => format!(" ssl crt {} alpn http/1.1", certificate.both.display()),
        Protocol::Http2OverTls => format!(" ssl crt {} alpn h2", certificate.both.display()),
    };
    let file = directory.join("haproxy.cfg");
    let text = format!(
        "global
    nbthread {workers}
    maxconn 1024
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}{tls}
    default_backend origin
backend origin
    server origin 127.0.0.1:{upstream}
",
        workers = case.workers.count(),
    );
    write(&file, &text)?;
    let mut command = pinned(case.workers.cores(), "haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let proxy = Running::listening(command, port)?;
    let url = case.url(port, "/v1/scan");
    Ok(Subject { kind: Kind::HaproxyPlain, url, headers: Vec::new(), proxy, helpers: Vec::new() })
}

// === tollgate ===

struct Tollgate<'a> {
    program: &'a Path,
    place: Place<'a>,
}

impl Tollgate<'_> {
    fn start(&self, kind: Kind) -> Result<Subject, Fault> {
        let (port, admin) = (free_port()?, free_port()?);
        self.configure(port, admin)?;
        let mut command = pinned(self.place.case.workers.cores(), self.program);
        command.arg("serve").arg("--config").arg(self.config()).current_dir(self.place.directory);
        let proxy = Running::listening(command, port)?;
        let (path, headers) = match kind {
            Kind::TollgatePublic => ("/public/scan", Vec::new()),
            _ => ("/v1/scan", vec![format!("x-api-key: {}", self.key()?)]),
        };
        Ok(Subject { kind, url: self.place.case.url(port, path), headers, proxy, helpers: Vec::new() })
    }

    fn config(&self) -> std::path::PathBuf {
        self.place.directory.join("tollgate.toml")
    }

    fn configure(&self, port: u16, admin: u16) -> Result<(), Fault> {
        let Place { case, certificate, upstream, .. } = self.place;
        let Certificate { certificate, key, .. } = certificate;
        // Where the case is encrypted, nobody comes to the other address.
        let (plain, tls) = match case.is_encrypted() {
            false => (port, String::new()),
            true => (
                free_port()?,
                format!(
                    "[listen.tls]\naddress = \"127.0.0.1:{port}\"\ncertificates = [{{ cert = {:?}, key = {:?} }}]",
                    certificate.display().to_string(),
                    key.display().to_string(),
                ),
            ),
        };
        let text = format!(
            r#"
[listen]
proxy = "127.0.0.1:{plain}"
admin = "127.0.0.1:{admin}"
workers = {workers}
{tls}
[store]
url = "sqlite:tollgate.db"
[data]
directory = "data"
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
"#,
            workers = case.workers.count(),
        );
        write(&self.config(), &text)
    }

    /// A key of a tenant that may call often enough, made as an operator makes it: beside the running gateway.
    fn key(&self) -> Result<String, Fault> {
        let tenant = self.json(&["tenant", "create", "Bench", "--tier", "enterprise"])?;
        let tenant = text(&tenant, "tenant_id")?;
        self.json(&["quota", "set", &tenant, "api_calls", "--limit", LIMIT])?;
        text(&self.json(&["key", "create", &tenant, "--name", "bench"])?, "key")
    }

    fn json(&self, arguments: &[&str]) -> Result<serde_json::Value, Fault> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(self.config())
            .current_dir(self.place.directory);
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let fault = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(fault());
        }
        serde_json::from_slice(&output.stdout).map_err(|_| fault())
    }
}

fn text(object: &serde_json::Value, name: &str) -> Result<String, Fault> {
    let text = object.get(name).and_then(serde_json::Value::as_str);
    text.map(str::to_owned).ok_or_else(|| format!("`{name}` is missing in {object}"))
}
