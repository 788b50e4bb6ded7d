//! Virtual addresses: the election ([`speaker`]), the observer ([`watch`]), the role of this node ([`holder`]), and the
//! [`driver`] that owns sockets and clock.
//!
//! Settings go in, [`VipView`]s come out; both are plain data.

pub mod driver;
pub mod fitness;
pub mod group;
pub mod holder;
pub mod peers;
pub mod speaker;
pub mod transfer;
pub mod watch;
mod wire_view;

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::vrrp::ChecksumForm;
use serde::{Deserialize, Serialize};

use transfer::{AtDeadline, Patience};
pub use wire_view::{AnomalyView, AnswerView, WireView};

/// A node's priority, unless it is told another (RFC 9568 section 5.2.4).
pub const DEFAULT_PRIORITY: u8 = 100;
/// Between two adverts, unless another interval is given (RFC 9568 section 6.1).
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Unicast peers may be beyond routers, as keepalived has it.
pub const MIN_TTL: u8 = 1;
/// Addresses that a line of text names one by one.
const SHOWN_MAX: usize = 3;

/// The protocol that decides who holds the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// VRRP version 2 (RFC 3768).
    Vrrp2,
    /// VRRP version 3 (RFC 9568).
    Vrrp3,
    /// CARP version 2 (OpenBSD, FreeBSD, ucarp).
    Carp,
}

/// Who moves the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Cygnet takes part in the election and adds and removes the address.
    Hold,
    /// Another daemon (keepalived, ucarp) does; Cygnet watches and never touches the address.
    Watch,
}

/// One virtual router (VRRP) or virtual host (CARP) as this node is to treat it: addresses that move together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSettings {
    /// The name in the configuration.
    pub name: String,
    /// The virtual addresses, in the order in which they are advertised; at least one, and of one family. Held as /32 or /128,
    /// so that the kernel never picks one as a source.
    pub addresses: Vec<IpAddr>,
    /// The interface on which it lives here.
    pub interface: String,
    /// VRID or vhid, 1..=255.
    pub id: u8,
    /// The protocol.
    pub protocol: Protocol,
    /// Hold or watch.
    pub mode: Mode,
    /// Priority of this node, 1..=254 (255 = owner). Higher is preferred.
    pub priority: u8,
    /// Advertisement interval; VRRPv3 counts in centiseconds, 10 ms ..= 40.95 s.
    pub interval: Duration,
    /// Whether this node takes the address from a living node of lower priority.
    pub preempt: bool,
    /// For so long such a node is heard before the address is taken from it.
    pub preempt_delay: Duration,
    /// CARP: what signs the adverts; needed to hold. VRRPv2: sent and expected in plain text. VRRPv3 has none.
    pub password: Option<String>,
    /// VRRPv3 over IPv4: what the checksum that we send covers; `None`: as the router that was heard last has it. Both forms
    /// are heard.
    pub checksum: Option<ChecksumForm>,
    /// The speakers, if they are unicast peers and not a multicast group: adverts go to each that is not this node, and only
    /// theirs are heard. One that is an address of this node is the source.
    pub peers: Vec<IpAddr>,
    /// Adverts of a peer with a lower TTL or hop limit are discarded; 1: none.
    pub min_ttl: u8,
    /// How long connections may go on through this node after the address was moved on purpose.
    pub patience: Patience,
    /// The group whose members have one role on a node, whatever becomes of one of them; `None`: it moves alone.
    pub sync_group: Option<String>,
}

impl VipSettings {
    /// With the defaults of the configuration: held, priority 100, an advert every second, preempting, no password.
    pub fn new(
        name: impl Into<String>,
        interface: impl Into<String>,
        protocol: Protocol,
        id: u8,
        addresses: Vec<IpAddr>,
    ) -> Self {
        Self {
            name: name.into(),
            addresses,
            interface: interface.into(),
            id,
            protocol,
            mode: Mode::Hold,
            priority: DEFAULT_PRIORITY,
            interval: DEFAULT_INTERVAL,
            preempt: true,
            preempt_delay: Duration::ZERO,
            password: None,
            checksum: None,
            peers: Vec::new(),
            min_ttl: MIN_TTL,
            patience: Patience::default(),
            sync_group: None,
        }
    }

