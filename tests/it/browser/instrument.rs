//! The browser itself: whether it notices what the other tests rely on it to notice.

use crate::support::{Answer, Finding, Profile, StubUpstream, TestGateway};

/// A site of one page, which greets whoever sends its form; `policy` is its content security policy.
fn site(policy: &'static str, page: &'static str) -> StubUpstream {
    StubUpstream::answering(move |request| {
        let body = match request.target().split_once("?name=") {
            Some((_, name)) => format!("<title>Hello</title><main>Hello {name}"),
            None => page.to_owned(),
        };
        let headers = [("content-type", "text/html"), ("content-security-policy", policy)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Answer::Whole { status: 200, headers: headers.to_vec(), body: body.into_bytes() }
    })
}

const FORM: &str = "<!doctype html><html lang=en><title>Form</title><main><h1>Form</h1>\
                    <form><label>Name <input name=name></label> <button>Send</button></form>\
                    <noscript>No scripts here</noscript>";

#[test]
fn a_form_is_filled_in_by_mouse_and_by_keyboard_and_sent_without_scripts() {
    let upstream = site("default-src 'none'", FORM);
    for profile in [Profile::new(), Profile::without_scripts()] {
        let tab = profile.tab(&upstream.url());
        tab.open("/");
        tab.fill("Name", "Ann");
        tab.press("Send");
        tab.sees("Hello Ann");

        tab.open("/");
        tab.tab_to("Name");
        tab.type_text("Bob");
        tab.leading_on(|| tab.key("Enter"));
        tab.sees("Hello Bob");
        tab.must_not_complain();
    }
    let tab = Profile::without_scripts().tab(&upstream.url());
    tab.open("/");
    tab.sees("No scripts here");
}

#[test]
fn what_a_page_may_not_do_and_what_is_wrong_with_it_is_noticed() {
    let inline = "<!doctype html><title>x</title><main style='color: #eee; background: #fff'><input>grey";
    let upstream = site("default-src 'none'; form-action 'self'", inline);
    let profile = Profile::new();
    let tab = profile.tab(&upstream.url());
    tab.open("/");
    let rules: Vec<_> = tab.findings().into_iter().filter(Finding::is_serious).collect();
    assert!(rules.iter().any(|finding| finding.rule == "label"), "{rules:#?}");
    let complained = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tab.must_not_complain()));
    assert!(complained.is_err(), "its style is inline");
}

#[test]
fn the_admin_address_describes_itself_to_a_browser() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let profile = Profile::new();
    let tab = profile.tab(&format!("http://{}", gateway.admin()));
    tab.open("/api/openapi.json");
    tab.sees("/api/tenants/{tenant}/quotas");
    tab.must_not_complain();
}
