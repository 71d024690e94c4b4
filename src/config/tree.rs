//! The parsed file as a tree whose every value knows its key path and its offset in the text.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::Finding;

/// Deeper nesting than any valid configuration has. Bounds the recursion of readers.
const DEPTH_MAX: usize = 32;

/// One value of the file.
#[derive(Debug)]
pub(super) struct Node {
    /// For example `route[0].charge.api_calls`; unique in the file.
    pub(super) path: String,
    /// Of the key, or of the value when it is an item of a list. In bytes.
    pub(super) offset: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// TOML has dates; no key of ours takes one.
    Date(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// Offsets by key path, for faults that are found after reading.
#[derive(Debug, Default)]
pub(super) struct Offsets(HashMap<String, usize>);

// === impl Node ===

impl Node {
    /// # Errors
    /// The first fault of TOML's grammar. What follows a broken line can't be told from what it broke.
    pub(super) fn parse(text: &str) -> Result<Node, Finding> {
        let table = DeTable::parse(text).map_err(|error| Finding {
            offset: error.span().map_or(0, |span| span.start),
            key: String::new(),
            message: error.message().lines().collect::<Vec<_>>().join(", "),
        })?;
        Node::table(String::new(), 0, table.into_inner(), DEPTH_MAX)
    }

    fn new(path: String, offset: usize, value: DeValue<'_>, depth: usize) -> Result<Node, Finding> {
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(integer) => {
                // Only a number of more than 38 digits has no i128; it is out of every range anyway.
                Value::Integer(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(date) => Value::Date(date.to_string()),
            DeValue::Array(_) | DeValue::Table(_) if depth == 0 => {
                return Err(Finding { offset, key: path, message: "is nested too deeply".to_owned() });
            }
            DeValue::Array(items) => return Node::list(path, offset, items, depth - 1),
            DeValue::Table(table) => return Node::table(path, offset, table, depth - 1),
        };
        Ok(Node { path, offset, value })
    }

    fn list<'i>(
        path: String,
        offset: usize,
        items: impl IntoIterator<Item = Spanned<DeValue<'i>>>,
        depth: usize,
    ) -> Result<Node, Finding> {
        let item = |(index, item): (usize, Spanned<DeValue<'i>>)| {
            Node::new(item_path(&path, index), item.span().start, item.into_inner(), depth)
        };
        let items = items.into_iter().enumerate().map(item).collect::<Result<_, _>>()?;
        Ok(Node { path, offset, value: Value::List(items) })
    }

    fn table(path: String, offset: usize, table: DeTable<'_>, depth: usize) -> Result<Node, Finding> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let offset = key.span().start;
            let key = key.into_inner().into_owned();
            let node = Node::new(key_path(&path, &key), offset, value.into_inner(), depth)?;
            entries.push((key, node));
        }
        Ok(Node { path, offset, value: Value::Table(entries) })
    }
}

// === impl Offsets ===

impl Offsets {
    pub(super) fn of(root: &Node) -> Self {
        let mut offsets = Offsets::default();
        offsets.add(root);
        offsets
    }

    fn add(&mut self, node: &Node) {
        self.0.insert(node.path.clone(), node.offset);
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.add(item)),
            Value::Table(entries) => entries.iter().for_each(|(_, entry)| self.add(entry)),
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Date(_) => {}
        }
    }

    /// `None` when the file does not have the key.
    pub(super) fn get(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }
}

/// The path of `key` in the table at `path`. Keys that are no bare keys of TOML are quoted.
pub(super) fn key_path(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.chars().all(bare) {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}

/// The path of the item at `index` in the list at `path`.
pub(super) fn item_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Whether `path` is that of something inside the table or list at `outer`.
pub(super) fn is_inside(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']))
}
