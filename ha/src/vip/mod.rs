//! Virtual addresses: the election ([`speaker`]), the observer ([`watch`]), the role of this node ([`holder`]), and the
//! [`driver`] that owns sockets and clock.
//!
//! Settings go in, [`VipView`]s come out; both are plain data.

pub mod driver;
pub mod fitness;
pub mod holder;
pub mod peers;
pub mod speaker;
pub mod watch;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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

/// One virtual address as this node is to treat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipSettings {
    /// The name in the configuration.
    pub name: String,
    /// The virtual address. Held as /32 or /128, so that the kernel never picks it as a source.
    pub address: IpAddr,
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
    /// CARP: what signs the adverts; needed to hold. VRRPv2: sent and expected in plain text. VRRPv3 has none.
    pub password: Option<String>,
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

/// What this node knows of one virtual address, for status, CLI and tests. Times are ages in milliseconds, so that
/// the view means the same wherever it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipView {
    /// The name in the configuration.
    pub name: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The interface.
    pub interface: String,
    /// Protocol, mode and identifier.
    pub protocol: Protocol,
    /// Hold or watch.
    pub mode: Mode,
    /// VRID or vhid.
    pub id: u8,
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
    /// Whether the address is on the interface now, by the kernel's word.
    pub address_present: bool,
    /// Valid advertisements heard since start.
    pub adverts_heard: u64,
    /// Advertisements sent since start.
    pub adverts_sent: u64,
    /// Discarded packets, by reason, in alphabetical order.
    pub discarded: Vec<(String, u64)>,
}
