//! The neighbor advertisement (RFC 4861 section 4.4), and the unsolicited one (section 7.2.6): what gratuitous ARP is for
//! IPv4.

use std::net::{IpAddr, Ipv6Addr};

use super::checksum::Sum;
use super::{Error, Mac, ip};

/// Ethernet, IPv6 (RFC 8200 section 3), Neighbor Advertisement (RFC 4861 section 4.4) with the option Target Link-layer
/// Address (section 4.6.1), in bytes from the start of the frame:
///
/// ```text
///   0  destination MAC (6), source MAC (6), type 0x86dd (2)
///  14  version 6 (4), payload length 32 (2), next header 58, hop limit 255, source (16), destination (16)
///  54  type 136, code 0, checksum (2), flags (4): 0x20 = override; target (16)
///  78  option 2, length 1 (8 bytes), MAC (6)
/// ```
mod field {
    use std::ops::Range;

    pub(super) const DESTINATION_MAC: Range<usize> = 0..6;
    pub(super) const SOURCE_MAC: Range<usize> = 6..12;
    pub(super) const ETHERTYPE: Range<usize> = 12..14;
    pub(super) const VERSION: usize = 14;
    pub(super) const PAYLOAD_LENGTH: usize = 19;
    pub(super) const NEXT_HEADER: usize = 20;
    pub(super) const HOP_LIMIT: usize = 21;
    pub(super) const SOURCE: Range<usize> = 22..38;
    pub(super) const DESTINATION: Range<usize> = 38..54;
    pub(super) const TYPE: usize = 54;
    pub(super) const CHECKSUM: Range<usize> = 56..58;
    pub(super) const FLAGS: usize = 58;
    pub(super) const TARGET: Range<usize> = 62..78;
    pub(super) const OPTION: Range<usize> = 78..80;
    pub(super) const OPTION_MAC: Range<usize> = 80..86;
}

