//! The text of API keys, and the digest that stands for it in the database.
//!
//! `tg_live_` (or `tg_test_`), 10 characters by which people recognize the key, `_`, 32 characters of secret
//! (190 bits), 6 characters of checksum (CRC-32C, the one that CPUs compute) over everything before them; all
//! base62. The checksum lets the proxy refuse junk before any look-up, and lets scanners of leaked secrets be
//! certain.
//!
//! # Why HMAC and no password hash
//! The secret's entropy is high, so guessing is hopeless whatever the hash costs, and the digest is computed for
//! each request. The pepper makes a stolen database worthless on its own.
//!
//! # Why several peppers
//! A pepper that may have leaked has to be exchanged, and digests can't be computed anew without the keys' texts, which
//! only their owners have. So while a pepper is being exchanged each credential has several [`Digests`]; under which
//! one it is stored is seen when it comes, and that is when it is stored under the current one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::hex;

/// What kind of key it is; the text says it, so that a test key in production is seen at a glance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyKind {
    Live,
    Test,
}

/// The text of an API key whose form and checksum are right. Whether such a key exists is another question.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyText([u8; KeyText::LENGTH]);

/// What is kept of a key's text: HMAC-SHA256 under the [`Pepper`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// SHA-256 of a key that another system made: what that system knows of it, and whoever moves here can bring along.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ForeignDigest([u8; 32]);

/// The name in a client certificate by which its holder is known: a URI such as `spiffe://example.org/orders`, or a
/// host's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateName(String);

/// The secret under which keys are digested; lives outside the database.
#[derive(Clone)]
pub struct Pepper {
    version: i64,
    /// Has taken in the secret already, which is half of an HMAC's work.
    keyed: Hmac<Sha256>,
}

/// The peppers that are known: the one under which new credentials are stored, and others under which they may be.
#[derive(Clone, Debug)]
pub struct Peppers {
    current: Pepper,
    others: Arc<[Pepper]>,
}

/// A digest and the version of its pepper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VersionedDigest {
    pub version: i64,
    pub digest: KeyDigest,
}

/// By what one credential may be stored: its digests under all [`Peppers`]. Two are equal if their current ones are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Digests {
    current: VersionedDigest,
    others: Box<[VersionedDigest]>,
}

/// A credential that is stored under an older pepper: what to put in place of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renewal {
    pub old: KeyDigest,
    pub new: VersionedDigest,
}

/// The pepper can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    #[error("{0} holds no secret: 64 hexadecimal digits are expected")]
    Malformed(String),
    #[error("{0} can't be used as a secret's file")]
    File(PathBuf, #[source] io::Error),
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECKSUM_LENGTH: usize = 6;
/// The largest multiple of 62 that a byte can hold: bytes from there on are drawn again, so that no letter is
/// likelier than another.
const FAIR_BELOW: u8 = 248;

/// `length` letters of base62, from the operating system's random numbers: 5.95 bits each.
///
/// # Errors
/// Only when the operating system has none to give.
pub fn random_letters(length: usize) -> Result<String, getrandom::Error> {
    let mut letters = vec![0; length];
    fill_with_letters(&mut letters)?;
    Ok(letters.into_iter().map(char::from).collect())
}

fn fill_with_letters(letters: &mut [u8]) -> Result<(), getrandom::Error> {
    let mut filled = 0;
    while filled < letters.len() {
        let mut drawn = [0; 64];
        getrandom::fill(&mut drawn)?;
        for byte in drawn.into_iter().filter(|byte| *byte < FAIR_BELOW).take(letters.len() - filled) {
            letters[filled] = ALPHABET[usize::from(byte % 62)];
            filled += 1;
        }
    }
    Ok(())
}

fn checksum(text: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32c::crc32c(text);
    let mut letters = [0; CHECKSUM_LENGTH];
    for letter in letters.iter_mut().rev() {
        // A remainder of 62 fits an index of any size.
        *letter = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    letters
}

// === impl KeyKind ===

impl KeyKind {
    const ALL: [KeyKind; 2] = [KeyKind::Live, KeyKind::Test];

    const fn prefix(self) -> &'static [u8; 8] {
        match self {
            KeyKind::Live => b"tg_live_",
            KeyKind::Test => b"tg_test_",
        }
    }
}

// === impl KeyText ===

impl KeyText {
    /// Bytes of a key: prefix 8, id 10, `_`, secret 32, checksum 6.
    pub const LENGTH: usize = Self::SECRET_START + 32 + CHECKSUM_LENGTH;
    const ID_START: usize = 8;
    const ID_END: usize = Self::ID_START + 10;
    const SECRET_START: usize = Self::ID_END + 1;
    const CHECKSUM_START: usize = Self::LENGTH - CHECKSUM_LENGTH;

    /// `None` unless form and checksum are right. Looks nothing up and allocates nothing.
    pub fn parse(text: &[u8]) -> Option<KeyText> {
        let text: &[u8; KeyText::LENGTH] = text.try_into().ok()?;
        let known = KeyKind::ALL.iter().any(|kind| text.starts_with(kind.prefix()));
        let letters = text[Self::ID_START..Self::ID_END].iter().chain(&text[Self::SECRET_START..]);
        let good = known
            && text[Self::ID_END] == b'_'
            && letters.into_iter().all(u8::is_ascii_alphanumeric)
            && text[Self::CHECKSUM_START..] == checksum(&text[..Self::CHECKSUM_START]);
        good.then_some(KeyText(*text))
    }

    /// A new key, from the operating system's random numbers.
    ///
    /// # Errors
    /// Only when the operating system has none to give.
    pub fn generate(kind: KeyKind) -> Result<KeyText, getrandom::Error> {
        let mut text = [b'_'; KeyText::LENGTH];
        text[..Self::ID_START].copy_from_slice(kind.prefix());
        fill_with_letters(&mut text[Self::ID_START..Self::ID_END])?;
        fill_with_letters(&mut text[Self::SECRET_START..Self::CHECKSUM_START])?;
        let checksum = checksum(&text[..Self::CHECKSUM_START]);
        text[Self::CHECKSUM_START..].copy_from_slice(&checksum);
        Ok(KeyText(text))
    }

    pub fn as_str(&self) -> &str {
        // Both ways to make one let ASCII through only.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether it is that text. Takes the same time wherever the two differ.
    pub fn is(&self, text: &[u8]) -> bool {
        let (words, rest) = self.0.as_chunks::<8>();
        let (other_words, other_rest) = text.as_chunks::<8>();
        let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
        // By words: by bytes it would take eight times as long.
        let same = words
            .iter()
            .zip(other_words)
            .fold(rest.ct_eq(other_rest), |same, (one, other)| same & word(one).ct_eq(&word(other)));
        self.0.len() == text.len() && same.into()
    }

    pub const fn as_bytes(&self) -> &[u8; KeyText::LENGTH] {
        &self.0
    }

    /// `tg_live_` and the ten characters after it: what may be shown and logged.
    pub fn prefix(&self) -> &str {
        &self.as_str()[..Self::ID_END]
    }
}

/// Shows the prefix only.
impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_***", self.prefix())
    }
}

