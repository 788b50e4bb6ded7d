use proptest::prelude::*;

use super::*;

const GROUP: [u8; 4] = [224, 0, 0, 18];
const A: [u8; 4] = [192, 0, 2, 1];

/// Packet 1 of vrrp2-pass-graceful.pcap.
const V2_PASS: [u8; 24] = [
    0x21, 0x33, 0x96, 0x02, 0x01, 0x01, 0x55, 0xb2, 192, 0, 2, 100, 192, 0, 2, 101, b's', b'3', b'c', b'r',
    b'e', b't', b'1', b'2',
];
/// Packet 1 of vrrp3-100ms-crash.pcap: pseudo header in the checksum.
const V3: [u8; 12] = [0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0xd3, 0xcb, 192, 0, 2, 100];
/// The same by the letter of RFC 9568: the sum of d3cb without the pseudo header a290 (see `checksum`).
const V3_MESSAGE_ONLY: [u8; 12] = [0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0x76, 0x5c, 192, 0, 2, 100];
/// Packet 1 of vrrp3-ipv6-graceful.pcap.
const V3_IPV6: [u8; 40] = [
    0x31, 0x33, 0x64, 0x02, 0x00, 0x64, 0x3f, 0xf6, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1,
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
];

fn v2_pass() -> Advertisement {
    Advertisement {
        version: Version::V2,
        vrid: 51,
        priority: 150,
        interval_cs: 100,
        addresses: vec![[192, 0, 2, 100].into(), [192, 0, 2, 101].into()],
        auth: Auth::Simple(*b"s3cret12"),
        checksum: ChecksumForm::Message,
    }
}

fn v3() -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: 51,
        priority: 150,
        interval_cs: 10,
        addresses: vec![[192, 0, 2, 100].into()],
        auth: Auth::None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

fn v3_ipv6() -> Advertisement {
    let addresses = ["fe80::5:1", "2001:db8::100"].map(|text| text.parse().unwrap()).to_vec();
    Advertisement { priority: 100, interval_cs: 100, addresses, ..v3() }
}

