//! `tollgate demo`: a gateway, an upstream and sample tenants in one process, on embedded defaults.
//!
//! Nothing about it is pretended: the same rooms, a real configuration file, requests over real sockets. Only the
//! directory goes away at the end, unless it is to be kept.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::echo::serve_echo;
use super::running::{Running, Signals, runtime};
use super::start::StartError;
use crate::clock::SystemClock;
use crate::config::{Config, Faults};
use crate::control::{Control, ControlError, NewKey, NewTenant, Person, Principal, QuotaChange, TenantRef};
use crate::domain::{Actor, Limit, Resource, Role, Slug, Units};
use crate::secret::hash::random_letters;

/// Where people look first; if they are taken, others are found.
const PROXY_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9090;

/// One tenant of each tier, and one whose limit is reached.
const TENANTS: [(&str, &str); 6] = [
    ("Small Fry", "free"),
    ("Acme", "pro"),
    ("Globex", "business"),
    ("Initech", "enterprise"),
    ("Umbrella Resale", "msp"),
    (NEARLY, "free"),
];
const NEARLY: &str = "Nearly There";

/// The limit of the tenant that has reached it.
const NEARLY_LIMIT: u64 = 3;

/// Who logs in to the console.
const EMAIL: &str = "demo@example.com";
const PASSWORD_LETTERS: usize = 16;

