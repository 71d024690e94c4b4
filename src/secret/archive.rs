//! The container of exports: lines of JSON in named parts, signed, and sealed by [age].
//!
//! Each line is an object with one member that says what it is:
//!
//! ```text
//! {"archive":{"version":1,"header":{…}}}                  first: the format, and what its maker says of the whole
//! {"part":"keys"}                                         what follows, until the next of these
//! {"row":{…}}
//! {"manifest":{"parts":[{"part":"keys","rows":1,"sha256":"…"}],"signer":{"kid":"…","x":"…"},"signature":"…"}}   last
//! ```
//!
//! A part's SHA-256 is that of its rows' lines, ends of lines included. What is signed (Ed25519) is text: a tag, the
//! SHA-256 of the first line, and one line for each part. So the signature holds without a canonical form of JSON, and
//! every tool that can read lines can check it.
//!
//! # Why age around it and no cipher of our own
//! It is a documented format (ChaCha20-Poly1305 in chunks of 64 KiB, the last of them marked, so that a file that was cut
//! short is noticed; X25519 or scrypt for the key) that other tools open: `age --decrypt FILE` shows the lines. Writer
//! and reader hold one chunk and one line in memory, whatever the size of the whole.
//!
//! [age]: https://age-encryption.org/v1

use std::io::{self, BufRead, BufReader, Read, Write};
use std::iter::once;
use std::str::FromStr;

use age::secrecy::SecretString;
use age::stream::{StreamReader, StreamWriter};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::checkpoint::Signature;
use super::ed25519::{PublicKey, SigningKey};
use super::hex;

/// Who can open an archive.
#[derive(Clone)]
pub enum Lock {
    /// Whoever knows these words.
    Passphrase(String),
    /// Whoever has the secret half of this key: `age1…`, as `age-keygen` makes it.
    Recipient(x25519::Recipient),
}

/// What opens an archive.
#[derive(Clone)]
pub enum Unlock {
    Passphrase(String),
    Identity(x25519::Identity),
}

/// Why an archive is not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("it is no archive of Tollgate")]
    NoArchive,
    #[error("it does not open with that passphrase or key")]
    Locked,
    #[error("it is of format {0}, and this program knows formats up to {VERSION}: a newer one is needed")]
    Newer(u64),
    #[error("it ends early: it was cut short")]
    Truncated,
    #[error("it was cut short, or changed")]
    Damaged,
    #[error("part `{0}` is not what was signed: it was changed")]
    Changed(String),
    #[error("its signature is not that of {0}")]
    BadSignature(String),
    #[error("line {0} can't be read")]
    Line(u64, #[source] serde_json::Error),
    #[error("line {0} is longer than {LINE_BYTES_MAX} bytes, or stands where it must not")]
    Misplaced(u64),
    #[error("reading or writing it")]
    Io(#[from] io::Error),
}

/// Writes an archive. One that is dropped before [`ArchiveWriter::finish`] is no archive.
pub struct ArchiveWriter<W: Write> {
    output: StreamWriter<W>,
    head: [u8; 32],
    parts: Vec<PartDigest>,
}

/// Reads an archive line by line, and checks it on the way.
pub struct ArchiveReader<R: Read> {
    input: BufReader<StreamReader<R>>,
    line: Vec<u8>,
    number: u64,
    head: [u8; 32],
    parts: Vec<PartDigest>,
}

/// What is next in an archive.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Part(String),
    Row(Value),
    /// All of it was read, and this key has signed it.
    End(PublicKey),
}

