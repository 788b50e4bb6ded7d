//! TCP headers (RFC 9293 section 3.1), as far as answering a first segment takes.

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::{Error, ip, transit};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Bytes of an IPv4 packet that is a TCP header and nothing else.
pub const PACKET: usize = 20 + HEADER;
/// The hop limit of what we send: the usual one.
const HOP_LIMIT: u8 = 64;

mod field {
    use std::ops::Range;

    pub(super) const SOURCE: Range<usize> = 0..2;
    pub(super) const DESTINATION: Range<usize> = 2..4;
    pub(super) const SEQUENCE: Range<usize> = 4..8;
    pub(super) const ACKNOWLEDGMENT: Range<usize> = 8..12;
    pub(super) const OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: Range<usize> = 14..16;
    pub(super) const CHECKSUM: Range<usize> = 16..18;
}

/// Bits of the flags.
pub mod flag {
    /// The last segment.
    pub const FIN: u8 = 1;
    /// The first segment.
    pub const SYN: u8 = 2;
    /// The connection is broken.
    pub const RST: u8 = 4;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 16;
}

/// A header, without its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// The number of the first byte.
    pub sequence: u32,
    /// The number of the byte that is expected next.
    pub acknowledgment: u32,
    /// See [`flag`].
    pub flags: u8,
    /// Bytes that the sender has room for, unscaled.
    pub window: u16,
}

impl Header {
    /// Reads the header at the beginning of an IP payload. The checksum is not looked at: where packets come from the same
    /// machine there is none yet.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        Ok(Self {
            source: word(field::SOURCE.start),
            destination: word(field::DESTINATION.start),
            sequence: long(field::SEQUENCE.start),
            acknowledgment: long(field::ACKNOWLEDGMENT.start),
            flags: bytes[field::FLAGS],
            window: word(field::WINDOW.start),
        })
    }

    /// The IPv4 packet that is this header, with both checksums.
    #[must_use]
    pub fn packet(&self, from: Ipv4Addr, to: Ipv4Addr) -> [u8; PACKET] {
        let mut bytes = [0; HEADER];
        bytes[field::SOURCE].copy_from_slice(&self.source.to_be_bytes());
        bytes[field::DESTINATION].copy_from_slice(&self.destination.to_be_bytes());
        bytes[field::SEQUENCE].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[field::ACKNOWLEDGMENT].copy_from_slice(&self.acknowledgment.to_be_bytes());
        bytes[field::OFFSET] = (HEADER as u8 / 4) << 4;
        bytes[field::FLAGS] = self.flags;
        bytes[field::WINDOW].copy_from_slice(&self.window.to_be_bytes());
        let sum = Sum::default().pseudo_header(from.into(), to.into(), transit::TCP, HEADER);
        let checksum = sum.bytes(&bytes).finish();
        bytes[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        let packet = ip::Packet {
            source: from.into(),
            destination: to.into(),
            hop_limit: HOP_LIMIT,
            protocol: transit::TCP,
            payload: &bytes,
        };
        let mut buffer = [0; PACKET];
        // It fits, by the constants: an error would leave a packet that everybody refuses.
        let _ = packet.emit(0, &mut buffer);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again_and_verifies(
            from: Ipv4Addr, to: Ipv4Addr, numbers: (u16, u16, u32, u32), flags: u8, window: u16,
        ) {
            let (source, destination, sequence, acknowledgment) = numbers;
            let header = Header { source, destination, sequence, acknowledgment, flags, window };
            let packet = header.packet(from, to);
            let read = ip::parse(&packet).expect("an IP packet with a right checksum");
            prop_assert_eq!((read.source, read.destination, read.protocol), (from.into(), to.into(), 6));
            prop_assert_eq!(Header::parse(read.payload), Ok(header));
            let sum = Sum::default().pseudo_header(from.into(), to.into(), 6, HEADER).bytes(read.payload);
            prop_assert!(sum.verifies());
        }
    }

    #[test]
    fn a_header_that_is_cut_is_none() {
        assert_eq!(Header::parse(&[0; HEADER - 1]), Err(Error::Truncated));
    }
}
