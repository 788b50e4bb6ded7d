//! A client, from its acceptance to its end.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use super::half::Half;
use super::layers::Layers;
use super::local::Local;
use super::places::Place;
use super::reactor::Ready;
use super::side::Side;
use super::slots::Key;
use super::splice::Lent;
use crate::balance::Choice;
use crate::plan::{Lease, ServicePlan};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Both sides said their end.
    Finished,
    /// One side's end was enough.
    Closed,
    /// A side was reset or failed.
    Aborted,
    /// There was no server for it. An end in good order could be taken for an empty answer.
    Refused,
    /// It was silent for the time that it was allowed.
    Silent,
    /// The worker stops and its deadline is over, or an operator closed it.
    Cut,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has no server yet.
    New,
    /// Its handshake is in progress.
    Greeting,
    /// A connect is in progress.
    Dialling,
    /// The handshake with its server is in progress.
    Securing,
    /// Bytes go both ways.
    Relaying,
    /// The client has got all that it will get, and its end is waited for: closing before would take that away from it.
    Leaving,
    /// It gets the page that needs no server.
    Dummy,
}

/// What the operator wants to know of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its number, unique among the connections that live; the worker's in the upper 32 bits, in the lower ones its place,
    /// which is the lowest that was free lately.
    pub id: u64,
    /// The worker that has it.
    pub worker: usize,
    /// The service.
    pub service: Arc<str>,
    /// The client; 0.0.0.0:0 from a Unix socket.
    pub peer: SocketAddr,
    /// The position of its server in the service, once one was chosen.
    pub server: Option<usize>,
    /// ... and its name.
    pub server_name: Option<Arc<str>>,
    /// The descriptor of the client's socket.
    pub client_fd: i32,
    /// The descriptor of the server's socket, when there is one.
    pub server_fd: Option<i32>,
    /// Bytes that wait to be written to the client.
    pub pending_down: usize,
    /// Bytes that wait to be written to the server.
    pub pending_up: usize,
    /// Bytes to the client so far.
    pub to_client: u64,
    /// Bytes from the client so far.
    pub from_client: u64,
    /// What it is about.
    pub stage: Stage,
}

/// A client's connection, with its server's when it has one. Kept small: there may be a million.
pub(super) struct Connection {
    pub(super) client: Side,
    pub(super) server: Option<Side>,
    pub(super) up: Half,
    pub(super) down: Half,
    pub(super) lent: Option<Box<Lent>>,
    /// What lies between the sockets, if anything does.
    pub(super) layers: Option<Box<Layers>>,
    pub(super) service: Arc<ServicePlan>,
    pub(super) peer: SocketAddr,
    /// The place at the server.
    pub(super) lease: Option<Lease>,
    /// While it has no server: which ones were tried.
    pub(super) choice: Option<Box<Choice>>,
    /// The server's position in the service.
    pub(super) position: u32,
    /// Bytes from the client, and to it.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The tick from which on the client is written down again, if it is remembered.
    pub(super) refresh_at: u32,
    pub(super) stage: Stage,
    /// It waits for its next turn.
    pub(super) queued: bool,
    _place: Place,
}

impl Connection {
    pub(super) fn new(
        socket: OwnedFd,
        is_unix: bool,
        peer: SocketAddr,
        service: Arc<ServicePlan>,
        place: Place,
    ) -> Self {
        Self {
            client: Side::accepted(socket, is_unix),
            server: None,
            up: Half::default(),
            down: Half::default(),
            lent: None,
            layers: None,
            service,
            peer,
            lease: None,
            choice: None,
            position: 0,
            sent: 0,
            received: 0,
            refresh_at: u32::MAX,
            stage: Stage::New,
            queued: false,
            _place: place,
        }
    }

    /// The client's socket is ready for something.
    pub(super) fn client_is(&mut self, ready: Ready, key: Key, local: &mut Local) -> Option<Outcome> {
        self.client.is_now(ready);
        match self.stage {
            // A client that is gone needs no server any more.
            Stage::New | Stage::Dialling | Stage::Securing => {
                ready.any(Ready::ERROR).then_some(Outcome::Aborted)
            }
            Stage::Greeting => self.greet(key, local),
            Stage::Relaying => self.relay(key, local),
            Stage::Leaving => self.leave(local),
            Stage::Dummy => self.answer_dummy(key, local),
        }
    }

