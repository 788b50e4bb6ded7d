//! What a fuzz target does with its input. The same functions run under proptest in `netlink/tests/any_bytes.rs`, so
//! that they are exercised where no nightly compiler is at hand.

use cygnet_netlink::pcap;
use cygnet_netlink::wire::{Message, arp, carp, ethernet, ip, ndp, parse_advertisement, tcp, transit, vrrp};

/// Any bytes as an IP packet with an advertisement. What is accepted must survive being written and read again.
pub fn advertisement(bytes: &[u8]) {
    let Ok(packet) = ip::parse(bytes) else { return };
    let Ok(message) = parse_advertisement(&packet) else { return };
    let payload = match &message {
        Message::Vrrp(advertisement) => advertisement.emit(packet.source, packet.destination),
        Message::Carp(advertisement) => advertisement.emit().to_vec(),
    };
    let again = parse_advertisement(&ip::Packet { payload: &payload, ..packet });
    // Version 2 with an interval of 0 seconds is written as 1 second.
    let interval_changes = matches!(&message, Message::Vrrp(advertisement)
        if advertisement.version == vrrp::Version::V2 && advertisement.interval_cs == 0);
    if !interval_changes {
        assert_eq!(again, Ok(message));
    }
}

/// Any bytes as an ARP packet.
pub fn arp(bytes: &[u8]) {
    if let Ok(packet) = arp::Packet::parse(bytes) {
        assert_eq!(packet.emit(), bytes[..28]);
    }
}

/// Any bytes as an IPv6 packet with a neighbour advertisement.
pub fn ndp(bytes: &[u8]) {
    if let Ok(packet) = ip::parse(bytes) {
        let _ = ndp::Advertisement::parse(&packet);
    }
}

/// Any bytes as a CARP payload.
pub fn carp(bytes: &[u8]) {
    let _ = carp::looks_like(bytes);
    if let Ok(advertisement) = carp::Advertisement::parse(bytes) {
        assert_eq!(advertisement.emit(), bytes[..carp::LENGTH]);
    }
}

/// Any bytes as an Ethernet frame with an IPv4 packet and a TCP header in it, as direct server return reads them.
pub fn frame(bytes: &[u8]) {
    let Ok((header, payload)) = ethernet::Header::parse(bytes) else { return };
    let mut again = bytes.to_vec();
    assert!(header.write(&mut again).is_some());
    assert_eq!(again, bytes);
    let Ok(packet) = transit::parse(payload) else { return };
    assert!(packet.payload.len() + 20 <= payload.len());
    // Whatever the stricter parser takes means the same here.
    if let Ok(strict) = ip::parse(payload)
        && strict.source.is_ipv4()
    {
        assert_eq!((strict.source, strict.payload), (packet.source.into(), packet.payload));
    }
    if let Ok(header) = tcp::Header::parse(packet.payload) {
        let answer = header.packet(packet.source, packet.destination);
        let written = transit::parse(&answer).map(|packet| tcp::Header::parse(packet.payload));
        assert_eq!(written, Ok(Ok(header)));
    }
}

/// Any bytes as an IP packet. What is accepted must survive being written and read again.
pub fn ip(bytes: &[u8]) {
    let Ok(packet) = ip::parse(bytes) else { return };
    let mut buffer = vec![0xa5; packet.buffer_len()];
    if let Ok(written) = packet.emit(0, &mut buffer) {
        assert_eq!(ip::parse(written), Ok(packet));
    }
}

/// Any bytes as a capture: reading ends.
pub fn pcap(bytes: &[u8]) {
    if let Ok(reader) = pcap::Reader::new(bytes) {
        assert!(reader.count() <= bytes.len());
    }
}

/// Any bytes as a VRRP payload, over IPv4 and IPv6. Authentication is left to `advertisement`.
pub fn vrrp(bytes: &[u8]) {
    let v4 = ([192, 0, 2, 1].into(), [224, 0, 0, 18].into());
    let v6 = ([0xfe; 16].into(), [0xff; 16].into());
    for (source, destination) in [v4, v6] {
        if let Ok(advertisement) = vrrp::Advertisement::parse(bytes, source, destination) {
            assert!(!advertisement.addresses.is_empty());
            assert!(advertisement.addresses.iter().all(|address| address.is_ipv4() == source.is_ipv4()));
        }
    }
}
