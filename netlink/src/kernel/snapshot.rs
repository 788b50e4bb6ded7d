//! What the kernel knew at one moment, as plain data.

use std::net::IpAddr;

use crate::wire::Mac;

/// Links, addresses and routes at one moment, in the kernel's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All interfaces.
    pub links: Vec<Link>,
    /// All addresses of these interfaces.
    pub addresses: Vec<Address>,
    /// The routes of the main table; a route over several next hops appears once for each.
    pub routes: Vec<Route>,
    /// Some were left out ([`super::ROUTES_MAX`], [`super::LINKS_MAX`]).
    pub truncated: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a deleted and recreated interface gets a new one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its link-layer address; zero if it has none.
    pub mac: Mac,
    /// Switched on, and with a carrier.
    pub up: bool,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's index.
    pub interface: u32,
    /// The address of this host.
    pub address: IpAddr,
    /// Length of the prefix, bits.
    pub prefix: u8,
    /// The other end of a point-to-point address, to which the prefix then applies.
    pub peer: Option<IpAddr>,
    /// The kernel may not use it yet, or never: duplicate detection runs, or has found a duplicate.
    pub tentative: bool,
    /// Not to be used for new connections (preferred lifetime over).
    pub deprecated: bool,
    /// IPv6: made up for privacy and replaced after some time. (IPv4: never.)
    pub temporary: bool,
    /// Valid beyond this link and this host, by the scope that its owner gave it.
    pub global: bool,
    /// Marked as added by Cygnet (Linux 5.18; older kernels forget the mark).
    pub ours: bool,
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Refuses or drops it (`unreachable`, `blackhole`, `prohibit`).
    Reject,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpAddr,
    /// Length of the destination's prefix, bits; 0 is the default route.
    pub prefix: u8,
    /// The next router; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface's index; 0 for [`RouteKind::Reject`].
    pub interface: u32,
    /// The source address that this route asks for.
    pub preferred_source: Option<IpAddr>,
    /// Of routes with equal prefixes the lowest wins.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
}

impl Snapshot {
    /// The interface with this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface with this index.
    pub fn link_at(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Whether the interface with this index has the address, with whatever prefix.
    pub fn has_address(&self, interface: u32, address: IpAddr) -> bool {
        self.addresses.iter().any(|entry| entry.interface == interface && entry.address == address)
    }
}