/// How the demo is run.
#[derive(Clone, Debug, Default)]
pub struct Demo {
    /// Keep data and configuration here instead of removing them at the end.
    pub keep: Option<PathBuf>,
}

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the demo's directory can't be written to")]
    Directory(#[source] io::Error),
    #[error("the demo's configuration has faults; a fault of this program")]
    Config(#[source] Faults),
    #[error("the demo's gateway does not start")]
    Start(#[from] StartError),
    #[error("the demo's tenants can't be made")]
    Tenants(#[from] ControlError),
    #[error("the demo can't reach its own gateway")]
    Requests(#[source] io::Error),
}

/// A tenant of the demo and its key.
struct Sample {
    slug: Slug,
    tier: String,
    key: String,
}

/// Runs the demo until a signal ends it. `announce` is given what to tell the user, once everything works.
///
/// # Errors
/// [`DemoError`]
pub fn demo(demo: &Demo, announce: impl FnOnce(&str)) -> Result<(), DemoError> {
    let temporary = match &demo.keep {
        Some(_) => None,
        None => {
            Some(tempfile::Builder::new().prefix("tollgate-demo-").tempdir().map_err(DemoError::Directory)?)
        }
    };
    let directory =
        demo.keep.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new("."));
    runtime()?.block_on(async {
        let mut signals = Signals::new().map_err(DemoError::Requests)?;
        let mut running = start(directory).await?;
        let samples = make_tenants(running.control()).await?;
        let password = make_owner(running.control()).await?;
        let proxy = running.report().proxy[0];
        use_up(proxy, &samples).await.map_err(DemoError::Requests)?;
        announce(&welcome(&running, &samples, &password, demo.keep.as_deref()));
        running.until_told_to_end(&mut signals).await;
        tokio::select! {
            () = running.stop() => {}
            () = signals.end() => {}
        }
        Ok(())
    })
}

async fn start(directory: &Path) -> Result<Running, DemoError> {
    let upstream = serve_echo().await.map_err(DemoError::Requests)?;
    let text = configuration(directory, upstream);
    std::fs::create_dir_all(directory).map_err(DemoError::Directory)?;
    let path = directory.join("tollgate.toml");
    std::fs::write(&path, text).map_err(DemoError::Directory)?;
    let loaded = Config::load(Some(&path)).map_err(DemoError::Config)?;
    Ok(Running::start(loaded, Arc::new(SystemClock::default())).await?)
}

fn configuration(directory: &Path, upstream: SocketAddr) -> String {
    let [proxy, admin] = [PROXY_PORT, ADMIN_PORT].map(free_address);
    let data = directory.join("data");
    format!(
        r#"# The configuration of `tollgate demo`.
[listen]
proxy = "{proxy}"
admin = "{admin}"

[store]
url = "sqlite:{store}"

[data]
directory = "{data}"

[journal]
segment_bytes = "4MiB"

[[upstream]]
name = "echo"
urls = ["http://{upstream}"]

[[route]]
name = "hello"
path = "/v1/"
upstream = "echo"
charge = {{ api_calls = 1 }}

[[route]]
name = "status"
exact = "/status"
upstream = "echo"
public = true
"#,
        store = directory.join("tollgate.db").display(),
        data = data.display(),
    )
}

fn free_address(port: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let is_free = TcpListener::bind(wanted).is_ok();
    if is_free { wanted } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
}

async fn make_tenants(control: &Control) -> Result<Vec<Sample>, ControlError> {
    let demo = Principal::platform(Actor::system("demo"), Uuid::nil());
    let mut samples = Vec::new();
    for (name, tier) in TENANTS {
        let new = NewTenant { name: name.to_owned(), tier: Some(tier.to_owned()), ..NewTenant::default() };
        let tenant = control.create_tenant(&demo, new).await?;
        let by_id = TenantRef::Id(tenant.id);
        let key = control
            .create_key(&demo, &by_id, NewKey { name: "demo".to_owned(), ..NewKey::default() })
            .await?;
        if name == NEARLY {
            control.set_quota(&demo, &by_id, nearly_limit()).await?;
        }
        samples.push(Sample { slug: tenant.slug, tier: tier.to_owned(), key: key.text });
    }
    Ok(samples)
}

/// The platform's owner, with a new password each time. Answers the password.
async fn make_owner(control: &Control) -> Result<String, ControlError> {
    let demo = Principal::platform(Actor::system("demo"), Uuid::nil());
    let made = control.set_platform_role(&demo, EMAIL, Some(Role::PlatformOwner)).await?;
    let token = match made.token {
        Some(token) => Some(token),
        None => control.reset_password(&demo, made.user.id).await?.token,
    };
    let password = random_letters(PASSWORD_LETTERS).map_err(ControlError::Random)?;
    let person = Person { ip: None, user_agent: None, correlation: Uuid::nil() };
    control.set_password_by_token(&person, &token.unwrap_or_default(), &password).await?;
    Ok(password)
}

fn nearly_limit() -> QuotaChange {
    let resource: Resource = "api_calls".parse().expect("a literal");
    QuotaChange {
        resource,
        limit: Limit::Of(Units::saturating(NEARLY_LIMIT)),
        period: None,
        enforcement: None,
        on_loss: None,
        key: None,
        reason: None,
        expires_at: None,
    }
}

/// Real requests, until the last tenant has nothing left.
async fn use_up(proxy: SocketAddr, samples: &[Sample]) -> io::Result<()> {
    let Some(nearly) = samples.last() else { return Ok(()) };
    for _ in 0..NEARLY_LIMIT {
        let mut stream = TcpStream::connect(proxy).await?;
        let key = &nearly.key;
        let request = format!(
            "GET /v1/warm-up HTTP/1.1\r\nhost: demo\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut Vec::new()).await?;
    }
    Ok(())
}

fn welcome(running: &Running, samples: &[Sample], password: &str, keep: Option<&Path>) -> String {
    let started = running.report();
    let (proxy, admin) = (started.proxy[0], started.admin);
    let token =
        started.platform_token.as_deref().unwrap_or("(the one that was shown when this directory was made)");
    let acme = samples.iter().find(|sample| sample.tier == "pro").map_or("", |sample| &sample.key);
    let nearly = samples.last().map_or("", |sample| &sample.key);
    let mut text = format!(
        "\
Tollgate is running: a gateway, an upstream that echoes, and {count} tenants, in one process.

  proxy   http://{proxy}
  admin   http://{admin}   REST API, /metrics, /healthz, /readyz
  console http://{admin}/console/   log in as {EMAIL} with the password {password}
  token   {token}

A request that passes; the upstream shows who it was told is calling:
  curl -i http://{proxy}/v1/hello -H 'x-api-key: {acme}'

A request that is refused, because the limit of {NEARLY_LIMIT} is used up:
  curl -i http://{proxy}/v1/hello -H 'x-api-key: {nearly}'

What was used, and the records of it:
  curl -s http://{admin}/api/tenants/nearly-there/quotas -H 'authorization: Bearer {token}'
  curl -s http://{admin}/api/tenants/nearly-there/usage-logs -H 'authorization: Bearer {token}'

A larger limit takes effect at once, and nothing that was used is forgotten:
  curl -s -X PUT http://{admin}/api/tenants/nearly-there/quotas/api_calls -H 'authorization: Bearer {token}' \\
    -H 'content-type: application/json' -d '{{\"limit\": 10}}'

Keys, one per tier:
",
        count = samples.len(),
    );
    for Sample { slug, tier, key } in samples {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {slug:<16} {tier:<11} {key}");
    }
    match keep {
        Some(directory) => {
            let _ =
                writeln!(text, "\nCtrl-C ends it; configuration and data stay in {}.", directory.display());
        }
        None => text.push_str("\nCtrl-C ends it and removes its data; `demo --keep DIR` keeps them.\n"),
    }
    text
}
