//! The source address towards a server: never a virtual one.
//!
//! Left alone, the kernel picks the virtual address in several everyday situations (it was added first; the own address
//! was removed and added again; only the virtual one is in the server's subnet; almost always in IPv6), and such a
//! connection dies with the next move of the address.

use std::cmp::Reverse;
use std::net::IpAddr;

use thiserror::Error;

use crate::kernel::{Address, Route, RouteKind, Snapshot};

/// Addresses that an error message lists before it says "and more".
const LISTED_MAX: usize = 3;

/// Why there is no source address for a target. The text ends with what helps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoSource {
    /// The target is no address of one host.
    #[error("{target} is not the address of a host; set the server's address to one")]
    NotUnicast {
        /// The server.
        target: IpAddr,
    },
    /// The main routing table says nothing about the target.
    #[error("there is no route to {target}; add one, or set source = \"ADDRESS\"")]
    NoRoute {
        /// The server.
        target: IpAddr,
    },
    /// The best route refuses packets.
    #[error("the route to {target} is \"unreachable\"; change it, or set source = \"ADDRESS\"")]
    Rejected {
        /// The server.
        target: IpAddr,
    },
    /// All routes lead through interfaces that are down.
    #[error("{interface}, which leads to {target}, is down; bring it up")]
    InterfaceDown {
        /// The server.
        target: IpAddr,
        /// The interface of the best route.
        interface: String,
    },
    /// Addresses there are, but all are virtual.
    #[error(
        "every address of {interface} that could reach {target} is virtual ({}); \
         give the node an address of its own there, or set source = \"ADDRESS\"", list(.addresses)
    )]
    OnlyVirtual {
        /// The server.
        target: IpAddr,
        /// The interface of the route.
        interface: String,
        /// The virtual addresses on it.
        addresses: Vec<IpAddr>,
    },
    /// No address of the right family and scope.
    #[error(
        "neither {interface} nor another interface has an address that can reach {target}; \
         give the node one, or set source = \"ADDRESS\""
    )]
    NoAddress {
        /// The server.
        target: IpAddr,
        /// The interface of the route.
        interface: String,
    },
    /// The snapshot does not hold everything, so a choice might be wrong.
    #[error("too many routes or addresses to choose a source for {target}; set source = \"ADDRESS\"")]
    Truncated {
        /// The server.
        target: IpAddr,
    },
}

fn list(addresses: &[IpAddr]) -> String {
    let mut text: Vec<String> = addresses.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    if addresses.len() > LISTED_MAX {
        text.push(format!("and {} more", addresses.len() - LISTED_MAX));
    }
    text.join(", ")
}

/// How packets leave towards the target.
struct Path {
    interface: u32,
    /// Who gets the frames: the target itself, or the next router.
    neighbour: IpAddr,
    /// The subnet, if the target is on the link.
    on_link: Option<(IpAddr, u8)>,
    preferred: Option<IpAddr>,
}

/// Chooses the address of this node from which to connect to `target`.
///
/// The route is the best of the main table whose interface is up (rules and other tables are not looked at: set the
/// source there). Of the addresses that are neither virtual nor tentative nor deprecated the first wins that is
/// 1. on the route's interface in the subnet of the target or of the next router,
/// 2. the preferred source of the route,
/// 3. on the route's interface,
/// 4. global, on another interface.
///
/// A target that is an address of this node, or of its loopback, is its own best source.
pub fn choose(
    target: IpAddr,
    snapshot: &Snapshot,
    is_virtual: &dyn Fn(IpAddr) -> bool,
) -> Result<IpAddr, NoSource> {
    let target = target.to_canonical();
    if !is_host(target) {
        return Err(NoSource::NotUnicast { target });
    }
    if target.is_loopback() {
        return loopback(target, is_virtual);
    }
    if snapshot.truncated {
        return Err(NoSource::Truncated { target });
    }
    let path = match snapshot.addresses.iter().find(|own| own.address == target) {
        Some(own) if !own.tentative && !is_virtual(target) => return Ok(target),
        // The virtual address, held by us.
        Some(own) => Path { interface: own.interface, neighbour: target, on_link: None, preferred: None },
        None => route(target, snapshot)?,
    };
    let candidates = snapshot.addresses.iter().filter(|own| fits(own, target, snapshot));
    let best = candidates
        .filter(|own| !is_virtual(own.address.to_canonical()))
        .filter_map(|own| Some((rank(own, target, &path)?, own.address)))
        .min_by_key(|(rank, _)| *rank);
    best.map(|(_, address)| address).ok_or_else(|| none_left(target, &path, snapshot, is_virtual))
}

