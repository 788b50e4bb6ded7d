//! Memory of a process and all its descendants: the proportional set size, from /proc.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::cpu;

/// How often memory is looked at until it no longer changes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Two looks that differ by less, in KiB, are the same.
const STILL_KIB: u64 = 32;
/// After so long it is taken as it is.
const STILL_DEADLINE: Duration = Duration::from_secs(5);

/// User memory of a proxy without and with idle connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// KiB, before the first connection of the load.
    pub(super) before_kib: u64,
    /// KiB, with all connections.
    pub(super) after_kib: u64,
}

impl Memory {
    /// What each connection has added.
    pub(super) fn added_kib(&self, connections: u64) -> f64 {
        self.after_kib.saturating_sub(self.before_kib) as f64 / connections as f64
    }

    /// Everything, the program itself included, divided by the connections.
    pub(super) fn all_kib(&self, connections: u64) -> f64 {
        self.after_kib as f64 / connections as f64
    }
}

/// The proportional set size in KiB as soon as it no longer changes: a proxy may give buffers back a moment later.
pub(super) fn settled(root: u32) -> Result<u64> {
    let deadline = Instant::now() + STILL_DEADLINE;
    let mut last = total(root)?;
    loop {
        thread::sleep(LOOK_EVERY);
        let now = total(root)?;
        if now.abs_diff(last) < STILL_KIB || Instant::now() >= deadline {
            return Ok(now);
        }
        last = now;
    }
}

fn total(root: u32) -> Result<u64> {
    cpu::tree(root)?.into_iter().map(of_process).sum()
}

fn of_process(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("{path} is not as expected"))
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_set_size_is_read_and_not_its_parts() {
        let text =
            "5580-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  2000 kB\nPss:   1234 kB\nPss_Dirty:  400 kB\n";
        assert_eq!(parse(text), Some(1234));
        assert_eq!(parse("Rss: 1 kB"), None);
    }

    #[test]
    fn our_own_memory_is_found() {
        assert!(total(std::process::id()).unwrap() > 100);
    }

    #[test]
    fn what_a_connection_adds_is_told_from_what_the_program_needs_anyway() {
        let memory = Memory { before_kib: 4_000, after_kib: 5_000 };
        assert!((memory.added_kib(1_000) - 1.0).abs() < 1e-9);
        assert!((memory.all_kib(1_000) - 5.0).abs() < 1e-9);
    }
}
