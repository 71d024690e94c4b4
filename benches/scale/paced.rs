//! Load at a rate, as wrk has none: each request is due at an instant, and took from then until its answer was whole, so
//! that what waits behind a slow answer counts as slow.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::rig::Fault;

/// Requests at a rate.
pub(crate) struct Pace<'a> {
    pub(crate) port: u16,
    /// Connections have them in turn.
    pub(crate) keys: &'a [String],
    pub(crate) per_second: u32,
    pub(crate) time: Duration,
}

/// What became of them.
#[derive(Default)]
pub(crate) struct Paced {
    /// How long each admitted one took, the quickest first.
    took: Vec<Duration>,
    pub(crate) refused: u64,
}

/// Connections, each with a thread: one for a hundred requests per second.
const PER_CONNECTION: u32 = 100;
const CONNECTIONS_MAX: u32 = 100;

/// An answer of more than this is none of ours.
const ANSWER_MAX: usize = 16 * 1024;

struct Connection {
    port: u16,
    request: Vec<u8>,
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl Pace ===

impl Pace<'_> {
    pub(crate) fn run(&self) -> Result<Paced, Fault> {
        let count = (self.per_second / PER_CONNECTION).clamp(1, CONNECTIONS_MAX);
        let interval = Duration::from_secs(count.into()) / self.per_second;
        let (sender, answers) = mpsc::channel();
        let began = Instant::now() + Duration::from_millis(50);
        for (number, key) in (0..count).zip(self.keys.iter().cycle()) {
            let mut connection =
                Connection::open(self.port, key).map_err(|error| format!("load: {error}"))?;
            let (sender, end) = (sender.clone(), began + self.time);
            let mut due = began + interval * number / count;
            std::thread::spawn(move || {
                while due < end {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let answer = connection.ask().map(|is_admitted| (due.elapsed(), is_admitted));
                    let is_over = answer.is_err() || sender.send(answer).is_err();
                    if is_over {
                        return;
                    }
                    due += interval;
                }
            });
        }
        drop(sender);
        let mut paced = Paced::default();
        for answer in answers {
            match answer.map_err(|error: io::Error| format!("load: {error}"))? {
                (took, true) => paced.took.push(took),
                (_, false) => paced.refused += 1,
            }
        }
        paced.took.sort_unstable();
        Ok(paced)
    }
}

// === impl Paced ===

impl Paced {
    pub(crate) fn admitted(&self) -> u64 {
        self.took.len() as u64
    }

    /// How long all but so many thousandths took at most, in microseconds.
    pub(crate) fn slowest(&self, thousandths: usize) -> f64 {
        let at = self.took.len() - (self.took.len() * thousandths / 1_000).min(self.took.len());
        let took = self.took.get(at.saturating_sub(1));
        took.map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
    }

    pub(crate) fn and(mut self, other: Paced) -> Paced {
        self.took.extend(other.took);
        self.took.sort_unstable();
        Paced { took: self.took, refused: self.refused + other.refused }
    }
}

// === impl Connection ===

impl Connection {
    fn open(port: u16, key: &str) -> io::Result<Connection> {
        let request = format!("GET /v1/scan HTTP/1.1\r\nhost: localhost\r\nx-api-key: {key}\r\n\r\n");
        let stream = connect(port)?;
        Ok(Connection { port, request: request.into_bytes(), stream, buffer: vec![0; ANSWER_MAX] })
    }

    /// Whether the request was admitted. Who refuses may close; then the next one has another connection.
    fn ask(&mut self) -> io::Result<bool> {
        self.stream.write_all(&self.request)?;
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
            if let Some((head, is_whole)) = self.head(filled)
                && is_whole
            {
                let is_admitted = head.starts_with("http/1.1 200");
                if head.contains("\r\nconnection: close") {
                    self.stream = connect(self.port)?;
                }
                return Ok(is_admitted);
            }
        }
    }

    /// The head in small letters, and whether the body is there.
    fn head(&self, filled: usize) -> Option<(String, bool)> {
        let answer = &self.buffer[..filled];
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let (_, length) = head.split_once("content-length: ")?;
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        Some((head, filled >= end + 4 + length))
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
