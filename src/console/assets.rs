//! Scripts, the style sheet and the icon: part of the program, sent compressed, kept by browsers for good.
//!
//! An address holds a hash of the contents, so that what a browser keeps is never older than the page that asks for it.
//! `htmx.js` is htmx 2.0.11 (0BSD) as it was published; a test compares its SHA-256.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use crate::secret::hex;

pub(super) struct Asset {
    pub(super) name: &'static str,
    kind: &'static str,
    pub(super) plain: &'static [u8],
    pub(super) compressed: Vec<u8>,
    hash: String,
    address: String,
}

/// Of the SHA-256, in an address: enough that no two versions are taken for one.
const HASH_DIGITS: usize = 16;

const FOREVER: &str = "public, max-age=31536000, immutable";
/// For an address of another version of the program, while a fleet is being renewed.
const ASK_AGAIN: &str = "no-cache";

pub(super) static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        Asset::new("console.css", "text/css; charset=utf-8", include_bytes!("assets/console.css")),
        Asset::new("htmx.js", "text/javascript; charset=utf-8", include_bytes!("assets/htmx.js")),
        Asset::new("live.js", "text/javascript; charset=utf-8", include_bytes!("assets/live.js")),
        Asset::new("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ]
});

/// Where pages find the asset of that name.
pub(super) fn address(name: &str) -> &'static str {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    debug_assert!(found.is_some(), "{name} is no asset");
    found.map_or("", |asset| &asset.address)
}

/// `GET /console/assets/{hash}/{name}`
pub(super) async fn show(
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let found = ASSETS.iter().find(|asset| asset.name == name);
    let asset = found.ok_or_else(|| Refusal::NotFound(format!("file {name}")))?;
    let keep = if hash == asset.hash { FOREVER } else { ASK_AGAIN };
    let about = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, keep),
        (header::VARY, "accept-encoding"),
    ];
    if takes_gzip(&headers) {
        let encoding = [(header::CONTENT_ENCODING, "gzip")];
        return Ok((about, encoding, &*asset.compressed).into_response());
    }
    Ok((about, asset.plain).into_response())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let mut codings = lines.flat_map(|line| line.split(','));
    codings.any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip")
            && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

// === impl Asset ===

impl Asset {
    fn new(name: &'static str, kind: &'static str, plain: &'static [u8]) -> Asset {
        let mut hash = hex::encoded(&Sha256::digest(plain));
        hash.truncate(HASH_DIGITS);
        let address = format!("/console/assets/{hash}/{name}");
        Asset { name, kind, plain, compressed: compressed(plain), hash, address }
    }
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory can't fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}
