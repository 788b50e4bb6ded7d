//! Datagrams: flows of clients through one worker.
//!
//! ```text
//! clients --recvmmsg--> listener --table--> flow --send--> socket connected to the server
//! clients <--sendmmsg-- listener <-- outbox <--recv-- the same socket
//! ```
//!
//! Datagrams of one flow that come close together are moved as a train (GRO, GSO): those of clients always, those of servers
//! when they have sent several at once. Each remains the datagram that it was.
//!
//! A flow is a client's address and port at one listener (and, where that listens on all addresses, the one that the client
//! asked: answers leave from there). It has its server and its socket as long as it lives: so an answer can only reach the
//! client whose datagrams went out through this socket. Sockets are used again for later flows, after a rest in which
//! nothing came (`rest.rs`). There are at most so many flows in a worker; the one that was not heard of for the longest
//! time makes room for a new one (`table.rs`).
//!
//! A server that does not take a datagram (ICMP) ends the flow: the client's next datagram opens a new one. That counts as
//! a failure, but blacklists nobody: one datagram is too little to judge by.

mod attached;
mod flows;
mod rest;
mod sockets;
mod table;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::{Inbox, Listener, Outbox};

use self::sockets::{SocketId, Sockets};
use self::table::{FlowId, FlowTable, Key};
use crate::balance::{ClientTable, NoServer};
use crate::plan::{Lease, ServicePlan};

pub(super) use self::attached::Receiver;

/// Flows over all workers, unless the settings say otherwise: the kernel has 28,232 ports for each source address, and
/// looks for a free one the longer the fewer are left.
const FLOWS_DEFAULT: usize = 16_384;
/// Sockets that rest before they serve again, over all workers at most: those of 80,000 new flows a second with the shortest
/// rest. Together with the flows they leave some thousand ports to others.
const RESTING_MAX: usize = 8192;
/// Flows that end in one tick for having been silent, at most: 1 us each.
const EXPIRED_PER_TICK: usize = 2048;
/// Answers that are taken from one socket in one turn, if it has so many: the others are waiting.
const ANSWERS_PER_TURN: usize = 16;

/// Answers that one socket has in one turn when its server is taken for one that sends trains.
const TRAIN: usize = 4;

/// What a descriptor is registered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u32);

/// Set in the tokens of listeners.
const LISTENER: u32 = 1 << 31;

impl Token {
    /// As a number of 32 bits.
    pub(super) fn to_bits(self) -> u32 {
        self.0
    }

    /// What [`Token::to_bits`] was made of.
    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// What the flows need of their worker.
pub(super) trait Host {
    /// Tells of a descriptor (level-triggered, input) until it is closed.
    fn watch(&self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()>;

    /// Whether the kernel has told, in this turn, of all descriptors that had something.
    fn told_all(&self) -> bool;

    /// There is no server for a client: to be counted and logged.
    fn refused(&self, service: &ServicePlan, why: &NoServer, now: Time);

    /// A flow to this server could not be begun, or the server does not take its datagrams: to be logged.
    fn failed(&self, service: &ServicePlan, server: usize, error: &io::Error, now: Time);
}

/// A flow: see the module.
#[derive(Debug)]
struct Flow {
    socket: SocketId,
    /// Its place is kept as long as the flow lives.
    lease: Lease,
    /// Its server's position in the service.
    server: usize,
    /// Bytes so far.
    to_client: u64,
    from_client: u64,
    /// Datagrams so far, from the client and from the server; only whether it was one each counts.
    asked: u32,
    answered: u32,
}

impl Flow {
    fn new(socket: SocketId, lease: Lease, server: usize) -> Self {
        Self { socket, lease, server, to_client: 0, from_client: 0, asked: 0, answered: 0 }
    }
}

/// A listening address.
#[derive(Debug)]
struct Listening {
    at: SocketAddr,
    socket: Listener,
    service: Arc<ServicePlan>,
    flows: FlowTable<Flow>,
}

/// All that a worker has to do with datagrams.
#[derive(Debug)]
pub(super) struct Udp {
    /// The worker's number.
    worker: usize,
    clients: Arc<ClientTable>,
    /// Seconds since 1970, as of the last tick.
    unix: u32,
    listeners: Vec<Option<Listening>>,
    sockets: Sockets,
    flows: usize,
    flows_max: usize,
    /// Memory is taken when there is a listener.
    boxes: Option<Box<Boxes>>,
    /// Listeners that have something: their turn comes when all that servers have sent has been taken in.
    waiting: Vec<usize>,
    /// Counts the rounds of the worker's loop.
    turn: u64,
}

#[derive(Debug, Default)]
struct Boxes {
    inbox: Inbox,
    outbox: Outbox,
    /// The listener through which the outbox is to be sent.
    through: usize,
}

/// How much a worker may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Flows at once.
    pub(super) flows: usize,
    /// Sockets without a flow, that rest before they serve again.
    pub(super) resting: usize,
}

impl Limits {
    /// For each of so many workers. `flows_max`: flows over all of them, if somebody has said so; `descriptors`: what the
    /// process may open, of which connections want their part.
    pub(super) fn of_one(workers: usize, flows_max: Option<usize>, descriptors: usize) -> Self {
        let each = |all: usize| (all / workers.max(1)).max(1);
        Self {
            flows: each(flows_max.unwrap_or(FLOWS_DEFAULT).min(descriptors / 4)),
            resting: each(RESTING_MAX.min(descriptors / 4)),
        }
    }
}

impl Udp {
    /// Without listeners.
    pub(super) fn new(worker: usize, clients: Arc<ClientTable>, unix: u32, limits: Limits) -> Self {
        let flows_max = limits.flows.clamp(1, LISTENER as usize);
        Self {
            worker,
            clients,
            unix,
            listeners: Vec::new(),
            sockets: Sockets::new(limits.resting),
            flows: 0,
            flows_max,
            boxes: None,
            waiting: Vec::new(),
            turn: 0,
        }
    }

