use axum::body::Body;
use axum::http::{Request, StatusCode};
use sha2::{Digest, Sha256};

use super::TestConsole;
use crate::console::assets::ASSETS;
use crate::secret::hex;

/// What others have written is what they have published.
const VENDORED: [(&str, &str); 1] =
    [("htmx.js", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717")];

#[test]
fn what_others_have_written_is_unchanged() {
    for (name, published) in VENDORED {
        let asset = ASSETS.iter().find(|asset| asset.name == name).unwrap();
        assert_eq!(hex::encoded(&Sha256::digest(asset.plain)), published, "{name}");
    }
}

#[tokio::test]
async fn the_first_load_is_below_100_kilobytes() {
    let console = TestConsole::new().await;
    let page = console.browser().page("/console/log-in").await.text.len();
    let rest: usize = ASSETS.iter().map(|asset| asset.compressed.len()).sum();
    assert!(page + rest < 100_000, "{page} bytes of HTML, {rest} of the rest");
}

#[tokio::test]
async fn assets_travel_compressed_and_are_kept_for_good() {
    let console = TestConsole::new().await;
    let mut browser = console.browser();
    let address = crate::console::assets::address("console.css");
    let plain = browser.page(address).await;
    assert_eq!(plain.header("content-type"), "text/css; charset=utf-8");
    assert!(plain.header("cache-control").ends_with("immutable"));
    let asked = Request::get(address).header("accept-encoding", "br, gzip;q=0.9");
    let packed = browser.send(asked, Body::empty()).await;
    assert_eq!((packed.status, packed.header("content-encoding")), (StatusCode::OK, "gzip"));
    let refused = Request::get(address).header("accept-encoding", "gzip;q=0");
    assert_eq!(browser.send(refused, Body::empty()).await.header("content-encoding"), "");
    let other = browser.page("/console/assets/0000000000000000/console.css").await;
    assert_eq!(other.header("cache-control"), "no-cache");
    assert_eq!(browser.get("/console/assets/0/none.js").await.status, StatusCode::NOT_FOUND);
}
