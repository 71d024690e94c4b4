use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use super::{PASSWORD, TestConsole};

#[tokio::test]
async fn who_has_not_logged_in_is_sent_to_and_comes_back() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    console.member(&acme, "ann@example.com", "admin").await;
    let mut browser = console.browser();
    browser.get("/").await.leads_to("/console/");
    let sent = browser.get("/console/tenants/acme?a=b").await;
    sent.leads_to("/console/log-in?next=/console/tenants/acme%3Fa%3Db");
    let page = browser.page(sent.header("location")).await;
    page.shows(r#"name="next" value="/console/tenants/acme?a=b""#);
    let next = "/console/tenants/acme?a=b";
    let fields = [("email", "ann@example.com"), ("password", PASSWORD), ("next", next)];
    browser.post("/console/log-in", &fields).await.leads_to("/console/tenants/acme?a=b");
    browser.page("/console/tenants/acme?a=b").await.shows("ann@example.com");
    browser.get("/console/").await.leads_to("/console/tenants/acme");

    browser.submit("/console/tenants/acme", "/console/log-out", &[]).await.leads_to("/console/log-in");
    browser.page("/console/log-in").await.shows("You have logged out.");
    assert!(!browser.page("/console/log-in").await.text.contains("You have logged out."), "told once");
    assert_eq!(browser.get("/console/tenants/acme").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_refused_log_in_shows_the_form_again_without_the_password() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    console.member(&acme, "ann@example.com", "admin").await;
    let mut browser = console.browser();
    let fields = [("email", "ann@example.com"), ("password", "wrong wrong wrong")];
    let answer = browser.post("/console/log-in", &fields).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    answer.shows("The e-mail address, the password or the code is wrong.").shows("ann@example.com");
    assert!(!answer.text.contains("wrong wrong wrong"));
    answer.is_a_good_page("/console/log-in");
    assert_eq!(browser.get("/console/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_platforms_token_makes_the_first_owner() {
    let console = TestConsole::new().await;
    let token = console.control.ensure_platform_token(None).await.unwrap().unwrap();
    let mut browser = console.browser();
    let with = |token, password| [("token", token), ("email", "root@example.com"), ("password", password)];
    let wrong = browser.post("/console/first-log-in", &with("tgp_wrong", PASSWORD)).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    wrong.shows("This is not the platform’s token.");
    let short = browser.post("/console/first-log-in", &with(&token, "short")).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    short.is_a_good_page("/console/first-log-in");
    browser.post("/console/first-log-in", &with(&token, PASSWORD)).await.leads_to("/console/");
    browser.get("/console/").await.leads_to("/console/tenants");
    browser.page("/console/tenants").await.shows("root@example.com");

    // Who lost the password gets another one, and the old one is none any more.
    let other = "battery horse correct";
    console.browser().post("/console/first-log-in", &with(&token, other)).await.leads_to("/console/");
    let fields = [("email", "root@example.com"), ("password", PASSWORD)];
    assert_eq!(console.browser().post("/console/log-in", &fields).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_api_key_makes_nobody_an_owner() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let new = crate::control::NewKey {
        name: "ci".to_owned(),
        limits: crate::domain::KeyLimits { scopes: vec!["admin".to_owned()], ..Default::default() },
        ..crate::control::NewKey::default()
    };
    let by_id = crate::control::TenantRef::Id(acme.id);
    let key = console.control.create_key(&TestConsole::machine(), &by_id, new).await.unwrap();
    let fields = [("token", key.text.as_str()), ("email", "root@example.com"), ("password", PASSWORD)];
    let answer = console.browser().post("/console/first-log-in", &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_form_from_elsewhere_changes_nothing() {
    let console = TestConsole::new().await;
    let mut owner = console.owner("root@example.com").await;
    let csrf = owner.page("/console/tenants").await.value_of("csrf");
    for token in ["", "0"] {
        let answer = owner.post("/console/log-out", &[("csrf", token)]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token}");
    }
    let form = |name: &str, value: &str| {
        Request::post("/console/log-out")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::HOST, "console.example")
            .header(name, value)
    };
    let body = format!("csrf={csrf}");
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://elsewhere.example"),
        ("origin", "null"),
    ] {
        let answer = owner.send(form(name, value), Body::from(body.clone())).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    owner.page("/console/tenants").await;
    let answer = owner.send(form("origin", "https://console.example"), Body::from(body)).await;
    answer.leads_to("/console/log-in");
}

#[tokio::test]
async fn appearance_is_kept_without_a_script_and_comes_back_to_this_site_only() {
    let console = TestConsole::new().await;
    let mut browser = console.browser();
    browser.page("/console/log-in").await.shows(r#"data-theme="auto""#);
    let dark = [("theme", "dark"), ("next", "/console/log-in")];
    browser.post("/console/theme", &dark).await.leads_to("/console/log-in");
    browser.page("/console/log-in").await.shows(r#"data-theme="dark""#);
    let away = [("theme", "auto"), ("next", "https://elsewhere.example/")];
    browser.post("/console/theme", &away).await.leads_to("/console/");
    browser.page("/console/log-in").await.shows(r#"data-theme="auto""#);
}

#[tokio::test]
async fn whoever_lacks_a_second_factor_that_the_tenant_wants_is_led_to_set_it_up() {
    let console = TestConsole::new().await;
    let big = console.tenant("Big", "business").await;
    let mut ann = console.member(&big, "ann@example.com", "owner").await;
    for address in ["/console/tenants/big", "/console/tenants/big/keys"] {
        ann.get(address).await.leads_to("/console/account/second-factor?wanted=yes");
    }
    let page = ann.page("/console/account/second-factor?wanted=yes").await;
    page.shows("Your tenant lets in only who has one").shows("Set up a second factor");
    page.is_a_good_page("/console/account/second-factor");
    assert!(!ann.page("/console/account/second-factor").await.text.contains("lets in only"));
}