/// A part as it was written, or read, so far.
struct PartDigest {
    name: String,
    rows: u64,
    hash: Sha256,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Archive { version: u64, header: Value },
    Part(String),
    Row(Value),
    Manifest(Manifest),
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    parts: Vec<ManifestPart>,
    signer: Signer,
    signature: Signature,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct ManifestPart {
    part: String,
    rows: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Signer {
    kid: String,
    x: String,
}

/// The format that is written; all up to it are read.
const VERSION: u64 = 1;
/// Says what is signed and in which form: another form gets another tag.
const TAG: &str = "tollgate archive 1";
/// No row of ours comes near it.
const LINE_BYTES_MAX: usize = 16 << 20;
/// The most work that a passphrase may cost to try: 2^20 of scrypt is 1 GiB and some seconds.
const WORK_FACTOR_MAX: u8 = 20;

/// What a signature is of.
fn statement(head: &[u8; 32], parts: &[ManifestPart]) -> String {
    let mut text = format!("{TAG}\nheader {}\n", hex::encoded(head));
    for ManifestPart { part, rows, sha256 } in parts {
        text.push_str(&format!("part {part} {rows} {sha256}\n"));
    }
    text
}

// === impl Lock ===

impl Lock {
    /// The public half of an age key; `None` for what is none.
    pub fn recipient(text: &str) -> Option<Lock> {
        x25519::Recipient::from_str(text.trim()).ok().map(Lock::Recipient)
    }

    fn encryptor(self) -> Encryptor {
        match self {
            Lock::Passphrase(words) => Encryptor::with_user_passphrase(SecretString::from(words)),
            Lock::Recipient(recipient) => Encryptor::with_recipients(once(&recipient as &dyn age::Recipient))
                .expect("one recipient goes with itself"),
        }
    }
}

// === impl Unlock ===

impl Unlock {
    /// The key in a file as `age-keygen` writes it; `None` if there is none.
    pub fn identity(text: &str) -> Option<Unlock> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
        x25519::Identity::from_str(line).ok().map(Unlock::Identity)
    }

    fn opened<R: Read>(&self, decryptor: Decryptor<R>) -> Result<StreamReader<R>, DecryptError> {
        match self {
            Unlock::Passphrase(words) => {
                let mut identity = scrypt::Identity::new(SecretString::from(words.clone()));
                identity.set_max_work_factor(WORK_FACTOR_MAX);
                decryptor.decrypt(once(&identity as &dyn age::Identity))
            }
            Unlock::Identity(identity) => decryptor.decrypt(once(identity as &dyn age::Identity)),
        }
    }
}

// === impl ArchiveWriter ===

impl<W: Write> ArchiveWriter<W> {
    /// Begins with what is to be said of the whole.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] when `output` can't be written.
    pub fn begin(output: W, lock: Lock, header: &Value) -> Result<ArchiveWriter<W>, ArchiveError> {
        let mut output = lock.encryptor().wrap_output(output)?;
        let head = line(&Line::Archive { version: VERSION, header: header.clone() });
        output.write_all(&head)?;
        Ok(ArchiveWriter { output, head: Sha256::digest(&head).into(), parts: Vec::new() })
    }

    /// What follows are rows of that part.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] when the output can't be written.
    pub fn part(&mut self, name: &str) -> Result<(), ArchiveError> {
        self.output.write_all(&line(&Line::Part(name.to_owned())))?;
        self.parts.push(PartDigest::new(name.to_owned()));
        Ok(())
    }

    /// # Errors
    /// [`ArchiveError::Io`] when the output can't be written.
    ///
    /// # Panics
    /// Before the first part.
    pub fn row(&mut self, row: Value) -> Result<(), ArchiveError> {
        let line = line(&Line::Row(row));
        self.parts.last_mut().expect("a row is of a part").add(&line);
        Ok(self.output.write_all(&line)?)
    }

