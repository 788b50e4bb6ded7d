use std::net::IpAddr;
use std::time::Duration;

use socket2::Socket;

use super::{Capture, FRAME_MAX, NEIGHBOURS_MAX};
use crate::testns::{DEADLINE, frames, in_namespace, ip, runtime, settle, veth};
use crate::wire::{Mac, arp, ndp};

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0xbb];

fn frame(ether_type: &[u8], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
    frame.extend(SENDER);
    frame.extend(ether_type);
    frame.extend(packet);
    frame
}

/// As much of an IPv4 packet as the filter reads, with a mark to know it by.
fn v4(protocol: u8, mark: u8) -> Vec<u8> {
    let mut packet = vec![0; 28];
    packet[0] = 0x45;
    packet[9] = protocol;
    packet[27] = mark;
    packet
}

fn v6(next_header: u8, mark: u8) -> Vec<u8> {
    let mut packet = vec![0; 48];
    packet[0] = 0x60;
    packet[6] = next_header;
    packet[47] = mark;
    packet
}

fn vlan(tag: u16, packet: &[u8]) -> Vec<u8> {
    let [high, low] = tag.to_be_bytes();
    frame(&[0x81, 0x00, high, low, 0x08, 0x00], packet)
}

fn send(socket: &Socket, frame: &[u8]) {
    assert_eq!(socket.send(frame).expect("sent"), frame.len());
}

/// The marks of all packets up to and with the one marked 99.
async fn marks(capture: &Capture) -> Vec<u8> {
    let mut marks = Vec::new();
    let mut buffer = [0xa5; FRAME_MAX];
    while marks.last() != Some(&99) {
        let frame = tokio::time::timeout(DEADLINE, capture.next(&mut buffer)).await;
        marks.push(*frame.expect("in time").expect("a frame").bytes.last().expect("bytes"));
    }
    marks
}

#[test]
fn only_protocol_112_of_others_passes_the_filter() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let capture = Capture::open("eth0").expect("a capture");
            let other = frames("eth1", 0);
            let own = frames("eth0", 0);
            send(&other, &frame(&[0x08, 0x00], &v4(112, 1)));
            send(&other, &frame(&[0x86, 0xdd], &v6(112, 2)));
            send(&other, &frame(&[0x08, 0x00], &v4(17, 3)));
            send(&other, &frame(&[0x86, 0xdd], &v6(6, 4)));
            send(&other, &frame(&[0x08, 0x06], &v4(112, 5)));
            send(&other, &frame(&[0x86, 0xdd], &v4(112, 6)));
            send(&other, &frame(&[0x08, 0x00], &[0x45, 0, 0, 0, 7]));
            send(&own, &frame(&[0x08, 0x00], &v4(112, 8)));
            send(&other, &vlan(7, &v4(112, 9)));
            send(&other, &vlan(0xe000, &v4(112, 10)));
            send(&other, &frame(&[0x08, 0x00], &v4(112, 99)));
            assert_eq!(marks(&capture).await, [1, 2, 10, 99]);
        });
    });
}

/// An ARP packet whose sender has `address`.
fn arp_of(address: [u8; 4], mark: u8) -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Reply,
        sender_mac: Mac(SENDER),
        sender_ip: address.into(),
        target_mac: Mac::default(),
        target_ip: [192, 0, 2, mark].into(),
    };
    packet.emit().to_vec()
}

/// What announces `address`, with the mark at its end.
fn advertisement_of(address: [u8; 16], mark: u8) -> Vec<u8> {
    ndp::unsolicited_advertisement(Mac([2, 0, 0, 0, 0, mark]), address.into())[14..].to_vec()
}

