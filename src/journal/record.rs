//! One record in bytes, and the checksum that ties it to its place.
//!
//! ```text
//! word    length (u32, header included, divisible by 8; the low three bits are the kind), checksum (u32)
//! fixed   request 16, tenant 16, key 16, admitted_at i64 µs, bytes_in u48, bytes_out u48, latency u32 µs,
//!         status u16, outcome u8, flags u8 (1 = has a key), length of the route u8, number of charges u8
//! route   at most 63 bytes
//! charge  tag u8 (bits 0–1 the owner: record's tenant, record's key, other tenant, other key; bit 2 = has
//!         overage; bits 3–6 the period), [other owner 16], length of the resource u8, resource,
//!         window's start i64 s, window's length u32 s (u32::MAX = for ever), units u64, [overage u64]
//! zeros   to the next multiple of 8
//! ```
//! All numbers are little-endian. A record of one charge takes 128 bytes or less, one of three about 190.
//!
//! The checksum is CRC-32C over (journal, shard, sequence, offset, length and kind, payload, zeros). So any bit
//! that flips, and any record that lies where it was not written, is found.

use smallvec::SmallVec;
use uuid::Uuid;

use super::handle::JournalId;
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ApiKeyId, Outcome, Owner, Period, RecordedCharge, RequestId, Resource, TenantId, Units,
    UsageRecord, Window,
};

/// The longest record in bytes: a route of 63 bytes and eight charges of foreign owners.
pub const RECORD_BYTES_MAX: usize =
    (WORD + FIXED_BYTES + UsageRecord::ROUTE_LENGTH_MAX + UsageRecord::CHARGES_MAX * CHARGE_BYTES_MAX)
        .next_multiple_of(WORD);

/// Header, fixed part, and rounding: no record is shorter.
const RECORD_BYTES_MIN: usize = (WORD + FIXED_BYTES).next_multiple_of(WORD);
pub(super) const WORD: usize = 8;
pub(super) const WORD_BYTES: u32 = 8;
const FIXED_BYTES: usize = 78;
/// Where a payload says when its request was admitted.
pub(super) const ADMITTED_AT: usize = 48;
const CHARGE_BYTES_MAX: usize = 1 + 16 + 1 + Resource::LENGTH_MAX + 8 + 4 + 8 + 8;

const KIND_BITS: u32 = 0b111;
const KIND_USAGE: u32 = 0;
const KIND_SEAL: u32 = 7;

const HAS_KEY: u8 = 1;
const OWNER_BITS: u8 = 0b11;
const HAS_OVERAGE: u8 = 0b100;
const PERIOD_SHIFT: u8 = 3;
const WINDOW_FOREVER: u32 = u32::MAX;
const U48_MAX: u64 = (1 << 48) - 1;

/// Room for a record that is being encoded. Its first word is the header's.
pub type Buffer = [u8; RECORD_BYTES_MAX];

/// Room for the charges of a record that is being decoded.
pub type Charges = SmallVec<[RecordedCharge; 4]>;

/// The part of the checksum that all records of a file have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

/// What a header word announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// A record of so many bytes, header included. Not yet verified.
    Record(usize),
    Seal,
    Nonsense,
}

// === impl Seed ===

impl Seed {
    pub(super) fn segment(journal: JournalId, shard: u32, sequence: u32) -> Seed {
        Seed(Seed::of(b'S', journal, shard).with(sequence))
    }

    pub(super) fn in_flight(journal: JournalId, shard: u32) -> Seed {
        Seed::of(b'F', journal, shard)
    }

    fn of(kind: u8, journal: JournalId, shard: u32) -> Seed {
        let journal = crc32c::crc32c_append(crc32c::crc32c(&[kind]), journal.0.as_bytes());
        Seed(Seed(journal).with(shard))
    }

    fn with(self, number: u32) -> u32 {
        crc32c::crc32c_append(self.0, &number.to_le_bytes())
    }

    /// Where, what and how long: the first word that the checksum goes over.
    #[inline]
    fn place(offset: u32, length: u32) -> [u8; WORD] {
        (u64::from(offset) | u64::from(length) << 32).to_le_bytes()
    }

    /// The header word of a record. Uses the record's first word, which the header word is to become, as scratch:
    /// one pass over the whole is half the price of two.
    #[inline]
    pub(super) fn header(self, offset: u32, record: &mut [u8]) -> u64 {
        let length = length_of(record) | KIND_USAGE;
        record[..WORD].copy_from_slice(&Seed::place(offset, length));
        word(length, crc32c::crc32c_append(self.0, record))
    }

