//! IPv4 packets (RFC 791) as somebody sees them who passes them on and changes nothing: addresses, protocol, ports.
//! Nothing is checked that is the receiver's to check.

use std::net::Ipv4Addr;

use super::Error;

/// The protocol number of TCP.
pub const TCP: u8 = 6;
/// The protocol number of UDP.
pub const UDP: u8 = 17;

mod field {
    pub(super) const TOTAL_LENGTH: usize = 2;
    pub(super) const FLAGS_OFFSET: usize = 6;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const SOURCE: usize = 12;
    pub(super) const DESTINATION: usize = 16;
    pub(super) const HEADER: usize = 20;
    /// More fragments follow.
    pub(super) const MORE: u16 = 0x2000;
    /// Where the fragment begins.
    pub(super) const OFFSET: u16 = 0x1fff;
}

/// A packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From.
    pub source: Ipv4Addr,
    /// To.
    pub destination: Ipv4Addr,
    /// TCP, UDP or another one.
    pub protocol: u8,
    /// A part of a datagram; only the first one has the ports.
    pub is_fragment: bool,
    /// Source and destination port, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// What follows the IP header, without padding; shorter than it should be if the frame was cut.
    pub payload: &'a [u8],
}

/// Reads the packet behind an Ethernet header.
///
/// # Errors
/// [`Error::IpTruncated`], [`Error::IpVersion`], [`Error::IpHeader`], [`Error::IpLength`] (less than the header's own).
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let fixed: &[u8; field::HEADER] = bytes.first_chunk().ok_or(Error::IpTruncated)?;
    if fixed[0] >> 4 != 4 {
        return Err(Error::IpVersion);
    }
    let header = usize::from(fixed[0] & 0xf) * 4;
    if header < field::HEADER {
        return Err(Error::IpHeader);
    }
    let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let address = |at: usize| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| fixed[at + i]));
    // 0: a segment of more than 64 KiB on its way through the kernel (BIG TCP).
    let total = Some(usize::from(word(field::TOTAL_LENGTH))).filter(|total| *total != 0);
    let end = total.unwrap_or(bytes.len()).min(bytes.len());
    let payload = bytes.get(header..end).ok_or(Error::IpLength)?;
    let (protocol, fragment) = (fixed[field::PROTOCOL], word(field::FLAGS_OFFSET));
    let has_ports = matches!(protocol, TCP | UDP) && fragment & field::OFFSET == 0;
    let ports = payload.first_chunk::<4>().filter(|_| has_ports);
    Ok(Packet {
        source: address(field::SOURCE),
        destination: address(field::DESTINATION),
        protocol,
        is_fragment: fragment & (field::MORE | field::OFFSET) != 0,
        ports: ports.map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet with options in its header, and padding behind it.
    fn packet(flags: u16) -> Vec<u8> {
        let mut bytes =
            vec![0x46, 0, 0, 34, 0, 0, 0, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9, 1, 1, 1, 0];
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        bytes.extend([0x12, 0x34, 0, 53, 0, 10, 0, 0, 7, 7]);
        bytes.extend([0; 12]);
        bytes
    }

    #[test]
    fn ports_stand_behind_the_options() {
        let bytes = packet(0x4000);
        let packet = parse(&bytes).expect("a packet");
        assert_eq!((packet.source, packet.destination), ([192, 0, 2, 1].into(), [192, 0, 2, 9].into()));
        assert_eq!((packet.ports, packet.is_fragment), (Some((0x1234, 53)), false));
        assert_eq!(packet.payload.len(), 10, "without the padding");
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        let (first, later) = (packet(0x2000), packet(0x0007));
        let first = parse(&first).expect("a packet");
        let later = parse(&later).expect("a packet");
        assert_eq!((first.is_fragment, first.ports.is_some()), (true, true));
        assert_eq!((later.is_fragment, later.ports), (true, None));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let good = packet(0);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes).map(|_| ())
        };
        assert_eq!(with(0, 0x66), Err(Error::IpVersion));
        assert_eq!(with(0, 0x44), Err(Error::IpHeader));
        assert_eq!(with(0, 0x4f), Err(Error::IpLength));
        assert_eq!(with(3, 23), Err(Error::IpLength));
        assert_eq!(parse(&good[..19]), Err(Error::IpTruncated));
        assert_eq!(parse(&good[..24]).expect("cut after the header").ports, None);
    }
}
