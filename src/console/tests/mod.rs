//! The console through its door: the real router over a real SQLite file, one claim per test.

mod assets;
mod billing;
mod brand;
mod keys;
mod live;
mod log_in;
mod pages;
mod parsed;
mod people;
mod quotas;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tower::ServiceExt;
use uuid::Uuid;

use crate::clock::TestClock;
use crate::control::{Control, NewInvitation, NewTenant, Person, Principal, TenantRef};
use crate::domain::{Actor, Role, Tenant};
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::testing::TestStore;

pub(super) const PASSWORD: &str = "correct horse battery";

/// A console on a directory of its own.
pub(super) struct TestConsole {
    router: Router,
    pub(super) control: Control,
    pub(super) clock: TestClock,
    pub(super) store: TestStore,
}

/// Somebody's browser without scripts: it keeps cookies and sends forms.
pub(super) struct Browser<'a> {
    console: &'a TestConsole,
    cookies: Vec<(String, String)>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl TestConsole {
    pub(super) async fn new() -> TestConsole {
        let store = TestStore::sqlite().await;
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let pepper = Pepper::new(1, &[7; 32]);
        let ring = KeyRing::parse([(1, "07".repeat(32).as_str())]).unwrap();
        let control =
            Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), Arc::new(Notify::new()));
        let control = control.with_secrets(ring);
        let router = super::router(control.clone(), Arc::new(clock.clone()), super::Process::default());
        TestConsole { router, control, clock, store }
    }

    /// What the machine itself may do.
    pub(super) fn machine() -> Principal {
        Principal::platform(Actor::system("test"), Uuid::nil())
    }

    pub(super) async fn tenant(&self, name: &str, tier: &str) -> Tenant {
        let new = NewTenant { name: name.to_owned(), tier: Some(tier.to_owned()), ..NewTenant::default() };
        self.control.create_tenant(&TestConsole::machine(), new).await.unwrap()
    }

    /// Somebody who is in that role in that tenant, logged in.
    pub(super) async fn member(&self, tenant: &Tenant, email: &str, role: &str) -> Browser<'_> {
        let new = NewInvitation { email: email.to_owned(), role: role.to_owned(), valid_for: None };
        let by_id = TenantRef::Id(tenant.id);
        let invited = self.control.invite(&TestConsole::machine(), &by_id, &new).await.unwrap();
        self.control.accept_invitation(&nobody(), &invited.token, PASSWORD).await.unwrap();
        self.logged_in(email).await
    }

    /// One of the platform's people, logged in.
    pub(super) async fn owner(&self, email: &str) -> Browser<'_> {
        let machine = TestConsole::machine();
        let made = self.control.set_platform_role(&machine, email, Some(Role::PlatformOwner)).await.unwrap();
        self.control.set_password_by_token(&nobody(), &made.token.unwrap(), PASSWORD).await.unwrap();
        self.logged_in(email).await
    }

    pub(super) fn browser(&self) -> Browser<'_> {
        Browser { console: self, cookies: Vec::new() }
    }

    async fn logged_in(&self, email: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.post("/console/log-in", &[("email", email), ("password", PASSWORD)]).await;
        answer.leads_to("/console/");
        browser
    }
}

impl Browser<'_> {
    pub(super) async fn get(&mut self, address: &str) -> Answer {
        self.send(Request::get(address), Body::empty()).await
    }

    /// A page that is there.
    pub(super) async fn page(&mut self, address: &str) -> Answer {
        let answer = self.get(address).await;
        assert_eq!(answer.status, StatusCode::OK, "{address}: {}", answer.text);
        answer
    }

    /// A form that some page has shown.
    pub(super) async fn post(&mut self, address: &str, fields: &[(&str, &str)]) -> Answer {
        let body = encoded(fields);
        let request = Request::post(address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(request, Body::from(body)).await
    }

    /// The same with the token that is in every form of that page.
    pub(super) async fn submit(&mut self, page: &str, address: &str, fields: &[(&str, &str)]) -> Answer {
        let shown = self.page(page).await;
        let csrf = shown.value_of("csrf");
        let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(fields.iter().copied()).collect();
        self.post(address, &fields).await
    }

    /// An answer that is read as it comes.
    pub(super) async fn stream(&self, address: &str) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(address).header(header::COOKIE, cookies.join("; "));
        self.console.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    pub(super) async fn send(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header(header::COOKIE, cookies.join("; ")).body(body).unwrap();
        let response = self.console.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        for line in parts.headers.get_all(header::SET_COOKIE) {
            self.keep(line.to_str().unwrap());
        }
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    fn keep(&mut self, line: &str) {
        let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
        self.cookies.retain(|(known, _)| known != name);
        if !line.contains("Max-Age=0") {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[track_caller]
    pub(super) fn leads_to(&self, address: &str) {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text);
        assert_eq!(self.header("location"), address);
    }

    #[track_caller]
    pub(super) fn shows(&self, text: &str) -> &Self {
        assert!(self.text.contains(text), "no {text:?} in {}", self.text);
        self
    }
}

fn nobody() -> Person {
    Person { ip: None, user_agent: None, correlation: Uuid::nil() }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", super::session::form_encoded(value)))
        .collect();
    pairs.join("&")
}
