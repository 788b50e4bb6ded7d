use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

use super::{Announcer, has_arp};
use crate::testns::{frames, in_namespace, ip, veth};
use crate::wire::Mac;

const VIRTUAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const MAC: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
const BYTES: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xaa, 0x08, 0x06, // Ethernet
    0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
    2, 0, 0, 0, 0, 0xaa, 192, 0, 2, 100, // sender
    0, 0, 0, 0, 0, 0, 192, 0, 2, 100, // target
];

#[test]
fn an_announcement_arrives_at_the_other_end() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let mut neighbour = frames("eth1", libc::ETH_P_ARP as u16);
        Announcer::open("eth0").expect("an announcer").announce(MAC, VIRTUAL).expect("sent");
        let mut buffer = [0xa5; 100];
        let len = neighbour.read(&mut buffer).expect("received");
        assert_eq!(buffer[..len], BYTES);
    });
}

#[test]
fn a_neighbour_that_knows_the_old_place_learns_the_new_one() {
    in_namespace(|| {
        veth("eth0", "eth1");
        ip("address add 192.0.2.1/24 dev eth1");
        ip("neighbour add 192.0.2.100 lladdr 02:00:00:00:00:01 nud stale dev eth1");
        Announcer::open("eth0").expect("an announcer").announce(MAC, VIRTUAL).expect("sent");
        let deadline = std::time::Instant::now() + crate::testns::DEADLINE;
        while !ip("neighbour show dev eth1").contains("192.0.2.100 lladdr 02:00:00:00:00:aa") {
            assert!(std::time::Instant::now() < deadline, "{}", ip("neighbour show dev eth1"));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
}

#[test]
fn a_link_without_arp_is_refused() {
    assert!(has_arp(libc::ARPHRD_ETHER) && has_arp(libc::ARPHRD_LOOPBACK));
    assert!(!has_arp(libc::ARPHRD_NONE) && !has_arp(libc::ARPHRD_TUNNEL) && !has_arp(libc::ARPHRD_PPP));
    in_namespace(|| {
        Announcer::open("lo").expect("harmless");
        let missing = Announcer::open("nowhere").expect_err("no interface");
        assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn an_ipv6_neighbour_that_knows_the_old_place_learns_the_new_one() {
    in_namespace(|| {
        veth("eth0", "eth1");
        ip("address add 2001:db8::1/64 nodad dev eth1");
        ip("neighbour add 2001:db8::100 lladdr 02:00:00:00:00:01 nud stale dev eth1");
        let virtual_address = "2001:db8::100".parse().expect("an address");
        Announcer::open("eth0").expect("an announcer").announce(MAC, virtual_address).expect("sent");
        let deadline = std::time::Instant::now() + crate::testns::DEADLINE;
        while !ip("-6 neighbour show dev eth1").contains("2001:db8::100 lladdr 02:00:00:00:00:aa") {
            assert!(std::time::Instant::now() < deadline, "{}", ip("-6 neighbour show dev eth1"));
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
}
