use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Call, Reply, TestApi};
use crate::clock::Clock;
use crate::control::SessionSettings;
use crate::secret::totp::TotpSecret;

const PASSWORD: &str = "correct horse battery";

/// What a browser keeps of a session.
pub(super) struct Browser {
    cookie: String,
    csrf: String,
}

impl TestApi {
    /// Somebody who is in that role in that tenant.
    pub(super) async fn member(&self, tenant: &str, email: &str, role: &str) {
        let invite = json!({ "email": email, "role": role });
        let invited = self.call(&format!("POST /api/tenants/{tenant}/members")).json(&invite).await;
        let accept =
            json!({ "token": invited.expect(StatusCode::CREATED).body["token"], "password": PASSWORD });
        let call = self.anonymous("POST /api/invitations/accept");
        call.json(&accept).await.expect(StatusCode::CREATED);
    }

    pub(super) async fn log_in(&self, email: &str) -> Browser {
        let body = json!({ "email": email, "password": PASSWORD });
        let reply = self.anonymous("POST /api/sessions").json(&body).await.expect(StatusCode::CREATED);
        Browser::of(&reply)
    }
}

impl Browser {
    fn of(reply: &Reply) -> Browser {
        let (cookie, _) = reply.header("set-cookie").split_once(';').unwrap();
        let csrf = reply.body["csrf_token"].as_str().unwrap().to_owned();
        Browser { cookie: cookie.to_owned(), csrf }
    }

    fn reads<'a>(&self, api: &'a TestApi, line: &str) -> Call<'a> {
        api.anonymous(line).header("cookie", &self.cookie)
    }

    pub(super) fn writes<'a>(&self, api: &'a TestApi, line: &str) -> Call<'a> {
        self.reads(api, line).header("x-csrf-token", &self.csrf)
    }
}

#[tokio::test]
async fn somebody_logs_in_sees_who_they_are_and_leaves() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.member("acme", "ann@example.com", "admin").await;
    let body = json!({ "email": "Ann@example.com", "password": PASSWORD });
    let reply = api.anonymous("POST /api/sessions").json(&body).await.expect(StatusCode::CREATED);
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("tollgate_session=tgs_"), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200"), "{cookie}");
    let ann = Browser::of(&reply);

    let me = ann.reads(&api, "GET /api/sessions/current").send().await.expect(StatusCode::OK).body;
    assert_eq!((&me["email"], &me["memberships"][0]["role"]), (&json!("ann@example.com"), &json!("admin")));
    assert!(me["permissions"].as_array().unwrap().contains(&json!("key.create")));
    let own = ann.reads(&api, "GET /api/tenants/current").send().await.expect(StatusCode::OK).body;
    assert_eq!(own["slug"], "acme");
    let key = ann.writes(&api, "POST /api/tenants/acme/keys").json(&json!({ "name": "ci" })).await;
    key.expect(StatusCode::CREATED);
    let sessions = ann.reads(&api, "GET /api/sessions").send().await.expect(StatusCode::OK).body;
    assert_eq!((&sessions["total"], &sessions["items"][0]["is_current"]), (&json!(1), &json!(true)));

    let left = ann.writes(&api, "DELETE /api/sessions/current").send().await.expect(StatusCode::NO_CONTENT);
    assert!(left.header("set-cookie").starts_with("tollgate_session=; "), "{}", left.header("set-cookie"));
    let gone = ann.reads(&api, "GET /api/sessions/current").send().await;
    gone.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
}

#[tokio::test]
async fn a_cookie_alone_reads_and_changes_nothing() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.member("acme", "ann@example.com", "owner").await;
    api.member("acme", "bob@example.com", "owner").await;
    let (ann, bob) = (api.log_in("ann@example.com").await, api.log_in("bob@example.com").await);
    ann.reads(&api, "GET /api/tenants/acme/keys").send().await.expect(StatusCode::OK);
    let new = json!({ "name": "ci" });
    for csrf in ["", "0", bob.csrf.as_str()] {
        let forged = ann.reads(&api, "POST /api/tenants/acme/keys").header("x-csrf-token", csrf);
        forged.json(&new).await.refused(StatusCode::FORBIDDEN, "csrf-token");
    }
    let forged = ann.reads(&api, "DELETE /api/sessions/current").send().await;
    forged.refused(StatusCode::FORBIDDEN, "csrf-token");
    let keys = ann.reads(&api, "GET /api/tenants/acme/keys").send().await.body;
    assert_eq!(keys["items"], json!([]));
}

