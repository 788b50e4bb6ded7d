//! From a picture of the kernel to what the holder asks; pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_netlink::kernel::{Address, Snapshot};
use cygnet_netlink::wire::Mac;

use crate::vip::holder::{Link, Presence};

/// An interface as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The kernel's number for it; `None` if it is not there.
    pub(super) index: Option<u32>,
    pub(super) mac: Mac,
    pub(super) link: Link,
    /// Our own addresses on it.
    pub(super) own: Own,
}

/// Where our adverts come from on an interface: the primary address of VRRP (RFC 9568 section 1.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) v4: Option<Ipv4Addr>,
    /// Link-local.
    pub(super) v6: Option<Ipv6Addr>,
    /// All that may be used, in the kernel's order.
    pub(super) all: Vec<IpAddr>,
}

impl Own {
    /// The one of this family.
    pub(super) fn of(&self, is_ipv4: bool) -> Option<IpAddr> {
        if is_ipv4 { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) }
    }

    /// The one that speaks to these unicast peers: the one that they know as a peer; else that of the family, unless only a
    /// global IPv6 address reaches them.
    pub(super) fn towards(&self, peers: &[IpAddr], is_ipv4: bool) -> Option<IpAddr> {
        let listed = || self.all.iter().find(|own| peers.contains(own)).copied();
        let is_global = |address: &&IpAddr| !is_link_local(**address);
        let global = || self.all.iter().filter(|own| own.is_ipv6()).find(is_global).copied();
        let afar = !is_ipv4 && peers.iter().any(|peer| is_global(&peer));
        listed().or_else(|| if afar { global() } else { self.of(is_ipv4) })
    }
}

/// What no advert may come from, and what it should.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// Every virtual address of the configuration.
    pub(super) virtual_addresses: BTreeSet<IpAddr>,
    /// Those of priority 255: the node's own after all.
    pub(super) owned: BTreeSet<IpAddr>,
    /// Named by the operator.
    pub(super) preferred: Vec<IpAddr>,
}

/// What the snapshot says of an interface. `before`: its index so far; under another name it is not ours any more, but our
/// address is still on it.
pub(super) fn interface(snapshot: &Snapshot, name: &str, before: Option<u32>, sources: &Sources) -> Seen {
    let gone = |link| Seen { index: before, mac: Mac::default(), link, own: Own::default() };
    match snapshot.link(name) {
        None if snapshot.links.iter().any(|link| Some(link.index) == before) => gone(Link::Renamed),
        None => Seen { index: None, ..gone(Link::Missing) },
        // Another interface has the name already; first our address must go from the one that had it.
        Some(link) if Some(link.index) != before && keeps_ours(snapshot, before, sources) => {
            gone(Link::Renamed)
        }
        Some(link) => Seen {
            index: Some(link.index),
            mac: link.mac,
            link: if link.up { Link::Up } else { Link::Down },
            own: Own {
                v4: source(snapshot, link.index, sources),
                v6: link_local(snapshot, link.index, sources),
                all: own(snapshot, link.index, sources).map(|entry| entry.address).collect(),
            },
        },
    }
}

/// Whether an interface still has a virtual address of ours.
fn keeps_ours(snapshot: &Snapshot, index: Option<u32>, sources: &Sources) -> bool {
    let is_kept = |entry: &Address| {
        Some(entry.interface) == index && entry.ours && sources.virtual_addresses.contains(&entry.address)
    };
    snapshot.addresses.iter().any(is_kept)
}

