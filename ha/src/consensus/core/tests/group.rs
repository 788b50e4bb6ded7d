//! A group of cores with a network that loses, doubles and delays, and disks that fail in the midst of a write.

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb::{Message, MessageType};

use super::super::*;
use crate::consensus::limits::LogLimits;
use crate::consensus::store::memory::{Fault, MemoryStore};
use crate::state::State;
use crate::state::{Command, Kind, Origin, PutConfig};

/// Per cent of the messages, and per mille of the ticks for crashes.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) lose: u64,
    pub(super) double: u64,
    /// At most so many ticks.
    pub(super) delay: u64,
    pub(super) crash: u64,
}

pub(super) struct Group {
    settings: Vec<CoreSettings>,
    disks: Vec<MemoryStore>,
    cores: Vec<Option<Core<MemoryStore>>>,
    network: Vec<(u64, Message)>,
    random: u64,
    now: u64,
    sequence: u64,
    pub(super) faults: Faults,
    /// What was applied at each index by anybody; all must agree.
    pub(super) applied: BTreeMap<u64, AppliedEntry>,
    pub(super) restored: BTreeSet<u64>,
}

impl Group {
    pub(super) fn new(nodes: u64, witnesses: Vec<u64>, seed: u64) -> Self {
        let voters: Vec<u64> = (1..=nodes).collect();
        let settings: Vec<CoreSettings> = voters
            .iter()
            .map(|&id| CoreSettings {
                limits: LogLimits { snapshot_entries: 20, tail_entries: 5, ..LogLimits::default() },
                seed: Some(seed),
                ..CoreSettings::new(id, voters.clone(), witnesses.clone())
            })
            .collect();
        let disks: Vec<MemoryStore> = voters.iter().map(|_| MemoryStore::default()).collect();
        let mut group = Self {
            settings,
            disks,
            cores: voters.iter().map(|_| None).collect(),
            network: Vec::new(),
            random: seed,
            now: 0,
            sequence: 0,
            faults: Faults::default(),
            applied: BTreeMap::new(),
            restored: BTreeSet::new(),
        };
        for id in voters {
            group.start(id);
        }
        group
    }

    /// One node that begins with this state.
    pub(super) fn begin(state: State, seed: u64) -> Self {
        let mut group = Self::new(1, Vec::new(), seed);
        group.stop(1);
        group.disks[0] = MemoryStore::default();
        group.settings[0].begin = Begin::State(Box::new(state));
        group.start(1);
        group
    }

    /// A new node with the next number, which knows of the others.
    pub(super) fn join(&mut self, id: u64) {
        assert_eq!(id, self.settings.len() as u64 + 1);
        let mut settings = self.settings[0].clone();
        settings.id = id;
        settings.voters = (1..id).collect();
        settings.begin = Begin::Fetch { lost: false };
        self.settings.push(settings);
        self.disks.push(MemoryStore::default());
        self.cores.push(None);
        self.start(id);
    }

    /// The log of a node that is down is gone; it knows that it had one.
    pub(super) fn lose_disk(&mut self, id: u64) {
        self.disks[Self::at(id)] = MemoryStore::default();
        let voters = (1..=self.settings.len() as u64).collect();
        let settings = &mut self.settings[Self::at(id)];
        settings.begin = Begin::Fetch { lost: true };
        settings.voters = voters;
        self.start(id);
    }

    pub(super) fn recover(&mut self, id: u64) {
        let core = self.cores[Self::at(id)].take().expect("the node is up");
        self.cores[Self::at(id)] = Some(core.recover(Vec::new()).unwrap());
    }

