//! Connections to servers that are kept open without a client, in turn over the servers of a service.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cygnet_ha::time::Time;
use cygnet_netlink::socket::{self, Origin};
use rustix::net::sockopt;

use super::dial::{self, Failure};
use super::local::Local;
use super::reactor::{Ready, Token};
use super::slots::{Key, Slots};
use crate::config::model::{Endpoint, Transport};
use crate::plan::{Admin, Lease, Plan, ServerPlan, ServicePlan, Start};

/// Connects of a worker to the servers of one service in one tick, so that servers that close at once are not stormed.
const CONNECTS_PER_TICK: usize = 8;

/// One of them.
struct Idler {
    service: Arc<ServicePlan>,
    /// The server's position.
    position: usize,
    /// Closed when this is dropped.
    socket: OwnedFd,
    lease: Lease,
    /// When the connect began.
    begun: Time,
    is_connected: bool,
}

/// Those of a worker.
#[derive(Default)]
pub(super) struct Idlers {
    open: Slots<Idler>,
    /// Those whose connect has completed.
    connected: usize,
    /// Whose turn it is.
    turn: usize,
}

impl Idlers {
    /// The connect is over, something came from the server, or it has closed. Nothing is expected of a server, so only its
    /// end counts.
    pub(super) fn is_ready(&mut self, key: Key, ready: Ready, local: &Local) {
        let Some(idler) = self.open.get(key) else { return };
        if ready.any(Ready::END.with(Ready::ERROR).with(Ready::CLOSED)) {
            if !idler.is_connected
                && let Ok(Err(error)) | Err(error) = sockopt::socket_error(&idler.socket)
            {
                idler.failed(&dial::classify(error.into()), local);
            }
            self.remove(key);
        } else if ready.any(Ready::WRITE) && !idler.is_connected {
            idler.is_connected = true;
            idler.lease.connected();
            self.connected += 1;
        }
        self.tell(local);
    }

    /// Opens what is missing and closes what is too much, by the plan.
    pub(super) fn tick(&mut self, plan: &Plan, local: &Local, is_stopping: bool) {
        let wanted = |service: &ServicePlan| {
            let is_meant = !is_stopping && service.transport == Transport::Tcp;
            if is_meant { share(service.idlers, local.worker.index, local.worker.count) } else { 0 }
        };
        if self.open.is_empty() && plan.services.iter().all(|service| wanted(service) == 0) {
            return;
        }
        self.end_the_late(local);
        self.keep(|idler| plan.services.iter().any(|service| idler.belongs_to(service)));
        for service in &plan.services {
            let have: Vec<Key> = self.keys(|idler| idler.service.name == service.name);
            have.iter().skip(wanted(service)).for_each(|key| self.remove(*key));
            let missing = wanted(service).saturating_sub(have.len());
            (0..missing.min(CONNECTS_PER_TICK)).for_each(|_| self.connect(service, local));
        }
        self.tell(local);
    }

    /// Those whose server has not answered in time.
    fn end_the_late(&mut self, local: &Local) {
        let late = self.keys(|idler| {
            !idler.is_connected && local.now.since(idler.begun) >= idler.service.connect_timeout
        });
        for key in late {
            if let Some(idler) = self.open.get(key) {
                idler.failed(&dial::no_answer(idler.service.connect_timeout), local);
            }
            self.remove(key);
        }
    }

    fn keys(&self, which: impl Fn(&Idler) -> bool) -> Vec<Key> {
        self.open.iter().filter(|(_, idler)| which(idler)).map(|(key, _)| key).collect()
    }

    fn keep(&mut self, which: impl Fn(&Idler) -> bool) {
        self.keys(|idler| !which(idler)).into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: Key) {
        if self.open.remove(key).is_some_and(|idler| idler.is_connected) {
            self.connected -= 1;
        }
    }

    /// One more, at the next server that can have one. If none can, the next tick tries again.
    fn connect(&mut self, service: &Arc<ServicePlan>, local: &Local) {
        let all = service.regular().len();
        let mut turns = (1..=all).map(|step| self.turn.wrapping_add(step) % all);
        let next = turns.find(|position| may_have(service, *position, local.now));
        let Some(position) = next else { return };
        self.turn = position;
        let server = &service.servers[position];
        let lease =
            if service.is_pen() { server.state.admit(server.max) } else { server.state.reserve(server.max) };
        let Some(lease) = lease else { return };
        let (service, begun) = (Arc::clone(service), local.now);
        match begin(server) {
            Ok(socket) => {
                let idler = Idler { service, position, socket, lease, begun, is_connected: false };
                let key = self.open.insert(idler);
                let Some(Idler { socket, .. }) = self.open.get(key) else { return };
                if local.reactor.add_connection(&*socket, Token::Idler(key)).is_err() {
                    self.remove(key);
                }
            }
            Err(error) => {
                dial::report_failure(&service, position, &local.worker, local.now, &dial::classify(error));
            }
        }
    }

    /// Shows how many there are.
    fn tell(&self, local: &Local) {
        local.worker.figures.idlers.store(self.connected, Ordering::Relaxed);
    }
}

impl Idler {
    /// As with a client's connection: the server is left alone for a while.
    fn failed(&self, failure: &Failure, local: &Local) {
        dial::report_failure(&self.service, self.position, &local.worker, local.now, failure);
    }

    /// Whether the service still has its server, and the operator wants the server to serve.
    fn belongs_to(&self, service: &ServicePlan) -> bool {
        let is_it = |server: &ServerPlan| {
            Arc::ptr_eq(&server.state, self.lease.server()) && server.admin == Admin::Ready
        };
        service.name == self.service.name && service.regular().iter().any(is_it)
    }
}

/// Whether the server can be asked for a connection: it is one, it can be reached from here, and it is not left alone.
fn may_have(service: &ServicePlan, position: usize, now: Time) -> bool {
    let server = &service.servers[position];
    // Pen's slots without an address.
    let is_unset = server.address.inet().is_some_and(|address| address.port() == 0);
    let rests = service.standing(position, now).is_left_alone();
    !is_unset && !rests && server.admin == Admin::Ready && server.source.is_ok()
}

fn begin(server: &ServerPlan) -> io::Result<OwnedFd> {
    match (&server.address, &server.source) {
        (_, Err(reason)) => Err(io::Error::other(reason.to_string())),
        (Endpoint::Unix(path), Ok(_)) => socket::connect_unix(path),
        (Endpoint::Inet(address), Ok(Start::Kernel)) => socket::connect(*address, Origin::Kernel),
        (Endpoint::Inet(address), Ok(Start::At(own))) => socket::connect(*address, Origin::Address(*own)),
    }
}

/// What falls to one of `workers` of so many.
fn share(all: u32, worker: usize, workers: usize) -> usize {
    let (all, workers) = (all as usize, workers.max(1));
    all / workers + usize::from(worker < all % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_workers_come_to_all() {
        for (all, workers) in [(0, 3), (1, 3), (7, 3), (9, 3), (5, 1)] {
            assert_eq!((0..workers).map(|worker| share(all, worker, workers)).sum::<usize>(), all as usize);
        }
    }
}
