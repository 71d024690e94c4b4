//! What black-box tests stand on: a real gateway, an upstream that keeps the books, a client of raw bytes.
//!
//! Nothing here knows the library. The gateway is the built binary in a directory of its own, on ports that the
//! system chose; upstream and client speak HTTP/1.1 by hand, so that they see and send what a library would hide.

mod browser;
mod callgrind;
mod client;
pub(crate) mod collectors;
mod disk;
mod fleet;
mod gateway;
mod http2;
mod issuer;
mod load;
mod peers;
mod postgres;
pub(crate) mod redis;
mod relay;
mod tls;
mod upstream;
mod wait;
mod wire;

pub(crate) use browser::{Finding, Profile, Tab, Theme};
pub(crate) use callgrind::{Cost, UNDER_CALLGRIND, counted, instructions_within};
pub(crate) use client::RawClient;
pub(crate) use disk::SmallDisk;
pub(crate) use fleet::Fleet;
pub(crate) use gateway::{Customer, Run, TestGateway, charging_all, tollgate, tollgate_with};
pub(crate) use http2::{Http2Client, Http2Frames, Http2Response, block};
pub(crate) use issuer::StubIssuer;
pub(crate) use load::{Tally, load, load_while};
pub(crate) use peers::{OpenIdProvider, node, peers, python};
pub(crate) use postgres::{PrivatePostgres, psql, psql_file, shared_postgres, shared_url, try_psql};
pub(crate) use relay::Relay;
pub(crate) use tls::{Issued, TestAuthority, TlsFront};
pub(crate) use upstream::{Answer, Gate, StubUpstream};
pub(crate) use wait::{PATIENCE, pass, until};
pub(crate) use wire::{Message, Recorded, Response};
