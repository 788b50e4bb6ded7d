//! Direct server return, as configured.

use std::fmt;
use std::net::Ipv4Addr;

/// Requests go to the servers as whole frames, answers come to the clients without this node (docs/dsr.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The address that clients ask; on no interface of a balancer, and on every server where ARP does not show it.
    pub address: Ipv4Addr,
    /// Its port; `None`: all of them.
    pub port: Option<u16>,
    /// Who answers for the address in ARP, and where.
    pub place: Place,
    /// The access list of the addresses that belong to nobody, and keep busy whoever knocks there.
    pub tarpit: Option<String>,
}

/// Which node serves, on which interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The holder of this virtual address, on that one's interface.
    Vip(String),
    /// This node, on this interface; for a node that has no other beside it.
    Interface(String),
}

impl fmt::Display for Direct {
    /// `192.0.2.80:53`, or the address alone for all ports.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(out, "{}:{port}", self.address),
            None => self.address.fmt(out),
        }
    }
}
