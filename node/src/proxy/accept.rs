//! Taking clients in: the listeners of a worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_netlink::socket;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::connection::Connection;
use super::dial::is_exhaustion;
use super::engine::Engine;
use super::places::Place;
use super::reactor::Token;
use super::slots::Key;
use super::worker::Worker;
use crate::config::model::Endpoint;
use crate::plan::{Limiter, ListenAt, Plan, ServicePlan};

/// After an error of accept (descriptors used up, most likely) the worker takes nobody in for this time: the listener
/// stays readable, and without a rest the worker would do nothing else.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How often the worker looks for a free place when all are taken (others may have given one back; its own are seen at
/// once). The client is in no hurry that it would notice.
const PLACE_REST: Duration = Duration::from_millis(5);
/// Not more than one event of a kind per listener in this time.
const EVENT_INTERVAL: Duration = Duration::from_secs(10);
/// Clients taken from a listener in one turn, at most, unless the settings say otherwise. A listener begins with one, and
/// doubles as long as more wait: so a quiet one costs no call that comes back empty, and a crowd costs few turns.
pub(super) const ACCEPTS_PER_TURN: usize = 64;
/// Clients taken from a listener that is being closed, at most: its queue, and those who came meanwhile.
const LAST_CLIENTS_MAX: usize = 65_536;

/// The current plan, as the workers see it.
pub(super) struct Plans {
    plan: ArcSwap<Plan>,
    /// The generation of `plan`; one number to compare, so that a client costs no look at a shared counter.
    generation: AtomicU64,
}

impl Plans {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { generation: AtomicU64::new(plan.generation), plan: ArcSwap::new(plan) }
    }

    pub(super) fn set(&self, plan: Arc<Plan>) {
        let generation = plan.generation;
        self.plan.store(plan);
        self.generation.store(generation, Ordering::Release);
    }

    /// The generation of the current plan.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn current(&self) -> Arc<Plan> {
        self.plan.load_full()
    }
}

/// How long clients that have to speak first are kept in the queue until they do: whoever only connects costs nothing.
const DEFER_SECONDS: i32 = 5;

/// For how long a service's clients are to be kept in the queue, for want of a first word from them, s; 0: not at all.
pub(super) fn defer_seconds(service: &ServicePlan) -> i32 {
    let client_speaks_first = service.tls.is_some() || service.routes.is_some() || service.http.is_some();
    if client_speaks_first { DEFER_SECONDS } else { 0 }
}

/// One listening socket of a worker.
pub(super) struct Listener {
    address: ListenAt,
    socket: OwnedFd,
    /// Other workers listen on the same socket, not on one of their own.
    shared: bool,
    /// What is served here, as of `generation`.
    service: Arc<ServicePlan>,
    generation: u64,
    /// Clients to take in the next turn.
    burst: usize,
    /// While it is being closed: how many more may be taken from its queue.
    last: Option<usize>,
    crowded: Limiter,
    failing: Limiter,
}

impl Listener {
    pub(super) fn new(
        address: ListenAt,
        socket: OwnedFd,
        shared: bool,
        service: Arc<ServicePlan>,
        generation: u64,
    ) -> Self {
        let (crowded, failing) = (Limiter::default(), Limiter::default());
        Self { address, socket, shared, service, generation, burst: 1, last: None, crowded, failing }
    }

    /// Clients may come: the socket, which was bound so far, listens.
    pub(super) fn open(&self, backlog: i32) -> io::Result<()> {
        Ok(rustix::net::listen(&self.socket, backlog)?)
    }

    /// Where it listens, and a copy of the socket; `None`: it is being closed.
    fn copy(&self) -> Option<io::Result<(ListenAt, OwnedFd)>> {
        let socket = self.last.is_none().then(|| self.socket.try_clone())?;
        Some(socket.map(|socket| (self.address.clone(), socket)))
    }

    /// What is served at this address by the current plan.
    fn service(&mut self, plans: &Plans) -> Arc<ServicePlan> {
        if plans.generation.load(Ordering::Acquire) != self.generation {
            let plan = plans.current();
            self.generation = plan.generation;
            // A plan without this address: the listener is about to be closed, and the queue belongs to the old service.
            if let Some(service) = plan.service_at(&self.address) {
                if !self.is_unix() && defer_seconds(service) != defer_seconds(&self.service) {
                    // Clients of protocols in which the server speaks first would wait for nothing.
                    let _ = socket::set_defer(&self.socket, defer_seconds(service));
                }
                self.service = Arc::clone(service);
            }
        }
        Arc::clone(&self.service)
    }

    fn is_unix(&self) -> bool {
        matches!(self.address.endpoint, Endpoint::Unix(_))
    }

    /// The next client; `None`: the queue is empty.
    fn accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        match acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, peer)) => {
                // A Unix socket has no address of this kind.
                let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
                Ok(Some((socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok()).unwrap_or(nobody))))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_crowded(&self, worker: &Worker, now: Time) {
        if let Some(held_back) = self.crowded.pass(now, EVENT_INTERVAL) {
            let what = format!("all places for clients are taken ({held_back} times before)");
            let why = "the limit on connections is reached; clients wait until others have ended";
            worker.events.record(Severity::Alert, &self.subject(), what, why);
        }
    }

    fn has_failed(&self, worker: &Worker, now: Time, error: &io::Error) {
        let what = if is_exhaustion(error) {
            "clients wait: descriptors or memory are used up"
        } else {
            "clients cannot be accepted"
        };
        if let Some(held_back) = self.failing.pass(now, EVENT_INTERVAL) {
            let what = format!("{what} at {} ({held_back} times before)", self.address);
            worker.events.record(Severity::Alert, &self.subject(), what, error.to_string());
        }
    }

    fn subject(&self) -> String {
        format!("service {}", self.service.name)
    }
}

