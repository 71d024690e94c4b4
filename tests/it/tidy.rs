//! Holds the order of the house: who imports whom, and what is nowhere to be found.
//!
//! A scanner, not a parser: it tells code from comments, literals and tests, and looks for names. That is enough
//! for rules that are stated as absences, and needs no compiler.

mod source;

use std::collections::BTreeMap;
use std::path::Path;

use source::{Offence, Source, imports, words};

/// The layers of `src`, from the bottom. A room imports only from below.
const LAYERS: [&[&str]; 8] = [
    &["domain", "clock", "telemetry"],
    &["till", "journal", "listener", "secret", "config", "outbound"],
    &["store", "authority", "collector"],
    &["directory", "outbox"],
    &["control", "gateway", "flush", "courier", "exporter"],
    &["api", "console", "admin", "web"],
    &["app"],
    &["main", "cli"],
];

/// Imports inside a layer: from, to, why.
const BESIDE: [(&str, &str, &str); 5] = [
    ("domain", "clock", "values have instants"),
    ("main", "cli", "main is one call"),
    ("api", "web", "sessions and addresses are read alike at both doors"),
    ("console", "web", "sessions and addresses are read alike at both doors"),
    ("authority", "store", "what an authority has forgotten is seeded from the database"),
];

/// Imports that go down and are forbidden all the same: from, to, why.
const APART: [(&str, &[&str], &str); 3] = [
    (
        "gateway",
        &["store"],
        "it sees tenants through `directory`, units through `till`, and writes to `journal`",
    ),
    ("api", &["gateway"], "the planes meet in `directory`, `till` and `journal`"),
    ("console", &["gateway"], "the planes meet in `directory`, `till` and `journal`"),
];

/// The rooms that may know types of the configuration.
const CONFIG_READERS: [&str; 3] = ["app", "cli", "main"];

/// Crates and paths, and where alone they may be. A place is a room, or a file or folder below `src`.
const CONFINED: [(&str, &[&str]); 10] = [
    ("sqlx", &["store"]),
    ("redis", &["authority/redis.rs", "authority/redis", "directory"]),
    ("hyper", &["listener", "outbound", "gateway", "api", "console", "admin"]),
    ("hyper_util", &["listener", "outbound", "gateway", "api", "console", "admin"]),
    ("lettre", &["courier"]),
    ("axum", &["api", "console", "admin", "web"]),
    ("std::env", &["config"]),
    ("memmap2", &["till", "journal"]),
    ("SystemTime::now", &["clock"]),
    ("Instant::now", &["clock"]),
];

/// What `till` and `journal` know nothing of: time, answers and memory come in through arguments and seams.
const DRIVEN: [&str; 7] = ["tokio", "hyper", "hyper_util", "sqlx", "redis", "SystemClock", "axum"];

/// Where files are mapped.
const UNSAFE: [&str; 4] =
    ["src/till/file.rs", "src/journal/segment.rs", "src/journal/disk.rs", "src/journal/in_flight.rs"];

#[test]
fn rooms_import_only_from_below() {
    none(rust("src").iter().flat_map(layer_offences));
}

#[test]
fn every_room_has_its_place_and_says_what_it_is_for() {
    none(rust("src").iter().flat_map(room_offences));
}

#[test]
fn crates_and_clocks_stay_where_they_belong() {
    none(rust("src").iter().flat_map(confinement_offences));
}

#[test]
fn till_and_journal_are_driven_from_outside() {
    none(rust("src").iter().flat_map(driven_offences));
}

#[test]
fn unsafe_code_is_only_where_a_file_is_mapped() {
    none(rust("src").iter().chain(&rust("tests")).chain(&rust("benches")).flat_map(unsafe_offences));
}

#[test]
fn nothing_is_left_for_later() {
    none(rust("").iter().flat_map(leftover_offences));
}

#[test]
fn lints_are_silenced_only_with_a_reason() {
    none(rust("").iter().flat_map(lint_offences));
}

