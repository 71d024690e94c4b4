//! HTTP/1 heads, strictly.
//!
//! `httparse` splits the bytes; this module decides what they may mean. Whatever could be read two ways is
//! refused: the gateway and the upstream must never disagree about where a request ends (RFC 9112, section 6.3
//! and 11.2). Nothing here allocates; a [`Head`] borrows from the buffer.

use std::mem::MaybeUninit;

use memchr::memchr;

/// Room for header lines while parsing. The configured limit can't be higher.
pub const LINES_MAX: usize = 128;

/// A header line as it was sent. The name is a token; the value has no CR, LF or NUL and is trimmed.
pub type Line<'a> = httparse::Header<'a>;

/// A request's head, by whatever lane it came in. The doors read this and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub method: &'a str,
    /// Begins with `/`; without the query.
    pub path: &'a str,
    /// With its `?`; empty if there is none.
    pub query: &'a str,
    /// The one `Host`, as sent; empty only on HTTP/1.0.
    pub authority: &'a str,
    pub lines: &'a [Line<'a>],
    pub body: BodyLength,
    /// The client wants the connection to end after the answer, or speaks HTTP/1.0 without keep-alive.
    pub closes: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The client asks for another protocol on this connection.
    pub upgrades: bool,
    /// HTTP/1.0: no chunked answers, no 1xx.
    pub is_http10: bool,
    /// The client takes trailers behind a chunked answer.
    pub takes_trailers: bool,
}

/// An answer's head.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    pub status: u16,
    pub reason: &'a str,
    pub lines: &'a [Line<'a>],
    pub body: BodyLength,
    /// What `Content-Length` says, also where there is no body: HEAD and 304.
    pub declared: Option<u64>,
    /// The upstream ends the connection after this answer.
    pub closes: bool,
}

/// How the end of a body is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyLength {
    Empty,
    Sized(u64),
    Chunked,
    /// Only answers: until the upstream ends the connection.
    UntilClose,
}

/// Why a request's head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadHead {
    #[error("the head is no HTTP/1: {0}")]
    Syntax(&'static str),
    #[error("lines must end with CR LF, not LF alone")]
    BareLf,
    #[error("the request target is longer than the limit")]
    TargetTooLong,
    #[error("the head is longer than the limit, or has more header lines than it")]
    TooLarge,
    #[error("the request target must begin with `/`")]
    Target,
    #[error("the method {0} is not served here")]
    Method(&'static str),
    #[error("`Host` must be there exactly once and be a host with an optional port")]
    Host,
    #[error("`Transfer-Encoding` must be exactly one `chunked`, on HTTP/1.1")]
    TransferEncoding,
    #[error("`Content-Length` must be one number of decimal digits")]
    ContentLength,
    #[error("`Content-Length` and `Transfer-Encoding` must not be sent together")]
    TwoLengths,
    #[error("`Expect` may only be `100-continue`")]
    Expect,
    #[error("HTTP/{0} is not spoken here; use HTTP/1.1")]
    Version(u8),
}

/// What parsing a prefix of the stream gave.
#[derive(Debug)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// The value, and how many bytes the head took.
    Complete(T, usize),
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub bytes: usize,
    /// Of a request's target. RFC 9110 asks for at least 8,000.
    pub target_bytes: usize,
    /// At most [`LINES_MAX`].
    pub lines: usize,
}

/// Lines that concern this connection only, or that say how the body is framed: our writer adds its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    ContentLength,
    TransferEncoding,
    Connection,
    Host,
    Expect,
    Upgrade,
    Te,
}

/// Space for a head's lines on the caller's stack.
pub type Space<'a> = [MaybeUninit<Line<'a>>; LINES_MAX];

// === impl Head ===

