//! Connections to servers that are kept open without a client, in turn over the servers of a service.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cygnet_netlink::socket::{self, Origin};

use super::local::Local;
use super::reactor::{Ready, Token};
use super::slots::{Key, Slots};
use crate::config::model::{Endpoint, Transport};
use crate::plan::{Lease, Plan, ServerPlan, ServicePlan, Start};

/// Connects of a worker in one tick, so that servers that close at once are not stormed.
const CONNECTS_PER_TICK: usize = 8;

/// One of them.
struct Idler {
    service: Arc<str>,
    /// Closed when this is dropped.
    socket: OwnedFd,
    _lease: Lease,
}

/// Those of a worker.
#[derive(Default)]
pub(super) struct Idlers {
    open: Slots<Idler>,
    /// Whose turn it is.
    turn: usize,
}

impl Idlers {
    /// Something came from the server, or it has closed. Nothing is expected of it, so only its end counts.
    pub(super) fn is_ready(&mut self, key: Key, ready: Ready) {
        if ready.any(Ready::END.with(Ready::ERROR).with(Ready::CLOSED)) {
            self.open.remove(key);
        }
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
        let mut connects = 0;
        for service in &plan.services {
            let have = self.of(&service.name);
            have.iter().skip(wanted(service)).for_each(|key| drop(self.open.remove(*key)));
            for _ in have.len()..wanted(service) {
                if connects == CONNECTS_PER_TICK {
                    return;
                }
                connects += 1;
                // One that cannot be had now is tried again at the next tick.
                let _ = self.connect(service, local);
            }
        }
        let is_known = |idler: &Idler| plan.services.iter().any(|service| service.name == idler.service);
        let gone = self.open.iter().filter(|(_, idler)| !is_known(idler)).map(|(key, _)| key);
        gone.collect::<Vec<_>>().into_iter().for_each(|key| drop(self.open.remove(key)));
    }

    fn of(&self, service: &Arc<str>) -> Vec<Key> {
        self.open.iter().filter(|(_, idler)| idler.service == *service).map(|(key, _)| key).collect()
    }

    fn connect(&mut self, service: &ServicePlan, local: &Local) -> io::Result<()> {
        let servers = service.regular();
        if servers.is_empty() {
            return Ok(());
        }
        self.turn = self.turn.wrapping_add(1);
        let server = &servers[self.turn % servers.len()];
        let Some(mut lease) = server.state.reserve(server.max) else { return Ok(()) };
        lease.connected();
        let idler = Idler { service: Arc::clone(&service.name), socket: begin(server)?, _lease: lease };
        let key = self.open.insert(idler);
        let Some(Idler { socket, .. }) = self.open.get(key) else { return Ok(()) };
        let added = local.reactor.add_connection(&*socket, Token::Idler(key));
        if added.is_err() {
            self.open.remove(key);
        }
        added
    }
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
