//! From the tree to typed sections, by serde, without stopping at the first fault.
//!
//! serde stops at the first error. So the item that caused it is noted and cut out, and the tree is read again,
//! until it reads. Sections fill what is missing with their defaults, hence every round ends with one item less.
//! # Why not the deserializer of `toml`
//! Its errors are sentences: no key path, no list of the known keys to suggest from. Ours are values. It also
//! knows references (`env:NAME`, `file:PATH`), which stand for a value of any type.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};

use super::fault::Finding;
use super::outside::{Outside, Reference};
use super::tree::{self, Node, Value};

/// A report of more faults helps nobody, and each costs a reading of the file.
const FAULTS_MAX: usize = 100;

/// The longest piece of a value that a fault quotes, in characters.
const QUOTED_MAX: usize = 60;

/// The name by which a type asks for its text as written: `file:` is then part of the value.
pub(super) const VERBATIM: &str = "Verbatim";

/// What could be read, the faults of the rest, and the paths that have been cut out.
#[derive(Debug)]
pub(super) struct Reading<T> {
    /// `None` when there were too many faults to go on.
    pub(super) value: Option<T>,
    pub(super) findings: Vec<Finding>,
    pub(super) cut: BTreeSet<String>,
}

/// Why a value could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The value has the wrong type or form.
    Expected(String),
    /// A text that is none of those.
    UnknownValue { allowed: &'static [&'static str] },
    /// A key that the table does not have.
    UnknownKey { key: String, allowed: &'static [&'static str] },
    /// A sentence by the type that was to be read.
    Other(String),
    /// Any of the above, once the item is known that caused it.
    Located(Finding),
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    context: &'a Context<'a>,
}

struct Context<'a> {
    outside: &'a Outside<'a>,
    cut: RefCell<BTreeSet<String>>,
}

struct Entries<'a> {
    context: &'a Context<'a>,
    rest: std::slice::Iter<'a, (String, Node)>,
    value: Option<&'a Node>,
}

struct Items<'a> {
    context: &'a Context<'a>,
    rest: std::slice::Iter<'a, Node>,
}

