//! What the data path works with: one immutable [`Plan`], swapped as a whole, and the counters that outlive plans.
//!
//! A plan is made from the cluster's configuration, the operator's wishes per server, and the address from which this
//! node connects to each server. Both come in from outside, so that nothing here asks the kernel or the log.
//! What changes while traffic runs lives in [`ServerState`] and [`ServiceState`]: atomics, found again by (service,
//! server, address) when the next plan is made.

mod files;
mod lists;
mod registry;
mod routes;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::time::Time;

use crate::balance::{NameId, Permits, Schedule};
use crate::config::model::{Algorithm, Check, Direct, Endpoint, FastClose, Transport};
use crate::proxy::http::HttpPlan;
use crate::proxy::observer::Observer;
use crate::proxy::tls::{ClientContext, ServerContext};

pub use files::{Fault, Ready, Refreshed, check_files};
pub use registry::{AdminOf, Registry, SourceOf};
pub use routes::Routes;
pub use state::{Counter, Lease, Limiter, ServerShard, ServerState, ServiceShard, ServiceState, Standing};

/// A service remembers clients to this part of its `sticky` time: a client that comes again and again is written down
/// (and told to the other nodes) once in `sticky / 16`, not once a connection.
const REFRESHES_PER_STICKY: u64 = 16;

/// What the operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// Serves.
    #[default]
    Ready,
    /// Gets no new clients. Its connections go on, and clients that are remembered still come to it, as everywhere in
    /// the field; but new connections do not prolong their memory, so that a drain comes to its end.
    Drain,
}

/// Everything that the data path needs to know, at one moment.
#[derive(Debug, Default)]
pub struct Plan {
    /// Grows with each plan of a [`Registry`].
    pub generation: u64,
    /// The services, in the order of the configuration.
    pub services: Vec<Arc<ServicePlan>>,
    listeners: BTreeMap<ListenAt, Arc<ServicePlan>>,
    /// What could not be had from this node's files.
    pub faults: Vec<Fault>,
}

/// Where something is listened for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenAt {
    /// Connections or datagrams.
    pub transport: Transport,
    /// The address, or the path.
    pub endpoint: Endpoint,
}

impl ListenAt {
    /// Connections to this address.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, endpoint: Endpoint::Inet(address) }
    }
}

impl fmt::Display for ListenAt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => self.endpoint.fmt(out),
            Transport::Udp => write!(out, "udp {}", self.endpoint),
        }
    }
}

/// Where connections to a server start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From this address.
    At(IpAddr),
    /// From where the kernel likes: Unix sockets, and Pen's front end, which has no virtual addresses.
    Kernel,
}

impl Start {
    /// The address, if it is a certain one.
    #[must_use]
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Kernel => None,
        }
    }
}

/// A service, ready to be served.
#[derive(Debug)]
pub struct ServicePlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its name in the client table.
    pub id: NameId,
    /// Connections or datagrams.
    pub transport: Transport,
    /// Where it listens.
    pub listen: Vec<Endpoint>,
    /// How a server is chosen.
    pub algorithm: Algorithm,
    /// How long a client's server is remembered.
    pub sticky: Option<Sticky>,
    /// A client whose server fails is closed, not sent to another one.
    pub stubborn: bool,
    /// Whom the service is for; others go to the `abuse` server, or are refused.
    pub clients: Option<Arc<dyn Permits>>,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long a server that failed is left alone; zero: not at all.
    pub blacklist: Duration,
    /// How long a connection may be silent.
    pub idle_timeout: Option<Duration>,
    /// Whose end of stream ends the connection at once.
    pub fast_close: FastClose,
    /// `SO_KEEPALIVE` towards clients and servers.
    pub keepalive: bool,
    /// Connections to servers start from the client's own address, where the families are the same.
    pub transparent: bool,
    /// No server is asked: every client gets the same small page.
    pub dummy: bool,
    /// Connections to the servers that are kept open without a client, in turn.
    pub idlers: u32,
    /// What its servers are asked, to know whether they are well. Not for the workers.
    pub check: Option<Arc<Check>>,
    /// Direct server return: frames are passed on, beside the workers; and for which addresses the tarpit answers.
    pub direct: Option<DirectPlan>,
    /// What is done to HTTP heads; `None`: bytes pass as they are.
    pub http: Option<Arc<HttpPlan>>,
    /// False when the service lacks what it must not be served without: it has no listeners then.
    pub may_listen: bool,
    /// Who sees what passes. `None` costs nothing.
    pub observer: Option<Arc<dyn Observer>>,
    /// Clients speak TLS, and it ends here; or why that cannot be, then nobody is served. `None`: bytes pass as they are.
    pub tls: Option<Ready<ServerContext>>,
    /// TLS passed through: which names go to which other service.
    pub routes: Option<Routes>,
    /// Its servers, in the order of the configuration; after the first `regular` ones come `emergency` and `abuse`.
    pub servers: Vec<ServerPlan>,
    /// How many servers take part in the ordinary choice.
    pub regular: usize,
    /// The position of the server that serves when no other can.
    pub emergency: Option<usize>,
    /// The position of the server for clients whom `clients` does not permit.
    pub abuse: Option<usize>,
    /// The turns of round robin over the regular servers.
    pub schedule: Schedule,
    /// What changes while traffic runs.
    pub state: Arc<ServiceState>,
}