fn is_host(target: IpAddr) -> bool {
    let broadcast = matches!(target, IpAddr::V4(v4) if v4.is_broadcast());
    !target.is_unspecified() && !target.is_multicast() && !broadcast
}

fn loopback(target: IpAddr, is_virtual: &dyn Fn(IpAddr) -> bool) -> Result<IpAddr, NoSource> {
    let source = match target {
        IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(_) => target,
    };
    if is_virtual(source) {
        let interface = "lo".to_owned();
        return Err(NoSource::OnlyVirtual { target, interface, addresses: vec![source] });
    }
    Ok(source)
}

/// The longest prefix; of these the lowest metric; of these the first.
fn route(target: IpAddr, snapshot: &Snapshot) -> Result<Path, NoSource> {
    let is_usable = |route: &&Route| {
        route.kind == RouteKind::Reject || snapshot.link_at(route.interface).is_some_and(|link| link.up)
    };
    let matching = || snapshot.routes.iter().filter(|r| contains(r.destination, r.prefix, target));
    let order = |route: &&Route| (Reverse(route.prefix), route.metric);
    let Some(best) = matching().filter(is_usable).min_by_key(order) else {
        return Err(match matching().min_by_key(order) {
            Some(dead) => NoSource::InterfaceDown { target, interface: name(dead.interface, snapshot) },
            None => NoSource::NoRoute { target },
        });
    };
    if best.kind == RouteKind::Reject {
        return Err(NoSource::Rejected { target });
    }
    Ok(Path {
        interface: best.interface,
        neighbour: best.gateway.unwrap_or(target),
        on_link: best.gateway.is_none().then_some((best.destination, best.prefix)),
        preferred: best.preferred_source,
    })
}

/// Whether the address can be the source of a connection to the target at all.
fn fits(own: &Address, target: IpAddr, snapshot: &Snapshot) -> bool {
    let address = own.address;
    address.is_ipv4() == target.is_ipv4()
        && is_host(address)
        && !address.is_loopback()
        && (!is_link_local(address) || is_link_local(target))
        && !own.tentative
        && !own.deprecated
        && snapshot.link_at(own.interface).is_some_and(|link| link.up)
}

/// Smaller is better; `None`: not from here.
fn rank(own: &Address, target: IpAddr, path: &Path) -> Option<impl Ord + Copy + use<>> {
    let here = own.interface == path.interface;
    let far = is_link_local(own.address) || !own.global;
    let subnet_of_own = contains(own.peer.unwrap_or(own.address), own.prefix, path.neighbour);
    let subnet_of_route = path.on_link.is_some_and(|(net, len)| len > 0 && contains(net, len, own.address));
    let place = match here {
        true if subnet_of_own => 0,
        true if subnet_of_route => 1,
        _ if path.preferred == Some(own.address) => 2,
        true => 3,
        false if far => return None,
        false => 4,
    };
    // Within a place: like speaks to like (RFC 6724 rules 2 and 6), a lasting address before one made for privacy (the
    // servers' access lists know the former), the narrower subnet.
    let unlike = (
        is_link_local(own.address) != is_link_local(target),
        is_private_v6(own.address) != is_private_v6(target),
    );
    Some((place, unlike, own.temporary, Reverse(own.prefix)))
}

fn none_left(
    target: IpAddr,
    path: &Path,
    snapshot: &Snapshot,
    is_virtual: &dyn Fn(IpAddr) -> bool,
) -> NoSource {
    let here = snapshot.addresses.iter().filter(|own| own.interface == path.interface);
    let here = here.map(|own| own.address).filter(|own| own.is_ipv4() == target.is_ipv4());
    let addresses: Vec<IpAddr> = here.filter(|own| is_virtual(own.to_canonical())).collect();
    let interface = name(path.interface, snapshot);
    if addresses.is_empty() {
        NoSource::NoAddress { target, interface }
    } else {
        NoSource::OnlyVirtual { target, interface, addresses }
    }
}

fn name(interface: u32, snapshot: &Snapshot) -> String {
    snapshot.link_at(interface).map_or_else(|| format!("interface {interface}"), |link| link.name.clone())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Unique local addresses (RFC 4193), which speak to their like.
fn is_private_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unique_local())
}

/// Whether the subnet `net/len` contains the address. A length beyond the family's is taken as a single host.
fn contains(net: IpAddr, len: u8, address: IpAddr) -> bool {
    let (differing, bits) = match (net, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits() ^ b.to_bits()) << 96, 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    differing.leading_zeros() >= u32::from(len).min(bits) || differing == 0
}

#[cfg(test)]
mod tests;
