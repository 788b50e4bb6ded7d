//! The checked model: what the rest of the program works with. Made only by the parser, so whatever holds one of
//! these holds something valid (parse, don't validate).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cygnet_ha::vip::{Mode, Protocol};

/// What is this node's own: one TOML file per node, never replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node's name; one of the members.
    pub name: String,
    /// Where the log, the snapshot and the last applied configuration live.
    pub state_dir: PathBuf,
    /// The API's Unix socket.
    pub api: PathBuf,
    /// Data path threads. Default: the number of CPUs.
    pub workers: usize,
    /// Where connections to servers start from.
    pub source: Source,
    /// The interface of the virtual addresses, unless `per_vip` says otherwise.
    pub interface: Option<String>,
    /// This node's priority in elections, unless `per_vip` says otherwise. Default 100.
    pub priority: u8,
    /// Exceptions per virtual address, by its name.
    pub per_vip: BTreeMap<String, NodeVip>,
    /// The cluster's name, the same on all nodes.
    pub cluster: String,
    /// All voters, this node among them. Identifiers and names are unique.
    pub members: Vec<Member>,
}

/// What differs on this node for one virtual address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeVip {
    /// The interface.
    pub interface: Option<String>,
    /// The priority.
    pub priority: Option<u8>,
}

/// One voter of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Raft identifier, 1.. ; never reused for another machine.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens for the other nodes; not a virtual address.
    pub address: SocketAddr,
    /// A third voter without traffic.
    pub witness: bool,
}

/// Where upstream connections start from (invariant 2: never from a virtual address).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's own address on the route to the server, virtual ones excluded.
    Auto,
    /// These addresses, at most one per family; checked not to be virtual.
    Fixed(Vec<IpAddr>),
}

/// What is the cluster's: one TOML text, replicated through the log, the same on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The virtual addresses; names, addresses and (protocol, id) are unique.
    pub vips: Vec<Vip>,
    /// The services; names and listening addresses are unique.
    pub services: Vec<Service>,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Who decides.
    pub protocol: Protocol,
    /// VRID or vhid.
    pub id: u8,
    /// Hold or watch.
    pub mode: Mode,
    /// Advertisement interval. Default 1 s.
    pub interval: Duration,
    /// Default true.
    pub preempt: bool,
    /// CARP only.
    pub password: Option<String>,
}

/// A balanced service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where clients connect: virtual addresses or own ones.
    pub listen: Vec<SocketAddr>,
    /// How a server is chosen for a client without a remembered one.
    pub algorithm: Algorithm,
    /// How long a client's server is remembered after its last connection; `None`: not at all.
    pub sticky: Option<Duration>,
    /// A server that does not accept within this time is passed over. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a server that failed is left alone. Default 30 s.
    pub blacklist: Duration,
    /// A connection without a byte either way for so long is closed; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Its servers; names are unique within the service.
    pub servers: Vec<Server>,
}

/// The way of choosing a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// Fewest connections per weight.
    LeastConnections,
}

/// A server behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// Share of connections, 1..=256. Default 1.
    pub weight: u16,
    /// Connections at once over all workers; 0 = no limit.
    pub max: u32,
}
