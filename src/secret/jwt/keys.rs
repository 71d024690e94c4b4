//! The keys of one issuer (JWK sets, RFC 7517), narrowed to the algorithms that are accepted of it.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::json;

/// Keys by which an issuer's tokens are verified.
pub struct KeySet(Vec<Key>);

/// One key in one algorithm: a key that may serve two is there twice.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

/// What a key's owner published of it.
struct Described<'d> {
    members: &'d Map<String, Value>,
}

/// Why nothing can be verified with these keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadKeys {
    #[error("this is no JWK set: an object with a list `keys` is expected, with no member twice")]
    Malformed,
    #[error("the set has more than {} keys", KeySet::KEYS_MAX)]
    TooMany,
    #[error(
        "none of the set's keys can verify a signature in an accepted algorithm (RSA keys need 2048 bits)"
    )]
    Unusable,
    #[error("{0:?} needs a secret of at least {1} bytes")]
    ShortSecret(Algorithm, usize),
}

// === impl KeySet ===

impl KeySet {
    /// Real sets have two to ten.
    pub const KEYS_MAX: usize = 64;

    /// Without a `kid` each key that fits has to be tried. More than these would make junk expensive.
    const TRIED_MAX: usize = 4;

    /// The usable keys of a JWK set. What it holds beside them (keys for encryption, of unknown kinds, too short, or
    /// for algorithms that are not `accepted`) is passed over, as RFC 7517 asks; secrets are never taken from a set.
    ///
    /// # Errors
    /// [`BadKeys`]
    pub fn parse(document: &[u8], accepted: &[Algorithm]) -> Result<KeySet, BadKeys> {
        let set = json::object(document).ok_or(BadKeys::Malformed)?;
        let Some(Value::Array(described)) = set.get("keys") else { return Err(BadKeys::Malformed) };
        if described.len() > KeySet::KEYS_MAX {
            return Err(BadKeys::TooMany);
        }
        let described = described.iter().filter_map(Value::as_object).map(|members| Described { members });
        let keys: Vec<Key> = described.flat_map(|key| key.keys(accepted)).collect();
        if keys.is_empty() { Err(BadKeys::Unusable) } else { Ok(KeySet(keys)) }
    }

    /// The one key of an issuer that signs with a secret.
    ///
    /// # Errors
    /// [`BadKeys::ShortSecret`]; [`BadKeys::Unusable`] if no accepted algorithm works with secrets.
    pub fn of_secret(secret: &[u8], accepted: &[Algorithm]) -> Result<KeySet, BadKeys> {
        let mut keys = Vec::new();
        for &algorithm in accepted {
            let Some((hash, length_min)) = algorithm.hmac() else { continue };
            if secret.len() < length_min {
                return Err(BadKeys::ShortSecret(algorithm, length_min));
            }
            let material = Material::Secret(Box::new(hmac::Key::new(hash, secret)));
            keys.push(Key { id: None, algorithm, material });
        }
        if keys.is_empty() { Err(BadKeys::Unusable) } else { Ok(KeySet(keys)) }
    }

    /// How many keys there are, each counted once per algorithm.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys in that algorithm made the signature; `None` if no key fits. A token that names no key
    /// is held to each that fits, a secret without a name to whatever names are used for it.
    pub(super) fn verifies(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let named = |key: &&Key| id.is_none() || key.is_secret() || key.id.as_deref() == id;
        let fits = self.0.iter().filter(|key| key.algorithm == algorithm).filter(named);
        let mut fits = fits.take(KeySet::TRIED_MAX).peekable();
        fits.peek()?;
        Some(fits.any(|key| key.verifies(message, signature)))
    }
}

/// Tells how many: secrets are not shown.
impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({} keys)", self.len())
    }
}

// === impl Key ===

impl Key {
    const fn is_secret(&self) -> bool {
        matches!(self.material, Material::Secret(_))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

// === impl Described ===

impl Described<'_> {
    /// RSA keys below can be broken; above, one verification costs more than a request.
    const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

    fn keys(&self, accepted: &[Algorithm]) -> Vec<Key> {
        if !self.is_for_signatures() {
            return Vec::new();
        }
        let id = self.text("kid").map(str::to_owned);
        let serves = accepted.iter().filter(|algorithm| self.allows(**algorithm));
        serves
            .filter_map(|&algorithm| {
                let material = Material::Public(self.material(algorithm)?);
                Some(Key { id: id.clone(), algorithm, material })
            })
            .collect()
    }

    fn is_for_signatures(&self) -> bool {
        let used = self.members.get("use").is_none_or(|used| used == "sig");
        let operations = self.members.get("key_ops");
        let verifies = |operations: &Vec<Value>| operations.iter().any(|operation| operation == "verify");
        used && operations.is_none_or(|operations| operations.as_array().is_some_and(verifies))
    }

    /// Whether the key's own `alg`, if it has one, is that.
    fn allows(&self, algorithm: Algorithm) -> bool {
        let own = self.members.get("alg");
        own.is_none_or(|own| own.as_str().and_then(Algorithm::named) == Some(algorithm))
    }

    /// The key in that algorithm, if it is of its kind.
    fn material(&self, algorithm: Algorithm) -> Option<ParsedPublicKey> {
        match self.text("kty")? {
            "RSA" => self.rsa(algorithm),
            "EC" => self.ecdsa(algorithm),
            "OKP" if algorithm == Algorithm::EdDSA => self.ed25519(),
            _ => None,
        }
    }

    fn rsa(&self, algorithm: Algorithm) -> Option<ParsedPublicKey> {
        let parameters = algorithm.rsa()?;
        // Some issuers write a sign byte before the number.
        let n = without_zeros(self.bytes("n")?);
        let e = without_zeros(self.bytes("e")?);
        let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
        if !Self::RSA_BITS.contains(&bits) || !is_sound_exponent(&e) {
            return None;
        }
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
    }

    fn ecdsa(&self, algorithm: Algorithm) -> Option<ParsedPublicKey> {
        let (curve, length, verification) = algorithm.ecdsa()?;
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        if self.text("crv")? != curve || x.len() != length || y.len() != length {
            return None;
        }
        // An uncompressed point (SEC 1, section 2.3.3). The library refuses one that is not on the curve.
        let point = [&[4], &x[..], &y[..]].concat();
        ParsedPublicKey::new(verification, point).ok()
    }

    fn ed25519(&self) -> Option<ParsedPublicKey> {
        let x = self.bytes("x").filter(|x| x.len() == 32)?;
        (self.text("crv")? == "Ed25519").then(|| ParsedPublicKey::new(&ED25519, x).ok())?
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        BASE64_URL_SAFE_NO_PAD.decode(self.text(name)?).ok()
    }
}

fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

/// Odd, and neither 1, which signs nothing, nor longer than anyone uses.
fn is_sound_exponent(e: &[u8]) -> bool {
    (1..=4).contains(&e.len()) && e != [1] && e.last().is_some_and(|last| last % 2 == 1)
}
