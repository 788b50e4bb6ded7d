//! What the data path works with: one immutable [`Plan`], swapped as a whole, and the counters that outlive plans.
//!
//! A plan is made from the cluster's configuration, the operator's wishes per server, and the address from which this
//! node connects to each server. Both come in from outside, so that nothing here asks the kernel or the log.
//! What changes while traffic runs lives in [`ServerState`] and [`ServiceState`]: atomics, found again by (service,
//! server, address) when the next plan is made.

mod state;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::balance::{ClientTable, NameId, Schedule};
use crate::config::model::{Algorithm, ClusterConfig, Endpoint, Server, Service, Transport};

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
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// How long a server that failed is left alone; zero: not at all.
    pub blacklist: Duration,
    /// How long a connection may be silent.
    pub idle_timeout: Option<Duration>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerPlan>,
    /// The turns of round robin.
    pub schedule: Schedule,
    /// What changes while traffic runs.
    pub state: Arc<ServiceState>,
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
    /// Its share, at least 1.
    pub weight: u16,
    /// Connections at once over all workers; 0 = no limit.
    pub max: u32,
    /// What the operator wants.
    pub admin: Admin,
    /// Where connections to it start from, or why none may be made: never from a virtual address.
    pub source: Result<Start, Arc<str>>,
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
}

/// The answer to: from which address does this node connect to this server?
pub type SourceOf<'a> = dyn Fn(&Service, &Server) -> Result<Start, String> + 'a;
/// The answer to: what does the operator want of this server (service, server)?
pub type AdminOf<'a> = dyn Fn(&str, &str) -> Admin + 'a;

/// Makes plans, and keeps what must outlive them.
#[derive(Debug)]
pub struct Registry {
    shards: usize,
    generation: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    services: HashMap<Arc<str>, Arc<ServiceState>>,
    servers: HashMap<(Arc<str>, Arc<str>, Endpoint), Arc<ServerState>>,
}

impl Registry {
    /// `workers`: how many threads will count; each gets its own cache lines.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { shards: workers.max(1), generation: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// The plan of `config`. Counters, blacklistings and limits of a server go on when its service, name and address
    /// are the same as before; they are forgotten when a plan does not have it and its last connection has ended.
    pub fn plan(
        &self,
        config: &ClusterConfig,
        clients: &ClientTable,
        admin: &AdminOf<'_>,
        source: &SourceOf<'_>,
    ) -> Plan {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let services: Vec<_> = config
            .services
            .iter()
            .map(|service| Arc::new(self.service(&mut kept, service, clients, admin, source)))
            .collect();
        kept.forget_the_unused();
        let listeners = services
            .iter()
            .flat_map(|service| service.addresses().map(|at| (at, Arc::clone(service))))
            .collect();
        Plan { generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1, services, listeners }
    }

    fn service(
        &self,
        kept: &mut Kept,
        service: &Service,
        clients: &ClientTable,
        admin: &AdminOf<'_>,
        source: &SourceOf<'_>,
    ) -> ServicePlan {
        let name: Arc<str> = Arc::from(service.name.as_str());
        let state = kept.services.entry(Arc::clone(&name)).or_insert_with(|| ServiceState::new(self.shards));
        let state = Arc::clone(state);
        let servers: Vec<_> = service
            .servers
            .iter()
            .map(|server| {
                let key = (Arc::clone(&name), Arc::from(server.name.as_str()), server.address.clone());
                let state = kept.servers.entry(key).or_insert_with(|| ServerState::new(self.shards));
                ServerPlan {
                    name: Arc::from(server.name.as_str()),
                    id: clients.name(&server.name),
                    address: server.address.clone(),
                    weight: server.weight.max(1),
                    max: server.max,
                    admin: admin(&service.name, &server.name),
                    source: source(service, server).map_err(Arc::from),
                    state: Arc::clone(state),
                }
            })
            .collect();
        ServicePlan {
            id: clients.name(&name),
            transport: service.transport,
            listen: service.listen.clone(),
            algorithm: service.algorithm,
            sticky: service.sticky.map(Sticky::from),
            connect_timeout: service.connect_timeout,
            blacklist: service.blacklist,
            idle_timeout: service.idle_timeout,
            schedule: Schedule::new(servers.iter().map(|server| server.weight)),
            name,
            servers,
            state,
        }
    }
}

impl Kept {
    /// Whatever is held by nobody else has neither a plan nor a connection.
    fn forget_the_unused(&mut self) {
        self.servers.retain(|_, state| Arc::strong_count(state) > 1);
        self.services.retain(|_, state| Arc::strong_count(state) > 1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