#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    none(rust("tests").iter().flat_map(sleep_offences));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    none(Source::all_below(root(), "", is_kept).iter().flat_map(machine_offences));
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest = Source::new("Cargo.toml", std::fs::read_to_string(root().join("Cargo.toml")).unwrap());
    none(dependency_offences(&manifest));
}

#[test]
fn both_stores_have_the_same_migrations() {
    none(migration_offences(&Source::all_below(root(), "migrations", |path| path.ends_with(".sql"))));
}

#[test]
fn the_scanner_sees_what_it_must() {
    let check = |path: &str, text: &str, rule: fn(&Source) -> Vec<Offence>, expected: &[usize]| {
        let lines: Vec<usize> = rule(&Source::new(path, text)).iter().map(|offence| offence.line).collect();
        assert_eq!(lines, expected, "{text}");
    };
    let gateway = "src/gateway/handle.rs";
    check(gateway, "use crate::till::Till;\nuse crate::store::Store;", layer_offences, &[2]);
    check(gateway, "use crate::{\n    till::{Till, api},\n    control,\n};", layer_offences, &[3]);
    check(gateway, "fn f() { crate::app::run() }", layer_offences, &[1]);
    check(
        gateway,
        "// crate::app\nlet s = \"crate::app\"; /* crate::app /* */ crate::app */",
        layer_offences,
        &[],
    );
    check(
        gateway,
        "#[cfg(test)]\nmod tests {\n    use crate::app;\n}\nuse crate::app;",
        layer_offences,
        &[5],
    );
    check("src/gateway/tests.rs", "use crate::app;", layer_offences, &[]);
    check("src/main.rs", "fn main() { tollgate::cli::run() }", layer_offences, &[]);
    check(
        "src/api/router.rs",
        "use crate::gateway::Routes;\nuse crate::control::Control;",
        layer_offences,
        &[1],
    );
    check("src/till/slot.rs", "use crate::config::Config;", layer_offences, &[1]);
    check("src/misc/mod.rs", "//! Doc.", room_offences, &[1]);
    check("src/till/mod.rs", "mod slot;", room_offences, &[1]);
    check("src/api/mod.rs", "//! Doc.", room_offences, &[]);
    check("src/api/keys.rs", "use sqlx::Row;\nlet sqlx = 1;\nuse sqlx;", confinement_offences, &[1, 3]);
    check("src/api/keys.rs", "use std::{env, fmt};\nlet now = Instant::now();", confinement_offences, &[2]);
    check("src/api/keys.rs", "std::env::var(\"X\");", confinement_offences, &[1]);
    check("src/authority/redis.rs", "redis::cmd()", confinement_offences, &[]);
    check("src/authority/embedded.rs", "let c = 'a'; redis::cmd()", confinement_offences, &[1]);
    check("src/authority/mod.rs", "use self::redis::R;\nuse ::redis::R;", confinement_offences, &[2]);
    check("src/till/slot.rs", "fn f<'a>(x: &'a str) { tokio::spawn(x) }", driven_offences, &[1]);
    check("src/till/slot.rs", "unsafe { x }\nunsafe_code\n\"unsafe\"", unsafe_offences, &[1]);
    check("src/till/slot.rs", "todo!()\ndbg!(x)\nr#\"todo!()\"#", leftover_offences, &[1, 2]);
    check("src/till/slot.rs", concat!("// TO", "DO: x\n// FIX", "ME"), leftover_offences, &[1, 2]);
    check("tests/it/a.rs", "#[ignore]\n#[ignore = \"x\"]\n#[ignored]", leftover_offences, &[1, 2]);
    check("src/a.rs", "#[allow(dead_code)]\n#[expect(x,\n  reason = \"y\")]", lint_offences, &[1]);
    check("tests/it/a.rs", "std::thread::sleep(d);\ntokio::time::sleep(d)", sleep_offences, &[1, 2]);
    check("README.md", concat!("see /ho", "me/me"), machine_offences, &[1]);
    check("Cargo.toml", "[dependencies]\na = \"1\" # why\nb = \"1\"\n[x]\nc = 1", dependency_offences, &[3]);
}

