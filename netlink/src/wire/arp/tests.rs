use proptest::prelude::*;

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Packet 2 of vrrp2-pass-graceful.pcap, but for the target MAC, which RFC 5227 wants to be zero.
const GRATUITOUS: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0,
    1, 192, 0, 2, 100, 0, 0, 0, 0, 0, 0, 192, 0, 2, 100,
];

#[test]
fn a_gratuitous_request_is_this_frame() {
    assert_eq!(gratuitous_request(MAC, Ipv4Addr::new(192, 0, 2, 100)), GRATUITOUS);
}

#[test]
fn a_gratuitous_request_reads_back() {
    let packet = Packet::parse(&GRATUITOUS[14..]).unwrap();
    assert_eq!(packet.operation, Operation::Request);
    assert_eq!(packet.sender_mac, MAC);
    assert_eq!(packet.sender_ip, Ipv4Addr::new(192, 0, 2, 100));
    assert!(packet.is_gratuitous());
}

#[test]
fn padding_is_ignored_and_damage_refused() {
    let mut padded = GRATUITOUS[14..].to_vec();
    padded.extend_from_slice(&[0xa5; 18]);
    assert!(Packet::parse(&padded).is_ok());
    assert_eq!(Packet::parse(&padded[..27]), Err(Error::Truncated));
    for at in 0..6 {
        let mut damaged = padded.clone();
        damaged[at] ^= 1;
        assert_eq!(Packet::parse(&damaged), Err(Error::ArpFormat), "byte {at}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        operation: u16, sender_mac: [u8; 6], sender_ip: [u8; 4], target_mac: [u8; 6], target_ip: [u8; 4],
    ) {
        let packet = Packet {
            operation: operation.into(),
            sender_mac: Mac(sender_mac),
            sender_ip: sender_ip.into(),
            target_mac: Mac(target_mac),
            target_ip: target_ip.into(),
        };
        prop_assert_eq!(Packet::parse(&packet.emit()), Ok(packet));
    }
}
