//! An upgraded connection: bytes both ways until both sides have ended, once the upstream has answered 101.
//!
//! What the bytes mean is the two sides' own business, with one exception: a drain tells the client of a WebSocket that
//! the server goes away, at a frame's end, so that it can connect elsewhere. Other protocols end with their sides, or
//! when the time to drain is over.
//!
//! Whoever waits holds no buffer: ten thousand idle WebSockets cost their sockets and tasks only.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::connection::fill;
use super::refusal::Refusal;
use crate::listener::http1::Head;
use crate::listener::{Alarm, Buffer, Buffers, Expired, Half, send};

/// Close frames of a server (RFC 6455, section 7.4.1): 1001, "going away", and 1008, against the policy.
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];
const NOT_WELCOME: [u8; 4] = [0x88, 0x02, 0x03, 0xf0];

/// What a client asks to speak on its connection from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upgrade {
    WebSocket,
    Other,
}

/// Two connections whose bytes are passed on.
pub(super) struct Tunnel<'t> {
    pub(super) upgrade: Upgrade,
    pub(super) client: Half<'t>,
    pub(super) upstream: Half<'t>,
    pub(super) buffers: &'t Buffers,
    /// Bytes without their framing, from and to the client; they go on from where they are.
    pub(super) bytes_in: &'t Cell<u64>,
    pub(super) bytes_out: &'t Cell<u64>,
    /// Set when the client has to be told that it is not welcome any more.
    pub(super) stopped: &'t RefCell<Option<Refusal>>,
}

/// How far each direction has come.
#[derive(Debug, Default)]
struct Ends {
    up: End,
    down: End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum End {
    #[default]
    Ahead,
    Reached,
    Failed,
}

/// Follows a server's WebSocket frames, to know where one ends (RFC 6455, section 5.2).
#[derive(Debug, Default)]
struct Frames {
    header: [u8; 14],
    header_bytes: usize,
    payload_left: u64,
}

// === impl Upgrade ===

impl Upgrade {
    /// What the head asks for. `None` if it asks for nothing that can be passed on: HTTP/2 and TLS are ended here, and
    /// where a body would end is not known to both sides.
    pub(super) fn asked(head: &Head<'_>) -> Option<Upgrade> {
        if !head.upgrades || head.is_http10 || !head.body.is_empty() {
            return None;
        }
        let protocol = std::str::from_utf8(head.only("upgrade").ok()??).ok()?;
        let (name, _version) = protocol.split_once('/').unwrap_or((protocol, ""));
        if protocol.contains(',')
            || ["h2c", "h2", "tls", "http"].iter().any(|own| name.eq_ignore_ascii_case(own))
        {
            return None;
        }
        Some(if name.eq_ignore_ascii_case("websocket") { Upgrade::WebSocket } else { Upgrade::Other })
    }
}

// === impl Tunnel ===

impl Tunnel<'_> {
    /// Passes bytes on until both sides have ended, one of them breaks, nothing has moved for `idle`, or the caller is
    /// stopped. `early` came from the client before the upgrade was answered, `late` from the upstream behind its
    /// answer.
    ///
    /// Dropping the future breaks both connections off.
    pub(super) async fn run(&self, alarm: &Alarm, idle: Duration, early: &mut Buffer, late: &mut Buffer) {
        let frames = RefCell::new(Frames::default());
        let mut up = pin!(self.pass(self.client, self.upstream, early, |bytes| add(self.bytes_in, bytes)));
        let mut down = pin!(self.pass(self.upstream, self.client, late, |bytes| {
            add(self.bytes_out, bytes);
            frames.borrow_mut().follow(bytes);
        }));
        let mut ends = Ends::default();
        let mut goes_away = false;
        while !(ends.are_over() || goes_away && frames.borrow().is_between()) {
            if self.is_stopped() && self.upgrade == Upgrade::Other {
                return;
            }
            let moved = self.moved();
            let step = poll_fn(|context| {
                ends.up.poll(up.as_mut(), context);
                ends.down.poll(down.as_mut(), context);
                let is_new = self.moved() != moved || self.is_stopped() && !goes_away;
                if ends.are_over() || is_new { Poll::Ready(()) } else { Poll::Pending }
            });
            let was_leaving = goes_away;
            let hears_drain = self.upgrade == Upgrade::WebSocket && !goes_away;
            let stepped = if hears_drain {
                alarm.until_drain(idle, step).await
            } else {
                alarm.within(idle, step).await
            };
            goes_away = goes_away || (hears_drain && (alarm.is_draining() || self.is_stopped()));
            // The drain itself has expired a wait that went on until then; a wait that began after it was its own.
            if stepped == Err(Expired) && (was_leaving || !goes_away) {
                return;
            }
        }
        if goes_away && !ends.are_over() {
            let mut client = self.client;
            let frame = if self.is_stopped() { &NOT_WELCOME } else { &GOING_AWAY };
            // If it fails, the client is gone already.
            let _ = alarm.within(idle, send(&mut client, frame)).await;
        }
    }

