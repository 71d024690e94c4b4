//! The kernel's accounting of a process tree.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use super::Fault;

/// A process and all below it.
pub(crate) fn processes(root: u32) -> Result<Vec<u32>, Fault> {
    let parents = parents()?;
    let is_below = |mut process: u32| loop {
        if process == root {
            return true;
        }
        match parents.get(&process) {
            Some(parent) => process = *parent,
            None => return false,
        }
    };
    Ok(parents.keys().copied().filter(|process| is_below(*process)).collect())
}

/// Time on a CPU of a process and all below it, all threads. Threads and children that have ended are not in it:
/// the subjects keep theirs.
pub(crate) fn cpu(root: u32) -> Result<Duration, Fault> {
    Ok(processes(root)?.into_iter().map(of_process).sum())
}

fn of_process(process: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Duration::ZERO };
    threads.flatten().map(|thread| of_thread(&thread.path())).sum()
}

/// Of a thread below `/proc/PROCESS/task`: the first number is nanoseconds on a CPU.
pub(crate) fn of_thread(thread: &std::path::Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn parents() -> Result<HashMap<u32, u32>, Fault> {
    let processes = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.filter_map(|id| Some((id, parent(id)?))).collect())
}

/// The second field after the name, which may itself contain anything but ends with the last `)`.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
