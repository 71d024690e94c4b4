//! The field's own vectors: Wycheproof, and the examples of RFC 7515 and RFC 8037.

use serde_json::{Value, json};

use super::super::jws::Jws;
use super::super::{Algorithm, BadToken, KeySet, Token};
use super::rules::ALL;

const WYCHEPROOF: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/json_web_signature.json"));

/// Where we are stricter than the vectors' verdict `valid`. The first two have a `?` in a part, which a lenient
/// decoder skips. The others' keys say that they are for another algorithm than the token's: [`MISNAMED`].
const STRICTER: [u64; 6] = [372, 373, 346, 350, 347, 351];

/// Keys of RFC 7520 as the vectors have them, and the algorithm that the RFC's examples are signed in.
const MISNAMED: [(&str, &str, &[u64]); 2] =
    [("PS256", "PS384", &[346, 350]), ("ES521", "ES512", &[347, 351])];

/// To the byte the text of vector 357, which is `valid`: what made them `invalid` was lost.
const SAME_AS_357: [u64; 2] = [367, 370];

fn keys(key: &Value) -> Option<KeySet> {
    if key["kty"] == "oct" {
        use base64::Engine;
        let secret = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
        let named = Algorithm::named(key["alg"].as_str().unwrap()).unwrap();
        return Some(KeySet::of_secret(&secret, &[named]).unwrap());
    }
    KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes(), &ALL).ok()
}

fn is_verified(text: &str, keys: Option<&KeySet>) -> bool {
    let Some(keys) = keys else { return false };
    Jws::read(text.as_bytes()).is_ok_and(|jws| jws.verify(keys).is_ok())
}

#[test]
fn each_verdict_of_wycheproof_is_ours() {
    let groups: Vec<Value> = serde_json::from_str(WYCHEPROOF).unwrap();
    let (mut valid, mut invalid, mut stricter) = (0, 0, 0);
    let mut texts = std::collections::HashMap::new();
    for group in &groups {
        let keys = keys(&group["key"]);
        for test in group["tests"].as_array().unwrap() {
            let (id, text) = (test[0].as_u64().unwrap(), test[2].as_str().unwrap());
            texts.insert(id, text);
            let stated = test[1] == "valid";
            let verified = is_verified(text, keys.as_ref());
            if STRICTER.contains(&id) {
                assert!(stated && !verified, "{id}");
                stricter += 1;
            } else if SAME_AS_357.contains(&id) {
                assert_eq!((text, verified), (texts[&357], true), "{id}");
            } else {
                assert_eq!(verified, stated, "{id}: {text}");
                if stated { valid += 1 } else { invalid += 1 }
            }
        }
    }
    assert_eq!((valid, invalid, stricter, texts.len()), (40, 353, 6, 401));
}

#[test]
fn keys_of_wycheproof_that_name_another_algorithm_are_good_under_the_right_one() {
    let groups: Vec<Value> = serde_json::from_str(WYCHEPROOF).unwrap();
    for (wrong, right, ids) in MISNAMED {
        let of = |id: u64| groups.iter().find(|group| group["tests"][0][0] == id).expect("a group of one");
        for mut group in ids.iter().map(|id| of(*id).clone()) {
            assert_eq!(group["key"]["alg"], wrong);
            group["key"]["alg"] = right.into();
            assert!(is_verified(group["tests"][0][2].as_str().unwrap(), keys(&group["key"]).as_ref()));
        }
    }
}

/// None of them has claims as its payload.
#[test]
fn nothing_of_wycheproof_is_a_token() {
    let groups: Vec<Value> = serde_json::from_str(WYCHEPROOF).unwrap();
    for test in groups.iter().flat_map(|group| group["tests"].as_array().unwrap()) {
        assert!(Token::read(test[2].as_str().unwrap().as_bytes()).is_err(), "{}", test[0]);
    }
}

#[test]
fn the_examples_of_the_rfcs_are_verified() {
    const CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        // RFC 7515, appendix A.1.
        (
            json!({ "kty": "oct", "alg": "HS256", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" }),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ),
        // A.3.
        (
            json!({ "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" }),
            format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
        ),
        // RFC 8037, appendix A.4.
        (
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(),
        ),
    ];
    for (key, text) in &examples {
        assert!(is_verified(text, keys(key).as_ref()), "{text}");
        // A changed payload is not.
        let changed = text.replacen(".e", ".f", 1).replacen(".R", ".S", 1);
        assert!(changed != *text && !is_verified(&changed, keys(key).as_ref()), "{text}");
    }
    // A.5: no signature at all.
    let unsigned = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
    assert_eq!(Jws::read(unsigned.as_bytes()).err(), Some(BadToken::Algorithm));
}
