//! The raft thread of one node: the production core, and a small driver around it that is as `consensus::driver` but
//! has no thread and no clock.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Message, MessageType};

use super::disk::Disk;
use super::mutation::Mutation;
use crate::consensus::core::{AppliedEntry, Core, CoreError, CoreSettings, NotProposed, Output};
use crate::consensus::countdown::Countdown;
use crate::consensus::frame::Frame;
use crate::consensus::limits::{
    INBOX_INPUTS, PENDING_MAX, PROPOSE_TIMEOUT, RESEND_AFTER, SOFT_EVERY, TEND_EVERY, TICK,
};
use crate::consensus::rotation::{Rotation, Step, Times};
use crate::consensus::soft::SoftQueue;
use crate::state::{
    AnnounceTicketKey, ClientBatch, ClientFact, Command, Kind, Origin, Outcome, Refusal, UseTicketKey,
};
use crate::time::Time;

/// As in the driver: inputs in one turn, and ticks that are made up for after a pause.
const INPUTS_PER_TURN: usize = 256;
const TICKS_PER_TURN: u32 = 2;

/// Client facts that wait at most. Less than in production, so that the bound is met.
pub(super) const SOFT_WAITING: usize = 64;

/// Facts in one entry.
const BATCH: usize = 16;

/// Set in the number of a repeated proposal by [`Mutation::ForgetRepeats`]; numbers that are drawn do not have it.
pub(super) const REPEAT: u64 = 1 << 63;

/// Keys of session tickets live for seconds, not hours, so that many come and go in a run. ms.
const TICKET_TIMES: Times = Times { life: 6000, before: 1500, settled: 300, late: 2000 };

/// A node that does not lead waits so much longer before it makes one, ms.
const FOLLOWER_WAITS_MS: u64 = 1000;

/// What reaches the raft thread.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Raft { from: u64, message: Box<Message> },
    Forwarded { from: u64, command: Vec<u8>, soft: bool },
    NotProposed { sequence: u64 },
    Transfer { to: u64 },
    Connected { peer: u64, last: u64 },
    SnapshotSent { peer: u64, sent: bool },
    Unreachable { peer: u64 },
    Operator(Box<Kind>),
    Fact(ClientFact),
}

/// What a turn wants to happen when all that it wrote is on the disk.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) frames: Vec<(u64, Frame)>,
    pub(super) answers: Vec<Answer>,
}

/// An operator hears of the result.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) index: u64,
    pub(super) kind: Box<Kind>,
    pub(super) result: Result<u64, Refusal>,
}

struct Pending {
    kind: Box<Kind>,
    command: Vec<u8>,
    since: Time,
    sent: Option<Time>,
    tries: u64,
}

struct Flight {
    sequence: u64,
    facts: Vec<ClientFact>,
    sent: Time,
}

/// One life of the process.
pub(super) struct Process {
    pub(super) id: u64,
    /// `None` after an error: the node has lost its voice.
    pub(super) core: Option<Core<Disk>>,
    /// What was applied since it was last asked.
    pub(super) applied: Vec<AppliedEntry>,
    pub(super) restored: bool,
    /// Messages that made no sense.
    pub(super) rejected: u64,
    /// All faults are over: nothing changes by itself, so that the states can be compared.
    pub(super) rests: bool,
    mutation: Option<Mutation>,
    inbox: VecDeque<Input>,
    next_tick: Time,
    pending: BTreeMap<u64, Pending>,
    next_sequence: u64,
    soft: SoftQueue,
    flight: Option<Flight>,
    soft_not_before: Time,
    leader: Option<u64>,
    /// Of a configuration that waits for its confirmation; one clock stands for both that the driver has.
    countdown: Countdown,
    rotation: Rotation,
    tend_not_before: Time,
    /// Frames that could not be queued are told to the core at its next turn.
    effects: Effects,
}

