//! The first 128 bytes of a segment and of a table of requests in flight: what the file is and whose.

use uuid::Uuid;

use super::handle::JournalId;

pub(super) const HEADER_BYTES: usize = 128;

/// Raised when a file of an older version can't be read as one of this.
const VERSION: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Segment,
    InFlight,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) shard: u32,
    /// A segment's sequence, or how many entries a table has.
    pub(super) number: u32,
    pub(super) journal: JournalId,
    /// The till whose units the records tell of.
    pub(super) till: Uuid,
    /// The boot of the machine in which the file was written.
    pub(super) boot: Uuid,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadHeader {
    /// Not ours, or damaged.
    Unreadable,
    TooNew(u32),
}

// === impl Header ===

impl Header {
    /// Magic, version, shard, number, journal, till, boot, zeros, checksum of all before it.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.shard.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..48].copy_from_slice(self.journal.0.as_bytes());
        bytes[48..64].copy_from_slice(self.till.as_bytes());
        bytes[64..80].copy_from_slice(self.boot.as_bytes());
        let checksum = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, BadHeader> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let uuid = |at: usize| Uuid::from_slice(&bytes[at..at + 16]).map_err(|_| BadHeader::Unreadable);
        if crc32c::crc32c(&bytes[..124]) != number(124) {
            return Err(BadHeader::Unreadable);
        }
        let kind = Kind::of_magic(&bytes[..8]).ok_or(BadHeader::Unreadable)?;
        if number(8) != VERSION {
            return Err(BadHeader::TooNew(number(8)));
        }
        let journal = JournalId(uuid(32)?);
        Ok(Header { kind, shard: number(12), number: number(16), journal, till: uuid(48)?, boot: uuid(64)? })
    }
}

// === impl Kind ===

impl Kind {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Kind::Segment => b"tollseg\n",
            Kind::InFlight => b"tollfly\n",
        }
    }

    fn of_magic(magic: &[u8]) -> Option<Kind> {
        [Kind::Segment, Kind::InFlight].into_iter().find(|kind| kind.magic() == magic)
    }
}
