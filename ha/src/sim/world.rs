//! The event loop: one queue, one clock, one source of chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cygnet_netlink::wire::Mac;

use super::faults::Ending;
use super::ledger::{Ledger, Violation};
use super::machine::{Machine, Pause};
use super::mutation::Mutation;
use super::network::{Network, Quality, Sent};
use super::plan::Plan;
use super::process::{Effects, Input, Process};
use super::random::Random;
use super::station::{Said, Station};
use super::trace::Trace;
use crate::consensus::core::Begin;
use crate::consensus::frame::{self, Frame, HEADER};
use crate::consensus::limits::{INBOX_INPUTS, PENDING_MAX, TICK};
use crate::time::Time;

/// A process that was killed leaves its address to its guard for this long.
const GUARD_REACTS: Duration = Duration::from_millis(5);

/// What happens at some moment.
pub(super) enum Event {
    /// The raft thread of this life turns.
    Raft { node: u64, life: u64 },
    /// Its thread of the virtual addresses turns.
    Vip { node: u64, life: u64 },
    /// What a turn wrote is on the disk; what it promised may be said.
    Release { node: u64, life: u64, effects: Effects },
    /// A frame reaches the end of its link.
    Arrive { from: u64, to: u64, life: u64, bytes: Vec<u8> },
    /// A node tries to connect.
    Connect { from: u64, to: u64 },
    /// A connection over a path that is cut is given up.
    GiveUp { from: u64, to: u64, life: u64 },
    /// Something for the raft thread of this life.
    Input { node: u64, life: u64, input: Input },
    /// A packet on the segment reaches a node.
    Packet { to: u64, mac: Mac, bytes: Vec<u8> },
    /// The guard of this life acts.
    Guard { node: u64, life: u64 },
    /// A process is started, unless it runs or the machine has no power.
    Start { node: u64 },
    /// The next fault.
    Fault,
    /// A fault ends.
    End(Ending),
    /// The next change or fact.
    Change,
    /// The last change, when all is well again.
    LastChange,
}

/// The segment with the virtual address.
pub(super) struct Segment {
    pub(super) quality: Quality,
    pub(super) cuts: BTreeSet<(u64, u64)>,
}