    /// Whether it speaks over IPv4: the first address says so.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.addresses.first().is_none_or(IpAddr::is_ipv4)
    }
}

/// Several addresses in a line of text: the first few, and how many more.
#[must_use]
pub fn shown(addresses: &[IpAddr]) -> String {
    let (first, more) = addresses.split_at(addresses.len().min(SHOWN_MAX));
    let first: Vec<String> = first.iter().map(IpAddr::to_string).collect();
    let first = first.join(", ");
    if more.is_empty() { first } else { format!("{first} and {} more", more.len()) }
}

/// The role of this node for one virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not taking part: starting, stopped, interface missing or down (RFC 9568 "Initialize").
    Down,
    /// Ready to take over (RFC 9568 "Backup").
    Standby,
    /// Holding the address (RFC 9568 "Active").
    Active,
}

impl Role {
    /// Its stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Standby => "standby",
            Self::Active => "active",
        }
    }
}

/// What this node knows of one virtual address, for status, CLI and tests. Times are ages in milliseconds, so that
/// the view means the same wherever it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipView {
    /// The name in the configuration.
    pub name: String,
    /// The virtual address; of several, the first.
    pub address: IpAddr,
    /// All of them, in the order of the configuration.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The interface.
    pub interface: String,
    /// Protocol, mode and identifier.
    pub protocol: Protocol,
    /// Hold or watch.
    pub mode: Mode,
    /// VRID or vhid.
    pub id: u8,
    /// The group with which it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_group: Option<String>,
    /// This node's role. In watch mode: `Active` when the address is on our interface, else `Standby`.
    pub role: Role,
    /// Why it has this role, in one line.
    pub reason: String,
    /// For how long it has had this role, ms.
    pub role_age_ms: u64,
    /// This node's priority.
    pub priority: u8,
    /// The source address of whoever advertises as active (our own address when it is us); `None` when nobody is heard.
    pub holder: Option<IpAddr>,
    /// The holder's priority (VRRP) or advskew (CARP).
    pub holder_priority: Option<u8>,
    /// Age of the holder's last valid advertisement, ms.
    pub holder_heard_ms: Option<u64>,
    /// More than one speaker claims the address at this moment: their sources.
    pub rivals: Vec<IpAddr>,
    /// Whether the addresses are on the interface now, all of them, by the kernel's word.
    pub address_present: bool,
    /// Valid advertisements heard since start.
    pub adverts_heard: u64,
    /// Advertisements sent since start.
    pub adverts_sent: u64,
    /// Discarded packets, by reason, in alphabetical order.
    pub discarded: Vec<(String, u64)>,
    /// What else was heard of it.
    #[serde(default)]
    pub wire: WireView,
    /// What is left of planned moves.
    #[serde(default)]
    pub moved: MovedView,
}

/// Connections of a virtual address that a planned move has left on another node than the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedView {
    /// Those that go on here although the address has moved.
    pub left: Option<LeftView>,
    /// Those of another node whose packets this one sends on.
    pub sends_on: Option<SendsOnView>,
    /// What stands for it in nf_tables, as nft names it: family, table, chain.
    pub rules: Vec<String>,
}

/// Connections that go on here although the address has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftView {
    /// The node that has the address, and sends their packets on.
    pub through: String,
    /// Since the move, ms.
    pub since_ms: u64,
    /// So many there were then.
    pub of: usize,
    /// So many are left; looked at every second.
    pub left: usize,
    /// Until the deadline, ms; 0: it is over; `None`: there is none.
    pub deadline_ms: Option<u64>,
    /// What happens then.
    pub at_deadline: AtDeadline,
    /// So many were closed at the deadline.
    pub closed: usize,
}

/// Connections of another node whose packets this one sends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendsOnView {
    /// That node.
    pub to: String,
    /// How many, by its own word.
    pub connections: usize,
    /// Since the move was begun, ms.
    pub since_ms: u64,
}
