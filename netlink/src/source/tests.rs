mod against_the_kernel;
mod properties;

use std::net::IpAddr;

use super::{NoSource, choose, contains};
use crate::kernel::{Address, Link, Route, RouteKind, Snapshot};
use crate::wire::Mac;

const ETH0: u32 = 2;
const ETH1: u32 = 3;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn subnet(text: &str) -> (IpAddr, u8) {
    let (net, prefix) = text.split_once('/').expect("a prefix");
    (ip(net), prefix.parse().expect("a length"))
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.to_owned(), mac: Mac::default(), up: true }
}

fn address(interface: u32, text: &str) -> Address {
    let (address, prefix) = subnet(text);
    let global = !address.is_loopback() && !super::is_link_local(address);
    Address {
        interface,
        address,
        prefix,
        peer: None,
        tentative: false,
        deprecated: false,
        temporary: false,
        global,
        ours: false,
    }
}

fn on_link(interface: u32, text: &str) -> Route {
    let (destination, prefix) = subnet(text);
    let kind = RouteKind::Unicast;
    Route { destination, prefix, gateway: None, interface, preferred_source: None, metric: 0, kind }
}

fn via(interface: u32, text: &str, gateway: &str) -> Route {
    Route { gateway: Some(ip(gateway)), ..on_link(interface, text) }
}

fn snapshot(addresses: &[Address], routes: &[Route]) -> Snapshot {
    Snapshot {
        links: vec![link(1, "lo"), link(ETH0, "eth0"), link(ETH1, "eth1")],
        addresses: addresses.to_vec(),
        routes: routes.to_vec(),
        truncated: false,
    }
}

fn chosen(target: &str, snapshot: &Snapshot, virtuals: &[&str]) -> Result<IpAddr, NoSource> {
    choose(ip(target), snapshot, &|address| virtuals.iter().any(|v| ip(v) == address))
}

#[test]
fn the_address_in_the_servers_subnet_goes_before_others_of_the_interface() {
    let own = [address(ETH0, "172.16.0.1/16"), address(ETH0, "10.9.0.1/24")];
    let routes = [on_link(ETH0, "172.16.0.0/16"), on_link(ETH0, "10.9.0.0/24")];
    let s = snapshot(&own, &routes);
    assert_eq!(chosen("10.9.0.50", &s, &[]), Ok(ip("10.9.0.1")));
    assert_eq!(chosen("172.16.3.4", &s, &[]), Ok(ip("172.16.0.1")));
}

#[test]
fn behind_a_router_the_address_in_the_routers_subnet_is_taken() {
    let own = [address(ETH0, "10.9.0.1/24"), address(ETH1, "192.0.2.1/24")];
    let routes = [
        on_link(ETH0, "10.9.0.0/24"),
        on_link(ETH1, "192.0.2.0/24"),
        via(ETH1, "0.0.0.0/0", "192.0.2.254"),
        via(ETH0, "10.0.0.0/8", "10.9.0.254"),
    ];
    let s = snapshot(&own, &routes);
    assert_eq!(chosen("198.51.100.7", &s, &[]), Ok(ip("192.0.2.1")));
    assert_eq!(chosen("10.77.0.1", &s, &[]), Ok(ip("10.9.0.1")), "the longer prefix wins");
}

#[test]
fn the_lowest_metric_wins_among_equal_prefixes_and_a_dead_interface_does_not_count() {
    let own = [address(ETH0, "10.9.0.1/24"), address(ETH1, "192.0.2.1/24")];
    let cheap = Route { metric: 10, ..via(ETH1, "0.0.0.0/0", "192.0.2.254") };
    let dear = Route { metric: 20, ..via(ETH0, "0.0.0.0/0", "10.9.0.254") };
    let mut s = snapshot(&own, &[dear, cheap]);
    assert_eq!(chosen("198.51.100.7", &s, &[]), Ok(ip("192.0.2.1")));
    s.links[2].up = false;
    assert_eq!(chosen("198.51.100.7", &s, &[]), Ok(ip("10.9.0.1")));
    s.links[1].up = false;
    let down = NoSource::InterfaceDown { target: ip("198.51.100.7"), interface: "eth1".to_owned() };
    assert_eq!(chosen("198.51.100.7", &s, &[]), Err(down));
}