/// Over IPv6 the source is the interface's link-local address (RFC 9568 section 5.1.2.1), once it may be used.
fn link_local(snapshot: &Snapshot, index: u32, sources: &Sources) -> Option<Ipv6Addr> {
    own(snapshot, index, sources)
        .filter_map(|entry| match entry.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
        .next()
}

/// This node's addresses on an interface that adverts may come from.
fn own<'s>(snapshot: &'s Snapshot, index: u32, sources: &'s Sources) -> impl Iterator<Item = &'s Address> {
    let own = move |entry: &&Address| entry.interface == index && !entry.ours && !entry.tentative;
    let may_be = |entry: &&Address| !sources.virtual_addresses.contains(&entry.address);
    snapshot.addresses.iter().filter(own).filter(may_be)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Over IPv4: a named one, else the first of a subnet, else the first; never a
/// virtual one, unless we own it.
fn source(snapshot: &Snapshot, index: u32, sources: &Sources) -> Option<Ipv4Addr> {
    let here = |entry: &&Address| entry.interface == index && !entry.ours && entry.address.is_ipv4();
    let is_own = |entry: &&Address| !sources.virtual_addresses.contains(&entry.address);
    let own: Vec<&Address> = snapshot.addresses.iter().filter(here).filter(is_own).collect();
    let owned = snapshot.addresses.iter().filter(here).find(|entry| sources.owned.contains(&entry.address));
    let best = own
        .iter()
        .find(|entry| sources.preferred.contains(&entry.address))
        .or_else(|| own.iter().find(|entry| entry.prefix < 32))
        .or_else(|| own.first())
        .copied()
        .or(owned)?;
    match best.address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// What the snapshot says of a virtual address on an interface.
pub(super) fn presence(snapshot: &Snapshot, index: Option<u32>, address: IpAddr) -> Presence {
    let host = if address.is_ipv4() { 32 } else { 128 };
    let mut presence = Presence::default();
    for entry in &snapshot.addresses {
        if Some(entry.interface) != index || entry.address != address {
            continue;
        }
        if entry.prefix == host {
            presence.exact = true;
            presence.marked |= entry.ours;
        } else {
            presence.shorter = Some(entry.prefix);
        }
    }
    presence
}

/// Every address of this host that is not virtual: what comes from one of them on the wire is our own, or a forgery.
pub(super) fn own_addresses(snapshot: &Snapshot, sources: &Sources) -> Vec<IpAddr> {
    let own = snapshot.addresses.iter().filter(|entry| !entry.ours).map(|entry| entry.address);
    let mut own: Vec<IpAddr> = own.filter(|address| !sources.virtual_addresses.contains(address)).collect();
    own.extend(sources.preferred.iter().filter(|address| !sources.virtual_addresses.contains(address)));
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_netlink::kernel;

    fn address(interface: u32, text: &str, prefix: u8, ours: bool) -> Address {
        Address {
            interface,
            address: text.parse().expect("an address"),
            prefix,
            peer: None,
            tentative: false,
            deprecated: false,
            temporary: false,
            global: true,
            ours,
        }
    }

    fn snapshot(addresses: Vec<Address>) -> Snapshot {
        let link = kernel::Link { index: 2, name: "eth0".into(), mac: Mac([2; 6]), up: true };
        Snapshot { links: vec![link], addresses, ..Snapshot::default() }
    }

    fn sources(virtual_address: &str) -> Sources {
        let virtual_addresses = [virtual_address.parse().expect("an address")].into();
        Sources { virtual_addresses, ..Sources::default() }
    }

    fn found(snapshot: &Snapshot, sources: &Sources) -> Option<String> {
        interface(snapshot, "eth0", None, sources).own.v4.map(|source| source.to_string())
    }

    #[test]
    fn the_source_of_adverts_is_never_virtual_and_follows_the_operator() {
        let vip = "192.0.2.100";
        let all = snapshot(vec![
            address(2, vip, 24, false),
            address(2, "192.0.2.77", 32, true),
            address(2, "192.0.2.50", 32, false),
            address(2, "192.0.2.1", 24, false),
            address(2, "192.0.2.2", 24, false),
            address(3, "192.0.2.3", 24, false),
        ]);
        assert_eq!(found(&all, &sources(vip)).as_deref(), Some("192.0.2.1"));
        let preferred = vec!["192.0.2.2".parse().expect("an address")];
        assert_eq!(found(&all, &Sources { preferred, ..sources(vip) }).as_deref(), Some("192.0.2.2"));
        let only_virtual = snapshot(vec![address(2, vip, 24, false)]);
        assert_eq!(found(&only_virtual, &sources(vip)), None);
        let owned = [vip.parse().expect("an address")].into();
        assert_eq!(found(&only_virtual, &Sources { owned, ..sources(vip) }).as_deref(), Some(vip));
    }

    #[test]
    fn the_source_towards_unicast_peers_is_the_one_that_they_know() {
        let all = snapshot(vec![
            address(2, "192.0.2.1", 24, false),
            address(2, "192.0.2.2", 24, false),
            address(2, "fe80::1", 64, false),
            address(2, "2001:db8::1", 64, false),
        ]);
        let own = interface(&all, "eth0", None, &sources("192.0.2.100")).own;
        let towards = |peers: &[&str]| {
            let peers: Vec<IpAddr> = peers.iter().map(|text| text.parse().expect("an address")).collect();
            own.towards(&peers, peers[0].is_ipv4()).map(|source| source.to_string())
        };
        assert_eq!(towards(&["192.0.2.9", "192.0.2.2"]).as_deref(), Some("192.0.2.2"));
        assert_eq!(towards(&["192.0.2.9"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(towards(&["fe80::9"]).as_deref(), Some("fe80::1"));
        assert_eq!(towards(&["2001:db8::9"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(towards(&["2001:db8::9", "fe80::1"]).as_deref(), Some("fe80::1"));
    }

    #[test]
    fn the_two_forms_of_presence_are_told_apart() {
        let vip: IpAddr = "192.0.2.100".parse().expect("an address");
        let all = snapshot(vec![
            address(2, "192.0.2.100", 24, false),
            address(2, "192.0.2.100", 32, true),
            address(3, "192.0.2.101", 32, true),
        ]);
        let both = Presence { exact: true, marked: true, shorter: Some(24) };
        assert_eq!(presence(&all, Some(2), vip), both);
        assert_eq!(presence(&all, Some(3), vip), Presence::default());
        assert_eq!(presence(&all, None, vip), Presence::default());
    }

    #[test]
    fn a_missing_interface_is_missing() {
        let seen = interface(&Snapshot::default(), "eth0", Some(2), &Sources::default());
        assert_eq!((seen.link, seen.index), (Link::Missing, None));
    }

    #[test]
    fn an_interface_with_a_new_name_can_still_be_cleaned() {
        let mut renamed = snapshot(Vec::new());
        renamed.links[0].name = "lan0".into();
        let seen = interface(&renamed, "eth0", Some(2), &Sources::default());
        assert_eq!((seen.link, seen.index), (Link::Renamed, Some(2)));
        // A new interface under the old name has to wait until the address is gone from the old one.
        let mut replaced = snapshot(vec![address(1, "192.0.2.100", 32, true)]);
        let seen = |all: &Snapshot| interface(all, "eth0", Some(1), &sources("192.0.2.100"));
        assert_eq!((seen(&replaced).link, seen(&replaced).index), (Link::Renamed, Some(1)));
        replaced.addresses.clear();
        assert_eq!((seen(&replaced).link, seen(&replaced).index), (Link::Up, Some(2)));
        let never_ours = interface(&renamed, "eth0", None, &Sources::default());
        assert_eq!((never_ours.link, never_ours.index), (Link::Missing, None));
    }
}
