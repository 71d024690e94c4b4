//! Secrets: how keys and tokens look, when they are genuine, and what is kept of them.
//!
//! Knows no store, no tenant and no network. The text of a key exists at two moments only: when it is made and
//! when a caller sends it; everything in between is a [`KeyDigest`](hash::KeyDigest), which is useless without
//! the [`Pepper`](hash::Pepper) that never enters the database.

pub mod archive;
pub mod checkpoint;
pub mod ed25519;
pub mod hash;
pub mod hex;
pub mod jwt;
pub mod password;
pub mod seal;
pub mod sign;
pub mod stripe;
pub mod totp;
