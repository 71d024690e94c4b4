//! What is to be said of servers that hold a fleet's books: by the gateway at its start, and by `doctor`.

/// Something worth knowing about the servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    /// A sentence, which names the server and what to do.
    pub what: String,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Works, but not as well or as safely as it could.
    Warning,
    /// Limits would not be exact, or nothing would work at all: not to be used like this.
    Refusal,
}
