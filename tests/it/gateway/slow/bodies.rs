//! Bodies that are far larger than any buffer: memory stays where it was, whoever is slow.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Body, Bytes, Frame};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::gateway::{route, upstream_at};
use crate::support::{TestGateway, until};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What a gateway may need more of memory while a body passes.
const GROWTH_MAX: u64 = 16 * MIB;

/// Brings so many bytes through the gateway; gives how many arrived.
type Pass = fn(SocketAddr, u64) -> u64;

static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

#[test]
fn a_gibibyte_passes_each_way_by_both_protocols_without_a_trace_in_memory() {
    let upstream = Streaming::start();
    let gateway = upstream.gateway();
    let ways: [(&str, Pass); 4] = [
        ("download by HTTP/1", download_by_http1),
        ("upload by HTTP/1", upload_by_http1),
        ("download by HTTP/2", download_by_http2),
        ("upload by HTTP/2", upload_by_http2),
    ];
    for (name, pass) in ways {
        assert_eq!(pass(gateway.proxy(), 8 * MIB), 8 * MIB, "{name}, to warm up");
        let before = gateway.peak_memory_from_now();
        assert_eq!(pass(gateway.proxy(), GIB), GIB, "{name}");
        let growth = gateway.peak_memory().saturating_sub(before);
        assert!(growth < GROWTH_MAX, "{name}: {growth} bytes more");
    }
}

#[test]
fn whoever_does_not_read_is_not_read_for() {
    let upstream = Streaming::start();
    let gateway = upstream.gateway();
    let before = gateway.peak_memory_from_now();

    // A client that does not read its answer.
    let mut clients: Vec<_> = (0..4).map(|_| connect(gateway.proxy())).collect();
    for client in &mut clients {
        write!(client, "GET /{GIB} HTTP/1.1\r\nhost: a\r\n\r\n").expect("a request");
    }
    until("the upstream can write no more", || {
        (upstream.state.blocked.load(Ordering::SeqCst) >= 4).then_some(())
    });
    let written = upstream.state.written.load(Ordering::SeqCst);
    assert!(written < 4 * 24 * MIB, "{written} bytes were taken from the upstream");

    // An upstream that does not read its request.
    let mut client = connect(gateway.proxy());
    client.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    write!(client, "POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: {GIB}\r\n\r\n").expect("a request");
    let mut sent = 0;
    while let Ok(count) = client.write(&BLOCK) {
        sent += count as u64;
    }
    assert!(sent < 24 * MIB, "{sent} bytes were taken from the client");
    let growth = gateway.peak_memory().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
}

// === an upstream that keeps nothing ===

/// Sends as many bytes as a path says, counts what it is sent, and reads nothing of what goes to `/unread`.
struct Streaming {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    written: AtomicU64,
    /// Writers that the other side took nothing from for a second.
    blocked: AtomicU64,
    is_over: AtomicBool,
}

impl Streaming {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let state = serving.clone();
                // A connection that fails shows on the other side.
                std::thread::spawn(move || drop(state.serve(&stream)));
            }
        });
        Streaming { address, state }
    }

    fn gateway(&self) -> TestGateway {
        let limits = "[listen.limits]\nbody_bytes = 0\n";
        let upstream = upstream_at(&[self.address], "");
        TestGateway::start_with(&[limits, &upstream, &route("all", "/", "public = true")].concat())
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(Duration::from_secs(1)))?;
        let mut input = BufReader::with_capacity(64 * 1024, stream);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if input.read_until(b'\n', &mut head)? == 0 {
                    return Ok(());
                }
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let target = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            if target == "unread" {
                // Until the other side gives up.
                while !self.is_over.load(Ordering::SeqCst) && stream.peek(&mut [0; 1]).is_ok() {
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                return Ok(());
            }
            if let Ok(bytes) = target.parse() {
                self.send(stream, bytes)?;
                continue;
            }
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
            let length = length.and_then(|length| length.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
            let read = io::copy(&mut (&mut input).take(length), &mut io::sink())?.to_string();
            write!(&*stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{read}", read.len())?;
        }
    }

    fn send(&self, mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n")?;
        let mut left = bytes;
        while left > 0 {
            let piece = &BLOCK[..BLOCK.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            match stream.write(piece) {
                Ok(count) => {
                    left -= count as u64;
                    self.written.fetch_add(count as u64, Ordering::SeqCst);
                }
                Err(error) => {
                    self.blocked.fetch_add(1, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

// === clients that keep nothing ===

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream
}

fn download_by_http1(from: SocketAddr, bytes: u64) -> u64 {
    let mut stream = connect(from);
    write!(stream, "GET /{bytes} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("a request");
    let mut input = BufReader::with_capacity(64 * 1024, stream);
    skip_head(&mut input);
    io::copy(&mut input, &mut io::sink()).expect("an answer")
}

fn upload_by_http1(to: SocketAddr, bytes: u64) -> u64 {
    let mut stream = connect(to);
    write!(stream, "POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n")
        .expect("a request");
    for _ in 0..bytes / BLOCK.len() as u64 {
        stream.write_all(&BLOCK).expect("the gateway reads");
    }
    let mut input = BufReader::new(stream);
    skip_head(&mut input);
    let mut counted = String::new();
    input.read_to_string(&mut counted).expect("an answer");
    counted.parse().expect("a number")
}

fn skip_head(input: &mut impl BufRead) {
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        input.read_line(&mut line).expect("an answer's head");
    }
}

fn download_by_http2(from: SocketAddr, bytes: u64) -> u64 {
    with_http2(from, async |mut requests: SendRequest<Empty<Bytes>>| {
        let request = Request::get(format!("http://a/{bytes}")).body(Empty::new()).expect("a request");
        let mut body = requests.send_request(request).await.expect("an answer").into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.expect("a frame").into_data().map_or(0, |data| data.len() as u64);
        }
        read
    })
}

fn upload_by_http2(to: SocketAddr, bytes: u64) -> u64 {
    with_http2(to, async |mut requests: SendRequest<Blocks>| {
        let request = Request::post("http://a/count").header("content-length", bytes);
        let request = request.body(Blocks(bytes / BLOCK.len() as u64)).expect("a request");
        let response = requests.send_request(request).await.expect("an answer");
        let counted = response.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8_lossy(&counted).parse().expect("a number")
    })
}

fn with_http2<B>(to: SocketAddr, exchange: impl AsyncFnOnce(SendRequest<B>) -> u64) -> u64
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
        // Otherwise the kernel holds the end of each frame back until the one before is acknowledged.
        stream.set_nodelay(true).expect("a socket");
        let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let (requests, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        exchange(requests).await
    })
}

/// A body of so many blocks, made as they are asked for.
struct Blocks(u64);

impl Body for Blocks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let blocks = self.get_mut();
        let next = blocks.0.checked_sub(1);
        Poll::Ready(next.map(|left| {
            blocks.0 = left;
            Ok(Frame::data(Bytes::from_static(&BLOCK)))
        }))
    }
}