impl Process {
    /// Starts; `local` is what the node's clock shows, `sequence` is drawn anew in each life.
    pub(super) fn start(
        settings: CoreSettings,
        disk: Disk,
        local: Time,
        sequence: u64,
        mutation: Option<Mutation>,
    ) -> Result<Self, CoreError> {
        let id = settings.id;
        let mut core = Core::open(settings, disk)?;
        let output = core.advance()?;
        let mut process = Self {
            id,
            core: Some(core),
            applied: Vec::new(),
            restored: false,
            rejected: 0,
            rests: false,
            mutation,
            inbox: VecDeque::new(),
            next_tick: local + TICK,
            pending: BTreeMap::new(),
            next_sequence: sequence >> 1,
            soft: SoftQueue::new(SOFT_WAITING),
            flight: None,
            soft_not_before: local,
            leader: None,
            countdown: Countdown::default(),
            rotation: Rotation::with(TICKET_TIMES),
            tend_not_before: local,
            effects: Effects::default(),
        };
        process.count_down(false, local);
        process.follow_tickets(false, local);
        process.handle(output, local);
        Ok(process)
    }

    /// Puts something into the inbox; false if it is full.
    pub(super) fn input(&mut self, input: Input) -> bool {
        let room = self.inbox.len() < INBOX_INPUTS;
        if room {
            self.inbox.push_back(input);
        }
        room
    }

    /// When the next turn is due, by the node's clock.
    pub(super) fn due(&self) -> Time {
        self.next_tick
    }