// === impl KeyDigest ===

/// Shows the first four bytes: enough to tell digests apart, too little to look one up.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "KeyDigest({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

// === impl ForeignDigest ===

impl ForeignDigest {
    /// From 64 hexadecimal digits.
    pub fn parse(digits: &str) -> Option<ForeignDigest> {
        hex::decoded(digits).map(ForeignDigest)
    }

    /// Of a presented key. `None` for what no system would give out as a key: too short to be a secret, longer than
    /// anybody's, or with bytes that nobody could paste.
    pub fn of(text: &[u8]) -> Option<ForeignDigest> {
        let is_keylike = (16..=256).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        is_keylike.then(|| ForeignDigest(Sha256::digest(text).into()))
    }
}

/// As a [`KeyDigest`] is shown.
impl fmt::Debug for ForeignDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "ForeignDigest({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

// === impl CertificateName ===

impl CertificateName {
    /// A URI as it is, or a host's name, whose case does not matter. `None` for what is neither: 1 to 255 visible
    /// characters of ASCII are expected.
    pub fn parse(text: &str) -> Option<CertificateName> {
        let is_name = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let name = if text.contains(':') { text.to_owned() } else { text.to_ascii_lowercase() };
        is_name.then_some(CertificateName(name))
    }
}

// === impl Pepper ===

impl Pepper {
    /// From 32 bytes.
    pub fn new(version: i64, secret: &[u8; 32]) -> Pepper {
        // A secret of a hash block's length is taken as it is; shorter ones are padded with zeros.
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        Pepper { version, keyed: Hmac::new(&block.into()) }
    }

    /// From configured text: 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`PepperError::Malformed`], which does not repeat the text.
    pub fn parse(version: i64, text: &str) -> Result<Pepper, PepperError> {
        let malformed = || PepperError::Malformed("the configured text".to_owned());
        hex::decoded(text).map(|secret| Pepper::new(version, &secret)).ok_or_else(malformed)
    }

    /// Reads the pepper of `path`, or makes one: a file that only its owner may read. Its version is 1.
    ///
    /// Two processes may do it at the same time: both get the same pepper.
    ///
    /// # Errors
    /// [`PepperError`]; an existing file is never overwritten, because without it all keys are lost.
    pub fn load_or_create(path: &Path) -> Result<Pepper, PepperError> {
        load_or_create_secret(path).map(|secret| Pepper::new(1, &secret))
    }

