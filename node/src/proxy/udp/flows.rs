//! The beginning and the end of a flow.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use cygnet_ha::time::Time;
use cygnet_netlink::udp::Origin;

use super::sockets::SocketId;
use super::table::{FlowId, Key};
use super::{Flow, Host, Token, Udp, is_passing};
use crate::balance::Pick;
use crate::plan::{ServerPlan, Start};

/// EMFILE, ENFILE: no descriptor is left; EAGAIN, EADDRINUSE, EADDRNOTAVAIL: no port is.
const USED_UP: [i32; 5] = [24, 23, 11, 98, 99];

impl Udp {
    /// Passes a client's datagram on; the first one of a flow opens it.
    pub(super) fn forward(&mut self, place: usize, key: Key, bytes: &[u8], host: &impl Host, now: Time) {
        let Some(Some(listening)) = self.listeners.get_mut(place) else { return };
        let known = listening.flows.find(&key);
        let Some(id) = known.or_else(|| self.begin(place, key, host, now)) else { return };
        let Some(Some(listening)) = self.listeners.get_mut(place) else { return };
        let Some((_, flow)) = listening.flows.hear(id, now) else { return };
        let Some(upstream) = self.sockets.upstream(flow.socket) else { return };
        match upstream.send(bytes) {
            Ok(()) => flow.lease.server().shard(self.worker).to_server.add(bytes.len() as u64),
            Err(error) if is_passing(&error) => {}
            Err(_) => self.fail(place, id, now),
        }
    }

    fn begin(&mut self, place: usize, key: Key, host: &impl Host, now: Time) -> Option<FlowId> {
        let service = Arc::clone(&self.listeners.get(place)?.as_ref()?.service);
        service.state.shard(self.worker).accepted.add(1);
        if self.flows >= self.flows_max {
            self.recycle(now);
        }
        let Pick { server: position, lease, .. } = host.choose(&service, key.client, now)?;
        let server = service.servers.get(position)?;
        let socket = match self.connect(server, host, now) {
            Ok(socket) => socket,
            Err(error) => {
                server.state.shard(self.worker).failed.add(1);
                host.failed(&service, position, &error, now);
                return None;
            }
        };
        server.state.shard(self.worker).connected.add(1);
        server.state.exonerate();
        let flow = Flow { socket, lease };
        let id = self.listeners.get_mut(place)?.as_mut()?.flows.insert(key, now, flow)?;
        self.sockets.set_owner(socket, (place, id));
        self.flows += 1;
        Some(id)
    }

    /// A connected and registered socket. When descriptors or ports are used up, the oldest flow gives its own back, once.
    fn connect(&mut self, server: &ServerPlan, host: &impl Host, now: Time) -> io::Result<SocketId> {
        let target = server.address.inet().ok_or(io::ErrorKind::Unsupported)?;
        let origin = origin(server, target)?;
        let mut connected = self.sockets.connect(target, origin, now);
        if connected.as_ref().is_err_and(|e| e.raw_os_error().is_some_and(|e| USED_UP.contains(&e))) {
            self.recycle(now);
            self.sockets.shed();
            connected = self.sockets.connect(target, origin, now);
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
    pub(super) fn fail(&mut self, place: usize, id: FlowId, now: Time) {
        if let Some(Some(listening)) = self.listeners.get(place)
            && let Some((_, flow)) = listening.flows.get(id)
        {
            flow.lease.server().shard(self.worker).failed.add(1);
        }
        self.end(place, id, now);
    }

    pub(super) fn count_idle(&self, place: usize) {
        if let Some(Some(listening)) = self.listeners.get(place) {
            listening.service.state.shard(self.worker).idle.add(1);
        }
    }

    pub(super) fn end(&mut self, place: usize, id: FlowId, now: Time) {
        if let Some(Some(listening)) = self.listeners.get_mut(place)
            && let Some((_, flow)) = listening.flows.remove(id)
        {
            self.flows -= 1;
            self.sockets.retire(flow.socket, now);
        }
    }
}

/// Where the flow starts from. `pick` chooses no server without a source; just any address may be a virtual one.
fn origin(server: &ServerPlan, target: SocketAddr) -> io::Result<Origin> {
    match &server.source {
        Ok(Start::At(address)) => Ok(Origin::Own(*address)),
        Ok(Start::Kernel) => Ok(Origin::Kernel { v6: target.is_ipv6() }),
        Err(reason) => Err(io::Error::other(reason.to_string())),
    }
}
