//! What a value may refer to outside the file: environment variables and other files.
//!
//! The only place that reads the environment. Tests hand in a closure instead.

use std::fmt;
use std::io::Read as _;

/// A reference to more than this is no configuration value.
const REFERENCED_BYTES_MAX: u64 = 1 << 20;

/// Answers references.
pub(super) struct Outside<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// `env:NAME` or `file:PATH`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reference<'t> {
    Variable(&'t str),
    File(&'t str),
}

// === impl Outside ===

impl<'a> Outside<'a> {
    pub(super) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Outside { variable }
    }

    /// What `text` refers to; `None` if it stands for itself.
    pub(super) fn reference<'t>(&self, text: &'t str) -> Option<Reference<'t>> {
        let variable = text.strip_prefix("env:").map(Reference::Variable);
        variable.or_else(|| text.strip_prefix("file:").map(Reference::File))
    }

    /// The text that is referred to, without the line ends that editors put at a file's end.
    ///
    /// # Errors
    /// A sentence that names the reference and why it has no text.
    pub(super) fn resolve(&self, reference: &Reference<'_>) -> Result<String, String> {
        let text = match *reference {
            Reference::Variable(name) => {
                (self.variable)(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))
            }
            Reference::File(path) => {
                read_file(path).map_err(|error| format!("the file `{path}` can't be read: {error}"))
            }
        }?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(format!("`{reference}` is empty")) } else { Ok(text.to_owned()) }
    }
}

/// The variable of this process's environment. `None` if it is not set or is no Unicode.
pub(super) fn environment(name: &str) -> Option<String> {
    // `var` panics on names that no variable can have.
    let possible = !name.is_empty() && !name.contains(['=', '\0']);
    possible.then(|| std::env::var(name).ok()).flatten()
}

fn read_file(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(REFERENCED_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

// === impl Reference ===

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Variable(name) => write!(f, "env:{name}"),
            Reference::File(path) => write!(f, "file:{path}"),
        }
    }
}
