//! A client, from its acceptance to its end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::half::Half;
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
pub(super) enum Stage {
    /// It has no server yet.
    New,
    /// A connect is in progress.
    Dialling,
    /// Bytes go both ways.
    Relaying,
}

/// A client's connection, with its server's when it has one. Kept small: there may be a million.
pub(super) struct Connection {
    pub(super) client: Side,
    pub(super) server: Option<Side>,
    pub(super) up: Half,
    pub(super) down: Half,
    pub(super) lent: Option<Box<Lent>>,
    pub(super) service: Arc<ServicePlan>,
    pub(super) peer: SocketAddr,
    /// The place at the server.
    pub(super) lease: Option<Lease>,
    /// While it has no server: which ones were tried.
    pub(super) choice: Option<Box<Choice>>,
    /// The server's position in the service.
    pub(super) position: u32,
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
            service,
            peer,
            lease: None,
            choice: None,
            position: 0,
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
            Stage::New | Stage::Dialling => ready.any(Ready::ERROR).then_some(Outcome::Aborted),
            Stage::Relaying => self.relay(key, local),
        }
    }

    /// The server's socket is ready for something.
    pub(super) fn server_is(&mut self, ready: Ready, key: Key, local: &mut Local) -> Option<Outcome> {
        let server = self.server.as_mut()?;
        server.is_now(ready);
        match self.stage {
            Stage::New => None,
            Stage::Dialling => self.dialled(key, local),
            Stage::Relaying => self.relay(key, local),
        }
    }

    /// It was silent for as long as it may be.
    pub(super) fn silent(&mut self, key: Key, local: &mut Local) -> Option<Outcome> {
        match self.stage {
            Stage::New => None,
            Stage::Dialling => self.no_answer(key, local),
            Stage::Relaying => Some(Outcome::Silent),
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
        local.silence.allow(key.index(), None);
        self.give_pipes_back(local);
        let has_backlog = self.up.backlog() + self.down.backlog() > 0;
        let in_good_order = outcome == Outcome::Finished || outcome == Outcome::Silent && !has_backlog;
        if !in_good_order {
            self.client.abort();
            self.server.iter().filter(|_| self.stage == Stage::Relaying).for_each(Side::abort);
        }
        if self.stage == Stage::Relaying {
            let server = self.position as usize;
            local.worker.refresh(&self.service, self.peer.ip(), server);
        }
        let shard = self.service.state.shard(local.worker.index);
        match outcome {
            Outcome::Aborted => shard.aborted.add(1),
            Outcome::Silent => shard.idle.add(1),
            Outcome::Finished | Outcome::Refused | Outcome::Cut => {}
        }
    }
}
