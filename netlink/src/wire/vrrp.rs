//! VRRP version 2 (RFC 3768) and version 3 (RFC 9568) advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use super::{Error, PROTOCOL_VRRP};

/// Version 2, RFC 3768 section 5.1 (IPv4 only):
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |   Auth Type   |   Adver Int   |          Checksum             |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                     IP Address (1) ... (n)                    |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                  Authentication Data (8 bytes)                |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
///
/// Version 3, RFC 9568 section 5.2 (IPv4 and IPv6):
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Version| Type  | Virtual Rtr ID|   Priority    |  IPvX Addr #  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Reserve| Max Advertise Interval|          Checksum             |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                  IPvX Address(es) (4 or 16 each)              |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
mod field {
    use std::ops::Range;

    pub(super) const VERSION_TYPE: usize = 0;
    pub(super) const VRID: usize = 1;
    pub(super) const PRIORITY: usize = 2;
    pub(super) const COUNT: usize = 3;
    /// Version 2.
    pub(super) const AUTH_TYPE: usize = 4;
    /// Version 2, seconds.
    pub(super) const INTERVAL_V2: usize = 5;
    /// Version 3, centiseconds in the low 12 bits; the reserved bits are ignored.
    pub(super) const INTERVAL_V3: Range<usize> = 4..6;
    pub(super) const CHECKSUM: Range<usize> = 6..8;
    pub(super) const ADDRESSES: usize = 8;
    /// Version 2, after the addresses.
    pub(super) const AUTH_DATA_LENGTH: usize = 8;
}

const TYPE_ADVERTISEMENT: u8 = 1;
/// Centiseconds in a second: the unit of version 2 in that of version 3.
const CS_PER_SECOND: u16 = 100;
/// The largest interval that version 3 can carry, centiseconds.
pub const INTERVAL_CS_MAX: u16 = 0x0fff;
/// keepalived 2.4 may append this many bytes: an authentication of its own, of type 1.
pub(super) const TRAILER_LENGTH: usize = 28;
const TRAILER_TYPE: u8 = 1;

/// The protocol version, as in the high nibble of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds, an authentication field.
    V2,
    /// RFC 9568 (and RFC 5798): IPv4 and IPv6, centiseconds, no authentication.
    V3,
}

/// What the VRRPv3 checksum of an IPv4 advertisement covers. RFC 5798 was ambiguous and RFC 9568
/// section 5.2.8 says "message only", but keepalived sends and wants a pseudo header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumForm {
    /// The VRRP message alone.
    Message,
    /// The message preceded by the IP pseudo header (always so over IPv6).
    PseudoHeader,
}

/// The authentication field of VRRPv2 (RFC 2338; kept by keepalived).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Type 0, and always in VRRPv3.
    None,
    /// Type 1: up to eight bytes of plain text, padded with zeros.
    Simple([u8; 8]),
    /// Any other type; the watcher reports it, a speaker never sends it.
    Other(u8),
}

/// A VRRP advertisement, version 2 or 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Version 2 or 3.
    pub version: Version,
    /// Virtual router identifier, 1..=255.
    pub vrid: u8,
    /// 255 = owner, 1..=254, 0 = the active router resigns.
    pub priority: u8,
    /// Advertisement interval in centiseconds (version 2 carries whole seconds: multiples of 100).
    pub interval_cs: u16,
    /// The virtual addresses, in the order sent.
    pub addresses: Vec<IpAddr>,
    /// Authentication, version 2 only.
    pub auth: Auth,
    /// The form in which the checksum verified, or is to be sent.
    pub checksum: ChecksumForm,
}

