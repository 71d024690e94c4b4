//! Callgrind, which counts what a program does instead of how long it takes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::gateway::TestGateway;

/// What something did in user space. The least of several counts is the one with the least of other things in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Cost {
    pub instructions: u64,
    pub allocations: u64,
}

/// Starts a gateway for [`counted`]: at first nothing is counted, and it starts as quickly as it can.
pub(crate) const UNDER_CALLGRIND: &str = "exec valgrind --tool=callgrind --instr-atstart=no --separate-threads=yes \
                                          --callgrind-out-file=cost \"$@\"";

/// What the C library calls whatever makes room on the heap.
const ALLOCATORS: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// What a gateway's worker does meanwhile: of its threads the one that does most.
#[track_caller]
pub(crate) fn counted(gateway: &TestGateway, meanwhile: impl FnOnce()) -> Cost {
    let folder = gateway.path("");
    dumps(&folder).iter().for_each(|dump| fs::remove_file(dump).expect("a file of ours"));
    tell(gateway, "instrumentation on");
    tell(gateway, "zero");
    meanwhile();
    tell(gateway, "dump");
    let threads = dumps(&folder).into_iter().map(|dump| read(&dump));
    threads.max_by_key(|cost| cost.instructions).expect("the process has threads")
}

/// The instructions of a test of this binary inside the function of that name, in a process of its own. Calls are
/// counted outside of it as well, so that its allocations are not known.
#[track_caller]
pub(crate) fn instructions_within(function: &str, test: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("cost");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", &format!("--toggle-collect=*{function}*")]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(std::env::current_exe().expect("this binary")).args(["--exact", test]);
    let output = valgrind.output().expect("valgrind is installed: tests/run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read(&file).instructions
}

fn dumps(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the gateway's folder").map(|entry| entry.expect("readable"));
    let counts = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("cost."));
    counts.map(|entry| entry.path()).collect()
}

/// Returns when it is done.
#[track_caller]
fn tell(gateway: &TestGateway, command: &str) {
    let mut vgdb = Command::new("vgdb");
    // A gateway under test has no TMPDIR: both meet in the default one.
    vgdb.env_remove("TMPDIR").arg(format!("--pid={}", gateway.pid())).args(command.split(' '));
    let output = vgdb.output().expect("vgdb comes with valgrind: tests/run");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A file of callgrind's format: `fn=` and `cfn=` give a name a number at its first use; after `cfn=` comes how often
/// that function was called from there.
fn read(file: &Path) -> Cost {
    let text = fs::read_to_string(file).expect("callgrind has written it");
    let mut names = HashMap::new();
    let mut called = "";
    let mut cost = Cost { instructions: 0, allocations: 0 };
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            cost.instructions = total.trim().parse().expect("a number");
        } else if let Some(name) = line.strip_prefix("fn=") {
            name_of(name, &mut names);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            called = name_of(name, &mut names);
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| ALLOCATORS.contains(&called)) {
            cost.allocations +=
                calls.split(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number");
        }
    }
    cost
}

/// `(12) name`, and later `(12)`.
fn name_of<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    let (number, name) = text.split_once(' ').unwrap_or((text, ""));
    match name {
        "" => names.get(number).copied().unwrap_or_default(),
        name => names.entry(number).or_insert(name),
    }
}

// === impl Cost ===

impl Cost {
    /// Of each of so many.
    pub(crate) fn each(self, count: u64) -> Cost {
        Cost { instructions: self.instructions / count, allocations: self.allocations / count }
    }
}
