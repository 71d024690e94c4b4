//! The table of requests in flight: for each, the record that would be true if the process died now.
//!
//! ```text
//! entry   state (u32) and length of the record (u32), noted position, eight lowered units, the record
//! ```
//! The state is stored last when an entry is made and first when it is left, so a crash never finds half an
//! entry. Before a record is published its position is noted here: whoever finds an entry after a crash looks
//! there to learn whether the record got out.
//!
//! # Why units can be lowered one by one
//! Giving units back to the till and telling so here are two stores, and a crash may fall between them. Told
//! first, the books are short of units that the till still has as spent, which recovery gives back. The other
//! way round, the record would claim more than the till spent, and nothing could mend it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cursor::Position;
use super::disk::{Disk, Region};
use super::handle::Sums;
use super::header::{BadHeader, HEADER_BYTES, Header, Kind};
use super::record::{self, ADMITTED_AT, Charges, RECORD_BYTES_MAX, Seed, WORD, Word};
use crate::clock::Timestamp;
use crate::domain::{Units, UsageRecord};

/// Entries begin on pages' quarters: an entry of one charge touches four cache lines.
const ENTRY_BYTES: usize = 1024;
const NOTED: usize = WORD;
const LOWERED: usize = 2 * WORD;
const RECORD: usize = LOWERED + UsageRecord::CHARGES_MAX * WORD;
const _: () = assert!(RECORD + RECORD_BYTES_MAX <= ENTRY_BYTES);
const _: () = assert!(HEADER_BYTES <= ENTRY_BYTES);

/// Units that were not lowered.
const AS_RECORDED: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    /// Units taken, nothing sent: as if it had never been.
    Admitted,
    /// The upstream may have seen it.
    Sent,
    /// Sent, and all units are being given back.
    Returning,
    /// Sent, and in the place of the entries that its note names, which are being freed.
    Replacing,
}

pub(super) struct Table {
    region: Region,
    seed: Seed,
    entries: u32,
}

/// How many requests are in flight, or were when the process died.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Entries {
    /// Charged and not sent: after a crash they get their units back.
    pub admitted: u64,
    /// With an upstream: after a crash they count.
    pub sent: u64,
}

/// An entry that a crash left behind, of a request that the upstream may have seen.
pub(super) struct Owed {
    pub(super) index: u32,
    pub(super) noted: Position,
    pub(super) payload: Vec<u8>,
    /// What each charge was lowered to.
    pub(super) lowered: [Units; UsageRecord::CHARGES_MAX],
}

// === impl State ===

impl State {
    const fn code(self) -> u64 {
        match self {
            State::Free => 0,
            State::Admitted => 1,
            State::Sent => 2,
            State::Returning => 3,
            State::Replacing => 4,
        }
    }

    fn of_code(code: u64) -> Option<State> {
        [State::Free, State::Admitted, State::Sent, State::Returning, State::Replacing]
            .into_iter()
            .find(|state| state.code() == code)
    }
}

// === impl Table ===

impl Table {
    /// The name at [`Table::path_of_next`].
    pub(super) const NEXT: &str = "in-flight-next";

    pub(super) fn path(directory: &Path) -> PathBuf {
        directory.join("in-flight")
    }

    /// Where a table waits that is to take the place of another.
    pub(super) fn path_of_next(directory: &Path) -> PathBuf {
        directory.join(Table::NEXT)
    }

    pub(super) fn create(disk: &dyn Disk, directory: &Path, header: &Header) -> std::io::Result<Table> {
        let bytes = (header.number as usize + 1) * ENTRY_BYTES;
        let region = disk.create(&Table::path(directory), bytes, &header.encode())?;
        Ok(Table { region, seed: Seed::in_flight(header.journal, header.shard), entries: header.number })
    }

    /// An empty table like this one, to take its place: [`Table::take_over`].
    pub(super) fn renewed(&self, disk: &dyn Disk, directory: &Path) -> std::io::Result<Table> {
        let mut header = [0; HEADER_BYTES];
        self.region.read(0, &mut header);
        let region = disk.create(&Table::path_of_next(directory), self.region.bytes(), &header)?;
        Ok(Table { region, ..*self })
    }

    /// Copies every entry of `old` that is not free, in the same place.
    pub(super) fn take_over(&self, old: &Table) {
        let mut entry = [0; ENTRY_BYTES];
        for at in (0..self.entries).map(Table::at) {
            if old.region.load(at) != State::Free.code() {
                old.region.read(at, &mut entry);
                self.region.write(at, &entry);
            }
        }
    }

