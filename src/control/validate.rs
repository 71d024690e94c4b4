//! Checks of input: all faults at once, each naming its field.

use super::{ControlError, FieldFault};
use crate::domain::{ResourceType, Slug, Zone};

/// Faults as they are found. A check that gives no value has left a fault.
#[derive(Default)]
pub(super) struct Faults(Vec<FieldFault>);

const NAME_LENGTH_MAX: usize = 200;
/// RFC 5321: a path of 256 bytes, less its angle brackets.
const EMAIL_LENGTH_MAX: usize = 254;
const EMAIL_LOCAL_LENGTH_MAX: usize = 64;
/// E.164 has at most 15 digits; shorter than 4 is no number that anyone could call from elsewhere.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 4..=15;
const PHONE_LENGTH_MAX: usize = 40;
/// RFC 5646 asks for room for 35 characters at least.
const LOCALE_LENGTH_MAX: usize = 64;
const REASON_LENGTH_MAX: usize = 1_000;

// === impl Faults ===

impl Faults {
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldFault::new(field, message));
    }

    /// `value` if it is there; else a fault.
    pub(super) fn check<T>(
        &mut self,
        field: &str,
        value: Option<T>,
        message: impl Into<String>,
    ) -> Option<T> {
        if value.is_none() {
            self.add(field, message);
        }
        value
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A fault unless `holds`.
    pub(super) fn check_that(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.add(field, message);
        }
    }

    /// The refusal that names them all.
    pub(super) fn refusal(self) -> ControlError {
        ControlError::Invalid(self.0)
    }

    pub(super) fn finish(self) -> Result<(), ControlError> {
        if self.is_empty() { Ok(()) } else { Err(self.refusal()) }
    }

    pub(super) fn unknown_resource(&mut self, known: &[ResourceType]) {
        let known: Vec<_> = known.iter().map(|resource| resource.slug.as_str()).collect();
        self.add("resource_type", format!("there is no such resource; there are {}", known.join(", ")));
    }

    pub(super) fn name(&mut self, field: &str, text: &str) -> Option<String> {
        let name = text.trim();
        let good = is_line(name, NAME_LENGTH_MAX) && !name.is_empty();
        let message = format!("1 to {NAME_LENGTH_MAX} characters in one line are expected");
        self.check(field, good.then(|| name.to_owned()), message)
    }

    /// The outer `Option` tells whether it is good, the inner one whether it is there: empty text removes.
    pub(super) fn email(&mut self, field: &str, text: &str) -> Option<Option<String>> {
        self.contact(field, text, is_email, "an e-mail address like billing@example.com is expected")
    }

    /// As [`Faults::email`].
    pub(super) fn phone(&mut self, field: &str, text: &str) -> Option<Option<String>> {
        self.contact(field, text, is_phone, "a phone number like +41 44 668 18 00 is expected")
    }

    fn contact(
        &mut self,
        field: &str,
        text: &str,
        is_good: fn(&str) -> bool,
        expected: &str,
    ) -> Option<Option<String>> {
        let text = text.trim();
        let good = text.is_empty() || is_good(text);
        let value = (!text.is_empty()).then(|| text.to_owned());
        self.check(field, good.then_some(value), format!("`{}` won't do: {expected}", shortened(text)))
    }

    pub(super) fn timezone(&mut self, field: &str, text: &str) -> Option<Zone> {
        let message = format!("`{}` is no IANA time zone, like Europe/Zurich", shortened(text));
        self.check(field, Zone::named(text), message)
    }

    pub(super) fn locale(&mut self, field: &str, text: &str) -> Option<String> {
        let message = format!("`{}` is no BCP 47 language tag, like de-CH", shortened(text));
        self.check(field, is_language_tag(text).then(|| text.to_owned()), message)
    }

    pub(super) fn slug(&mut self, field: &str, text: &str) -> Option<Slug> {
        let message = format!(
            "`{}` is no slug: 1 to 63 of a-z, 0-9 and -, beginning with a letter, and no UUID",
            shortened(text)
        );
        self.check(field, text.parse().ok(), message)
    }

    /// A reason that may be missing; blank is missing.
    pub(super) fn reason(&mut self, text: Option<&str>) -> Option<String> {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        let good = text.chars().count() <= REASON_LENGTH_MAX;
        self.check(
            "reason",
            good.then(|| text.to_owned()),
            format!("more than {REASON_LENGTH_MAX} characters"),
        )
    }
}

fn is_line(text: &str, length_max: usize) -> bool {
    text.chars().count() <= length_max && !text.chars().any(char::is_control)
}

