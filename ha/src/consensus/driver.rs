//! The raft thread: it owns the core, the disk and the clock.
//!
//! One turn: take what waits in the inbox, tick if it is time, advance the core, send, apply, answer. When the core
//! fails, or panics, it is given up with an event; the thread stays to say so, and traffic goes on.

mod chronicle;
mod members;
mod pending;
mod soft;
mod succession;
#[cfg(test)]
mod tests;
mod tickets;
mod trial;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use super::core::{Core, CoreError, NotProposed, Output};
use super::countdown::Countdown;
use super::frame::Frame;
use super::handle::{Applied, Committed, ProposeError};
use super::limits::{SLOW_TOLD_EVERY, SLOW_TURN, TICK};
use super::shared::{Input, Published, Shared};
use super::soft::{SOFT_MAX, SoftQueue};
use super::status::CoreView;
use super::store::redb::RedbStore;
use crate::events::Severity;
use crate::state::{Command, Kind, Members, Origin, Outcome};
use chronicle::Reporter;
use pending::Pending;
use soft::Flight;
use tickets::Tickets;

/// Inputs taken in one turn, so that a flood cannot keep the clock from ticking.
const INPUTS_PER_TURN: usize = 256;

/// After a pause (a stopped process, a machine asleep) at most so many ticks are made up for. More would look to
/// raft like a dead leader.
const TICKS_PER_TURN: u32 = 2;

const SUBJECT: &str = "cluster";

pub(super) struct Driver {
    shared: Arc<Shared>,
    core: Option<Core<RedbStore>>,
    applied: Box<dyn Applied>,
    pending: BTreeMap<u64, Pending>,
    next_sequence: u64,
    soft: SoftQueue,
    flight: Option<Flight>,
    soft_not_before: Instant,
    reporter: Reporter,
    next_tick: Instant,
    rejected: u64,
    leader: Option<u64>,
    published_version: u64,
    /// Of a configuration that waits for its confirmation.
    countdown: Countdown,
    tickets: Tickets,
    stopped: Option<String>,
    removed: bool,
    /// This node holds a virtual address.
    active: bool,
    members: Members,
    tend_not_before: Instant,
    /// When a slow turn was told of last.
    slow_told: Option<Instant>,
}

