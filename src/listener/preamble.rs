//! The PROXY protocol, versions 1 and 2: what a balancer says of the client that it connects for, before anything else
//! on the connection, TLS included.
//!
//! A pure parser, and the one way to read with it that takes no byte of what follows. Whose word is taken is decided
//! where connections are opened. The reference is the protocol's own text, `proxy-protocol.txt` of HAProxy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, Interest};
use tokio::net::TcpStream;

/// Of a whole preamble. Version 1 needs 107 bytes; version 2 may carry a certificate's names and more, but a balancer
/// has no use for the 64 KiB that its length could say.
pub(super) const PREAMBLE_BYTES_MAX: usize = 4 * 1024;

/// The longest line of version 1, its CR LF included.
const LINE_BYTES_MAX: usize = 107;

const BEGIN_1: &[u8] = b"PROXY ";
const BEGIN_2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const HEADER_BYTES: usize = 16;

/// The kind of the value that is a checksum of the preamble.
const CRC32C: u8 = 0x03;

/// Whether connections begin with a preamble.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyProtocol {
    /// Never: bytes that look like one are the client's own.
    #[default]
    Off,
    /// Those of trusted peers may.
    Optional,
    /// All do, and only trusted peers connect.
    Required,
}

/// For whom a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The balancer itself, which looks whether we live; or nobody who has an address.
    Peer,
    Client(SocketAddr),
}

/// What the beginning of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// A part of a preamble, so far.
    Partial,
    /// A preamble of so many bytes.
    Preamble(Origin, usize),
    /// Something else.
    Other,
}

/// Why a preamble is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPreamble {
    #[error("it is longer than {PREAMBLE_BYTES_MAX} bytes, or a line of version 1 than {LINE_BYTES_MAX}")]
    TooLong,
    #[error("the line is not as version 1 has it")]
    Line,
    #[error("version, command or family are not of version 2, or not of a stream")]
    Kind,
    #[error("the addresses or the values behind them do not fill the length")]
    Length,
    #[error("the checksum is another one")]
    Checksum,
}

/// Reads the preamble at the beginning of `stream`, and nothing of what follows. `None` if something else begins there,
/// of which nothing is taken.
///
/// # Errors
/// The stream's, `UnexpectedEof` where it ends within the preamble, `InvalidData` for [`BadPreamble`].
pub(super) async fn read_preamble(stream: &mut TcpStream) -> io::Result<Option<Origin>> {
    let mut bytes = vec![0; PREAMBLE_BYTES_MAX];
    let mut has_ended = false;
    loop {
        let count = stream.peek(&mut bytes).await?;
        match beginning(&bytes[..count]).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))? {
            Beginning::Other => return Ok(None),
            Beginning::Preamble(origin, length) => {
                stream.read_exact(&mut bytes[..length]).await?;
                return Ok(Some(origin));
            }
            Beginning::Partial if has_ended || count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Beginning::Partial => {}
        }
        // What was looked at is still there, and the runtime would go on saying so: it is told that there is nothing.
        let _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        has_ended = stream.ready(Interest::READABLE).await?.is_read_closed();
    }
}

/// What `bytes` begin with.
///
/// # Errors
/// [`BadPreamble`]: they begin like a preamble and are none.
pub fn beginning(bytes: &[u8]) -> Result<Beginning, BadPreamble> {
    let begins = |begin: &[u8]| {
        let shown = begin.len().min(bytes.len());
        bytes[..shown] == begin[..shown]
    };
    if begins(BEGIN_2) {
        version_2(bytes)
    } else if begins(BEGIN_1) {
        version_1(bytes)
    } else {
        Ok(Beginning::Other)
    }
}

fn version_1(bytes: &[u8]) -> Result<Beginning, BadPreamble> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < LINE_BYTES_MAX { Ok(Beginning::Partial) } else { Err(BadPreamble::TooLong) };
    };
    let text = line[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
    let origin = text.and_then(origin_1).ok_or(BadPreamble::Line)?;
    Ok(Beginning::Preamble(origin, end + 1))
}

/// `None` if the line is anything but exactly what the protocol says.
fn origin_1(line: &str) -> Option<Origin> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(Origin::Peer);
    }
    let mut words = rest.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    let (port, _) = (words.next().and_then(port)?, words.next().and_then(port)?);
    words.next().is_none().then_some(Origin::Client(SocketAddr::new(source, port)))
}

/// Decimal, without leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn version_2(bytes: &[u8]) -> Result<Beginning, BadPreamble> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Beginning::Partial);
    };
    let [.., command, family, high, low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if HEADER_BYTES + length > PREAMBLE_BYTES_MAX {
        return Err(BadPreamble::TooLong);
    }
    let addresses = match (command, family) {
        // Of the balancer's own connections nothing else is told, whatever stands there.
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11) => Some(12),
        (0x21, 0x21) => Some(36),
        (0x21, 0x31) => Some(216),
        _ => return Err(BadPreamble::Kind),
    };
    let Some(body) = rest.get(..length) else { return Ok(Beginning::Partial) };
    let Some(addresses) = addresses else {
        return Ok(Beginning::Preamble(Origin::Peer, HEADER_BYTES + length));
    };
    let (addresses, values) = body.split_at_checked(addresses).ok_or(BadPreamble::Length)?;
    check_values(&bytes[..HEADER_BYTES + length], values)?;
    Ok(Beginning::Preamble(origin_2(addresses), HEADER_BYTES + length))
}

/// Source and destination address, then their ports; sockets of files have no address that concerns us.
fn origin_2(addresses: &[u8]) -> Origin {
    let port = |at: usize| u16::from_be_bytes([addresses[at], addresses[at + 1]]);
    match addresses.len() {
        12 => {
            let [a, b, c, d] = [addresses[0], addresses[1], addresses[2], addresses[3]];
            Origin::Client(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port(8))))
        }
        36 => {
            let address: [u8; 16] = std::array::from_fn(|at| addresses[at]);
            Origin::Client(SocketAddr::from((Ipv6Addr::from(address), port(32))))
        }
        _ => Origin::Peer,
    }
}

/// The values behind the addresses must fill their place, and a checksum must hold; what else they say is not for us.
fn check_values(preamble: &[u8], mut values: &[u8]) -> Result<(), BadPreamble> {
    while let [kind, high, low, rest @ ..] = values {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = rest.split_at_checked(length).ok_or(BadPreamble::Length)?;
        if *kind == CRC32C {
            let told: [u8; 4] = value.try_into().map_err(|_| BadPreamble::Length)?;
            let at = preamble.len() - behind.len() - told.len();
            let zeros = [0; 4];
            let sum = [&zeros[..], behind]
                .iter()
                .fold(crc32c::crc32c(&preamble[..at]), |sum, part| crc32c::crc32c_append(sum, part));
            if sum != u32::from_be_bytes(told) {
                return Err(BadPreamble::Checksum);
            }
        }
        values = behind;
    }
    if values.is_empty() { Ok(()) } else { Err(BadPreamble::Length) }
}

#[cfg(test)]
mod tests;
