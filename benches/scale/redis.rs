//! A Redis of the bench's own, and what it has been asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::OTHER_CORE;
use crate::rig::Fault;
use crate::rig::process::{Running, free_port, is_installed, pinned};

pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) process: Running,
}

impl Redis {
    /// In memory only.
    pub(crate) fn start() -> Result<Redis, Fault> {
        if !is_installed("redis-server") {
            return Err("redis-server is not installed: apt-get install redis-server".to_owned());
        }
        let port = free_port()?;
        let mut command = pinned(OTHER_CORE, "redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
        ]);
        Ok(Redis { port, process: Running::listening(command, port)? })
    }

    /// How often a gateway asked something of it so far: scripts that it ran. What they did inside is one question.
    pub(crate) fn asked(&self) -> Result<u64, Fault> {
        let info = self.info().map_err(|error| format!("redis: {error}"))?;
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let is_script = name.starts_with("eval") || name.starts_with("fcall");
            is_script.then_some(rest.split(',').next()?.parse::<u64>().ok()?)
        };
        Ok(info.lines().filter_map(calls).sum())
    }

    fn info(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"INFO commandstats\r\n")?;
        let mut reader = BufReader::new(stream);
        let mut length = String::new();
        reader.read_line(&mut length)?;
        let length = length.trim().trim_start_matches('$').parse().map_err(std::io::Error::other)?;
        let mut text = vec![0; length];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
