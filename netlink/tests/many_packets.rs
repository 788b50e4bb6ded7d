//! A great many packets, random and nearly right, through every parser of advertisements: none panics, and each is
//! understood now and then, so that the loop does not only knock at the door. `CYGNET_PACKETS` says how many for each parser
//! (`make packets`: ten million).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_netlink::wire::checksum::Sum;
use cygnet_netlink::wire::vrrp::{self, Auth, ChecksumForm, Version};
use cygnet_netlink::wire::{arp, carp, ip, parse_advertisement};

/// Without `CYGNET_PACKETS`: a part of a second in all.
const PACKETS: u64 = 50_000;
/// The longest random packet, bytes.
const LENGTH_MAX: u64 = 120;

/// xorshift64* (Vigna 2016): the same packets in every run, and no time lost.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> usize {
        (self.next() % bound) as usize
    }

    /// Random bytes, or a packet of `sample` with up to three of its bytes replaced, cut or lengthened now and then.
    fn packet(&mut self, sample: impl FnOnce(&mut Self) -> Vec<u8>) -> Vec<u8> {
        if self.below(4) == 0 {
            let length = self.below(LENGTH_MAX);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut bytes = sample(self);
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() as u64);
            bytes[at] = self.next() as u8;
        }
        match self.below(8) {
            0 => bytes.truncate(self.below(LENGTH_MAX)),
            1 => bytes.extend(std::iter::repeat_n(1, self.below(40))),
            _ => {}
        }
        bytes
    }

    fn source(&mut self, six: bool) -> IpAddr {
        if six {
            return Ipv6Addr::from((0xfe80 << 112) | u128::from(self.next())).into();
        }
        Ipv4Addr::from(0xc000_0200 | self.next() as u32 & 0xff).into()
    }

    fn vrrp(&mut self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let two = source.is_ipv4() && self.below(2) == 0;
        let count = 1 + self.below(20);
        let auth = [Auth::None, Auth::Simple(self.next().to_be_bytes())][self.below(2)];
        let advert = vrrp::Advertisement {
            version: if two { Version::V2 } else { Version::V3 },
            vrid: self.next() as u8,
            priority: self.next() as u8,
            interval_cs: self.next() as u16,
            addresses: (0..count).map(|_| self.source(source.is_ipv6())).collect(),
            auth,
            checksum: [ChecksumForm::Message, ChecksumForm::PseudoHeader][self.below(2)],
        };
        advert.emit(source, destination)
    }

    fn carp(&mut self) -> Vec<u8> {
        let advert = carp::Advertisement {
            vhid: self.next() as u8,
            advskew: self.next() as u8,
            authlen: carp::AUTHLEN,
            demote: self.next() as u8,
            advbase: self.next() as u8,
            counter: self.next(),
            hmac: [self.next() as u8; 20],
        };
        advert.emit().to_vec()
    }
}

fn group(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { [224, 0, 0, 18].into() } else { Ipv6Addr::from((0xff02 << 112) | 0x12).into() }
}

/// A packet of protocol 112 round the payload, with right lengths and sums.
fn wrap(source: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source, group(source)) else {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([112, 255]);
        for address in [source, group(source)] {
            if let IpAddr::V6(address) = address {
                packet.extend(address.octets());
            }
        }
        packet.extend(payload);
        return packet;
    };
    let mut packet = vec![0x45, 0xc0];
    packet.extend((length + 20).to_be_bytes());
    packet.extend([0, 0, 0, 0, 255, 112, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = Sum::default().bytes(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn packets() -> u64 {
    let given = std::env::var("CYGNET_PACKETS").ok();
    given.map_or(PACKETS, |count| count.parse().expect("CYGNET_PACKETS is a number"))
}

/// Runs one parser over so many packets; `parse` says whether the packet was understood.
fn run(name: &str, seed: u64, mut parse: impl FnMut(&mut Random) -> bool) {
    let (mut random, count) = (Random(seed), packets());
    let understood = (0..count).filter(|_| parse(&mut random)).count() as u64;
    println!("{name}: {count} packets, {understood} understood");
    assert!(understood > count / 100, "{name}: the packets do not get in");
    assert!(understood < count, "{name}: everything is understood");
}

#[test]
fn no_packet_makes_the_vrrp_parser_panic_over_ipv4() {
    run("VRRP over IPv4", 1, |random| {
        let source = random.source(false);
        let bytes = random.packet(|random| random.vrrp(source, group(source)));
        vrrp::Advertisement::parse(&bytes, source, group(source)).is_ok()
    });
}

#[test]
fn no_packet_makes_the_vrrp_parser_panic_over_ipv6() {
    run("VRRP over IPv6", 2, |random| {
        let source = random.source(true);
        let bytes = random.packet(|random| random.vrrp(source, group(source)));
        vrrp::Advertisement::parse(&bytes, source, group(source)).is_ok()
    });
}

#[test]
fn no_packet_makes_the_carp_parser_panic() {
    run("CARP", 3, |random| {
        let bytes = random.packet(Random::carp);
        let parsed = carp::Advertisement::parse(&bytes);
        // The HMAC of a random packet never is right; it must not do harm either. It is dear, so not every time.
        if let (Ok(advert), 0) = (&parsed, random.below(64)) {
            assert!(!advert.verify("secret", &[group(random.source(false))]));
        }
        carp::looks_like(&bytes) && parsed.is_ok()
    });
}

#[test]
fn no_packet_makes_the_ip_parser_panic() {
    run("IP with an advertisement", 4, |random| {
        let six = random.below(2) == 0;
        let source = random.source(six);
        let bytes = random.packet(|random| {
            let payload =
                if random.below(3) == 0 { random.carp() } else { random.vrrp(source, group(source)) };
            wrap(source, &payload)
        });
        ip::parse(&bytes).is_ok_and(|packet| parse_advertisement(&packet).is_ok())
    });
}

#[test]
fn no_packet_makes_the_arp_parser_panic() {
    run("ARP", 5, |random| {
        let bytes = random.packet(|random| {
            let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
            bytes.extend((0..20).map(|_| random.next() as u8));
            bytes
        });
        arp::Packet::parse(&bytes).is_ok()
    });
}
