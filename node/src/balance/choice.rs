//! One connection's way to a server, with what is remembered of its client.

use std::net::{IpAddr, SocketAddr};

use cygnet_ha::time::Time;

use super::attempt::{Client, NoServer, Pick, Tried};
use super::{ClientTable, NameId, pen, select};
use crate::config::model::Algorithm;
use crate::plan::{Admin, Lease, Role, ServicePlan, Sticky};

/// Which servers one connection has tried, and which come next. Asked with the same service each time; allocates only
/// when a server beyond the first 64 is tried.
#[derive(Debug)]
pub struct Choice {
    client: Client,
    tried: Tried,
    /// With Pen's rules.
    way: pen::Way,
    attempts: u32,
}

/// What a completed connect tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// The server was not in good standing before.
    pub returned: bool,
    /// It is not the server that was tried first.
    pub failed_over: bool,
}

impl Choice {
    /// Looks the client up. `peer`: 0.0.0.0:0 for a client of a Unix socket. `unix`: seconds since 1970.
    #[must_use]
    pub fn begin(service: &ServicePlan, clients: &ClientTable, peer: SocketAddr, unix: u32) -> Self {
        let remembered = service.sticky.and_then(|sticky| {
            let known = clients.lookup(service.id, peer.ip())?;
            known.is_fresh(unix, sticky.keep).then(|| service.position(known.server))?
        });
        let mut client = Client { peer, remembered, permitted: true };
        client.permitted = client.may_pass(service.clients.as_ref());
        Self { client, tried: Tried::default(), way: pen::Way::Begin, attempts: 0 }
    }

    /// A server to connect to. To be called again when no connection to that one could be made.
    ///
    /// # Errors
    /// None is left; the connection is to be closed.
    pub fn next(
        &mut self,
        service: &ServicePlan,
        clients: &ClientTable,
        now: Time,
        unix: u32,
    ) -> Result<Pick, NoServer> {
        let pick = match service.algorithm {
            Algorithm::Pen(rules) => self.next_of_pen(service, rules, clients, now, unix)?,
            _ => self.next_of_house(service, clients, now, unix)?,
        };
        self.tried.add(pick.server);
        self.attempts = self.attempts.saturating_add(1);
        Ok(pick)
    }

    /// An attempt is a bond, whatever comes of it.
    fn next_of_pen(
        &mut self,
        service: &ServicePlan,
        rules: crate::config::model::PenRules,
        clients: &ClientTable,
        now: Time,
        unix: u32,
    ) -> Result<Pick, NoServer> {
        let pick = self
            .way
            .next(service, rules, &self.client, now)
            .ok_or_else(|| NoServer::explain(service, &self.client, &self.tried, service.stubborn))?;
        if let Some((sticky, server)) = to_be_remembered(service, pick.server) {
            clients.remember(service.id, self.client.peer.ip(), server, unix, sticky.refresh);
        }
        Ok(pick)
    }

    /// A client that opens several connections at once must not be bound to several servers: the first claim wins, and
    /// the others follow it if its server still takes them.
    fn next_of_house(
        &self,
        service: &ServicePlan,
        clients: &ClientTable,
        now: Time,
        unix: u32,
    ) -> Result<Pick, NoServer> {
        let chosen = select::pick(service, &self.client, &self.tried, now)?;
        if self.client.remembered.is_some() || self.attempts > 0 {
            return Ok(chosen);
        }
        let Some((sticky, own)) = to_be_remembered(service, chosen.server) else { return Ok(chosen) };
        let winner = clients.claim(service.id, self.client.peer.ip(), own, unix, sticky.keep);
        if winner == own {
            return Ok(chosen);
        }
        let follow = service.position(winner).and_then(|position| {
            let client = Client { remembered: Some(position), ..self.client.clone() };
            select::pick(service, &client, &self.tried, now).ok().filter(|other| other.server == position)
        });
        Ok(follow.unwrap_or(chosen))
    }

    /// The connect to `server` has completed: its place counts, its failures are forgiven, the client is remembered.
    pub fn connected(
        &self,
        service: &ServicePlan,
        clients: &ClientTable,
        server: usize,
        lease: &mut Lease,
        unix: u32,
    ) -> Connected {
        lease.connected();
        // Pen lets a blacklisting run to its end, and has remembered the attempt.
        let returned = !service.is_pen() && lease.server().exonerate();
        if let (false, Some((sticky, id))) = (service.is_pen(), to_be_remembered(service, server)) {
            clients.remember(service.id, self.client.peer.ip(), id, unix, sticky.refresh);
        }
        Connected { returned, failed_over: self.attempts > 1 }
    }

    /// The server refused, did not answer in time, or cannot be reached: it is left alone for the service's time. True if
    /// that is news. Not for what is this node's own fault.
    #[must_use]
    pub fn failed(service: &ServicePlan, server: usize, now: Time) -> bool {
        service.servers.get(server).is_some_and(|server| server.state.blacklist(now, service.blacklist))
    }

    /// Where the client comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// Whether the service is for this client, as its access list has it.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        self.client.permitted
    }
}

/// The client's connection to `server` lives on, or has just ended: it is remembered from now on, unless it has gone over
/// to another server since.
pub fn refresh(service: &ServicePlan, clients: &ClientTable, client: IpAddr, server: usize, unix: u32) {
    if let Some((sticky, server)) = to_be_remembered(service, server) {
        clients.refresh(service.id, client, server, unix, sticky.refresh);
    }
}

/// How, and under which name, clients of this server are remembered; `None` if they are not: see [`Admin::Drain`], and a
/// name beyond the limit stands for nobody. A client of the emergency server keeps the server that it had; Pen forgets
/// that one, and so must remember where the client was instead.
fn to_be_remembered(service: &ServicePlan, server: usize) -> Option<(Sticky, NameId)> {
    let (sticky, plan) = (service.sticky?, service.servers.get(server)?);
    let may = plan.admin == Admin::Ready && !service.id.is_none() && !plan.id.is_none();
    let bonds = service.is_pen() || service.role(server) == Role::Regular;
    (may && bonds).then_some((sticky, plan.id))
}

#[cfg(test)]
mod tests;
