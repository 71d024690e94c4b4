//! What is asked for: over which protocol, how large an answer, and of how many workers.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) answer_bytes: usize,
    pub(crate) workers: Workers,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Http1,
    Http1OverTls,
    Http2OverTls,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workers {
    /// Alone on core 0; load and upstream are on core 1.
    One,
    /// One for each of two cores, on which load and upstream are as well.
    Two,
}

// === impl Case ===

impl Case {
    pub(crate) const ALL: [Case; 5] = [
        Case { name: "h1", protocol: Protocol::Http1, answer_bytes: 100, workers: Workers::One },
        Case { name: "h1-16k", protocol: Protocol::Http1, answer_bytes: 16 * 1024, workers: Workers::One },
        Case { name: "tls", protocol: Protocol::Http1OverTls, answer_bytes: 100, workers: Workers::One },
        Case { name: "h2", protocol: Protocol::Http2OverTls, answer_bytes: 100, workers: Workers::One },
        Case { name: "h1-all", protocol: Protocol::Http1, answer_bytes: 100, workers: Workers::Two },
    ];

    /// How a table names it.
    pub(crate) fn title(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Http1 => "h1",
            Protocol::Http1OverTls => "h1 over TLS",
            Protocol::Http2OverTls => "h2 over TLS",
        };
        let workers = match self.workers {
            Workers::One => "",
            Workers::Two => ", 2 workers",
        };
        format!("{protocol}, {} B{workers}", self.answer_bytes)
    }

    pub(crate) fn url(&self, port: u16, path: &str) -> String {
        let scheme = if self.is_encrypted() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}{path}")
    }

    pub(crate) const fn is_encrypted(&self) -> bool {
        !matches!(self.protocol, Protocol::Http1)
    }
}

// === impl Workers ===

impl Workers {
    pub(crate) const fn count(self) -> u32 {
        match self {
            Workers::One => 1,
            Workers::Two => 2,
        }
    }

    /// Of the proxy, as taskset names them.
    pub(crate) const fn cores(self) -> &'static str {
        match self {
            Workers::One => "0",
            Workers::Two => "0,1",
        }
    }

    /// Of load and upstream.
    pub(crate) const fn other_cores(self) -> &'static str {
        match self {
            Workers::One => "1",
            Workers::Two => "0,1",
        }
    }
}
