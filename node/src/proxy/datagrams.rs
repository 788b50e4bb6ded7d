//! The flows of datagrams on a worker's loop: what `udp` needs of it, and what it hands on.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::Listener;

use super::dial::{report_refusal, report_start};
use super::engine::Engine;
use super::reactor::{self, Reactor};
use super::udp::{Host, Token, Udp};
use super::worker::Worker;
use crate::balance::{Choice, Pick};
use crate::config::model::{Endpoint, Transport};
use crate::plan::{ListenAt, ServicePlan};

/// The worker, as flows see it.
struct Ground<'a> {
    reactor: &'a Reactor,
    worker: &'a Worker,
}

impl Host for Ground<'_> {
    fn watch(&self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        self.reactor.add_listener(socket, reactor::Token::Datagrams(token.to_bits()), false)
    }

    fn choose(&self, service: &ServicePlan, client: SocketAddr, now: Time) -> Option<Pick> {
        let (clients, unix) = (&*self.worker.clients, self.worker.clock.unix());
        let mut choice = Choice::begin(service, clients, client, unix);
        match choice.next(service, clients, now, unix) {
            Ok(mut pick) => {
                // There is nothing to wait for: a datagram is sent or it is not.
                let _ = choice.connected(service, clients, pick.server, &mut pick.lease, unix);
                Some(pick)
            }
            Err(why) => {
                report_refusal(service, self.worker, now, &why);
                None
            }
        }
    }

    fn failed(&self, service: &ServicePlan, server: usize, error: &io::Error, now: Time) {
        report_start(service, server, self.worker, now, error);
    }
}

impl Engine {
    /// A listener of datagrams begins.
    pub(super) fn listen_udp(&mut self, at: SocketAddr, listener: Listener, service: &Arc<ServicePlan>) {
        let (udp, ground, now) = self.udp();
        if let Err(error) = udp.open(at, listener, service, &ground) {
            report_start(service, 0, ground.worker, now, &error);
        }
    }

    /// A listener of datagrams ends, and its flows with it.
    pub(super) fn unlisten_udp(&mut self, at: SocketAddr) {
        let now = self.local.now;
        self.udp.close(at, now);
    }

    /// A descriptor of the flows has something.
    pub(super) fn datagrams(&mut self, bits: u32) {
        let (udp, ground, now) = self.udp();
        udp.ready(Token::from_bits(bits), &ground, now);
    }

    /// There is a new plan: what is served at the addresses of datagrams is looked up at once, for flows have no other
    /// moment for it.
    pub(super) fn new_plan(&mut self) {
        let (plan, now) = (self.plans.current(), self.local.now);
        for at in self.udp.listening().collect::<Vec<_>>() {
            let address = ListenAt { transport: Transport::Udp, endpoint: Endpoint::Inet(at) };
            if let Some(service) = plan.service_at(&address) {
                self.udp.serve(at, service, now);
            }
        }
    }

    fn udp(&mut self) -> (&mut Udp, Ground<'_>, Time) {
        let ground = Ground { reactor: &self.local.reactor, worker: &self.local.worker };
        (&mut self.udp, ground, self.local.now)
    }
}
