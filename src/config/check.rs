//! Where validation stands in the file, and where it leaves what it finds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::fault::Finding;
use super::read::did_you_mean;
use super::tree::{Offsets, is_inside, item_path, key_path};

/// A key of the file, under validation.
pub(super) struct Check<'a> {
    path: String,
    /// Where the nearest key is that the file does have.
    offset: usize,
    ledger: &'a Ledger<'a>,
}

/// Findings of one validation.
pub(super) struct Ledger<'a> {
    offsets: &'a Offsets,
    /// Paths that have a fault already: what follows from it is not reported.
    cut: &'a BTreeSet<String>,
    findings: RefCell<Vec<Finding>>,
}

// === impl Check ===

impl Check<'_> {
    /// The check of `key` in this table.
    pub(super) fn key(&self, key: &str) -> Self {
        self.at(key_path(&self.path, key))
    }

    /// The check of the item at `index` of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        self.at(item_path(&self.path, index))
    }

    fn at(&self, path: String) -> Self {
        let offset = self.ledger.offsets.get(&path).unwrap_or(self.offset);
        Check { path, offset, ledger: self.ledger }
    }

    pub(super) fn fault(&self, message: impl fmt::Display) {
        if self.ledger.is_cut(&self.path) {
            return;
        }
        let finding = Finding { offset: self.offset, key: self.path.clone(), message: message.to_string() };
        self.ledger.findings.borrow_mut().push(finding);
    }

    pub(super) fn ensure(&self, holds: bool, message: impl fmt::Display) {
        if !holds {
            self.fault(message);
        }
    }

    pub(super) fn not_empty(&self, text: &str) {
        self.ensure(!text.trim().is_empty(), "must not be empty");
    }

    pub(super) fn positive(&self, duration: Duration) {
        self.ensure(!duration.is_zero(), "must be longer than zero");
    }

    /// Both ends may be reached.
    pub(super) fn within<T: PartialOrd + Copy + fmt::Display>(&self, value: T, least: T, most: T) {
        self.ensure(
            least <= value && value <= most,
            format_args!("must be from {least} to {most}, found {value}"),
        );
    }

    /// Each item once.
    pub(super) fn distinct<T: Ord + fmt::Display>(&self, items: &[T]) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            self.item(index).ensure(seen.insert(item), format_args!("`{item}` is there already"));
        }
    }

    /// `name` must be one of `known`; `noun` says of what.
    pub(super) fn known<'k>(&self, noun: &str, name: &str, known: impl IntoIterator<Item = &'k str> + Clone) {
        if known.clone().into_iter().any(|candidate| candidate == name) {
            return;
        }
        match did_you_mean(name, known) {
            Some(meant) => self.fault(format_args!("there is no {noun} `{name}`; did you mean `{meant}`?")),
            None => self.fault(format_args!("there is no {noun} `{name}`")),
        }
    }
}

// === impl Ledger ===

impl<'a> Ledger<'a> {
    pub(super) fn new(offsets: &'a Offsets, cut: &'a BTreeSet<String>) -> Self {
        Ledger { offsets, cut, findings: RefCell::default() }
    }

    pub(super) fn root(&self) -> Check<'_> {
        Check { path: String::new(), offset: 0, ledger: self }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }

    /// Whether `path`, or what it lies in, or an item of it, or a neighbour in its list has been cut out.
    /// A list that lost an item has other indices than the file, so nothing in it can be named any more.
    fn is_cut(&self, path: &str) -> bool {
        self.cut.iter().any(|cut| {
            let list = cut.strip_suffix(']').and_then(|cut| cut.rsplit_once('[')).map(|(list, _)| list);
            let cut = list.unwrap_or(cut);
            path == cut || is_inside(path, cut)
        })
    }
}
