use proptest::prelude::*;

use super::*;

/// Recorded from ucarp 1.5.2: password "secret", address 192.0.2.100 (packet 2 of carp-startup-preempt.pcap).
const PACKET: [u8; LENGTH] = [
    0x21, 0x33, 0x64, 0x07, 0x00, 0x01, 0x4c, 0xeb, 0x38, 0xb4, 0x28, 0xd4, 0xaa, 0x9f, 0x1f, 0x85, 0xc2,
    0xde, 0xac, 0x14, 0xd4, 0x06, 0xde, 0x4f, 0x0f, 0x28, 0x4a, 0x17, 0xf9, 0x33, 0x76, 0xd7, 0x19, 0x6e,
    0xfe, 0x28,
];
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));

fn advertisement() -> Advertisement {
    Advertisement {
        vhid: 51,
        advskew: 100,
        authlen: 7,
        demote: 0,
        advbase: 1,
        counter: 0x38b4_28d4_aa9f_1f85,
        hmac: std::array::from_fn(|i| PACKET[16 + i]),
    }
}

fn changed(at: usize, value: u8) -> [u8; LENGTH] {
    let mut bytes = PACKET;
    bytes[at] = value;
    bytes[6..8].fill(0);
    let checksum = Sum::default().bytes(&bytes).finish();
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn the_recorded_bytes_become_an_advertisement_and_back() {
    assert_eq!(Advertisement::parse(&PACKET), Ok(advertisement()));
    assert_eq!(advertisement().emit(), PACKET);
}

#[test]
fn the_recorded_hmac_verifies_with_its_password_and_address_only() {
    let packet = advertisement();
    assert!(packet.verify("secret", &[ADDRESS]));
    assert!(!packet.verify("secrets", &[ADDRESS]));
    assert!(!packet.verify("", &[ADDRESS]));
    assert!(!packet.verify("secret", &[]));
    assert!(!packet.verify("secret", &[[192, 0, 2, 101].into()]));
    assert!(!packet.verify("secret", &[ADDRESS, [192, 0, 2, 101].into()]));
    assert!(!Advertisement { vhid: 52, ..packet }.verify("secret", &[ADDRESS]));
    assert!(!Advertisement { counter: 1, ..packet }.verify("secret", &[ADDRESS]));
    // Not signed, as a receiver must know:
    assert!(Advertisement { advskew: 0, advbase: 9, demote: 1, ..packet }.verify("secret", &[ADDRESS]));
}

#[test]
fn signing_gives_the_recorded_hmac() {
    let mut packet = Advertisement { hmac: [0xa5; 20], ..advertisement() };
    packet.sign("secret", &[ADDRESS]).unwrap();
    assert_eq!(packet, advertisement());
}

#[test]
fn the_order_of_addresses_does_not_matter_and_link_local_ones_may_be_unsigned() {
    let (global, local) = ("2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap());
    let mut packet = advertisement();
    packet.sign("secret", &[global, ADDRESS]).unwrap();
    assert!(packet.verify("secret", &[ADDRESS, global]));
    assert!(packet.verify("secret", &[local, ADDRESS, global]));
    packet.sign("secret", &[ADDRESS, global, local]).unwrap();
    assert!(packet.verify("secret", &[local, ADDRESS, global]));
    assert!(!packet.verify("secret", &[ADDRESS, global]));
}

#[test]
fn a_password_counts_up_to_20_bytes() {
    let mut packet = advertisement();
    packet.sign("12345678901234567890", &[ADDRESS]).unwrap();
    assert!(packet.verify("12345678901234567890-and-more", &[ADDRESS]));
    assert!(!packet.verify("1234567890123456789", &[ADDRESS]));
}

#[test]
fn each_damage_has_its_reason() {
    for length in 0..LENGTH {
        assert_eq!(Advertisement::parse(&PACKET[..length]), Err(Error::Truncated));
    }
    assert_eq!(Advertisement::parse(&changed(0, 0x31)), Err(Error::Version));
    assert_eq!(Advertisement::parse(&changed(0, 0x22)), Err(Error::Type));
    assert_eq!(Advertisement::parse(&changed(3, 6)), Err(Error::CarpAuthLength));
    assert_eq!(Advertisement::parse(&changed(1, 0)), Err(Error::IdZero));
    let mut damaged = PACKET;
    damaged[2] = 0;
    assert_eq!(Advertisement::parse(&damaged), Err(Error::Checksum));
}

#[test]
fn only_255_255_is_a_resignation() {
    let packet = advertisement();
    assert!(!packet.is_resignation());
    assert!(!Advertisement { advskew: 255, ..packet }.is_resignation());
    assert!(!Advertisement { advbase: 255, ..packet }.is_resignation());
    assert!(Advertisement { advskew: 255, advbase: 255, ..packet }.is_resignation());
}

#[test]
fn carp_and_vrrp_are_told_apart_by_byte_3_and_length() {
    let payload = |first: u8, byte3: u8, length: usize| {
        let mut bytes = vec![0; length];
        for (to, from) in bytes.iter_mut().zip([first, 51, 100, byte3]) {
            *to = from;
        }
        bytes
    };
    for (first, byte3, length, is_carp) in [
        (0x21, 7, 36, true),
        (0x21, 7, 20, true),  // truncated CARP, and too short for 7 addresses
        (0x21, 7, 48, true),  // trailing bytes
        (0x21, 7, 44, false), // VRRPv2 with 7 addresses
        (0x21, 7, 72, false), // the same with a trailer
        (0x21, 5, 36, false), // VRRPv2 with 5 addresses
        (0x21, 6, 36, true),  // CARP with a strange length of authentication
        (0x21, 6, 40, false),
        (0x21, 1, 20, false),
        (0x31, 7, 36, false), // VRRPv3
        (0x22, 7, 36, true),  // CARP of unknown type
        (0x21, 7, 3, false),
    ] {
        assert_eq!(looks_like(&payload(first, byte3, length)), is_carp, "{first:02x} {byte3} {length}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        vhid in 1u8.., advskew: u8, demote: u8, advbase: u8, counter: u64, hmac: [u8; 20],
    ) {
        let packet = Advertisement { vhid, advskew, authlen: AUTHLEN, demote, advbase, counter, hmac };
        prop_assert_eq!(Advertisement::parse(&packet.emit()), Ok(packet));
    }

    #[test]
    fn one_flipped_bit_never_passes(bit in 0..LENGTH * 8) {
        let mut bytes = PACKET;
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Advertisement::parse(&bytes).is_err());
    }
}
