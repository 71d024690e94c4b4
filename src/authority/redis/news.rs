//! What the scripts call out, heard from one of the servers.
//!
//! In a cluster every node hears what is published on any. A call that is missed costs time and never units; that
//! some may have been is told as [`News::Gap`], whenever hearing has begun.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::PubSubStream;
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use super::dial::Dial;
use super::fault::Fault;
use super::fleet::Fleet;
use super::key::Keys;
use crate::till::protocol::News;

/// What is heard, from when this was made.
pub struct Listening(broadcast::Receiver<News>);

/// Hears and tells on.
pub(super) struct Listener {
    pub(super) fleet: Arc<Fleet>,
    pub(super) dial: Arc<Dial>,
    pub(super) keys: Arc<Keys>,
    pub(super) listeners: broadcast::Sender<News>,
    /// Whether hearing was tried once.
    pub(super) tried: watch::Sender<bool>,
}

/// How far a listener may fall behind before it is told of a gap.
pub(super) const BACKLOG: usize = 4_096;

/// Between two attempts to hear anything.
const RETRY: Duration = Duration::from_millis(100);

// === impl Listening ===

impl Listening {
    pub(super) fn new(receiver: broadcast::Receiver<News>) -> Self {
        Listening(receiver)
    }

    /// The next call. `None` once the authority is gone.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<News> {
        match self.0.recv().await {
            Ok(news) => Some(news),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(News::Gap),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

// === impl Listener ===

impl Listener {
    /// Listens for ever. May be dropped at any point.
    pub(super) async fn run(&self) {
        self.fleet.first_dialed().await;
        loop {
            if let Err(fault) = self.listen().await {
                tracing::debug!(authority.error = %fault, "hearing no news: {fault}");
            }
            self.tried.send_replace(true);
            sleep(RETRY).await;
        }
    }

    /// Until the connection ends, or its server is of no use any more.
    async fn listen(&self) -> Result<(), Fault> {
        let routes = self.fleet.routes();
        let Some(link) = routes.links().find(|link| link.is_up()).cloned() else { return Ok(()) };
        drop(routes);
        let messages = self.dial.listen(link.address(), self.keys.channel()).await?;
        self.tell(News::Gap);
        self.tried.send_replace(true);
        tokio::select! {
            () = self.pass_on(messages) => {}
            () = link.fell() => {}
            () = self.fleet.retired(&link) => {}
        }
        Ok(())
    }

    async fn pass_on(&self, mut messages: PubSubStream) {
        while let Some(message) = messages.next().await {
            let text = std::str::from_utf8(message.get_payload_bytes()).unwrap_or_default();
            if let Some(news) = self.keys.read_news(text) {
                self.tell(news);
            }
        }
    }

    fn tell(&self, news: News) {
        // An error says that nobody listens.
        _ = self.listeners.send(news);
    }
}