/// Input that is repeated to its sender, without its length.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// What mail servers accept in practice: quoted local parts and address literals are refused.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let local_letter =
        |letter: char| !letter.is_whitespace() && !letter.is_control() && !"@\"(),:;<>[\\]".contains(letter);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|letter| letter.is_alphanumeric() || letter == '-')
    };
    text.len() <= EMAIL_LENGTH_MAX
        && (1..=EMAIL_LOCAL_LENGTH_MAX).contains(&local.len())
        && local.chars().all(local_letter)
        && local.split('.').all(|atom| !atom.is_empty())
        && domain.contains('.')
        && domain.split('.').all(label)
}

fn is_phone(text: &str) -> bool {
    let number = text.strip_prefix('+').unwrap_or(text);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    text.len() <= PHONE_LENGTH_MAX
        && PHONE_DIGITS.contains(&digits)
        && number.bytes().all(|byte| byte.is_ascii_digit() || b" -().".contains(&byte))
}

/// Well-formedness after RFC 5646: language, script, region, variants, extensions, private use. Whether the
/// registry knows its parts is not asked.
fn is_language_tag(text: &str) -> bool {
    let mut parts = text.split('-').peekable();
    let word = |part: &&str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if text.len() > LOCALE_LENGTH_MAX || !text.split('-').all(|part| word(&part)) {
        return false;
    }
    let Some(language) = parts.next() else { return false };
    if !is_alphabetic(language, 2..=8) {
        return false;
    }
    if language.len() <= 3 {
        for _ in 0..3 {
            parts.next_if(|part| is_alphabetic(part, 3..=3));
        }
    }
    parts.next_if(|part| is_alphabetic(part, 4..=4));
    parts.next_if(|part| is_alphabetic(part, 2..=2) || is_numeric(part, 3));
    while parts.next_if(|part| is_variant(part)).is_some() {}
    extensions_follow(parts)
}

/// Each begins with one letter or digit and has a part at least; after `x` anything may come.
fn extensions_follow<'a>(mut parts: std::iter::Peekable<impl Iterator<Item = &'a str>>) -> bool {
    while let Some(singleton) = parts.next() {
        let private = singleton.eq_ignore_ascii_case("x");
        let mut length = 0;
        while parts.next_if(|part| private || part.len() > 1).is_some() {
            length += 1;
        }
        if singleton.len() != 1 || length == 0 {
            return false;
        }
    }
    true
}

fn is_variant(part: &str) -> bool {
    part.len() >= 5 || (part.len() == 4 && part.starts_with(|first: char| first.is_ascii_digit()))
}

fn is_alphabetic(part: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_numeric(part: &str, length: usize) -> bool {
    part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Faults, is_email, is_language_tag, is_phone};

    #[test]
    fn language_tags_are_those_of_bcp_47() {
        let good = "en de-CH zh-Hant-TW ca-ES-valencia sl-rozaj-biske de-CH-1996 es-419 zh-cmn-Hans-CN \
                    en-u-ca-buddhist de-x-private en-a-bbb-x-a-ccc mas";
        for tag in good.split_whitespace() {
            assert!(is_language_tag(tag), "{tag}");
        }
        for tag in [
            "",
            "e",
            "en_US",
            "de-",
            "-de",
            "english-language-x",
            "de-419-DE",
            "a-DE",
            "en-x",
            "en-u",
            "12",
            "d\u{e9}",
            "de-CH-de",
        ] {
            assert!(!is_language_tag(tag), "{tag}");
        }
    }

    #[test]
    fn e_mail_addresses_have_a_name_and_a_domain() {
        for good in ["a@example.com", "first.last+tag@sub.example.co", "päivi@example.fi", "x@bücher.example"]
        {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@example.com",
            "a@",
            "a@b",
            "a b@example.com",
            "a@exa mple.com",
            "a..b@example.com",
            "a@-x.com",
            "a@example..com",
            "a@b@example.com",
            "a\n@example.com",
            "<a@example.com>",
        ] {
            assert!(!is_email(bad), "{bad}");
        }
        assert!(!is_email(&format!("{}@example.com", "x".repeat(65))));
    }

    #[test]
    fn phone_numbers_have_4_to_15_digits() {
        for good in ["+41 44 668 18 00", "0446681800", "(030) 901-820", "+1.202.456.1111"] {
            assert!(is_phone(good), "{good}");
        }
        for bad in ["", "123", "+", "call me", "++41446681800", "1234567890123456", "044/668"] {
            assert!(!is_phone(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_check_panic_and_each_refusal_leaves_a_fault(text in "\\PC{0,80}|[a-zA-Z0-9@.+-]{0,40}") {
            let mut faults = Faults::default();
            let refused = [
                faults.name("name", &text).is_none(),
                faults.email("billing_email", &text).is_none(),
                faults.phone("contact_phone", &text).is_none(),
                faults.timezone("timezone", &text).is_none(),
                faults.locale("locale", &text).is_none(),
                faults.slug("slug", &text).is_none(),
            ];
            prop_assert_eq!(refused.iter().filter(|refused| **refused).count(), faults.0.len());
        }
    }
}