#[test]
fn the_routes_preferred_source_is_taken_unless_it_is_virtual() {
    let own = [address(ETH0, "10.9.0.1/24"), address(1, "10.200.0.1/32"), address(ETH0, "10.9.0.100/32")];
    let route =
        |preferred| Route { preferred_source: Some(ip(preferred)), ..via(ETH0, "0.0.0.0/0", "172.16.0.9") };
    let s = snapshot(&own, &[route("10.200.0.1")]);
    assert_eq!(
        chosen("198.51.100.7", &s, &["10.9.0.100"]),
        Ok(ip("10.200.0.1")),
        "also of another interface"
    );
    let s = snapshot(&own, &[route("10.9.0.100")]);
    assert_eq!(chosen("198.51.100.7", &s, &["10.9.0.100"]), Ok(ip("10.9.0.1")));
}

#[test]
fn without_an_address_on_the_interface_a_global_one_of_another_is_taken() {
    let routes = [on_link(ETH0, "10.9.0.0/24")];
    let s = snapshot(&[address(ETH0, "10.9.0.100/24"), address(1, "10.200.0.1/32")], &routes);
    assert_eq!(chosen("10.9.0.50", &s, &["10.9.0.100"]), Ok(ip("10.200.0.1")));
    let link_scope = Address { global: false, ..address(ETH1, "192.0.2.1/24") };
    let s = snapshot(&[link_scope, address(1, "127.0.0.1/8"), address(ETH0, "169.254.1.1/16")], &routes);
    let none = NoSource::NoAddress { target: ip("10.9.0.50"), interface: "eth0".to_owned() };
    assert_eq!(chosen("10.9.0.50", &s, &[]), Err(none));
}

#[test]
fn an_own_address_of_32_bits_in_the_routes_subnet_goes_before_one_outside() {
    let own = [address(ETH0, "172.16.0.1/16"), address(ETH0, "10.9.0.1/32"), address(ETH0, "10.9.0.100/24")];
    let s = snapshot(&own, &[on_link(ETH0, "10.9.0.0/24")]);
    assert_eq!(chosen("10.9.0.50", &s, &["10.9.0.100"]), Ok(ip("10.9.0.1")));
}

#[test]
fn ipv6_leaves_out_tentative_and_deprecated_addresses_and_prefers_lasting_and_like_ones() {
    let tentative = Address { tentative: true, ..address(ETH0, "fd00::1/64") };
    let deprecated = Address { deprecated: true, ..address(ETH0, "fd00::2/64") };
    let temporary = Address { temporary: true, ..address(ETH0, "fd00::3/64") };
    let lasting = address(ETH0, "fd00::4/64");
    let link_local = address(ETH0, "fe80::1/64");
    let public = address(ETH0, "2001:db8::1/64");
    let routes = [on_link(ETH0, "fd00::/64"), on_link(ETH0, "fe80::/64"), via(ETH0, "::/0", "fe80::ff")];
    let all = [link_local, tentative, deprecated, temporary, lasting, public];
    let s = snapshot(&all, &routes);
    assert_eq!(chosen("fd00::50", &s, &[]), Ok(ip("fd00::4")));
    assert_eq!(chosen("fd00::50", &s, &["fd00::4"]), Ok(ip("fd00::3")));
    assert_eq!(chosen("2001:db8:ffff::1", &s, &[]), Ok(ip("2001:db8::1")));
    assert_eq!(chosen("fd77::1", &s, &[]), Ok(ip("fd00::4")), "unique local to unique local");
    assert_eq!(chosen("fe80::77", &s, &[]), Ok(ip("fe80::1")));
}

