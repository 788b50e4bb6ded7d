//! Datagrams on a worker's loop.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_netlink::udp::Listener;

use super::{Host, Token};
use crate::balance::NoServer;
use crate::config::model::{Endpoint, Transport};
use crate::plan::{ListenAt, ServicePlan};
use crate::proxy::dial::report_refusal;
use crate::proxy::engine::Engine;
use crate::proxy::local::Local;
use crate::proxy::reactor;
use crate::proxy::worker::Worker;

/// Not more than one event about the same server in this time: a server that is gone fails each flow.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// A listener for one worker, on its way there.
pub(in crate::proxy) struct Receiver {
    pub(in crate::proxy) at: SocketAddr,
    pub(in crate::proxy) socket: Listener,
    pub(in crate::proxy) service: Arc<ServicePlan>,
}

/// The parts of the worker that flows need.
struct Attached<'a> {
    worker: &'a Worker,
    reactor: &'a reactor::Reactor,
}

impl<'a> Attached<'a> {
    fn to(local: &'a Local) -> Self {
        Self { worker: &local.worker, reactor: &local.reactor }
    }
}

impl Host for Attached<'_> {
    fn watch(&self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.reactor.add_listener(socket, reactor::Token::Datagrams(token.to_bits()), false)
    }

    fn told_all(&self) -> bool {
        self.reactor.told_all()
    }

    fn refused(&self, service: &ServicePlan, why: &NoServer, now: Time) {
        report_refusal(service, self.worker, now, why);
    }

    fn failed(&self, service: &ServicePlan, server: usize, error: &io::Error, now: Time) {
        let Some(server) = service.servers.get(server) else { return };
        if let Some(held_back) = server.state.reports.pass(now, REPORT_INTERVAL) {
            let what = format!("server {} ({}) takes no datagrams", server.name, server.address);
            let why = format!("{error} ({held_back} more since the last report)");
            self.worker.events.record(Severity::Warning, &format!("service {}", service.name), what, why);
        }
    }
}

impl Engine {
    /// Begins to take datagrams in.
    pub(in crate::proxy) fn receive(&mut self, receiver: Receiver) {
        let Receiver { at, socket, service } = receiver;
        if let Err(error) = self.udp.open(at, socket, &service, &Attached::to(&self.local)) {
            let what = format!("datagrams at {at} cannot be taken in");
            let subject = format!("service {}", service.name);
            self.local.worker.events.record(Severity::Alert, &subject, what, error.to_string());
        }
    }

    /// Where datagrams are taken in, with copies of the sockets.
    pub(in crate::proxy) fn receiving(&self) -> impl Iterator<Item = io::Result<(ListenAt, OwnedFd)>> {
        self.udp.sockets().map(|(at, socket)| socket.copy().map(|socket| (listen_at(at), socket)))
    }

    /// Stops taking datagrams in at this address; `None`: at all of them. Their flows end.
    pub(in crate::proxy) fn stop_receiving(&mut self, address: Option<&ListenAt>) {
        let concerned = |at: &SocketAddr| address.is_none_or(|address| *address == listen_at(*at));
        let addresses: Vec<SocketAddr> = self.udp.listening().filter(concerned).collect();
        addresses.into_iter().for_each(|at| self.udp.close(at, self.local.now));
    }

    /// A descriptor has datagrams.
    pub(in crate::proxy) fn datagrams(&mut self, token: u32) {
        self.udp.ready(Token::from_bits(token), &Attached::to(&self.local), self.local.now);
    }

    /// Moves what the flows have to send, and counts them.
    pub(in crate::proxy) fn end_datagrams(&mut self) {
        self.follow_plan();
        self.udp.end_turn(&Attached::to(&self.local), self.local.now);
        let (now, before) = (self.udp.len(), std::mem::replace(&mut self.flows, self.udp.len()));
        let connections = &self.local.worker.figures.connections;
        if now > before {
            connections.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            connections.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// Looks for flows that were silent for too long.
    pub(in crate::proxy) fn tick_datagrams(&mut self) {
        self.follow_plan();
        self.udp.tick(self.local.now, self.local.worker.clock.unix());
    }

    /// Takes over what a new plan says of the addresses.
    fn follow_plan(&mut self) {
        let generation = self.plans.generation();
        if generation == self.flows_generation {
            return;
        }
        self.flows_generation = generation;
        let plan = self.plans.current();
        for at in self.udp.listening().collect::<Vec<_>>() {
            // A plan without this address: the listener is about to be closed.
            if let Some(service) = plan.service_at(&listen_at(at)) {
                self.udp.serve(at, service, self.local.now);
            }
        }
    }
}

fn listen_at(address: SocketAddr) -> ListenAt {
    ListenAt { transport: Transport::Udp, endpoint: Endpoint::Inet(address) }
}
