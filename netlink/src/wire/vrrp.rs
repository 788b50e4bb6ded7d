//! VRRP version 2 (RFC 3768) and version 3 (RFC 9568) advertisements.

use std::net::IpAddr;

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
