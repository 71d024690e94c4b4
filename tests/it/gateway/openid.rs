//! Tokens of a real OpenID provider, which changes its keys and goes away.

use super::{gateway, route};
use crate::support::{OpenIdProvider, Response, StubUpstream, TestGateway};

#[test]
fn a_real_provider_issues_tokens_changes_its_key_and_goes_down() {
    let mut provider = OpenIdProvider::start("acme");
    let upstream = StubUpstream::start();
    let issuer = format!(
        "[[identity.jwt]]\nissuer = \"{}\"\naudiences = [\"orders\"]\nalgorithms = [\"RS256\"]\ndiscovery = true\n",
        provider.url()
    );
    let gateway = gateway(&upstream, &(issuer + &route("all", "/", "scopes = [\"orders:read\"]")));
    let customer = gateway.customer("Acme", "free");
    let before = provider.token();
    assert_eq!(with(&gateway, &before).status, 200);
    let lines = ["id", "subject", "scopes"]
        .map(|line| upstream.last().header(&format!("x-tenant-{line}")).map(str::to_owned));
    assert_eq!(lines, [Some(customer.tenant_id), Some("orders".into()), Some("orders:read".into())]);

    provider.rotate();
    let (after, unused) = (provider.token(), provider.token());
    assert_eq!(with(&gateway, &after).status, 200, "the new key is fetched for it");
    assert_eq!(with(&gateway, &before).status, 401, "its key was withdrawn");

    provider.stop();
    for token in [&after, &unused] {
        assert_eq!(with(&gateway, token).status, 200, "the last keys go on working");
    }
    assert_eq!(with(&gateway, &before).status, 401);
}

fn with(gateway: &TestGateway, token: &str) -> Response {
    let authorization = format!("authorization: Bearer {token}");
    gateway.client().request(&["GET / HTTP/1.1", "host: a", &authorization], b"")
}
