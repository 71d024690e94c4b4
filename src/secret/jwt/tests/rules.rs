//! What makes a token good, and what makes it bad.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Algorithm, BadKeys, BadToken, Claim, Claims, KeySet, Rules, Token};
use super::signer::{Signer, encoded};
use crate::clock::Timestamp;

pub(super) const ALL: [Algorithm; 10] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::ES512,
    Algorithm::EdDSA,
];
const SECRETS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

const NOW: i64 = 1_800_000_000;

fn rules() -> Rules {
    Rules {
        issuer: "https://login.example.com/".to_owned(),
        audiences: vec!["orders".to_owned(), "billing".to_owned()],
        leeway: Duration::from_secs(60),
        tenant: Claim::new("tenant_id"),
        subject: Claim::new("sub"),
        scopes: Claim::new("scope"),
        tier: None,
    }
}

/// Good claims, changed by what `change` has: `null` takes a claim away.
fn claims(change: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://login.example.com/", "aud": "orders", "exp": NOW + 300, "iat": NOW - 1,
        "tenant_id": "acme", "sub": "auth0|42", "scope": "orders:read orders:write",
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        }
    }
    claims
}

fn check_text(text: &str, keys: &KeySet, rules: &Rules) -> Result<Claims, BadToken> {
    rules.check(&Token::read(text.as_bytes())?, keys, Timestamp::from_seconds(NOW))
}

/// The verdict on good claims with a change.
fn check(change: Value) -> Result<Claims, BadToken> {
    check_by(change, &rules())
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better without a borrow")]
fn check_by(change: Value, rules: &Rules) -> Result<Claims, BadToken> {
    let signer = Signer::new(Algorithm::EdDSA);
    check_text(&signer.token(&claims(&change)), &signer.keys(), rules)
}

#[test]
fn a_token_of_each_algorithm_is_verified_and_only_with_its_own_key_and_algorithm() {
    let signers: Vec<Signer> = ALL.into_iter().chain(SECRETS).map(Signer::new).collect();
    for signer in &signers {
        let text = signer.token(&claims(&json!({})));
        for other in &signers {
            let verdict = check_text(&text, &other.keys(), &rules());
            let is_own = signer.algorithm() == other.algorithm();
            assert_eq!(verdict.is_ok(), is_own, "{:?} by {:?}", signer.algorithm(), other.algorithm());
        }
    }
    let [signer, stranger] = [Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256)];
    assert!(check_text(&signer.token(&claims(&json!({}))), &stranger.keys(), &rules()).is_err());
}

#[test]
fn what_a_good_token_claims_is_told() {
    let claims = check(json!({})).unwrap();
    assert_eq!(
        claims,
        Claims {
            tenant: "acme".to_owned(),
            subject: Some("auth0|42".to_owned()),
            scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
            tier: None,
            expires_at: Timestamp::from_seconds(NOW + 360),
        }
    );
    assert_eq!(check(json!({ "scope": ["a", "b"] })).unwrap().scopes, ["a", "b"]);
    assert_eq!(check(json!({ "scope": null, "sub": null })).unwrap().scopes, [""; 0]);
}

#[test]
fn claims_are_found_by_name_or_by_pointer() {
    let change = json!({
        "https://example.com/tenant": "by-url", "org": { "a/b": ["x", "by-pointer"] }, "plan": "pro",
    });
    for (path, tenant) in
        [("https://example.com/tenant", "by-url"), ("/org/a~1b/1", "by-pointer"), ("/tenant_id", "acme")]
    {
        let tier = Some(Claim::new("plan"));
        let found = check_by(change.clone(), &Rules { tenant: Claim::new(path), tier, ..rules() }).unwrap();
        assert_eq!((&*found.tenant, found.tier.as_deref()), (tenant, Some("pro")), "{path}");
    }
    for path in ["org", "/org", "/org/a~1b/2", "nobody"] {
        let verdict = check_by(change.clone(), &Rules { tenant: Claim::new(path), ..rules() });
        assert_eq!(verdict, Err(BadToken::Claim), "{path}");
    }
}

