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
        let new = NewSetting { value: json!(value), is_encrypted: None, if_version: None };
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
