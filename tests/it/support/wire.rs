//! HTTP/1.1 messages, read by hand from a socket.

use std::io::{self, BufRead, Read};
use std::str::FromStr;

/// A message as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub start: String,
    /// In their order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Head, framing and body, byte for byte.
    pub raw: Vec<u8>,
}

/// A request that a [`super::StubUpstream`] saw.
pub(crate) type Recorded = Message;

/// An answer that a [`super::RawClient`] got.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub message: Message,
}

/// How a body ends.
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

// === impl Message ===

impl Message {
    /// Reads one request. `None` if the client closed before it began.
    pub(crate) fn read_request(input: &mut impl BufRead) -> io::Result<Option<Message>> {
        if input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut message = Message::default();
        message.read_head(input)?;
        let framing = message.framing().unwrap_or(Framing::Length(0));
        message.read_body(input, &framing)?;
        Ok(Some(message))
    }

    /// The value of the first header of that name, in whatever case it came.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let first = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// `GET` of a request.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// `/path?query` of a request.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn read_head(&mut self, input: &mut impl BufRead) -> io::Result<()> {
        self.start = self.read_line(input)?;
        self.headers = self.read_fields(input)?;
        Ok(())
    }

    fn read_fields(&mut self, input: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line(input)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// One line, without its end. The end of input is an error.
    fn read_line(&mut self, input: &mut impl BufRead) -> io::Result<String> {
        let begin = self.raw.len();
        input.read_until(b'\n', &mut self.raw)?;
        let line = self.raw[begin..].strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
    }

    fn framing(&self) -> Option<Framing> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        let length = self.header("content-length")?;
        length.parse().ok().map(Framing::Length)
    }

    fn read_body(&mut self, input: &mut impl BufRead, framing: &Framing) -> io::Result<()> {
        match framing {
            Framing::Length(length) => self.read_piece(input, *length),
            Framing::Chunked => self.read_chunks(input),
            Framing::UntilClose => self.read_piece(input, u64::MAX),
        }
    }

    fn read_piece(&mut self, input: &mut impl BufRead, length: u64) -> io::Result<()> {
        let begin = self.raw.len();
        let read = input.take(length).read_to_end(&mut self.raw)?;
        self.body.extend_from_slice(&self.raw[begin..]);
        let is_whole = length == u64::MAX || read as u64 == length;
        if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn read_chunks(&mut self, input: &mut impl BufRead) -> io::Result<()> {
        loop {
            let line = self.read_line(input)?;
            let size = line.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed(&line))?;
            if size == 0 {
                self.trailers = self.read_fields(input)?;
                return Ok(());
            }
            self.read_piece(input, size)?;
            let end = self.read_line(input)?;
            if !end.is_empty() {
                return Err(malformed(&end));
            }
        }
    }
}

// === impl Response ===

impl Response {
    /// Reads one answer to a request of `method`, passing over 1xx ones.
    ///
    /// # Errors
    /// `UnexpectedEof` if it is cut short.
    pub(crate) fn read(input: &mut impl BufRead, method: &str) -> io::Result<Response> {
        loop {
            let mut message = Message::default();
            message.read_head(input)?;
            let status = message.start.split(' ').nth(1).and_then(|status| u16::from_str(status).ok());
            let status = status.ok_or_else(|| malformed(&message.start))?;
            if status / 100 == 1 && status != 101 {
                continue;
            }
            let has_no_body = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let framing = if has_no_body {
                Framing::Length(0)
            } else {
                message.framing().unwrap_or(Framing::UntilClose)
            };
            message.read_body(input, &framing)?;
            return Ok(Response { status, message });
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    pub(crate) fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.message.headers_named(name)
    }

    pub(crate) fn text(&self) -> String {
        self.message.text()
    }

    /// The type of the problem that the answer is, if it is one.
    pub(crate) fn problem(&self) -> Option<String> {
        let json: serde_json::Value = serde_json::from_slice(&self.message.body).ok()?;
        json["type"].as_str().map(str::to_owned)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.message.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed: {line:?}"))
}
