//! CPU time of a process and all its descendants, from /proc.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds in a tick of /proc/PID/stat and /proc/stat (USER_HZ is 100 on every Linux that we run on).
const TICK_NS: u64 = 10_000_000;

/// CPU time at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    processes: BTreeMap<u32, ProcessSample>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ProcessSample {
    /// Nanoseconds on a CPU, by thread.
    tasks: BTreeMap<u32, u64>,
    /// User and system time in nanoseconds, threads that have ended included; a resolution of 10 ms.
    total: u64,
}

impl Sample {
    /// Of `root` and all that descend from it now.
    pub(super) fn take(root: u32) -> Result<Self> {
        let mut sample = Self::default();
        for pid in tree(root)? {
            // A process may end while we look.
            if let Some(process) = ProcessSample::take(pid) {
                sample.processes.insert(pid, process);
            }
        }
        Ok(sample)
    }

    /// CPU nanoseconds used from `earlier` until now.
    ///
    /// To the nanosecond while all threads of before are still there; a process that has lost a thread is counted
    /// by its total, to 10 ms, since the thread took its own counter with it.
    pub(super) fn since(&self, earlier: &Self) -> u64 {
        self.processes.iter().map(|(pid, now)| now.since(earlier.processes.get(pid))).sum()
    }
}

impl ProcessSample {
    fn take(pid: u32) -> Option<Self> {
        let total = parse_stat_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)? * TICK_NS;
        let mut tasks = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            let Some(task) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(ns) =
                fs::read_to_string(entry.path().join("schedstat")).ok().as_deref().and_then(parse_schedstat)
            {
                tasks.insert(task, ns);
            }
        }
        Some(Self { tasks, total })
    }

    fn since(&self, earlier: Option<&Self>) -> u64 {
        let nothing = Self::default();
        let earlier = earlier.unwrap_or(&nothing);
        if earlier.tasks.keys().all(|task| self.tasks.contains_key(task)) {
            let before: u64 = earlier.tasks.values().sum();
            self.tasks.values().sum::<u64>().saturating_sub(before)
        } else {
            self.total.saturating_sub(earlier.total)
        }
    }
}

/// All threads of `root` and its descendants.
pub(super) fn threads(root: u32) -> Result<Vec<u32>> {
    Ok(Sample::take(root)?.processes.values().flat_map(|process| process.tasks.keys().copied()).collect())
}

/// `root` and its descendants.
pub(super) fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(parent) =
            fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parse_stat_parent)
        {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found)
}

/// CPU nanoseconds of all that runs on the machine, interrupts included.
pub(super) fn machine() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_machine(&stat).context("/proc/stat is not as expected")
}

/// CPU nanoseconds of this process, of its threads that have ended, and of its children that have ended and were waited
/// for; a resolution of 10 ms.
pub(super) fn own() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let fields = after_name(&stat).context("/proc/self/stat is not as expected")?;
    let ticks: Option<u64> =
        fields.split_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks.context("/proc/self/stat is not as expected")? * TICK_NS)
}

/// The fields of /proc/PID/stat after the name, which may hold spaces and brackets itself; the first is the state.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(')').map(|(_, fields)| fields)
}

fn parse_stat_parent(stat: &str) -> Option<u32> {
    after_name(stat)?.split_whitespace().nth(1)?.parse().ok()
}

fn parse_stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = after_name(stat)?.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// user, nice, system, (idle, iowait,) irq, softirq of the first line.
fn parse_machine(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].iter().map(|&index| fields.get(index)).sum::<Option<u64>>()?;
    Some(busy * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tasks: &[(u32, u64)], total: u64) -> Sample {
        let process = ProcessSample { tasks: tasks.iter().copied().collect(), total };
        Sample { processes: [(7, process)].into() }
    }

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 250 30 40 20 0 1 0 5 6 7";
        assert_eq!(parse_stat_parent(stat), Some(7));
        assert_eq!(parse_stat_ticks(stat), Some(400));
    }

    #[test]
    fn idle_and_io_wait_are_not_work() {
        assert_eq!(parse_machine("cpu  1 2 3 1000 2000 4 5 9 0 0\ncpu0 1 1 1 1"), Some(15 * TICK_NS));
        assert_eq!(parse_machine("intr 1"), None);
    }

    #[test]
    fn threads_that_stay_are_counted_to_the_nanosecond_and_new_ones_from_their_start() {
        let before = process(&[(7, 100), (8, 50)], 0);
        let after = process(&[(7, 130), (8, 55), (9, 11)], 0);
        assert_eq!(after.since(&before), 46);
    }

    #[test]
    fn a_thread_that_ended_is_not_lost() {
        let before = process(&[(7, 100), (8, 5_000)], 1_000);
        let after = process(&[(7, 130)], 90_000);
        assert_eq!(after.since(&before), 89_000);
    }

    #[test]
    fn our_own_children_are_in_our_tree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = tree(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?} has no {}", child.id());
    }
}