    pub(super) fn adopt(&mut self, id: u64, epoch: Epoch) -> Discarded {
        self.advance(id);
        // Connections do not outlive an epoch.
        self.network.retain(|(_, message)| message.to != id && message.from != id);
        let core = self.cores[Self::at(id)].take().expect("the node is up");
        let (core, discarded) = core.adopt(epoch).unwrap();
        self.cores[Self::at(id)] = Some(core);
        for peer in self.cores.iter_mut().flatten() {
            peer.peer_connected(id, 0);
        }
        discarded
    }

    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(1);
        mix(self.random) % below
    }

    fn at(id: u64) -> usize {
        usize::try_from(id - 1).unwrap()
    }

    pub(super) fn core(&mut self, id: u64) -> &mut Core<MemoryStore> {
        self.cores[Self::at(id)].as_mut().expect("the node is up")
    }

    pub(super) fn is_up(&self, id: u64) -> bool {
        self.cores.get(Self::at(id)).is_some_and(Option::is_some)
    }

    pub(super) fn disk(&self, id: u64) -> &MemoryStore {
        &self.disks[Self::at(id)]
    }

    pub(super) fn stop(&mut self, id: u64) {
        self.cores[Self::at(id)] = None;
        self.network.retain(|(_, message)| message.to != id && message.from != id);
    }

    pub(super) fn start(&mut self, id: u64) {
        let disk = self.disk(id).clone();
        if let Some(stored) = disk.stored() {
            stored.check().unwrap();
        }
        // A fault that was meant for the old life must not hit the new one.
        let mut core = match Core::open(self.settings[Self::at(id)].clone(), disk) {
            Ok(core) => core,
            Err(_) => Core::open(self.settings[Self::at(id)].clone(), self.disk(id).clone()).unwrap(),
        };
        let last = core.last();
        core.save_commit().unwrap();
        self.cores[Self::at(id)] = Some(core);
        for peer in self.cores.iter_mut().flatten() {
            peer.peer_connected(id, last);
        }
    }

    pub(super) fn put(&mut self, id: u64, text: &str) {
        self.sequence += 1;
        let origin = Some(Origin { node: id, sequence: self.sequence });
        let put = PutConfig { text: text.to_owned(), ..PutConfig::default() };
        self.propose_as(id, origin, Kind::PutConfig(put));
    }

    pub(super) fn propose(&mut self, id: u64, kind: Kind) {
        self.sequence += 1;
        let origin = Some(Origin { node: id, sequence: self.sequence });
        self.propose_as(id, origin, kind);
    }

    fn propose_as(&mut self, id: u64, origin: Option<Origin>, kind: Kind) {
        let command = Command { origin, ..Command::new(kind) };
        if let Some(core) = &mut self.cores[Self::at(id)] {
            // A follower refuses; that is part of the game.
            let _ = core.propose(command.encode(), false);
            self.advance(id);
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        for id in 1..=self.cores.len() as u64 {
            if !self.is_up(id) {
                if self.random(10) == 0 && self.faults.crash > 0 {
                    self.start(id);
                }
                continue;
            }
            if self.random(1000) < self.faults.crash {
                self.stop(id);
                continue;
            }
            if self.random(1000) < self.faults.crash {
                let fault = if self.random(2) == 0 { Fault::Lost } else { Fault::Kept };
                self.disk(id).fail_next_write(fault);
            }
            if self.core(id).tick().is_err() {
                self.stop(id);
                continue;
            }
            self.advance(id);
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        // Messages that answer messages go out in the same tick, within reason.
        for _ in 0..8 {
            let now = self.now;
            let (due, later) = std::mem::take(&mut self.network).into_iter().partition(|(at, _)| *at <= now);
            self.network = later;
            let due: Vec<(u64, Message)> = due;
            if due.is_empty() {
                return;
            }
            for (_, message) in due {
                let (from, to) = (message.from, message.to);
                if self.is_up(to) {
                    // Only what a node without its log refuses may be refused here, and whoever was removed.
                    let waits = self.core(to).is_waiting()
                        || self.core(to).is_incomplete()
                        || self.core(to).state().members().was_removed(from);
                    let stepped = self.core(to).step(from, message);
                    stepped.unwrap_or_else(|error| assert!(waits, "{error}"));
                    self.advance(to);
                }
            }
        }
    }

    /// Does what is due on a node: after its start, what was committed before is applied.
    pub(super) fn advance(&mut self, id: u64) {
        let Ok(output) = self.core(id).advance() else {
            self.stop(id);
            return;
        };
        if output.restored {
            self.restored.insert(id);
        }
        for entry in output.applied {
            let known = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "node {id} applied something else");
        }
        for message in output.messages {
            self.send(message);
        }
    }

    fn send(&mut self, message: Message) {
        let lost = self.random(100) < self.faults.lose;
        if message.get_msg_type() == MessageType::MsgSnapshot && self.is_up(message.from) {
            let (from, to) = (message.from, message.to);
            self.core(from).report_snapshot(to, !lost);
        }
        if lost {
            return;
        }
        let delay = self.random(self.faults.delay + 1);
        if self.random(100) < self.faults.double {
            self.network.push((self.now + self.faults.delay, message.clone()));
        }
        self.network.push((self.now + delay, message));
    }

    pub(super) fn heal(&mut self) {
        self.faults = Faults::default();
        self.disks.iter().for_each(MemoryStore::heal);
        for id in 1..=self.cores.len() as u64 {
            if !self.is_up(id) {
                self.start(id);
            }
        }
    }

    /// The leader that everybody follows.
    pub(super) fn leader(&mut self) -> Option<u64> {
        let leader = self.cores.iter().flatten().find(|core| core.is_leader())?.settings.id;
        self.cores.iter().flatten().all(|core| core.leader() == Some(leader)).then_some(leader)
    }

    /// There is a leader, and all have applied all.
    pub(super) fn settled(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let last = self.core(leader).last();
        self.cores.iter().all(|core| core.as_ref().is_some_and(|core| core.state().index() == last))
    }

    pub(super) fn all_at_version(&mut self, version: u64) -> bool {
        self.cores.iter().flatten().all(|core| core.state().version() == version)
    }

    /// Ticks until the condition holds; `None` if it does not within `ticks`.
    pub(super) fn run_until(&mut self, ticks: u64, condition: impl Fn(&mut Self) -> bool) -> Option<u64> {
        for tick in 0..=ticks {
            if condition(self) {
                return Some(tick);
            }
            self.tick();
        }
        None
    }
}