impl Advertisement {
    /// Reads a message that came from `source` to `destination` (they decide the address family, and are part of
    /// the version 3 checksum). An authentication trailer of keepalived 2.4 is skipped. `interval_cs` may be 0.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Version`], [`Error::Type`], [`Error::Family`], [`Error::IdZero`],
    /// [`Error::NoAddress`], [`Error::AddressCount`], [`Error::Length`], [`Error::Checksum`], [`Error::Address`].
    pub fn parse(bytes: &[u8], source: IpAddr, destination: IpAddr) -> Result<Self, Error> {
        let header: &[u8; field::ADDRESSES] = bytes.first_chunk().ok_or(Error::Truncated)?;
        let version = match header[field::VERSION_TYPE] >> 4 {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Error::Version),
        };
        if header[field::VERSION_TYPE] & 0xf != TYPE_ADVERTISEMENT {
            return Err(Error::Type);
        }
        if source.is_ipv4() != destination.is_ipv4() || (version == Version::V2 && source.is_ipv6()) {
            return Err(Error::Family);
        }
        if header[field::VRID] == 0 {
            return Err(Error::IdZero);
        }
        let count = usize::from(header[field::COUNT]);
        let (message, trailer) = split(bytes, version, count, address_length(source))?;
        let checksum = verify(version, message, trailer, source, destination).ok_or(Error::Checksum)?;
        let (list, auth_data) = tail(message, count * address_length(source));
        let addresses = list.chunks_exact(address_length(source)).filter_map(address).collect::<Vec<_>>();
        if !addresses.iter().all(|address| is_unicast(*address)) {
            return Err(Error::Address);
        }
        let (interval_cs, auth) = match version {
            Version::V2 => (
                u16::from(header[field::INTERVAL_V2]) * CS_PER_SECOND,
                match (header[field::AUTH_TYPE], auth_data.first_chunk()) {
                    (0, _) => Auth::None,
                    (1, Some(data)) => Auth::Simple(*data),
                    (other, _) => Auth::Other(other),
                },
            ),
            Version::V3 => {
                let word = u16::from_be_bytes([
                    header[field::INTERVAL_V3.start],
                    header[field::INTERVAL_V3.start + 1],
                ]);
                (word & INTERVAL_CS_MAX, Auth::None)
            }
        };
        let (vrid, priority) = (header[field::VRID], header[field::PRIORITY]);
        Ok(Self { version, vrid, priority, interval_cs, addresses, auth, checksum })
    }

    /// The message as it follows the IP header. Addresses of another family than `source` cannot be expressed and
    /// are left out, as is what comes after the 255th; the interval is cut to what the version can carry (version
    /// 2: whole seconds, rounded down, at least 1).
    #[must_use]
    pub fn emit(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let same_family = self.addresses.iter().filter(|address| address.is_ipv4() == source.is_ipv4());
        let addresses: Vec<IpAddr> = same_family.take(usize::from(u8::MAX)).copied().collect();
        let mut bytes = vec![0; field::ADDRESSES];
        bytes[field::VRID] = self.vrid;
        bytes[field::PRIORITY] = self.priority;
        bytes[field::COUNT] = addresses.len() as u8;
        for address in &addresses {
            match address {
                IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
                IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
            }
        }
        match self.version {
            Version::V2 => self.emit_v2(&mut bytes),
            Version::V3 => {
                bytes[field::VERSION_TYPE] = 3 << 4 | TYPE_ADVERTISEMENT;
                let interval = self.interval_cs.min(INTERVAL_CS_MAX).to_be_bytes();
                bytes[field::INTERVAL_V3].copy_from_slice(&interval);
            }
        }
        let mut sum = Sum::default();
        if self.version == Version::V3 && (source.is_ipv6() || self.checksum == ChecksumForm::PseudoHeader) {
            sum = sum.pseudo_header(source, destination, PROTOCOL_VRRP, bytes.len());
        }
        let checksum = sum.bytes(&bytes).finish();
        bytes[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn emit_v2(&self, bytes: &mut Vec<u8>) {
        let (auth_type, auth_data) = match self.auth {
            Auth::None => (0, [0; field::AUTH_DATA_LENGTH]),
            Auth::Simple(data) => (1, data),
            Auth::Other(other) => (other, [0; field::AUTH_DATA_LENGTH]),
        };
        bytes[field::VERSION_TYPE] = 2 << 4 | TYPE_ADVERTISEMENT;
        bytes[field::AUTH_TYPE] = auth_type;
        bytes[field::INTERVAL_V2] = (self.interval_cs / CS_PER_SECOND).clamp(1, u16::from(u8::MAX)) as u8;
        bytes.extend_from_slice(&auth_data);
    }
}

/// A password as the authentication field has it: its first eight bytes, padded with zeros (RFC 2338 section 5.3.10).
#[must_use]
pub fn padded(password: &str) -> [u8; 8] {
    let mut data = [0; field::AUTH_DATA_LENGTH];
    data.iter_mut().zip(password.bytes()).for_each(|(place, byte)| *place = byte);
    data
}

fn address_length(family: IpAddr) -> usize {
    if family.is_ipv4() { 4 } else { 16 }
}

/// The length of a message with `count` addresses, bytes.
pub(super) fn message_length(version: Version, count: usize, address_length: usize) -> usize {
    let auth = if version == Version::V2 { field::AUTH_DATA_LENGTH } else { 0 };
    field::ADDRESSES + count * address_length + auth
}

/// Message and trailer; nothing else may follow.
fn split(bytes: &[u8], version: Version, count: usize, width: usize) -> Result<(&[u8], &[u8]), Error> {
    if count == 0 {
        return Err(Error::NoAddress);
    }
    if bytes.len() < message_length(version, 1, width) {
        return Err(Error::Truncated);
    }
    let (message, trailer) =
        bytes.split_at_checked(message_length(version, count, width)).ok_or(Error::AddressCount)?;
    let known_trailer = trailer.len() == TRAILER_LENGTH && trailer.first() == Some(&TRAILER_TYPE);
    if trailer.is_empty() || known_trailer { Ok((message, trailer)) } else { Err(Error::Length) }
}

/// The form in which the checksum verifies. With a trailer the sum may or may not include it: both are taken, for
/// the checksum protects against accidents only.
fn verify(
    version: Version,
    message: &[u8],
    trailer: &[u8],
    source: IpAddr,
    destination: IpAddr,
) -> Option<ChecksumForm> {
    let extents: &[&[u8]] = if trailer.is_empty() { &[&[]] } else { &[&[], trailer] };
    for extent in extents {
        let alone = Sum::default().bytes(message).bytes(extent);
        let length = message.len() + extent.len();
        if version == Version::V3
            && alone.pseudo_header(source, destination, PROTOCOL_VRRP, length).verifies()
        {
            return Some(ChecksumForm::PseudoHeader);
        }
        // RFC 9568 section 5.2.8: message only, but over IPv6 always with the pseudo header.
        if source.is_ipv4() && alone.verifies() {
            return Some(ChecksumForm::Message);
        }
    }
    None
}

/// The address list, and what follows it in the message (authentication data of version 2).
fn tail(message: &[u8], list_length: usize) -> (&[u8], &[u8]) {
    let rest = message.get(field::ADDRESSES..).unwrap_or_default();
    rest.split_at_checked(list_length).unwrap_or_default()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// Whether an interface can have this address; loopback, multicast and reserved ones are nobody's virtual address.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_loopback() && !matches!(v4.octets()[0], 0 | 240..),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_loopback() && !v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests;
