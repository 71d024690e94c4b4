use serde_json::json;

use super::TestConsole;
use crate::control::{NewSetting, NewTenant, TenantRef};

#[tokio::test]
async fn children_meet_the_console_under_the_name_and_in_the_color_of_their_reseller() {
    let console = TestConsole::new().await;
    let (machine, reseller) = (TestConsole::machine(), console.tenant("Umbrella", "msp").await);
    let above = TenantRef::Id(reseller.id);
    for (key, value) in [
        ("branding_name", "Umbrella <Cloud>"),
        ("branding_color", "#0A3D91"),
        ("branding_logo_url", "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="),
        ("support_url", "https://help.example.com/"),
    ] {
        let new = NewSetting { value: json!(value), is_encrypted: None };
        console.control.set_setting(&machine, &above, key, new).await.unwrap();
    }
    let child = NewTenant {
        name: "Small Shop".to_owned(),
        parent: Some(reseller.id.to_string()),
        ..NewTenant::default()
    };
    let child = console.control.create_tenant(&machine, child).await.unwrap();
    let mut ann = console.member(&child, "ann@example.com", "owner").await;
    let address = "/console/tenants/small-shop";
    let page = ann.page(address).await;
    page.is_a_good_page(address);
    for shown in ["Umbrella &#60;Cloud&#62;", "data:image/gif", "https://help.example.com/"] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    let style = "/console/brand/0a3d91.css";
    assert!(page.text.contains(style), "{}", page.text);
    let style = ann.page(style).await;
    assert_eq!(style.text, ":root { --brand: #0a3d91; --on-brand: #ffffff; }\n");
    assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
    for none in ["/console/brand/red.css", "/console/brand/0a3d91", "/console/brand/0a3d91;x.css"] {
        assert_eq!(ann.get(none).await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn who_is_sent_to_log_in_meets_the_tenants_brand_and_of_others_nothing() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    console.tenant("Globex", "pro").await;
    let new = NewSetting { value: json!("Acme Cloud"), is_encrypted: None };
    let (machine, named) = (TestConsole::machine(), TenantRef::Id(acme.id));
    console.control.set_setting(&machine, &named, "branding_name", new).await.unwrap();
    let mut browser = console.browser();
    for address in ["?tenant=acme", "?next=/console/tenants/acme/keys%3Fa=b", "?next=/console/tenants/acme"] {
        let page = browser.page(&format!("/console/log-in{address}")).await;
        page.shows("Acme Cloud").is_a_good_page(address);
    }
    let wrong = [("email", "ann@example.com"), ("password", "wrong wrong wrong"), ("tenant", "acme")];
    browser.post("/console/log-in", &wrong).await.shows("Acme Cloud");
    // A tenant without a brand and one that is not there look the same.
    let is_there = browser.page("/console/log-in?tenant=globex").await.text;
    let is_not = browser.page("/console/log-in?tenant=nobody").await.text;
    assert_eq!(is_there.replace("globex", "x"), is_not.replace("nobody", "x"));
    browser.page("/console/log-in?tenant=%3Cscript%3E").await.is_a_good_page("/console/log-in");
}
