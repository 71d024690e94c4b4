//! nginx and HAProxy as one would run them before an upstream: keep-alive on both sides, no access log.

use std::path::Path;

use super::Fault;
use super::certificate::Certificate;
use super::process::{Running, pinned, write};

/// What a peer is started for.
pub(crate) struct Peer<'a> {
    /// Its own.
    pub(crate) directory: &'a Path,
    /// As taskset names them.
    pub(crate) cores: &'a str,
    pub(crate) workers: u32,
    pub(crate) port: u16,
    /// The upstream's port.
    pub(crate) upstream: u16,
    pub(crate) encryption: Option<Encryption<'a>>,
    /// Connections of clients at a time.
    pub(crate) connections: usize,
}

#[derive(Clone, Copy)]
pub(crate) struct Encryption<'a> {
    pub(crate) certificate: &'a Certificate,
    pub(crate) http2: bool,
}

/// Connections beside those of clients, at most: to the upstream, and listening.
const CONNECTIONS_BESIDE: usize = 1024;

impl Peer<'_> {
    /// `modules` are loaded; `access` stands where a request is judged.
    pub(crate) fn nginx(&self, modules: &str, access: &str) -> Result<Running, Fault> {
        let file = self.directory.join("nginx.conf");
        write(&file, &self.nginx_conf(modules, access))?;
        let mut command = pinned(self.cores, "nginx");
        command.arg("-c").arg(&file).arg("-p").arg(self.directory);
        Running::listening(command, self.port)
    }

    fn nginx_conf(&self, modules: &str, access: &str) -> String {
        let (listen, tls) = match self.encryption {
            None => ("", String::new()),
            Some(Encryption { certificate, http2 }) => {
                (if http2 { " ssl http2" } else { " ssl" }, ssl(certificate))
            }
        };
        format!(
            "{modules}
            daemon off; worker_processes {workers}; pid {directory}/nginx.pid; error_log {directory}/error.log;
            events {{ worker_connections {connections}; }}
            http {{
                access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
                client_body_temp_path {directory}/body;
                proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
                uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
                upstream origin {{
                    server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000;
                }}
                server {{
                    listen 127.0.0.1:{port}{listen}; {tls}
                    location / {{
                        {access}
                        proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
                    }}
                }}
            }}",
            directory = self.directory.display(),
            workers = self.workers,
            connections = self.connections + CONNECTIONS_BESIDE,
            port = self.port,
            upstream = self.upstream,
        )
    }

    pub(crate) fn haproxy(&self) -> Result<Running, Fault> {
        let file = self.directory.join("haproxy.cfg");
        write(&file, &self.haproxy_cfg())?;
        let mut command = pinned(self.cores, "haproxy");
        command.arg("-db").arg("-f").arg(&file);
        Running::listening(command, self.port)
    }

    /// `no strict-limits`: it counts two descriptors for each connection, and idle ones have one.
    fn haproxy_cfg(&self) -> String {
        let tls = self.encryption.map_or(String::new(), |Encryption { certificate, http2 }| {
            let protocol = if http2 { "h2" } else { "http/1.1" };
            format!(" ssl crt {} alpn {protocol}", certificate.both.display())
        });
        format!(
            "global
    nbthread {workers}
    maxconn {connections}
    no strict-limits
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 60s
    http-reuse always
frontend front
    bind 127.0.0.1:{port}{tls}
    default_backend origin
backend origin
    server origin 127.0.0.1:{upstream}
",
            workers = self.workers,
            connections = self.connections,
            port = self.port,
            upstream = self.upstream,
        )
    }
}

fn ssl(certificate: &Certificate) -> String {
    let Certificate { certificate, key, .. } = certificate;
    format!("ssl_certificate {}; ssl_certificate_key {};", certificate.display(), key.display())
}