/// What came of reaching for a client.
enum Next {
    Client(OwnedFd, SocketAddr, Place),
    /// That one is gone; there may be others.
    Gone,
    /// Nobody waits.
    Empty,
    /// None can be taken in now.
    Rest(Duration),
}

impl Engine {
    /// A listener begins to take clients in.
    pub(super) fn listen(&mut self, listener: Listener) {
        let key = self.listeners.insert(listener);
        if self.resting.is_none() {
            self.watch(key);
        }
    }

    /// Copies of all sockets on which this worker listens, for another process of this node.
    pub(super) fn sockets(&self) -> io::Result<Vec<(ListenAt, OwnedFd)>> {
        let streams = self.listeners.iter().filter_map(|(_, listener)| listener.copy());
        streams.chain(self.receiving()).collect()
    }

    fn watch(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get(key) {
            let token = Token::Listener(key);
            if let Err(error) = self.local.reactor.add_listener(&listener.socket, token, listener.shared) {
                listener.has_failed(&self.local.worker, self.local.now, &error);
            }
        }
    }

    /// The listener takes those who are in its queue, and closes. `None`: all listeners.
    pub(super) fn unlisten(&mut self, address: Option<&ListenAt>) {
        let concerned = |listener: &Listener| address.is_none_or(|address| listener.address == *address);
        let keys = self.listeners.iter().filter(|(_, listener)| concerned(listener)).map(|(key, _)| key);
        for key in keys.collect::<Vec<_>>() {
            if let Some(listener) = self.listeners.get(key)
                && listener.last.is_none()
            {
                listener.last = Some(LAST_CLIENTS_MAX);
                self.closing.push(key);
            }
        }
    }

    /// Takes clients in, at most so many as one turn may cost.
    pub(super) fn accept(&mut self, key: Key) {
        let Some(listener) = self.listeners.get(key) else { return };
        let burst = listener.burst;
        for _ in 0..burst {
            match self.next(key) {
                Next::Client(socket, peer, place) => self.admit(key, socket, peer, place),
                Next::Gone => {}
                Next::Empty => {
                    if let Some(listener) = self.listeners.get(key) {
                        listener.burst = 1;
                        if listener.last.is_some() {
                            self.close_listener(key);
                        }
                    }
                    return;
                }
                Next::Rest(time) => return self.rest(time),
            }
        }
        if let Some(listener) = self.listeners.get(key) {
            listener.burst = (burst * 2).min(self.local.worker.bounds.accepts());
            let over = listener.last.as_mut().is_some_and(|last| {
                *last = last.saturating_sub(burst);
                *last == 0
            });
            if over {
                self.close_listener(key);
            }
        }
    }

    fn next(&mut self, key: Key) -> Next {
        let Some(listener) = self.listeners.get(key) else { return Next::Empty };
        let (worker, now) = (&self.local.worker, self.local.now);
        if self.local.dialling >= worker.bounds.pending() {
            return Next::Rest(PLACE_REST);
        }
        let Some(place) = worker.places.take() else {
            listener.is_crowded(worker, now);
            return Next::Rest(PLACE_REST);
        };
        match listener.accept() {
            Ok(Some((socket, peer))) => Next::Client(socket, peer, place),
            Ok(None) => Next::Empty,
            // A client that gave up while it was in the queue is nobody's fault (accept(2) lists more of the kind).
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Next::Gone,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Next::Gone,
            Err(error) => {
                listener.has_failed(worker, now, &error);
                Next::Rest(ACCEPT_REST)
            }
        }
    }

    fn admit(&mut self, key: Key, socket: OwnedFd, peer: SocketAddr, place: Place) {
        let Some(listener) = self.listeners.get(key) else { return };
        let (is_unix, service) = (listener.is_unix(), listener.service(&self.plans));
        let worker = &self.local.worker;
        service.state.shard(worker.index).accepted.add(1);
        worker.figures.accepted.fetch_add(1, Ordering::Relaxed);
        worker.figures.connections.fetch_add(1, Ordering::Relaxed);
        let key = self.connections.insert(Connection::new(socket, is_unix, peer, service, place));
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(outcome) = connection.start(key, &mut self.local) {
            self.end(key, outcome);
        }
        self.thin_out_greetings();
    }

    fn close_listener(&mut self, key: Key) {
        self.closing.retain(|closing| *closing != key);
        if let Some(listener) = self.listeners.remove(key) {
            self.local.reactor.remove_listener(&listener.socket);
        }
    }

    /// Closes all listeners as they are.
    pub(super) fn close_listeners(&mut self) {
        let keys: Vec<Key> = self.listeners.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close_listener(key));
    }

    /// Takes nobody in for a while.
    fn rest(&mut self, time: Duration) {
        if self.resting.is_none() {
            let sockets = self.listeners.iter().map(|(_, listener)| &listener.socket);
            sockets.for_each(|socket| self.local.reactor.remove_listener(socket));
        }
        self.resting = Some((self.local.now + time, time));
    }

    /// Takes clients in again, when the time has come; or before, when that was what was waited for.
    pub(super) fn wake_up(&mut self) {
        let Some((until, time)) = self.resting else { return };
        let worker = &self.local.worker;
        let has_room = self.local.dialling < worker.bounds.pending() && worker.places.has_room();
        if self.local.now < until && (time != PLACE_REST || !has_room) {
            return;
        }
        if !has_room {
            self.resting = Some((self.local.now + PLACE_REST, PLACE_REST));
            return;
        }
        self.resting = None;
        let keys: Vec<Key> = self.listeners.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.watch(key));
    }
}
