//! An upstream that answers as it is told and keeps every request byte for byte.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::wait::{PATIENCE, pass};
use super::wire::{Message, Recorded};

/// A server of HTTP/1.1, one thread per connection. Ends when it is dropped.
pub(crate) struct StubUpstream {
    address: SocketAddr,
    state: Arc<State>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A whole answer; the connection stays open. A body is framed by its length.
    Whole { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// A chunked answer, and its trailers.
    Chunked { status: u16, chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
    /// These bytes; the connection stays open.
    Raw(Vec<u8>),
    /// These bytes, then the end of the connection.
    Close(Vec<u8>),
    /// These bytes, then a reset of the connection.
    Reset(Vec<u8>),
    /// These bytes, then whatever comes is sent back until the other side ends; then the end.
    Tunnel(Vec<u8>),
    /// Nothing, until the other side closes.
    Hang,
    /// That answer, this much later.
    After(Duration, Box<Answer>),
    /// That answer, once the gate is open.
    When(Gate, Box<Answer>),
    /// First the one, then the other: the pieces of a stream.
    Then(Box<Answer>, Box<Answer>),
}

/// A door that a test opens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

type Respond = dyn Fn(&Recorded) -> Answer + Send + Sync;

struct State {
    respond: Mutex<Arc<Respond>>,
    recorded: Mutex<Vec<Recorded>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    is_over: AtomicBool,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Request,
    End,
}

// === impl StubUpstream ===

impl StubUpstream {
    /// Answers every request with 200 and `ok`.
    pub(crate) fn start() -> Self {
        StubUpstream::answering(|_| Answer::ok("ok"))
    }

    pub(crate) fn answering(respond: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            respond: Mutex::new(Arc::new(respond)),
            recorded: Mutex::default(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || serving.accept(&listener));
        StubUpstream { address, state }
    }

    /// Answers from now on in another way.
    pub(crate) fn answer(&self, respond: impl Fn(&Recorded) -> Answer + Send + Sync + 'static) {
        *lock(&self.state.respond) = Arc::new(respond);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a configuration names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came whole.
    pub(crate) fn count(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Connections that were ever opened.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Every request so far, in the order of their ends.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        lock(&self.state.recorded).clone()
    }

    /// The latest request.
    #[track_caller]
    pub(crate) fn last(&self) -> Recorded {
        lock(&self.state.recorded).last().cloned().expect("the upstream has seen a request")
    }
}

impl Drop for StubUpstream {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            self.connections.fetch_add(1, Ordering::SeqCst);
            let state = Arc::clone(self);
            // A connection that fails is the test's own doing, or shows on the other side.
            self.open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let _ = state.serve(&stream);
                state.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream);
        while let Some(request) = Message::read_request(&mut input)? {
            let answer = self.record(request);
            if let Answer::Tunnel(head) = answer {
                let mut output = stream;
                output.write_all(&head)?;
                io::copy(&mut input, &mut output)?;
                break;
            }
            if answer.write(stream)? == Next::End {
                break;
            }
        }
        Ok(())
    }

    /// Counts before it answers: what a client has seen answered, the count holds.
    fn record(&self, request: Recorded) -> Answer {
        let respond = Arc::clone(&lock(&self.respond));
        let answer = respond(&request);
        lock(&self.recorded).push(request);
        self.requests.fetch_add(1, Ordering::SeqCst);
        answer
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Answer ===

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Answer::status(200, body)
    }

    pub(crate) fn status(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer::Whole { status, headers: Vec::new(), body: body.into() }
    }

    /// The request's own body.
    pub(crate) fn echo(request: &Recorded) -> Self {
        Answer::ok(request.body.clone())
    }

    pub(crate) fn chunked<const N: usize>(chunks: [&str; N]) -> Self {
        let chunks = chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect();
        Answer::Chunked { status: 200, chunks, trailers: Vec::new() }
    }

    /// The same with one more header. Only whole answers have any.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if let Answer::Whole { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    #[must_use]
    pub(crate) fn after(self, delay: Duration) -> Self {
        Answer::After(delay, Box::new(self))
    }

    #[must_use]
    pub(crate) fn when(self, gate: &Gate) -> Self {
        Answer::When(gate.clone(), Box::new(self))
    }

    #[must_use]
    pub(crate) fn then(self, next: Answer) -> Self {
        Answer::Then(Box::new(self), Box::new(next))
    }

    fn write(self, mut stream: &TcpStream) -> io::Result<Next> {
        match self {
            Answer::Whole { status, headers, body } => stream.write_all(&whole(status, &headers, &body))?,
            Answer::Chunked { status, chunks, trailers } => {
                stream.write_all(&chunked(status, &chunks, &trailers))?;
            }
            Answer::Raw(bytes) => stream.write_all(&bytes)?,
            Answer::Close(bytes) => {
                stream.write_all(&bytes)?;
                return Ok(Next::End);
            }
            Answer::Reset(bytes) => return reset(stream, &bytes),
            Answer::Tunnel(_) => panic!("a tunnel is no part of another answer"),
            Answer::Hang => return hang(stream),
            Answer::After(delay, answer) => {
                pass(delay);
                return answer.write(stream);
            }
            Answer::When(gate, answer) => {
                gate.wait();
                return answer.write(stream);
            }
            Answer::Then(first, second) => {
                return if first.write(stream)? == Next::End { Ok(Next::End) } else { second.write(stream) };
            }
        }
        Ok(Next::Request)
    }
}

fn whole(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut bytes = head(status, headers);
    // 204 and 304 have no body and no framing.
    if status != 204 && status != 304 {
        bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn chunked(status: u16, chunks: &[Vec<u8>], trailers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = head(status, &[("transfer-encoding".to_owned(), "chunked".to_owned())]);
    bytes.extend(b"\r\n");
    for chunk in chunks {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n");
    bytes.extend(fields(trailers));
    bytes.extend(b"\r\n");
    bytes
}

fn head(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Answer\r\n").into_bytes();
    bytes.extend(fields(headers));
    bytes
}

fn fields(fields: &[(String, String)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect()
}

/// Writes, and ends the connection with RST once the bytes are on their way.
fn reset(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<Next> {
    stream.write_all(bytes)?;
    // Without lingering, closing resets.
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok(Next::End)
}

fn hang(mut stream: &TcpStream) -> io::Result<Next> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut ignored = [0; 1_024];
    while stream.read(&mut ignored)? > 0 {}
    Ok(Next::End)
}

// === impl Gate ===

impl Gate {
    pub(crate) fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let closed = lock(&self.0.0);
        let _ = self.0.1.wait_timeout_while(closed, PATIENCE, |is_open| !*is_open);
    }
}