/// Starts the thread. The receiver resolves when it has ended.
pub(super) fn spawn(mut driver: Driver, inputs: Receiver<Input>) -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("cygnet-raft".to_owned()).spawn(move || {
        driver.run(&inputs);
        driver.shared.ended.store(true, Ordering::Relaxed);
        // Closes the database before anybody is told.
        drop(driver);
        let _ = ended.send(());
    })?;
    Ok(end)
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, core: Core<RedbStore>, applied: Box<dyn Applied>) -> Self {
        let now = Instant::now();
        shared.set_epoch(core.epoch());
        // Other numbers than those of an earlier life, whatever the clock says and wherever the log has got to: a
        // number that the log has seen would be answered with the result of then.
        let next_sequence = RandomState::new().hash_one(shared.settings.id) >> 1;
        Self {
            shared,
            core: Some(core),
            applied,
            pending: BTreeMap::new(),
            next_sequence,
            soft: SoftQueue::new(SOFT_MAX),
            flight: None,
            soft_not_before: now,
            reporter: Reporter::new(now),
            next_tick: now + TICK,
            rejected: 0,
            leader: None,
            published_version: 0,
            countdown: Countdown::default(),
            tickets: Tickets::default(),
            stopped: None,
            removed: false,
            active: false,
            members: Members::default(),
            tend_not_before: now,
            slow_told: None,
        }
    }

    fn run(&mut self, inputs: &Receiver<Input>) {
        // What was committed before the restart is applied before anybody is served.
        self.guarded(Self::begin);
        loop {
            self.shared.turned();
            let mut next = match inputs.recv_timeout(self.until_next_turn(Instant::now())) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut taken = 0;
            while let Some(input) = next {
                self.shared.input_taken(&input);
                if matches!(input, Input::Stop) {
                    self.guarded(|driver| driver.core.as_mut().map_or(Ok(()), Core::save_commit));
                    return;
                }
                self.guarded(|driver| driver.take(input, Instant::now()));
                taken += 1;
                next = if taken < INPUTS_PER_TURN { inputs.try_recv().ok() } else { None };
            }
            let began = Instant::now();
            self.guarded(|driver| driver.turn(began));
            self.notice_a_slow_turn(began.elapsed());
        }
    }

    /// Runs a step; an error or a panic ends this node's part in the agreement, and nothing else.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<(), CoreError>) {
        let reason = match catch_unwind(AssertUnwindSafe(|| step(self))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                self.removed |= matches!(error, CoreError::Removed);
                error.to_string()
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                format!("internal error: {}", text.unwrap_or_default())
            }
        };
        self.core = None;
        self.leader = None;
        let what = "this node takes no part in the cluster any more; traffic goes on with the last state";
        self.shared.settings.events.record(Severity::Alert, SUBJECT, what, reason.as_str());
        let mut view = CoreView::clone(&self.shared.view.load());
        view.stopped = Some(reason.clone());
        view.leader = None;
        view.removed = self.removed;
        self.shared.view.store(Arc::new(view));
        for (_, pending) in std::mem::take(&mut self.pending) {
            pending.answer(Err(ProposeError::Stopped(reason.clone())));
        }
        self.stopped = Some(reason);
    }

    /// The thread writes while it turns: whoever waits for a change should hear of a slow disk, and what helps.
    fn notice_a_slow_turn(&mut self, took: Duration) {
        if took < SLOW_TURN || self.slow_told.is_some_and(|told| told.elapsed() < SLOW_TOLD_EVERY) {
            return;
        }
        self.slow_told = Some(Instant::now());
        let settings = &self.shared.settings;
        let what = format!("the raft thread was busy for {} ms, most likely with its disk", took.as_millis());
        let why = format!(
            "changes are late or time out, traffic and virtual addresses do not wait; look at the disk under {}",
            settings.state_dir.display()
        );
        settings.events.record(Severity::Warning, SUBJECT, what, why);
    }

    fn until_next_turn(&self, now: Instant) -> Duration {
        let mut next = self.next_tick;
        if self.flight.is_none()
            && self.leader.is_some()
            && self.shared.soft_signalled.load(Ordering::Relaxed)
        {
            next = next.min(self.soft_not_before);
        }
        next.saturating_duration_since(now)
    }

    fn begin(&mut self) -> Result<(), CoreError> {
        let result = match self.core.as_mut() {
            Some(core) => core.advance(),
            None => return Ok(()),
        };
        // Also when an entry stops us: the state up to it is good.
        if let Some(core) = &self.core {
            self.applied.restored(core.state());
        }
        self.count_down(false);
        self.prepare_tickets();
        self.follow_tickets(false);
        self.publish(true);
        result.map(|output| self.send(output.messages))?;
        self.follow_members()
    }

    fn take(&mut self, input: Input, now: Instant) -> Result<(), CoreError> {
        match input {
            Input::Propose { kind, reply } => self.propose(*kind, reply, now),
            Input::SoftWaiting | Input::Stop => {}
            Input::NotProposed { sequence } => self.not_proposed(sequence),
            Input::Forwarded { from, command, soft } => self.forwarded(from, &command, soft),
            Input::Transfer { to } => self.transfer(to),
            Input::Raft { from, message, epoch, .. } => {
                let Some(core) = &mut self.core else { return Ok(()) };
                // It was on its way when this node began to follow another life of the log.
                if epoch != core.epoch().number {
                    return Ok(());
                }
                if let Err(error) = core.step(from, *message) {
                    self.rejected += 1;
                    tracing::debug!(from, %error, "dropped");
                }
            }
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
            input @ (Input::Active(_)
            | Input::LeadWish { .. }
            | Input::Adopt { .. }
            | Input::Recover { .. }
            | Input::Removed) => return self.take_members(input),
            Input::Suspend { reply } => {
                self.suspend();
                let _ = reply.send(());
            }
            Input::Resume { core, reply } => {
                let begun = self.resume(*core);
                let _ = reply.send(());
                return begun;
            }
        }
        Ok(())
    }

    fn turn(&mut self, now: Instant) -> Result<(), CoreError> {
        if self.core.is_none() {
            self.next_tick = now + TICK;
            return Ok(());
        }
        let mut ticks = 0;
        while now >= self.next_tick && ticks < TICKS_PER_TURN {
            if let Some(core) = &mut self.core {
                core.tick()?;
            }
            self.next_tick += TICK;
            ticks += 1;
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
        }
        // What was applied may free the way for the next batch, which is to be written in this turn.
        for _ in 0..4 {
            let Some(core) = &mut self.core else { return Ok(()) };
            let output = core.advance()?;
            self.handle(output)?;
            self.watch_leader(now);
            self.tend(now);
            self.tend_tickets();
            self.serve_pending(now);
            let told = self.tell_events(now);
            if !self.pump_soft(now) && !told {
                break;
            }
        }
        if let Some(core) = &mut self.core {
            let output = core.advance()?;
            self.handle(output)?;
        }
        self.publish(false);
        Ok(())
    }

    fn handle(&mut self, output: Output) -> Result<(), CoreError> {
        let Output { messages, applied, restored } = output;
        self.send(messages);
        if restored {
            // Also when the version is the same: servers may have been drained meanwhile.
            self.restore_applied();
        }
        if restored || applied.iter().any(|entry| matches!(entry.outcome, Outcome::Members { .. })) {
            if let Some(core) = &self.core {
                publish_state(&self.shared, core);
            }
            self.follow_members()?;
        }
        for entry in applied {
            let ours = entry.origin.filter(|origin| origin.node == self.shared.settings.id);
            self.tell(&entry.outcome);
            let Some(Origin { sequence, .. }) = ours else { continue };
            self.reporter.agreed(sequence);
            if self.flight.as_ref().is_some_and(|flight| flight.sequence == sequence) {
                let facts = self.flight.take().map_or(0, |flight| flight.facts.len());
                self.soft.replicated(facts);
            }
            if let (Some(pending), Some(result)) = (self.pending.remove(&sequence), entry.outcome.result()) {
                // Whoever gets the answer may look at the status next.
                self.publish(false);
                let committed = |version| Committed { version, index: entry.index };
                pending.answer(result.map(committed).map_err(ProposeError::Refused));
            }
        }
        Ok(())
    }

    fn tell(&mut self, outcome: &Outcome) {
        let Some(core) = &self.core else { return };
        match outcome {
            Outcome::Config { .. } | Outcome::Confirmed { .. } | Outcome::Returned { .. } => {
                // Whoever learns of the result may ask for the configuration at once.
                publish_state(&self.shared, core);
                self.applied.config(core.state());
                self.count_down(true);
                self.tell_trial(outcome);
            }
            Outcome::Server { .. } => {
                publish_state(&self.shared, core);
                self.applied.servers(core.state());
            }
            Outcome::TicketKeyAnnounced { .. } | Outcome::TicketKeyUsed { .. } => {
                publish_state(&self.shared, core);
                self.follow_tickets(true);
                self.tell_tickets(outcome);
            }
            Outcome::Members { .. } => {}
            Outcome::Clients(facts) if !facts.is_empty() => self.applied.clients(facts),
            Outcome::Events { new } if *new > 0 => publish_state(&self.shared, core),
            Outcome::Clients(_) | Outcome::Events { .. } | Outcome::Refused(_) | Outcome::Repeated(_) => {}
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to;
            let snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let message = Box::new(message);
            let frame = if snapshot { Frame::Snapshot(message) } else { Frame::Raft(message) };
            if !self.shared.send(to, frame)
                && let Some(core) = &mut self.core
            {
                if snapshot {
                    core.report_snapshot(to, false);
                } else {
                    core.report_unreachable(to);
                }
            }
        }
    }

    fn propose(&mut self, kind: Kind, reply: oneshot::Sender<Result<Committed, ProposeError>>, now: Instant) {
        let sequence = self.sequence();
        let origin = Some(Origin { node: self.shared.settings.id, sequence });
        let command = Command { origin, ..Command::new(kind) };
        let common = self.level();
        let refused = match (&self.stopped, command.check()) {
            (Some(reason), _) => Some(ProposeError::Stopped(reason.clone())),
            (None, Err(error)) => Some(ProposeError::Invalid(error)),
            _ if command.level > common => Some(ProposeError::TooOld { common, needed: command.level }),
            _ if self.pending.len() >= super::limits::PENDING_MAX => Some(ProposeError::Busy),
            _ => None,
        };
        let pending = Pending::new(command.encode(), reply, now);
        match refused {
            Some(error) => pending.answer(Err(error)),
            None => {
                self.pending.insert(sequence, pending);
            }
        }
    }

    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// Another node's proposal. Only what it may propose, and only what this version understands.
    fn forwarded(&mut self, from: u64, bytes: &[u8], soft: bool) {
        let Ok(command) = Command::decode(bytes) else { return };
        let Some(origin) = command.origin.filter(|origin| origin.node == from) else { return };
        if command.check().is_err() || command.is_soft() != soft {
            return;
        }
        let taken = match &mut self.core {
            Some(core) => core.propose(bytes.to_vec(), soft),
            None => Err(NotProposed::NotLeader),
        };
        if taken.is_err() {
            self.shared.send(from, Frame::NotProposed { sequence: origin.sequence });
        }
    }

    fn not_proposed(&mut self, sequence: u64) {
        if let Some(pending) = self.pending.get_mut(&sequence) {
            pending.not_proposed();
        }
        self.land(|flight| flight.sequence == sequence);
        self.reporter.refused(sequence, Instant::now());
    }

    fn transfer(&mut self, to: u64) {
        let Some(core) = &mut self.core else { return };
        if core.is_leader() {
            core.transfer_leader(to);
        } else if let Some(leader) = core.leader() {
            self.shared.send(leader, Frame::Transfer { to });
        }
    }

    fn watch_leader(&mut self, now: Instant) {
        let Some(core) = &self.core else { return };
        let leader = core.leader();
        if leader == self.leader {
            return;
        }
        self.leader = leader;
        let events = &self.shared.settings.events;
        match leader {
            Some(id) => {
                let what = format!("{} leads", self.shared.name_of(id));
                events.record(Severity::Info, SUBJECT, what, format!("term {}", core.term()));
            }
            None => {
                let (reachable, needed) = self.shared.quorum();
                let why = format!("{reachable} of {needed} needed nodes can be reached; traffic goes on");
                events.record(Severity::Warning, SUBJECT, "no leader: changes cannot be made", why);
            }
        }
        // What an old leader was asked may never come.
        self.pending.values_mut().for_each(Pending::ask_again);
        self.land(|_| true);
        self.soft_not_before = now;
        self.reporter.ask_again(now);
    }

    fn publish(&mut self, always: bool) {
        let Some(core) = &self.core else { return };
        self.shared.last.store(core.last(), Ordering::Relaxed);
        let state = core.state();
        let matched = |id: &u64| Some((*id, core.matched(*id)?));
        let mut soft = self.soft.figures();
        soft.waiting += self.flight.as_ref().map_or(0, |flight| flight.facts.len() as u64);
        let view = CoreView {
            soft,
            role: core.role(),
            term: core.term(),
            leader: core.leader(),
            commit: core.commit(),
            applied: state.index(),
            version: state.version(),
            countdown: self.countdown.clone(),
            rotation: self.tickets.rotation.clone(),
            tickets_closed: self.tickets.closed,
            clients: state.clients().len(),
            rejected: self.rejected,
            voters: core.voters().to_vec(),
            matched: core.voters().iter().chain(core.learners()).filter_map(matched).collect(),
            stopped: None,
            fetching: core.is_waiting() || core.is_incomplete(),
            removed: false,
            last: core.last(),
        };
        self.shared.view.store(Arc::new(view));
        if always || state.version() != self.published_version {
            publish_state(&self.shared, core);
            self.published_version = state.version();
        }
    }
}

fn publish_state(shared: &Shared, core: &Core<RedbStore>) {
    let state = core.state();
    let published = Published {
        configuration: state.configuration().clone(),
        servers: state.servers().clone(),
        members: state.members().clone(),
        chronicle: Arc::clone(state.chronicle()),
        newest_ticket_key: state.tickets().newest(),
        level: state.level(),
    };
    shared.published.store(Arc::new(published));
}
