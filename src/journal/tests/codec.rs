//! Records in bytes.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{Sample, TILL, charge, now, open, pass, read, settings};
use crate::clock::Timestamp;
use crate::domain::{
    AccountKey, ApiKeyId, Outcome, Owner, Period, RecordedCharge, RequestId, Resource, TenantId, Units,
    UsageRecord, Window,
};
use crate::journal::handle::JournalId;
use crate::journal::header::HEADER_BYTES;
use crate::journal::record::{self, Buffer, RECORD_BYTES_MAX, Seed, Word};
use crate::journal::{Cut, Journal};

fn encoded(record: &UsageRecord<'_>) -> Vec<u8> {
    let mut buffer: Buffer = [0xAA; RECORD_BYTES_MAX];
    let bytes = record::encode(record, &mut buffer);
    buffer[..bytes].to_vec()
}

fn owners() -> impl Strategy<Value = Owner> {
    prop_oneof![
        Just(Owner::Tenant(TenantId(Uuid::from_u128(1)))),
        Just(Owner::Key(ApiKeyId(Uuid::from_u128(2)))),
        any::<u128>().prop_map(|id| Owner::Tenant(TenantId(Uuid::from_u128(id)))),
        any::<u128>().prop_map(|id| Owner::Key(ApiKeyId(Uuid::from_u128(id)))),
    ]
}

fn windows() -> impl Strategy<Value = Window> {
    (0..Period::ALL.len(), -1_000_000_000..4_000_000_000_i64, 1..3_000_000_i64).prop_map(
        |(period, start, length)| {
            let start = Timestamp::from_seconds(start);
            match Period::ALL[period] {
                period @ Period::Forever => {
                    Window { period, start: Timestamp::from_seconds(0), end: Timestamp::MAX }
                }
                period => Window { period, start, end: Timestamp::from_seconds(start.seconds() + length) },
            }
        },
    )
}

fn charges() -> impl Strategy<Value = RecordedCharge> {
    let resource = "[a-z][a-z0-9_]{0,30}".prop_map(|name| name.parse::<Resource>().unwrap());
    let units = || prop_oneof![Just(0), 0..=Units::MAX.get()].prop_map(Units::saturating);
    (owners(), resource, windows(), units(), units()).prop_map(|(owner, resource, window, units, overage)| {
        RecordedCharge { account: AccountKey { owner, resource, window }, units, overage }
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        ids in any::<(u128, u128, Option<u128>)>(),
        route in "[a-zäß/]{0,31}",
        charges in vec(charges(), 0..=UsageRecord::CHARGES_MAX),
        outcome in 0..Outcome::ALL.len(),
        numbers in (any::<u16>(), 0..1_u64 << 48, 0..1_u64 << 48, any::<u32>(), any::<i64>()),
    ) {
        let (request, tenant, key) = ids;
        let (status, bytes_in, bytes_out, latency_micros, admitted_at) = numbers;
        let record = UsageRecord {
            request: RequestId(Uuid::from_u128(request)),
            tenant: TenantId(Uuid::from_u128(tenant)),
            key: key.map(|key| ApiKeyId(Uuid::from_u128(key))),
            route: &route,
            charges: &charges,
            outcome: Outcome::ALL[outcome],
            status,
            bytes_in,
            bytes_out,
            latency_micros,
            admitted_at: Timestamp::from_micros(admitted_at),
        };
        let mut bytes = encoded(&record);
        let mut buffer = SmallVec::new();
        prop_assert_eq!(record::decode(&bytes[8..], &mut buffer), Some(record));
        let header = seed(1).header(128, &mut bytes);
        prop_assert_eq!(Word::of(header), Word::Record(bytes.len()));
    }

    #[test]
    fn no_bytes_make_decoding_panic(bytes in vec(any::<u8>(), 0..RECORD_BYTES_MAX)) {
        let _ = record::decode(&bytes, &mut SmallVec::new());
    }

    #[test]
    fn a_record_verifies_only_where_it_was_written(
        place in (0..8_u32, 0..64_u32),
        other in (0..8_u32, 0..64_u32),
    ) {
        let mut bytes = encoded(&Sample::of(1).record());
        let header = seed(place.0).header(place.1 * 8, &mut bytes);
        let verifies = seed(other.0).verifies(other.1 * 8, header, &mut bytes);
        prop_assert_eq!(verifies, place == other);
    }
}

fn seed(sequence: u32) -> Seed {
    Seed::segment(JournalId(Uuid::from_u128(3)), 0, sequence)
}

#[test]
fn one_charge_takes_128_bytes_and_three_less_than_200() {
    let mut sample = Sample::of(1);
    assert_eq!(encoded(&sample.record()).len(), 128);
    sample.charges.push(charge(Owner::Key(ApiKeyId(Uuid::from_u128(2))), "api_calls", 1));
    sample.charges.push(charge(Owner::Tenant(sample.tenant), "response_bytes", 1_500));
    assert!(encoded(&sample.record()).len() < 200);
}

#[test]
fn the_longest_record_fits() {
    let mut sample = Sample::of(1);
    sample.route = "ä".repeat(40);
    let foreign = |n| charge(Owner::Tenant(TenantId(Uuid::from_u128(n))), &"x".repeat(31), u64::MAX);
    sample.charges = (10..18).map(foreign).collect();
    for charge in &mut sample.charges {
        charge.overage = Units::ONE;
    }
    assert_eq!(encoded(&sample.record()).len(), RECORD_BYTES_MAX);
    let mut buffer = SmallVec::new();
    let bytes = encoded(&sample.record());
    let decoded = record::decode(&bytes[8..], &mut buffer).unwrap();
    assert_eq!(decoded.route, "ä".repeat(31), "a route that is too long is cut at a character");
}

/// Every bit of the file, header, records and seal: a record is read as it was written, or it is reported.
#[test]
fn one_flipped_bit_never_gives_a_wrong_record() {
    let disk = super::TapeDisk::new();
    let samples: Vec<Sample> = (1..=3).map(Sample::of).collect();
    let (journal, writers) = open(&disk, 1);
    samples.iter().for_each(|sample| pass(&writers[0], sample));
    let whole = journal.next_cut(u32::MAX).unwrap();
    let path = disk.segments().remove(0);
    let image = disk.killed_at(disk.steps());
    for bit in 0..(whole.to as usize + 8) * 8 {
        let disk = image.killed_at(image.steps());
        disk.flip_bit(&path, bit);
        let Ok((journal, _writers)) = Journal::open_on(
            std::sync::Arc::new(disk),
            std::path::Path::new("data"),
            &settings(),
            1,
            TILL,
            now(),
        ) else {
            panic!("bit {bit}: a damaged segment is no reason not to start");
        };
        check_flipped(&journal, whole, &samples, bit);
    }
}

fn check_flipped(journal: &Journal, whole: Cut, samples: &[Sample], bit: usize) {
    let cut = journal.next_cut(u32::MAX).unwrap();
    let (found, damaged) = read(journal, &cut);
    let at = bit / 8;
    let flipped = at.checked_sub(HEADER_BYTES).map(|at| at / 128).filter(|_| at < whole.to as usize);
    let expected: Vec<&Sample> =
        samples.iter().enumerate().filter(|(n, _)| Some(*n) != flipped).map(|(_, it)| it).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected, "bit {bit}");
    let recovery = journal.recovery();
    let is_told = match flipped {
        Some(_) => damaged > 0 || recovery.damaged_bytes > 0,
        None if at < HEADER_BYTES => recovery.headers_damaged == 1,
        None => true,
    };
    assert!(is_told, "bit {bit}: {recovery:?}, {damaged}");
}
