//! The fifth door: to the upstream and back, streaming both ways.
//!
//! The request's body goes up while the answer comes down; each side waits for the other's socket, so memory stays at
//! a few buffers whatever the bodies' size. A broken answer reaches the client as broken: it is never completed by us.

mod tries;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use smallvec::SmallVec;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::connection::{Client, fill};
use super::grace::Permit;
use super::handle::{Call, Gateway, GatewayLimits, Refused, Serving};
use super::headers::{AnswerFraming, passes_as_trailer, push_interim, push_upgrade};
use super::identity::Caller;
use super::meters::Answered;
use super::passage::Passage;
use super::policy::{ChargeSettings, Charges};
use super::refusal::{Refusal, Unauthenticated};
use super::tunnel::{Tunnel, Upgrade};
use super::upstream::{Tries, Unavailable, Upstream, UpstreamConnection};
use crate::clock::Monotonic;
use crate::domain::{Outcome, Units};
use crate::listener::http1::{AnswerHead, BadChunk, BodyCopy, BodyLength, HeadLimits, LINES_MAX, Parsed};
use crate::listener::{Alarm, Buffer, Half, send};

/// An upstream's head may be larger than a client's: cookies.
const ANSWER_HEAD: HeadLimits = HeadLimits { bytes: 64 * 1024, target_bytes: 64 * 1024, lines: LINES_MAX };

/// Interim answers to one request that are passed on; an upstream that has more to announce is broken.
const INTERIM_MAX: u32 = 32;

/// One call on its way.
pub(super) struct Forward<'f, 'c> {
    gateway: &'f Gateway,
    serving: &'f Serving,
    call: &'f Call,
    /// Of a tenant's route; a public one has no caller and charges nothing.
    charged: Option<Charged<'f, 'c>>,
    /// Until the books are closed.
    passage: RefCell<Option<Passage<'c>>>,
    progress: Progress,
}

#[derive(Clone, Copy)]
struct Charged<'f, 'c> {
    caller: &'f Caller,
    charges: &'f Charges<'c>,
}

/// How the client's connection stands after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    /// The client has the whole answer.
    pub(super) complete: bool,
    /// The next request may follow.
    pub(super) reusable: bool,
}

/// Why an exchange ended before its answer did.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    /// No endpoint could be reached, or none took a byte.
    NotSent,
    /// No endpoint could be reached in time.
    NotReached,
    /// It was not to be sent.
    Unavailable(Unavailable),
    /// The upstream is too slow, or its answer is one that is not passed on: the request is tried again, which the
    /// budget has allowed.
    TryAgain,
    ClientGone,
    ClientTooSlow,
    BadBody(BadChunk),
    BodyTooLarge,
    UpstreamBroke,
    UpstreamTooSlow,
    /// Whoever called may not call any more.
    Stopped,
}

/// How far an exchange has come; outside its futures, so that it is known when they are dropped.
#[derive(Debug, Default)]
struct Progress {
    /// Something was sent that may have arrived: the upstream may know of the request.
    reached: Cell<bool>,
    /// All that was sent is at hand, and may be sent again.
    repeatable: Cell<bool>,
    /// Tries that are left.
    tries_left: Cell<u32>,
    /// The client was told to send its body.
    continued: Cell<bool>,
    /// The upstream has the whole request.
    uploaded: Cell<bool>,
    /// Of the answer's head, once it is there.
    status: Cell<u16>,
    /// Something of the answer was written to the client.
    begun: Cell<bool>,
    /// The client takes the connection's end for the answer's: only a reset tells it that there was more to come.
    ends_with_connection: Cell<bool>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// What the answer's headers said of the route's charges, in their order.
    said: RefCell<Said>,
    upstream_wait: Cell<Duration>,
    /// Interim answers.
    interim: Cell<u32>,
    is_tunnel: Cell<bool>,
    /// When the exchange was over; read once, for all who ask.
    ended: Cell<Option<Monotonic>>,
    /// Why the exchange has to end.
    stopped: RefCell<Option<Refusal>>,
}

