//! A worker's thread: its loop over what the kernel says, its listeners, its connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use cygnet_ha::time::Time;

use super::accept::{Listener, Plans};
use super::connection::{Connection, Outcome, Stage};
use super::greet::has_greeting;
use super::idlers::Idlers;
use super::local::Local;
use super::reactor::{Reactor, Token};
use super::slots::{Key, Slots};
use super::udp::{self, Udp};
use super::worker::{Command, Worker};

/// How an engine is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Pipes for bulk.
    pub(super) pipes: usize,
    /// Flows of datagrams.
    pub(super) flows: udp::Limits,
}

/// A worker's thread.
pub(super) struct Engine {
    pub(super) local: Local,
    pub(super) connections: Slots<Connection>,
    pub(super) listeners: Slots<Listener>,
    pub(super) idlers: Idlers,
    /// Listeners that are to be closed when their queue is empty.
    pub(super) closing: Vec<Key>,
    /// No clients are taken in until then, and for how long it was to be.
    pub(super) resting: Option<(Time, Duration)>,
    pub(super) plans: Arc<Plans>,
    pub(super) udp: Udp,
    /// Flows that are counted among the connections.
    pub(super) flows: usize,
    /// The plan that the flows follow.
    pub(super) flows_generation: u64,
    commands: Receiver<Command>,
    stopping: bool,
    /// Kept for its memory.
    silent: Vec<usize>,
    /// Kept for its memory.
    turns: Vec<Key>,
}

impl Engine {
    pub(super) fn new(
        reactor: Reactor,
        worker: Arc<Worker>,
        plans: Arc<Plans>,
        commands: Receiver<Command>,
        limits: &Limits,
    ) -> Self {
        let local = Local::new(reactor, worker, limits.pipes);
        let clients = Arc::clone(&local.worker.clients);
        let unix = local.worker.clock.unix();
        Self {
            udp: Udp::new(local.worker.index, clients, unix, limits.flows),
            local,
            connections: Slots::default(),
            listeners: Slots::default(),
            idlers: Idlers::default(),
            closing: Vec::new(),
            resting: None,
            flows: 0,
            flows_generation: 0,
            plans,
            commands,
            stopping: false,
            silent: Vec::new(),
            turns: Vec::new(),
        }
    }

    /// Turns until the worker is stopped and everything has ended, or its deadline is over.
    pub(super) fn run(mut self) {
        while self.turn() {}
        let left: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        self.local.worker.figures.cut.store(left.len(), Ordering::Relaxed);
        left.into_iter().for_each(|key| self.end(key, Outcome::Cut));
        self.close_listeners();
    }

    fn turn(&mut self) -> bool {
        if self.local.reactor.wait(self.timeout()).is_err() {
            // Nothing can be said of any socket any more; it cannot happen to an epoll instance that is open.
            return false;
        }
        self.local.now = self.local.worker.clock.now();
        self.local.worker.figures.turned.store(self.local.now.0, Ordering::Relaxed);
        let (mut has_commands, mut has_ticked) = (false, false);
        for n in 0..self.local.reactor.count() {
            match self.local.reactor.event(n) {
                Some((Token::Listener(key), _)) => self.accept(key),
                Some((Token::Client(key), ready)) => {
                    self.connection(key, |connection, local| connection.client_is(ready, key, local));
                }
                Some((Token::Server(key), ready)) => {
                    self.connection(key, |connection, local| connection.server_is(ready, key, local));
                }
                Some((Token::Datagrams(number), _)) => self.datagrams(number),
                Some((Token::Idler(key), ready)) => self.idlers.is_ready(key, ready, &self.local),
                Some((Token::Wake, _)) => has_commands = true,
                Some((Token::Tick, _)) => has_ticked = true,
                None => {}
            }
        }
        // Whoever wants yet another turn goes into the other list; both keep their memory.
        let mut again = std::mem::take(&mut self.turns);
        std::mem::swap(&mut again, &mut self.local.again);
        for key in again.drain(..) {
            self.connection(key, |connection, local| connection.again(key, local));
        }
        self.turns = again;
        if has_commands {
            self.obey();
        }
        if has_ticked {
            self.tick();
        }
        self.end_datagrams();
        self.wake_up();
        self.last_clients();
        self.goes_on()
    }

