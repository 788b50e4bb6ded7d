//! The beginning and the end of a flow.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::{Origin, Train};

use super::sockets::{Left, Peer, SocketId};
use super::table::{FlowId, GRAIN, Key};
use super::{Flow, Host, Token, Udp, is_passing};
use crate::balance::{Choice, Pick, refresh};
use crate::plan::{ServerPlan, ServicePlan, Start};

/// EMFILE, ENFILE: no descriptor is left; EAGAIN, EADDRINUSE, EADDRNOTAVAIL: no port is.
const USED_UP: [i32; 5] = [24, 23, 11, 98, 99];

impl Udp {
    /// Passes a client's datagrams on; the first one of a flow opens it.
    pub(super) fn forward(&mut self, place: usize, key: Key, train: Train<'_>, host: &impl Host, now: Time) {
        let Some(Some(listening)) = self.listeners.get_mut(place) else { return };
        let known = listening.flows.find(&key);
        let Some(id) = known.or_else(|| self.begin(place, key, host, now)) else { return };
        let Some(Some(listening)) = self.listeners.get_mut(place) else { return };
        let Some((_, flow)) = listening.flows.hear(id, now) else { return };
        let Some(upstream) = self.sockets.upstream(flow.socket) else { return };
        if let Some(observer) = &listening.service.observer {
            train.datagrams().for_each(|bytes| observer.chunk(key.client, flow.server, bytes));
        }
        match upstream.send(train) {
            Ok(()) => {
                flow.asked = flow.asked.saturating_add(train.count() as u32);
                flow.from_client += train.bytes.len() as u64;
                flow.lease.server().shard(self.worker).to_server.add(train.bytes.len() as u64);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => self.fail(place, id, &error, host, now),
        }
    }

    fn begin(&mut self, place: usize, key: Key, host: &impl Host, now: Time) -> Option<FlowId> {
        let service = Arc::clone(&self.listeners.get(place)?.as_ref()?.service);
        service.state.shard(self.worker).accepted.add(1);
        if let Some(observer) = &service.observer {
            observer.opened(self.worker, key.client);
        }
        if self.flows >= self.flows_max {
            self.recycle(now);
        }
        let Some(flow) = self.choose(&service, key, host, now) else {
            if let Some(observer) = &service.observer {
                observer.closed(self.worker, key.client, None, 0, 0);
            }
            return None;
        };
        let socket = flow.socket;
        let id = self.listeners.get_mut(place)?.as_mut()?.flows.insert(key, now, flow)?;
        self.sockets.set_owner(socket, (place, id));
        self.flows += 1;
        Some(id)
    }

    /// A flow to a server that can be reached, as far as that is known without sending anything.
    fn choose(&mut self, service: &ServicePlan, key: Key, host: &impl Host, now: Time) -> Option<Flow> {
        let clients = Arc::clone(&self.clients);
        let mut choice = Choice::begin(service, &clients, key.client, self.unix);
        loop {
            let Pick { server: position, mut lease, .. } =
                match choice.next(service, &clients, now, self.unix) {
                    Ok(pick) => pick,
                    Err(why) => {
                        host.refused(service, &why, now);
                        return None;
                    }
                };
            let server = service.servers.get(position)?;
            match self.connect(server, service, key.client, host, now) {
                Ok(socket) => {
                    server.state.shard(self.worker).connected.add(1);
                    let told = choice.connected(service, &clients, position, &mut lease, self.unix);
                    if told.failed_over {
                        service.state.shard(self.worker).failovers.add(1);
                    }
                    return Some(Flow::new(socket, lease, position));
                }
                Err(error) => {
                    server.state.shard(self.worker).failed.add(1);
                    host.failed(service, position, &error, now);
                    if is_used_up(&error) {
                        return None;
                    }
                }
            }
        }
    }

    /// A connected and registered socket. When descriptors or ports are used up, a socket that rests gives its own back, or
    /// else the oldest flow does, once.
    fn connect(
        &mut self,
        server: &ServerPlan,
        service: &ServicePlan,
        client: SocketAddr,
        host: &impl Host,
        now: Time,
    ) -> io::Result<SocketId> {
        let target = server.address.inet().ok_or(io::ErrorKind::Unsupported)?;
        let peer = Peer { target, origin: origin(server, service, target, client)? };
        let mut connected = self.sockets.connect(peer, host.told_all(), now);
        if connected.as_ref().is_err_and(is_used_up) {
            if !self.sockets.shed() {
                self.recycle(now);
                self.sockets.shed();
            }
            connected = self.sockets.connect(peer, host.told_all(), now);
        }
        let (id, is_new) = connected?;
        if is_new
            && let Some(upstream) = self.sockets.upstream(id)
            && let Err(error) = host.watch(upstream.as_fd(), Token(id.0))
        {
            self.sockets.close(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Ends the flow that was not heard of for the longest time.
    fn recycle(&mut self, now: Time) {
        let oldest = self.listeners.iter().enumerate().filter_map(|(place, listening)| {
            let (flow, seen) = listening.as_ref()?.flows.oldest()?;
            Some((seen, place, flow))
        });
        if let Some((_, place, flow)) = oldest.min_by_key(|(seen, ..)| *seen) {
            self.end(place, flow, now);
        }
    }

    /// The server does not take the flow's datagrams.
    pub(super) fn fail(&mut self, place: usize, id: FlowId, error: &io::Error, host: &impl Host, now: Time) {
        if let Some(Some(listening)) = self.listeners.get(place)
            && let Some((_, flow)) = listening.flows.get(id)
        {
            flow.lease.server().shard(self.worker).failed.add(1);
            host.failed(&listening.service, flow.server, error, now);
        }
        self.finish(place, id, Some(Left::Broken), now);
    }

    pub(super) fn count_idle(&self, place: usize) {
        if let Some(Some(listening)) = self.listeners.get(place) {
            listening.service.state.shard(self.worker).idle.add(1);
        }
    }

    pub(super) fn end(&mut self, place: usize, id: FlowId, now: Time) {
        self.finish(place, id, None, now);
    }

    /// `left`: what becomes of its socket, if that is not for the flow to say.
    fn finish(&mut self, place: usize, id: FlowId, left: Option<Left>, now: Time) {
        if let Some(Some(listening)) = self.listeners.get_mut(place)
            && let Some(seen) = listening.flows.seen(id)
            && let Some((key, flow)) = listening.flows.remove(id)
        {
            let service = &listening.service;
            refresh(service, &self.clients, key.client.ip(), flow.server, self.unix);
            if let Some(observer) = &service.observer {
                let server = Some(flow.server);
                observer.closed(self.worker, key.client, server, flow.to_client, flow.from_client);
            }
            self.flows -= 1;
            let silent_since = now.min(seen + GRAIN);
            // Of several questions one may have been answered twice, and another not at all.
            let is_settled = (flow.asked, flow.answered) == (1, 1);
            self.sockets.retire(flow.socket, left.unwrap_or(Left::Idle { silent_since, is_settled }), now);
        }
    }
}

/// Descriptors or ports are used up: another server would not help.
fn is_used_up(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| USED_UP.contains(&number))
}

/// Where the flow starts from. No server without a source is chosen; just any address may be a virtual one.
fn origin(
    server: &ServerPlan,
    service: &ServicePlan,
    target: SocketAddr,
    client: SocketAddr,
) -> io::Result<Origin> {
    let client = client.ip().to_canonical();
    if service.transparent && client.is_ipv6() == target.is_ipv6() {
        return Ok(Origin::Foreign(client));
    }
    match &server.source {
        Ok(Start::At(address)) => Ok(Origin::Own(*address)),
        Ok(Start::Kernel) => Ok(Origin::Kernel { v6: target.is_ipv6() }),
        Err(reason) => Err(io::Error::other(reason.to_string())),
    }
}
