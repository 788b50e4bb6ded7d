//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, as far as advertisements need them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Error;
use super::checksum::Sum;

/// IPv4, RFC 791 section 3.1. Options are skipped, fragments refused.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Version|  IHL  |Type of Service|          Total Length         |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |         Identification        |Flags|      Fragment Offset    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |  Time to Live |    Protocol   |         Header Checksum       |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                       Source Address                          |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                    Destination Address                        |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                    Options                    |    Padding    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
mod v4 {
    use std::ops::Range;

    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const TOS: usize = 1;
    pub(super) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(super) const FLAGS_OFFSET: Range<usize> = 6..8;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: Range<usize> = 10..12;
    pub(super) const SOURCE: Range<usize> = 12..16;
    pub(super) const DESTINATION: Range<usize> = 16..20;
    pub(super) const HEADER: usize = 20;
    /// More-fragments flag and fragment offset; what is left of the field is "don't fragment" and a reserved bit.
    pub(super) const FRAGMENT_MASK: u16 = 0x3fff;
}

/// IPv6, RFC 8200 section 3. Extension headers are not followed: `protocol` is the first next header.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Version| Traffic Class |           Flow Label                  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |         Payload Length        |  Next Header  |   Hop Limit   |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |               Source Address (16), Destination Address (16)   |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
mod v6 {
    use std::ops::Range;

    pub(super) const VERSION_CLASS_FLOW: Range<usize> = 0..4;
    pub(super) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: Range<usize> = 8..24;
    pub(super) const DESTINATION: Range<usize> = 24..40;
    pub(super) const HEADER: usize = 40;
}

/// An IP packet, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Protocol or next header.
    pub protocol: u8,
    /// What follows the header, by the IP length: padding of the link layer is cut off.
    pub payload: &'a [u8],
}

/// Reads an IP packet from its first byte. Bytes after the IP length (Ethernet padding) are ignored.
///
/// # Errors
/// [`Error::IpTruncated`], [`Error::IpVersion`], [`Error::IpHeader`], [`Error::IpLength`], [`Error::IpChecksum`],
/// [`Error::IpFragment`].
pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    match bytes.first().ok_or(Error::IpTruncated)? >> 4 {
        4 => parse_v4(bytes),
        6 => parse_v6(bytes),
        _ => Err(Error::IpVersion),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let fixed: &[u8; v4::HEADER] = bytes.first_chunk().ok_or(Error::IpTruncated)?;
    let header_length = usize::from(fixed[v4::VERSION_IHL] & 0xf) * 4;
    if header_length < v4::HEADER {
        return Err(Error::IpHeader);
    }
    let header = bytes.get(..header_length).ok_or(Error::IpTruncated)?;
    if !Sum::default().bytes(header).verifies() {
        return Err(Error::IpChecksum);
    }
    let total_length = usize::from(word(fixed, v4::TOTAL_LENGTH.start));
    let payload = bytes.get(header_length..total_length).ok_or(Error::IpLength)?;
    if word(fixed, v4::FLAGS_OFFSET.start) & v4::FRAGMENT_MASK != 0 {
        return Err(Error::IpFragment);
    }
    Ok(Packet {
        source: Ipv4Addr::from(array::<4>(fixed, v4::SOURCE.start)).into(),
        destination: Ipv4Addr::from(array::<4>(fixed, v4::DESTINATION.start)).into(),
        hop_limit: fixed[v4::TTL],
        protocol: fixed[v4::PROTOCOL],
        payload,
    })
}

fn parse_v6(bytes: &[u8]) -> Result<Packet<'_>, Error> {
    let fixed: &[u8; v6::HEADER] = bytes.first_chunk().ok_or(Error::IpTruncated)?;
    let length = usize::from(word(fixed, v6::PAYLOAD_LENGTH.start));
    let payload = bytes.get(v6::HEADER..v6::HEADER + length).ok_or(Error::IpLength)?;
    Ok(Packet {
        source: Ipv6Addr::from(array::<16>(fixed, v6::SOURCE.start)).into(),
        destination: Ipv6Addr::from(array::<16>(fixed, v6::DESTINATION.start)).into(),
        hop_limit: fixed[v6::HOP_LIMIT],
        protocol: fixed[v6::NEXT_HEADER],
        payload,
    })
}

impl Packet<'_> {
    /// The length of the packet that [`Packet::emit`] writes, in bytes.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        let header = if self.source.is_ipv4() { v4::HEADER } else { v6::HEADER };
        header + self.payload.len()
    }

    /// Writes header (no options, no fragment, identification 0, the given type of service or traffic class) and
    /// payload to the beginning of `buffer`; returns the bytes written.
    ///
    /// # Errors
    /// [`Error::Family`] when source and destination differ in family, [`Error::IpLength`] when the packet does not
    /// fit into the buffer or into the length field.
    pub fn emit<'b>(&self, tos: u8, buffer: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let length = self.buffer_len();
        let buffer = buffer.get_mut(..length).ok_or(Error::IpLength)?;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.emit_v4(source, destination, tos, buffer)?;
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.emit_v6(source, destination, tos, buffer)?;
            }
            _ => return Err(Error::Family),
        }
        Ok(buffer)
    }

    fn emit_v4(
        &self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        tos: u8,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let total_length = u16::try_from(buffer.len()).map_err(|_| Error::IpLength)?;
        let (header, payload) = buffer.split_at_mut(v4::HEADER);
        header.fill(0);
        header[v4::VERSION_IHL] = 0x45;
        header[v4::TOS] = tos;
        header[v4::TOTAL_LENGTH].copy_from_slice(&total_length.to_be_bytes());
        header[v4::TTL] = self.hop_limit;
        header[v4::PROTOCOL] = self.protocol;
        header[v4::SOURCE].copy_from_slice(&source.octets());
        header[v4::DESTINATION].copy_from_slice(&destination.octets());
        let checksum = Sum::default().bytes(header).finish();
        header[v4::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        payload.copy_from_slice(self.payload);
        Ok(())
    }

    fn emit_v6(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        tos: u8,
        buffer: &mut [u8],
    ) -> Result<(), Error> {
        let payload_length = u16::try_from(self.payload.len()).map_err(|_| Error::IpLength)?;
        let (header, payload) = buffer.split_at_mut(v6::HEADER);
        header[v6::VERSION_CLASS_FLOW].copy_from_slice(&(6 << 28 | u32::from(tos) << 20).to_be_bytes());
        header[v6::PAYLOAD_LENGTH].copy_from_slice(&payload_length.to_be_bytes());
        header[v6::NEXT_HEADER] = self.protocol;
        header[v6::HOP_LIMIT] = self.hop_limit;
        header[v6::SOURCE].copy_from_slice(&source.octets());
        header[v6::DESTINATION].copy_from_slice(&destination.octets());
        payload.copy_from_slice(self.payload);
        Ok(())
    }
}

/// The 16-bit word at `at`; the caller knows that it lies inside.
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests;
