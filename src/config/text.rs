//! Values that are written as text: durations, sizes, addresses, names.
//!
//! A section says `#[serde(with = "One::<Duration>")]` (or [`Maybe`], [`Many`], [`OneOrMany`], [`Bytes`],
//! [`MaybeBytes`]), which
//! reads the field, writes it, and describes it in the JSON Schema.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use super::read::VERBATIM;

/// A value with a textual form.
pub(super) trait FromText: Sized {
    /// The definition's name in the JSON Schema.
    const NAME: &'static str;
    /// Completes "expected …"; names an example.
    const EXPECTED: &'static str;
    /// Whether `file:` belongs to the value, and is no reference.
    const IS_VERBATIM: bool = false;

    fn from_text(text: &str) -> Option<Self>;
    fn to_text(&self) -> String;
}

/// A field of one `T`.
pub(super) struct One<T>(PhantomData<T>);

/// A field of one `T`, or none.
pub(super) struct Maybe<T>(PhantomData<T>);

/// A field of a list of `T`.
pub(super) struct Many<T>(PhantomData<T>);

/// A field of a list of `T`; a single one need not be in brackets.
pub(super) struct OneOrMany<T>(PhantomData<T>);

/// A `u64` of bytes: an integer, or text such as `64MiB`.
pub(super) struct Bytes;

/// The same, or none.
pub(super) struct MaybeBytes;

/// The name of a header, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeaderName(String);

/// A host: a name, a wildcard of one level (`*.example.com`) or an address, in lower case, without a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPattern(String);

/// The method of a request. Never CONNECT or TRACE, which are not proxied.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Method(String);

struct Item<T>(T);

struct ItemVisitor<T>(PhantomData<T>);

struct OneOrManyVisitor<T>(PhantomData<T>);

struct BytesVisitor;

// === impl FromText ===

const DURATION_UNITS: [(&str, u128); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

const SIZE_UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromText for Duration {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration such as \"25ms\", \"10s\", \"5m\", \"1h\" or \"30d\"";

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let (_, unit_nanos) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let nanos = u64::try_from(u128::from(number).checked_mul(unit_nanos)?).ok()?;
        Some(Duration::from_nanos(nanos))
    }

    fn to_text(&self) -> String {
        let nanos = self.as_nanos();
        let exact =
            DURATION_UNITS.into_iter().find(|(_, unit)| nanos.is_multiple_of(*unit) && nanos >= *unit);
        exact.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", nanos / unit))
    }
}

impl FromText for SocketAddr {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an IP address with a port, such as \"0.0.0.0:8080\" or \"[::]:8080\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromText for IpNet {
    const NAME: &'static str = "Network";
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\", or an address";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromText for HeaderName {
    const NAME: &'static str = "HeaderName";
    const EXPECTED: &'static str = "the name of a header, such as \"x-api-key\"";

    fn from_text(text: &str) -> Option<Self> {
        is_token(text).then(|| HeaderName(text.to_ascii_lowercase()))
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

impl FromText for HostPattern {
    const NAME: &'static str = "Host";
    const EXPECTED: &'static str = "a host without a port, such as \"api.example.com\" or \"*.example.com\"";

    fn from_text(text: &str) -> Option<Self> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        is_host(name).then(|| HostPattern(text.to_ascii_lowercase()))
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

impl FromText for Method {
    const NAME: &'static str = "Method";
    const EXPECTED: &'static str =
        "a method in capitals, such as \"GET\"; CONNECT and TRACE are never proxied";

    fn from_text(text: &str) -> Option<Self> {
        let is_method = is_token(text) && !text.contains(|c: char| c.is_ascii_lowercase());
        (is_method && text != "CONNECT" && text != "TRACE").then(|| Method(text.to_owned()))
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim_start()))
}

/// A token of RFC 9110, section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A name of DNS, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

// === impl HeaderName, HostPattern, Method ===

macro_rules! text_type {
    ($($type:ident)*) => {$(
        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::from_text(text).ok_or_else(|| format!("expected {}", Self::EXPECTED))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

text_type!(HeaderName HostPattern Method);

impl HeaderName {
    /// A name that is known to be one.
    pub(super) fn known(name: &'static str) -> Self {
        debug_assert!(is_token(name) && !name.contains(|c: char| c.is_ascii_uppercase()), "{name}");
        HeaderName(name.to_owned())
    }
}

// === impl One, Maybe, Many, OneOrMany ===

impl<T: FromText> One<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        Item::deserialize(deserializer).map(|item| item.0)
    }

    pub(super) fn serialize<S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_text())
    }
}

impl<T: FromText> Maybe<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        One::deserialize(deserializer).map(Some)
    }

    pub(super) fn serialize<S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_text).serialize(serializer)
    }
}

impl<T: FromText> Many<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        let items: Vec<Item<T>> = Vec::deserialize(deserializer)?;
        Ok(items.into_iter().map(|item| item.0).collect())
    }

    pub(super) fn serialize<S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(T::to_text))
    }
}

impl<T: FromText> OneOrMany<T> {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }

    pub(super) fn serialize<S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        match values {
            [one] => One::serialize(one, serializer),
            many => Many::serialize(many, serializer),
        }
    }
}

impl<'de, T: FromText> Deserialize<'de> for Item<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let item = if T::IS_VERBATIM {
            deserializer.deserialize_newtype_struct(VERBATIM, ItemVisitor(PhantomData))
        } else {
            deserializer.deserialize_str(ItemVisitor(PhantomData))
        };
        item.map(Item)
    }
}

impl<T: FromText> Visitor<'_> for ItemVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de, T: FromText> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of them", T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        ItemVisitor(PhantomData).visit_str(text).map(|one| vec![one])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Vec<T>, A::Error> {
        Many::deserialize(de::value::SeqAccessDeserializer::new(items))
    }
}

// === impl Bytes, MaybeBytes ===

impl Bytes {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields in by reference")]
    pub(super) fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let binary = SIZE_UNITS.into_iter().take(3);
        match binary.into_iter().find(|(_, unit)| *bytes >= *unit && bytes.is_multiple_of(*unit)) {
            Some((name, unit)) => serializer.collect_str(&format_args!("{}{name}", bytes / unit)),
            None => serializer.serialize_u64(*bytes),
        }
    }

    fn parse(text: &str) -> Option<u64> {
        let (number, unit) = number_and_unit(text)?;
        if unit.is_empty() {
            return Some(number);
        }
        let (_, unit_bytes) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(unit_bytes)
    }
}

impl MaybeBytes {
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Bytes::deserialize(deserializer).map(Some)
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => Bytes::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }
}

impl Visitor<'_> for BytesVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as 65536, \"64KiB\" or \"64MiB\"")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        Bytes::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

// === impl JsonSchema ===

impl<T: FromText> JsonSchema for One<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": sentence(T::EXPECTED) })
    }
}

impl<T: FromText> JsonSchema for Maybe<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<One<T>>()
    }
}

impl<T: FromText> JsonSchema for Many<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::NAME).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<One<T>>() })
    }
}

impl<T: FromText> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrList", T::NAME).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<One<T>>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let description =
            sentence("a number of bytes: an integer, or text such as \"64KiB\", \"64MiB\" or \"1GB\"");
        json_schema!({ "type": ["integer", "string"], "minimum": 0, "description": description })
    }
}

impl JsonSchema for MaybeBytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Bytes::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Bytes>()
    }
}

fn sentence(expected: &str) -> String {
    let mut letters = expected.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}
