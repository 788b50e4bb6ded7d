//! Faults: what begins, for how long, and how it ends.

use std::time::Duration;

use super::disk::{Health, USUAL_LATENCY};
use super::ledger::Violation;
use super::machine::Pause;
use super::mutation::Mutation;
use super::network::Quality;
use super::plan::Class;
use super::process::Input;
use super::station::{Said, Station};
use super::world::{Event, World};
use crate::consensus::limits::UNACKNOWLEDGED;
use crate::vip::holder::{READD_SPACING, RETRY_MAX};

/// How a fault ends.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The machine has power again; the process is started.
    Power { node: u64 },
    /// What was frozen goes on.
    Thaw { node: u64, life: u64 },
    /// These directions between logs carry again.
    Join { pairs: Vec<(u64, u64)> },
    /// So do these on the segment.
    JoinSegment { pairs: Vec<(u64, u64)> },
    /// The links between logs are good again.
    Quality,
    /// The segment is.
    SegmentQuality,
    /// The disk is quick, and takes writes.
    Disk { node: u64 },
    /// The clock runs at its usual speed.
    Rate { node: u64 },
    /// The kernel does as it is told.
    Kernel { node: u64 },
    /// The node can serve, with its usual priority.
    Ready { node: u64 },
    /// A node that stood still hears what was wanted of it meanwhile.
    Told { node: u64 },
    /// The operator starts a process anew that has lost its voice.
    Restart { node: u64, life: u64 },
}