    /// Stored beside each digest, so that peppers can be exchanged.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// What tells peppers apart, and nothing of the pepper: part of the digest of a text that is no credential.
    pub fn fingerprint(&self) -> String {
        let mut hmac = self.keyed.clone();
        hmac.update(b"fingerprint:");
        let digest: [u8; 32] = hmac.finalize().into_bytes().into();
        hex::encoded(&digest[..8])
    }

    /// The digest of a credential's text. No heap.
    ///
    /// `tg_`, which all keys share, is left out: what remains of a key fits one hash block, which saves a third
    /// of the work.
    pub fn digest(&self, text: &[u8]) -> KeyDigest {
        let mut hmac = self.keyed.clone();
        hmac.update(text.strip_prefix(b"tg_").unwrap_or(text));
        KeyDigest(hmac.finalize().into_bytes().into())
    }

    /// The digest of the name in a client certificate. Never that of a text or of a key: none begins so.
    pub fn digest_certificate(&self, name: &CertificateName) -> KeyDigest {
        let mut hmac = self.keyed.clone();
        hmac.update(b"certificate:");
        hmac.update(name.0.as_bytes());
        KeyDigest(hmac.finalize().into_bytes().into())
    }

    /// The digest of a key that another system made. Never that of a text: none begins so.
    pub fn digest_foreign(&self, foreign: ForeignDigest) -> KeyDigest {
        let mut hmac = self.keyed.clone();
        hmac.update(b"sha256:");
        hmac.update(&foreign.0);
        KeyDigest(hmac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper(version {}, ***)", self.version)
    }
}

// === impl Peppers ===

impl Peppers {
    /// `others` are of other versions: older ones, from which credentials are renewed, and newer ones, which other
    /// gateways store under already.
    pub fn new(current: Pepper, others: impl IntoIterator<Item = Pepper>) -> Peppers {
        Peppers { current, others: others.into_iter().collect() }
    }

    /// Under which credentials are stored.
    pub const fn current(&self) -> &Pepper {
        &self.current
    }

    /// Whether one of them has that [`Pepper::fingerprint`].
    pub fn know(&self, fingerprint: &str) -> bool {
        std::iter::once(&self.current).chain(&*self.others).any(|pepper| pepper.fingerprint() == fingerprint)
    }

    /// Of a credential's text. No heap, unless there are other peppers.
    pub fn digests(&self, text: &[u8]) -> Digests {
        self.each(|pepper| pepper.digest(text))
    }

    /// Of the name in a client certificate.
    pub fn digests_of_certificate(&self, name: &CertificateName) -> Digests {
        self.each(|pepper| pepper.digest_certificate(name))
    }

    /// Of a key that another system made.
    pub fn digests_of_foreign(&self, foreign: ForeignDigest) -> Digests {
        self.each(|pepper| pepper.digest_foreign(foreign))
    }

    fn each(&self, digest: impl Fn(&Pepper) -> KeyDigest) -> Digests {
        let of = |pepper: &Pepper| VersionedDigest { version: pepper.version, digest: digest(pepper) };
        Digests { current: of(&self.current), others: self.others.iter().map(of).collect() }
    }
}

impl From<Pepper> for Peppers {
    fn from(pepper: Pepper) -> Peppers {
        Peppers::new(pepper, [])
    }
}

// === impl Digests ===

impl Digests {
    /// The one to store.
    pub const fn current(&self) -> &VersionedDigest {
        &self.current
    }

    /// The current one first.
    pub fn all(&self) -> impl Iterator<Item = &VersionedDigest> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// What there is to do for a credential that is stored under `found`; nothing if that is newer than ours, since
    /// another gateway is ahead of us.
    pub fn renewal(&self, found: &VersionedDigest) -> Option<Renewal> {
        (found.version < self.current.version).then_some(Renewal { old: found.digest, new: self.current })
    }
}

/// The secret in a file, made if it is not there: for its owner only, whole or not at all.
///
/// # Errors
/// [`PepperError`]; an existing file is never overwritten.
pub(super) fn load_or_create_secret(path: &Path) -> Result<[u8; 32], PepperError> {
    if let Some(secret) = load_secret(path)? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(PepperError::Random)?;
    create_whole(path, &secret).map_err(|error| PepperError::File(path.to_owned(), error))?;
    // Ours, or that of whoever was faster.
    load_secret(path)?.ok_or_else(|| PepperError::File(path.to_owned(), io::ErrorKind::NotFound.into()))
}

fn load_secret(path: &Path) -> Result<Option<[u8; 32]>, PepperError> {
    match fs::read_to_string(path) {
        Ok(text) => hex::decoded(text.trim_end())
            .map(Some)
            .ok_or_else(|| PepperError::Malformed(path.display().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PepperError::File(path.to_owned(), error)),
    }
}

/// Puts a file there whole or not at all, and durably; leaves one that is there already alone.
fn create_whole(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let suffix = random_letters(12).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("draft-{suffix}"));
    write_synced(&draft, secret)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => File::open(directory)?.sync_all(),
    }
}

fn write_synced(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", hex::encoded(secret))?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
