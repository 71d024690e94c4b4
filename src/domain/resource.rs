//! What is counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The name of something that is counted, for example `api_calls`. Held inline: copying it allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    length: u8,
    bytes: [u8; Resource::LENGTH_MAX],
}

/// Text that is no resource's name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no resource name: 1 to 31 of a-z, 0-9 and _, beginning with a letter")]
pub struct BadResource(pub String);

/// How a resource is counted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// Counts up inside a window and starts again at the next.
    Counter,
    /// Holds until released; its window never ends.
    Gauge,
}

/// One row of `resource_types`. Operators add their own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ResourceType {
    pub slug: Resource,
    pub kind: ResourceKind,
    /// What one unit is, for example `call` or `byte`.
    pub unit: String,
    /// How people read it, for example `API calls`.
    pub display: String,
}

/// What people call resources, and how much of them they read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResourceNames(Vec<ResourceType>);

// === impl ResourceNames ===

impl ResourceNames {
    pub fn of(kinds: Vec<ResourceType>) -> ResourceNames {
        ResourceNames(kinds)
    }

    pub fn all(&self) -> &[ResourceType] {
        &self.0
    }

    /// For example `API calls`; of one that nobody has named, its own name as words.
    pub fn display(&self, resource: Resource) -> String {
        self.find(resource).map_or_else(|| in_words(resource.as_str()), |kind| kind.display.clone())
    }

    /// For example `12,345`; of bytes, `9.87 GB`: 10^9 of them, rounded down.
    pub fn told(&self, resource: Resource, units: u64) -> String {
        if self.is_in_bytes(resource) { bytes(units) } else { grouped(units) }
    }

    /// Whether [`ResourceNames::told`] leaves something out.
    pub fn is_in_bytes(&self, resource: Resource) -> bool {
        self.find(resource).is_some_and(|kind| kind.unit == "byte")
    }

    fn find(&self, resource: Resource) -> Option<&ResourceType> {
        self.0.iter().find(|kind| kind.slug == resource)
    }
}

/// A name of ours as words: `past_due` is `Past due`.
pub fn in_words(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ");
    let mut letters = spaced.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", letters.as_str())
}

/// A number with its thousands apart: 12,345.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

fn bytes(units: u64) -> String {
    const SIZES: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let Some((size, name)) = SIZES.into_iter().find(|(size, _)| units >= *size) else {
        return format!("{units} B");
    };
    let (whole, hundredths) = (units / size, units % size * 100 / size);
    let part = match hundredths {
        0 => String::new(),
        part if part % 10 == 0 => format!(".{}", part / 10),
        part => format!(".{part:02}"),
    };
    format!("{}{part} {name}", grouped(whole))
}

// === impl Resource ===

impl Resource {
    pub const LENGTH_MAX: usize = 31;

    pub fn as_str(&self) -> &str {
        // Only `from_str` fills the bytes, and only with ASCII.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl FromStr for Resource {
    type Err = BadResource;

    fn from_str(name: &str) -> Result<Self, BadResource> {
        let bad = || BadResource(name.to_owned());
        let length = u8::try_from(name.len()).map_err(|_| bad())?;
        let body = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.len() > Resource::LENGTH_MAX
            || !name.starts_with(|first: char| first.is_ascii_lowercase())
            || !name.bytes().all(body)
        {
            return Err(bad());
        }
        let mut bytes = [0; Resource::LENGTH_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Resource { length, bytes })
    }
}

impl PartialSchema for Resource {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[a-z][a-z0-9_]*$"));
        text.max_length(Some(Resource::LENGTH_MAX)).examples(["api_calls"]).into()
    }
}

impl ToSchema for Resource {}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// === impl ResourceKind ===

impl ResourceKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            ResourceKind::Counter => "counter",
            ResourceKind::Gauge => "gauge",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [ResourceKind::Counter, ResourceKind::Gauge].into_iter().find(|kind| kind.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Resource, ResourceKind, ResourceNames, ResourceType, grouped};

    #[test]
    fn amounts_and_names_read_well() {
        let kind = |slug: &str, unit: &str, display: &str| ResourceType {
            slug: slug.parse().unwrap(),
            kind: ResourceKind::Counter,
            unit: unit.to_owned(),
            display: display.to_owned(),
        };
        let names = ResourceNames::of(vec![
            kind("api_calls", "call", "API calls"),
            kind("storage", "byte", "Storage"),
        ]);
        assert_eq!(names.display("api_calls".parse().unwrap()), "API calls");
        assert_eq!(names.display("own_thing".parse().unwrap()), "Own thing");
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let storage = |units| names.told("storage".parse().unwrap(), units);
        assert_eq!(storage(999), "999 B");
        assert_eq!(storage(1_500), "1.5 kB");
        assert_eq!(storage(1_000_000_000), "1 GB");
        assert_eq!(storage(9_999_999_999), "9.99 GB", "never more than it is");
        assert_eq!(storage(1_050_000_000_000), "1.05 TB");
        assert_eq!(names.told("api_calls".parse().unwrap(), 12_345), "12,345");
    }

    #[test]
    fn names_are_lowercase_words_of_at_most_31_bytes() {
        for good in ["a", "api_calls", "gb2", &"x".repeat(31)] {
            assert_eq!(good.parse::<Resource>().map(|r| r.as_str().to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "Api", "1st", "_x", "a-b", "a b", "ä", &"x".repeat(32), &"x".repeat(300)] {
            assert!(bad.parse::<Resource>().is_err(), "{bad}");
        }
    }
}
