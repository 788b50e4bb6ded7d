//! What the rules of choosing have in common: the client, its attempts, their outcome.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::plan::{Admin, Lease, ServicePlan};

/// Who lets clients in, and whom: an access list.
pub trait Permits: fmt::Debug + Send + Sync {
    /// Whether a client with this address may pass.
    fn permits(&self, client: IpAddr) -> bool;
}

/// Who asks for a server.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// Where it comes from; 0.0.0.0:0 from a Unix socket.
    pub(super) peer: SocketAddr,
    /// The position of the server that it is remembered with.
    pub(super) remembered: Option<usize>,
    /// The service is for it.
    pub(super) permitted: bool,
}

impl Client {
    /// Whether a list lets it in. Clients of a Unix socket pass everywhere: who may open it is said by its mode.
    pub(super) fn may_pass(&self, list: Option<&Arc<dyn Permits>>) -> bool {
        list.is_none_or(|list| is_unix(self.peer) || list.permits(self.peer.ip()))
    }
}

/// Whether this stands for a client of a Unix socket.
pub(super) fn is_unix(peer: SocketAddr) -> bool {
    peer.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && peer.port() == 0
}

/// The servers that this connection has tried (or found full), by position.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: u64,
    /// Servers beyond the first 64; allocated only when one of them has been tried.
    rest: Vec<u64>,
}

impl Tried {
    /// Marks a server.
    pub fn add(&mut self, server: usize) {
        let (word, bit) = (server / 64, 1 << (server % 64));
        if word == 0 {
            self.first |= bit;
            return;
        }
        if self.rest.len() < word {
            self.rest.resize(word, 0);
        }
        self.rest[word - 1] |= bit;
    }

    /// Whether a server is marked.
    #[must_use]
    pub fn has(&self, server: usize) -> bool {
        let (word, bit) = (server / 64, 1 << (server % 64));
        let marks = if word == 0 { self.first } else { self.rest.get(word - 1).copied().unwrap_or(0) };
        marks & bit != 0
    }

    /// Whether nothing has been tried yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0 && self.rest.iter().all(|word| *word == 0)
    }
}

/// A server, and a place at it.
#[derive(Debug)]
pub struct Pick {
    /// Its position in the service.
    pub server: usize,
    /// The place.
    pub lease: Lease,
    /// It is blacklisted and was chosen because nothing else is left.
    pub last_resort: bool,
}

/// Why there is no server for this attempt: how many of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoServer {
    /// The service is not for this client.
    pub denied: bool,
    /// A stubborn service sends no client to another server.
    pub stubborn: bool,
    /// Tried and failed for this connection.
    pub tried: usize,
    /// At their `max`.
    pub full: usize,
    /// Being drained.
    pub drained: usize,
    /// Down by their health checks, or left alone after a failure (only with Pen's rules a reason not to try).
    pub blacklisted: usize,
    /// Not for this client.
    pub barred: usize,
    /// Without an address to connect from; the reason of the first of them.
    pub sourceless: Option<(usize, Arc<str>)>,
}

impl fmt::Display for NoServer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denied {
            return out.write_str("the access list of the service denies the client");
        }
        let mut parts = Vec::new();
        let counted = [
            (self.tried, "failed"),
            (self.full, "at their limit"),
            (self.drained, "drained"),
            (self.blacklisted, "blacklisted"),
            (self.barred, "not for this client"),
        ];
        parts.extend(counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        if let Some((servers, reason)) = &self.sourceless {
            parts.push(format!("{servers} without a source address ({reason})"));
        }
        if parts.is_empty() {
            parts.push("the service has no servers".to_owned());
        }
        if self.stubborn {
            parts.push("the service is stubborn".to_owned());
        }
        out.write_str(&parts.join(", "))
    }
}

impl NoServer {
    /// Looks for the reasons among the regular servers, after the rules have found none.
    pub(super) fn explain(service: &ServicePlan, client: &Client, tried: &Tried, stubborn: bool) -> Self {
        let mut why = Self { denied: !client.permitted, stubborn, ..Self::default() };
        for (position, server) in service.regular().iter().enumerate() {
            match (&server.source, server.admin) {
                _ if tried.has(position) => why.tried += 1,
                (Err(reason), _) => {
                    why.sourceless.get_or_insert_with(|| (0, Arc::clone(reason))).0 += 1;
                }
                (_, Admin::Drain) => why.drained += 1,
                _ if !client.may_pass(server.acl.as_ref()) => why.barred += 1,
                _ if server.max > 0 && server.state.connections() >= server.max => why.full += 1,
                _ => why.blacklisted += 1,
            }
        }
        why
    }
}
