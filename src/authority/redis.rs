//! The authority of a fleet: Redis or Valkey, as one server, behind Sentinels, or as a cluster.
//!
//! What is granted is decided by scripts that run inside Redis (`redis/*.lua`), one call for one account, which is
//! atomic. This room carries questions there and answers back: it knows the names of keys ([`key`]), which server
//! keeps which book ([`fleet`]), how a connection is kept up ([`link`]), what may go wrong ([`fault`]) and what then
//! helps ([`calls`]). It knows no till, no store and no request, and it never decides about a unit.
//!
//! # Why a call may be repeated, dropped or lost
//! Questions carry absolute counters. So a call whose outcome is unknown is just asked again by whoever needs it, and
//! nothing here keeps or replays anything: all state is connections.
//!
//! # Why no request ever waits for Redis to come back
//! No call outlives `timeout`. A server that does not answer is cut off after a few calls, and then callers hear so at
//! once, while another connection is sought in the background.
//!
//! # What a cluster costs
//! A script touches one book, and a book with all its accounts is in one slot, so nothing ever spans nodes. While a
//! slot is being moved, Redis refuses scripts of which only one key has arrived; such calls are tried again until
//! their deadline.

mod alive;
mod calls;
mod dial;
mod fault;
mod fleet;
mod inspect;
mod key;
mod link;
mod meters;
mod news;
mod script;
mod settings;

use std::sync::Arc;

use futures_util::future::join_all;
use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::calls::Calls;
use self::dial::{CONNECT_TIMEOUT, Dial};
use self::fault::Fault;
use self::fleet::Fleet;
use self::key::Keys;
use self::news::{BACKLOG, Listener};
use self::script::{Call, Frame, read_book, read_renewed};
use crate::clock::Clock;
use crate::till::protocol::{Answer, Answers, Authority, AuthorityLost, BOOKS, Book, News, Renew, Seed};

pub use self::fault::Class;
pub use self::meters::{Kind, Latency, Meters};
pub use self::news::Listening;
pub use self::settings::{Address, BadRedisSettings, RedisSettings, Servers, Tls};

/// Redis as the authority. Dropping it ends its connections.
pub struct Redis {
    calls: Calls,
    settings: RedisSettings,
    listeners: broadcast::Sender<News>,
    _tasks: JoinSet<()>,
}

// === impl Redis ===

impl Redis {
    /// Begins to connect, and waits until that has succeeded or failed once, for a second at most. A server that is not
    /// there is no error: it is sought in the background from then on, like one that goes away later.
    ///
    /// Connections belong to the runtime that this is called on; questions may be asked on any.
    ///
    /// # Errors
    /// [`BadRedisSettings`]
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Redis, BadRedisSettings> {
        settings.check()?;
        let runtime = Handle::current();
        let dial = Arc::new(Dial::new(&settings)?);
        let fleet = Arc::new(Fleet::new(&settings, dial.clone(), runtime));
        let keys = Arc::new(Keys::new(&settings.prefix));
        let (listeners, _) = broadcast::channel(BACKLOG);
        let tried = watch::Sender::new(false);
        let mut listening = tried.subscribe();
        let listener =
            Listener { fleet: fleet.clone(), dial, keys: keys.clone(), listeners: listeners.clone(), tried };
        let calls = Calls {
            frame: Frame { keys, learn_for: settings.learn_for },
            fleet: fleet.clone(),
            clock,
            meters: Meters::default(),
            timeout: settings.timeout,
            wait_replicas: settings.wait_replicas,
            wait_units: settings.wait_units,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { fleet.run().await });
        tasks.spawn(async move { listener.run().await });
        // Whether it was in time shows in the first call.
        _ = timeout(CONNECT_TIMEOUT, listening.wait_for(|tried| *tried)).await;
        Ok(Redis { calls, settings, listeners, _tasks: tasks })
    }

    /// What tills are told: [`News`].
    pub fn listen(&self) -> Listening {
        Listening::new(self.listeners.subscribe())
    }

    /// How calls fare.
    pub fn meters(&self) -> &Meters {
        &self.calls.meters
    }

    async fn renew_one(&self, renew: &Renew) -> Answer {
        let answer = self.calls.call(&Call::Renew(renew)).await;
        let lost = |fault: Fault| Answer::Lost(lost(&fault));
        answer
            .map_or_else(lost, |value| read_renewed(&value).unwrap_or_else(|| Answer::Lost(garbled(&value))))
    }

    async fn seed_one(&self, seed: &Seed) -> Result<(), AuthorityLost> {
        self.calls.call(&Call::Seed(seed)).await.map(drop).map_err(|fault| lost(&fault))
    }

    async fn life(&self, book: u16) -> Result<Book, AuthorityLost> {
        let value = self.calls.call(&Call::Life(book)).await.map_err(|fault| lost(&fault))?;
        read_book(&value).ok_or_else(|| garbled(&value))
    }
}

impl Authority for Redis {
    /// Questions go out at once, over one connection to each server.
    async fn renew(&self, batch: &[Renew]) -> Answers {
        match batch {
            [renew] => Answers::from_iter([self.renew_one(renew).await]),
            _ => join_all(batch.iter().map(|renew| self.renew_one(renew))).await.into(),
        }
    }

    async fn seed(&self, seeds: &[Seed]) -> Result<(), AuthorityLost> {
        join_all(seeds.iter().map(|seed| self.seed_one(seed))).await.into_iter().collect()
    }

    async fn lives(&self) -> Result<Vec<Book>, AuthorityLost> {
        join_all((0..BOOKS).map(|book| self.life(book))).await.into_iter().collect()
    }
}

fn lost(fault: &Fault) -> AuthorityLost {
    AuthorityLost(fault.to_string())
}

fn garbled(value: &Value) -> AuthorityLost {
    AuthorityLost(format!("Redis answers a script with {value:?}"))
}
