//! Where all of it comes from: each package from the one registry, as `Cargo.lock` knows it, under a licence that
//! `deny.toml` allows.
//!
//! Reads what cargo knows without the network. What `deny.toml` says is also read by `cargo deny`, which `tests/run` asks
//! where it is installed; these tests hold the rules on any machine. Which versions were withdrawn and what is known
//! against them changes from day to day and is not here: `cargo deny check advisories` asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What cargo has resolved, and what is allowed.
struct Supply {
    metadata: Value,
    lock: Table,
    rules: Table,
}

#[test]
fn each_package_is_of_the_one_registry_and_has_its_checksum() {
    let supply = Supply::read();
    let strays = supply.locked().filter(|package| {
        let says = |key: &str| package.get(key).and_then(toml::Value::as_str);
        let is_ours = says("name") == Some("tollgate") && says("source").is_none();
        !is_ours && (says("source") != Some(REGISTRY) || says("checksum").is_none_or(|sum| sum.len() != 64))
    });
    assert_eq!(strays.collect::<Vec<_>>(), Vec::<&Table>::new());
}

#[test]
fn cargo_resolves_nothing_that_the_lock_file_does_not_know() {
    let supply = Supply::read();
    let locked = supply.locked().map(|package| [text(&package["name"]), text(&package["version"])]);
    let locked: BTreeSet<_> = locked.collect();
    let packages = supply.packages().map(|package| ["name", "version"].map(|key| said(package, key)));
    let strangers: Vec<_> = packages.filter(|package| !locked.contains(package)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn what_is_shipped_has_a_licence_that_is_allowed() {
    let supply = Supply::read();
    let shipped = supply.shipped();
    let licences = supply.rules["licenses"].as_table().expect("a section");
    let everywhere: BTreeSet<&str> = texts(&licences["allow"]).collect();
    let mut unused: BTreeMap<&str, &toml::Value> = BTreeMap::new();
    for exception in licences["exceptions"].as_array().expect("a list") {
        unused.insert(text(&exception["crate"]), &exception["allow"]);
    }
    let mut refused = Vec::new();
    for package in supply.packages().filter(|package| shipped.contains(said(package, "id"))) {
        let (name, licence) = (said(package, "name"), said(package, "license"));
        if is_satisfied(licence, &everywhere) {
            continue;
        }
        let own = unused.remove(name).into_iter().flat_map(texts);
        if !is_satisfied(licence, &everywhere.iter().copied().chain(own).collect()) {
            refused.push(format!("{name}: {licence}"));
        }
    }
    assert!(refused.is_empty(), "deny.toml does not allow {refused:#?}");
    assert!(unused.is_empty(), "deny.toml has exceptions that are not needed: {unused:?}");
}

#[test]
fn what_is_banned_is_not_there() {
    let supply = Supply::read();
    let banned = supply.rules["bans"]["deny"].as_array().expect("a list");
    let banned: BTreeSet<&str> = banned.iter().map(|ban| text(&ban["name"])).collect();
    let found: Vec<_> = supply.locked().filter(|package| banned.contains(text(&package["name"]))).collect();
    assert!(!banned.is_empty() && found.is_empty(), "{found:?}");
}

#[test]
fn an_expression_of_licences_is_read_as_spdx_means_it() {
    let check = |expression: &str, expected: bool| {
        let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
        assert_eq!(is_satisfied(expression, &allowed), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-2.0", false);
    check("", false);
    check("GPL-2.0 OR MIT", true);
    check("GPL-2.0/MIT", true);
    check("GPL-2.0 AND MIT", false);
    check("ISC AND MIT OR GPL-2.0", true);
    check("GPL-2.0 AND MIT OR ISC", true);
    check("GPL-2.0 AND (MIT OR ISC)", false);
    check("(MIT OR GPL-2.0) AND ISC", true);
    check("Apache-2.0 WITH LLVM-exception", true);
    check("Apache-2.0", false);
    check("MIT WITH LLVM-exception", false);
}

// === impl Supply ===

impl Supply {
    fn read() -> Supply {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let table = |name: &str| -> Table {
            fs::read_to_string(root.join(name)).expect("it is kept").parse().expect("TOML")
        };
        let cargo = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO")).current_dir(root).args(arguments).output();
            let output = output.expect("the cargo that built this");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        // What other platforms need was never brought here.
        let version = cargo(&["-vV"]);
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("what this is");
        let metadata =
            cargo(&["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform", host]);
        let metadata = serde_json::from_str(&metadata).expect("JSON");
        Supply { metadata, lock: table("Cargo.lock"), rules: table("deny.toml") }
    }

    fn locked(&self) -> impl Iterator<Item = &Table> {
        let packages = self.lock["package"].as_array().expect("a list");
        packages.iter().map(|package| package.as_table().expect("a table"))
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().expect("a list").iter()
    }

    /// What is compiled into the binary or runs while it is built: all but what only tests and benches need.
    fn shipped(&self) -> BTreeSet<&str> {
        let nodes = self.metadata["resolve"]["nodes"].as_array().expect("a list").iter();
        let nodes: BTreeMap<&str, &Value> = nodes.map(|node| (said(node, "id"), node)).collect();
        let mut pending = vec![said(&self.metadata["resolve"], "root")];
        let mut shipped = BTreeSet::new();
        while let Some(package) = pending.pop() {
            if shipped.insert(package) {
                let needed = nodes[package]["deps"].as_array().expect("a list").iter();
                pending.extend(needed.filter(|needed| is_shipped(needed)).map(|needed| said(needed, "pkg")));
            }
        }
        shipped
    }
}

fn is_shipped(needed: &Value) -> bool {
    needed["dep_kinds"].as_array().expect("a list").iter().any(|kind| kind["kind"] != "dev")
}

fn said<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn text(value: &toml::Value) -> &str {
    value.as_str().expect("a text")
}

fn texts(value: &toml::Value) -> impl Iterator<Item = &str> {
    value.as_array().expect("a list").iter().map(text)
}

/// Whether someone who accepts these licences may use what is under `expression`: SPDX, and the older `A/B`.
fn is_satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

/// `OR` binds less than `AND`. Both sides are read, whatever the first one is.
fn any_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut is_any = all_of(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        is_any |= all_of(rest, allowed);
    }
    is_any
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut are_all = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        are_all &= one(rest, allowed);
    }
    are_all
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let is_inside = any_of(rest, allowed);
            let [")", after @ ..] = *rest else { return false };
            *rest = after;
            is_inside
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(format!("{licence} WITH {exception}").as_str())
        }
        [licence, after @ ..] => {
            *rest = after;
            allowed.contains(licence)
        }
        [] => false,
    }
}