/// Units that an upstream said were used, per charge of the route.
pub(super) type Said = SmallVec<[Option<Units>; 4]>;

/// An answer whose head is in the buffer for the client.
#[derive(Clone, Copy, Debug)]
struct Begun {
    body: BodyLength,
    chunks: bool,
    client_closes: bool,
    upstream_closes: bool,
    /// The connections are a tunnel from now on.
    upgrade: Option<Upgrade>,
}

/// An answer that was passed on whole, and what the upstream sent behind it.
type Delivered = (Begun, Buffer);

// === impl Forward ===

impl<'f, 'c> Forward<'f, 'c> {
    pub(super) fn public(gateway: &'f Gateway, serving: &'f Serving, call: &'f Call) -> Self {
        let (passage, progress) = (RefCell::default(), Progress::default());
        Forward { gateway, serving, call, charged: None, passage, progress }
    }

    pub(super) fn charged(
        gateway: &'f Gateway,
        serving: &'f Serving,
        call: &'f Call,
        passage: Passage<'c>,
        caller: &'f Caller,
        charges: &'f Charges<'c>,
    ) -> Self {
        let charged = Some(Charged { caller, charges });
        let (passage, progress) = (RefCell::new(Some(passage)), Progress::default());
        Forward { gateway, serving, call, charged, passage, progress }
    }

    /// Sends the request whose head is in `request` and brings its answer to the client.
    ///
    /// Dropping the future breaks both connections off; what had passed by then is charged and recorded.
    ///
    /// # Errors
    /// [`Refused`] while nothing of an answer has reached the client.
    pub(super) async fn run(&self, client: &mut Client, mut request: Buffer) -> Result<Ended, Refused> {
        let mut body = BodyCopy::new(self.call.body, true);
        client.body_is_unread = body.is_complete();
        // What came with the head leaves with the head, in one write.
        body.advance(&mut client.buffer, &mut request).map_err(Refusal::MalformedBody)?;
        self.refuse_too_large(&body).map_err(|fault| fault.refusal(&self.gateway.shared.limits))?;
        let exchanged = {
            // Pinned here and lent from here on: moving it would copy all that it has room for.
            let exchange = pin!(self.exchange(client, &mut request, &mut body));
            self.while_permitted(exchange).await
        };
        self.settle(client, exchanged)
    }

    /// The exchange, unless its caller stops being one meanwhile. A tunnel then ends by itself.
    async fn while_permitted(
        &self,
        exchange: Pin<&mut impl Future<Output = Result<Begun, Fault>>>,
    ) -> Result<Begun, Fault> {
        let Some(Charged { caller, .. }) = self.charged else { return exchange.await };
        let (gateway, call) = (self.gateway, self.call);
        let permit = Permit { gateway, route: &self.serving.table.routes[call.route], call, caller };
        let told = |refusal| {
            self.progress.stopped.replace(Some(refusal));
            self.progress.is_tunnel.get()
        };
        permit.during(exchange, told).await.unwrap_or(Err(Fault::Stopped))
    }

    async fn attempt(
        &self,
        upstream: &Upstream,
        tries: &Tries,
        mut connection: UpstreamConnection,
        client: &mut Client,
        request: &mut Buffer,
        body: &mut BodyCopy,
    ) -> Result<Begun, Fault> {
        self.progress.uploaded.set(body.is_complete());
        self.send(&mut connection, &client.alarm, upstream, request.filled()).await?;
        let begun = self.relay(upstream, &mut connection, client, request, body).await?;
        if !begun.upstream_closes && self.progress.uploaded.get() {
            upstream.put_back(tries, connection, self.ended());
        }
        Ok(begun)
    }

