//! A client of HTTP/2: whole requests by hyper, and frames by hand where a library would not send them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

use super::wait::PATIENCE;

/// One connection by prior knowledge, with a runtime of its own.
pub(crate) struct Http2Client {
    runtime: Runtime,
    requests: SendRequest<Full<Bytes>>,
}

/// An answer that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Http2Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
}

/// A connection of frames written by hand.
pub(crate) struct Http2Frames(TcpStream);

// === impl Http2Client ===

impl Http2Client {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let requests = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(to).await.expect("a connection");
            let handshake = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
            let (requests, connection) = handshake.await.expect("HTTP/2");
            tokio::spawn(connection);
            requests
        });
        Http2Client { runtime, requests }
    }

    /// One whole exchange. Headers as `name: value`.
    ///
    /// # Errors
    /// The stream or the connection was broken off.
    pub(crate) fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: impl Into<Bytes>,
    ) -> hyper::Result<Http2Response> {
        let answered = self.requests.send_request(request(method, target, headers, body.into()));
        self.runtime.block_on(async { whole(answered.await?).await })
    }

    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Http2Response {
        let answered = self.try_request(method, target, headers, body.to_vec());
        answered.unwrap_or_else(|error| panic!("no answer to {method} {target}: {error:?}"))
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str, headers: &[&str]) -> Http2Response {
        self.request("GET", target, headers, b"")
    }

    /// So many requests at the same time.
    pub(crate) fn get_all(&mut self, count: usize, headers: &[&str]) -> Vec<hyper::Result<Http2Response>> {
        let answers: Vec<_> = (0..count)
            .map(|index| {
                let request = request("GET", &format!("/{index}"), headers, Bytes::new());
                let answered = self.requests.send_request(request);
                self.runtime.spawn(async { whole(answered.await?).await })
            })
            .collect();
        answers.into_iter().map(|answer| self.runtime.block_on(answer).expect("no panic")).collect()
    }

    /// Begins a request, waits until `is_there`, and drops it: the stream is reset.
    pub(crate) fn cancel(&mut self, target: &str, headers: &[&str], is_there: impl Fn()) {
        let answered = self.requests.send_request(request("GET", target, headers, Bytes::new()));
        let answering = self.runtime.spawn(answered);
        is_there();
        answering.abort();
    }

    /// Begins a request and gives its answer's head, whose body is read piece by piece.
    pub(crate) fn begin(&mut self, target: &str, headers: &[&str]) -> Response<Incoming> {
        let answered = self.requests.send_request(request("GET", target, headers, Bytes::new()));
        self.runtime.block_on(answered).expect("an answer")
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) fn piece(&mut self, body: &mut Incoming) -> Option<hyper::Result<Bytes>> {
        let frame = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, body.frame()).await });
        frame.expect("in time").map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }
}

fn request(method: &str, target: &str, headers: &[&str], body: Bytes) -> Request<Full<Bytes>> {
    let mut request =
        Request::builder().method(method).version(Version::HTTP_2).uri(format!("http://a{target}"));
    for line in headers {
        let (name, value) = line.split_once(": ").expect("`name: value`");
        request = request.header(name, value);
    }
    request.body(Full::new(body)).expect("a request")
}

async fn whole(response: Response<Incoming>) -> hyper::Result<Http2Response> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let (status, headers) = (parts.status.as_u16(), parts.headers);
    Ok(Http2Response { status, headers, body: collected.to_bytes().to_vec(), trailers })
}

// === impl Http2Response ===

impl Http2Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

// === impl Http2Frames ===

impl Http2Frames {
    /// Sends the preface and empty settings.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let mut frames = Http2Frames(stream);
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("a preface");
        frames.send(4, 0, 0, &[]);
        frames
    }

    /// Gives whether the other side still took it.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[head, payload.to_vec()].concat()).is_ok()
    }

    /// HEADERS that end their stream, each field as it is.
    pub(crate) fn headers(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(1, 5, stream, &block(fields))
    }

    /// The frames of these kinds that come until the connection ends, or one of `until` does: kind, stream, payload.
    pub(crate) fn read_until(&mut self, until: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Ok(frame) = self.read() {
            let is_last = until.contains(&frame.0);
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    fn read(&mut self) -> io::Result<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload)?;
        Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Whether the other side ends the connection before long.
    pub(crate) fn is_closed(&mut self) -> bool {
        let _ = self.0.set_read_timeout(Some(Duration::from_secs(10)));
        loop {
            match self.read() {
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Fields as literals that are never indexed (RFC 7541, section 6.2.3).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend(text.bytes());
        }
    }
    block
}

fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(u8::try_from(length).expect("at most 126"));
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("a byte"));
}
