//! Pen's order, to the letter, for the front end that takes Pen's options.
//!
//! An initial server is chosen (the client's last one, or by priority, weight, hash or turn), and tried whatever its
//! state. If it refuses, the others are tried in the order of their numbers, up to and including the initial one, then
//! the emergency server. A blacklisted server refuses: it is never a last resort.
//!
//! A slot without an address is never chosen nor tried; Pen itself takes such a slot 0 for a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cygnet_ha::time::Time;

use super::attempt::{Client, Pick, is_unix};
use crate::config::model::{Endpoint, PenRules};
use crate::plan::{ServerPlan, ServicePlan};

/// How far one connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing has been tried.
    #[default]
    Begin,
    /// Round the servers: the one tried last, and where it began.
    Circle { initial: usize, tried: usize },
    /// All regular servers have refused, or there was none to begin with.
    Emergency,
    /// Nothing follows.
    End,
}

impl Way {
    /// The next server for this connection; asked again when that one has failed.
    pub(super) fn next(
        &mut self,
        service: &ServicePlan,
        rules: PenRules,
        client: &Client,
        now: Time,
    ) -> Option<Pick> {
        let asking = Asking { service, client, now };
        if *self == Self::Begin {
            let initial = asking.initial(rules);
            *self = match initial {
                Some(server) if service.abuse == Some(server) => Self::End,
                Some(server) => Self::Circle { initial: server, tried: server },
                None => Self::Emergency,
            };
            if let Some(pick) = initial.and_then(|server| asking.attempt(server)) {
                return Some(pick);
            }
        }
        if service.stubborn {
            *self = Self::End;
        }
        self.failover(&asking)
    }

    fn failover(&mut self, asking: &Asking<'_>) -> Option<Pick> {
        let servers = asking.service.regular;
        while let Self::Circle { initial, tried } = *self {
            if servers < 2 {
                *self = Self::Emergency;
                break;
            }
            let next = (tried + 1) % servers;
            *self = if next == initial { Self::Emergency } else { Self::Circle { initial, tried: next } };
            if let Some(pick) = asking.attempt(next) {
                return Some(pick);
            }
        }
        if *self == Self::Emergency {
            *self = Self::End;
            return asking.service.emergency.and_then(|server| asking.attempt(server));
        }
        None
    }
}

/// One question.
struct Asking<'a> {
    service: &'a ServicePlan,
    client: &'a Client,
    now: Time,
}

impl Asking<'_> {
    fn initial(&self, rules: PenRules) -> Option<usize> {
        if !self.client.permitted {
            return self.service.abuse;
        }
        let last = self.client.remembered.filter(|last| *last < self.service.regular);
        if let (false, Some(last)) = (rules.round_robin, last) {
            return Some(last);
        }
        if rules.prio {
            self.by_priority()
        } else if rules.weight {
            self.by_weight()
        } else if rules.hash {
            hash(self.client.peer, self.service.regular, rules.round_robin)
        } else {
            self.in_turn()
        }
    }

    fn available(&self) -> impl Iterator<Item = (usize, &ServerPlan)> {
        let servers = self.service.regular().iter().enumerate();
        servers.filter(|(_, server)| is_in_use(server) && !self.is_blacklisted(server))
    }

    fn is_blacklisted(&self, server: &ServerPlan) -> bool {
        server.state.standing(self.now, self.service.blacklist).is_left_alone()
    }

    fn by_priority(&self) -> Option<usize> {
        self.available().min_by_key(|(_, server)| server.priority).map(|(position, _)| position)
    }

    fn by_weight(&self) -> Option<usize> {
        let weighty = self.available().filter(|(_, server)| server.weight > 0);
        let load =
            |server: &ServerPlan| 256 * u64::from(server.state.connections()) / u64::from(server.weight);
        weighty.min_by_key(|(_, server)| load(server)).map(|(position, _)| position)
    }

    /// The next one after the one chosen last; that one again if there is no other.
    fn in_turn(&self) -> Option<usize> {
        let last = self.service.state.last_in_turn();
        let after = self.available().map(|(position, _)| position).find(|position| *position > last);
        let chosen = after.or_else(|| self.available().map(|(position, _)| position).next())?;
        self.service.state.set_last_in_turn(chosen);
        Some(chosen)
    }

    /// Takes a place at a server, unless it refuses.
    fn attempt(&self, position: usize) -> Option<Pick> {
        let server = self.service.servers.get(position)?;
        let refuses = !is_in_use(server)
            || server.address.inet().is_some_and(|address| address.port() == 0)
            || server.source.is_err()
            || self.is_blacklisted(server)
            || !self.client.may_pass(server.acl.as_ref());
        if refuses {
            return None;
        }
        let own = self.client.remembered == Some(position);
        let limit = if own && server.max > 0 { server.max.max(server.hard) } else { server.max };
        let lease = server.state.admit(limit)?;
        self.service.state.set_current(position);
        Some(Pick { server: position, lease, last_resort: false })
    }
}

/// Whether a slot of the table has a server.
fn is_in_use(server: &ServerPlan) -> bool {
    match &server.address {
        Endpoint::Inet(address) => address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Endpoint::Unix(_) => true,
    }
}

/// IPv4: the address as the number that its bytes are in the memory of a little-endian machine, with the port (likewise)
/// if wanted. IPv6: the last byte. Nobody asks whether that server is there.
fn hash(peer: SocketAddr, servers: usize, with_port: bool) -> Option<usize> {
    let number = match peer.ip() {
        _ if is_unix(peer) => 0,
        IpAddr::V4(v4) => {
            let port = if with_port { peer.port().swap_bytes() } else { 0 };
            u32::from_le_bytes(v4.octets()) ^ u32::from(port)
        }
        IpAddr::V6(v6) => u32::from(v6.octets()[15]),
    };
    (number as usize).checked_rem(servers)
}

#[cfg(test)]
mod tests;