    pub(super) fn has_inputs(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Waiting inputs, changes and facts.
    pub(super) fn waiting(&self) -> (usize, usize, usize) {
        let waiting = usize::try_from(self.soft.figures().waiting).unwrap_or(usize::MAX);
        (self.inbox.len(), self.pending.len(), waiting)
    }

    /// One turn, as the driver does it.
    pub(super) fn turn(&mut self, now: Time) -> Result<Effects, CoreError> {
        for _ in 0..INPUTS_PER_TURN {
            let Some(input) = self.inbox.pop_front() else { break };
            self.take(input, now);
        }
        let mut ticks = 0;
        while now >= self.next_tick && ticks < TICKS_PER_TURN {
            if let Some(core) = &mut self.core {
                core.tick()?;
            }
            self.next_tick = self.next_tick + TICK;
            ticks += 1;
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
        }
        for _ in 0..4 {
            let Some(core) = &mut self.core else { break };
            let output = core.advance()?;
            self.handle(output, now);
            self.watch_leader(now);
            self.tend(now);
            self.serve_pending(now);
            if !self.pump_soft(now) {
                break;
            }
        }
        if let Some(core) = &mut self.core {
            let output = core.advance()?;
            self.handle(output, now);
        }
        Ok(std::mem::take(&mut self.effects))
    }

    fn take(&mut self, input: Input, now: Time) {
        match input {
            Input::Raft { from, message } => self.raft(from, *message),
            Input::Forwarded { from, command, soft } => self.forwarded(from, command, soft),
            Input::NotProposed { sequence } => {
                if let Some(pending) = self.pending.get_mut(&sequence) {
                    pending.sent = None;
                }
                self.land(now, |flight| flight.sequence == sequence);
            }
            Input::Transfer { to } => self.transfer(to),
            Input::Connected { peer, last } => {
                if let Some(core) = &mut self.core {
                    core.peer_connected(peer, last);
                }
            }
            Input::SnapshotSent { peer, sent } => {
                if let Some(core) = &mut self.core {
                    core.report_snapshot(peer, sent);
                }
            }
            Input::Unreachable { peer } => {
                if let Some(core) = &mut self.core {
                    core.report_unreachable(peer);
                }
            }
            Input::Operator(kind) => self.propose(kind, now),
            Input::Fact(fact) => self.soft.offer(fact),
        }
    }

    fn raft(&mut self, from: u64, mut message: Message) {
        let Some(core) = &mut self.core else { return };
        if let Some(mutation) = self.mutation {
            mutation.spoil_message(&mut message, core.term(), core.last());
        }
        if core.step(from, message).is_err() {
            self.rejected += 1;
        }
    }

    fn count_down(&mut self, fresh: bool, now: Time) {
        if let Some(core) = &self.core {
            self.countdown.follow(core.state().configuration(), fresh, ms(now), ms(now));
        }
    }

    fn follow_tickets(&mut self, fresh: bool, now: Time) {
        if let Some(core) = &self.core {
            self.rotation.follow(core.state().tickets(), fresh, ms(now), ms(now));
        }
    }

    /// Has the keys of session tickets made that are due: what is sealed does not matter here.
    fn tend_tickets(&mut self, now: Time) {
        let Some(core) = &self.core else { return };
        let (leads, Some(leader)) = (core.is_leader(), core.leader()) else { return };
        let patience = if leads { 0 } else { FOLLOWER_WAITS_MS };
        let unix_ms = ms(now);
        let kind = match self.rotation.due(unix_ms, patience) {
            None => return,
            Some(Step::Announce { after }) => {
                let sealed = vec![u8::try_from(self.id).unwrap_or(0)];
                Kind::AnnounceTicketKey(AnnounceTicketKey {
                    after,
                    unix_ms,
                    sealed,
                    ..AnnounceTicketKey::default()
                })
            }
            Some(Step::Use { number }) => Kind::UseTicketKey(UseTicketKey { number, unix_ms }),
        };
        let bytes = self.command(kind).encode();
        match &mut self.core {
            Some(core) if leads => drop(core.propose(bytes, false)),
            _ => self.effects.frames.push((leader, Frame::Propose(bytes))),
        }
    }

    /// A leader takes a configuration back that nobody has confirmed in time.
    fn tend(&mut self, now: Time) {
        if now < self.tend_not_before || self.mutation == Some(Mutation::NeverReturn) {
            return;
        }
        self.tend_not_before = now + TEND_EVERY;
        if !self.rests {
            self.tend_tickets(now);
        }
        let due = self.countdown.due(ms(now), ms(now));
        let Some(kind) = due.filter(|_| self.core.as_ref().is_some_and(Core::is_leader)) else { return };
        let bytes = self.command(kind).encode();
        if let Some(core) = &mut self.core {
            // Refused now, it is due again soon.
            let _ = core.propose(bytes, false);
        }
    }

    fn handle(&mut self, output: Output, now: Time) {
        let Output { messages, applied, restored } = output;
        self.restored |= restored;
        let on_trial = |entry: &AppliedEntry| {
            matches!(
                entry.outcome,
                Outcome::Config { .. } | Outcome::Confirmed { .. } | Outcome::Returned { .. }
            )
        };
        if restored || applied.iter().any(on_trial) {
            self.count_down(!restored, now);
        }
        let on_tickets = |entry: &AppliedEntry| {
            matches!(entry.outcome, Outcome::TicketKeyAnnounced { .. } | Outcome::TicketKeyUsed { .. })
        };
        if restored || applied.iter().any(on_tickets) {
            self.follow_tickets(!restored, now);
        }
        for message in messages {
            let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let (to, message) = (message.to, Box::new(message));
            self.effects
                .frames
                .push((to, if snapshot { Frame::Snapshot(message) } else { Frame::Raft(message) }));
        }
        for entry in &applied {
            let Some(Origin { sequence, .. }) = entry.origin.filter(|origin| origin.node == self.id) else {
                continue;
            };
            if let Some(flight) = self.flight.take_if(|flight| flight.sequence == sequence) {
                self.soft.replicated(flight.facts.len());
            }
            if let (Some(pending), Some(result)) =
                (self.pending.remove(&(sequence & !REPEAT)), entry.outcome.result())
            {
                self.effects.answers.push(Answer { index: entry.index, kind: pending.kind, result });
            }
        }
        self.applied.extend(applied);
    }

    fn propose(&mut self, kind: Box<Kind>, now: Time) {
        let command = self.command((*kind).clone());
        if self.pending.len() < PENDING_MAX && command.check().is_ok() && self.core.is_some() {
            let pending = Pending { kind, command: command.encode(), since: now, sent: None, tries: 0 };
            self.pending.insert(self.next_sequence, pending);
        }
    }

    fn command(&mut self, kind: Kind) -> Command {
        self.next_sequence += 1;
        let origin = Some(Origin { node: self.id, sequence: self.next_sequence });
        Command { origin, ..Command::new(kind) }
    }

    fn forwarded(&mut self, from: u64, bytes: Vec<u8>, soft: bool) {
        let Ok(command) = Command::decode(&bytes) else { return };
        let Some(origin) = command.origin.filter(|origin| origin.node == from) else { return };
        if command.check().is_err() || command.is_soft() != soft {
            return;
        }
        let taken = match &mut self.core {
            Some(core) => core.propose(bytes, soft),
            None => Err(NotProposed::NotLeader),
        };
        if taken.is_err() {
            self.effects.frames.push((from, Frame::NotProposed { sequence: origin.sequence }));
        }
    }

    fn transfer(&mut self, to: u64) {
        let Some(core) = &mut self.core else { return };
        if core.is_leader() {
            core.transfer_leader(to);
        } else if let Some(leader) = core.leader() {
            self.effects.frames.push((leader, Frame::Transfer { to }));
        }
    }

    fn watch_leader(&mut self, now: Time) {
        let Some(leader) = self.core.as_ref().map(Core::leader) else { return };
        if leader != self.leader {
            self.leader = leader;
            self.pending.values_mut().for_each(|pending| pending.sent = None);
            self.land(now, |_| true);
            self.soft_not_before = now;
        }
    }

    fn serve_pending(&mut self, now: Time) {
        let Some(core) = &mut self.core else { return };
        self.pending.retain(|_, pending| now.since(pending.since) < PROPOSE_TIMEOUT);
        let Some(leader) = core.leader() else { return };
        for (sequence, pending) in &mut self.pending {
            let ours = leader == self.id;
            let late = |sent: Time| now.since(sent) >= RESEND_AFTER;
            if pending.sent.is_some_and(|sent| ours || !late(sent)) {
                continue;
            }
            if self.mutation == Some(Mutation::ForgetRepeats) && pending.tries > 0 {
                let sequence = sequence | REPEAT;
                let origin = Some(Origin { node: self.id, sequence });
                pending.command = Command { origin, ..Command::new((*pending.kind).clone()) }.encode();
            }
            let taken = !ours || core.propose(pending.command.clone(), false).is_ok();
            if !ours {
                self.effects.frames.push((leader, Frame::Propose(pending.command.clone())));
            }
            if taken {
                pending.sent = Some(now);
                pending.tries += 1;
            }
        }
    }

    fn land(&mut self, now: Time, lost: impl Fn(&Flight) -> bool) {
        if let Some(flight) = self.flight.take_if(|flight| lost(flight)) {
            self.soft.give_back(flight.facts);
            self.soft_not_before = now + TICK;
        }
    }

    fn pump_soft(&mut self, now: Time) -> bool {
        self.land(now, |flight| now.since(flight.sent) > RESEND_AFTER);
        let Some(leader) = self.core.as_ref().and_then(Core::leader) else { return false };
        if self.flight.is_some() || now < self.soft_not_before {
            return false;
        }
        let facts = self.soft.take(BATCH);
        if facts.is_empty() {
            return false;
        }
        let bytes = self.command(Kind::Clients(ClientBatch::pack(&facts))).encode();
        let ours = leader == self.id;
        let sent = match &mut self.core {
            Some(core) if ours => core.propose(bytes, true).is_ok(),
            _ => {
                self.effects.frames.push((leader, Frame::Soft(bytes)));
                true
            }
        };
        self.soft_not_before = now + SOFT_EVERY;
        self.flight = Some(Flight { sequence: self.next_sequence, facts, sent: now });
        if !sent {
            self.land(now, |_| true);
        }
        ours && sent
    }

    /// A frame could not be queued; the driver tells the core at once.
    pub(super) fn not_sent(&mut self, to: u64, frame_was_snapshot: bool) {
        let Some(core) = &mut self.core else { return };
        if frame_was_snapshot {
            core.report_snapshot(to, false);
        } else {
            core.report_unreachable(to);
        }
    }
}

/// Whole milliseconds.
fn ms(time: Time) -> u64 {
    time.0 / 1_000_000
}
