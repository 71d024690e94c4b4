//! Bearer tokens (JWT, RFC 7519): whether one is genuine and what it claims.
//!
//! Pure: keys, rules and the time come in as arguments, and nothing here opens a file or a connection. A
//! [`Token`] is read without believing it, because only what it says of itself (`iss`, `kid`) tells which rules and
//! keys to hold it to; [`Rules::check`] is the only way from there to [`Claims`].
//!
//! # What a token can't decide
//! - The algorithm: a key serves the algorithms that its own description and the issuer's settings have in common, so
//!   a public key is never a secret for HMAC, and `none` is no algorithm at all.
//! - Where keys come from: `jku`, `x5u`, `x5c` and `jwk` are read by nobody. `crit` is refused, since we know no
//!   extension that a token could insist on.
//! - How it may be read: strict base64url without padding or stray bits, no member twice at any depth, 8 KiB at most.
//!   Two readers must never see two tokens in one text.
//!
//! # Why on `aws-lc-rs`, and no JWT library
//! The signatures are the library's work, and that is in the tree for TLS anyway. What is left (a header, a set of
//! keys, eight claims) is what libraries of the field are lenient about: none of them refuses duplicate members or
//! lets a set of keys be narrowed to accepted algorithms before a token is seen.

mod algorithm;
mod claims;
mod json;
mod jws;
mod keys;

pub use algorithm::Algorithm;
pub use claims::{Claim, Claims, Rules, Token};
pub use keys::{BadKeys, KeySet};

/// Why a token is refused. The caller of the API learns none of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum BadToken {
    #[error("it is longer than {} bytes", Token::LENGTH_MAX)]
    TooLong,
    #[error("it is not three parts of strict base64url with unambiguous JSON in them")]
    Malformed,
    #[error("its algorithm is unknown, or not accepted of its issuer")]
    Algorithm,
    #[error("it insists on an extension")]
    Critical,
    #[error("its `typ` says that it is no access token")]
    Type,
    #[error("its issuer is none of ours")]
    Issuer,
    #[error("its issuer has no key that fits it")]
    Key,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is meant for another audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("a claim is missing or of the wrong form")]
    Claim,
}

#[cfg(test)]
mod tests;
