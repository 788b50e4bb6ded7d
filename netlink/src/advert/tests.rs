use std::net::{IpAddr, Ipv4Addr};

use super::{AdvertSocket, GROUP, GROUP_V6};
use crate::capture::{Capture, FRAME_MAX};
use crate::testns::{DEADLINE, in_namespace, ip, runtime, settle, veth};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

#[test]
fn an_advertisement_arrives_with_ttl_255_and_the_chosen_source() {
    in_namespace(|| {
        veth("eth0", "eth1");
        ip("address add 10.9.0.100/24 dev eth0");
        ip("address add 10.9.0.1/24 dev eth0");
        let payload = [0x31, 51, 150, 1, 0, 100, 0xab, 0xcd, 10, 9, 0, 100];
        runtime().block_on(async {
            let own = Capture::open("eth0").expect("a capture");
            let other = Capture::open("eth1").expect("a capture");
            AdvertSocket::open("eth0", IpAddr::V4(OWN))
                .expect("a socket")
                .send(GROUP.into(), &payload)
                .expect("sent");
            let mut buffer = [0xa5; FRAME_MAX];
            let seen = tokio::time::timeout(DEADLINE, other.next(&mut buffer)).await;
            let seen = seen.expect("in time").expect("a frame").bytes;
            let (header, message) = seen.split_at(20);
            assert_eq!(header[0], 0x45, "IPv4 without options");
            assert_eq!(header[1], 0xc0, "type of service");
            assert_eq!(usize::from(u16::from_be_bytes([header[2], header[3]])), seen.len(), "total length");
            assert_eq!(header[8], 255, "TTL");
            assert_eq!(header[9], 112, "protocol");
            assert_eq!(header[12..16], OWN.octets(), "source");
            assert_eq!(header[16..20], [224, 0, 0, 18], "destination");
            assert_eq!(message, payload);

            let mut buffer = [0xa5; FRAME_MAX];
            let looped = std::time::Duration::from_millis(20);
            let looped = tokio::time::timeout(looped, own.next(&mut buffer)).await;
            assert!(looped.is_err(), "the sender hears itself");
        });
    });
}

#[test]
fn a_socket_that_cannot_be_is_refused_and_a_dead_link_is_an_error() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let absent = AdvertSocket::open("eth0", IpAddr::V4(OWN)).expect_err("an address of nobody");
        assert_eq!(absent.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        ip("address add 10.9.0.1/24 dev eth0");
        let missing = AdvertSocket::open("nowhere", IpAddr::V4(OWN)).expect_err("no interface");
        assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
        let socket = AdvertSocket::open("eth0", IpAddr::V4(OWN)).expect("a socket");
        socket.send(GROUP.into(), &[0x31]).expect("sent");
        ip("link set eth0 down");
        socket.send(GROUP.into(), &[0x31]).expect_err("the link is down");
        ip("link set eth0 up");
        settle(&["eth0"]);
        socket.send(GROUP.into(), &[0x31]).expect("the same socket works again");
        ip("link delete eth0");
        socket.send(GROUP.into(), &[0x31]).expect_err("the link is gone");
    });
}

#[test]
fn an_advertisement_over_ipv6_arrives_with_hop_limit_255_from_the_link_local_address() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let shown = ip("-6 -o address show dev eth0 scope link");
        let own = shown.split_whitespace().find(|word| word.starts_with("fe80::")).expect("link-local");
        let own: std::net::Ipv6Addr = own.split('/').next().expect("an address").parse().expect("IPv6");
        let payload = [0x31, 51, 150, 1, 0, 100, 0xab, 0xcd];
        runtime().block_on(async {
            let other = Capture::open("eth1").expect("a capture");
            AdvertSocket::open("eth0", own.into())
                .expect("a socket")
                .send(GROUP_V6.into(), &payload)
                .expect("sent");
            let mut buffer = [0xa5; FRAME_MAX];
            let seen = tokio::time::timeout(DEADLINE, other.next(&mut buffer)).await;
            let seen = seen.expect("in time").expect("a frame").bytes;
            let (header, message) = seen.split_at(40);
            assert_eq!(
                (header[0] >> 4, header[6], header[7]),
                (6, 112, 255),
                "version, next header, hop limit"
            );
            assert_eq!(header[8..24], own.octets(), "source");
            assert_eq!(header[24..40], GROUP_V6.octets(), "destination");
            assert_eq!(message, payload, "the checksum is the sender's business");
        });
    });
}

/// Both ends have their address; `payload` goes from the first to the second as unicast.
fn to_a_peer(own: IpAddr, peer: IpAddr) {
    let payload = [0x31, 51, 150, 1, 0, 100, 0xab, 0xcd, 10, 9, 0, 100];
    runtime().block_on(async {
        let other = Capture::open("eth1").expect("a capture");
        AdvertSocket::open("eth0", own).expect("a socket").send(peer, &payload).expect("sent");
        let mut buffer = [0xa5; FRAME_MAX];
        let seen = tokio::time::timeout(DEADLINE, other.next(&mut buffer)).await;
        let bytes = seen.expect("in time").expect("a frame").bytes;
        let packet = crate::wire::ip::parse(bytes).expect("an IP packet");
        assert_eq!((packet.source, packet.destination), (own, peer));
        assert_eq!((packet.hop_limit, packet.protocol, packet.payload), (255, 112, &payload[..]));
    });
}

#[test]
fn an_advertisement_to_a_peer_arrives_with_hop_limit_255_over_both_families() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let mac = |name| {
            let shown = ip(&format!("-o link show {name}"));
            let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
            mac.expect("a MAC").to_owned()
        };
        // Both ends are in one namespace: what the peer would answer is told.
        let peer_mac = mac("eth1");
        ip("address add 10.9.0.1/24 dev eth0");
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        ip(&format!("neigh add 10.9.0.2 lladdr {peer_mac} dev eth0"));
        ip(&format!("neigh add 2001:db8::2 lladdr {peer_mac} dev eth0"));
        to_a_peer(OWN.into(), IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2)));
        let six = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        to_a_peer(six(1), six(2));
    });
}
