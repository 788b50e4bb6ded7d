//! Netlink messages from and to our types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};

use super::{Address, Link, Route, RouteKind};
use crate::wire::Mac;

/// Who added the address, for `ip address show` and for ourselves (IFA_PROTO). The kernel keeps 0 to 3; daemons may take
/// any other number, and this one is not in iproute2's list.
const ADDED_BY_CYGNET: u8 = 199;

/// "For ever" of address lifetimes.
const FOREVER: u32 = u32::MAX;

/// 32 or 128.
pub(crate) fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address that is to be removed: the kernel compares address and prefix.
pub(crate) fn exact_address(interface: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = host_prefix(address);
    message.header.index = interface;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

/// The address that is to be added.
pub(super) fn own_address(interface: u32, address: IpAddr) -> AddressMessage {
    let mut message = exact_address(interface, address);
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDED_BY_CYGNET)));
    if address.is_ipv6() {
        // No route for it either: it would stand in the main table and say nothing.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_preferred = 0;
        lifetime.ifa_valid = FOREVER;
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    message
}

pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let mut name = None;
    let mut mac = Mac::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().map(Mac).unwrap_or_default(),
            _ => {}
        }
    }
    let up = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    Some(Link { index: message.header.index, name: name?, mac, up })
}

pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut remote) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => remote = Some(*value),
            AddressAttribute::Flags(value) => flags = *value,
            AddressAttribute::Protocol(by) => ours = u8::from(*by) == ADDED_BY_CYGNET,
            _ => {}
        }
    }
    let address = local.or(remote)?;
    let waits = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    Some(Address {
        interface: message.header.index,
        address,
        prefix: message.header.prefix_len,
        peer: remote.filter(|remote| *remote != address),
        tentative: waits || flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        // One bit, two meanings: a second address of a subnet in IPv4, a temporary one in IPv6.
        temporary: address.is_ipv6() && flags.contains(AddressFlags::Secondary),
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
        ours,
    })
}

/// Appends the routes of one message: none if it is of another table or kind, several if it has several next hops.
pub(super) fn routes(message: RouteMessage, into: &mut Vec<Route>) {
    let header = &message.header;
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Reject,
        _ => return,
    };
    // Cached results are no routes; dead ones are not used.
    if header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead) {
        return;
    }
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return,
    };
    let mut route = Route {
        destination: any,
        prefix: header.destination_prefix_length,
        gateway: None,
        interface: 0,
        preferred_source: None,
        metric: 0,
        kind,
    };
    let mut table = u32::from(header.table);
    let mut hops: &[RouteNextHop] = &[];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Destination(value) => route.destination = ip(value).unwrap_or(any),
            RouteAttribute::PrefSource(value) => route.preferred_source = ip(value),
            RouteAttribute::Priority(value) => route.metric = *value,
            RouteAttribute::MultiPath(values) => hops = values,
            other => next_hop(other, &mut route),
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return;
    }
    if hops.is_empty() {
        return into.push(route);
    }
    for hop in hops.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead)) {
        let mut route = Route { interface: hop.interface_index, ..route.clone() };
        hop.attributes.iter().for_each(|attribute| next_hop(attribute, &mut route));
        into.push(route);
    }
}

fn next_hop(attribute: &RouteAttribute, route: &mut Route) {
    match attribute {
        RouteAttribute::Oif(index) => route.interface = *index,
        RouteAttribute::Gateway(address) => route.gateway = ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some((*address).into()),
        _ => {}
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
