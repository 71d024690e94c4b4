//! How far the journal has reached the database: a small file that is replaced whole.
//!
//! It holds, per shard, the position of the first record that no committed batch holds; the range that is being
//! sent, if any; and what the till is to be told of the last batch.
//!
//! # Why the range is written before it is sent
//! After a crash the flush can't know whether the database committed. It sends the very same range again, which
//! the database recognizes, because a range once cut is never cut differently.
//!
//! # Why the till's values are in here
//! The till is told of a committed batch after the cursor has moved. A crash between the two would leave the
//! till behind for ever; so the values are kept with the position, absolute, and told again at the next start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::disk::Disk;
use super::record::{self, Fields};
use crate::domain::AccountKey;

/// A place in a shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
pub struct Position {
    /// Which segment. The first is 1.
    pub sequence: u32,
    /// Bytes from the segment's beginning.
    pub offset: u32,
}

/// A range of whole records in one segment: what one batch is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cut {
    pub shard: u32,
    pub sequence: u32,
    /// Where its first record begins, in bytes from the segment's beginning.
    pub from: u32,
    /// Where its last record ends.
    pub to: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Cursor {
    pub(super) positions: BTreeMap<u32, Position>,
    pub(super) cut: Option<Cut>,
    /// Whose values these are.
    pub(super) till: Uuid,
    /// Accounts of the last committed batch, with all units of theirs that the database has.
    pub(super) journalled: Vec<(AccountKey, u64)>,
}

const MAGIC: &[u8; 8] = b"tollcur1";
const NAME: &str = "cursor";

// === impl Position ===

impl Position {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.sequence) << 32 | u64::from(self.offset)
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the halves of a word apart")]
    pub(super) fn from_bits(bits: u64) -> Position {
        Position { sequence: (bits >> 32) as u32, offset: bits as u32 }
    }
}

// === impl Cursor ===

impl Cursor {
    pub(super) fn position(&self, shard: u32) -> Position {
        self.positions.get(&shard).copied().unwrap_or_default()
    }

    pub(super) fn cut_of(&self, shard: u32) -> Option<Cut> {
        self.cut.filter(|cut| cut.shard == shard)
    }

    /// The cursor of the journal in `directory`; at the beginning of everything if there is none.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if it is damaged. It can't be guessed: a wrong one would count twice.
    pub(super) fn load(disk: &dyn Disk, directory: &Path) -> io::Result<Cursor> {
        match disk.read(&directory.join(NAME))? {
            None => Ok(Cursor::default()),
            Some(bytes) => Cursor::decode(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    pub(super) fn store(&self, disk: &dyn Disk, directory: &Path) -> io::Result<()> {
        disk.replace(&directory.join(NAME), &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_count(&mut out, self.positions.len());
        for (shard, position) in &self.positions {
            put_all(&mut out, &[*shard, position.sequence, position.offset]);
        }
        put_count(&mut out, usize::from(self.cut.is_some()));
        if let Some(cut) = self.cut {
            put_all(&mut out, &[cut.shard, cut.sequence, cut.from, cut.to]);
        }
        out.extend_from_slice(self.till.as_bytes());
        put_count(&mut out, self.journalled.len());
        for (account, units) in &self.journalled {
            record::put_account(account, &mut out);
            out.extend_from_slice(&units.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        put_all(&mut out, &[checksum]);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Cursor> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut fields = Fields(body);
        if fields.array::<8>()? != *MAGIC {
            return None;
        }
        let mut cursor = Cursor::default();
        for _ in 0..fields.u32()? {
            let (shard, sequence, offset) = (fields.u32()?, fields.u32()?, fields.u32()?);
            cursor.positions.insert(shard, Position { sequence, offset });
        }
        if fields.u32()? == 1 {
            let (shard, sequence) = (fields.u32()?, fields.u32()?);
            cursor.cut = Some(Cut { shard, sequence, from: fields.u32()?, to: fields.u32()? });
        }
        cursor.till = fields.uuid()?;
        for _ in 0..fields.u32()? {
            cursor.journalled.push((record::take_account(&mut fields)?, fields.u64()?));
        }
        fields.0.is_empty().then_some(cursor)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "shards and accounts are far fewer than 2^32")]
fn put_count(out: &mut Vec<u8>, count: usize) {
    put_all(out, &[count as u32]);
}

fn put_all(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}
