//! Real processes. A test starts itself once more in its own directory, where a file named `child` tells it that
//! it is the child.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::*;

fn is_child() -> bool {
    Path::new("child").exists()
}

/// The command that runs one test of this binary as a child in `directory`, behind `prefix` of a shell line.
fn child(directory: &TempDir, test: &str, prefix: &str) -> Command {
    std::fs::write(directory.path().join("child"), "").unwrap();
    let this = std::fs::read_link("/proc/self/exe").unwrap();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{prefix} exec \"$0\" --exact --nocapture \"$1\""))
        .arg(this)
        .arg(format!("till::tests::process::{test}"))
        .current_dir(directory.path());
    command
}

fn admit_for_ever() {
    let till = Arc::new(Till::open(Path::new("."), &SETTINGS).unwrap());
    let gate =
        Gate { authority: Embedded::new(till.clone()), till, directory: Arc::new(TempDir::new().unwrap()) };
    let account = gate.account(1, 1_000_000);
    while gate.spend(&account, 1) {
        std::io::stdout().write_all(b"#").unwrap();
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn units_survive_kill_9() {
    if is_child() {
        return admit_for_ever();
    }
    let directory = TempDir::new().unwrap();
    let mut told = 0;
    let kills = 5;
    for _ in 0..kills {
        told += admitted_until_killed(child(&directory, "units_survive_kill_9", ""));
    }
    let till = Till::open(directory.path(), &SETTINGS).unwrap();
    let used = till.find(&key(1)).unwrap().used().get();
    // Each kill may have come between the admission and the word of it.
    assert!(told > 0 && (told..=told + kills).contains(&used), "{told} were told, {used} were taken");
}

/// How many admissions the child told of before and while it was killed.
fn admitted_until_killed(mut command: Command) -> u64 {
    let mut running = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = running.stdout.take().unwrap();
    let mut told = 0;
    while told <= 2_000 {
        told += hashes(&mut output).expect("the child admits for ever");
    }
    running.kill().unwrap();
    running.wait().unwrap();
    while let Some(more) = hashes(&mut output) {
        told += more;
    }
    told
}

/// How many `#` come next; `None` at the end.
fn hashes(output: &mut impl Read) -> Option<u64> {
    let mut buffer = [0; 512];
    let length = output.read(&mut buffer).unwrap();
    let hashes = buffer[..length].iter().filter(|byte| **byte == b'#').count();
    (length > 0).then_some(hashes as u64)
}

#[test]
fn a_full_disk_is_an_error_and_not_a_signal() {
    if is_child() {
        let error = Till::open(Path::new("."), &SETTINGS).err().unwrap();
        assert!(matches!(&error, TillError::Reserve { bytes: 786_432, .. }), "{error:?}");
        return;
    }
    let directory = TempDir::new().unwrap();
    // Files of at most 64 KiB, and the error instead of the signal about it.
    let limits = "trap '' XFSZ; ulimit -f 128;";
    let status: ExitStatus = child(&directory, "a_full_disk_is_an_error_and_not_a_signal", limits)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(!directory.path().join("till").exists(), "half a till was left behind");
}