#[test]
fn issuer_and_audience_are_ours_to_the_character() {
    for (change, verdict) in [
        (json!({ "iss": "https://login.example.com" }), BadToken::Issuer),
        (json!({ "iss": ["https://login.example.com/"] }), BadToken::Issuer),
        (json!({ "iss": null }), BadToken::Issuer),
        (json!({ "aud": null }), BadToken::Audience),
        (json!({ "aud": "order" }), BadToken::Audience),
        (json!({ "aud": "Orders" }), BadToken::Audience),
        (json!({ "aud": [] }), BadToken::Audience),
        (json!({ "aud": ["x"] }), BadToken::Audience),
        (json!({ "aud": ["orders", 1] }), BadToken::Audience),
        (json!({ "aud": { "orders": true } }), BadToken::Audience),
    ] {
        assert_eq!(check(change.clone()), Err(verdict), "{change}");
    }
    for aud in [json!(["x", "orders"]), json!("billing")] {
        assert!(check(json!({ "aud": aud })).is_ok(), "{aud}");
    }
}

#[test]
fn a_token_has_its_time_with_some_leeway() {
    for (change, verdict) in [
        (json!({ "exp": NOW - 59 }), None),
        (json!({ "exp": 1_799_999_940.5 }), None),
        (json!({ "exp": NOW - 60 }), Some(BadToken::Expired)),
        (json!({ "exp": 0 }), Some(BadToken::Expired)),
        (json!({ "exp": 1e300 }), None),
        (json!({ "exp": null }), Some(BadToken::Claim)),
        (json!({ "exp": -1 }), Some(BadToken::Claim)),
        (json!({ "exp": "1800000300" }), Some(BadToken::Claim)),
        (json!({ "exp": [NOW + 300] }), Some(BadToken::Claim)),
        (json!({ "nbf": NOW + 60 }), None),
        (json!({ "nbf": NOW + 61 }), Some(BadToken::Early)),
        (json!({ "nbf": "soon" }), Some(BadToken::Claim)),
        (json!({ "iat": NOW + 60 }), None),
        (json!({ "iat": NOW + 61 }), Some(BadToken::Early)),
        (json!({ "iat": null }), None),
    ] {
        assert_eq!(check(change.clone()).err(), verdict, "{change}");
    }
}

#[test]
fn claims_of_a_wrong_form_are_refused() {
    for change in [
        json!({ "tenant_id": null }),
        json!({ "tenant_id": "" }),
        json!({ "tenant_id": 42 }),
        json!({ "tenant_id": ["acme"] }),
        json!({ "tenant_id": "x".repeat(129) }),
        json!({ "sub": "" }),
        json!({ "sub": 42 }),
        json!({ "sub": "x".repeat(257) }),
        json!({ "scope": 1 }),
        json!({ "scope": "a\tb" }),
        json!({ "scope": "a\r\nx-tenant-id: b" }),
        json!({ "scope": "\"a\"" }),
        json!({ "scope": ["a b"] }),
        json!({ "scope": ["a", 1] }),
        json!({ "scope": [""] }),
    ] {
        assert_eq!(check(change.clone()), Err(BadToken::Claim), "{change}");
    }
}

#[test]
fn a_header_that_wants_more_than_we_know_is_refused_and_its_keys_are_not_looked_at() {
    let signer = Signer::new(Algorithm::EdDSA);
    let stranger = Signer::new(Algorithm::EdDSA);
    let good = claims(&json!({})).to_string();
    let verdict =
        |header: Value| check_text(&signer.signed(&header.to_string(), &good), &signer.keys(), &rules());
    for (header, expected) in [
        (json!({ "alg": "EdDSA" }), None),
        (json!({ "alg": "Ed25519", "typ": "at+JWT" }), None),
        (json!({ "alg": "EdDSA", "typ": "application/at+jwt" }), None),
        (json!({ "alg": "EdDSA", "jku": "https://evil.example/jwks", "x5u": "https://evil.example" }), None),
        (json!({ "alg": "EdDSA", "typ": "logout+jwt" }), Some(BadToken::Type)),
        (json!({ "alg": "EdDSA", "typ": "dpop+jwt" }), Some(BadToken::Type)),
        (json!({ "alg": "EdDSA", "typ": 1 }), Some(BadToken::Malformed)),
        (json!({ "alg": "EdDSA", "kid": 1 }), Some(BadToken::Malformed)),
        (json!({ "alg": "EdDSA", "kid": "unknown" }), Some(BadToken::Key)),
        (json!({ "alg": "EdDSA", "crit": ["exp"], "exp": 1 }), Some(BadToken::Critical)),
        (json!({ "alg": "EdDSA", "crit": [] }), Some(BadToken::Critical)),
        (json!({ "alg": "EdDSA", "b64": false, "crit": ["b64"] }), Some(BadToken::Critical)),
        (json!({ "alg": "none" }), Some(BadToken::Algorithm)),
        (json!({ "alg": "eddsa" }), Some(BadToken::Algorithm)),
        (json!({ "alg": "RS1" }), Some(BadToken::Algorithm)),
        (json!({}), Some(BadToken::Algorithm)),
        (json!([]), Some(BadToken::Malformed)),
    ] {
        assert_eq!(verdict(header.clone()).err(), expected, "{header}");
    }
    let embedded = json!({ "alg": "EdDSA", "jwk": stranger.jwk() });
    let forged = stranger.signed(&embedded.to_string(), &good);
    assert_eq!(check_text(&forged, &signer.keys(), &rules()), Err(BadToken::Key));
}