#[test]
fn own_and_loopback_targets_are_their_own_source_unless_virtual() {
    let own = [address(ETH0, "10.9.0.1/24"), address(ETH0, "10.9.0.100/32")];
    let s = snapshot(&own, &[on_link(ETH0, "10.9.0.0/24")]);
    assert_eq!(chosen("10.9.0.1", &s, &["10.9.0.100"]), Ok(ip("10.9.0.1")));
    assert_eq!(chosen("10.9.0.100", &s, &["10.9.0.100"]), Ok(ip("10.9.0.1")));
    assert_eq!(chosen("127.0.0.5", &s, &[]), Ok(ip("127.0.0.1")));
    assert_eq!(chosen("::1", &s, &[]), Ok(ip("::1")));
    assert_eq!(chosen("::ffff:10.9.0.50", &s, &["10.9.0.100"]), Ok(ip("10.9.0.1")), "a mapped target");
}

#[test]
fn each_refusal_says_what_helps() {
    let own = [address(ETH0, "10.9.0.100/24"), address(ETH0, "10.9.0.101/32")];
    let reject = Route { kind: RouteKind::Reject, interface: 0, ..on_link(0, "10.66.0.0/16") };
    let mut s = snapshot(&own, &[on_link(ETH0, "10.9.0.0/24"), reject]);
    let text = |target: &str, s: &Snapshot| {
        chosen(target, s, &["10.9.0.100", "10.9.0.101"]).expect_err("no source").to_string()
    };
    assert_eq!(
        text("10.9.0.50", &s),
        "every address of eth0 that could reach 10.9.0.50 is virtual (10.9.0.100, 10.9.0.101); \
         give the node an address of its own there, or set source = \"ADDRESS\""
    );
    assert_eq!(
        text("198.51.100.1", &s),
        "there is no route to 198.51.100.1; add one, or set source = \"ADDRESS\""
    );
    assert!(text("10.66.0.1", &s).starts_with("the route to 10.66.0.1 is \"unreachable\""));
    assert!(text("0.0.0.0", &s).contains("is not the address of a host"));
    assert!(text("224.0.0.18", &s).contains("is not the address of a host"));
    s.truncated = true;
    assert!(text("10.9.0.50", &s).starts_with("too many routes"));
}

#[test]
fn a_list_in_a_refusal_is_short_however_many_addresses_there_are() {
    let own: Vec<Address> = (1..200).map(|i| address(ETH0, &format!("10.9.0.{i}/24"))).collect();
    let s = snapshot(&own, &[on_link(ETH0, "10.9.0.0/24")]);
    let refused = choose(ip("10.9.0.250"), &s, &|_| true).expect_err("all virtual").to_string();
    assert!(refused.contains("(10.9.0.1, 10.9.0.2, 10.9.0.3, and 196 more)"), "{refused}");
}

#[test]
fn a_subnet_contains_its_addresses_and_no_others() {
    for (net, inside, outside) in [
        ("10.9.0.0/24", "10.9.0.255", "10.9.1.0"),
        ("10.9.0.1/32", "10.9.0.1", "10.9.0.0"),
        ("0.0.0.0/0", "255.0.0.1", "::1"),
        ("fd00::/64", "fd00::ffff:0:0:1", "fd00:0:0:1::"),
        ("fd00::1/128", "fd00::1", "fd00::"),
        ("::/0", "2001:db8::1", "10.0.0.1"),
    ] {
        let (address, len) = subnet(net);
        assert!(contains(address, len, ip(inside)), "{inside} in {net}");
        assert!(!contains(address, len, ip(outside)), "{outside} not in {net}");
    }
    assert!(contains(ip("10.0.0.1"), 200, ip("10.0.0.1")) && !contains(ip("10.0.0.1"), 200, ip("10.0.0.0")));
}