    /// The table that `region` holds, and its header.
    pub(super) fn of_region(region: Region) -> Result<(Table, Header), BadHeader> {
        let mut bytes = [0; HEADER_BYTES];
        if region.bytes() < ENTRY_BYTES {
            return Err(BadHeader::Unreadable);
        }
        region.read(0, &mut bytes);
        let header = Header::decode(&bytes)?;
        let entries = header.number;
        if header.kind != Kind::InFlight || region.bytes() != (entries as usize + 1) * ENTRY_BYTES {
            return Err(BadHeader::Unreadable);
        }
        Ok((Table { region, seed: Seed::in_flight(header.journal, header.shard), entries }, header))
    }

    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    #[inline]
    const fn at(index: u32) -> usize {
        (index as usize + 1) * ENTRY_BYTES
    }

    /// Makes an entry, its state last. `record` begins with room for its header word.
    #[inline]
    pub(super) fn admit(&self, index: u32, record: &mut [u8], charges: usize) {
        self.fill(index, record, charges, Position::default());
        self.set_state(index, State::Admitted);
    }

    /// Makes an entry of many requests, which takes the place of `replaced` by the store of its state: whenever a
    /// crash comes, either it counts or they do.
    pub(super) fn replace(&self, index: u32, record: &mut [u8], charges: usize, replaced: [Option<u32>; 2]) {
        self.fill(index, record, charges, names(replaced));
        self.set_state(index, State::Replacing);
        self.end_replacing(index, replaced);
    }

    fn end_replacing(&self, index: u32, replaced: [Option<u32>; 2]) {
        for replaced in replaced.into_iter().flatten() {
            self.set_state(replaced, State::Free);
        }
        self.note(index, Position::default());
        self.set_state(index, State::Sent);
    }

    /// Frees what a crash kept from being freed. To be called before anything else is asked of a table that was
    /// left behind.
    pub(super) fn settle_replacing(&self) {
        for index in 0..self.entries {
            let at = Table::at(index);
            if self.region.load(at) == State::Replacing.code() && self.payload(index).is_some() {
                let names = replaced_by(Position::from_bits(self.region.load(at + NOTED)));
                self.end_replacing(index, names.map(|name| name.filter(|&name| name < self.entries)));
            }
        }
    }

    #[inline]
    fn fill(&self, index: u32, record: &mut [u8], charges: usize, noted: Position) {
        let at = Table::at(index);
        self.note(index, noted);
        for charge in 0..charges {
            self.region.store(at + LOWERED + charge * WORD, AS_RECORDED);
        }
        self.region.write(at + RECORD + WORD, &record[WORD..]);
        self.region.store(at + RECORD, self.seed.header(index, record));
    }

    #[inline]
    pub(super) fn set_state(&self, index: u32, state: State) {
        self.region.store(Table::at(index), state.code());
    }

    #[inline]
    pub(super) fn note(&self, index: u32, position: Position) {
        self.region.store(Table::at(index) + NOTED, position.to_bits());
    }

    #[inline]
    pub(super) fn lower(&self, index: u32, charge: usize, units: Units) {
        debug_assert!(charge < UsageRecord::CHARGES_MAX);
        self.region.store(Table::at(index) + LOWERED + charge * WORD, units.get());
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.region.sync(0, self.region.bytes())
    }

    /// Whether a sync of it failed.
    pub(super) fn is_suspect(&self) -> bool {
        self.region.is_suspect()
    }

    pub(super) fn populate(&self, entries: u32) {
        self.region.populate(0, Table::at(entries.min(self.entries)));
    }

    /// The entries that a crash left behind and that count.
    pub(super) fn owed(&self) -> Vec<Owed> {
        (0..self.entries).filter_map(|index| self.owed_by(index)).collect()
    }

    fn owed_by(&self, index: u32) -> Option<Owed> {
        match self.state(index)? {
            State::Free | State::Admitted | State::Replacing => None,
            State::Sent => self.entry(index, self.lowered(index)),
            State::Returning => self.entry(index, [Units::ZERO; UsageRecord::CHARGES_MAX]),
        }
    }