    /// Begins to listen.
    ///
    /// Errors: the socket cannot be registered.
    pub(super) fn open(
        &mut self,
        at: SocketAddr,
        socket: Listener,
        service: &Arc<ServicePlan>,
        host: &impl Host,
    ) -> io::Result<()> {
        let place = self.listeners.iter().position(Option::is_none).unwrap_or(self.listeners.len());
        let number = u32::try_from(place).map_err(io::Error::other)?;
        host.watch(socket.as_fd(), Token(number | LISTENER))?;
        let listening = Listening { at, socket, service: Arc::clone(service), flows: FlowTable::default() };
        self.boxes.get_or_insert_default();
        match self.listeners.get_mut(place) {
            Some(free) => *free = Some(listening),
            None => self.listeners.push(Some(listening)),
        }
        Ok(())
    }

    /// Stops listening at this address; its flows end.
    pub(super) fn close(&mut self, at: SocketAddr, now: Time) {
        self.flush();
        let is_it = |known: &Option<Listening>| known.as_ref().is_some_and(|known| known.at == at);
        let Some(place) = self.listeners.iter().position(is_it) else { return };
        while let Some((flow, _)) = self.listeners[place].as_ref().and_then(|known| known.flows.oldest()) {
            self.end(place, flow, now);
        }
        self.listeners[place] = None;
    }

    /// The addresses that are listened on.
    pub(super) fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().flatten().map(|listening| listening.at)
    }