#[test]
fn a_public_key_is_no_secret_and_a_set_has_none() {
    let rsa = Signer::new(Algorithm::RS256);
    let everything: Vec<Algorithm> = ALL.into_iter().chain(SECRETS).collect();
    let set = json!({ "keys": [rsa.jwk(), Signer::new(Algorithm::HS256).jwk()] }).to_string();
    let keys = KeySet::parse(set.as_bytes(), &everything).unwrap();
    // RS and PS, in three sizes each.
    assert_eq!(keys.len(), 6);
    for secret in [rsa.jwk()["n"].to_string().into_bytes(), set.into_bytes(), vec![7; 64]] {
        let forged = Signer::Secret(secret, Algorithm::HS256).token(&claims(&json!({})));
        assert_eq!(check_text(&forged, &keys, &rules()), Err(BadToken::Key));
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused_at_every_depth() {
    let signer = Signer::new(Algorithm::EdDSA);
    let good = claims(&json!({})).to_string();
    let header = r#"{"alg":"EdDSA"}"#;
    for (header, payload) in [
        (r#"{"alg":"EdDSA","alg":"EdDSA"}"#, good.clone()),
        (r#"{"alg":"EdDSA","x":{"a":1,"\u0061":2}}"#, good.clone()),
        (header, good.replacen('{', r#"{"tenant_id":"other","#, 1)),
        (header, good.replacen('{', r#"{"x":[{"a":1,"a":1}],"#, 1)),
        (header, format!("{good} x")),
        (header, format!("[{good}]")),
        (header, format!("\u{feff}{good}")),
        (header, "x".to_owned()),
        (header, String::new()),
    ] {
        let text = signer.signed(header, &payload);
        assert_eq!(
            check_text(&text, &signer.keys(), &rules()),
            Err(BadToken::Malformed),
            "{header} {payload}"
        );
    }
    let jwk = signer.jwk().to_string();
    let twice = format!(r#"{{"keys":[{}]}}"#, jwk.replacen('{', r#"{"kty":"OKP","#, 1));
    assert_eq!(KeySet::parse(twice.as_bytes(), &ALL).err(), Some(BadKeys::Malformed));
}

#[test]
fn a_text_that_could_be_read_two_ways_is_refused() {
    let signer = Signer::new(Algorithm::EdDSA);
    let good = signer.token(&claims(&json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    // 64 bytes leave four bits of the last letter unused.
    let mut stray = signature.to_owned();
    assert!(matches!(stray.pop(), Some('A' | 'Q' | 'g' | 'w')));
    for text in [
        format!("{header}.{payload}.{stray}B"),
        format!("{good}="),
        format!("{good}=="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{header}.{payload}"),
        format!("{header}.{}+/.{signature}", &payload[..payload.len() - 2]),
        format!("{}.{payload}.{signature}", encoded(b"\xff{}")),
        String::new(),
        "..".to_owned(),
    ] {
        assert_eq!(check_text(&text, &signer.keys(), &rules()), Err(BadToken::Malformed), "{text}");
    }
    assert!(check_text(&good, &signer.keys(), &rules()).is_ok());
    let empty = format!("{header}.{payload}.");
    assert_eq!(check_text(&empty, &signer.keys(), &rules()), Err(BadToken::Key));
}

#[test]
fn a_token_is_8_kib_at_most() {
    let signer = Signer::new(Algorithm::EdDSA);
    let of = |padding: usize| signer.token(&claims(&json!({ "x": "x".repeat(padding) })));
    let longest = (0..7000).rev().map(of).find(|token| token.len() <= Token::LENGTH_MAX).unwrap();
    assert!(longest.len() > Token::LENGTH_MAX - 4);
    assert!(check_text(&longest, &signer.keys(), &rules()).is_ok());
    let longer = of(7000);
    assert_eq!(check_text(&longer, &signer.keys(), &rules()), Err(BadToken::TooLong));
}

#[test]
fn a_key_serves_what_it_says_and_what_is_accepted_and_nothing_else() {
    let rsa = Signer::new(Algorithm::RS256);
    let with = |members: Value| {
        let mut jwk = rsa.jwk();
        jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        jwk
    };
    let keys = |jwk: Value| {
        KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes(), &ALL).map(|keys| keys.len())
    };
    assert_eq!(keys(with(json!({}))), Ok(6));
    assert_eq!(keys(with(json!({ "alg": "PS384", "use": "sig", "key_ops": ["verify"], "kid": "1" }))), Ok(1));
    for members in [
        json!({ "use": "enc" }),
        json!({ "key_ops": ["sign"] }),
        json!({ "key_ops": "verify" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "RSA-OAEP" }),
        json!({ "alg": 1 }),
        json!({ "kty": "oct" }),
        json!({ "kty": "rsa" }),
        json!({ "e": "AA" }),
        json!({ "e": "AQ" }),
        json!({ "e": "AQAA" }),
        json!({ "n": "AQAB" }),
        json!({ "n": "" }),
        // 2047 bits.
        json!({ "n": encoded(&[&[0x7f][..], &[0xff; 255]].concat()) }),
        json!({ "n": encoded(&[0xff; 1025]) }),
    ] {
        assert_eq!(keys(with(members.clone())), Err(BadKeys::Unusable), "{members}");
    }
    // A sign byte is no bit.
    let n = rsa.jwk()["n"].as_str().unwrap().to_owned();
    use base64::Engine;
    let n = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(n).unwrap();
    assert_eq!(keys(with(json!({ "n": encoded(&[&[0][..], &n].concat()) }))), Ok(6));

    let mut point = Signer::new(Algorithm::ES256).jwk();
    point["y"] = point["x"].clone();
    assert_eq!(keys(point), Err(BadKeys::Unusable), "no point of the curve");
    for document in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert_eq!(KeySet::parse(document.as_bytes(), &ALL).err(), Some(BadKeys::Malformed), "{document}");
    }
    let many = json!({ "keys": vec![json!({}); KeySet::KEYS_MAX + 1] }).to_string();
    assert_eq!(KeySet::parse(many.as_bytes(), &ALL).err(), Some(BadKeys::TooMany));
    assert_eq!(KeySet::of_secret(&[1; 31], &SECRETS).err(), Some(BadKeys::ShortSecret(Algorithm::HS256, 32)));
    assert_eq!(KeySet::of_secret(&[1; 64], &ALL).err(), Some(BadKeys::Unusable));
}

#[test]
fn a_kid_chooses_the_key_and_without_one_each_is_tried() {
    let signers = [Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256)];
    let named = signers.iter().zip(["a", "b"]).map(|(signer, kid)| {
        let mut jwk = signer.jwk();
        jwk["kid"] = kid.into();
        jwk
    });
    let set = json!({ "keys": named.collect::<Vec<_>>() }).to_string();
    let keys = KeySet::parse(set.as_bytes(), &[Algorithm::ES256]).unwrap();
    let good = claims(&json!({})).to_string();
    let verdict =
        |header: Value| check_text(&signers[1].signed(&header.to_string(), &good), &keys, &rules()).err();
    assert_eq!(verdict(json!({ "alg": "ES256", "kid": "b" })), None);
    assert_eq!(verdict(json!({ "alg": "ES256" })), None);
    assert_eq!(verdict(json!({ "alg": "ES256", "kid": "a" })), Some(BadToken::Signature));
    assert_eq!(verdict(json!({ "alg": "ES256", "kid": "c" })), Some(BadToken::Key));
    assert_eq!(verdict(json!({ "alg": "ES384", "kid": "b" })), Some(BadToken::Key));
}
