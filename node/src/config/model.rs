//! The checked model: what the rest of the program works with. Made only by the parser, so whatever holds one of
//! these holds something valid (parse, don't validate).

mod check;
mod direct;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cygnet_ha::consensus::LogLimits;
use cygnet_ha::vip::transfer::Patience;
use cygnet_ha::vip::{Mode, Protocol};
use cygnet_netlink::wire::vrrp::ChecksumForm;

use super::cluster::{DEFAULT_BLACKLIST, DEFAULT_CONNECT_TIMEOUT, DEFAULT_IDLE_TIMEOUT};

pub use direct::{Direct, Place};

pub use check::{
    Check, CheckKind, DEFAULT_CHECK_INTERVAL, DEFAULT_CHECK_TIMEOUT, DEFAULT_FALL, DEFAULT_RISE, HttpCheck,
    STATUS_RANGES_MAX, Statuses, StatusesError, Talk,
};

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
    /// The country database (MaxMind's format) for access lists that name countries.
    pub countries: Option<PathBuf>,
    /// Who may use the API; `None`: whoever may open its socket, for everything.
    pub roles: Option<ApiRoles>,
    /// When the log is cut, and what stays of it.
    pub storage: LogLimits,
    /// The links between the nodes are plain, and the first members are those of the file.
    pub insecure: bool,
    /// With `insecure` the first voters, this node among them. Otherwise this node alone, until its state directory says
    /// which cluster it has joined. Identifiers and names are unique.
    pub members: Vec<Member>,
}

/// Who may use the API, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRoles {
    /// Those who may change something.
    pub operators: Vec<Whom>,
    /// Those who may look.
    pub readers: Vec<Whom>,
}

/// Users of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One, by name.
    User(String),
    /// The members of a group.
    Group(String),
    /// All.
    Everybody,
}

/// What differs on this node for one virtual address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeVip {
    /// The interface.
    pub interface: Option<String>,
    /// The priority; 255 for the owner of the address.
    pub priority: Option<u8>,
    /// CARP: the advskew, instead of the priority.
    pub advskew: Option<u8>,
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
    /// The access lists; names are unique.
    pub acls: Vec<Acl>,
}

/// A virtual router (VRRP) or virtual host (CARP): a virtual address, or several that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Its name.
    pub name: String,
    /// The addresses, in the order in which they are advertised; at least one, of one family.
    pub addresses: Vec<IpAddr>,
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
    /// For so long a holder of lower priority is left alone. Default 0.
    pub preempt_delay: Duration,
    /// How long connections may go on through a node from which the address was moved on purpose. Default: until they end.
    pub patience: Patience,
    /// CARP: needed to hold. VRRPv2: at most eight bytes. VRRPv3 has none.
    pub password: Option<String>,
    /// VRRPv3 over IPv4: what the checksum covers; `None`: as the speaker that was heard last.
    pub checksum: Option<ChecksumForm>,
    /// The unicast peers, of the family of the addresses; nobody: the multicast group.
    pub peers: Vec<IpAddr>,
    /// The least TTL of what comes from a peer. Default 1.
    pub min_ttl: u8,
    /// The group whose members one node holds together.
    pub sync_group: Option<String>,
}

/// A place to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// An address and a port.
    Inet(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The address and the port, unless it is a Unix socket.
    #[must_use]
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

/// What a service carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams.
    Udp,
}