    /// The same, with their sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (SocketAddr, &Listener)> {
        self.listeners.iter().flatten().map(|listening| (listening.at, &listening.socket))
    }

    /// From now on new flows at this address are of this service. Its flows go on, but for those whose server it does not
    /// have any more.
    pub(super) fn serve(&mut self, at: SocketAddr, service: &Arc<ServicePlan>, now: Time) {
        for place in 0..self.listeners.len() {
            let Some(listening) = self.listeners[place].as_mut().filter(|known| known.at == at) else {
                continue;
            };
            let mut homeless = Vec::new();
            listening.flows.for_each(|id, flow| {
                if position(service, &flow.lease).is_none() {
                    homeless.push(id);
                }
            });
            // They end as what they were: positions are those of the old service.
            homeless.into_iter().for_each(|flow| self.end(place, flow, now));
            if let Some(listening) = &mut self.listeners[place] {
                listening.flows.for_each(|_, flow| {
                    flow.server = position(service, &flow.lease).unwrap_or(flow.server);
                });
                listening.service = Arc::clone(service);
            }
        }
    }

    /// A descriptor has something.
    pub(super) fn ready(&mut self, token: Token, host: &impl Host, now: Time) {
        match token.0 & LISTENER {
            0 => self.answers(SocketId(token.0), host, now),
            _ => self.waiting.push((token.0 & !LISTENER) as usize),
        }
    }

    /// All that was ready has been told: sends the answers, and takes clients' datagrams in. To be called once in each turn.
    pub(super) fn end_turn(&mut self, host: &impl Host, now: Time) {
        self.flush();
        self.turn += 1;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.drain(..).for_each(|place| self.datagrams(place, host, now));
        self.waiting = waiting;
    }

    /// Ends flows that were silent for too long. To be called about ten times a second. `unix`: seconds since 1970.
    pub(super) fn tick(&mut self, now: Time, unix: u32) {
        self.unix = unix;
        let mut left = EXPIRED_PER_TICK;
        for place in 0..self.listeners.len() {
            while let Some(flow) = self.listeners[place].as_ref().and_then(|known| expired(known, now)) {
                if left == 0 {
                    return;
                }
                left -= 1;
                self.count_idle(place);
                self.end(place, flow, now);
            }
        }
        self.sockets.tick(now);
    }

    /// Flows now.
    pub(super) fn len(&self) -> usize {
        self.flows
    }

    /// Takes in a batch from clients.
    fn datagrams(&mut self, place: usize, host: &impl Host, now: Time) {
        // Taken out while the flows are at work; it comes back in all cases.
        let Some(mut boxes) = self.boxes.take() else { return };
        let received = match self.listeners.get(place) {
            Some(Some(listening)) => boxes.inbox.receive(&listening.socket),
            _ => Ok(0),
        };
        match received {
            Ok(count) => (0..count).filter_map(|at| boxes.inbox.datagram(at)).for_each(|datagram| {
                let key = Key { client: datagram.from, to: datagram.to };
                self.forward(place, key, datagram.train, host, now);
            }),
            Err(error) => tracing::debug!(%error, "no datagrams could be received"),
        }
        self.boxes = Some(boxes);
    }

    /// Takes in what a server has sent.
    fn answers(&mut self, id: SocketId, host: &impl Host, now: Time) {
        let Some((place, flow)) = self.sockets.owner(id) else { return self.sockets.discard(id) };
        let most = if self.sockets.is_busy(id, self.turn) { ANSWERS_PER_TURN } else { 1 };
        for taken in 0..most {
            match self.answer(place, flow, id, now) {
                Ok(()) if taken + 1 == TRAIN => self.sockets.coalesce(id),
                Ok(()) => {}
                Err(error) if is_passing(&error) => return,
                Err(error) => return self.fail(place, flow, &error, host, now),
            }
        }
    }

    /// Takes in one answer, or a train of them.
    fn answer(&mut self, place: usize, flow: FlowId, id: SocketId, now: Time) -> io::Result<()> {
        if self.boxes.as_ref().is_some_and(|boxes| boxes.through != place || boxes.outbox.is_full()) {
            self.flush();
        }
        let (Some(boxes), Some(Some(listening))) = (&mut self.boxes, self.listeners.get_mut(place)) else {
            return Ok(());
        };
        boxes.through = place;
        let Some(room) = boxes.outbox.room() else { return Ok(()) };
        let (length, segment) = self.sockets.receive(id, room)?;
        if let Some((key, flow)) = listening.flows.hear(flow, now) {
            let answers = segment.map_or(1, |segment| length.div_ceil(segment.get().into()));
            boxes.outbox.push(length, segment, key.client, key.to);
            flow.answered = flow.answered.saturating_add(answers as u32);
            flow.to_client += length as u64;
            flow.lease.server().shard(self.worker).to_client.add(length as u64);
        }
        Ok(())
    }

    fn flush(&mut self) {
        let Some(boxes) = self.boxes.as_mut().filter(|boxes| !boxes.outbox.is_empty()) else { return };
        if let Some(Some(listening)) = self.listeners.get(boxes.through) {
            boxes.outbox.flush(&listening.socket);
        }
    }
}

/// The position of the flow's server in the service, if it still has it.
fn position(service: &ServicePlan, lease: &Lease) -> Option<usize> {
    service.servers.iter().position(|server| Arc::ptr_eq(&server.state, lease.server()))
}

/// The oldest flow, if it was silent for too long. Never early: the table knows of a datagram late by its grain.
fn expired(listening: &Listening, now: Time) -> Option<FlowId> {
    let limit = listening.service.idle_timeout?;
    let (flow, seen) = listening.flows.oldest()?;
    (now.since(seen) >= limit + table::GRAIN).then_some(flow)
}

/// Nothing is there, or there is no room at this moment: the flow goes on.
fn is_passing(error: &io::Error) -> bool {
    /// ENOBUFS, ENOMEM, EMSGSIZE: this datagram is lost.
    const LOST: [i32; 3] = [105, 12, 90];
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        || error.raw_os_error().is_some_and(|number| LOST.contains(&number))
}

#[cfg(test)]
mod tests;
