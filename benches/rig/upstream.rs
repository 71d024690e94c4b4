//! The upstream: answers so many bytes to whatever ends with an empty line, and looks at nothing else.
//!
//! Two system calls per request and no parsing make it cheaper than any proxy, so that on its core it leaves wrk
//! enough to keep the proxy's core busy. It is this program once more, because taskset pins processes. To `GET /count` it
//! answers how many it has answered, without that one.

use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Fault;
use super::process::Running;

/// What the program's first argument is if it is to be the upstream.
pub(crate) const ARGUMENT: &str = "upstream";

pub(crate) struct Upstream {
    pub(crate) port: u16,
    _process: Running,
}

struct Answers {
    said: Vec<u8>,
    count: AtomicU64,
}

/// A request head of more than this is none of ours.
const REQUEST_MAX: usize = 16 * 1024;

const COUNT: &[u8] = b"GET /count ";

/// Serves until it is killed; the program's second argument is how many bytes it answers.
pub(crate) fn run() -> ! {
    let bytes = std::env::args().nth(2).and_then(|text| text.parse().ok()).expect("how many bytes");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let answers = Answers { said: answer_of(bytes), count: AtomicU64::new(0) };
    runtime.block_on(accept(answers.into())).expect("a listening socket");
    unreachable!("accepting never ends")
}

fn answer_of(bytes: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n");
    head.bytes().chain(b"0123456789".iter().copied().cycle().take(bytes)).collect()
}

async fn accept(answers: Arc<Answers>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream, answers.clone()));
    }
}

async fn answer(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut buffer = vec![0; REQUEST_MAX];
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            length => filled += length,
        }
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            if buffer.starts_with(COUNT) {
                let count = answers.count.load(Ordering::Relaxed).to_string();
                let said = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{count}", count.len());
                return stream.write_all(said.as_bytes()).await;
            }
            answers.count.fetch_add(1, Ordering::Relaxed);
            stream.write_all(&answers.said).await?;
            filled = 0;
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// On these cores, as taskset names them.
    pub(crate) fn start(cores: &str, bytes: usize) -> Result<Upstream, Fault> {
        let this = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(this).args([ARGUMENT, &bytes.to_string()]);
        command.stdout(Stdio::piped());
        let mut process = Running::start(command)?;
        let output = process.child.stdout.take().ok_or("the upstream has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(|error| format!("the upstream: {error}"))?;
        let port = line.trim().parse().map_err(|_| format!("the upstream said `{line}`"))?;
        Ok(Upstream { port, _process: process })
    }
}