    /// The server's socket is ready for something.
    pub(super) fn server_is(&mut self, ready: Ready, key: Key, local: &mut Local) -> Option<Outcome> {
        let server = self.server.as_mut()?;
        server.is_now(ready);
        match self.stage {
            Stage::Dialling => self.dialled(key, local),
            Stage::Securing => self.go_on_securing(key, local),
            Stage::Relaying => self.relay(key, local),
            Stage::New | Stage::Greeting | Stage::Leaving | Stage::Dummy => None,
        }
    }

    /// It was silent for as long as it may be.
    pub(super) fn silent(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        match self.stage {
            Stage::Dialling => self.no_answer(key, local),
            Stage::Securing => self.not_secured("no end of its handshake".to_owned(), key, local),
            Stage::Greeting => Some(Outcome::Aborted),
            Stage::Leaving => Some(Outcome::Closed),
            Stage::New | Stage::Relaying | Stage::Dummy => Some(Outcome::Silent),
        }
    }

    /// Its turn has come again.
    pub(super) fn again(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        self.queued = false;
        (self.stage == Stage::Relaying).then(|| self.relay(key, local))?
    }

    /// Counts the end, and closes the sockets so that both sides understand it.
    pub(super) fn end(mut self, key: Key, outcome: Outcome, local: &mut Local) {
        self.leave_dialling(local);
        self.leave_greeting(local);
        local.silence.allow(key.index(), None);
        self.give_pipes_back(local);
        let has_backlog = self.pending_up() + self.pending_down() > 0;
        let in_good_order = match outcome {
            Outcome::Finished => true,
            Outcome::Closed => {
                // Unread bytes would make a reset of the close, and take away what is still on its way.
                let _ = self.client.recv(&mut local.buffer);
                true
            }
            Outcome::Silent => !has_backlog,
            Outcome::Aborted | Outcome::Refused | Outcome::Cut => false,
        };
        if !in_good_order {
            self.client.abort();
            self.server.iter().filter(|_| self.stage == Stage::Relaying).for_each(Side::abort);
        }
        let index = local.worker.index;
        // The place is free before anybody can read of the end.
        let had_server = self.lease.take().is_some();
        if self.stage == Stage::Relaying && had_server {
            local.worker.refresh(&self.service, self.peer.ip(), self.position as usize);
        }
        let shard = self.service.state.shard(index);
        match outcome {
            Outcome::Aborted => shard.aborted.add(1),
            Outcome::Silent => shard.idle.add(1),
            Outcome::Finished | Outcome::Closed | Outcome::Refused | Outcome::Cut => {}
        }
        if let Some(observer) = &self.service.observer {
            let server = had_server.then_some(self.position as usize);
            observer.closed(index, self.peer, server, self.received, self.sent);
        }
    }

    /// Bytes that wait to be written to the server.
    pub(super) fn pending_up(&self) -> usize {
        self.up.backlog() + self.layers.as_ref().map_or(0, |layers| layers.server.outbox.len())
    }

    /// Bytes that wait to be written to the client.
    pub(super) fn pending_down(&self) -> usize {
        self.down.backlog() + self.layers.as_ref().map_or(0, |layers| layers.client.outbox.len())
    }

    /// What the operator wants to know.
    pub(super) fn info(&self, key: Key, worker: usize) -> ConnectionInfo {
        let position = self.lease.is_some().then_some(self.position as usize);
        let server = position.and_then(|position| self.service.servers.get(position));
        ConnectionInfo {
            id: (worker as u64) << 32 | key.index() as u64,
            worker,
            service: Arc::clone(&self.service.name),
            peer: self.peer,
            server: position,
            server_name: server.map(|server| Arc::clone(&server.name)),
            client_fd: self.client.socket().as_raw_fd(),
            server_fd: self.server.as_ref().map(|server| server.socket().as_raw_fd()),
            pending_down: self.pending_down(),
            pending_up: self.pending_up(),
            to_client: self.received,
            from_client: self.sent,
            stage: self.stage,
        }
    }
}