    /// How long to wait for the kernel; the next tick ends it in any case.
    fn timeout(&self) -> Option<Duration> {
        let is_busy = !self.local.again.is_empty() || !self.closing.is_empty() && self.resting.is_none();
        if is_busy {
            return Some(Duration::ZERO);
        }
        self.resting.map(|(until, _)| until.since(self.local.now))
    }

    fn connection(&mut self, key: Key, work: impl FnOnce(&mut Connection, &mut Local) -> Option<Outcome>) {
        // An event may be older than the end of its connection; the key then fits nobody.
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(outcome) = work(connection, &mut self.local) {
            self.end(key, outcome);
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, key: Key, outcome: Outcome) {
        if let Some(connection) = self.connections.remove(key) {
            connection.end(key, outcome, &mut self.local);
            self.local.worker.figures.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn tick(&mut self) {
        self.idlers.tick(&self.plans.current(), &self.local, self.stopping);
        let mut silent = std::mem::take(&mut self.silent);
        self.local.silence.tick(&mut silent);
        for place in silent.drain(..) {
            if let Some(key) = self.connections.key_at(place) {
                self.connection(key, |connection, local| connection.silent(key, local));
            }
        }
        self.silent = silent;
        let mut lenders = std::mem::take(&mut self.local.lenders);
        lenders.retain(|key| {
            self.connections.get(*key).is_some_and(|connection| connection.keep_pipes(&mut self.local))
        });
        self.local.lenders = lenders;
        let connections = &mut self.connections;
        self.local
            .greetings
            .forget(|key| connections.get(key).is_none_or(|connection| connection.stage != Stage::Greeting));
        self.tick_datagrams();
    }

    /// When too many are in the middle of their handshake, those go who came first.
    pub(super) fn thin_out_greetings(&mut self) {
        while let Some(key) = self.local.greetings.surplus() {
            if self.connections.get(key).is_some_and(|connection| connection.stage == Stage::Greeting) {
                self.end(key, Outcome::Aborted);
            }
        }
    }

    /// Those who are still in the queues of closing listeners. No event tells of an empty queue, so they are asked.
    fn last_clients(&mut self) {
        if self.resting.is_none() {
            for key in self.closing.clone() {
                self.accept(key);
            }
        }
    }

    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen(listener) if !self.stopping => self.listen(*listener),
                Command::Receive(receiver) if !self.stopping => self.receive(*receiver),
                Command::Listen(_) | Command::Receive(_) => {}
                Command::Unlisten(address) => {
                    self.unlisten(Some(&address));
                    self.stop_receiving(Some(&address));
                }
                Command::Connections(limit, answer) => {
                    let index = self.local.worker.index;
                    let infos = self.connections.iter().map(|(key, connection)| connection.info(key, index));
                    // Whoever asked may have given up.
                    let _ = answer.try_send(infos.take(limit).collect());
                }
                Command::Sockets(answer) => {
                    let _ = answer.try_send(self.sockets());
                }
                Command::Close(place, answer) => {
                    let key = self.connections.key_at(place);
                    key.into_iter().for_each(|key| self.end(key, Outcome::Cut));
                    let _ = answer.try_send(key.is_some());
                }
            }
        }
    }

    /// Whether there will be another turn.
    fn goes_on(&mut self) -> bool {
        let Some(deadline) = self.local.worker.stops_at() else { return true };
        if !self.stopping {
            self.stopping = true;
            self.unlisten(None);
            self.stop_receiving(None);
        }
        let at_rest = self.connections.is_empty() && self.listeners.is_empty();
        !at_rest && self.local.now < deadline
    }
}

impl Connection {
    /// The first steps of a client that was just taken in.
    pub(super) fn start(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        if let Some(observer) = &self.service.observer {
            observer.opened(local.worker.index, self.peer);
        }
        if has_greeting(&self.service) {
            if let Some(outcome) = self.begin_greeting(key, local) {
                return Some(outcome);
            }
        } else if self.service.dummy {
            self.stage = Stage::Dummy;
            local.silence.allow(key.index(), self.service.idle_timeout);
        } else if let Some(outcome) = self.dial(key, local) {
            return Some(outcome);
        }
        let added = local.reactor.add_connection(self.client.socket(), Token::Client(key));
        added.is_err().then_some(Outcome::Aborted)
    }
}
