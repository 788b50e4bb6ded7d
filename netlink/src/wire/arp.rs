//! ARP for IPv4 over Ethernet (RFC 826), and the gratuitous request (RFC 5227 section 3).

use std::net::Ipv4Addr;

use super::{Error, Mac};

/// RFC 826.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |      Hardware Type (1)        |    Protocol Type (0x0800)     |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// | HW Length (6) | Prot. Len (4) |          Operation            |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |   Sender MAC (6), Sender IP (4), Target MAC (6), Target IP (4) |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
mod field {
    use std::ops::Range;

    pub(super) const FIXED: Range<usize> = 0..6;
    pub(super) const OPERATION: Range<usize> = 6..8;
    pub(super) const SENDER_MAC: Range<usize> = 8..14;
    pub(super) const SENDER_IP: Range<usize> = 14..18;
    pub(super) const TARGET_MAC: Range<usize> = 18..24;
    pub(super) const TARGET_IP: Range<usize> = 24..28;
    pub(super) const LENGTH: usize = 28;
    /// Ethernet, IPv4, lengths 6 and 4.
    pub(super) const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
}

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
/// The length of a gratuitous request with its Ethernet header, in bytes.
pub const FRAME_LENGTH: usize = ETHERNET_HEADER + field::LENGTH;

/// What is asked or answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// 1: who has the target address?
    Request,
    /// 2: the sender has its address.
    Reply,
    /// Anything else (RARP and others).
    Other(u16),
}

impl From<u16> for Operation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Reply,
            other => Self::Other(other),
        }
    }
}

impl From<Operation> for u16 {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Request => 1,
            Operation::Reply => 2,
            Operation::Other(other) => other,
        }
    }
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// The link-layer address that the sender claims.
    pub sender_mac: Mac,
    /// The address of the sender.
    pub sender_ip: Ipv4Addr,
    /// The link-layer address of the target; without meaning in a request.
    pub target_mac: Mac,
    /// The address that is asked for.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// Reads the packet after the Ethernet header; padding is ignored.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::ArpFormat`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; field::LENGTH] = bytes.first_chunk().ok_or(Error::Truncated)?;
        if bytes[field::FIXED] != field::ETHERNET_IPV4 {
            return Err(Error::ArpFormat);
        }
        let operation = u16::from_be_bytes(array(bytes, field::OPERATION.start));
        Ok(Self {
            operation: operation.into(),
            sender_mac: Mac(array(bytes, field::SENDER_MAC.start)),
            sender_ip: Ipv4Addr::from(array::<4>(bytes, field::SENDER_IP.start)),
            target_mac: Mac(array(bytes, field::TARGET_MAC.start)),
            target_ip: Ipv4Addr::from(array::<4>(bytes, field::TARGET_IP.start)),
        })
    }

    /// Whether it announces an address: sender and target address are the same.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip
    }

    /// Writes the packet as it follows the Ethernet header.
    #[must_use]
    pub fn emit(&self) -> [u8; field::LENGTH] {
        let mut bytes = [0; field::LENGTH];
        bytes[field::FIXED].copy_from_slice(&field::ETHERNET_IPV4);
        bytes[field::OPERATION].copy_from_slice(&u16::from(self.operation).to_be_bytes());
        bytes[field::SENDER_MAC].copy_from_slice(&self.sender_mac.0);
        bytes[field::SENDER_IP].copy_from_slice(&self.sender_ip.octets());
        bytes[field::TARGET_MAC].copy_from_slice(&self.target_mac.0);
        bytes[field::TARGET_IP].copy_from_slice(&self.target_ip.octets());
        bytes
    }
}

/// The Ethernet frame of a gratuitous request: everyone learns that `ip` is at `mac` now (RFC 5227 section 3).
#[must_use]
pub fn gratuitous_request(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME_LENGTH] {
    let packet = Packet {
        operation: Operation::Request,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: Mac::default(),
        target_ip: ip,
    };
    let mut frame = [0xff; FRAME_LENGTH];
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..ETHERNET_HEADER].copy_from_slice(&ETHERTYPE_ARP);
    frame[ETHERNET_HEADER..].copy_from_slice(&packet.emit());
    frame
}

fn array<const N: usize>(bytes: &[u8; field::LENGTH], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

#[cfg(test)]
mod tests;
