use std::io::{Read, Write};
use std::iter::once;

use age::x25519;
use expect_test::expect;
use serde_json::{Value, json};

use super::super::ed25519::{PublicKey, SigningKey, tests::SEED};
use super::{ArchiveError, ArchiveReader, ArchiveWriter, Item, Lock, Unlock};

const STRANGER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn key() -> SigningKey {
    SigningKey::parse(SEED).unwrap()
}

fn lock() -> (Lock, Unlock) {
    let identity = x25519::Identity::generate();
    (Lock::Recipient(identity.to_public()), Unlock::Identity(identity))
}

/// Two parts, of `rows` rows and of none.
fn written(lock: Lock, rows: u64) -> Vec<u8> {
    let mut writer = ArchiveWriter::begin(Vec::new(), lock, &json!({ "of": "acme" })).unwrap();
    writer.part("one").unwrap();
    for number in 0..rows {
        writer.row(json!({ "number": number })).unwrap();
    }
    writer.part("two").unwrap();
    let (bytes, counted) = writer.finish(&key()).unwrap();
    assert_eq!(counted, rows);
    bytes
}

fn read(bytes: &[u8], unlock: &Unlock) -> Result<(Value, Vec<Item>), ArchiveError> {
    let (mut reader, header) = ArchiveReader::open(bytes, unlock)?;
    let mut items = Vec::new();
    loop {
        items.push(reader.read()?);
        if let Some(Item::End(_)) = items.last() {
            return Ok((header, items));
        }
    }
}

fn end(items: &[Item]) -> Option<PublicKey> {
    match items.last() {
        Some(Item::End(key)) => Some(*key),
        _ => None,
    }
}

/// The lines within, as whoever may open it sees them.
fn opened(bytes: &[u8], unlock: &Unlock) -> String {
    let Unlock::Identity(identity) = unlock else { panic!("a key opens it") };
    let decryptor = age::Decryptor::new(bytes).unwrap();
    let mut text = String::new();
    let mut reader = decryptor.decrypt(once(identity as &dyn age::Identity)).unwrap();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// The same lines, sealed anew by somebody who may not sign.
fn sealed(lock: Lock, text: &str) -> Vec<u8> {
    let mut output = lock.encryptor().wrap_output(Vec::new()).unwrap();
    output.write_all(text.as_bytes()).unwrap();
    output.finish().unwrap()
}

#[test]
fn what_was_written_is_read_and_was_signed() {
    let (lock, unlock) = lock();
    // Some hundreds of KiB: several chunks of the cipher.
    let bytes = written(lock, 10_000);
    assert!(!bytes.windows(6).any(|part| part == b"number"), "sealed");
    let (header, items) = read(&bytes, &unlock).unwrap();
    assert_eq!((header, items.len()), (json!({ "of": "acme" }), 10_003));
    assert_eq!(items[0], Item::Part("one".to_owned()));
    assert_eq!(items[10_000], Item::Row(json!({ "number": 9_999 })));
    assert_eq!(end(&items), Some(key().public()));
}

#[test]
fn the_lines_are_those_that_are_documented() {
    let (lock, unlock) = lock();
    let text = opened(&written(lock, 1), &unlock);
    let text = text.split(r#","signature""#).next().unwrap();
    expect![[r#"
        {"archive":{"header":{"of":"acme"},"version":1}}
        {"part":"one"}
        {"row":{"number":0}}
        {"part":"two"}
        {"manifest":{"parts":[{"part":"one","rows":1,"sha256":"17a3cf2519ea0423e7c2005d6421404073ee671dd8f17f49389a411486e72ef0"},{"part":"two","rows":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]"#]]
    .assert_eq(text);
}

#[test]
fn words_open_what_they_have_sealed_and_others_do_not() {
    let mut lock = age::scrypt::Recipient::new("correct horse".to_owned().into());
    // As little work as there is: trying words is meant to be slow.
    lock.set_work_factor(2);
    let encryptor = age::Encryptor::with_recipients(once(&lock as &dyn age::Recipient)).unwrap();
    let (own, unlock) = self::lock();
    let text = opened(&written(own, 3), &unlock);
    let mut output = encryptor.wrap_output(Vec::new()).unwrap();
    output.write_all(text.as_bytes()).unwrap();
    let bytes = output.finish().unwrap();
    let words = |words: &str| Unlock::Passphrase(words.to_owned());
    assert!(read(&bytes, &words("correct horse")).is_ok());
    for other in [words("battery staple"), unlock] {
        assert!(matches!(read(&bytes, &other), Err(ArchiveError::Locked)));
    }
}

#[test]
fn a_file_that_was_cut_short_or_changed_is_refused_wherever_that_was() {
    let (lock, unlock) = lock();
    let bytes = written(lock, 10_000);
    for length in (0..bytes.len()).step_by(4_999).chain([bytes.len() - 1]) {
        assert!(read(&bytes[..length], &unlock).is_err(), "{length} of {}", bytes.len());
    }
    for at in (0..bytes.len()).step_by(9_973).chain([bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read(&changed, &unlock).is_err(), "byte {at} of {}", bytes.len());
    }
}

#[test]
fn who_may_open_it_can_still_not_change_it() {
    let (lock, unlock) = lock();
    let text = opened(&written(lock.clone(), 3), &unlock);
    let check = |changed: String, expected: &str| {
        let error = read(&sealed(lock.clone(), &changed), &unlock).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}, not {expected}: {changed}");
    };
    assert!(read(&sealed(lock.clone(), &text), &unlock).is_ok());
    check(text.replace("\"number\":1}", "\"number\":7}"), "Changed(\"one\")");
    check(text.replace("{\"row\":{\"number\":1}}\n", ""), "Changed(\"one\")");
    check(text.replace("{\"part\":\"two\"}\n", ""), "Changed");
    check(text.replace("acme", "beta"), "BadSignature");
    check(text.replace("\"version\":1", "\"version\":2"), "Newer(2)");
    check(text.replace("{\"archive\"", "{\"tarball\""), "NoArchive");
    check(
        text.replace(&key().public().x(), &SigningKey::parse(STRANGER).unwrap().public().x()),
        "BadSignature",
    );
    check(format!("{text}{{\"row\":{{}}}}\n"), "Misplaced");
    check(text.lines().take(4).map(|line| format!("{line}\n")).collect(), "Truncated");
    check("hello\n".to_owned(), "NoArchive");
    check(text.replace("{\"part\":\"one\"}\n", ""), "Misplaced");
}

#[test]
fn keys_are_read_as_age_keygen_writes_them() {
    let (_, Unlock::Identity(identity)) = lock() else { panic!("a key") };
    use age::secrecy::ExposeSecret;
    let file = format!(
        "# created: 2026-11-23\n# public key: {}\n{}\n",
        identity.to_public(),
        identity.to_string().expose_secret()
    );
    assert!(Unlock::identity(&file).is_some());
    assert!(Lock::recipient(&format!("{}\n", identity.to_public())).is_some());
    assert!(Unlock::identity("hello").is_none() && Lock::recipient("age1hello").is_none());
}