    /// The word that ends a segment: nothing is behind it.
    pub(super) fn seal(self, offset: u32) -> u64 {
        let length = WORD_BYTES | KIND_SEAL;
        word(length, crc32c::crc32c_append(self.0, &Seed::place(offset, length)))
    }

    /// Whether `header` is the header word of this record, whose first word is scratch.
    pub(super) fn verifies(self, offset: u32, header: u64, record: &mut [u8]) -> bool {
        header == self.header(offset, record)
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "no record is longer than a buffer")]
fn length_of(record: &[u8]) -> u32 {
    debug_assert!(record.len() <= RECORD_BYTES_MAX);
    record.len() as u32
}

fn word(length: u32, checksum: u32) -> u64 {
    u64::from(length) | u64::from(checksum) << 32
}

// === impl Word ===

impl Word {
    #[expect(clippy::cast_possible_truncation, reason = "takes the lower half of a word")]
    pub(super) fn of(header: u64) -> Word {
        let length = header as u32 as usize;
        let bytes = length & !(KIND_BITS as usize);
        if length == WORD | KIND_SEAL as usize {
            Word::Seal
        } else if bytes == length && (RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&bytes) {
            Word::Record(bytes)
        } else {
            Word::Nonsense
        }
    }
}

/// Writes everything but the header word; answers how many bytes the record takes, header included.
///
/// Body bytes above 2^48 - 1 are recorded as that. A route that is too long is cut at a character.
///
/// # Panics
/// If there are more than [`UsageRecord::CHARGES_MAX`] charges: a fault of the caller.
pub fn encode(record: &UsageRecord<'_>, buffer: &mut Buffer) -> usize {
    assert!(record.charges.len() <= UsageRecord::CHARGES_MAX, "{} charges", record.charges.len());
    let mut out = Out { buffer, at: WORD };
    let route = route_of(record);
    put_fixed(&mut out, record, route);
    out.put(route.as_bytes());
    for charge in record.charges {
        put_charge(&mut out, record, charge);
    }
    let end = out.at.next_multiple_of(WORD);
    let at = out.at;
    buffer[at..end].fill(0);
    end
}

/// The route, cut at a character if it is too long.
fn route_of<'a>(record: &UsageRecord<'a>) -> &'a str {
    let mut length = record.route.len().min(UsageRecord::ROUTE_LENGTH_MAX);
    while !record.route.is_char_boundary(length) {
        length -= 1;
    }
    &record.route[..length]
}

fn put_fixed(out: &mut Out<'_>, record: &UsageRecord<'_>, route: &str) {
    out.put(record.request.0.as_bytes());
    out.put(record.tenant.0.as_bytes());
    out.put(record.key.map_or(Uuid::nil(), |key| key.0).as_bytes());
    out.put(&record.admitted_at.micros().to_le_bytes());
    out.put(&record.bytes_in.min(U48_MAX).to_le_bytes()[..6]);
    out.put(&record.bytes_out.min(U48_MAX).to_le_bytes()[..6]);
    out.put(&record.latency_micros.to_le_bytes());
    out.put(&record.status.to_le_bytes());
    let flags = if record.key.is_some() { HAS_KEY } else { 0 };
    out.put(&[record.outcome.code(), flags, small(route.len()), small(record.charges.len())]);
}

fn put_charge(out: &mut Out<'_>, record: &UsageRecord<'_>, charge: &RecordedCharge) {
    let AccountKey { owner, resource, window } = &charge.account;
    let owner_tag = owner_tag(*owner, record);
    let overage = if charge.overage.is_zero() { 0 } else { HAS_OVERAGE };
    out.put(&[owner_tag | overage | window.period.code() << PERIOD_SHIFT]);
    if owner_tag >= 2 {
        out.put(owner.uuid().as_bytes());
    }
    out.put(&[small(resource.as_bytes().len())]);
    out.put(resource.as_bytes());
    out.put(&window.start.seconds().to_le_bytes());
    out.put(&window_length(window).to_le_bytes());
    out.put(&charge.units.get().to_le_bytes());
    if overage != 0 {
        out.put(&charge.overage.get().to_le_bytes());
    }
}

fn owner_tag(owner: Owner, record: &UsageRecord<'_>) -> u8 {
    match owner {
        Owner::Tenant(tenant) if tenant == record.tenant => 0,
        Owner::Key(key) if Some(key) == record.key => 1,
        Owner::Tenant(_) => 2,
        Owner::Key(_) => 3,
    }
}

fn window_length(window: &Window) -> u32 {
    if window.end == Timestamp::MAX {
        return WINDOW_FOREVER;
    }
    u32::try_from(window.end.seconds() - window.start.seconds()).unwrap_or(WINDOW_FOREVER)
}

#[expect(clippy::cast_possible_truncation, reason = "lengths and counts whose bounds are below 256")]
const fn small(number: usize) -> u8 {
    number as u8
}

