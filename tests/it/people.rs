//! People who administrate a running gateway: invited by the command line, logged in as a browser is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{OpenIdProvider, RawClient, Response, StubUpstream, TestGateway};

const PASSWORD: &str = "correct horse battery";

/// One request to the admin address, with these header lines.
fn ask(gateway: &TestGateway, line: &str, headers: &[&str], body: Option<&Value>) -> Response {
    let line = format!("{line} HTTP/1.1");
    let mut head = vec![line.as_str(), "host: admin.test", "connection: close"];
    head.extend(headers);
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head.push("content-type: application/json");
    }
    RawClient::connect(gateway.admin()).request(&head, body.as_bytes())
}

#[test]
fn somebody_who_was_invited_logs_in_and_makes_a_key_that_works_and_the_process_tells_nobody_a_secret() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    gateway.customer("Acme", "free");
    let invited = gateway.json(&["member", "invite", "acme", "ann@example.com", "--role", "developer"]);
    let accept = json!({ "token": invited["token"], "password": PASSWORD });
    assert_eq!(ask(&gateway, "POST /api/invitations/accept", &[], Some(&accept)).status, 201);
    let wrong = json!({ "email": "ann@example.com", "password": "a wrong guess" });
    assert_eq!(ask(&gateway, "POST /api/sessions", &[], Some(&wrong)).status, 401);

    let right = json!({ "email": "ann@example.com", "password": PASSWORD });
    let session = ask(&gateway, "POST /api/sessions", &[], Some(&right));
    assert_eq!(session.status, 201, "{}", session.text());
    let token =
        session.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
    let cookie = format!("cookie: {token}");
    let csrf = format!("x-csrf-token: {}", session.json()["csrf_token"].as_str().expect("a token"));

    let new = json!({ "name": "ci" });
    let forged = ask(&gateway, "POST /api/tenants/acme/keys", &[&cookie], Some(&new));
    assert_eq!(forged.problem().as_deref(), Some("/problems/csrf-token"));
    let made = ask(&gateway, "POST /api/tenants/acme/keys", &[&cookie, &csrf], Some(&new));
    let key = made.json()["key"].as_str().expect("the key's text").to_owned();
    assert_eq!(gateway.client().get("/", &key).status, 200);

    let audit = gateway.json(&["audit", "list", "acme", "--actor-kind", "user"]);
    let did: Vec<_> =
        audit["items"].as_array().expect("rows").iter().map(|row| row["action"].as_str()).collect();
    let expected = ["key.create", "session.create", "session.create", "member.join"];
    assert_eq!(did, expected.map(Some), "{audit:#}");
    assert_eq!(audit["items"][0]["actor"]["ip"], "127.0.0.1");
    for (outcome, count) in [("done", 1.0), ("refused", 1.0), ("throttled", 0.0)] {
        assert_eq!(gateway.metric("tollgate_logins_total", outcome), count, "{outcome}");
    }

    let members = gateway.json(&["member", "list", "acme"]);
    let id = members["items"][0]["user_id"].as_str().expect("an id").to_owned();
    assert!(gateway.tollgate(&["member", "remove", "acme", &id]).status.success());
    let gone = ask(&gateway, "GET /api/tenants/acme", &[&cookie], None);
    assert_eq!(gone.status, 404, "{}", gone.text());
    let (_, session) = token.split_once('=').expect("a name and a value");
    for secret in [PASSWORD, session, invited["token"].as_str().expect("a token"), &key] {
        assert!(!gateway.log().contains(secret), "a secret stands in the log");
        assert!(!audit.to_string().contains(secret), "a secret stands in the audit log");
    }
}

/// A browser with its cookies, host by host.
struct Browser<'g> {
    gateway: &'g TestGateway,
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// Where people reach the admin address: only the browser knows who that is.
const CONSOLE: &str = "http://console.test";

impl<'g> Browser<'g> {
    fn new(gateway: &'g TestGateway) -> Self {
        Browser { gateway, cookies: BTreeMap::new() }
    }

