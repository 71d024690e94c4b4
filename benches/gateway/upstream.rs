//! The upstream: answers 100 bytes to whatever ends with an empty line, and looks at nothing else.
//!
//! Two system calls per request and no parsing make it cheaper than any proxy, so that on its core it leaves wrk
//! enough to keep the proxy's core busy. It is this program once more, because taskset pins processes.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Fault;
use crate::subject::Running;

pub(crate) const ARGUMENT: &str = "upstream";

pub(crate) struct Upstream {
    pub(crate) port: u16,
    _process: Running,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// A request head of more than this is none of ours.
const REQUEST_MAX: usize = 16 * 1024;

/// Serves until it is killed.
pub(crate) fn run() -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(accept()).expect("a listening socket");
    unreachable!("accepting never ends")
}

async fn accept() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; REQUEST_MAX];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            length => filled += length,
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER).await?;
            filled = 0;
        }
    }
}

// === impl Upstream ===

impl Upstream {
    pub(crate) fn start() -> Result<Upstream, Fault> {
        let this = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(this).arg(ARGUMENT).stdout(Stdio::piped());
        let mut process = Running::start(command)?;
        let output = process.child.stdout.take().ok_or("the upstream has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|error| format!("the upstream: {error}"))?;
        let port = line.trim().parse().map_err(|_| format!("the upstream said `{line}`"))?;
        Ok(Upstream { port, _process: process })
    }
}