    /// Writes the request's head and what is there of its body. From the first byte on the request counts.
    async fn send(
        &self,
        connection: &mut UpstreamConnection,
        alarm: &Alarm,
        upstream: &Upstream,
        request: &[u8],
    ) -> Result<(), Fault> {
        let mut written = 0;
        let tells_all = connection.stream.tells_what_left();
        let stream = &mut connection.stream;
        let reached = &self.progress.reached;
        let sending = async {
            while written < request.len() {
                // Between this mark and the system call that follows it lie a few instructions: a kill just there
                // counts a request that the upstream never saw. Marking after the call instead would lose count of
                // requests that it did see, and far more often, since a kill waits for the call's end.
                if let Some(passage) = &mut *self.passage.borrow_mut() {
                    passage.sent();
                }
                reached.set(reached.get() || !tells_all);
                match poll_fn(|context| Pin::new(&mut *stream).poll_write(context, &request[written..]))
                    .await?
                {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => {
                        written += count;
                        reached.set(true);
                    }
                }
            }
            stream.flush().await
        };
        match alarm.within(upstream.timeouts().idle, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if written == 0 && tells_all => Err(Fault::NotSent),
            // What was written may be enough for an answer: it is read next.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Fault::UpstreamTooSlow),
        }
    }

    async fn relay(
        &self,
        upstream: &Upstream,
        connection: &mut UpstreamConnection,
        client: &mut Client,
        request: &mut Buffer,
        body: &mut BodyCopy,
    ) -> Result<Begun, Fault> {
        let Client { stream, buffer, alarm, .. } = client;
        if self.call.expects_continue && !body.is_complete() && !self.progress.continued.replace(true) {
            let go_on = send(stream, b"HTTP/1.1 100 Continue\r\n\r\n");
            self.within_patience(alarm, self.gateway.shared.limits.write, go_on).await?;
        }
        let (stream, connection) = (RefCell::new(stream), RefCell::new(&mut connection.stream));
        let (client, server) = (Half::of(&stream), Half::of(&connection));
        if body.is_complete() {
            let (begun, mut rest) = self.download(upstream, server, client, alarm).await?;
            if let Some(upgrade) = begun.upgrade {
                let tunnel = self.tunnel(upgrade, client, server);
                // A tunnel lasts as long as it is used.
                alarm.bound(None);
                self.progress.is_tunnel.set(true);
                // Boxed, so that no other request has room for it.
                Box::pin(tunnel.run(alarm, upstream.timeouts().idle, buffer, &mut rest)).await;
            }
            return Ok(begun);
        }
        let upload_alarm = self.gateway.parts.alarms.alarm();
        let upload = pin!(self.upload(upstream, (client, buffer), server, (body, request), &upload_alarm));
        let download = pin!(self.download(upstream, server, client, alarm));
        beside(download, upload).await
    }

