//! What is measured: each started with a configuration of its own, on the cores and with the workers of the case.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::{Case, Protocol};
use crate::rig::certificate::Certificate;
use crate::rig::peer::{Encryption, Peer};
use crate::rig::process::{Running, free_port, is_installed, pinned, write};
use crate::rig::{Fault, tree};

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

/// Debian's directory of dynamic modules.
const LUA_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_lua_module.so";

/// More than any run uses, and exact in every reader.
const LIMIT: &str = "1000000000000";

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
        tree::cpu(self.proxy.child.id())
    }

    /// CPU time of what the proxy needs beside it.
    pub(crate) fn helpers_cpu(&self) -> Result<Duration, Fault> {
        self.helpers.iter().map(|helper| tree::cpu(helper.child.id())).sum()
    }
}

// === the peers ===

fn nginx(kind: Kind, place: Place<'_>, modules: &str, access: &str) -> Result<Subject, Fault> {
    let port = free_port()?;
    let proxy = peer(place, port).nginx(modules, access)?;
    let url = place.case.url(port, "/v1/scan");
    Ok(Subject { kind, url, headers: vec!["x-api-key: bench".to_owned()], proxy, helpers: Vec::new() })
}

fn peer(place: Place<'_>, port: u16) -> Peer<'_> {
    let Place { case, certificate, directory, upstream } = place;
    let encryption = Encryption { certificate, http2: case.protocol == Protocol::Http2OverTls };
    Peer {
        directory,
        cores: case.workers.cores(),
        workers: case.workers.count(),
        port,
        upstream,
        encryption: case.is_encrypted().then_some(encryption),
        connections: 1024,
    }
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
    let port = free_port()?;
    let proxy = peer(place, port).haproxy()?;
    let url = place.case.url(port, "/v1/scan");
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
