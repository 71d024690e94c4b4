//! Who grants units: one behaviour, several homes. Knows tills only by their messages, except the embedded one,
//! which lives in the same process.

mod embedded;

pub use embedded::Embedded;