// === the rules ===

fn layer_offences(source: &Source) -> Vec<Offence> {
    let room = room_of(&source.path);
    if room == "lib" {
        return Vec::new();
    }
    let production = source.production();
    let roots = if room == "main" { "tollgate" } else { "crate" };
    let judged = imports(&production, roots).into_iter().filter_map(|(offset, to)| {
        refusal(room, &to)
            .map(|why| source.offence(offset, format!("`{room}` must not import `{to}`: {why}")))
    });
    judged.collect()
}

/// Why `from` may not import `to`; `None` if it may. Names that are no room are items of the crate's root.
fn refusal(from: &str, to: &str) -> Option<String> {
    let (from_layer, to_layer) = (layer(from)?, layer(to)?);
    if from == to || BESIDE.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
        return None;
    }
    if to == "config" && !CONFIG_READERS.contains(&from) {
        return Some("types of the configuration stop at `app`".to_owned());
    }
    if let Some((.., why)) = APART.iter().find(|(room, others, _)| *room == from && others.contains(&to)) {
        return Some((*why).to_owned());
    }
    (to_layer >= from_layer).then(|| format!("layer {to_layer} is not below layer {from_layer}"))
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

fn room_offences(source: &Source) -> Vec<Offence> {
    let room = room_of(&source.path);
    if room != "lib" && layer(room).is_none() {
        return vec![source.offence(0, format!("`{room}` is no room of the house: it has no layer"))];
    }
    let is_door = source.path.ends_with("/mod.rs") || source.path.matches('/').count() == 1;
    let is_silent = is_door && room != "main" && !source.text.starts_with("//!");
    is_silent.then(|| source.offence(0, "a room's door begins with its `//!`")).into_iter().collect()
}

fn confinement_offences(source: &Source) -> Vec<Offence> {
    let production = source.production();
    let inside = |place: &&str| {
        let path = source.path.strip_prefix("src/").unwrap_or_default();
        path == *place || path == format!("{place}.rs") || path.starts_with(&format!("{place}/"))
    };
    let strays = CONFINED.iter().filter(|(_, places)| !places.iter().any(&inside));
    let judged = strays.flat_map(|(name, places)| {
        let uses = uses(&production, name).into_iter();
        uses.map(move |offset| source.offence(offset, format!("`{name}` is only for {}", places.join(", "))))
    });
    judged.collect()
}

/// Where `name` is used as a path or imported; a variable or a module of ours with that name is no use.
fn uses(code: &str, name: &str) -> Vec<usize> {
    let letters: Vec<char> = code.chars().collect();
    let is_use = |offset: &usize| {
        let after: String = letters[offset + name.chars().count()..].iter().take(2).collect();
        let before: String = letters[offset.saturating_sub(4)..*offset].iter().collect();
        let is_inside = before.ends_with("::") && !before.ends_with(" ::");
        name.contains("::") || (after == "::" && !is_inside) || before == "use "
    };
    words(code, name).into_iter().filter(is_use).collect()
}

fn driven_offences(source: &Source) -> Vec<Offence> {
    if !["till", "journal"].contains(&room_of(&source.path)) {
        return Vec::new();
    }
    let production = source.production();
    let judged = DRIVEN.iter().flat_map(|name| {
        words(&production, name)
            .into_iter()
            .map(move |offset| (offset, format!("`{name}` is not known here")))
    });
    judged.map(|(offset, what)| source.offence(offset, what)).collect()
}

fn unsafe_offences(source: &Source) -> Vec<Offence> {
    if UNSAFE.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let found = words(&source.code, "unsafe").into_iter();
    found
        .map(|offset| source.offence(offset, format!("`unsafe` is only for {}", UNSAFE.join(", "))))
        .collect()
}

