use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::{CertificateName, ForeignDigest, KeyKind, KeyText, Pepper, PepperError, Peppers, random_letters};

fn pepper() -> Pepper {
    Pepper::new(1, &[7; 32])
}

#[test]
fn a_generated_key_parses_and_says_its_kind() {
    for (kind, prefix) in [(KeyKind::Live, "tg_live_"), (KeyKind::Test, "tg_test_")] {
        let key = KeyText::generate(kind).unwrap();
        assert_eq!(KeyText::parse(key.as_str().as_bytes()), Some(key));
        assert!(key.as_str().starts_with(prefix) && key.prefix().len() == 18, "{key:?}");
        assert_eq!(key.as_str().len(), 57);
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let key = KeyText::generate(KeyKind::Live).unwrap();
    assert_eq!(format!("{key:?}"), format!("{}_***", key.prefix()));
    assert_eq!(format!("{:?}", pepper()), "Pepper(version 1, ***)");
}

#[test]
fn a_key_with_one_changed_byte_is_junk() {
    let key = KeyText::generate(KeyKind::Live).unwrap();
    for at in 0..KeyText::LENGTH {
        for other in 0..=255 {
            let mut text = *key.as_bytes();
            text[at] = other;
            assert_eq!(KeyText::parse(&text).is_some(), text == *key.as_bytes(), "byte {at} = {other}");
        }
    }
}

#[test]
fn the_digest_is_hmac_sha256_of_what_follows_tg() {
    // printf live_abc | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
    let expected = "98b376e1deb1573743865ba92ff325d4204e038af6bc13cb9293b66b1f63b009";
    let digest = pepper().digest(b"tg_live_abc");
    let hexadecimal: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hexadecimal, expected);
}

#[test]
fn digests_differ_by_text_and_by_pepper() {
    let other = Pepper::new(2, &[8; 32]);
    assert_ne!(pepper().digest(b"tg_live_a"), pepper().digest(b"tg_test_a"));
    assert_ne!(pepper().digest(b"tg_live_a"), other.digest(b"tg_live_a"));
    assert_eq!(pepper().digest(b"tg_live_a"), pepper().digest(b"tg_live_a"));
}

#[test]
fn a_pepper_file_is_made_once_and_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/pepper");
    let made = Pepper::load_or_create(&path).unwrap();
    let loaded = Pepper::load_or_create(&path).unwrap();
    assert_eq!(made.digest(b"x"), loaded.digest(b"x"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "no draft stays behind");
}

#[test]
fn many_who_make_the_pepper_at_once_get_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pepper");
    let make = || Pepper::load_or_create(&path).unwrap().digest(b"x");
    let digests: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn a_file_that_is_no_pepper_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pepper");
    std::fs::write(&path, "hunter2").unwrap();
    let error = Pepper::load_or_create(&path).unwrap_err();
    assert!(matches!(&error, PepperError::Malformed(name) if Path::new(name) == path), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "hunter2");
}

#[test]
fn a_configured_pepper_is_64_hexadecimal_digits() {
    assert_eq!(Pepper::parse(1, &"07".repeat(32)).unwrap().digest(b"x"), pepper().digest(b"x"));
    for bad in ["", "07", &"07".repeat(33), &"zz".repeat(32), &"+7".repeat(32), &"ä".repeat(32)] {
        assert!(Pepper::parse(1, bad).is_err(), "{bad}");
    }
}

#[test]
fn random_letters_use_the_whole_alphabet_evenly() {
    let mut counts = std::collections::BTreeMap::new();
    for letter in random_letters(62_000).unwrap().chars() {
        *counts.entry(letter).or_insert(0_u32) += 1;
    }
    // 1000 of each are expected; seven standard deviations (31.4) off happens once in 10^10 runs.
    assert_eq!(counts.len(), 62);
    assert!(counts.values().all(|count| (780..1_220).contains(count)), "{counts:?}");
}

proptest! {
    #[test]
    fn no_input_makes_parsing_panic(text: Vec<u8>) {
        prop_assert!(KeyText::parse(&text).is_none());
    }
}

#[test]
fn a_credential_has_a_digest_under_each_pepper_and_is_renewed_only_from_older_ones() {
    let others = [Pepper::new(3, &[9; 32]), Pepper::new(1, &[6; 32])];
    let peppers = Peppers::new(Pepper::new(2, &[7; 32]), others.clone());
    let name = CertificateName::parse("orders.test").unwrap();
    let foreign = ForeignDigest::of(b"sk_old_0123456789").unwrap();
    for (digests, expected) in [
        (peppers.digests(b"x"), others.each_ref().map(|pepper| pepper.digest(b"x"))),
        (
            peppers.digests_of_certificate(&name),
            others.each_ref().map(|pepper| pepper.digest_certificate(&name)),
        ),
        (peppers.digests_of_foreign(foreign), others.each_ref().map(|pepper| pepper.digest_foreign(foreign))),
    ] {
        let [current, newer, older] = digests.all().copied().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((current.version, newer.version, older.version), (2, 3, 1));
        assert_eq!([newer.digest, older.digest], expected);
        assert_eq!((digests.renewal(&current), digests.renewal(&newer)), (None, None));
        let renewal = digests.renewal(&older).unwrap();
        assert_eq!((renewal.old, renewal.new), (older.digest, current));
    }
    assert_eq!(Peppers::from(pepper()).digests(b"x").current().digest, pepper().digest(b"x"));
}