#[tokio::test]
async fn whoever_belongs_to_two_tenants_is_in_each_what_they_are_there() {
    let api = TestApi::new().await;
    for tenant in ["Acme", "Other", "Third"] {
        api.tenant(tenant).await;
    }
    api.member("acme", "ann@example.com", "viewer").await;
    api.clock.advance(std::time::Duration::from_secs(1));
    api.member("other", "ann@example.com", "owner").await;
    let ann = api.log_in("ann@example.com").await;
    let new = json!({ "name": "ci" });
    let there = ann.writes(&api, "POST /api/tenants/other/keys").json(&new).await;
    let key = there.expect(StatusCode::CREATED).body["key_id"].as_str().unwrap().to_owned();
    let here = ann.writes(&api, "POST /api/tenants/acme/keys").json(&new).await;
    here.refused(StatusCode::FORBIDDEN, "forbidden");
    let third = ann.reads(&api, "GET /api/tenants/third").send().await;
    third.refused(StatusCode::NOT_FOUND, "not-found");
    let current = async |tenant: &str| {
        let call = ann.reads(&api, "GET /api/tenants/current").header("x-tenant-id", tenant);
        call.send().await.expect(StatusCode::OK).body["slug"].clone()
    };
    assert_eq!((current("other").await, current("acme").await), (json!("other"), json!("acme")));
    // An address without a tenant in it.
    let revoke = format!("POST /api/keys/{key}/revoke");
    ann.writes(&api, &revoke).send().await.refused(StatusCode::NOT_FOUND, "not-found");
    let named = ann.writes(&api, &revoke).header("x-tenant-id", "other");
    named.send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn wrong_credentials_are_one_refusal_and_a_missing_code_another() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.member("acme", "ann@example.com", "owner").await;
    let attempt = async |email: &str, password: &str, code: Option<&str>| {
        let mut body = json!({ "email": email, "password": password });
        if let Some(code) = code {
            body["code"] = code.into();
        }
        api.anonymous("POST /api/sessions").json(&body).await
    };
    let wrong = attempt("ann@example.com", "wrong", None).await;
    let nobody = attempt("nobody@example.com", PASSWORD, None).await;
    for reply in [&wrong, &nobody] {
        assert_eq!(reply.body["detail"], "the e-mail address, the password or the code is wrong");
        assert_eq!((reply.status, reply.header("set-cookie")), (StatusCode::UNAUTHORIZED, ""));
    }

    let ann = api.log_in("ann@example.com").await;
    let body = json!({ "password": PASSWORD });
    let made = ann.writes(&api, "POST /api/sessions/second-factor").json(&body).await;
    let made = made.expect(StatusCode::CREATED).body;
    assert!(made["url"].as_str().unwrap().starts_with("otpauth://totp/Tollgate:ann%40example.com?secret="));
    let secret = TotpSecret::parse(made["secret"].as_str().unwrap()).unwrap();
    let code = json!({ "code": secret.code_at(api.clock.now()) });
    let confirmed = ann.writes(&api, "POST /api/sessions/second-factor/confirm").json(&code).await;
    let recovery = confirmed.expect(StatusCode::OK).body["recovery_codes"].clone();
    let missing = attempt("ann@example.com", PASSWORD, None).await;
    missing.refused(StatusCode::UNAUTHORIZED, "second-factor-required");
    api.clock.advance(std::time::Duration::from_secs(60));
    let code = secret.code_at(api.clock.now());
    let shown = attempt("ann@example.com", PASSWORD, Some(&code)).await.expect(StatusCode::CREATED);
    assert_eq!(shown.body["is_multi_factor"], true);
    let remove = json!({ "password": PASSWORD, "code": recovery[0] });
    let removed = ann.writes(&api, "POST /api/sessions/second-factor/remove").json(&remove).await;
    removed.expect(StatusCode::NO_CONTENT);
    attempt("ann@example.com", PASSWORD, None).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn by_tls_the_cookie_is_for_tls_and_this_host_only() {
    let mut api = TestApi::new().await;
    api.tenant("Acme").await;
    api.member("acme", "ann@example.com", "owner").await;
    api.with_sessions(SessionSettings { is_secure: true, ..SessionSettings::default() });
    let body = json!({ "email": "ann@example.com", "password": PASSWORD });
    let reply = api.anonymous("POST /api/sessions").json(&body).await.expect(StatusCode::CREATED);
    let cookie = reply.header("set-cookie");
    assert!(cookie.starts_with("__Host-tollgate_session=tgs_") && cookie.ends_with("; Secure"), "{cookie}");
    let ann = Browser::of(&reply);
    ann.reads(&api, "GET /api/sessions/current").send().await.expect(StatusCode::OK);
}

#[tokio::test]
async fn what_only_a_session_has_is_no_keys_and_what_only_the_platform_ends_is_no_tenants() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    api.member("acme", "ann@example.com", "owner").await;
    let ann = api.log_in("ann@example.com").await;
    let of_key = api.call("GET /api/sessions/current").send().await;
    of_key.refused(StatusCode::FORBIDDEN, "forbidden");
    let me = ann.reads(&api, "GET /api/sessions/current").send().await.body;
    let line = format!("DELETE /api/users/{}/sessions", me["user_id"].as_str().unwrap());
    ann.writes(&api, &line).send().await.refused(StatusCode::FORBIDDEN, "forbidden");
    let ended = api.call(&line).send().await.expect(StatusCode::OK).body;
    assert_eq!(ended, json!({ "sessions": 1 }));
    let change = json!({ "password": PASSWORD, "new_password": "another long one" });
    let late = ann.writes(&api, "PUT /api/sessions/password").json(&change).await;
    late.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    let ann = api.log_in("ann@example.com").await;
    let changed = ann.writes(&api, "PUT /api/sessions/password").json(&change).await;
    assert_eq!(changed.expect(StatusCode::NO_CONTENT).body, Value::Null);
}
