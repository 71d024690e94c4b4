//! Tokens and sets of keys from strangers, and claims that an issuer really signed.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use tollgate::clock::Timestamp;
use tollgate::secret::jwt::{Algorithm, Claim, Claims, KeySet, Rules, Token};

const SECRET: [u8; 32] = [7; 32];
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::of_secret(&SECRET, &[Algorithm::HS256]).expect("a secret that is long enough"));

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules {
    issuer: "https://login.test/".to_owned(),
    audiences: vec!["orders".to_owned()],
    leeway: Duration::from_secs(60),
    tenant: Claim::new("tenant_id"),
    subject: Claim::new("sub"),
    scopes: Claim::new("scope"),
    tier: Some(Claim::new("/plan/tier")),
});

fuzz_target!(|bytes: &[u8]| {
    let _ = KeySet::parse(bytes, &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
    if let Ok(token) = Token::read(bytes) {
        assert!(bytes.len() <= Token::LENGTH_MAX && Token::is_shaped_like_one(bytes));
        let _ = RULES.check(&token, &KEYS, NOW);
    }
    let signed = signed(bytes);
    let claims = Token::read(signed.as_bytes()).and_then(|token| RULES.check(&token, &KEYS, NOW));
    if let Ok(claims) = claims {
        look_at(&claims);
    }
});

fn look_at(claims: &Claims) {
    let is_text = |text: &String, length_max| (1..=length_max).contains(&text.len());
    assert!(is_text(&claims.tenant, 128));
    assert!(claims.tier.iter().all(|tier| is_text(tier, 128)));
    assert!(claims.subject.iter().all(|subject| is_text(subject, 256)));
    let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(claims.scopes.iter().all(is_scope));
    assert!(claims.expires_at > NOW);
}

fn signed(claims: &[u8]) -> String {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encoded(br#"{"alg":"HS256"}"#), encoded(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), message.as_bytes());
    format!("{message}.{}", encoded(signature.as_ref()))
}