    fn tunnel<'t>(&'t self, upgrade: Upgrade, client: Half<'t>, upstream: Half<'t>) -> Tunnel<'t> {
        let Progress { bytes_in, bytes_out, stopped, .. } = &self.progress;
        let buffers = &self.gateway.parts.buffers;
        Tunnel { upgrade, client, upstream, buffers, bytes_in, bytes_out, stopped }
    }

    async fn upload(
        &self,
        upstream: &Upstream,
        (mut from, buffer): (Half<'_>, &mut Buffer),
        mut to: Half<'_>,
        (body, request): (&mut BodyCopy, &mut Buffer),
        alarm: &Alarm,
    ) -> Result<(), Fault> {
        if body.is_complete() {
            self.progress.uploaded.set(true);
            return Ok(());
        }
        let limits = &self.gateway.shared.limits;
        let began = self.gateway.shared.clock.monotonic();
        let mut out = self.gateway.parts.buffers.take();
        let kept_max = request.len() + self.kept_bytes_max(upstream);
        // Messages may be as far apart as the service's answers.
        let idle = if self.call.is_grpc { upstream.timeouts().idle } else { limits.body_idle };
        while !body.is_complete() {
            match self.within_patience(alarm, idle, fill(buffer, &mut from)).await? {
                0 => return Err(Fault::ClientGone),
                _ => body.advance(buffer, &mut out).map_err(Fault::BadBody)?,
            }
            self.progress.bytes_in.set(body.bytes());
            self.keep(request, &out, kept_max);
            self.refuse_too_large(body)?;
            self.refuse_dripping(limits, began, body.bytes())?;
            match alarm.within(upstream.timeouts().idle, send(&mut to, out.filled())).await {
                Ok(Ok(())) => out.consume(out.len()),
                // It takes no more, but may have answered: the download tells.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Fault::UpstreamTooSlow),
            }
        }
        self.progress.uploaded.set(true);
        Ok(())
    }

    /// A chunked body tells its size only as it comes.
    fn refuse_too_large(&self, body: &BodyCopy) -> Result<(), Fault> {
        let is_too_large = body.bytes() > self.gateway.shared.limits.body_bytes;
        if is_too_large { Err(Fault::BodyTooLarge) } else { Ok(()) }
    }

    fn refuse_dripping(&self, limits: &GatewayLimits, began: Monotonic, bytes: u64) -> Result<(), Fault> {
        let elapsed = self.gateway.shared.clock.monotonic().since(began);
        let due = limits.body_rate_min.saturating_mul(elapsed.as_secs());
        // A stream of messages goes as fast as there is something to say.
        if elapsed > GatewayLimits::BODY_RATE_AFTER && bytes < due && !self.call.is_grpc {
            return Err(Fault::ClientTooSlow);
        }
        Ok(())
    }

    async fn download(
        &self,
        upstream: &Upstream,
        mut from: Half<'_>,
        mut to: Half<'_>,
        alarm: &Alarm,
    ) -> Result<Delivered, Fault> {
        let waits_since = self.gateway.shared.clock.monotonic();
        self.wait_for_answer(upstream, &mut from, alarm).await?;
        let waited = self.gateway.shared.clock.monotonic().since(waits_since);
        self.progress.upstream_wait.set(self.progress.upstream_wait.get() + waited);
        // Whoever waits for an upstream holds no buffers for its answer.
        let (mut buffer, mut out) = (self.gateway.parts.buffers.take(), self.gateway.parts.buffers.take());
        let begun = self.answer_head(upstream, (&mut from, &mut to), &mut buffer, &mut out, alarm).await?;
        let mut body = BodyCopy::new(begun.body, begun.chunks);
        if self.call.takes_trailers {
            body = body.passing_trailers(passes_as_trailer);
        }
        let limits = &self.gateway.shared.limits;
        loop {
            let advanced = body.advance(&mut buffer, &mut out);
            self.progress.begun.set(true);
            if body.is_complete() && self.must_sync() {
                self.progress.bytes_out.set(body.bytes());
                let synced = self.close_books(Outcome::Answered, self.progress.status.get());
                // Boxed, so that no request has room for it that need not wait.
                let synced = Box::pin(async {
                    synced.await;
                    Ok(())
                });
                self.within_patience(alarm, limits.write, synced).await?;
            }
            self.within_patience(alarm, limits.write, send(&mut to, out.filled())).await?;
            out.consume(out.len());
            self.progress.bytes_out.set(body.bytes());
            advanced.map_err(|_| Fault::UpstreamBroke)?;
            if body.is_complete() {
                let upstream_closes = begun.upstream_closes || !buffer.is_empty();
                return Ok((Begun { upstream_closes, ..begun }, buffer));
            }
            match alarm.within(upstream.timeouts().idle, fill(&mut buffer, &mut from)).await {
                Ok(Ok(0)) => body.close(),
                Ok(Ok(_)) => continue,
                Ok(Err(_)) => return Err(Fault::UpstreamBroke),
                Err(_) => return Err(Fault::UpstreamTooSlow),
            }
            if !body.is_complete() {
                return Err(Fault::UpstreamBroke);
            }
        }
    }

    /// Until the answer's first byte is there. Time counts from the request's end.
    async fn wait_for_answer(
        &self,
        upstream: &Upstream,
        from: &mut Half<'_>,
        alarm: &Alarm,
    ) -> Result<(), Fault> {
        let first_byte = upstream.timeouts().first_byte;
        let mut patience = self.try_timeout(upstream).unwrap_or(first_byte);
        loop {
            match alarm.within(patience, from.readable()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(Fault::UpstreamBroke),
                Err(_) if alarm.is_past_bound() => return Err(Fault::UpstreamTooSlow),
                // Its end is still to come.
                Err(_) if !self.progress.uploaded.get() => {}
                Err(_) if patience >= first_byte => return Err(Fault::UpstreamTooSlow),
                Err(_) if self.takes_retry(upstream) => return Err(Fault::TryAgain),
                // Nobody else is to be asked, so this one gets the time that is left.
                Err(_) => {
                    self.progress.tries_left.set(0);
                    patience = first_byte - patience;
                    let rest = alarm.within(patience, from.readable()).await;
                    return match rest {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(_)) => Err(Fault::UpstreamBroke),
                        Err(_) => Err(Fault::UpstreamTooSlow),
                    };
                }
            }
        }
    }

    /// Reads the answer's head and writes the client's to `out`; interim heads go to the client at once.
    async fn answer_head(
        &self,
        upstream: &Upstream,
        (from, to): (&mut Half<'_>, &mut Half<'_>),
        buffer: &mut Buffer,
        out: &mut Buffer,
        alarm: &Alarm,
    ) -> Result<Begun, Fault> {
        loop {
            match alarm.within(upstream.timeouts().first_byte, fill(buffer, from)).await {
                Ok(Ok(count)) if count > 0 => {}
                Ok(_) => return Err(Fault::UpstreamBroke),
                Err(_) => return Err(Fault::UpstreamTooSlow),
            }
            if let Some(begun) = self.begin_answer(upstream, buffer, out, alarm)? {
                return Ok(begun);
            }
            if !out.is_empty() {
                self.within_patience(alarm, self.gateway.shared.limits.write, send(to, out.filled())).await?;
                out.consume(out.len());
            }
        }
    }

    /// The answer, if its head is complete. Interim answers before it are passed on, but 100, which the gateway says
    /// itself.
    fn begin_answer(
        &self,
        upstream: &Upstream,
        buffer: &mut Buffer,
        out: &mut Buffer,
        alarm: &Alarm,
    ) -> Result<Option<Begun>, Fault> {
        loop {
            let mut space = [MaybeUninit::uninit(); LINES_MAX];
            let parsed = AnswerHead::parse(buffer.filled(), &mut space, ANSWER_HEAD, self.call.is_head);
            let (begun, length) = match parsed {
                Ok(Parsed::Partial) => return Ok(None),
                Ok(Parsed::Complete(answer, length)) if answer.status == 101 || answer.status >= 200 => {
                    self.refuse_listed(upstream, answer.status)?;
                    (Some(self.write_answer_head(&answer, out, alarm)?), length)
                }
                Ok(Parsed::Complete(interim, length)) => {
                    self.interim(&interim, out)?;
                    (None, length)
                }
                Err(fault) => {
                    tracing::warn!(fault = %fault, "the upstream's answer is no HTTP/1: {fault}");
                    return Err(Fault::UpstreamBroke);
                }
            };
            buffer.consume(length);
            if begun.is_some() || buffer.is_empty() {
                return Ok(begun);
            }
        }
    }

    fn write_answer_head(
        &self,
        answer: &AnswerHead<'_>,
        out: &mut Buffer,
        alarm: &Alarm,
    ) -> Result<Begun, Fault> {
        let call = self.call;
        let upgrade = call.upgrade.filter(|_| answer.status == 101);
        if answer.status == 101 && upgrade.is_none() {
            // Nobody asked to switch protocols.
            return Err(Fault::UpstreamBroke);
        }
        let chunks = answer.body == BodyLength::Chunked && !call.is_http10;
        let is_bare =
            answer.body == BodyLength::UntilClose || (answer.body == BodyLength::Chunked && !chunks);
        let client_closes = call.closes || is_bare || !alarm.keeps_alive();
        let framing = AnswerFraming {
            body: if is_bare { BodyLength::UntilClose } else { answer.body },
            declared: answer.declared,
            closes: client_closes && upgrade.is_none(),
            says_keep_alive: call.is_http10,
            may_have_length: answer.status != 204,
        };
        let headers = &self.gateway.shared.headers;
        headers.begin_answer(out, answer, call.request, framing, self.charged.is_some());
        if let Some(Charged { caller, charges, .. }) = &self.charged {
            headers.push_limits(out, caller, charges, call.admitted_at);
        }
        if upgrade.is_some() {
            push_upgrade(out, answer.lines);
        }
        out.push(b"\r\n");
        self.progress.status.set(answer.status);
        self.progress.ends_with_connection.set(is_bare);
        *self.progress.said.borrow_mut() = said(self.charges(), answer);
        Ok(Begun { body: answer.body, chunks, client_closes, upstream_closes: answer.closes, upgrade })
    }

    fn interim(&self, answer: &AnswerHead<'_>, out: &mut Buffer) -> Result<(), Fault> {
        let seen = self.progress.interim.get() + 1;
        self.progress.interim.set(seen);
        if seen > INTERIM_MAX {
            return Err(Fault::UpstreamBroke);
        }
        if answer.status > 101 && !self.call.is_http10 {
            push_interim(out, answer);
        }
        Ok(())
    }

    /// The client must read, and send its body, without long pauses.
    fn within_patience<T>(
        &self,
        alarm: &Alarm,
        patience: Duration,
        transfer: impl Future<Output = io::Result<T>>,
    ) -> impl Future<Output = Result<T, Fault>> {
        alarm.within(patience, transfer).map(|transferred| match transferred {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(Fault::ClientGone),
            Err(_) => Err(Fault::ClientTooSlow),
        })
    }

    /// When the exchange was over: now, if nobody has asked before.
    fn ended(&self) -> Monotonic {
        let ended = self.progress.ended.get().unwrap_or_else(|| self.gateway.shared.clock.monotonic());
        self.progress.ended.set(Some(ended));
        ended
    }

    fn charges(&self) -> &'f [ChargeSettings] {
        &self.serving.table.routes[self.call.route].settings.charges
    }

    /// The end of the exchange: the books first, then what the client still has to be told.
    fn settle(&self, client: &mut Client, exchanged: Result<Begun, Fault>) -> Result<Ended, Refused> {
        let stopped = self.progress.stopped.take();
        let refusal = exchanged.err().map(|fault| {
            let stopped = stopped.filter(|_| fault == Fault::Stopped);
            stopped.unwrap_or_else(|| fault.refusal(&self.gateway.shared.limits))
        });
        let status = match (self.progress.begun.get(), &refusal) {
            (false, Some(refusal)) => refusal.status(),
            _ => self.progress.status.get(),
        };
        // Nothing of the answer is left to be held back: nobody waits for these records to be synced.
        match exchanged {
            Err(Fault::NotSent | Fault::NotReached | Fault::Unavailable(_))
                if !self.progress.reached.get() =>
            {
                self.close_unsent();
            }
            Err(fault) => drop(self.close_books(fault.outcome(), status)),
            Ok(_) => drop(self.close_books(Outcome::Answered, status)),
        }
        match (exchanged, refusal) {
            (Ok(begun), _) => {
                self.serving.meters.answered(
                    self.call.route,
                    Answered {
                        status,
                        duration: self.ended().since(self.call.began),
                        upstream: self.progress.upstream_wait.get(),
                        bytes_in: self.progress.bytes_in.get(),
                        bytes_out: self.progress.bytes_out.get(),
                    },
                );
                let reusable = !begun.client_closes
                    && begun.upgrade.is_none()
                    && self.progress.uploaded.get()
                    && client.alarm.keeps_alive();
                Ok(Ended { complete: true, reusable })
            }
            (Err(fault), Some(refusal)) if !self.progress.begun.get() && fault != Fault::ClientGone => {
                Err(refusal.into())
            }
            (Err(_), _) => {
                if self.progress.ends_with_connection.get() {
                    client.stream.reset_on_close();
                }
                Ok(Ended { complete: false, reusable: false })
            }
        }
    }

    /// Under `journal.sync = "always"` the record goes to the disk before the answer's last part goes to the client, so
    /// that no power loss takes the record of an answer that a client has whole. A client that goes away within that
    /// last part counts as answered, like one that goes away while the kernel sends it.
    fn must_sync(&self) -> bool {
        self.passage.borrow().as_ref().is_some_and(Passage::must_sync)
    }

    fn close_unsent(&self) {
        if let Some(passage) = self.passage.take() {
            passage.unsent();
        }
    }

    /// Settles and writes the record, once. The future is done when the record is as safe as the policy asks.
    fn close_books(&self, outcome: Outcome, status: u16) -> impl Future<Output = ()> + use<> {
        let Progress { bytes_in, bytes_out, said, .. } = &self.progress;
        let synced = self.passage.take().map(|mut passage| {
            (passage.status, passage.bytes_in, passage.bytes_out) = (status, bytes_in.get(), bytes_out.get());
            passage.end(self.ended(), outcome, self.charges(), &said.borrow())
        });
        async {
            if let Some(synced) = synced {
                synced.await;
            }
        }
    }
}