/// The length of the frame, bytes.
pub const FRAME_LENGTH: usize = 86;

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const NEXT_HEADER_ICMPV6: u8 = 58;
/// RFC 4861 section 7.1.2: receivers discard anything else.
const HOP_LIMIT: u8 = 255;
const TYPE_NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Override: what the neighbours remember is wrong. Neither Router nor Solicited.
const FLAG_OVERRIDE: u8 = 0x20;
/// Target Link-layer Address, one unit of 8 bytes.
const OPTION_TARGET_MAC: [u8; 2] = [2, 1];
/// All nodes of the link (RFC 4291 section 2.7.1), and the MAC that goes with it (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A frame to all nodes of the link that says: `address` is at `mac`, forget what you knew. It comes from the address
/// itself, which whoever announces it has.
#[must_use]
pub fn unsolicited_advertisement(mac: Mac, address: Ipv6Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[field::DESTINATION_MAC].copy_from_slice(&ALL_NODES_MAC);
    frame[field::SOURCE_MAC].copy_from_slice(&mac.0);
    frame[field::ETHERTYPE].copy_from_slice(&ETHERTYPE_IPV6);
    frame[field::VERSION] = 6 << 4;
    frame[field::PAYLOAD_LENGTH] = (FRAME_LENGTH - field::TYPE) as u8;
    frame[field::NEXT_HEADER] = NEXT_HEADER_ICMPV6;
    frame[field::HOP_LIMIT] = HOP_LIMIT;
    frame[field::SOURCE].copy_from_slice(&address.octets());
    frame[field::DESTINATION].copy_from_slice(&ALL_NODES.octets());
    frame[field::TYPE] = TYPE_NEIGHBOR_ADVERTISEMENT;
    frame[field::FLAGS] = FLAG_OVERRIDE;
    frame[field::TARGET].copy_from_slice(&address.octets());
    frame[field::OPTION].copy_from_slice(&OPTION_TARGET_MAC);
    frame[field::OPTION_MAC].copy_from_slice(&mac.0);
    let message = &frame[field::TYPE..];
    let (source, destination) = (IpAddr::V6(address), IpAddr::V6(ALL_NODES));
    let sum = Sum::default().pseudo_header(source, destination, NEXT_HEADER_ICMPV6, message.len());
    let checksum = sum.bytes(message).finish();
    frame[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Who says that it has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address.
    pub target: Ipv6Addr,
    /// Where it is, by the option; `None`: where the frame comes from.
    pub mac: Option<Mac>,
}

impl Advertisement {
    /// Reads a neighbor advertisement that follows the IPv6 header at once, and checks it as RFC 4861 section 7.1.2 asks.
    ///
    /// # Errors
    /// The first reason for which a receiver must discard it: [`Error::Protocol`], [`Error::HopLimit`],
    /// [`Error::Truncated`], [`Error::Type`], [`Error::Checksum`], [`Error::Length`].
    pub fn parse(packet: &ip::Packet<'_>) -> Result<Self, Error> {
        /// Up to the options.
        const FIXED: usize = 24;
        if packet.protocol != NEXT_HEADER_ICMPV6 {
            return Err(Error::Protocol);
        }
        if packet.hop_limit != HOP_LIMIT {
            return Err(Error::HopLimit);
        }
        let (fixed, mut options) = packet.payload.split_first_chunk::<FIXED>().ok_or(Error::Truncated)?;
        let [TYPE_NEIGHBOR_ADVERTISEMENT, 0, _, _, _, _, _, _, target @ ..] = fixed else {
            return Err(Error::Type);
        };
        let sum = Sum::default();
        let sum =
            sum.pseudo_header(packet.source, packet.destination, NEXT_HEADER_ICMPV6, packet.payload.len());
        if !sum.bytes(packet.payload).verifies() {
            return Err(Error::Checksum);
        }
        let mut mac = None;
        while let [kind, units, ..] = options {
            // Every option has a length above 0, in units of 8 bytes.
            let length = usize::from(*units) * 8;
            let option = options.get(..length).filter(|option| !option.is_empty()).ok_or(Error::Length)?;
            if [*kind, *units] == OPTION_TARGET_MAC {
                mac = option.get(2..8).and_then(|bytes| bytes.try_into().ok()).map(Mac);
            }
            options = options.get(length..).unwrap_or_default();
        }
        Ok(Self { target: Ipv6Addr::from(*target), mac })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Ipv6Addr {
        "2001:db8::100".parse().expect("an address")
    }

    #[test]
    fn what_is_announced_is_read_again() {
        let mac = Mac([2, 0, 0, 0, 0, 0xaa]);
        let frame = unsolicited_advertisement(mac, address());
        let packet = ip::parse(&frame[field::VERSION..]).expect("an IPv6 packet");
        let read = Advertisement::parse(&packet);
        assert_eq!(read, Ok(Advertisement { target: address(), mac: Some(mac) }));
    }

    #[test]
    fn what_a_receiver_must_discard_is_discarded_with_its_reason() {
        let frame = unsolicited_advertisement(Mac::default(), address());
        let good = ip::parse(&frame[field::VERSION..]).expect("an IPv6 packet");
        let of = |payload: &[u8]| Advertisement::parse(&ip::Packet { payload, ..good });
        let changed = |at: usize, value: u8| {
            let mut payload = good.payload.to_vec();
            payload[at] = value;
            payload
        };
        assert_eq!(of(&good.payload[..23]), Err(Error::Truncated));
        assert_eq!(of(&changed(0, 135)), Err(Error::Type));
        assert_eq!(of(&changed(20, 9)), Err(Error::Checksum));
        let hopped = ip::Packet { hop_limit: 64, ..good };
        assert_eq!(Advertisement::parse(&hopped), Err(Error::HopLimit));
        let other = ip::Packet { protocol: 112, ..good };
        assert_eq!(Advertisement::parse(&other), Err(Error::Protocol));
        for units in [0, 2] {
            let mut payload = changed(25, units);
            payload[2..4].fill(0);
            let sum = Sum::default().pseudo_header(good.source, good.destination, 58, payload.len());
            let checksum = sum.bytes(&payload).finish().to_be_bytes();
            payload[2..4].copy_from_slice(&checksum);
            assert_eq!(of(&payload), Err(Error::Length), "an option of {units} units");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(payload in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let (source, destination) = (address().into(), address().into());
            let packet = ip::Packet { source, destination, hop_limit: 255, protocol: 58, payload: &payload };
            let _ = Advertisement::parse(&packet);
        }
    }

    #[test]
    fn every_byte_of_an_announcement_is_where_the_rfcs_have_it() {
        let address: Ipv6Addr = "2001:db8::100".parse().expect("an address");
        let frame = unsolicited_advertisement(Mac([2, 0, 0, 0, 0, 0xaa]), address);
        let expected: Vec<u8> = [
            &[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xaa, 0x86, 0xdd][..],
            &[0x60, 0, 0, 0, 0, 32, 58, 255],
            &address.octets(),
            &[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[136, 0, frame[56], frame[57], 0x20, 0, 0, 0],
            &address.octets(),
            &[2, 1, 2, 0, 0, 0, 0, 0xaa],
        ]
        .concat();
        assert_eq!(frame[..], expected);
        let sum = Sum::default().pseudo_header(address.into(), ALL_NODES.into(), 58, 32);
        assert!(sum.bytes(&frame[54..]).verifies());
    }
}