impl<'a> Head<'a> {
    /// Parses the head at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`BadHead`]: answer 400 (or 414, 431, 501, 505) and end the connection, since where the next request begins
    /// is unknown.
    pub fn parse(
        bytes: &'a [u8],
        space: &'a mut Space<'a>,
        limits: HeadLimits,
    ) -> Result<Parsed<Head<'a>>, BadHead> {
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, space) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return still_partial(bytes, limits),
            Err(error) => return Err(syntax(bytes, error)),
        };
        let httparse::Request { method, path, version, headers } = request;
        check_whole(&bytes[..length], headers, limits)?;
        let target = path.unwrap_or_default();
        if target.len() > limits.target_bytes {
            return Err(BadHead::TargetTooLong);
        }
        let head = Head::read(method.unwrap_or_default(), target, version == Some(0), headers)?;
        Ok(Parsed::Complete(head, length))
    }

    fn read(
        method: &'a str,
        target: &'a str,
        is_http10: bool,
        lines: &'a [Line<'a>],
    ) -> Result<Head<'a>, BadHead> {
        refuse_method(method)?;
        let mut framing = FramingLines::default();
        for line in lines {
            framing.read(line)?;
        }
        if framing.host.is_none() && !is_http10 {
            return Err(BadHead::Host);
        }
        let authority = framing.host.unwrap_or_default();
        let target = origin_form(target, authority)?;
        let (path, query) = split_query(target);
        Ok(Head {
            method,
            path,
            query,
            authority,
            lines,
            body: framing.request_body(is_http10)?,
            closes: framing.close || (is_http10 && !framing.keep_alive),
            expects_continue: framing.expects_continue && !is_http10,
            upgrades: framing.upgrades && framing.connection_upgrade,
            is_http10,
            takes_trailers: framing.takes_trailers && !is_http10,
        })
    }

    /// The head of another request, of which this one's lines tell: held to the same rules as if it had come itself.
    /// Lines and body are this request's.
    ///
    /// # Errors
    /// As [`Head::parse`], for method, target and authority.
    pub fn of_another(
        &self,
        method: &'a str,
        target: &'a str,
        authority: &'a str,
        limits: HeadLimits,
    ) -> Result<Head<'a>, BadHead> {
        if method.is_empty() || !method.bytes().all(is_token_byte) {
            return Err(BadHead::Syntax("the method has a byte that is not allowed"));
        }
        refuse_method(method)?;
        if target.len() > limits.target_bytes {
            return Err(BadHead::TargetTooLong);
        }
        if !is_authority(authority) {
            return Err(BadHead::Host);
        }
        let target = origin_form(target, authority)?;
        let (path, query) = split_query(target);
        Ok(Head { method, path, query, authority, ..*self })
    }

    /// The value of the only line of that name (lower case); `None` if there is none.
    ///
    /// # Errors
    /// [`Repeated`] if there are several.
    pub fn only(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut found = None;
        for line in self.lines.iter().filter(|line| line.name.eq_ignore_ascii_case(name)) {
            if found.replace(line.value).is_some() {
                return Err(Repeated);
            }
        }
        Ok(found)
    }
}

/// A header that may be sent once was sent several times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repeated;

// === impl AnswerHead ===

impl<'a> AnswerHead<'a> {
    /// Parses an upstream's head; `method` is the request's, because it decides whether there is a body.
    ///
    /// # Errors
    /// [`BadHead`]: the upstream can't be understood; answer 502.
    pub fn parse(
        bytes: &'a [u8],
        space: &'a mut Space<'a>,
        limits: HeadLimits,
        to_head_request: bool,
    ) -> Result<Parsed<AnswerHead<'a>>, BadHead> {
        let mut answer = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut answer, bytes, space) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return still_partial(bytes, limits),
            Err(error) => return Err(syntax(bytes, error)),
        };
        let httparse::Response { version, code, reason, headers } = answer;
        check_whole(&bytes[..length], headers, limits)?;
        let is_http10 = version == Some(0);
        let status = code.unwrap_or_default();
        if !(100..=999).contains(&status) {
            return Err(BadHead::Syntax("status"));
        }
        let mut framing = FramingLines::default();
        for line in headers.iter() {
            framing.read_answer(line)?;
        }
        let no_body = to_head_request || status < 200 || status == 204 || status == 304;
        let body = if no_body { BodyLength::Empty } else { framing.answer_body(is_http10)? };
        let closes = framing.close
            || (is_http10 && !framing.keep_alive)
            || body == BodyLength::UntilClose
            || status == 101;
        Ok(Parsed::Complete(
            AnswerHead {
                status,
                reason: reason.unwrap_or_default(),
                lines: headers,
                body,
                declared: framing.content_length,
                closes,
            },
            length,
        ))
    }
}

// === impl BodyLength ===

impl BodyLength {
    pub const fn is_empty(self) -> bool {
        matches!(self, BodyLength::Empty | BodyLength::Sized(0))
    }
}