    /// Adds the units that requests in flight have taken and not given back, while their writer goes on: of one that
    /// begins or ends meanwhile they may be missing.
    pub(super) fn add_units(&self, sums: &mut Sums) {
        for index in self.used() {
            let is_taken =
                matches!(self.state(index), Some(State::Admitted | State::Sent | State::Replacing));
            let entry = is_taken.then(|| self.entry(index, self.lowered(index))).flatten();
            for charge in entry.as_ref().and_then(Owed::charges).into_iter().flatten() {
                *sums.entry(charge.account).or_default() += charge.units.get();
            }
        }
    }

    /// A fingerprint of the requests that were admitted before `then`, have been sent and have not ended; 0 if there are
    /// none. One that is sent or ends meanwhile may be in it or not.
    pub(super) fn lingering(&self, then: Timestamp) -> u64 {
        let is_sent = |&index: &u32| {
            matches!(self.state(index), Some(State::Sent | State::Returning | State::Replacing))
        };
        let lingering = self.used().filter(is_sent).map(|index| (index, self.admitted_at(index)));
        lingering.filter(|(_, admitted_at)| *admitted_at < then).fold(0, |mixed, (index, admitted_at)| {
            let entry = admitted_at.micros().cast_unsigned() ^ u64::from(index) << 48;
            (mixed ^ entry).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1
        })
    }

    /// Entries are used from the first one on, and what was never used holds no record: to look at it would cost a page
    /// of memory each. The last one is the first spare of sums.
    fn used(&self) -> impl Iterator<Item = u32> {
        let is_used = |&index: &u32| self.region.load(Table::at(index) + RECORD) != 0;
        (0..self.entries - 1).take_while(is_used).chain([self.entries - 1])
    }

    fn admitted_at(&self, index: u32) -> Timestamp {
        let micros = self.region.load(Table::at(index) + RECORD + WORD + ADMITTED_AT);
        Timestamp::from_micros(micros.cast_signed())
    }

    fn state(&self, index: u32) -> Option<State> {
        State::of_code(self.region.load(Table::at(index)))
    }

    fn lowered(&self, index: u32) -> [Units; UsageRecord::CHARGES_MAX] {
        let at = Table::at(index) + LOWERED;
        std::array::from_fn(|charge| Units::saturating(self.region.load(at + charge * WORD)))
    }

    fn entry(&self, index: u32, lowered: [Units; UsageRecord::CHARGES_MAX]) -> Option<Owed> {
        let at = Table::at(index);
        let noted = Position::from_bits(self.region.load(at + NOTED));
        let payload = self.payload(index)?;
        Some(Owed { index, noted, payload, lowered })
    }

    fn payload(&self, index: u32) -> Option<Vec<u8>> {
        let at = Table::at(index) + RECORD;
        let header = self.region.load(at);
        let Word::Record(bytes) = Word::of(header) else { return None };
        let mut record = vec![0; bytes];
        self.region.read(at, &mut record);
        self.seed.verifies(index, header, &mut record).then(|| record.split_off(WORD))
    }

    pub(super) fn entries_by_state(&self) -> Entries {
        let mut entries = Entries::default();
        for index in 0..self.entries {
            match self.state(index) {
                Some(State::Admitted) => entries.admitted += 1,
                Some(State::Sent | State::Returning | State::Replacing) => entries.sent += 1,
                Some(State::Free) | None => {}
            }
        }
        entries
    }

    /// How many entries were taken but never sent.
    pub(super) fn unsent(&self) -> usize {
        let admitted = |&index: &u32| self.region.load(Table::at(index)) == State::Admitted.code();
        (0..self.entries).filter(admitted).count()
    }
}

// === impl Owed ===

impl Owed {
    /// The charges of its record, with the units that the till still has as spent.
    pub(super) fn charges(&self) -> Option<Charges> {
        let mut charges = Charges::new();
        record::decode(&self.payload, &mut charges)?;
        for (charge, lowered) in charges.iter_mut().zip(&self.lowered) {
            charge.units = charge.units.min(*lowered);
            charge.overage = charge.overage.min(*lowered);
        }
        Some(charges)
    }
}

/// Entries' indices in the place of a position; 0 names none.
fn names(entries: [Option<u32>; 2]) -> Position {
    let [sequence, offset] = entries.map(|entry| entry.map_or(0, |index| index + 1));
    Position { sequence, offset }
}

fn replaced_by(names: Position) -> [Option<u32>; 2] {
    [names.sequence, names.offset].map(|name| name.checked_sub(1))
}