/// Direct server return, ready to be served.
#[derive(Clone, Debug)]
pub struct DirectPlan {
    /// What is configured.
    pub settings: Direct,
    /// The addresses of the tarpit.
    pub tarpit: Option<Arc<dyn Permits>>,
}

/// How clients are remembered, in whole seconds, for the table counts in these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// A client that was not seen for longer is a new one, s.
    pub keep: u32,
    /// A client that comes again is written down when its entry is older than this, s.
    pub refresh: u32,
}

impl From<Duration> for Sticky {
    fn from(sticky: Duration) -> Self {
        let keep = sticky.as_secs().max(1);
        let refresh = (keep / REFRESHES_PER_STICKY).max(1);
        let whole = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
        Self { keep: whole(keep), refresh: whole(refresh) }
    }
}

/// A server, ready to be connected to.
#[derive(Debug)]
pub struct ServerPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Its name in the client table.
    pub id: NameId,
    /// Its address.
    pub address: Endpoint,
    /// Its share, at least 1 (with Pen's rules 0 means none).
    pub weight: u16,
    /// The lower the earlier.
    pub priority: i32,
    /// Connections at once over all workers; 0 = no limit.
    pub max: u32,
    /// The limit for clients whose remembered server this is, if it is larger than `max`.
    pub hard: u32,
    /// Which clients may come here.
    pub acl: Option<Arc<dyn Permits>>,
    /// What its name comes to in hashing, the same on all nodes.
    pub hash: u64,
    /// What the operator wants.
    pub admin: Admin,
    /// Where connections to it start from, or why none may be made: never from a virtual address.
    pub source: Result<Start, Arc<str>>,
    /// The port that its health check asks, if it is another one.
    pub check_port: Option<u16>,
    /// The server speaks TLS; or why we cannot, then every attempt fails.
    pub tls: Option<Ready<ClientContext>>,
    /// What changes while traffic runs.
    pub state: Arc<ServerState>,
}

impl Plan {
    /// The service that listens on `address`.
    #[must_use]
    pub fn service_at(&self, address: &ListenAt) -> Option<&Arc<ServicePlan>> {
        self.listeners.get(address)
    }

    /// All listening addresses.
    pub fn listeners(&self) -> impl Iterator<Item = (&ListenAt, &Arc<ServicePlan>)> {
        self.listeners.iter()
    }
}

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of those among which is chosen.
    Regular,
    /// Serves when no other can.
    Emergency,
    /// Serves those whom the service is not for.
    Abuse,
}

impl ServicePlan {
    /// Where it listens, and for what.
    pub fn addresses(&self) -> impl Iterator<Item = ListenAt> {
        self.listen.iter().map(|endpoint| ListenAt { transport: self.transport, endpoint: endpoint.clone() })
    }

    /// The position of the server with this name, if the service still has it.
    #[must_use]
    pub fn position(&self, server: NameId) -> Option<usize> {
        self.servers.iter().position(|known| known.id == server)
    }

    /// The servers among which is chosen.
    #[must_use]
    pub fn regular(&self) -> &[ServerPlan] {
        &self.servers[..self.regular]
    }

    /// What the server at this position is for.
    #[must_use]
    pub fn role(&self, position: usize) -> Role {
        match Some(position) {
            at if at == self.emergency => Role::Emergency,
            at if at == self.abuse => Role::Abuse,
            _ => Role::Regular,
        }
    }

    /// What the health checks and the past failures of the server at this position say.
    #[must_use]
    pub fn standing(&self, position: usize, now: Time) -> Standing {
        let server = self.servers.get(position);
        server.map_or(Standing::Good, |server| server.state.standing(now, self.blacklist))
    }

    /// Whether Pen's rules hold to the letter.
    #[must_use]
    pub fn is_pen(&self) -> bool {
        matches!(self.algorithm, Algorithm::Pen(_))
    }
}

#[cfg(test)]
pub(crate) mod tests;
