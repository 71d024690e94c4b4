//! What can go wrong with a call, by what is to be done about it.

use std::fmt;

use redis::{ErrorKind, RedisError};

use super::settings::Address;

/// Why a call had no answer, in kinds that an operator treats differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// No answer in time.
    Deadline,
    /// No connection, or it broke.
    Unreachable,
    /// The server reads its data after a start.
    Loading,
    /// The server is a replica.
    ReadOnly,
    /// The server is a replica that has lost its master.
    MasterDown,
    /// No node of the cluster serves the book.
    ClusterDown,
    /// The book is being moved to another node, or has been.
    Moving,
    /// The server has forgotten the scripts.
    NoScript,
    /// User or password is wrong or missing.
    Unauthenticated,
    /// The user has not the rights.
    Forbidden,
    /// Somebody's script or function has been running for seconds.
    Busy,
    /// `maxmemory` is reached.
    OutOfMemory,
    /// The server takes no writes: it can't save, or has too few replicas.
    WritesRefused,
    /// Whatever else the server says; also an answer that is none.
    Rejected,
}

/// A call that had no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    /// Whom it was sent to.
    at: Option<Address>,
    /// In the server's or the system's words.
    detail: String,
    remedy: Remedy,
}

/// What may help at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Remedy {
    /// Nothing, within a call's time.
    None,
    /// Load the scripts.
    Load,
    /// Go there from now on.
    Moved(Address),
    /// Go there this time.
    Ask(Address),
    /// Wait a moment.
    Wait,
    /// Another connection, to whoever is the master then.
    Redial,
}

// === impl Class ===

impl Class {
    pub const ALL: [Class; 14] = [
        Class::Deadline,
        Class::Unreachable,
        Class::Loading,
        Class::ReadOnly,
        Class::MasterDown,
        Class::ClusterDown,
        Class::Moving,
        Class::NoScript,
        Class::Unauthenticated,
        Class::Forbidden,
        Class::Busy,
        Class::OutOfMemory,
        Class::WritesRefused,
        Class::Rejected,
    ];

    /// As metrics and logs name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Deadline => "deadline",
            Class::Unreachable => "unreachable",
            Class::Loading => "loading",
            Class::ReadOnly => "read_only",
            Class::MasterDown => "master_down",
            Class::ClusterDown => "cluster_down",
            Class::Moving => "moving",
            Class::NoScript => "no_script",
            Class::Unauthenticated => "unauthenticated",
            Class::Forbidden => "forbidden",
            Class::Busy => "busy",
            Class::OutOfMemory => "out_of_memory",
            Class::WritesRefused => "writes_refused",
            Class::Rejected => "rejected",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Class::Deadline => "did not answer in time",
            Class::Unreachable => "can't be reached",
            Class::Loading => "is still reading its data",
            Class::ReadOnly => "is a replica and grants nothing",
            Class::MasterDown => "is a replica whose master is down",
            Class::ClusterDown => "belongs to a cluster that is down, or lacks slots",
            Class::Moving => "is handing the accounts to another node",
            Class::NoScript => "has forgotten the scripts",
            Class::Unauthenticated => "refuses the user or the password",
            Class::Forbidden => "does not give the user the rights it needs",
            Class::Busy => "is busy with a script that does not end",
            Class::OutOfMemory => "has reached its maxmemory",
            Class::WritesRefused => "takes no writes",
            Class::Rejected => "rejects the call",
        }
    }

    fn of_code(code: &str, detail: &str) -> Class {
        match code {
            "LOADING" => Class::Loading,
            "READONLY" => Class::ReadOnly,
            "MASTERDOWN" => Class::MasterDown,
            "CLUSTERDOWN" => Class::ClusterDown,
            "MOVED" | "ASK" | "TRYAGAIN" => Class::Moving,
            "NOSCRIPT" => Class::NoScript,
            "NOAUTH" | "WRONGPASS" => Class::Unauthenticated,
            "NOPERM" => Class::Forbidden,
            "BUSY" => Class::Busy,
            "OOM" => Class::OutOfMemory,
            "MISCONF" | "NOREPLICAS" => Class::WritesRefused,
            // What a script may not do is told without a code of its own.
            _ if detail.contains("user executing the script") => Class::Forbidden,
            _ => Class::Rejected,
        }
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(class: Class, at: Option<&Address>, detail: impl Into<String>) -> Self {
        let remedy = match class {
            Class::Unreachable
            | Class::Loading
            | Class::ReadOnly
            | Class::MasterDown
            | Class::Unauthenticated => Remedy::Redial,
            Class::ClusterDown | Class::Moving => Remedy::Wait,
            Class::NoScript => Remedy::Load,
            Class::Deadline
            | Class::Forbidden
            | Class::Busy
            | Class::OutOfMemory
            | Class::WritesRefused
            | Class::Rejected => Remedy::None,
        };
        Fault { class, at: at.cloned(), detail: detail.into(), remedy }
    }

    /// What a server answered instead of an answer.
    pub(super) fn answered(code: &str, detail: &str, at: &Address) -> Self {
        let fault = Fault::new(Class::of_code(code, detail), Some(at), format!("{code} {detail}"));
        // `MOVED 3999 host:port`
        let target = || detail.split_ascii_whitespace().nth(1).and_then(|text| Address::parse(text, at));
        let remedy = match code {
            "MOVED" => target().map_or(Remedy::Wait, Remedy::Moved),
            "ASK" => target().map_or(Remedy::Wait, Remedy::Ask),
            _ => return fault,
        };
        Fault { remedy, ..fault }
    }

    /// What the client says of a connection.
    pub(super) fn of(error: &RedisError, at: &Address) -> Self {
        if let Some([(_, error), ..]) = error.clone().into_server_errors().as_deref() {
            return Fault::answered(error.code(), error.details().unwrap_or_default(), at);
        }
        let class = match error.kind() {
            ErrorKind::AuthenticationFailed => Class::Unauthenticated,
            ErrorKind::Io | ErrorKind::Parse => Class::Unreachable,
            _ => Class::Rejected,
        };
        Fault::new(class, Some(at), error.to_string())
    }

    pub(super) fn remedy(&self) -> &Remedy {
        &self.remedy
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "Redis at {at} {}", self.class.sentence())?,
            None => write!(f, "Redis {}", self.class.sentence())?,
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}