// === impl BadHead ===

impl BadHead {
    /// The status that says it best.
    pub const fn status(self) -> u16 {
        match self {
            BadHead::TargetTooLong => 414,
            BadHead::TooLarge => 431,
            BadHead::Expect => 417,
            BadHead::Version(_) => 505,
            BadHead::Method(_) => 501,
            BadHead::Syntax(_)
            | BadHead::BareLf
            | BadHead::Target
            | BadHead::Host
            | BadHead::TransferEncoding
            | BadHead::ContentLength
            | BadHead::TwoLengths => 400,
        }
    }
}

/// What the framing lines of one head said, together.
#[derive(Debug, Default)]
struct FramingLines<'a> {
    content_length: Option<u64>,
    chunked: bool,
    host: Option<&'a str>,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrades: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

// === impl FramingLines ===

impl<'a> FramingLines<'a> {
    fn read(&mut self, line: &Line<'a>) -> Result<(), BadHead> {
        match framing(line.name) {
            None => {}
            Some(Framing::Host) => {
                let host = std::str::from_utf8(line.value).ok().filter(|host| is_authority(host));
                if self.host.replace(host.ok_or(BadHead::Host)?).is_some() {
                    return Err(BadHead::Host);
                }
            }
            Some(Framing::Expect) => {
                if !line.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(BadHead::Expect);
                }
                self.expects_continue = true;
            }
            Some(_) => self.read_answer(line)?,
        }
        Ok(())
    }

    fn read_answer(&mut self, line: &Line<'a>) -> Result<(), BadHead> {
        match framing(line.name) {
            Some(Framing::ContentLength) => {
                let length = digits(line.value).ok_or(BadHead::ContentLength)?;
                if self.content_length.replace(length).is_some() {
                    return Err(BadHead::ContentLength);
                }
            }
            Some(Framing::TransferEncoding) => {
                if self.chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadHead::TransferEncoding);
                }
                self.chunked = true;
            }
            Some(Framing::Connection) => {
                for option in list(line.value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            Some(Framing::Upgrade) => self.upgrades = true,
            Some(Framing::Te) => {
                self.takes_trailers |=
                    list(line.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Some(Framing::Host | Framing::Expect) | None => {}
        }
        Ok(())
    }

    fn request_body(&self, is_http10: bool) -> Result<BodyLength, BadHead> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(BadHead::TwoLengths),
            (true, None) if is_http10 => Err(BadHead::TransferEncoding),
            (true, None) => Ok(BodyLength::Chunked),
            (false, Some(length)) => Ok(BodyLength::Sized(length)),
            (false, None) => Ok(BodyLength::Empty),
        }
    }

    fn answer_body(&self, is_http10: bool) -> Result<BodyLength, BadHead> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(BadHead::TwoLengths),
            (true, None) if is_http10 => Err(BadHead::TransferEncoding),
            (true, None) => Ok(BodyLength::Chunked),
            (false, Some(length)) => Ok(BodyLength::Sized(length)),
            (false, None) => Ok(BodyLength::UntilClose),
        }
    }
}

/// Elements of a comma-separated list, trimmed.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn framing(name: &str) -> Option<Framing> {
    // By length first: nearly every line is decided by one comparison of integers.
    match name.len() {
        2 if name.eq_ignore_ascii_case("te") => Some(Framing::Te),
        4 if name.eq_ignore_ascii_case("host") => Some(Framing::Host),
        6 if name.eq_ignore_ascii_case("expect") => Some(Framing::Expect),
        7 if name.eq_ignore_ascii_case("upgrade") => Some(Framing::Upgrade),
        10 if name.eq_ignore_ascii_case("connection") => Some(Framing::Connection),
        14 if name.eq_ignore_ascii_case("content-length") => Some(Framing::ContentLength),
        17 if name.eq_ignore_ascii_case("transfer-encoding") => Some(Framing::TransferEncoding),
        _ => None,
    }
}