impl Drop for Forward<'_, '_> {
    /// The client is gone, or the gateway ends. What was never sent gives its units back by itself.
    fn drop(&mut self) {
        if self.passage.get_mut().as_ref().is_some_and(Passage::is_sent) {
            drop(self.close_books(Outcome::ClientGone, self.progress.status.get()));
        }
    }
}

/// The download's result; the upload goes on beside it and ends it only by a fault of its own.
async fn beside(
    mut download: Pin<&mut impl Future<Output = Result<Delivered, Fault>>>,
    mut upload: Pin<&mut impl Future<Output = Result<(), Fault>>>,
) -> Result<Begun, Fault> {
    let mut uploading = true;
    poll_fn(|context| {
        if let Poll::Ready(delivered) = download.as_mut().poll(context) {
            return Poll::Ready(delivered.map(|(begun, _)| begun));
        }
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            uploading = false;
            if let Err(fault) = uploaded {
                return Poll::Ready(Err(fault));
            }
        }
        Poll::Pending
    })
    .await
}

/// What the answer says of each charge that is told by a header; nothing for the others.
fn said(charges: &[ChargeSettings], answer: &AnswerHead<'_>) -> Said {
    let value = |name: &str| {
        let line = answer.lines.iter().find(|line| line.name.eq_ignore_ascii_case(name))?;
        let units = std::str::from_utf8(line.value).ok()?.trim().parse().ok()?;
        Some(Units::saturating(units))
    };
    charges.iter().map(|charge| charge.units.header().and_then(value)).collect()
}

