//! The door for whoever may read the data directory: how the command line finds and enters a running gateway.
//!
//! The gateway draws a [`LocalToken`] at each start and leaves it, with the address of its admin port, in
//! `<data>/admin.token`, readable by its own user only. Who can read that file could read the database beside it,
//! so the token gives away nothing that its reader did not have. It dies with the process that drew it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// A token that lives as long as its process. Its `Debug` does not show it.
#[derive(Clone)]
pub struct LocalToken(String);

/// Where a gateway's admin port is, and what opens it: the content of `<data>/admin.token`.
#[derive(Clone, Debug)]
pub struct LocalDoor {
    address: SocketAddr,
    token: LocalToken,
}

// === impl LocalToken ===

impl LocalToken {
    /// 32 random bytes of the operating system, as hexadecimal text.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn draw() -> io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let text: String = digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect();
        Ok(LocalToken(format!("tg_local_{text}")))
    }

    /// Whether `text` is this token; the time it takes tells nothing of where they differ.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for LocalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalToken(***)")
    }
}

// === impl LocalDoor ===

impl LocalDoor {
    /// The door of a gateway whose admin port is bound to `address`. An address that stands for all of the machine's
    /// is replaced by its loopback, which is what one can connect to.
    pub fn new(address: SocketAddr, token: LocalToken) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        LocalDoor { address: SocketAddr::new(ip, address.port()), token }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn token(&self) -> &LocalToken {
        &self.token
    }

    /// Where the door of the gateway on `data` is kept.
    pub fn path(data: &Path) -> PathBuf {
        data.join("admin.token")
    }

    /// Puts the door in place for others to find: mode 0600, and never half written.
    ///
    /// # Errors
    /// When the directory can't be written to.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let new = data.join("admin.token.new");
        // What a killed process left there may have other permissions.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        writeln!(file, "{}\n{}", self.address, self.token.as_str())?;
        drop(file);
        fs::rename(&new, LocalDoor::path(data))
    }

    /// Takes the door away at the end of the gateway that wrote it. One that is gone already is no error.
    ///
    /// # Errors
    /// When the directory can't be written to.
    pub fn remove(data: &Path) -> io::Result<()> {
        match fs::remove_file(LocalDoor::path(data)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The door on `data`; `None` if there is none. It may be one that a killed gateway left.
    ///
    /// # Errors
    /// When the file can't be read, or holds something else.
    pub fn read(data: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(LocalDoor::path(data)) {
            Ok(text) => LocalDoor::parse(&text)
                .map(Some)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no address and token")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, token) = text.trim_end().split_once('\n')?;
        let address = address.parse().ok()?;
        (!token.is_empty()).then(|| LocalDoor { address, token: LocalToken(token.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{LocalDoor, LocalToken};

    #[test]
    fn a_door_is_found_where_it_was_left_and_only_its_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        assert!(LocalDoor::read(data.path()).unwrap().is_none());

        let token = LocalToken::draw().unwrap();
        let door = LocalDoor::new("0.0.0.0:9090".parse().unwrap(), token.clone());
        for _ in ["first start", "second start"] {
            door.write(data.path()).unwrap();
        }
        let found = LocalDoor::read(data.path()).unwrap().unwrap();
        assert_eq!(found.address().to_string(), "127.0.0.1:9090");
        assert!(found.token().matches(token.as_str()));
        let mode = std::fs::metadata(LocalDoor::path(data.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        LocalDoor::remove(data.path()).unwrap();
        LocalDoor::remove(data.path()).unwrap();
        assert!(LocalDoor::read(data.path()).unwrap().is_none());
    }

    #[test]
    fn a_token_matches_itself_only_and_is_never_shown() {
        let (one, other) = (LocalToken::draw().unwrap(), LocalToken::draw().unwrap());
        assert!(one.matches(one.as_str()));
        assert!(!one.matches(other.as_str()) && !one.matches("") && !one.matches(&one.as_str()[..20]));
        assert_eq!(format!("{one:?}"), "LocalToken(***)");
    }

    #[test]
    fn a_file_that_holds_something_else_is_an_error_and_no_door() {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(LocalDoor::path(data.path()), "hello").unwrap();
        assert!(LocalDoor::read(data.path()).is_err());
    }
}
