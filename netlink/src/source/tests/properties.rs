//! Whatever the kernel reports and whatever is virtual: never a virtual address.

use std::net::IpAddr;

use proptest::prelude::*;

use super::{ETH0, ETH1, ip, link, subnet};
use crate::kernel::{Address, Route, RouteKind, Snapshot};
use crate::source::{NoSource, choose};

/// Few enough that targets, addresses, routers and preferred sources meet.
const HOSTS: [&str; 14] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.1.1",
    "192.0.2.9",
    "169.254.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "fd00::1",
    "fd00::2",
    "fd00:0:0:1::1",
    "2001:db8::1",
    "fe80::1",
    "::1",
];
const NETS: [&str; 7] =
    ["10.0.0.0/24", "10.0.0.0/16", "0.0.0.0/0", "fd00::/64", "fe80::/64", "::/0", "10.0.0.2/32"];

fn host() -> impl Strategy<Value = IpAddr> {
    proptest::sample::select(&HOSTS[..]).prop_map(ip)
}

fn interface() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1), Just(ETH0), Just(ETH1), Just(99)]
}

fn address() -> impl Strategy<Value = Address> {
    let flags = prop::array::uniform4(prop::bool::weighted(0.1));
    let prefix = prop_oneof![Just(8_u8), Just(24), Just(32), Just(64), Just(128), any::<u8>()];
    (interface(), host(), prefix, prop::option::weighted(0.1, host()), flags).prop_map(
        |(interface, address, prefix, peer, [tentative, deprecated, temporary, narrow])| Address {
            interface,
            address,
            prefix,
            peer,
            tentative,
            deprecated,
            temporary,
            global: !narrow,
            ours: false,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let net = proptest::sample::select(&NETS[..]).prop_map(subnet);
    let kind = prop_oneof![9 => Just(RouteKind::Unicast), 1 => Just(RouteKind::Reject)];
    (net, prop::option::of(host()), interface(), prop::option::of(host()), 0..3_u32, kind).prop_map(
        |((destination, prefix), gateway, interface, preferred_source, metric, kind)| Route {
            destination,
            prefix,
            gateway,
            interface,
            preferred_source,
            metric,
            kind,
        },
    )
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let up = prop::array::uniform3(prop::bool::weighted(0.8));
    let addresses = prop::collection::vec(address(), 0..10);
    let routes = prop::collection::vec(route(), 0..6);
    (up, addresses, routes).prop_map(|(up, addresses, routes)| {
        let mut links = vec![link(1, "lo"), link(ETH0, "eth0"), link(ETH1, "eth1")];
        links.iter_mut().zip(up).for_each(|(link, up)| link.up = up);
        Snapshot { links, addresses, routes, truncated: false }
    })
}

fn virtuals() -> impl Strategy<Value = Vec<IpAddr>> {
    let some = proptest::sample::subsequence(HOSTS.to_vec(), 0..HOSTS.len());
    some.prop_map(|hosts| hosts.into_iter().map(ip).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn a_virtual_address_is_never_chosen(s in snapshots(), target in host(), virtuals in virtuals()) {
        if let Ok(source) = choose(target, &s, &|address| virtuals.contains(&address)) {
            prop_assert!(!virtuals.contains(&source), "{source} is virtual");
            prop_assert_eq!(source.is_ipv4(), target.is_ipv4());
            prop_assert_eq!(source.is_loopback(), target.is_loopback());
            let own = s.addresses.iter().any(|own| own.address == source && !own.tentative);
            prop_assert!(own || source.is_loopback(), "{source} is not ours");
        }
    }

    #[test]
    fn with_everything_virtual_nothing_is_chosen(s in snapshots(), target in host()) {
        prop_assert!(choose(target, &s, &|_| true).is_err());
    }

    #[test]
    fn one_good_address_on_the_routes_interface_is_always_enough(
        mut s in snapshots(), virtuals in virtuals()
    ) {
        let target = ip("10.0.0.77");
        s.addresses.push(super::address(ETH0, "10.0.0.200/24"));
        s.routes.insert(0, super::on_link(ETH0, "10.0.0.77/32"));
        match choose(target, &s, &|address| virtuals.contains(&address)) {
            Ok(_) => {}
            Err(refusal) => {
                prop_assert!(!s.links[1].up, "{refusal}");
                let no_route = matches!(refusal, NoSource::NoRoute { .. });
                prop_assert!(!no_route, "there is one");
            }
        }
    }
}
