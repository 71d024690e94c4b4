//! The demo's upstream: answers each request with what it received, so that one sees what an upstream sees.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::listener::Buffers;
use crate::listener::http1::{BodyCopy, BodyLength, Head, HeadLimits, LINES_MAX, Parsed};

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, target_bytes: 64 * 1024, lines: LINES_MAX };

/// Longer bodies are not shown.
const SHOWN_BYTES_MAX: usize = 4096;

/// Serves on a free port of the loopback interface until the runtime ends.
pub(super) async fn serve_echo() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection that breaks is the gateway's to notice.
            tokio::spawn(async move { drop(echo(stream).await) });
        }
    });
    Ok(address)
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let (mut answer, body, length) = loop {
            if let Some(described) = describe(&bytes)? {
                break described;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        bytes.drain(..length);
        let body = read_body(&mut stream, &mut bytes, body).await?;
        answer["body_bytes"] = body.len().into();
        answer["body"] = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]).into();
        let text = format!("{answer:#}\n");
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all(format!("{head}{text}").as_bytes()).await?;
    }
}

fn describe(bytes: &[u8]) -> io::Result<Option<(Value, BodyLength, usize)>> {
    let mut space = [MaybeUninit::uninit(); LINES_MAX];
    match Head::parse(bytes, &mut space, LIMITS).map_err(io::Error::other)? {
        Parsed::Partial => Ok(None),
        Parsed::Complete(head, length) => {
            let lines = head.lines.iter().map(|line| {
                (line.name.to_ascii_lowercase(), Value::from(String::from_utf8_lossy(line.value)))
            });
            let target = format!("{}{}", head.path, head.query);
            let headers: Map<_, _> = lines.collect();
            Ok(Some((
                json!({ "method": head.method, "target": target, "headers": headers }),
                head.body,
                length,
            )))
        }
    }
}

async fn read_body(stream: &mut TcpStream, bytes: &mut Vec<u8>, length: BodyLength) -> io::Result<Vec<u8>> {
    let mut copy = BodyCopy::new(length, false);
    let mut body = Vec::new();
    loop {
        take(&mut copy, bytes, &mut body)?;
        if copy.is_complete() {
            return Ok(body);
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Moves what belongs to the body from `bytes` to `body`.
fn take(copy: &mut BodyCopy, bytes: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<()> {
    let pool = Buffers::default();
    let (mut from, mut to) = (pool.take(), pool.take());
    from.push(bytes);
    copy.advance(&mut from, &mut to).map_err(io::Error::other)?;
    body.extend_from_slice(to.filled());
    from.filled().clone_into(bytes);
    Ok(())
}
