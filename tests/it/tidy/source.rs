//! A source file with its comments, literals and tests told apart from what runs.

use std::ops::Range;
use std::path::Path;

/// A file of the repository.
pub(crate) struct Source {
    /// Relative to the repository's root, with `/`.
    pub path: String,
    pub text: String,
    /// `text` with comments and literals blanked out, line by line the same.
    pub code: String,
}

/// Something that must not be there.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offence {
    pub path: String,
    pub line: usize,
    pub what: String,
}

// === impl Source ===

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") { blank(&text) } else { text.clone() };
        Source { path, text, code }
    }

    /// Every text file below `directory` whose path `wanted` accepts, in order of path.
    pub(crate) fn all_below(
        root: &Path,
        directory: &str,
        wanted: impl Fn(&str) -> bool + Copy,
    ) -> Vec<Source> {
        let mut sources = Vec::new();
        let Ok(entries) = std::fs::read_dir(root.join(directory)) else { return sources };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().expect("a path of UTF-8");
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            if entry.file_type().expect("a file has a type").is_dir() {
                sources.extend(Source::all_below(root, &path, wanted));
            } else if wanted(&path)
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                sources.push(Source::new(path, text));
            }
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        sources
    }

    /// The code without modules that only tests see.
    pub(crate) fn production(&self) -> String {
        let files = ["tests.rs", "testing.rs"];
        let is_test = files.iter().any(|file| self.path.ends_with(file)) || self.path.contains("/tests/");
        if is_test { String::new() } else { without_tests(&self.code) }
    }

    pub(crate) fn offence(&self, offset: usize, what: impl Into<String>) -> Offence {
        let line = self.text.chars().take(offset).filter(|c| *c == '\n').count() + 1;
        Offence { path: self.path.clone(), line, what: what.into() }
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Where `word` stands in `code` as a whole word or path, in characters.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let begins = code
        .match_indices(word)
        .filter(|(at, _)| !code[..*at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part));
    begins.map(|(at, _)| code[..at].chars().count()).collect()
}

/// The first segments of paths below `root::`, with their offsets: of `crate::{a::B, c}` it is `a` and `c`.
pub(crate) fn imports(code: &str, root: &str) -> Vec<(usize, String)> {
    let letters: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    for at in words(code, root) {
        let after = at + root.chars().count();
        if letters.get(after..after + 2) != Some(&[':', ':']) {
            continue;
        }
        match letters.get(after + 2) {
            Some('{') => found.extend(group(&letters, after + 2)),
            _ => found.extend(word_at(&letters, after + 2)),
        }
    }
    found
}

/// The first words of the items between the braces that open at `open`.
fn group(letters: &[char], open: usize) -> Vec<(usize, String)> {
    let end = closing(letters, open);
    let mut depth = 0;
    let mut begins = vec![open + 1];
    for (at, letter) in letters.iter().enumerate().take(end).skip(open) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins.push(at + 1),
            _ => {}
        }
    }
    let skip_space = |at: usize| (at..end).find(|at| !letters[*at].is_whitespace());
    begins.into_iter().filter_map(skip_space).filter_map(|at| word_at(letters, at)).collect()
}

fn word_at(letters: &[char], at: usize) -> Option<(usize, String)> {
    let word: String = letters[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
    (!word.is_empty()).then_some((at, word))
}

/// The offset of the brace that closes the one at `open`, or the end.
fn closing(letters: &[char], open: usize) -> usize {
    let mut depth = 0;
    let is_closing = |at: &usize| {
        match letters[*at] {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    (open..letters.len()).find(is_closing).unwrap_or(letters.len())
}

/// Blanks the items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut letters: Vec<char> = code.chars().collect();
    let attribute: Vec<char> = "#[cfg(test)]".chars().collect();
    let mut at = 0;
    while at + attribute.len() <= letters.len() {
        if letters[at..].starts_with(&attribute) {
            let begin = at + attribute.len();
            let end = (begin..letters.len()).find(|at| matches!(letters[*at], ';' | '{'));
            let end = end
                .map_or(letters.len(), |end| if letters[end] == '{' { closing(&letters, end) } else { end });
            blank_out(&mut letters, at..end);
        }
        at += 1;
    }
    letters.into_iter().collect()
}

/// Blanks comments, strings and characters.
fn blank(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < letters.len() {
        let end = end_of_blank(&letters, at);
        if let Some(end) = end {
            blank_out(&mut letters, at..end);
        }
        at = end.unwrap_or(at + 1).max(at + 1);
    }
    letters.into_iter().collect()
}

fn blank_out(letters: &mut [char], range: Range<usize>) {
    letters[range].iter_mut().filter(|letter| **letter != '\n').for_each(|letter| *letter = ' ');
}

/// Where the comment or literal ends that begins at `at`; `None` if none does.
fn end_of_blank(letters: &[char], at: usize) -> Option<usize> {
    let is = |offset: usize, letter: char| letters.get(at + offset) == Some(&letter);
    let in_word = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
    match letters[at] {
        '/' if is(1, '/') => Some(find(letters, at, &['\n'])),
        '/' if is(1, '*') => Some(end_of_block(letters, at)),
        '"' => Some(end_of_quoted(letters, at, '"')),
        'r' if !in_word || letters[at - 1] == 'b' => end_of_raw(letters, at),
        // A lifetime has no quote behind it.
        '\'' if is(1, '\\') || is(2, '\'') => Some(end_of_quoted(letters, at, '\'')),
        _ => None,
    }
}

/// The offset behind the next `pattern`, or the end.
fn find(letters: &[char], from: usize, pattern: &[char]) -> usize {
    (from..letters.len())
        .find(|at| letters[*at..].starts_with(pattern))
        .map_or(letters.len(), |at| at + pattern.len())
}

fn end_of_block(letters: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut at = at;
    while at < letters.len() {
        match letters.get(at..at + 2) {
            Some(['/', '*']) => (depth, at) = (depth + 1, at + 2),
            Some(['*', '/']) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    letters.len()
}

fn end_of_quoted(letters: &[char], at: usize, quote: char) -> usize {
    let mut at = at + 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            letter if letter == quote => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

fn end_of_raw(letters: &[char], at: usize) -> Option<usize> {
    let hashes = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
    let open = at + 1 + hashes;
    (letters.get(open) == Some(&'"')).then(|| {
        let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
        find(letters, open + 1, &close)
    })
}