fn leftover_offences(source: &Source) -> Vec<Offence> {
    let in_code = ["todo!", "dbg!", "unimplemented!", "#[ignore]", "#[ignore ", "#[ignore="];
    let in_text = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let code = in_code.iter().flat_map(|word| places(&source.code, word));
    let text = in_text.iter().flat_map(|word| words(&source.text, word));
    let mut offsets: Vec<usize> = code.chain(text).collect();
    offsets.sort_unstable();
    offsets.into_iter().map(|offset| source.offence(offset, "is left for later")).collect()
}

fn lint_offences(source: &Source) -> Vec<Offence> {
    let attributes = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let found = attributes.iter().flat_map(|attribute| places(&source.code, attribute));
    let letters: Vec<char> = source.code.chars().collect();
    let is_bare = |offset: &usize| {
        let attribute: String = letters[*offset..].iter().take_while(|c| **c != ']').collect();
        words(&attribute, "reason").is_empty()
    };
    found.filter(is_bare).map(|offset| source.offence(offset, "a silenced lint needs a `reason`")).collect()
}

fn sleep_offences(source: &Source) -> Vec<Offence> {
    if source.path == "tests/it/support/wait.rs" {
        return Vec::new();
    }
    let found = ["thread::sleep", "time::sleep"].into_iter().flat_map(|call| words(&source.code, call));
    found.map(|offset| source.offence(offset, "wait for the condition: `support::wait`")).collect()
}

fn machine_offences(source: &Source) -> Vec<Offence> {
    let homes =
        [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tmp/ro", "oms")];
    let found = homes.into_iter().flat_map(|home| places(&source.text, home));
    found.map(|offset| source.offence(offset, "names a path of one machine")).collect()
}

fn dependency_offences(manifest: &Source) -> Vec<Offence> {
    let mut in_dependencies = false;
    let mut offences = Vec::new();
    for (index, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.contains('#') {
            let what = "a dependency needs a reason: `name = \"1\"  # why`".to_owned();
            offences.push(Offence { path: manifest.path.clone(), line: index + 1, what });
        }
    }
    offences
}

/// Each store numbers its migrations from 0001 without a gap; when there are two stores, with the same names.
fn migration_offences(migrations: &[Source]) -> Vec<Offence> {
    let mut by_store: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for migration in migrations {
        by_store.entry(migration.path.split('/').nth(1).unwrap_or_default()).or_default().push(migration);
    }
    let mut offences = Vec::new();
    for own in by_store.values() {
        for (index, migration) in own.iter().enumerate() {
            let number = format!("{:04}_", index + 1);
            let is_next = file_name(migration).starts_with(&number);
            offences.extend((!is_next).then(|| migration.offence(0, format!("expected number {number}"))));
            let others = by_store
                .values()
                .filter(|other| !other.iter().any(|it| file_name(it) == file_name(migration)));
            offences.extend(others.map(|_| migration.offence(0, "is missing for the other store")));
        }
    }
    offences
}

// === what they look at ===

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files that are ours and part of the repository.
fn is_kept(path: &str) -> bool {
    let generated = ["target/", "data/", ".git/", "Cargo.lock", "tests/fuzz/target/", "tests/fuzz/corpus/"];
    !generated.iter().any(|begin| path.starts_with(begin)) && !path.contains("/.git/") && path != ".git"
}

fn rust(directory: &str) -> Vec<Source> {
    Source::all_below(root(), directory, |path| is_kept(path) && path.ends_with(".rs"))
}

/// `till` of `src/till/slot.rs`, `flush` of `src/flush.rs`.
fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

/// Where `text` has `needle`, in characters.
fn places(text: &str, needle: &str) -> Vec<usize> {
    text.match_indices(needle).map(|(at, _)| text[..at].chars().count()).collect()
}

#[track_caller]
fn none(offences: impl IntoIterator<Item = Offence>) {
    let mut offences: Vec<Offence> = offences.into_iter().collect();
    offences.sort();
    let report: Vec<String> = offences.iter().map(Offence::to_string).collect();
    assert!(report.is_empty(), "\n{}\n", report.join("\n"));
}
