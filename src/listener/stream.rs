//! One connection's bytes, whatever carries them.
//!
//! An enum and not a type parameter: the walk is compiled once, and plain TCP pays one predictable branch.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::http2::{Answering, Asking};
use super::tls::client_name;

/// A connection to a client or to an upstream.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    /// Boxed, because it is a hundred times as large, and most connections are plain.
    Tls(Box<TlsStream<TcpStream>>),
    /// One stream of a client's HTTP/2 connection.
    Answering(Box<Answering>),
    /// One stream of an HTTP/2 connection to an upstream.
    Asking(Box<Asking>),
}

/// One direction of a stream whose other direction goes on beside it, in the same task.
#[derive(Clone, Copy, Debug)]
pub struct Half<'s>(&'s RefCell<&'s mut Stream>);

/// Writes all of `bytes` and sees them off: TLS keeps what the socket did not take at once.
///
/// # Errors
/// Whatever the stream says; how much was written before is not known.
pub async fn send<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

// === impl Stream ===

impl Stream {
    pub const fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// The name in the certificate that the client has shown, and that an authority vouched for.
    pub fn client_name(&self) -> Option<String> {
        let Stream::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        client_name(session.peer_certificates()?.first()?)
    }

    /// Ready once something can be read without waiting: bytes, the stream's end, or its failure. Takes nothing, and
    /// needs no buffer.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(context),
            Stream::Tls(stream) => Pin::new(stream).poll_fill_buf(context).map_ok(drop),
            Stream::Answering(stream) => stream.poll_ready(context),
            Stream::Asking(stream) => stream.poll_ready(context),
        }
    }

    /// As [`Stream::poll_readable`], for a new socket: the runtime takes it for readable until the kernel is asked.
    /// Gives whether there are bytes, not the end.
    ///
    /// # Errors
    /// Whatever the stream says.
    pub fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self {
            Stream::Tcp(stream) => {
                let mut byte = [0];
                let mut byte = ReadBuf::new(&mut byte);
                stream.poll_peek(context, &mut byte).map_ok(|count| count > 0)
            }
            Stream::Tls(stream) => Pin::new(stream).poll_fill_buf(context).map_ok(|bytes| !bytes.is_empty()),
            // A stream begins with a request.
            Stream::Answering(_) | Stream::Asking(_) => Poll::Ready(Ok(true)),
        }
    }

    /// Whether an idle connection may be used: nothing is to be read from it. If something is, it is its end, or an
    /// answer nobody asked for.
    pub fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Stream::Tcp(stream) => match stream.poll_read_ready(&mut context) {
                Poll::Pending => true,
                // The readiness may be left over from the last answer; only then the kernel is asked.
                Poll::Ready(_) => {
                    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
                }
            },
            Stream::Tls(stream) => Pin::new(stream).poll_fill_buf(&mut context).is_pending(),
            // A stream carries one request and no second one.
            Stream::Answering(_) | Stream::Asking(_) => false,
        }
    }

    /// Closing it from now on resets it: the other side learns that there was more to come.
    pub fn reset_on_close(&mut self) {
        let socket = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
            Stream::Answering(stream) => return stream.break_off(),
            // A stream that is dropped before its end is reset in any case.
            Stream::Asking(_) => return,
        };
        // If it fails, the connection is gone already.
        let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Whether it is a stream among others of one connection, and serves one request.
    pub const fn is_one_of_many(&self) -> bool {
        matches!(self, Stream::Answering(_) | Stream::Asking(_))
    }

    /// Whether a failed write tells how much has left: TLS and HTTP/2 take bytes before they send them.
    pub const fn tells_what_left(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    /// What TLS agreed to speak on it.
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Stream::Tcp(_) | Stream::Answering(_) | Stream::Asking(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Answering(stream) => stream.poll_read(context, buffer),
            Stream::Asking(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Answering(stream) => stream.poll_write(context, bytes),
            Stream::Asking(stream) => stream.poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::Answering(stream) => stream.poll_flush(context),
            Stream::Asking(stream) => stream.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Answering(stream) => stream.poll_flush(context),
            Stream::Asking(stream) => stream.poll_flush(context),
        }
    }
}

// === impl Half ===

impl<'s> Half<'s> {
    /// One of the two directions; the cell holds the stream while both are in use.
    pub const fn of(stream: &'s RefCell<&'s mut Stream>) -> Self {
        Half(stream)
    }

    /// As [`Stream::poll_readable`].
    ///
    /// # Errors
    /// Whatever the stream says.
    pub async fn readable(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.0.borrow_mut().poll_readable(context)).await
    }
}

impl AsyncRead for Half<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.borrow_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Half<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut **self.0.borrow_mut()).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
