//! Records of the journal: what is decoded is encoded to something that is decoded alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::domain::UsageRecord;
use tollgate::journal::RECORD_BYTES_MAX;
use tollgate::journal::record::{Charges, decode, encode};

/// Where the payload begins, behind the header word.
const PAYLOAD: usize = 8;

fuzz_target!(|payload: &[u8]| {
    let (mut charges, mut charges_again) = (Charges::new(), Charges::new());
    let Some(record) = decode(payload, &mut charges) else { return };
    // The writer cuts a longer one.
    if record.route.len() > UsageRecord::ROUTE_LENGTH_MAX {
        return;
    }
    let mut buffer = [0; RECORD_BYTES_MAX];
    let length = encode(&record, &mut buffer);
    assert_eq!(decode(&buffer[PAYLOAD..length], &mut charges_again), Some(record));
});
