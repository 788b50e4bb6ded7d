//! Who holds the virtual address, for how long, and whether that is right.

use std::time::Duration;

use super::ledger::{Violation, ensure};
use super::world::World;
use crate::time::Time;
use crate::vip::holder::RETRY_MAX;

/// Timers, delays and clocks that differ, on top of what the protocol allows.
const SLACK: Duration = Duration::from_millis(120);

/// What is remembered of the holders.
#[derive(Default)]
pub(super) struct HolderWatch {
    /// Since when several hold it, or nobody.
    several: Option<Time>,
    nobody: Option<Time>,
    /// The last time at which something happened that may move the address.
    disturbed: Time,
    /// Whose announcement the hosts have heard last.
    pub(super) learnt: Option<u64>,
    /// The longest time, for the report.
    pub(super) longest_overlap: Duration,
    pub(super) longest_gap: Duration,
}

impl World {
    /// Something has happened that may move the address, or keep it from being moved.
    pub(super) fn disturb(&mut self) {
        self.watch.disturbed = self.watch.disturbed.max(self.now);
    }

    /// As [`World::disturb`], and it has its effect for as long as this.
    pub(super) fn disturb_for(&mut self, time: Duration) {
        self.watch.disturbed = self.watch.disturbed.max(self.now + time);
    }

    /// The segment is whole and every node on it runs as it should.
    fn is_undisturbed(&self) -> bool {
        self.segment.cuts.is_empty()
            && self.segment.quality.lose == 0
            && self.machines.iter().all(|machine| machine.paused.is_none() && !machine.kernel.stuck)
    }

    /// The nodes that hold it.
    pub(super) fn holders(&self) -> Vec<u64> {
        self.machines.iter().filter(|machine| machine.holds()).map(|machine| machine.id).collect()
    }

    /// Two holders see each other within an interval, and two that were frozen say nothing for one before.
    fn overlap_allowed(&self) -> Duration {
        self.plan.interval * 2 + SLACK
    }

    /// Active_Down_Interval is less than four intervals (RFC 9568 section 6.1); one more if the first advert of the new
    /// holder crosses the last one of the old.
    fn gap_allowed(&self) -> Duration {
        self.plan.interval * 6 + SLACK
    }

    pub(super) fn check_holders(&mut self) -> Result<(), Violation> {
        let now = self.now;
        if !self.is_undisturbed() {
            self.disturb();
        }
        let holders = self.machines.iter().filter(|machine| machine.holds()).count();
        let wanted = self.machines.iter().any(|machine| machine.could_hold(&self.plan));
        let several = (holders > 1).then(|| self.watch.several.unwrap_or(now));
        let nobody = (holders == 0 && wanted).then(|| self.watch.nobody.unwrap_or(now));
        self.watch.several = several;
        self.watch.nobody = nobody;
        let disturbed = self.watch.disturbed;
        let lasted =
            |since: Option<Time>| since.map_or(Duration::ZERO, |since| now.since(since.max(disturbed)));
        let (overlap, gap) = (lasted(several), lasted(nobody));
        self.watch.longest_overlap = self.watch.longest_overlap.max(overlap);
        self.watch.longest_gap = self.watch.longest_gap.max(gap);
        ensure(overlap <= self.overlap_allowed(), || {
            format!("nodes {:?} have all held the address for {overlap:?}", self.holders())
        })?;
        ensure(gap <= self.gap_allowed(), || format!("nobody has held the address for {gap:?}"))
    }

    /// A node has added the address. Where nothing happened for long, nothing should.
    pub(super) fn taken_over(&mut self, node: u64) -> Result<(), Violation> {
        let quiet = self.now.since(self.watch.disturbed);
        let allowed = self.gap_allowed() + RETRY_MAX;
        ensure(quiet <= allowed, || {
            format!("node {node} took the address after {quiet:?} in which nothing happened")
        })
    }
}