/// A whole cluster.
pub(super) struct World {
    pub(super) now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) ledger: Ledger,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) segment: Segment,
    pub(super) mutation: Option<Mutation>,
    /// Faults have stopped.
    pub(super) healed: bool,
    pub(super) watch: super::holders::HolderWatch,
    pub(super) changes: u64,
    /// The text of the last change, once it was asked for.
    pub(super) last_change: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, mutation: Option<Mutation>, keep_text: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(seed, &mut random);
        let machines = (1..=plan.nodes).map(|id| Machine::new(id, mutation)).collect();
        let mut world = Self {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            network: Network::new(plan.nodes, plan.stream),
            plan,
            random,
            trace: Trace::new(keep_text),
            ledger: Ledger::default(),
            machines,
            segment: Segment { quality: Quality::GOOD, cuts: BTreeSet::new() },
            mutation,
            healed: false,
            watch: super::holders::HolderWatch::default(),
            changes: 0,
            last_change: None,
        };
        world.trace.note(Time::ZERO, 0, format_args!("{:?}", world.plan));
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 1..=self.plan.nodes {
            let at = Time(self.random.below(2_000_000_000));
            self.at(at, Event::Start { node });
        }
        for (from, to) in self.network.pairs() {
            self.after(TICK, Event::Connect { from, to });
        }
        self.at(Time(1_500_000_000), Event::Fault);
        self.at(Time(500_000_000), Event::Change);
    }

    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn machine(&mut self, node: u64) -> &mut Machine {
        let at = usize::try_from(node - 1).unwrap_or(0).min(self.machines.len() - 1);
        &mut self.machines[at]
    }

    /// Runs until this time, or until an invariant is broken.
    pub(super) fn run_until(&mut self, end: Time) -> Result<(), Violation> {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.happen(event)?;
            self.check_holders()?;
        }
        self.now = end;
        self.check_holders()
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Raft { node, life } => self.raft_turn(node, life),
            Event::Vip { node, life } => self.vip_turn(node, life),
            Event::Release { node, life, effects } => self.release(node, life, effects),
            Event::Arrive { from, to, life, bytes } => {
                self.arrive(from, to, life, bytes);
                Ok(())
            }
            Event::Connect { from, to } => {
                self.connect(from, to);
                Ok(())
            }
            Event::GiveUp { from, to, life } => {
                let whole = self.network.is_whole(from, to) && self.machine(to).answers();
                let current = self.network.link(from, to).is_some_and(|link| link.open && link.life == life);
                if current && !whole {
                    self.disconnect(from, to);
                }
                Ok(())
            }
            Event::Input { node, life, input } => {
                self.input(node, life, input);
                Ok(())
            }
            Event::Packet { to, mac, bytes } => {
                self.packet(to, mac, bytes);
                Ok(())
            }
            Event::Guard { node, life } => {
                self.guard(node, life);
                Ok(())
            }
            Event::Start { node } => self.start(node),
            Event::Fault => self.next_fault(),
            Event::End(ending) => self.end_fault(ending),
            Event::Change => {
                self.next_change();
                Ok(())
            }
            Event::LastChange => {
                self.ask_last_change();
                Ok(())
            }
        }
    }

    /// Starts the process of a node.
    pub(super) fn start(&mut self, node: u64) -> Result<(), Violation> {
        let (now, mutation) = (self.now, self.mutation);
        let (mut settings, vip) = (self.plan.core(node), self.plan.vip(node));
        if self.machine(node).had_log {
            settings.begin = Begin::Fetch { lost: true };
        }
        let (sequence, salt) = (self.random.next(), self.random.next());
        let machine = self.machine(node);
        if !machine.powered || machine.process.is_some() || machine.paused.is_some() {
            return Ok(());
        }
        let local = machine.clock.at(now);
        machine.disk.begin(now);
        let process = match Process::start(settings, machine.disk.clone(), local, sequence, mutation) {
            Ok(process) => process,
            Err(error) => return self.did_not_start(node, &error.to_string()),
        };
        machine.life += 1;
        let mut wish = machine.wish;
        machine.station = vip.map(|vip| Station::new(local, node, vip, salt, mutation));
        (machine.raft_due, machine.vip_due) = (Time::ZERO, Time::ZERO);
        machine.busy_until = machine.disk.busy_until();
        let mut kernel = machine.kernel;
        let mut said = Said::default();
        if let Some(station) = &mut machine.station {
            said = station.begin(local, &mut kernel, wish.ready);
            if let Some(priority) = wish.priority.take() {
                station.set_priority(local, &mut kernel, priority, &mut said);
            }
        }
        machine.kernel = kernel;
        machine.process = Some(process);
        self.trace.note(now, node, format_args!("starts"));
        self.disturb();
        self.say(node, said)?;
        self.wake_raft(node);
        self.wake_vip(node);
        for (from, to) in self.network.pairs() {
            if from == node {
                self.after(TICK, Event::Connect { from, to });
            } else if to == node {
                // The kernel answers what belongs to an earlier life with a reset.
                self.disconnect(from, to);
            }
        }
        let Some(core) = self.machines[usize::try_from(node - 1).unwrap_or(0)]
            .process
            .as_ref()
            .and_then(|p| p.core.as_ref())
        else {
            return Ok(());
        };
        self.ledger.started(node, core)
    }

    fn did_not_start(&mut self, node: u64, error: &str) -> Result<(), Violation> {
        self.trace.note(self.now, node, format_args!("does not start: {error}"));
        if error.contains("Full") || error.contains("Fail") {
            // The operator makes room, and tries again.
            let pause = Duration::from_millis(self.random.between(500, 3000));
            self.after(pause, Event::Start { node });
            return Ok(());
        }
        Err(Violation(format!("node {node} does not start: {error}")))
    }

    /// Ends the process; what it had promised to write may be lost.
    pub(super) fn stop(&mut self, node: u64, power: bool) {
        let (now, mutation) = (self.now, self.mutation);
        let mut random = self.random.clone();
        let machine = self.machine(node);
        if power {
            machine.powered = false;
            machine.kernel.present = false;
            machine.kernel.stuck = false;
            machine.disk.lose_power(now, &mut random);
        } else {
            machine.disk.lose_process(now, &mut random);
        }
        machine.process = None;
        machine.station = None;
        let life = machine.life;
        self.random = random;
        self.trace.note(now, node, format_args!("{}", if power { "loses power" } else { "is killed" }));
        if !power && mutation != Some(Mutation::NoGuard) {
            self.after(GUARD_REACTS, Event::Guard { node, life });
        }
        self.disturb();
        for (from, to) in self.network.pairs() {
            if from == node {
                if let Some(link) = self.network.link(from, to) {
                    link.close();
                }
            } else if to == node && !power && self.network.is_whole(from, to) {
                self.disconnect(from, to);
            } else if to == node {
                self.give_up_later(from, to);
            }
        }
    }

    fn guard(&mut self, node: u64, life: u64) {
        let now = self.now;
        let machine = self.machine(node);
        let ended = machine.process.is_none() && machine.life == life;
        let lapsed = machine.paused == Some(Pause::Process)
            && machine.life == life
            && machine.station.as_ref().is_some_and(|station| station.lease_ends() <= machine.clock.at(now));
        if machine.kernel.present && (ended || lapsed) {
            machine.kernel.present = false;
            self.trace.note(now, node, format_args!("the guard takes the address away"));
        }
    }

    pub(super) fn wake_raft(&mut self, node: u64) {
        let now = self.now;
        let machine = self.machine(node);
        if !machine.runs() {
            return;
        }
        let Some(process) = &machine.process else { return };
        let timer = machine.clock.when(process.due(), now);
        let wanted = if process.has_inputs() { now } else { timer };
        let due = wanted.max(machine.busy_until).max(now);
        if machine.raft_due < now || machine.raft_due == Time::ZERO || due < machine.raft_due {
            machine.raft_due = due;
            let life = machine.life;
            self.at(due, Event::Raft { node, life });
        }
    }

    pub(super) fn wake_vip(&mut self, node: u64) {
        let now = self.now;
        let machine = self.machine(node);
        if !machine.runs() {
            return;
        }
        let Some(station) = &machine.station else { return };
        let wanted = if station.waiting() > 0 { now } else { machine.clock.when(station.due(), now) };
        if machine.vip_due < now || machine.vip_due == Time::ZERO || wanted < machine.vip_due {
            machine.vip_due = wanted;
            let life = machine.life;
            self.at(wanted, Event::Vip { node, life });
        }
    }

    fn raft_turn(&mut self, node: u64, life: u64) -> Result<(), Violation> {
        let (now, rests) = (self.now, self.healed);
        let machine = self.machine(node);
        if machine.life != life || machine.raft_due != now || !machine.runs() {
            return Ok(());
        }
        machine.raft_due = Time::ZERO;
        let local = machine.clock.at(now);
        machine.disk.begin(now);
        let Some(process) = &mut machine.process else { return Ok(()) };
        process.rests = rests;
        let result = process.turn(local);
        let busy = machine.disk.busy_until();
        machine.busy_until = busy;
        match result {
            Ok(effects) => {
                self.check_log(node)?;
                if busy > now {
                    self.at(busy, Event::Release { node, life, effects });
                } else {
                    self.release(node, life, effects)?;
                }
            }
            Err(error) => {
                let error = error.to_string();
                self.lose_voice(node, &error)?;
            }
        }
        self.wake_raft(node);
        Ok(())
    }

    /// The core has given up; the process lives on, and the operator starts it anew.
    fn lose_voice(&mut self, node: u64, error: &str) -> Result<(), Violation> {
        self.trace.note(self.now, node, format_args!("takes no part any more: {error}"));
        if !error.contains("(simulated)") {
            return Err(Violation(format!("node {node} takes no part any more: {error}")));
        }
        if let Some(process) = &mut self.machine(node).process {
            process.core = None;
        }
        let pause = Duration::from_millis(self.random.between(200, 4000));
        let life = self.machine(node).life;
        self.after(pause, Event::End(Ending::Restart { node, life }));
        Ok(())
    }

    fn check_log(&mut self, node: u64) -> Result<(), Violation> {
        let plan_bound = self.plan.snapshot_entries + self.plan.tail_entries;
        let now = self.now;
        let machine = self.machines.get_mut(usize::try_from(node - 1).unwrap_or(0));
        let Some(process) = machine.and_then(|machine| machine.process.as_mut()) else { return Ok(()) };
        let applied = std::mem::take(&mut process.applied);
        let restored = std::mem::take(&mut process.restored);
        let (inputs, pending, facts) = process.waiting();
        if inputs > INBOX_INPUTS || pending > PENDING_MAX || facts > super::process::SOFT_WAITING + 16 {
            return Err(Violation(format!(
                "node {node}: {inputs} inputs, {pending} changes, {facts} facts wait"
            )));
        }
        for entry in &applied {
            self.trace.note(now, node, format_args!("applies {} {:?}", entry.index, entry.outcome));
        }
        let Some(core) = &process.core else { return Ok(()) };
        let kept = core.state().index() - core.truncated().index;
        if kept > plan_bound {
            return Err(Violation(format!(
                "node {node} keeps {kept} applied entries; {plan_bound} are allowed"
            )));
        }
        let last = core.last();
        self.ledger.applied(node, applied)?;
        self.ledger.turned(node, core, restored)?;
        let (role, term, commit) = (core.role(), core.term(), core.commit());
        self.trace.mix(node, &[u64::from(core.is_leader()), term, commit, last, process.rejected]);
        self.trace.role(now, node, format_args!("{role:?} in term {term}"));
        let complete = commit >= self.ledger.committed() && !core.is_incomplete();
        let machine = self.machine(node);
        machine.last = last;
        machine.catching_up &= !complete;
        Ok(())
    }

    fn release(&mut self, node: u64, life: u64, effects: Effects) -> Result<(), Violation> {
        if self.machine(node).life != life || self.machine(node).process.is_none() {
            return Ok(());
        }
        for answer in &effects.answers {
            self.trace.note(self.now, node, format_args!("answers {:?} at {}", answer.result, answer.index));
            self.ledger.answered(node, answer)?;
        }
        for (to, frame) in effects.frames {
            let snapshot = matches!(frame, Frame::Snapshot(_));
            let told = matches!(frame, Frame::Raft(_)) || snapshot;
            if self.network.send(node, to, frame) {
                self.pump(node, to);
            } else if let Some(process) = self.machine(node).process.as_mut().filter(|_| told) {
                process.not_sent(to, snapshot);
            }
        }
        if let Some((from, to)) = self.network.overfull() {
            return Err(Violation(format!("too much waits between {from} and {to}")));
        }
        Ok(())
    }

    pub(super) fn pump(&mut self, from: u64, to: u64) {
        let pumped = self.network.pump(from, to, self.now, &mut self.random);
        let life = self.network.link(from, to).map_or(0, |link| link.life);
        self.fly(from, to, life, pumped.sent);
        if pumped.snapshot {
            self.trace.note(self.now, from, format_args!("sends a snapshot to {to}"));
            self.tell(from, Input::SnapshotSent { peer: to, sent: true });
        }
    }

    pub(super) fn fly(&mut self, from: u64, to: u64, life: u64, sent: Vec<Sent>) {
        for Sent { due, bytes } in sent {
            self.at(due, Event::Arrive { from, to, life, bytes });
        }
    }

    /// Something for the raft thread of a node in its present life.
    pub(super) fn tell(&mut self, node: u64, input: Input) {
        let life = self.machine(node).life;
        self.input(node, life, input);
    }

    fn input(&mut self, node: u64, life: u64, input: Input) {
        let machine = self.machine(node);
        let Some(process) = machine.process.as_mut().filter(|_| machine.life == life) else { return };
        // Raft waits for these, so that the connections repeat them until there is room.
        let surely = matches!(input, Input::Connected { .. } | Input::SnapshotSent { .. });
        if !process.input(input.clone()) && surely {
            self.after(TICK, Event::Input { node, life, input });
            return;
        }
        self.wake_raft(node);
    }

    fn arrive(&mut self, from: u64, to: u64, life: u64, bytes: Vec<u8>) {
        if self.machine(to).paused == Some(Pause::Machine) && self.network.is_stream() {
            // TCP sends it again.
            self.after(TICK, Event::Arrive { from, to, life, bytes });
            return;
        }
        let arrived = self.network.arrive(from, to, life, bytes);
        self.pump(from, to);
        let Some(bytes) = arrived.filter(|_| self.machine(to).answers()) else { return };
        let Some(frame) = decode(&bytes) else { return };
        self.trace.mix(to, &[from, bytes.len() as u64]);
        let input = match frame {
            Frame::Raft(message) | Frame::Snapshot(message) => Input::Raft { from, message },
            Frame::Propose(command) => Input::Forwarded { from, command, soft: false },
            Frame::Soft(command) => Input::Forwarded { from, command, soft: true },
            Frame::NotProposed { sequence } => Input::NotProposed { sequence },
            Frame::Transfer { to } => Input::Transfer { to },
            _ => return,
        };
        self.tell(to, input);
    }

    /// Nodes that live in different lives of the log exchange no messages; the greeting tells.
    fn live_alike(&mut self, from: u64, to: u64) -> bool {
        let mut epoch = |node| Some(self.machine(node).process.as_ref()?.core.as_ref()?.epoch());
        match (epoch(from), epoch(to)) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }

    fn connect(&mut self, from: u64, to: u64) {
        let ready = self.machine(from).runs() && self.machine(to).runs();
        let whole = self.network.is_whole(from, to) && self.live_alike(from, to);
        let last = self.machine(from).last;
        let Some(link) = self.network.link(from, to) else { return };
        if link.open {
            return;
        }
        if !ready || !whole {
            let pause = link.next_pause();
            if self.machine(from).process.is_some() {
                self.after(pause, Event::Connect { from, to });
            }
            return;
        }
        link.connect();
        self.trace.note(self.now, from, format_args!("is connected to {to}"));
        self.tell(to, Input::Connected { peer: from, last });
    }

    /// The connection from `from` to `to` ends.
    pub(super) fn disconnect(&mut self, from: u64, to: u64) {
        let Some(link) = self.network.link(from, to).filter(|link| link.open) else { return };
        let snapshot_lost = link.close();
        let pause = link.next_pause();
        self.trace.note(self.now, from, format_args!("has lost {to}"));
        if snapshot_lost {
            self.tell(from, Input::SnapshotSent { peer: to, sent: false });
        }
        self.tell(from, Input::Unreachable { peer: to });
        self.after(pause, Event::Connect { from, to });
    }

    fn vip_turn(&mut self, node: u64, life: u64) -> Result<(), Violation> {
        let now = self.now;
        let machine = self.machine(node);
        if machine.life != life || machine.vip_due != now || !machine.runs() {
            return Ok(());
        }
        machine.vip_due = Time::ZERO;
        let local = machine.clock.at(now);
        let Some(station) = &mut machine.station else { return Ok(()) };
        let said = station.turn(local, &mut machine.kernel);
        self.say(node, said)?;
        self.wake_vip(node);
        Ok(())
    }

    /// What the thread of the virtual addresses wants done.
    pub(super) fn say(&mut self, node: u64, said: Said) -> Result<(), Violation> {
        let now = self.now;
        if said.added {
            self.trace.note(now, node, format_args!("adds the address"));
            self.taken_over(node)?;
        }
        if said.announced {
            self.watch.learnt = Some(node);
        }
        let role = self.machine(node).station.as_ref().map(|station| station.holder.role());
        if let Some(role) = role {
            self.trace.role(now, node + 100, format_args!("{role:?}"));
        }
        let Some(mac) = self.machine(node).station.as_ref().map(Station::mac) else { return Ok(()) };
        for bytes in said.packets {
            self.trace.mix(node, &[bytes.len() as u64, u64::from(bytes.last().copied().unwrap_or(0))]);
            for to in 1..=self.plan.nodes {
                if to == node || self.segment.cuts.contains(&(node, to)) {
                    continue;
                }
                let quality = self.segment.quality;
                if self.random.per_mille(quality.lose) {
                    continue;
                }
                for _ in 0..1 + u64::from(self.random.per_mille(quality.double)) {
                    let delay = quality.delay(&mut self.random);
                    self.after(delay, Event::Packet { to, mac, bytes: bytes.clone() });
                }
            }
        }
        Ok(())
    }

    fn packet(&mut self, to: u64, mac: Mac, bytes: Vec<u8>) {
        let machine = self.machine(to);
        if !machine.answers() {
            return;
        }
        if let Some(station) = &mut machine.station {
            station.hear(mac, bytes);
            self.wake_vip(to);
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Frame> {
    let (kind, _) = frame::decode_header(*bytes.first_chunk()?).ok()?;
    frame::decode(kind, bytes.get(HEADER..)?).ok()?
}