    /// One direction, until its end, which is passed on too. `note` sees what the other side has taken.
    async fn pass(
        &self,
        mut from: Half<'_>,
        mut to: Half<'_>,
        first: &mut Buffer,
        note: impl Fn(&[u8]),
    ) -> io::Result<()> {
        if !first.is_empty() {
            send(&mut to, first.filled()).await?;
            note(first.filled());
            first.consume(first.len());
        }
        loop {
            from.readable().await?;
            let mut buffer = self.buffers.take();
            if fill(&mut buffer, &mut from).await? == 0 {
                return to.shutdown().await;
            }
            send(&mut to, buffer.filled()).await?;
            note(buffer.filled());
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.borrow().is_some()
    }

    fn moved(&self) -> u64 {
        self.bytes_in.get().wrapping_add(self.bytes_out.get())
    }
}

fn add(count: &Cell<u64>, bytes: &[u8]) {
    count.set(count.get() + bytes.len() as u64);
}

// === impl Ends ===

impl Ends {
    /// Both directions have ended, or one has failed: then nothing is left to say.
    fn are_over(&self) -> bool {
        matches!((&self.up, &self.down), (End::Failed, _) | (_, End::Failed) | (End::Reached, End::Reached))
    }
}

impl End {
    fn poll(&mut self, way: Pin<&mut impl Future<Output = io::Result<()>>>, context: &mut Context<'_>) {
        if *self == End::Ahead
            && let Poll::Ready(ended) = way.poll(context)
        {
            *self = if ended.is_ok() { End::Reached } else { End::Failed };
        }
    }
}

// === impl Frames ===

impl Frames {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= skipped as u64;
            bytes = &bytes[skipped..];
            while let Some((byte, rest)) = bytes.split_first().filter(|_| self.payload_left == 0) {
                bytes = rest;
                self.header[self.header_bytes] = *byte;
                self.header_bytes += 1;
                if self.header_bytes == self.header_length() {
                    self.payload_left = self.payload_bytes();
                    self.header_bytes = 0;
                }
            }
        }
    }

    fn is_between(&self) -> bool {
        self.payload_left == 0 && self.header_bytes == 0
    }

    /// As far as is known yet: at least two. A masked frame, which a server must not send, has four more.
    fn header_length(&self) -> usize {
        if self.header_bytes < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        mask + match self.header[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn payload_bytes(&self) -> u64 {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => number(&self.header[2..4]),
            127 => number(&self.header[2..10]),
            length => length.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Frames;

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let short = [&[0x81, 5][..], b"hello"].concat();
        let masked = [&[0x81, 0x82, 1, 2, 3, 4][..], b"hi"].concat();
        let medium = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let long = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65_536]].concat();
        let all = [short, masked, medium, long, vec![0x89, 0]];
        for step in [1, 2, 3, 7, 1000, 100_000] {
            let (mut frames, mut at) = (Frames::default(), 0);
            let ends: Vec<usize> = all
                .iter()
                .scan(0, |end, frame| {
                    *end += frame.len();
                    Some(*end)
                })
                .collect();
            for piece in all.concat().chunks(step) {
                frames.follow(piece);
                at += piece.len();
                assert_eq!(frames.is_between(), ends.contains(&at), "step {step}, byte {at}");
            }
        }
    }
}