#[test]
fn who_says_that_it_has_a_watched_address_is_heard_and_nobody_else() {
    const ARP: [u8; 2] = [0x08, 0x06];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let capture = Capture::open("eth0").expect("a capture");
            let other = frames("eth1", 0);
            let (mut last, mut similar) = ([0xfd; 16], [0xfd; 16]);
            (last[15], similar[7]) = (1, 1);
            let many = (0..NEIGHBOURS_MAX).map(|at| {
                let [.., high, low] = at.to_be_bytes();
                if at % 2 == 0 { IpAddr::from([10, 0, high, low]) } else { IpAddr::from([high; 16]) }
            });
            capture.hear_neighbours(&many.collect::<Vec<_>>()).expect("the largest filter");
            let watched = [[192, 0, 2, 100].into(), [0xfd; 16].into(), last.into(), [192, 0, 2, 101].into()];
            capture.hear_neighbours(&watched).expect("a filter");
            send(&other, &frame(&ARP, &arp_of([192, 0, 2, 100], 1)));
            send(&other, &frame(&ARP, &arp_of([192, 0, 2, 101], 2)));
            send(&other, &frame(&ARP, &arp_of([192, 0, 2, 102], 3)));
            send(&other, &frame(&IPV6, &advertisement_of([0xfd; 16], 4)));
            send(&other, &frame(&IPV6, &advertisement_of(last, 5)));
            send(&other, &frame(&IPV6, &advertisement_of(similar, 6)));
            let mut solicitation = advertisement_of(last, 7);
            solicitation[40] = 135;
            send(&other, &frame(&IPV6, &solicitation));
            send(&other, &frame(&IPV6, &v6(112, 8)));
            send(&frames("eth0", 0), &frame(&ARP, &arp_of([192, 0, 2, 100], 9)));
            send(&other, &frame(&[0x08, 0x00], &v4(112, 99)));
            assert_eq!(marks(&capture).await, [1, 2, 4, 5, 8, 99]);
            capture.hear_neighbours(&[]).expect("a filter");
            send(&other, &frame(&ARP, &arp_of([192, 0, 2, 100], 1)));
            send(&other, &frame(&[0x08, 0x00], &v4(112, 99)));
            assert_eq!(marks(&capture).await, [99]);
        });
    });
}

#[test]
fn a_frame_carries_the_senders_mac_and_starts_at_the_ip_header() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let capture = Capture::open("eth0").expect("a capture");
            send(&frames("eth1", 0), &frame(&[0x08, 0x00], &v4(112, 1)));
            let mut buffer = [0xa5; FRAME_MAX];
            let seen = tokio::time::timeout(DEADLINE, capture.next(&mut buffer)).await;
            let seen = seen.expect("in time").expect("a frame");
            assert_eq!(seen.source_mac, Mac(SENDER));
            assert_eq!(seen.bytes, v4(112, 1));
        });
    });
}

#[test]
fn a_capture_outlives_a_link_that_goes_down_and_up() {
    in_namespace(|| {
        veth("eth0", "eth1");
        runtime().block_on(async {
            let capture = Capture::open("eth0").expect("a capture");
            ip("link set eth0 down");
            let mut buffer = [0; FRAME_MAX];
            let down = tokio::time::timeout(DEADLINE, capture.next(&mut buffer)).await.expect("in time");
            assert_eq!(down.expect_err("the link is down").raw_os_error(), Some(libc::ENETDOWN));
            let silent = tokio::time::timeout(Duration::from_millis(20), capture.next(&mut buffer)).await;
            assert!(silent.is_err(), "the error is told once");
            ip("link set eth0 up");
            settle(&["eth0", "eth1"]);
            send(&frames("eth1", 0), &frame(&[0x08, 0x00], &v4(112, 99)));
            assert_eq!(marks(&capture).await, [99]);
        });
    });
}

#[test]
fn the_advertisement_groups_are_joined_while_the_capture_lives() {
    in_namespace(|| {
        veth("eth0", "eth1");
        let joined = || {
            let groups = ip("maddress show dev eth0");
            (groups.contains("inet  224.0.0.18"), groups.contains("inet6 ff02::12"))
        };
        assert_eq!(joined(), (false, false));
        let runtime = runtime();
        let capture = runtime.block_on(async { Capture::open("eth0").expect("a capture") });
        assert_eq!(joined(), (true, true));
        drop(capture);
        assert_eq!(joined(), (false, false));
    });
}

#[test]
fn a_missing_interface_or_runtime_is_an_error_not_a_panic() {
    in_namespace(|| {
        let outside = Capture::open("lo").expect_err("no runtime");
        assert_eq!(outside.kind(), std::io::ErrorKind::Other);
        runtime().block_on(async {
            let missing = Capture::open("nowhere").expect_err("no interface");
            assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
            let unnamed = Capture::open("a-name-far-too-long").expect_err("no such name");
            assert_eq!(unnamed.kind(), std::io::ErrorKind::InvalidInput);
        });
    });
}