/// Reads a payload that has verified. `None` if it makes no sense all the same: a record of a newer kind.
pub fn decode<'a>(payload: &'a [u8], charges: &'a mut Charges) -> Option<UsageRecord<'a>> {
    let mut fields = Fields(payload);
    let request = RequestId(fields.uuid()?);
    let tenant = TenantId(fields.uuid()?);
    let key = ApiKeyId(fields.uuid()?);
    let admitted_at = Timestamp::from_micros(fields.i64()?);
    let (bytes_in, bytes_out) = (fields.u48()?, fields.u48()?);
    let latency_micros = fields.u32()?;
    let status = u16::from_le_bytes(fields.array()?);
    let [outcome, flags, route_length, charge_count] = fields.array()?;
    let outcome = Outcome::from_code(outcome)?;
    if flags & !HAS_KEY != 0 || usize::from(charge_count) > UsageRecord::CHARGES_MAX {
        return None;
    }
    let key = (flags & HAS_KEY != 0).then_some(key);
    let route = std::str::from_utf8(fields.take(route_length.into())?).ok()?;
    charges.clear();
    for _ in 0..charge_count {
        charges.push(fields.charge(tenant, key)?);
    }
    fields.is_padding().then_some(UsageRecord {
        request,
        tenant,
        key,
        route,
        charges,
        outcome,
        status,
        bytes_in,
        bytes_out,
        latency_micros,
        admitted_at,
    })
}

/// Appends to a buffer that is large enough for any record.
struct Out<'b> {
    buffer: &'b mut Buffer,
    at: usize,
}

impl Out<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// What is left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn u48(&mut self) -> Option<u64> {
        let [a, b, c, d, e, f] = self.array()?;
        Some(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    fn units(&mut self) -> Option<Units> {
        Units::new(self.u64()?).ok()
    }

    fn charge(&mut self, tenant: TenantId, key: Option<ApiKeyId>) -> Option<RecordedCharge> {
        let [tag] = self.array()?;
        let owner = match tag & OWNER_BITS {
            0 => Owner::Tenant(tenant),
            1 => Owner::Key(key?),
            2 => Owner::Tenant(TenantId(self.uuid()?)),
            _ => Owner::Key(ApiKeyId(self.uuid()?)),
        };
        let period = Period::from_code(tag >> PERIOD_SHIFT)?;
        let (resource, window) = (self.resource()?, self.window(period)?);
        let units = self.units()?;
        let overage = if tag & HAS_OVERAGE == 0 { Units::ZERO } else { self.units()? };
        Some(RecordedCharge { account: AccountKey { owner, resource, window }, units, overage })
    }

    pub(super) fn resource(&mut self) -> Option<Resource> {
        let [length] = self.array()?;
        std::str::from_utf8(self.take(length.into())?).ok()?.parse().ok()
    }

    pub(super) fn window(&mut self, period: Period) -> Option<Window> {
        let start = self.i64()?;
        let length = self.u32()?;
        let seconds = |at: i64| at.checked_mul(1_000_000).map(Timestamp::from_micros);
        let end = match length {
            WINDOW_FOREVER => Timestamp::MAX,
            _ => seconds(start.checked_add(length.into())?)?,
        };
        Some(Window { period, start: seconds(start)?, end })
    }

    fn is_padding(&self) -> bool {
        self.0.len() < WORD && self.0.iter().all(|&byte| byte == 0)
    }
}

/// An account's key by itself, for the cursor: as in a charge, the owner always spelled out.
pub(super) fn put_account(account: &AccountKey, out: &mut Vec<u8>) {
    let AccountKey { owner, resource, window } = account;
    let tag = if matches!(owner, Owner::Tenant(_)) { 2 } else { 3 };
    out.push(tag | window.period.code() << PERIOD_SHIFT);
    out.extend_from_slice(owner.uuid().as_bytes());
    out.push(small(resource.as_bytes().len()));
    out.extend_from_slice(resource.as_bytes());
    out.extend_from_slice(&window.start.seconds().to_le_bytes());
    out.extend_from_slice(&window_length(window).to_le_bytes());
}

pub(super) fn take_account(fields: &mut Fields<'_>) -> Option<AccountKey> {
    let [tag] = fields.array()?;
    let owner = match tag & OWNER_BITS {
        2 => Owner::Tenant(TenantId(fields.uuid()?)),
        3 => Owner::Key(ApiKeyId(fields.uuid()?)),
        _ => return None,
    };
    let period = Period::from_code(tag >> PERIOD_SHIFT)?;
    Some(AccountKey { owner, resource: fields.resource()?, window: fields.window(period)? })
}
