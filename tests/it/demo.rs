//! `tollgate demo`, as a newcomer meets it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{RawClient, until};

struct Demo {
    process: Child,
    output: BufReader<ChildStdout>,
}

#[test]
fn the_printed_lines_work_and_nothing_is_left_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let mut demo = Demo::start(home.path());
    let welcome = demo.welcome();
    let line = |after: &str| {
        let at = welcome.find(after).unwrap_or_else(|| panic!("no `{after}` in {welcome}"));
        welcome[at..].lines().find(|line| line.contains("curl")).expect("a curl line").to_owned()
    };
    let passes = run(&line("A request that passes"));
    assert!(passes.starts_with("HTTP/1.1 200"), "{passes}");
    assert!(passes.contains("x-tenant-id") && passes.contains("\"x-tenant-tier\": \"pro\""), "{passes}");
    let denied = run(&line("A request that is refused"));
    assert!(denied.starts_with("HTTP/1.1 429") && denied.contains("quota-exceeded"), "{denied}");
    let records = welcome.lines().find(|line| line.contains("usage-logs")).expect("a line for the usage log");
    until("the records in the database", || run(records).contains("\"usage_amount\"").then_some(()));
    assert!(demo.end().success());
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("readable").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Does what `curl` would do with that line; the tests need no curl.
fn run(line: &str) -> String {
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("a URL");
    let (authority, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let header = line.split('\'').nth(1).expect("a quoted header");
    let mut client = RawClient::connect(authority.parse().expect("an address"));
    let response = client.request(&[&format!("GET /{path} HTTP/1.1"), "host: demo", header], b"");
    format!("{}\r\n{}", response.message.start, response.text())
}

// === impl Demo ===

impl Demo {
    fn start(temporary: &std::path::Path) -> Demo {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("demo")
            .env_clear()
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Demo { process, output }
    }

    /// What it prints once everything works.
    fn welcome(&mut self) -> String {
        let mut text = String::new();
        while !text.contains("Ctrl-C") {
            let read = self.output.read_line(&mut text).expect("readable");
            assert!(read > 0, "the demo ended: {text}");
        }
        text
    }

    fn end(mut self) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("a child takes signals");
        self.process.wait().expect("a child can be waited for")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