    /// Signs the whole and ends it; answers the output and how many rows there are.
    ///
    /// # Errors
    /// [`ArchiveError::Io`] when the output can't be written.
    pub fn finish(mut self, key: &SigningKey) -> Result<(W, u64), ArchiveError> {
        let rows = self.parts.iter().map(|part| part.rows).sum();
        let parts: Vec<_> = self.parts.iter().map(PartDigest::manifest).collect();
        let signature = Signature(key.sign(statement(&self.head, &parts).as_bytes()));
        let signer = Signer { kid: key.public().id(), x: key.public().x() };
        self.output.write_all(&line(&Line::Manifest(Manifest { parts, signer, signature })))?;
        Ok((self.output.finish()?, rows))
    }
}

fn line(line: &Line) -> Vec<u8> {
    // Values and texts always have a form in JSON.
    let mut bytes = json!(line).to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

// === impl ArchiveReader ===

impl<R: Read> ArchiveReader<R> {
    /// Opens it and answers what its maker says of the whole.
    ///
    /// # Errors
    /// [`ArchiveError`]
    pub fn open(input: R, unlock: &Unlock) -> Result<(ArchiveReader<R>, Value), ArchiveError> {
        let opened = Decryptor::new(input).and_then(|decryptor| unlock.opened(decryptor))?;
        let (input, line) = (BufReader::new(opened), Vec::new());
        let mut reader = ArchiveReader { input, line, number: 0, head: [0; 32], parts: Vec::new() };
        reader.read_line()?;
        let head: Value = serde_json::from_slice(&reader.line).map_err(|_| ArchiveError::NoArchive)?;
        let version = head["archive"]["version"].as_u64().ok_or(ArchiveError::NoArchive)?;
        if version > VERSION {
            return Err(ArchiveError::Newer(version));
        }
        reader.head = Sha256::digest(&reader.line).into();
        Ok((reader, head["archive"]["header"].clone()))
    }

    /// What is next. After [`Item::End`] nothing is.
    ///
    /// # Errors
    /// [`ArchiveError`]: also for rows that were answered before it it is then not known whether they are genuine.
    pub fn read(&mut self) -> Result<Item, ArchiveError> {
        self.read_line()?;
        let line =
            serde_json::from_slice(&self.line).map_err(|error| ArchiveError::Line(self.number, error))?;
        match line {
            Line::Part(name) => {
                self.parts.push(PartDigest::new(name.clone()));
                Ok(Item::Part(name))
            }
            Line::Row(row) => {
                let part = self.parts.last_mut().ok_or(ArchiveError::Misplaced(self.number))?;
                part.add(&self.line);
                Ok(Item::Row(row))
            }
            Line::Manifest(manifest) => self.ended(&manifest),
            Line::Archive { .. } => Err(ArchiveError::Misplaced(self.number)),
        }
    }

    fn ended(&mut self, manifest: &Manifest) -> Result<Item, ArchiveError> {
        let read: Vec<_> = self.parts.iter().map(PartDigest::manifest).collect();
        let unlike = read.iter().zip(&manifest.parts).find(|(read, said)| read != said);
        let unlike = unlike.map(|(read, _)| read.part.clone());
        if let Some(part) = unlike.or_else(|| (read.len() != manifest.parts.len()).then(String::new)) {
            return Err(ArchiveError::Changed(part));
        }
        let Signer { kid, x } = &manifest.signer;
        let statement = statement(&self.head, &read);
        let key = PublicKey::parse(x).filter(|key| key.id() == *kid);
        let key = key.filter(|key| key.verifies(statement.as_bytes(), &manifest.signature.0));
        let key = key.ok_or_else(|| ArchiveError::BadSignature(kid.clone()))?;
        // Nothing may follow; reading on also finds out whether the last chunk is the last.
        if self.input.read(&mut [0]).map_err(ArchiveError::of_input)? > 0 {
            return Err(ArchiveError::Misplaced(self.number + 1));
        }
        Ok(Item::End(key))
    }

    fn read_line(&mut self) -> Result<(), ArchiveError> {
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.input).take(LINE_BYTES_MAX as u64);
        limited.read_until(b'\n', &mut self.line).map_err(ArchiveError::of_input)?;
        match self.line.last() {
            Some(b'\n') => Ok(()),
            _ if self.line.len() == LINE_BYTES_MAX => Err(ArchiveError::Misplaced(self.number)),
            _ => Err(ArchiveError::Truncated),
        }
    }
}

// === impl PartDigest ===

impl PartDigest {
    fn new(name: String) -> PartDigest {
        PartDigest { name, rows: 0, hash: Sha256::new() }
    }

    fn add(&mut self, line: &[u8]) {
        self.rows += 1;
        self.hash.update(line);
    }

    fn manifest(&self) -> ManifestPart {
        let sha256 = hex::encoded(&self.hash.clone().finalize());
        ManifestPart { part: self.name.clone(), rows: self.rows, sha256 }
    }
}

// === impl ArchiveError ===

impl ArchiveError {
    /// age tells of a stream that was cut short, or changed, by these kinds.
    fn of_input(error: io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
            io::ErrorKind::InvalidData => ArchiveError::Damaged,
            _ => ArchiveError::Io(error),
        }
    }
}

impl From<DecryptError> for ArchiveError {
    fn from(error: DecryptError) -> ArchiveError {
        match error {
            DecryptError::InvalidHeader | DecryptError::UnknownFormat => ArchiveError::NoArchive,
            DecryptError::Io(error) => ArchiveError::of_input(error),
            _ => ArchiveError::Locked,
        }
    }
}

#[cfg(test)]
mod tests;
