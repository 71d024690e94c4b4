//! Exports, as the API gives them.

use age::x25519;
use axum::http::StatusCode;
use serde_json::json;

use super::TestApi;
use crate::secret::archive::{ArchiveReader, Item, Unlock};

#[tokio::test]
async fn an_export_is_a_file_that_its_recipient_opens() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let identity = x25519::Identity::generate();
    let body = json!({ "recipient": identity.to_public().to_string() }).to_string();
    let line = "POST /api/tenants/acme/export";
    // An archive is made anew, whatever key a request is sent under.
    for _ in 0..2 {
        let call = api.call(line).header("idempotency-key", "one").with(&body);
        let (headers, bytes) = call.bytes_of().await;
        assert_eq!(headers["content-type"], "application/age");
        assert_eq!(headers["content-disposition"], "attachment; filename=\"acme.tollgate.age\"");
        assert_eq!(headers["content-length"], bytes.len().to_string().as_str());
        let (mut reader, header) =
            ArchiveReader::open(&bytes[..], &Unlock::Identity(identity.clone())).unwrap();
        assert_eq!(header["slug"], "acme");
        while !matches!(reader.read().unwrap(), Item::End(_)) {}
    }
}

#[tokio::test]
async fn an_export_needs_one_who_can_open_it() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    for (body, field) in [
        (json!({}), "recipient"),
        (json!({ "passphrase": "short" }), "passphrase"),
        (json!({ "recipient": "age1nobody" }), "recipient"),
        (json!({ "recipient": "age1nobody", "passphrase": "correct horse" }), "recipient"),
    ] {
        let reply = api.call("POST /api/tenants/acme/export").json(&body).await;
        let reply = reply.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid-fields");
        assert_eq!(reply.fields(), [field], "{body}");
    }
}
