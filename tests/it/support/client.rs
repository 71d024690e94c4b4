//! A client that sends the bytes it is given, in clear or by TLS.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::wait::PATIENCE;
use super::wire::Response;

/// One connection. Waits at most [`PATIENCE`] for anything.
pub(crate) struct RawClient {
    input: BufReader<Wire>,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl RawClient {
    #[track_caller]
    pub(crate) fn connect(to: SocketAddr) -> Self {
        RawClient::try_connect(to).unwrap_or_else(|error| panic!("connecting to {to}: {error}"))
    }

    pub(crate) fn try_connect(to: SocketAddr) -> io::Result<Self> {
        Ok(RawClient { input: BufReader::new(Wire::Plain(dial(to)?)) })
    }

    /// Connects by TLS and asks for the server `name`.
    ///
    /// # Errors
    /// The handshake did not come about. In TLS 1.3 a refused client certificate only shows at the first answer.
    pub(crate) fn try_secure(to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        RawClient::try_secure_behind(b"", to, name, config)
    }

    /// The same, with `preamble` sent in clear before.
    pub(crate) fn try_secure_behind(
        preamble: &[u8],
        to: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        let mut stream = dial(to)?;
        stream.write_all(preamble)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(RawClient { input: BufReader::new(Wire::Tls(Box::new(StreamOwned::new(tls, stream)))) })
    }

    #[track_caller]
    pub(crate) fn secure(to: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Self {
        RawClient::try_secure(to, name, config).unwrap_or_else(|error| panic!("TLS with {name}: {error}"))
    }

    /// What the handshake agreed on.
    #[track_caller]
    pub(crate) fn tls(&self) -> &ClientConnection {
        match self.input.get_ref() {
            Wire::Tls(stream) => &stream.conn,
            Wire::Plain(_) => panic!("a connection in clear"),
        }
    }

    /// Sends `bytes` as they are: half a head, two requests, nonsense.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes.as_ref()).unwrap_or_else(|error| panic!("sending: {error}"));
        self
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.get_mut().write_all(bytes)
    }

    /// Reads the next answer, to a request that was no HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response("GET").unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads the next answer, to a request of `method`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the answer is cut short or there is none.
    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Response> {
        Response::read(&mut self.input, method)
    }

    /// One whole exchange: the lines of a head, with CRLF put in, and a body that is framed by its length.
    #[track_caller]
    pub(crate) fn request(&mut self, head: &[&str], body: &[u8]) -> Response {
        let method = head[0].split(' ').next().unwrap_or_default().to_owned();
        self.send(request(head, body));
        self.try_response(&method).unwrap_or_else(|error| panic!("no answer to {}: {error}", head[0]))
    }

    /// A GET of `target` with an API key.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str, key: &str) -> Response {
        self.request(
            &[&format!("GET {target} HTTP/1.1"), "host: api.test", &format!("x-api-key: {key}")],
            b"",
        )
    }

    /// The next bytes, as many as that.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.input.read_exact(&mut bytes).unwrap_or_else(|error| panic!("no {count} bytes: {error}"));
        bytes
    }

    /// Tells the other side that nothing more will come.
    pub(crate) fn finish(&mut self) {
        let _ = self.input.get_ref().socket().shutdown(Shutdown::Write);
    }

    /// Whether the other side closes, without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.input.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.input.get_ref().socket().local_addr().expect("a connected socket has an address")
    }
}

fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

// === impl Wire ===

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write(bytes),
            Wire::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

/// The bytes of a request: lines of the head with CRLF put in, `content-length` when there is a body.
pub(crate) fn request(head: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = head.join("\r\n").into_bytes();
    if !body.is_empty() {
        bytes.extend(format!("\r\ncontent-length: {}", body.len()).bytes());
    }
    bytes.extend(b"\r\n\r\n");
    bytes.extend(body);
    bytes
}
