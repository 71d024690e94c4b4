//! What a token claims, and the rules of its issuer that it is held to.

use std::time::Duration;

use serde_json::Value;

use super::BadToken;
use super::jws::Jws;
use super::keys::KeySet;
use crate::clock::Timestamp;

/// A token that was read and not yet believed.
pub struct Token<'t> {
    jws: Jws<'t>,
    claims: Value,
}

/// What tokens of one issuer must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `iss`, to the character.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// How far the issuer's clock may be from ours.
    pub leeway: Duration,
    pub tenant: Claim,
    pub subject: Claim,
    pub scopes: Claim,
    pub tier: Option<Claim>,
}

/// Where a claim is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    Name(String),
    /// A JSON pointer (RFC 6901).
    Pointer(String),
}

/// What a genuine, timely token claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Whatever names the tenant: 1 to 128 bytes.
    pub tenant: String,
    /// 1 to 256 bytes of any text.
    pub subject: Option<String>,
    /// Scope tokens of RFC 6749, section 3.3: visible ASCII without `"` and `\`.
    pub scopes: Vec<String>,
    pub tier: Option<String>,
    /// When it ends to be good, leeway included.
    pub expires_at: Timestamp,
}

/// A claimed text is written to header lines and logs, so it has an end.
const TEXT_LENGTH_MAX: usize = 128;
/// OpenID Connect Core, section 2: at most 255.
const SUBJECT_LENGTH_MAX: usize = 256;

/// Kinds of a token that is meant for an API, in lower case and without `application/`. One that says to be something
/// else (a logout, an event, a proof of possession) is no access token, however genuine (RFC 8725, section 3.11).
const KINDS: [&str; 2] = ["jwt", "at+jwt"];

// === impl Token ===

impl<'t> Token<'t> {
    /// Bytes of the longest token.
    pub const LENGTH_MAX: usize = 8 * 1024;

    /// Whether it looks like a token at all: three parts. Nothing else of it is read.
    pub fn is_shaped_like_one(text: &[u8]) -> bool {
        text.iter().filter(|byte| **byte == b'.').count() == 2
    }

    /// Reads a token without believing it.
    ///
    /// # Errors
    /// [`BadToken::TooLong`], [`BadToken::Malformed`], [`BadToken::Algorithm`], [`BadToken::Critical`],
    /// [`BadToken::Type`]
    pub fn read(text: &'t [u8]) -> Result<Token<'t>, BadToken> {
        if text.len() > Token::LENGTH_MAX {
            return Err(BadToken::TooLong);
        }
        let jws = Jws::read(text)?;
        if !jws.kind().is_none_or(is_access_token) {
            return Err(BadToken::Type);
        }
        let claims = super::json::object(&jws.payload).ok_or(BadToken::Malformed)?;
        Ok(Token { jws, claims: claims.into() })
    }

    /// Who it says has made it: chooses the [`Rules`] to hold it to, and proves nothing.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }
}

fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    KINDS.contains(&kind.strip_prefix("application/").unwrap_or(&kind))
}

// === impl Rules ===

impl Rules {
    /// What the token claims, if one of the issuer's `keys` signed it and all rules hold at `now`.
    ///
    /// The signature comes first: whoever can't sign learns nothing of the rules by how long an answer takes.
    ///
    /// # Errors
    /// [`BadToken`]; [`BadToken::Key`] is worth another try with newer keys.
    pub fn check(&self, token: &Token<'_>, keys: &KeySet, now: Timestamp) -> Result<Claims, BadToken> {
        let (claims, expires_at) = self.genuine(token, keys, now)?;
        Ok(Claims {
            tenant: text(self.tenant.of(claims), TEXT_LENGTH_MAX)?.ok_or(BadToken::Claim)?,
            subject: text(self.subject.of(claims), SUBJECT_LENGTH_MAX)?,
            scopes: scopes(self.scopes.of(claims))?,
            tier: text(self.tier.as_ref().and_then(|tier| tier.of(claims)), TEXT_LENGTH_MAX)?,
            expires_at,
        })
    }

    /// All that the token claims, and when it ends to be good, under the same rules: for claims that are no caller's.
    ///
    /// # Errors
    /// As [`Rules::check`], but for the claims that it reads.
    pub fn genuine<'c>(
        &self,
        token: &'c Token<'_>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<(&'c Value, Timestamp), BadToken> {
        if token.issuer() != Some(&self.issuer) {
            return Err(BadToken::Issuer);
        }
        token.jws.verify(keys)?;
        let claims = &token.claims;
        if !self.is_for_us(claims.get("aud")) {
            return Err(BadToken::Audience);
        }
        Ok((claims, self.expiry(claims, now)?))
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let is_ours =
            |one: &Value| one.as_str().is_some_and(|one| self.audiences.iter().any(|our| our == one));
        match audience {
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        }
    }

    /// The end of the token's time, if `now` is within it.
    fn expiry(&self, claims: &Value, now: Timestamp) -> Result<Timestamp, BadToken> {
        let expires_at = instant(claims, "exp")?.ok_or(BadToken::Claim)?.plus(self.leeway);
        if now >= expires_at {
            return Err(BadToken::Expired);
        }
        for begin in ["nbf", "iat"] {
            if instant(claims, begin)?.is_some_and(|begin| now.plus(self.leeway) < begin) {
                return Err(BadToken::Early);
            }
        }
        Ok(expires_at)
    }
}

/// A `NumericDate`: seconds since the epoch, possibly with a fraction.
fn instant(claims: &Value, name: &str) -> Result<Option<Timestamp>, BadToken> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    let seconds = claim.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(BadToken::Claim)?;
    let since_epoch = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    Ok(Some(Timestamp::from_seconds(0).plus(since_epoch)))
}

/// A claim that is text if it is there.
fn text(claim: Option<&Value>, length_max: usize) -> Result<Option<String>, BadToken> {
    match claim {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=length_max).contains(&text.len()) => Ok(Some(text.clone())),
        Some(_) => Err(BadToken::Claim),
    }
}

/// One text with spaces between the scopes (RFC 8693, section 4.2), or a list of scopes.
fn scopes(claim: Option<&Value>) -> Result<Vec<String>, BadToken> {
    let list: Vec<&str> = match claim {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).collect(),
        Some(Value::Array(list)) => {
            list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(BadToken::Claim)?
        }
        Some(_) => return Err(BadToken::Claim),
    };
    let is_scope = |scope: &&str| {
        !scope.is_empty()
            && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    if list.iter().all(is_scope) {
        Ok(list.into_iter().map(str::to_owned).collect())
    } else {
        Err(BadToken::Claim)
    }
}

// === impl Claim ===

impl Claim {
    /// A JSON pointer when it begins with `/`, otherwise a name, whatever dots and slashes it has.
    pub fn new(text: &str) -> Claim {
        if text.starts_with('/') { Claim::Pointer(text.to_owned()) } else { Claim::Name(text.to_owned()) }
    }

    pub fn of<'c>(&self, claims: &'c Value) -> Option<&'c Value> {
        match self {
            Claim::Name(name) => claims.get(name),
            Claim::Pointer(pointer) => claims.pointer(pointer),
        }
    }
}
