//! Connections in: worker threads, accepting, TLS, buffers, deadlines, the strict HTTP/1 lane, and HTTP/2 as
//! many small HTTP/1 connections.
//!
//! Knows sockets and bytes; knows nothing of tenants, routes or quotas. What a request is let to do is decided in
//! `gateway`, which is handed an [`Accepted`] connection and reads its heads through [`http1`].

mod alarm;
mod buffer;
pub mod http1;
mod http2;
pub mod preamble;
mod stream;
mod tls;
mod worker;

pub use alarm::{Alarm, Alarms, Expired, TICK};
pub use buffer::{Buffer, Buffers};
pub use http2::{Answering, Asking, Http2Limits, Http2Sender, PREFACE, Requests, connect_http2, serve_http2};
pub use preamble::ProxyProtocol;
pub use stream::{Half, Stream, send};
pub use tls::{
    BadTls, CertificateSettings, Tls, TlsReady, TlsSettings, read_authorities, read_certificates, read_key,
};
pub use worker::{
    Accepted, Admittance, Entrance, Opened, Phase, Purpose, Seat, Service, WorkerParts, bind, spawn,
};
