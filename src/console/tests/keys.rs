use axum::http::StatusCode;

use super::TestConsole;
use crate::control::TenantRef;
use crate::domain::ApiKey;
use crate::store::Page;

const KEYS: &str = "/console/tenants/acme/keys";
const NEW: &str = "/console/tenants/acme/keys/new";

async fn keys(console: &TestConsole) -> Vec<ApiKey> {
    let acme: TenantRef = "acme".parse().unwrap();
    console.control.keys(&TestConsole::machine(), &acme, &Page::default()).await.unwrap().items
}

/// The secret on the page that shows it.
fn secret(text: &str) -> String {
    let (_, rest) = text.split_once("id=\"secret\">").unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_key_is_shown_once_changed_exchanged_and_revoked() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut ann = console.member(&acme, "ann@example.com", "developer").await;
    let wrong = ann.submit(NEW, NEW, &[("name", "ci"), ("networks", "here"), ("expires_at", "soon")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.shows("`here` is no network").shows("A day like").is_a_good_page(NEW);
    let made = ann.submit(NEW, NEW, &[("name", "ci"), ("networks", "203.0.113.0/24, 198.51.100.7")]).await;
    assert_eq!(made.status, StatusCode::CREATED);
    made.is_a_good_page(NEW);
    let text = secret(&made.text);
    assert!(text.starts_with("tg_live_"), "{text}");
    let list = ann.page(KEYS).await;
    list.shows("ci").shows("Works").is_a_good_page(KEYS);
    assert!(!list.text.contains(&text));

    let key = keys(&console).await.remove(0);
    assert_eq!(key.limits.networks.len(), 2);
    let address = format!("{KEYS}/{}", key.id);
    let page = ann.page(&address).await;
    page.is_a_good_page(&address);
    assert!(!page.text.contains(&text));
    let change = [("name", "build"), ("version", &*page.value_of("version"))];
    ann.submit(&address, &address, &change).await.leads_to(KEYS);
    let key = keys(&console).await.remove(0);
    assert_eq!((key.name.as_str(), key.enabled), ("build", false), "the box was not checked");
    ann.submit(&address, &address, &change).await.shows("Somebody has changed it meanwhile");
    let on = [("name", "build"), ("enabled", "yes"), ("version", &*key.version.to_string())];
    ann.submit(&address, &address, &on).await.leads_to(KEYS);

    let next = ann.submit(&address, &format!("{address}/rotate"), &[("grace", "86400")]).await;
    assert_eq!(next.status, StatusCode::CREATED);
    assert_ne!(secret(&next.text), text);
    let revoke = format!("{address}/revoke");
    let unsure = ann.submit(&address, &revoke, &[]).await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    ann.submit(&address, &revoke, &[("confirm", "yes")]).await.leads_to(KEYS);
    ann.page(KEYS).await.shows("Revoked");
}

#[tokio::test]
async fn a_key_of_another_tenant_is_nobodys() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let globex = console.tenant("Globex", "pro").await;
    console.member(&acme, "ann@example.com", "owner").await.submit(NEW, NEW, &[("name", "ci")]).await;
    let key = keys(&console).await.remove(0);
    let mut bob = console.member(&globex, "bob@example.com", "owner").await;
    let own = "/console/tenants/globex/keys";
    for address in [format!("{own}/{}", key.id), format!("{KEYS}/{}", key.id), format!("{own}/none")] {
        assert_eq!(bob.get(&address).await.status, StatusCode::NOT_FOUND, "{address}");
        let revoke = bob.submit(own, &format!("{address}/revoke"), &[("confirm", "yes")]).await;
        assert_eq!(revoke.status, StatusCode::NOT_FOUND, "{address}");
    }
    assert!(keys(&console).await.remove(0).revoked_at.is_none());
}