/// Reads `root` as a `T`, collecting at most [`FAULTS_MAX`] faults.
pub(super) fn read<T>(root: &Node, outside: &Outside<'_>) -> Reading<T>
where
    T: for<'de> Deserialize<'de>,
{
    let context = Context { outside, cut: RefCell::default() };
    let mut findings = Vec::new();
    let value = loop {
        let error = match T::deserialize(Reader { node: root, context: &context }) {
            Ok(value) => break Some(value),
            Err(error) => error.locate(root, outside),
        };
        let mut cut = context.cut.borrow_mut();
        // A table that lacks an item after one was cut out of it lacks that one: no fault of its own.
        let is_consequence = cut.iter().any(|cut| tree::is_inside(cut, &error.key));
        let is_new = cut.insert(error.key.clone());
        if !is_consequence {
            findings.push(error);
        }
        if !is_new || findings.len() == FAULTS_MAX {
            break None;
        }
    };
    Reading { value, findings, cut: context.cut.into_inner() }
}

/// The word of `known` that `word` was probably meant to be.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong: `upsteam` is `upstream`, `foo` is nothing.
    let distance_max = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` or `c` ``.
pub(super) fn either<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

// === impl ReadError ===

impl ReadError {
    /// The error as a finding at `node`, unless an inner item caused it.
    fn locate(self, node: &Node, outside: &Outside<'_>) -> Finding {
        let message = match self {
            ReadError::Located(finding) => return finding,
            ReadError::Expected(expected) => format!("expected {expected}, found {}", found(node, outside)),
            ReadError::UnknownValue { allowed } => unknown_value(node, allowed, outside),
            ReadError::UnknownKey { key, allowed } => unknown_key(&key, allowed),
            ReadError::Other(message) => message,
        };
        Finding { offset: node.offset, key: node.path.clone(), message }
    }

    fn expected(what: &dyn Expected) -> Self {
        ReadError::Expected(plain(&what.to_string()).into_owned())
    }
}

/// What a value looks like, without telling what a reference holds.
fn found(node: &Node, outside: &Outside<'_>) -> String {
    match &node.value {
        Value::Text(text) => match outside.reference(text) {
            Some(reference) => format!("what `{reference}` holds"),
            None => quoted(text),
        },
        Value::Integer(integer) => format!("the integer {integer}"),
        Value::Float(float) => format!("the number {float}"),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Date(date) => format!("the date {date}"),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// The text in quotes, cut to a readable length. One that may hold credentials is not shown.
fn quoted(text: &str) -> String {
    if text.contains('@') || text.contains("password") {
        return "a text with credentials".to_owned();
    }
    let mut quoted: String = text.chars().take(QUOTED_MAX).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    format!("{quoted:?}")
}

fn unknown_key(key: &str, allowed: &[&str]) -> String {
    let mut message = format!("unknown key `{key}`; ");
    // Writing to a string can't fail.
    let _ = match did_you_mean(key, allowed.iter().copied()) {
        Some(meant) => write!(message, "did you mean `{meant}`?"),
        None => write!(message, "known here: {}", either(allowed.iter().copied())),
    };
    message
}

fn unknown_value(node: &Node, allowed: &[&str], outside: &Outside<'_>) -> String {
    let mut message = format!("expected {}, found {}", either(allowed.iter().copied()), found(node, outside));
    if let Value::Text(text) = &node.value
        && outside.reference(text).is_none()
        && let Some(meant) = did_you_mean(text, allowed.iter().copied())
    {
        let _ = write!(message, "; did you mean `{meant}`?");
    }
    message
}

/// serde's words for a type, in the words of TOML.
fn plain(expected: &str) -> Cow<'_, str> {
    match expected {
        "u8" => "an integer from 0 to 255".into(),
        "u16" => "an integer from 0 to 65535".into(),
        "u32" => "an integer from 0 to 4294967295".into(),
        "u64" | "usize" => "an integer of at least 0".into(),
        "a sequence" => "a list".into(),
        "a boolean" => "true or false".into(),
        "a map" => "a table".into(),
        "path string" => "a path".into(),
        other => other.into(),
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ReadError::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        ReadError::expected(expected)
    }

    fn missing_field(key: &'static str) -> Self {
        ReadError::Other(format!("`{key}` is missing"))
    }

    fn unknown_variant(_: &str, allowed: &'static [&'static str]) -> Self {
        ReadError::UnknownValue { allowed }
    }

    fn unknown_field(key: &str, allowed: &'static [&'static str]) -> Self {
        ReadError::UnknownKey { key: key.to_owned(), allowed }
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// The text of the node, with a reference resolved; `None` if it is no text.
    fn text(&self) -> Result<Option<Cow<'a, str>>, ReadError> {
        let Value::Text(text) = &self.node.value else { return Ok(None) };
        match self.context.outside.reference(text) {
            Some(reference) => self.resolve(&reference).map(|text| Some(text.into())),
            None => Ok(Some(text.into())),
        }
    }

    fn resolve(&self, reference: &Reference<'_>) -> Result<String, ReadError> {
        self.context.outside.resolve(reference).map_err(ReadError::Other)
    }

    /// The text of a reference as an integer, so that `workers = "env:WORKERS"` works.
    fn referenced<T: std::str::FromStr>(&self) -> Result<Option<T>, ReadError> {
        let Value::Text(text) = &self.node.value else { return Ok(None) };
        let Some(reference) = self.context.outside.reference(text) else { return Ok(None) };
        Ok(self.resolve(&reference)?.trim().parse().ok())
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.referenced::<i128>()? {
            Some(integer) => visit_integer(integer, visitor),
            None => self.deserialize_any(visitor),
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(integer: i128, visitor: V) -> Result<V::Value, ReadError> {
    if let Ok(integer) = u64::try_from(integer) {
        visitor.visit_u64(integer)
    } else if let Ok(integer) = i64::try_from(integer) {
        visitor.visit_i64(integer)
    } else {
        Err(de::Error::invalid_value(Unexpected::Other("integer"), &visitor))
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.integer(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        if let Some(text) = self.text()? {
            return visitor.visit_str(&text);
        }
        match &self.node.value {
            Value::Text(text) | Value::Date(text) => {
                Err(de::Error::invalid_type(Unexpected::Str(text), &visitor))
            }
            Value::Integer(integer) => visit_integer(*integer, visitor),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::List(items) => visitor.visit_seq(Items { context: self.context, rest: items.iter() }),
            Value::Table(entries) => {
                visitor.visit_map(Entries { context: self.context, rest: entries.iter(), value: None })
            }
        }
    }

    integers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
              deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.referenced()? {
            Some(boolean) => visitor.visit_bool(boolean),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Text(text) if name == VERBATIM && text.starts_with("file:") => visitor.visit_str(text),
            _ if name == VERBATIM => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    /// A list is no table, though serde would take it for one.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(_) => self.deserialize_any(visitor),
            _ => Err(ReadError::Expected("a table".to_owned())),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        allowed: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.text()? {
            Some(text) => visitor.visit_enum((&*text).into_deserializer()),
            None => Err(ReadError::UnknownValue { allowed }),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

// === impl Entries, Items ===

impl Context<'_> {
    fn is_cut(&self, node: &Node) -> bool {
        self.cut.borrow().contains(&node.path)
    }

    fn locate(&self, error: ReadError, node: &Node) -> ReadError {
        ReadError::Located(error.locate(node, self.outside))
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, node)) = self.rest.find(|(_, node)| !self.context.is_cut(node)) else {
            return Ok(None);
        };
        self.value = Some(node);
        let key = seed.deserialize(key.as_str().into_deserializer());
        key.map(Some).map_err(|error: ReadError| self.context.locate(error, node))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some(node) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        let value = seed.deserialize(Reader { node, context: self.context });
        value.map_err(|error| self.context.locate(error, node))
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.rest.find(|node| !self.context.is_cut(node)) else { return Ok(None) };
        let item = seed.deserialize(Reader { node, context: self.context });
        item.map(Some).map_err(|error| self.context.locate(error, node))
    }
}
