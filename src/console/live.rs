//! What changes on the overview while somebody looks: asked for by its page each second, or sent to it.
//!
//! A stream sends the part of the page anew whenever it differs, and otherwise, each second, that it does not: who hears
//! nothing for a while asks by itself. Each time it is made like any other page, for whoever the session says that it is:
//! it ends with the session, and what the visitor may no longer see is not sent.
//!
//! # Bounds
//! There are so many streams in a process, and none lasts longer than an hour; a browser that is refused asks as before.
//! All end as soon as the gateway is told to end, or is not ready for something else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::page::html;
use super::quotas::{Card, cards};
use super::refusal::Refusal;
use super::router::Console;
use super::session::TenantVisit;
use super::text::{grouped, instant};
use crate::control::{Principal, TenantHealth};
use crate::web;

/// What changes while one looks.
#[derive(Template)]
#[template(path = "live.html")]
pub(super) struct Live {
    /// Where it comes from again.
    address: String,
    health: TenantHealth,
    requests: String,
    errors: String,
    denied: String,
    as_of: String,
    cards: Vec<Card>,
}

/// The streams that there may be.
#[derive(Clone)]
pub(super) struct Streams(Arc<Semaphore>);

/// One stream.
struct Stream {
    console: Console,
    place: TenantVisit,
    token: String,
    sent: String,
    left: u32,
    _permit: OwnedSemaphorePermit,
}

pub(super) const STREAMS_MAX: usize = 256;
const INTERVAL: Duration = Duration::from_secs(1);
/// Of one stream: an hour.
const ROUNDS_MAX: u32 = 3_600;

/// `GET /console/tenants/{tenant}/live`: the part of the overview that a script asks for each second.
pub(super) async fn show(place: TenantVisit) -> Result<Response, Refusal> {
    html(&Live::of(&place).await?)
}

/// `GET /console/tenants/{tenant}/live/events`: the same, sent as it changes. Dropping the answer ends it.
pub(super) async fn events(
    place: TenantVisit,
    State(console): State<Console>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Ok(permit) = console.streams.0.clone().try_acquire_owned() else {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
    };
    let token = web::session_token(&console.control, &headers).unwrap_or_default().to_owned();
    let stream = Stream { console, place, token, sent: String::new(), left: ROUNDS_MAX, _permit: permit };
    let events = unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Ok(Sse::new(events).into_response())
}

// === impl Live ===

impl Live {
    pub(super) async fn of(place: &TenantVisit) -> Result<Live, Refusal> {
        let visit = &place.visit;
        let health = visit.control.health(&visit.principal, &place.named).await?;
        Ok(Live {
            address: place.address("/live"),
            requests: grouped(health.requests),
            errors: grouped(health.errors),
            denied: grouped(health.denied),
            as_of: instant(health.as_of),
            health,
            cards: cards(place).await?,
        })
    }
}

// === impl Streams ===

impl Default for Streams {
    fn default() -> Self {
        Streams(Arc::new(Semaphore::new(STREAMS_MAX)))
    }
}

// === impl Stream ===

impl Stream {
    /// What is to be sent next; `None` ends it.
    async fn next(&mut self) -> Option<Event> {
        if !self.sent.is_empty() {
            tokio::time::sleep(INTERVAL).await;
        }
        self.left = self.left.checked_sub(1)?;
        // Whoever is told to end is not ready for more.
        let is_well = self.console.process.readiness.report().checks.iter().all(|check| check.ready);
        if !is_well || !self.is_still_let_in().await {
            return None;
        }
        // A line of an event ends with either.
        let part = Live::of(&self.place).await.ok()?.render().ok()?.replace('\r', " ");
        if part == self.sent {
            // Browsers tell nobody of an event without data.
            return Some(Event::default().event("still").data("."));
        }
        self.sent.clone_from(&part);
        Some(Event::default().event("live").data(part))
    }

    /// Whether the session lives, and what its person may do by now.
    async fn is_still_let_in(&mut self) -> bool {
        let visit = &mut self.place.visit;
        let visitor = self.console.control.visitor(&visit.person, &self.token, Some(&self.place.named)).await;
        let Ok(Some(visitor)) = visitor else { return false };
        let (rights, actor) = (visitor.rights, visitor.actor);
        visit.principal = Principal { actor, rights, correlation: visit.person.correlation };
        true
    }
}
