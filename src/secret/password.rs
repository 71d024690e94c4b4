//! Passwords at rest: argon2id, which costs whoever steals the database memory and time for each guess.
//!
//! Slow by intent, about 20 ms and 19 MiB: never to be called on a thread that others wait for.

use std::sync::OnceLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane, one of its choices of equal strength. RFC 9106
/// asks for more memory where it can be had; here each log-in that is under way would take it from the data plane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// RFC 9106, section 3.1: 16 bytes are recommended.
const SALT_BYTES: usize = 16;

/// No password could be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
    #[error("argon2 failed, which wants {MEMORY_KIB} KiB of memory: {0}")]
    Argon2(argon2::password_hash::Error),
}

/// What is kept of a password, with the parameters and the salt that it was made with.
///
/// # Errors
/// [`HashError`]
pub fn hash(password: &str) -> Result<String, HashError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(HashError::Random)?;
    let hash: PasswordHash =
        argon2().hash_password_with_salt(password.as_bytes(), &salt).map_err(HashError::Argon2)?;
    Ok(hash.to_string())
}

/// Whether it is the password that `hash` was made of. Without a hash it is not, and takes as long to find out.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let verified = |hash: &str| argon2().verify_password(password.as_bytes(), hash).is_ok();
    match hash {
        Some(hash) => verified(hash),
        None => {
            verified(nobodys());
            false
        }
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap_or(Params::DEFAULT);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// The hash of a password that nobody has, with the parameters of all others.
fn nobodys() -> &'static str {
    static NOBODYS: OnceLock<String> = OnceLock::new();
    NOBODYS.get_or_init(|| {
        let hash: Result<PasswordHash, _> = argon2().hash_password_with_salt(b"nobody's", &[0; SALT_BYTES]);
        hash.map(|hash| hash.to_string()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::{hash, nobodys, verify};

    #[test]
    fn a_hash_says_how_it_was_made_and_verifies_its_password_only() {
        let (one, other) = (hash("correct horse").unwrap(), hash("correct horse").unwrap());
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other, "each has a salt of its own");
        assert!(verify("correct horse", Some(&one)) && verify("correct horse", Some(&other)));
        assert!(!verify("correct horsf", Some(&one)) && !verify("", Some(&one)));
        assert!(!verify("correct horse", Some("$argon2id$nonsense")));
    }

    #[test]
    fn nobody_has_the_password_that_is_tried_where_there_is_none() {
        assert!(nobodys().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!verify("nobody's", None));
    }

    /// As `argon2` of the reference implementation says it:
    /// `printf %s password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 -e`
    #[test]
    fn a_hash_of_the_reference_implementation_verifies() {
        let reference =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(verify("password", Some(reference)));
    }
}