impl World {
    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.random.between(low, high))
    }

    fn any_node(&mut self) -> u64 {
        self.random.between(1, self.plan.nodes)
    }

    pub(super) fn next_fault(&mut self) -> Result<(), Violation> {
        if self.healed {
            return Ok(());
        }
        let mean = u64::try_from(self.plan.fault_gap.as_millis()).unwrap_or(1000);
        let gap = self.ms(mean / 10, mean * 2);
        self.after(gap, Event::Fault);
        let Some(class) = self.random.pick(&self.plan.classes).copied() else { return Ok(()) };
        let node = self.any_node();
        self.trace.note(self.now, node, format_args!("fault: {class:?}"));
        match class {
            Class::Kill | Class::Power => self.stop_for_a_while(node, class == Class::Power),
            Class::Freeze => self.freeze(node, Pause::Process),
            Class::FreezeMachine => self.freeze(node, Pause::Machine),
            Class::Cut | Class::CutSegment | Class::CutAll => self.cut(node, class),
            Class::Loss | Class::LossSegment => self.worsen(class == Class::LossSegment),
            Class::SlowDisk | Class::BrokenWrite | Class::FullDisk => self.spoil_disk(node, class),
            Class::LostDisk => self.lose_disk(node),
            Class::Jump | Class::Skew => self.spoil_clock(node, class == Class::Jump),
            Class::Kernel | Class::Meddle => self.spoil_kernel(node, class == Class::Meddle),
            Class::Readiness => return self.spoil_readiness(node),
            Class::Transfer => {
                let to = self.any_node();
                self.tell(node, Input::Transfer { to });
            }
            Class::Burst => self.burst(node),
        }
        Ok(())
    }

    fn stop_for_a_while(&mut self, node: u64, power: bool) {
        if self.machine(node).process.is_none() {
            return;
        }
        self.stop(node, power);
        let pause = self.ms(5, 6000);
        let ending = if power { Event::End(Ending::Power { node }) } else { Event::Start { node } };
        self.after(pause, ending);
    }

    fn freeze(&mut self, node: u64, pause: Pause) {
        let now = self.now;
        let most = if self.random.per_mille(500) { 400 } else { 5000 };
        let time = self.ms(10, most);
        let machine = self.machine(node);
        if !machine.runs() {
            return;
        }
        machine.paused = Some(pause);
        let life = machine.life;
        let lease = machine.station.as_ref().map(Station::lease_ends);
        let lapses = lease.map(|lease| machine.clock.when(lease, now));
        self.after(time, Event::End(Ending::Thaw { node, life }));
        if let Some(lapses) =
            lapses.filter(|_| pause == Pause::Process && self.mutation != Some(Mutation::NoGuard))
        {
            self.at(lapses, Event::Guard { node, life });
        }
        self.disturb();
    }

    fn thaw(&mut self, node: u64, life: u64) {
        let (now, guarded) = (self.now, self.mutation != Some(Mutation::NoGuard));
        let machine = self.machine(node);
        if machine.life != life || machine.paused.is_none() {
            return;
        }
        machine.paused = None;
        (machine.raft_due, machine.vip_due) = (crate::time::Time::ZERO, crate::time::Time::ZERO);
        let local = machine.clock.at(now);
        let lapsed = machine.station.as_ref().is_some_and(|station| station.lease_ends() <= local);
        if lapsed && guarded && machine.process.is_some() {
            machine.kernel.present = false;
        }
        self.disturb();
        self.wake_raft(node);
        self.wake_vip(node);
        if self.machine(node).process.is_none() {
            self.after(Duration::from_millis(100), Event::Start { node });
        } else {
            // Not before it has noticed that it stood still.
            self.after(Duration::from_millis(1), Event::End(Ending::Told { node }));
        }
    }

    /// One direction, a pair, a node from all, or the cluster in two.
    fn directions(&mut self, node: u64) -> Vec<(u64, u64)> {
        let pairs = self.network.pairs();
        let other = 1 + (node + self.random.below(self.plan.nodes - 1)) % self.plan.nodes;
        let half = self.random.next();
        let side = |node: u64| half >> node & 1;
        let kind = self.random.below(5);
        let is_cut = |(from, to): &(u64, u64)| match kind {
            0 => (*from, *to) == (node, other),
            1 => (*from, *to) == (node, other) || (*from, *to) == (other, node),
            2 => *from == node || *to == node,
            3 => *from == node,
            _ => side(*from) != side(*to),
        };
        pairs.into_iter().filter(is_cut).collect()
    }

    fn cut(&mut self, node: u64, class: Class) {
        let pairs = self.directions(node);
        let most = if self.random.per_mille(500) { 1000 } else { 8000 };
        let time = self.ms(20, most);
        self.trace.note(self.now, node, format_args!("cut for {time:?}: {pairs:?}"));
        if class != Class::CutSegment {
            for &(from, to) in &pairs {
                if let Some(link) = self.network.link(from, to) {
                    link.cut = true;
                }
                self.give_up_later(from, to);
                self.give_up_later(to, from);
            }
            self.after(time, Event::End(Ending::Join { pairs: pairs.clone() }));
        }
        if class != Class::Cut {
            self.segment.cuts.extend(&pairs);
            self.after(time, Event::End(Ending::JoinSegment { pairs }));
        }
    }

    /// A connection whose data is not acknowledged ends after a while.
    pub(super) fn give_up_later(&mut self, from: u64, to: u64) {
        let life = self.network.link(from, to).map_or(0, |link| link.life);
        self.after(UNACKNOWLEDGED, Event::GiveUp { from, to, life });
    }

    fn join(&mut self, pairs: &[(u64, u64)]) {
        for &(from, to) in pairs {
            let Some(link) = self.network.link(from, to) else { continue };
            link.cut = false;
            let life = link.life;
            let again = self.network.resume(from, to, self.now, &mut self.random);
            self.fly(from, to, life, again);
        }
    }

    fn worsen(&mut self, segment: bool) {
        let slow = self.random.per_mille(500);
        let quality = Quality {
            lose: self.random.between(10, 500),
            double: self.random.below(100),
            fastest: Duration::from_micros(100),
            slowest: if slow { self.ms(2, 300) } else { Duration::from_millis(2) },
        };
        let time = self.ms(200, 6000);
        if segment {
            self.segment.quality = quality;
            self.after(time, Event::End(Ending::SegmentQuality));
            return;
        }
        for (from, to) in self.network.pairs() {
            if let Some(link) = self.network.link(from, to) {
                link.quality = quality;
            }
        }
        self.after(time, Event::End(Ending::Quality));
    }

    fn spoil_disk(&mut self, node: u64, class: Class) {
        let latency = self.ms(5, 500);
        let time = self.ms(300, 5000);
        let kept = self.random.per_mille(500);
        let disk = self.machine(node).disk.clone();
        match class {
            Class::SlowDisk => disk.set_latency(latency),
            Class::FullDisk => disk.set_health(Health::Full),
            _ if kept => disk.set_health(Health::KeepButFail),
            _ => disk.set_health(Health::FailOnce),
        }
        self.after(time, Event::End(Ending::Disk { node }));
    }

    /// The operator moves the file away, whatever the others do, but not while another node fetches its own anew.
    fn lose_disk(&mut self, node: u64) {
        let another = self.machines.iter().any(|machine| machine.id != node && machine.catching_up);
        if another || self.machine(node).process.is_none() {
            return;
        }
        self.trace.note(self.now, node, format_args!("its disk is lost"));
        self.stop(node, false);
        let machine = self.machine(node);
        machine.disk.wipe();
        machine.last = 0;
        (machine.catching_up, machine.had_log) = (true, true);
        self.ledger.wiped(node);
        let pause = self.ms(50, 2000);
        self.after(pause, Event::Start { node });
    }

    fn spoil_clock(&mut self, node: u64, jump: bool) {
        let by = self.ms(10, 5000);
        let ppm = i64::try_from(self.random.below(40_000)).unwrap_or(0) - 20_000;
        let time = self.ms(1000, 10_000);
        let now = self.now;
        let clock = &mut self.machine(node).clock;
        if jump {
            clock.jump(now, by);
        } else {
            clock.set_rate(now, ppm);
            self.after(time, Event::End(Ending::Rate { node }));
        }
        self.clock_changed(node);
    }

    /// Timers are due at other moments now.
    fn clock_changed(&mut self, node: u64) {
        let machine = self.machine(node);
        (machine.raft_due, machine.vip_due) = (crate::time::Time::ZERO, crate::time::Time::ZERO);
        self.disturb();
        self.wake_raft(node);
        self.wake_vip(node);
    }

    fn spoil_kernel(&mut self, node: u64, meddle: bool) {
        let time = self.ms(100, 4000);
        let add = self.random.per_mille(500);
        let kernel = &mut self.machine(node).kernel;
        if meddle {
            kernel.present = false;
            // Against somebody who does this all the time it is added again once in so long.
            self.disturb_for(READD_SPACING);
            return self.wake_vip(node);
        }
        kernel.refuses_to_add |= add;
        kernel.refuses_to_remove |= !add;
        self.disturb_for(time + RETRY_MAX);
        self.after(time, Event::End(Ending::Kernel { node }));
    }

    fn spoil_readiness(&mut self, node: u64) -> Result<(), Violation> {
        let time = self.ms(100, 4000);
        let priority = u8::try_from(self.random.between(1, 254)).unwrap_or(1);
        let wish = match self.random.below(2) {
            0 => super::machine::Wish { ready: false, priority: None },
            _ => super::machine::Wish { ready: true, priority: Some(priority) },
        };
        self.after(time, Event::End(Ending::Ready { node }));
        self.want(node, wish)
    }

    fn want(&mut self, node: u64, wish: super::machine::Wish) -> Result<(), Violation> {
        let now = self.now;
        let usual = self.plan.vip(node).map_or(100, |vip| vip.priority);
        self.disturb();
        let machine = self.machine(node);
        machine.wish = wish;
        if !machine.runs() {
            return Ok(());
        }
        let local = machine.clock.at(now);
        let mut said = Said::default();
        if let Some(station) = &mut machine.station {
            station.set_priority(local, &mut machine.kernel, wish.priority.unwrap_or(usual), &mut said);
            station.ready(local, &mut machine.kernel, wish.ready, &mut said);
        }
        self.say(node, said)?;
        self.wake_vip(node);
        Ok(())
    }

    pub(super) fn end_fault(&mut self, ending: Ending) -> Result<(), Violation> {
        self.trace.note(self.now, 0, format_args!("over: {ending:?}"));
        match ending {
            Ending::Power { node } => {
                self.machine(node).powered = true;
                return self.start(node);
            }
            Ending::Thaw { node, life } => self.thaw(node, life),
            Ending::Join { pairs } => self.join(&pairs),
            Ending::JoinSegment { pairs } => {
                self.segment.cuts.retain(|pair| !pairs.contains(pair));
                self.disturb();
            }
            Ending::Quality => {
                for (from, to) in self.network.pairs() {
                    if let Some(link) = self.network.link(from, to) {
                        link.quality = Quality::GOOD;
                    }
                }
            }
            Ending::SegmentQuality => {
                // What is still on its way belongs to the fault.
                self.disturb_for(self.segment.quality.slowest);
                self.segment.quality = Quality::GOOD;
            }
            Ending::Disk { node } => {
                let disk = &self.machine(node).disk;
                disk.set_health(Health::Good);
                disk.set_latency(USUAL_LATENCY);
            }
            Ending::Rate { node } => {
                let now = self.now;
                self.machine(node).clock.set_rate(now, 0);
                self.clock_changed(node);
            }
            Ending::Kernel { node } => self.repair_kernel(node),
            Ending::Told { node } => {
                let wish = self.machine(node).wish;
                return self.want(node, wish);
            }
            Ending::Ready { node } => {
                return self.want(node, super::machine::Wish { ready: true, priority: None });
            }
            Ending::Restart { node, life } => {
                let machine = self.machine(node);
                let voiceless = machine.process.as_ref().is_some_and(|process| process.core.is_none());
                if machine.life == life && voiceless && machine.paused.is_none() {
                    self.stop(node, false);
                    return self.start(node);
                }
                if voiceless && machine.life == life {
                    self.after(Duration::from_millis(500), Event::End(Ending::Restart { node, life }));
                }
            }
        }
        Ok(())
    }

    fn repair_kernel(&mut self, node: u64) {
        let kernel = &mut self.machine(node).kernel;
        kernel.refuses_to_add = false;
        kernel.refuses_to_remove = false;
        self.disturb_for(RETRY_MAX);
    }

    /// All faults end at once.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.healed = true;
        self.trace.note(self.now, 0, format_args!("all faults are over"));
        self.end_fault(Ending::Quality)?;
        self.end_fault(Ending::SegmentQuality)?;
        self.segment.cuts.clear();
        let pairs = self.network.pairs();
        self.join(&pairs);
        for node in 1..=self.plan.nodes {
            self.end_fault(Ending::Disk { node })?;
            self.end_fault(Ending::Rate { node })?;
            self.repair_kernel(node);
            let machine = self.machine(node);
            let life = machine.life;
            machine.powered = true;
            self.thaw(node, life);
            self.end_fault(Ending::Restart { node, life })?;
            self.start(node)?;
            self.want(node, super::machine::Wish { ready: true, priority: None })?;
        }
        Ok(())
    }
}