fn cases() -> [(&'static [u8], Advertisement, IpAddr, IpAddr); 4] {
    let (a, group) = (A.into(), GROUP.into());
    let (b6, group6) = ("fe80::ff:fe00:2".parse().unwrap(), "ff02::12".parse().unwrap());
    [
        (&V2_PASS, v2_pass(), a, group),
        (&V3, v3(), a, group),
        (&V3_MESSAGE_ONLY, Advertisement { checksum: ChecksumForm::Message, ..v3() }, a, group),
        (&V3_IPV6, v3_ipv6(), b6, group6),
    ]
}

fn parse_v4(bytes: &[u8]) -> Result<Advertisement, Error> {
    Advertisement::parse(bytes, A.into(), GROUP.into())
}

/// Writes the message-only checksum, which is right for version 2 and accepted for version 3.
fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[6..8].fill(0);
    let checksum = Sum::default().bytes(&bytes).finish();
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn changed(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = value;
    repaired(bytes)
}

#[test]
fn recorded_bytes_become_advertisements() {
    for (bytes, advertisement, source, destination) in cases() {
        assert_eq!(Advertisement::parse(bytes, source, destination), Ok(advertisement));
    }
}

#[test]
fn advertisements_become_the_recorded_bytes() {
    for (bytes, advertisement, source, destination) in cases() {
        assert_eq!(advertisement.emit(source, destination), bytes);
    }
}

#[test]
fn the_pseudo_header_uses_the_real_destination() {
    let (a, b) = (A.into(), IpAddr::from([192, 0, 2, 2]));
    let bytes = v3().emit(a, b);
    assert_eq!(Advertisement::parse(&bytes, a, b), Ok(v3()));
    assert_eq!(parse_v4(&bytes), Err(Error::Checksum));
}

#[test]
fn over_ipv6_the_message_alone_is_not_enough() {
    let (_, _, source, destination) = cases()[3];
    let bytes = repaired(V3_IPV6.to_vec());
    assert_eq!(Advertisement::parse(&bytes, source, destination), Err(Error::Checksum));
}

#[test]
fn reserved_bits_are_ignored_and_any_interval_is_read() {
    assert_eq!(parse_v4(&changed(&V3, 4, 0xf0)).map(|adv| adv.interval_cs), Ok(10));
    let all = repaired([&V3[..4], &[0xff, 0xff], &V3[6..]].concat());
    assert_eq!(parse_v4(&all).map(|adv| adv.interval_cs), Ok(INTERVAL_CS_MAX));
    assert_eq!(parse_v4(&changed(&V3, 5, 0)).map(|adv| adv.interval_cs), Ok(0));
}

#[test]
fn the_trailer_of_keepalived_2_4_is_tolerated() {
    let mut trailer = [0x5a; TRAILER_LENGTH];
    trailer[0] = TRAILER_TYPE;
    for (bytes, advertisement, source, destination) in cases() {
        let mut long = bytes.to_vec();
        long.extend_from_slice(&trailer);
        assert_eq!(Advertisement::parse(&long, source, destination), Ok(advertisement.clone()));
        long[bytes.len()] = 2;
        assert_eq!(Advertisement::parse(&long, source, destination), Err(Error::Length));
    }
    // The sum may as well run over the whole payload.
    let whole = repaired([&V3[..], &trailer].concat());
    assert_eq!(parse_v4(&whole).map(|adv| adv.vrid), Ok(51));
}

#[test]
fn each_damage_has_its_reason() {
    for (bytes, _, source, destination) in cases() {
        for length in 0..8 {
            assert_eq!(Advertisement::parse(&bytes[..length], source, destination), Err(Error::Truncated));
        }
        let shorter = &bytes[..bytes.len() - 1];
        assert!(Advertisement::parse(shorter, source, destination).is_err());
        let longer = [bytes, &[0; 12]].concat();
        assert_eq!(Advertisement::parse(&longer, source, destination), Err(Error::Length));
    }
    assert_eq!(parse_v4(&changed(&V3, 0, 0x11)), Err(Error::Version));
    assert_eq!(parse_v4(&changed(&V3, 0, 0x41)), Err(Error::Version));
    assert_eq!(parse_v4(&changed(&V3, 0, 0x32)), Err(Error::Type));
    assert_eq!(parse_v4(&changed(&V3, 1, 0)), Err(Error::IdZero));
    assert_eq!(parse_v4(&changed(&V3, 3, 0)), Err(Error::NoAddress));
    assert_eq!(parse_v4(&changed(&V3, 3, 2)), Err(Error::AddressCount));
    assert_eq!(parse_v4(&V3[..8]), Err(Error::Truncated));
    assert_eq!(parse_v4(&V2_PASS[..12]), Err(Error::Truncated));
    assert_eq!(parse_v4(&changed(&V3, 8, 224)), Err(Error::Address));
    assert_eq!(parse_v4(&changed(&V3, 8, 127)), Err(Error::Address));
    let mut damaged = V2_PASS;
    damaged[2] ^= 1;
    assert_eq!(parse_v4(&damaged), Err(Error::Checksum));
}

#[test]
fn version_2_is_ipv4_only() {
    let (_, _, source, destination) = cases()[3];
    assert_eq!(Advertisement::parse(&V2_PASS, source, destination), Err(Error::Family));
    assert_eq!(Advertisement::parse(&V3, A.into(), destination), Err(Error::Family));
}

#[test]
fn unknown_authentication_is_kept_as_it_is() {
    assert_eq!(parse_v4(&changed(&V2_PASS, 4, 2)).map(|adv| adv.auth), Ok(Auth::Other(2)));
    assert_eq!(parse_v4(&changed(&V2_PASS, 4, 0)).map(|adv| adv.auth), Ok(Auth::None));
}

#[test]
fn what_cannot_be_expressed_is_cut() {
    let group = GROUP.into();
    let many = Advertisement { addresses: vec![[192, 0, 2, 100].into(); 300], interval_cs: 65_535, ..v3() };
    let read = parse_v4(&many.emit(A.into(), group)).unwrap();
    assert_eq!((read.addresses.len(), read.interval_cs), (255, INTERVAL_CS_MAX));
    let mixed =
        Advertisement { addresses: vec![[192, 0, 2, 100].into(), "fe80::1".parse().unwrap()], ..v2_pass() };
    let mixed = Advertisement { interval_cs: 99, ..mixed };
    let read = parse_v4(&mixed.emit(A.into(), group)).unwrap();
    assert_eq!((read.addresses.len(), read.interval_cs), (1, 100));
}

prop_compose! {
    fn v4_address()(first in 1u8..=223, rest: [u8; 3]) -> IpAddr {
        let first = if first == 127 { 126 } else { first };
        [first, rest[0], rest[1], rest[2]].into()
    }
}

prop_compose! {
    fn v6_address()(first in 0x20u8..=0xfe, rest: [u8; 15]) -> IpAddr {
        let mut bytes = [first; 16];
        bytes[1..].copy_from_slice(&rest);
        bytes.into()
    }
}

prop_compose! {
    fn advertisement()(
        kind in 0..4,
        vrid in 1u8..,
        priority: u8,
        seconds in 1u16..=255,
        centiseconds in 0..=INTERVAL_CS_MAX,
        v4 in proptest::collection::vec(v4_address(), 1..20),
        v6 in proptest::collection::vec(v6_address(), 1..20),
        auth in prop_oneof![
            Just(Auth::None), any::<[u8; 8]>().prop_map(Auth::Simple), (2u8..).prop_map(Auth::Other)
        ],
    ) -> Advertisement {
        let version = if kind == 0 { Version::V2 } else { Version::V3 };
        let checksum = if kind < 2 { ChecksumForm::Message } else { ChecksumForm::PseudoHeader };
        let (interval_cs, auth) = if kind == 0 { (seconds * 100, auth) } else { (centiseconds, Auth::None) };
        let addresses = if kind == 3 { v6 } else { v4 };
        Advertisement { version, vrid, priority, interval_cs, addresses, auth, checksum }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(advertisement in advertisement(), v4 in v4_address(), v6 in v6_address()) {
        let over_ipv6 = advertisement.addresses[0].is_ipv6();
        let source = if over_ipv6 { v6 } else { v4 };
        let destination = if over_ipv6 { "ff02::12".parse().unwrap() } else { GROUP.into() };
        let bytes = advertisement.emit(source, destination);
        prop_assert_eq!(Advertisement::parse(&bytes, source, destination), Ok(advertisement));
    }

    #[test]
    fn one_flipped_bit_of_the_message_never_passes(advertisement in advertisement(), bit: prop::sample::Index) {
        // All IPv4 cases: the checksum or a length or a version check notices every single bit, but for reserved ones.
        prop_assume!(advertisement.addresses[0].is_ipv4());
        let mut bytes = advertisement.emit(A.into(), GROUP.into());
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(parse_v4(&bytes), Ok(advertisement));
    }
}
