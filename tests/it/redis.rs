//! Redis as the authority: its homes for the conformance suite, and what only it can go through.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tollgate::authority::redis::{Address, Redis, RedisSettings, Servers};
use tollgate::clock::SystemClock;
use tollgate::till::protocol::News;
use uuid::Uuid;

use crate::authority::{Home, LEARN_FOR};
use crate::support::redis::{MASTER_NAME, RedisCluster, RedisServer, SentinelTrio, Shared};

/// One server.
pub(crate) struct SingleHome(Arc<RedisServer>, String);

/// A master, a replica and a Sentinel.
pub(crate) struct SentinelHome(Arc<SentinelTrio>, String);

/// Three masters and their replicas.
pub(crate) struct ClusterHome(Arc<RedisCluster>, String);

/// Long: a busy machine must not make a test fail.
const TIMEOUT: Duration = Duration::from_secs(5);

static SINGLE: Shared<RedisServer> = Shared::new();
static SENTINEL: Shared<SentinelTrio> = Shared::new();
static CLUSTER: Shared<RedisCluster> = Shared::new();

// === homes ===

impl Home for SingleHome {
    type Authority = Redis;

    fn open() -> Self {
        SingleHome(SINGLE.get(RedisServer::start), any_prefix())
    }

    async fn connect(&self) -> Redis {
        connect(settings(Servers::Single(address(&self.0)), &self.1)).await
    }

    fn listen(redis: &Redis) -> UnboundedReceiver<News> {
        listen(redis)
    }

    fn forget(&self) {
        self.0.forget(&self.1);
    }
}

impl Home for SentinelHome {
    type Authority = Redis;

    fn open() -> Self {
        SentinelHome(SENTINEL.get(SentinelTrio::start), any_prefix())
    }

    async fn connect(&self) -> Redis {
        connect(settings(sentinel(&self.0), &self.1)).await
    }

    fn listen(redis: &Redis) -> UnboundedReceiver<News> {
        listen(redis)
    }

    fn forget(&self) {
        self.0.master.forget(&self.1);
    }
}

impl Home for ClusterHome {
    type Authority = Redis;

    fn open() -> Self {
        ClusterHome(CLUSTER.get(RedisCluster::start), any_prefix())
    }

    async fn connect(&self) -> Redis {
        connect(settings(cluster(&self.0), &self.1)).await
    }

    fn listen(redis: &Redis) -> UnboundedReceiver<News> {
        listen(redis)
    }

    fn forget(&self) {
        self.0.masters().into_iter().for_each(|master| master.forget(&self.1));
    }
}

fn sentinel(trio: &SentinelTrio) -> Servers {
    Servers::Sentinel { sentinels: vec![address(&trio.sentinel)], master: MASTER_NAME.to_owned() }
}

/// The cluster by the last of its nodes, which is a replica at first.
fn cluster(cluster: &RedisCluster) -> Servers {
    Servers::Cluster(vec![address(&cluster.nodes[5])])
}

fn address(server: &RedisServer) -> Address {
    Address::new("127.0.0.1", server.port())
}

fn settings(servers: Servers, prefix: &str) -> RedisSettings {
    RedisSettings {
        prefix: prefix.to_owned(),
        timeout: TIMEOUT,
        learn_for: LEARN_FOR,
        ..RedisSettings::new(servers)
    }
}

fn any_prefix() -> String {
    Uuid::now_v7().to_string()
}

async fn connect(settings: RedisSettings) -> Redis {
    Redis::connect(settings, Arc::new(SystemClock::default())).await.expect("sound settings")
}

/// Returns once what is called out can be heard.
fn listen(redis: &Redis) -> UnboundedReceiver<News> {
    let (sender, receiver) = unbounded_channel();
    let mut listening = redis.listen();
    tokio::spawn(async move {
        while let Some(news) = listening.next().await {
            if sender.send(news).is_err() {
                return;
            }
        }
    });
    receiver
}
