//! New connections, made and tried.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubStream};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value, cmd,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::fault::{Class, Fault};
use super::script::load_all;
use super::settings::{Address, BadRedisSettings, RedisSettings};

/// How servers are connected to.
pub(super) struct Dial {
    user: Option<String>,
    password: Option<String>,
    database: u8,
    tls: Option<TlsCertificates>,
    /// Whether some calls wait for replicas.
    waits: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Granting: only a master that has its data will do.
    Grant,
    /// Asking a node of a cluster who is who.
    Ask,
    /// Asking a Sentinel.
    Sentinel,
}

/// What is connected, and how one hears that it broke.
pub(super) struct Dialed {
    pub(super) lanes: Lanes,
    pub(super) broke: Arc<Notify>,
}

/// Connections to one server. A server answers each in order, so who waits for replicas has one of their own and does
/// not hold up the others.
#[derive(Clone)]
pub(super) struct Lanes {
    pub(super) swift: MultiplexedConnection,
    pub(super) waiting: Option<MultiplexedConnection>,
}

/// Connecting is in nobody's way, so it may take longer than a call: names, TLS and passwords on a busy server do.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that is gone without a word is noticed within seconds, even where nothing is being asked.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(3);
const KEEPALIVE_EACH: Duration = Duration::from_secs(1);
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

// === impl Dial ===

impl Dial {
    /// # Errors
    /// [`BadRedisSettings::Roots`]
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, BadRedisSettings> {
        let tls = settings.tls.clone().map(|tls| TlsCertificates { client_tls: None, root_cert: tls.roots });
        let dial = Dial {
            user: settings.user.clone(),
            password: settings.password.clone(),
            database: settings.database,
            tls,
            waits: settings.wait_replicas > 0,
        };
        // Roots are read when a client is built, whomever it is for.
        let nobody = Address::new("localhost", 1);
        dial.client(&nobody, RedisConnectionInfo::default())
            .map_err(|error| BadRedisSettings::Roots(error.to_string()))?;
        Ok(dial)
    }

    /// Connects, and tries whether the server serves the purpose. Takes at most [`CONNECT_TIMEOUT`].
    pub(super) async fn connect(&self, to: &Address, purpose: Purpose) -> Result<Dialed, Fault> {
        let attempt = async {
            let mut dialed = self.handshake(to, purpose).await?;
            if purpose == Purpose::Grant {
                try_granting(&mut dialed.lanes.swift, to).await?;
                if self.waits {
                    dialed.lanes.waiting = Some(self.handshake(to, purpose).await?.lanes.swift);
                }
            }
            Ok(dialed)
        };
        within(to, attempt).await
    }

    /// The messages of a channel, from when this returns.
    pub(super) async fn listen(&self, to: &Address, channel: &str) -> Result<PubSubStream, Fault> {
        let fault = |error| Fault::of(&error, to);
        let attempt = async {
            let client = self.client(to, self.login(ProtocolVersion::RESP2)).map_err(fault)?;
            let mut listening = client.get_async_pubsub().await.map_err(fault)?;
            listening.subscribe(channel).await.map_err(fault)?;
            Ok(listening.into_on_message())
        };
        within(to, attempt).await
    }

    async fn handshake(&self, to: &Address, purpose: Purpose) -> Result<Dialed, Fault> {
        if purpose != Purpose::Sentinel {
            return self.open(to, self.login(ProtocolVersion::RESP3)).await;
        }
        // Sentinels often have no password where the servers have one, and refuse whoever names one.
        let nobody = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        match self.open(to, nobody).await {
            Err(fault) if fault.class == Class::Unauthenticated => {
                self.open(to, self.login(ProtocolVersion::RESP3).set_db(0)).await
            }
            other => other,
        }
    }

    async fn open(&self, to: &Address, login: RedisConnectionInfo) -> Result<Dialed, Fault> {
        let fault = |error| Fault::of(&error, to);
        let broke = Arc::new(Notify::new());
        let heard = broke.clone();
        let on_push = move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if push.kind == PushKind::Disconnection {
                heard.notify_one();
            }
            Ok(())
        };
        // Deadlines are the callers'.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender(on_push);
        let client = self.client(to, login).map_err(fault)?;
        let swift = client.get_multiplexed_async_connection_with_config(&config).await.map_err(fault)?;
        Ok(Dialed { lanes: Lanes { swift, waiting: None }, broke })
    }

    fn client(&self, to: &Address, login: RedisConnectionInfo) -> RedisResult<Client> {
        let Address { host, port } = to.clone();
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EACH);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(keepalive)
            .set_user_timeout(UNACKNOWLEDGED_MAX);
        let address = match &self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        let info = address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(login);
        match &self.tls {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }

    fn login(&self, protocol: ProtocolVersion) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_db(self.database.into())
            .set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        login
    }
}

/// Whether this is a master that has read its data; it gets the scripts on the way.
async fn try_granting(connection: &mut MultiplexedConnection, at: &Address) -> Result<(), Fault> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("PING").add_command(info("replication"));
    load_all().into_iter().for_each(|load| _ = pipeline.add_command(load));
    let count = pipeline.len();
    let values = connection.send_packed_commands(&pipeline, 0, count).await;
    let values = values.map_err(|error| Fault::of(&error, at))?;
    let values: Vec<Value> =
        values.into_iter().map(|value| answer(value, at)).collect::<Result<_, Fault>>()?;
    let replication = values.into_iter().nth(1).and_then(text).unwrap_or_default();
    match field(&replication, "role") {
        Some("master") => Ok(()),
        role => {
            let detail = format!("its role is {}", role.unwrap_or("unknown"));
            Err(Fault::new(Class::ReadOnly, Some(at), detail))
        }
    }
}

async fn within<T>(to: &Address, attempt: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late =
        |_| Err(Fault::new(Class::Unreachable, Some(to), format!("no connection in {CONNECT_TIMEOUT:?}")));
    timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or_else(late)
}

// === what servers say ===

pub(super) fn info(section: &str) -> redis::Cmd {
    let mut info = cmd("INFO");
    info.arg(section);
    info
}

/// The value, unless it is an error.
pub(super) fn answer(value: Value, from: &Address) -> Result<Value, Fault> {
    match value {
        Value::ServerError(error) => {
            Err(Fault::answered(error.code(), error.details().unwrap_or_default(), from))
        }
        value => Ok(value),
    }
}

pub(super) fn text(value: Value) -> Option<String> {
    redis::from_redis_value(value).ok()
}

/// A line `name:value` of INFO or CLUSTER INFO.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}