// === impl Fault ===

impl Fault {
    const fn outcome(self) -> Outcome {
        match self {
            Fault::UpstreamBroke | Fault::NotSent | Fault::Unavailable(_) => Outcome::UpstreamBroke,
            Fault::UpstreamTooSlow | Fault::NotReached | Fault::TryAgain => Outcome::UpstreamTimeout,
            Fault::ClientGone
            | Fault::ClientTooSlow
            | Fault::BadBody(_)
            | Fault::BodyTooLarge
            | Fault::Stopped => Outcome::ClientGone,
        }
    }

    const fn refusal(self, limits: &GatewayLimits) -> Refusal {
        match self {
            Fault::NotSent => Refusal::UpstreamUnreachable,
            Fault::Unavailable(why) => Refusal::Unavailable(why),
            Fault::ClientGone | Fault::ClientTooSlow => Refusal::BodyTimeout,
            Fault::Stopped => Refusal::Unauthenticated(Unauthenticated::Unusable),
            Fault::BadBody(fault) => Refusal::MalformedBody(fault),
            Fault::BodyTooLarge => Refusal::BodyTooLarge { bytes_max: limits.body_bytes },
            Fault::UpstreamBroke => Refusal::UpstreamBroke,
            Fault::UpstreamTooSlow | Fault::NotReached | Fault::TryAgain => Refusal::UpstreamTimeout,
        }
    }
}
