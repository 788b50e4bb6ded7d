use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// The header of packet 1 of vrrp3-100ms-crash.pcap with identification 0, and twelve bytes of payload.
const V4: [u8; 32] = [
    0x45, 0xc0, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0xff, 0x70, 0x18, 0x9a, 0xc0, 0x00, 0x02, 0x01, 0xe0,
    0x00, 0x00, 0x12, 0x31, 0x33, 0x96, 0x01, 0x00, 0x0a, 0xd3, 0xcb, 0xc0, 0x00, 0x02, 0x64,
];
const V6: [u8; 44] = [
    0x6c, 0x00, 0x00, 0x00, 0x00, 0x04, 0x70, 0xff, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0,
    2, 0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 1, 2, 3, 4,
];

fn v4() -> Packet<'static> {
    Packet {
        source: [192, 0, 2, 1].into(),
        destination: [224, 0, 0, 18].into(),
        hop_limit: 255,
        protocol: 112,
        payload: &V4[20..],
    }
}

fn v6() -> Packet<'static> {
    Packet {
        source: "fe80::ff:fe00:2".parse::<IpAddr>().unwrap(),
        destination: "ff02::12".parse::<IpAddr>().unwrap(),
        hop_limit: 255,
        protocol: 112,
        payload: &V6[40..],
    }
}

/// Changes one byte of the IPv4 packet and repairs the header checksum.
fn changed(at: usize, value: u8) -> [u8; 32] {
    let mut bytes = V4;
    bytes[at] = value;
    bytes[10..12].fill(0);
    let checksum = Sum::default().bytes(&bytes[..20]).finish();
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn bytes_become_packets_and_back() {
    for (bytes, packet) in [(&V4[..], v4()), (&V6[..], v6())] {
        assert_eq!(parse(bytes), Ok(packet));
        let mut buffer = [0xa5; 64];
        assert_eq!(packet.emit(0xc0, &mut buffer), Ok(bytes));
        assert!(buffer[bytes.len()..].iter().all(|byte| *byte == 0xa5));
    }
}

#[test]
fn padding_after_the_ip_length_is_cut_off() {
    for (bytes, packet) in [(&V4[..], v4()), (&V6[..], v6())] {
        let mut padded = bytes.to_vec();
        padded.extend_from_slice(&[0xa5; 14]);
        assert_eq!(parse(&padded), Ok(packet));
    }
}

#[test]
fn options_are_skipped() {
    let mut bytes = V4[..20].to_vec();
    bytes.extend_from_slice(&[0x94, 0x04, 0x00, 0x00]); // router alert
    bytes.extend_from_slice(&V4[20..]);
    bytes[0] = 0x46;
    bytes[3] = 36;
    bytes[10..12].fill(0);
    let checksum = Sum::default().bytes(&bytes[..24]).finish();
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(parse(&bytes), Ok(v4()));
}

#[test]
fn each_damage_has_its_reason() {
    assert_eq!(parse(&[]), Err(Error::IpTruncated));
    assert_eq!(parse(&V4[..19]), Err(Error::IpTruncated));
    assert_eq!(parse(&V6[..39]), Err(Error::IpTruncated));
    assert_eq!(parse(&changed(0, 0x55)), Err(Error::IpVersion));
    assert_eq!(parse(&changed(0, 0x44)), Err(Error::IpHeader));
    assert_eq!(parse(&changed(0, 0x4f)), Err(Error::IpTruncated));
    assert_eq!(parse(&V4[..31]), Err(Error::IpLength));
    assert_eq!(parse(&V6[..43]), Err(Error::IpLength));
    assert_eq!(parse(&changed(3, 19)), Err(Error::IpLength));
    assert_eq!(parse(&changed(6, 0x20)), Err(Error::IpFragment));
    assert_eq!(parse(&changed(7, 0x01)), Err(Error::IpFragment));
    let mut bytes = V4;
    bytes[8] = 254;
    assert_eq!(parse(&bytes), Err(Error::IpChecksum));
}

#[test]
fn dont_fragment_is_no_fragment() {
    assert_eq!(parse(&changed(6, 0x40)), Ok(v4()));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let mixed = Packet { source: v6().source, ..v4() };
    assert_eq!(mixed.emit(0, &mut [0; 64]), Err(Error::Family));
    assert_eq!(v4().emit(0, &mut [0; 31]), Err(Error::IpLength));
    let payload = vec![0; 65_536];
    let huge = Packet { payload: &payload, ..v4() };
    assert_eq!(huge.emit(0, &mut vec![0; 70_000]), Err(Error::IpLength));
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        source: [u8; 16], destination: [u8; 16], is_v4: bool, hop_limit: u8, protocol: u8, tos: u8,
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let address = |bytes: [u8; 16]| -> IpAddr {
            if is_v4 { [bytes[0], bytes[1], bytes[2], bytes[3]].into() } else { bytes.into() }
        };
        let (source, destination) = (address(source), address(destination));
        let packet = Packet { source, destination, hop_limit, protocol, payload: &payload };
        let mut buffer = [0xa5; 200];
        let bytes = packet.emit(tos, &mut buffer).unwrap();
        prop_assert_eq!(parse(bytes), Ok(packet));
    }
}