/// Holds a head that came whole to what [`still_partial`] holds one to that comes in pieces: how the network cuts it
/// must not decide.
fn check_whole(head: &[u8], lines: &[Line<'_>], limits: HeadLimits) -> Result<(), BadHead> {
    if head.len() > limits.bytes || lines.len() > limits.lines {
        return Err(BadHead::TooLarge);
    }
    refuse_bare_lf(head)
}

fn still_partial<T>(bytes: &[u8], limits: HeadLimits) -> Result<Parsed<T>, BadHead> {
    refuse_bare_lf(bytes)?;
    if bytes.len() >= limits.bytes {
        let first_line = memchr(b'\n', bytes).unwrap_or(bytes.len());
        return Err(if first_line > limits.target_bytes {
            BadHead::TargetTooLong
        } else {
            BadHead::TooLarge
        });
    }
    Ok(Parsed::Partial)
}

fn syntax(bytes: &[u8], error: httparse::Error) -> BadHead {
    if refuse_bare_lf(bytes).is_err() {
        return BadHead::BareLf;
    }
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooLarge,
        httparse::Error::Version => version_fault(bytes),
        httparse::Error::HeaderName => BadHead::Syntax("a header name has a byte that is not allowed"),
        httparse::Error::HeaderValue => BadHead::Syntax("a header value has a byte that is not allowed"),
        httparse::Error::Token => BadHead::Syntax("the first line has a byte that is not allowed"),
        httparse::Error::NewLine => BadHead::Syntax("a line does not end with CR LF"),
        httparse::Error::Status => BadHead::Syntax("the status is no number"),
    }
}

fn version_fault(bytes: &[u8]) -> BadHead {
    let line = &bytes[..memchr(b'\r', bytes).unwrap_or(bytes.len())];
    match line.iter().rposition(|byte| *byte == b'/').and_then(|slash| line.get(slash + 1)) {
        Some(major @ b'2'..=b'9') if line.windows(5).any(|part| part == b"HTTP/") => {
            BadHead::Version(major - b'0')
        }
        _ => BadHead::Syntax("the version is not HTTP/1.1 or HTTP/1.0"),
    }
}

/// `httparse` accepts a line feed alone as a line's end, and blank lines before the head; an upstream may not.
fn refuse_bare_lf(head: &[u8]) -> Result<(), BadHead> {
    let mut rest = head;
    let mut before = b' ';
    while let Some(at) = memchr(b'\n', rest) {
        let previous = if at == 0 { before } else { rest[at - 1] };
        if previous != b'\r' {
            return Err(BadHead::BareLf);
        }
        before = b'\n';
        rest = &rest[at + 1..];
    }
    Ok(())
}

fn refuse_method(method: &str) -> Result<(), BadHead> {
    match method {
        "CONNECT" => Err(BadHead::Method("CONNECT")),
        "TRACE" => Err(BadHead::Method("TRACE")),
        _ if method.len() > 32 => Err(BadHead::Syntax("the method is longer than 32 bytes")),
        _ => Ok(()),
    }
}

/// The target as origin form. Absolute form must name the same authority as `Host` (RFC 9112, section 3.2.2).
fn origin_form<'a>(target: &'a str, authority: &str) -> Result<&'a str, BadHead> {
    let clean = |target: &str| target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if target.starts_with('/') {
        return if clean(target) { Ok(target) } else { Err(BadHead::Target) };
    }
    let rest = strip_scheme(target).ok_or(BadHead::Target)?;
    let path_at = rest.find('/').ok_or(BadHead::Target)?;
    let (named, path) = rest.split_at(path_at);
    if !named.eq_ignore_ascii_case(authority) {
        return Err(BadHead::Host);
    }
    if clean(path) { Ok(path) } else { Err(BadHead::Target) }
}

fn split_query(target: &str) -> (&str, &str) {
    target.split_at(memchr(b'?', target.as_bytes()).unwrap_or(target.len()))
}

/// What names and methods are made of (RFC 9110, section 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// A host name, IPv4 address or bracketed IPv6 address, with an optional port; nothing that a URL parser could take
/// for user information, a path or a list.
fn is_authority(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if !address.is_empty() && address.bytes().all(is_ipv6_byte) => {
                (address, port)
            }
            _ => return false,
        },
        None => match host.find(':') {
            Some(colon) => host.split_at(colon),
            None => (host, ""),
        },
    };
    let port_ok = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && port_ok && (host.starts_with('[') || name.bytes().all(is_host_byte))
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_ipv6_byte(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'%')
}

/// Decimal digits only: no sign, no space, no list. At most 19, so that nothing overflows.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