/// A balanced service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Connections or datagrams.
    pub transport: Transport,
    /// Where clients connect: virtual addresses or own ones.
    pub listen: Vec<Endpoint>,
    /// How a server is chosen for a client without a remembered one.
    pub algorithm: Algorithm,
    /// How long a client's server is remembered after its last connection; `None`: not at all. [`Duration::MAX`]: as
    /// long as there is room.
    pub sticky: Option<Duration>,
    /// A client whose server fails is closed, not sent to another one.
    pub stubborn: bool,
    /// Serves when no other server can.
    pub emergency: Option<Server>,
    /// Gets the clients that `clients` denies, instead of a refusal.
    pub abuse: Option<Server>,
    /// The access list that clients must pass.
    pub clients: Option<String>,
    /// A server that does not accept within this time is passed over. Default 3 s.
    pub connect_timeout: Duration,
    /// How long a server that failed is left alone. Default 30 s.
    pub blacklist: Duration,
    /// A connection without a byte either way for so long is closed; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Whose end of stream ends the connection at once.
    pub fast_close: FastClose,
    /// `SO_KEEPALIVE` towards clients and servers.
    pub keepalive: bool,
    /// Connections to servers start from the client's own address.
    pub transparent: bool,
    /// Where connections to servers start from, instead of the node's `source`.
    pub source: Option<IpAddr>,
    /// No server is asked: every client gets the same small page, to try a balancer without servers.
    pub dummy: bool,
    /// Connections to the servers that are kept open without a client, in turn; 0: none.
    pub idlers: u32,
    /// What its servers are asked, to know whether they are well; `None`: nothing.
    pub check: Option<Check>,
    /// Frames are passed on to the servers, which answer clients themselves; then there are no connections here.
    pub dsr: Option<Direct>,
    /// HTTP headers are read and added.
    pub http: Option<Http>,
    /// Clients speak TLS, and this service ends it.
    pub tls: Option<TlsListen>,
    /// TLS passed through: other services by the name that the client asks for. The first that fits counts; clients
    /// that no route fits stay with this service.
    pub routes: Vec<Route>,
    /// Its servers; names are unique within the service.
    pub servers: Vec<Server>,
}

impl Service {
    /// A TCP service with the defaults of the file, without listeners and servers.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            transport: Transport::Tcp,
            listen: Vec::new(),
            algorithm: Algorithm::RoundRobin,
            sticky: None,
            stubborn: false,
            emergency: None,
            abuse: None,
            clients: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            blacklist: DEFAULT_BLACKLIST,
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            fast_close: FastClose::Off,
            keepalive: false,
            transparent: false,
            source: None,
            dummy: false,
            idlers: 0,
            check: None,
            dsr: None,
            http: None,
            tls: None,
            routes: Vec::new(),
            servers: Vec::new(),
        }
    }
}

/// The way of choosing a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// Fewest connections per weight.
    LeastConnections,
    /// The lowest `priority` that can serve.
    Priority,
    /// By the client's address: the same server as long as the set of servers stands.
    SourceHash {
        /// With the client's port.
        with_port: bool,
    },
    /// Pen's order, to the letter. Not in files: for the front end that takes Pen's options.
    Pen(PenRules),
}

/// Pen's switches for choosing a server; the first that is on decides, in the order prio, weight, hash, round robin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PenRules {
    /// `prio`.
    pub prio: bool,
    /// `weight`.
    pub weight: bool,
    /// `hash`.
    pub hash: bool,
    /// `roundrobin`: no tracking, and the port counts for `hash`.
    pub round_robin: bool,
}

/// Whose end of stream closes both sides, as soon as nothing waits to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastClose {
    /// Nobody's: an end is passed on, and the other direction goes on.
    #[default]
    Off,
    /// The server's.
    Up,
    /// The client's.
    Down,
    /// Either's.
    Both,
}

/// What is done to HTTP heads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Whether, and how, `X-Forwarded-For` and `X-Forwarded-Proto` are set.
    pub forwarded: Forwarded,
    /// `Strict-Transport-Security` in answers over TLS: its value.
    pub hsts: Option<String>,
    /// As Pen does it: what is not understood goes on as it is, instead of being refused.
    pub lenient: bool,
}

/// What happens to `X-Forwarded-For` and `X-Forwarded-Proto` of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing.
    #[default]
    Keep,
    /// Those of the client are removed, ours are set: nobody can forge them.
    Replace,
    /// Our address is added to the list of a client that is known to be a proxy.
    Append,
    /// Set where there is none, as Pen does it.
    IfAbsent,
}

