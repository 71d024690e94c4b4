//! Memory of a process tree, as the kernel counts it.

use std::fs;

use crate::rig::{Fault, tree};

/// Bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// What the kernel can't take back: anonymous and shared pages.
    pub(crate) own: f64,
    /// Pages of files that are mapped: the program, the till, the journal. They go when memory is needed.
    pub(crate) mapped: f64,
}

impl Memory {
    /// Of a process and all below it.
    pub(crate) fn of(process: u32) -> Result<Memory, Fault> {
        let mut memory = Memory::default();
        for process in tree::processes(process)? {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            memory.own += field(&status, "RssAnon:") + field(&status, "RssShmem:");
            memory.mapped += field(&status, "RssFile:");
        }
        Ok(memory)
    }
}

fn field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}
