//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One thing that is wrong. Prints as compilers do: `file:line:column: key: message`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fault {
    pub file: PathBuf,
    /// Absent when the file could not be read at all.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// The path of the key, for example `route[0].upstream`. Empty for faults of the whole file.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Where in the file. Both count from 1; columns count characters, as editors do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Everything that is wrong, in the order of the file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

/// A fault that knows its offset in the text, not yet its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    pub(super) offset: usize,
    pub(super) key: String,
    pub(super) message: String,
}

// === impl Position ===

impl Position {
    /// The position of the byte at `offset`, or of the text's end when it is shorter.
    fn in_text(text: &str, offset: usize) -> Self {
        let character = (0..=offset.min(text.len())).rev().find(|&offset| text.is_char_boundary(offset));
        let before = &text[..character.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

// === impl Faults ===

impl Faults {
    /// `None` when nothing was found.
    pub(super) fn of(mut findings: Vec<Finding>, text: &str, file: &Path) -> Option<Self> {
        findings.sort_by(|a, b| (a.offset, &a.key).cmp(&(b.offset, &b.key)));
        let faults: Vec<Fault> = findings.into_iter().map(|finding| finding.place(text, file)).collect();
        (!faults.is_empty()).then_some(Faults(faults))
    }

    /// A fault of the file as a whole: it can't be opened, or is no text.
    pub(super) fn of_file(file: &Path, message: impl fmt::Display) -> Self {
        Faults(vec![Fault {
            file: file.to_owned(),
            position: None,
            key: String::new(),
            message: message.to_string(),
        }])
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    /// At least 1.
    #[expect(clippy::len_without_is_empty, reason = "there is no such thing as no faults")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One fault per line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

// === impl Finding ===

impl Finding {
    fn place(self, text: &str, file: &Path) -> Fault {
        Fault {
            file: file.to_owned(),
            position: Some(Position::in_text(text, self.offset)),
            key: self.key,
            message: self.message,
        }
    }
}