/// How clients' TLS is ended. Files are each node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsListen {
    /// The certificate for clients that ask for no name that `names` has, with its chain (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM); `None`: in the same file.
    pub key: Option<PathBuf>,
    /// More certificates of the chain (PEM).
    pub chain: Option<PathBuf>,
    /// A directory with `NAME.crt`, `NAME.key`, `NAME.ca`, `NAME.ocsp` per server name.
    pub names: Option<PathBuf>,
    /// The OCSP response to hand out (DER).
    pub ocsp: Option<PathBuf>,
    /// Authorities of client certificates (PEM file); with it a certificate is asked for.
    pub client_authorities: Option<PathBuf>,
    /// The same as a directory of hashed names.
    pub client_authorities_directory: Option<PathBuf>,
    /// A client without a certificate that passes is refused.
    pub client_required: bool,
    /// The oldest protocol.
    pub oldest: TlsVersion,
    /// The newest protocol; `None`: the library's.
    pub newest: Option<TlsVersion>,
    /// The cipher list for TLS 1.2 and older, in OpenSSL's words; `None`: AEAD with forward secrecy only.
    pub ciphers: Option<String>,
    /// Our order of ciphers counts.
    pub prefer_own_order: bool,
    /// Protocols above TLS (ALPN) that are offered, most wanted first; empty: none are negotiated.
    pub alpn: Vec<String>,
}

impl TlsListen {
    /// The defaults (TLS 1.2 and 1.3, forward secrecy, AEAD) with this certificate.
    #[must_use]
    pub fn new(certificate: PathBuf) -> Self {
        Self {
            certificate,
            key: None,
            chain: None,
            names: None,
            ocsp: None,
            client_authorities: None,
            client_authorities_directory: None,
            client_required: false,
            oldest: TlsVersion::Tls12,
            newest: None,
            ciphers: None,
            prefer_own_order: true,
            alpn: Vec::new(),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0; only Pen's defaults allow it.
    Tls10,
    /// 1.1; only Pen's defaults allow it.
    Tls11,
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// TLS towards a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConnect {
    /// The name that the certificate must have, and that is asked for; `None`: the server's address.
    pub name: Option<String>,
    /// Authorities (PEM file); `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// Takes any certificate. Only when the operator says so.
    pub insecure: bool,
    /// A certificate to show, with its key (PEM).
    pub certificate: Option<PathBuf>,
}

/// Where TLS connections for a name go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Names; `*.example.org` stands for every name one label below.
    pub names: Vec<String>,
    /// The service; it may have no listener of its own.
    pub service: String,
}

/// A server behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Endpoint,
    /// Share of connections, 1..=256 (0 only with Pen's rules: none). Default 1.
    pub weight: u16,
    /// The lower the earlier, with [`Algorithm::Priority`].
    pub priority: i32,
    /// Connections at once over all workers; 0 = no limit.
    pub max: u32,
    /// The limit for clients whose remembered server this is, if it is larger than `max`.
    pub hard: u32,
    /// The access list that clients of this server must pass.
    pub acl: Option<String>,
    /// The port that the health check asks, instead of the one for connections.
    pub check_port: Option<u16>,
    /// The server speaks TLS.
    pub tls: Option<TlsConnect>,
}

impl Server {
    /// A server with the defaults of the file.
    pub fn new(name: impl Into<String>, address: impl Into<Endpoint>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            weight: 1,
            priority: 0,
            max: 0,
            hard: 0,
            acl: None,
            check_port: None,
            tls: None,
        }
    }
}

/// An access list. The first entry that fits decides; none: the opposite of the last entry; an empty list permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Its name.
    pub name: String,
    /// Its entries.
    pub entries: Vec<AclEntry>,
}

/// One entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry {
    /// Permits, or denies.
    pub permit: bool,
    /// Whom.
    pub who: AclMatch,
}

/// Whom an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclMatch {
    /// Clients whose address, cut by the mask, is `address` (bits of `address` outside the mask fit nobody, as in Pen).
    V4 {
        /// The address.
        address: Ipv4Addr,
        /// Any mask.
        mask: Ipv4Addr,
    },
    /// Clients whose first `prefix` bits are those of `address`.
    V6 {
        /// The address.
        address: Ipv6Addr,
        /// 0..=128.
        prefix: u8,
    },
    /// Clients of a country, two capital letters, as the node's country database has it.
    Country([u8; 2]),
}
