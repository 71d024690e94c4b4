//! An issuer of tokens: its keys over HTTP, its description, and the tokens that it signs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::upstream::{Answer, StubUpstream};

/// An issuer with one key at a time, named `key-1`, `key-2` and so on.
pub(crate) struct StubIssuer {
    server: StubUpstream,
    state: Arc<Mutex<State>>,
}

struct State {
    number: u32,
    pair: Ed25519KeyPair,
    /// Instead of the keys.
    answer: Option<Answer>,
}

// === impl StubIssuer ===

impl StubIssuer {
    pub(crate) fn start() -> Self {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let state = Arc::new(Mutex::new(State { number: 1, pair, answer: None }));
        let server = StubUpstream::start();
        let (answering, url) = (state.clone(), server.url());
        server.answer(move |request| {
            let state = lock(&answering);
            if request.start.starts_with("GET /.well-known/openid-configuration ") {
                return Answer::ok(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }).to_string());
            }
            state.answer.clone().unwrap_or_else(|| Answer::ok(state.keys().to_string()))
        });
        StubIssuer { server, state }
    }

    /// Its name, and the address that it is reached at.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// An `[[identity.jwt]]` that trusts it, with its keys by discovery unless `more` says where they are.
    pub(crate) fn config(&self, more: &str) -> String {
        let keys = ["jwks", "secret", "discovery"].into_iter().any(|key| more.contains(key));
        let discovery = if keys { "" } else { "discovery = true\n" };
        format!(
            "[[identity.jwt]]\nissuer = \"{}\"\naudiences = [\"orders\"]\nalgorithms = [\"EdDSA\"]\n\
             {discovery}{more}\n",
            self.url()
        )
    }

    /// Signs with another key from now on, and publishes only that.
    pub(crate) fn rotate(&self) {
        let mut state = lock(&self.state);
        state.number += 1;
        state.pair = Ed25519KeyPair::generate().expect("a key");
    }

    /// Answers that, whenever it is asked for its keys; `None`: its keys.
    pub(crate) fn answer(&self, answer: Option<Answer>) {
        lock(&self.state).answer = answer;
    }

    /// How often it was asked for its keys.
    pub(crate) fn asked(&self) -> usize {
        let keys = |request: &&super::Recorded| request.start.starts_with("GET /keys");
        self.server.recorded().iter().filter(keys).count()
    }

    /// Its keys, as it publishes them.
    pub(crate) fn keys(&self) -> Value {
        lock(&self.state).keys()
    }

    /// A token of that tenant that is good for five minutes, with these claims beside or instead of its own; `null`
    /// takes one away.
    pub(crate) fn token(&self, tenant: &str, claims: &Value) -> String {
        let header = json!({ "alg": "EdDSA", "kid": lock(&self.state).kid(), "typ": "JWT" });
        self.signed(&header, &self.claims(tenant, claims))
    }

    /// The claims of such a token.
    pub(crate) fn claims(&self, tenant: &str, change: &Value) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.url(), "aud": "orders", "sub": "user-1", "tenant_id": tenant, "iat": now, "exp": now + 300,
        });
        for (name, value) in change.as_object().expect("an object of claims") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
        claims
    }

    pub(crate) fn signed(&self, header: &Value, claims: &Value) -> String {
        let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = lock(&self.state).pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

// === impl State ===

impl State {
    fn kid(&self) -> String {
        format!("key-{}", self.number)
    }

    fn keys(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": self.kid(), "x": x }] })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