    /// One request, and where its answer leads to.
    fn visit(&mut self, method: &str, url: &str, form: &str) -> (Response, Option<String>) {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let address =
            if url.starts_with(CONSOLE) { self.gateway.admin() } else { host.parse().expect("an address") };
        let jar = self.cookies.entry(host.to_owned()).or_default();
        let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head = [
            format!("{method} {path} HTTP/1.1"),
            format!("host: {host}"),
            format!("cookie: {}", cookies.join("; ")),
            "content-type: application/x-www-form-urlencoded".to_owned(),
            "connection: close".to_owned(),
        ];
        let head: Vec<_> = head.iter().map(String::as_str).collect();
        let response = RawClient::connect(address).request(&head, form.as_bytes());
        for cookie in response.headers_named("set-cookie") {
            let (name, value) =
                cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            jar.insert(name.to_owned(), value.to_owned());
        }
        let location = response.header("location").map(|to| match to.starts_with('/') {
            true => format!("{scheme}://{host}{to}"),
            false => to.to_owned(),
        });
        (response, location)
    }

    /// Logs in at the provider by that name, and comes back: the address that the provider leads back to.
    fn vouched_for(&mut self, name: &str) -> String {
        let (begun, mut next) = self.visit("GET", &format!("{CONSOLE}/api/sessions/oidc"), "");
        assert_eq!(begun.status, 303, "{}", begun.text());
        for _ in 0..10 {
            let to = next.expect("somewhere to go");
            if to.starts_with(CONSOLE) {
                return to;
            }
            let asks = to.contains("/interaction/");
            let (method, form) = if asks {
                ("POST", format!("prompt=login&login={name}&password=any"))
            } else {
                ("GET", String::new())
            };
            (_, next) = self.visit(method, &to, &form);
        }
        panic!("the provider leads nowhere");
    }

    /// Who the session's cookie says that one is.
    fn session(&mut self) -> Value {
        let (current, _) = self.visit("GET", &format!("{CONSOLE}/api/sessions/current"), "");
        current.json()
    }
}

#[test]
fn a_real_provider_vouches_for_people_and_their_groups_say_what_they_are() {
    let provider = OpenIdProvider::start_for(&format!("{CONSOLE}/api/sessions/oidc/callback"));
    let oidc = format!(
        "[control]\nurl = \"{CONSOLE}\"\n[control.oidc]\nissuer = \"{}\"\nclient_id = \"console\"\n\
         client_secret = \"a secret of the console\"\nscopes = [\"openid\", \"email\", \"groups\"]\n\
         [[control.oidc.roles]]\ngroup = \"operators\"\nrole = \"platform_owner\"\n\
         [[control.oidc.roles]]\ngroup = \"acme-developers\"\ntenant = \"acme\"\nrole = \"developer\"\n",
        provider.url()
    );
    let gateway = TestGateway::start_with(&oidc);
    gateway.customer("Acme", "free");

    let mut ann = Browser::new(&gateway);
    let back = ann.vouched_for("ann");
    let (response, home) = ann.visit("GET", &back, "");
    assert_eq!((response.status, home.as_deref()), (303, Some("http://console.test/")), "{}", gateway.log());
    let me = ann.session();
    assert_eq!(
        (&me["email"], &me["memberships"][0]["role"]),
        (&json!("ann@example.com"), &json!("developer"))
    );
    let (again, _) = ann.visit("GET", &back, "");
    assert_eq!(again.status, 401, "a code is good once: {}", again.text());

    let mut eve = Browser::new(&gateway);
    let back = eve.vouched_for("eve");
    let (stolen, _) = Browser::new(&gateway).visit("GET", &back, "");
    assert_eq!(stolen.status, 401, "who did not begin does not end");
    let (response, _) = eve.visit("GET", &back.replace("state=", "state=x"), "");
    assert_eq!(response.status, 401, "the state is of no log-in");
    let (response, _) = eve.visit("GET", &back, "");
    assert_eq!((response.status, &eve.session()["platform_role"]), (303, &json!("platform_owner")));

    let mut bob = Browser::new(&gateway);
    let back = bob.vouched_for("bob");
    let (refused, _) = bob.visit("GET", &back, "");
    assert_eq!(refused.status, 401, "no group of his has a role: {}", refused.text());
    assert_eq!(gateway.metric("tollgate_logins_total", "done"), 2.0);
}
