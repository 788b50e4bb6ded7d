//! Why a packet was refused.

use thiserror::Error;

/// The reason for which a packet is discarded. One counter each: see [`Error::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Error {
    /// A virtual address that is no unicast address: garbage, or a forgery.
    #[error("a virtual address is not a unicast address")]
    Address,
    /// More addresses announced than the packet holds.
    #[error("the address count is larger than the packet")]
    AddressCount,
    /// An ARP packet that is not Ethernet and IPv4.
    #[error("ARP for something else than Ethernet and IPv4")]
    ArpFormat,
    /// CARP with another length of counter and HMAC than 7 words.
    #[error("CARP authentication length is not 7")]
    CarpAuthLength,
    /// The checksum of the message is wrong (in VRRPv3 over IPv4: in both forms).
    #[error("wrong checksum")]
    Checksum,
    /// Source and destination of different families, or VRRPv2 over IPv6.
    #[error("the address family does not fit")]
    Family,
    /// TTL or hop limit is not 255: the packet may come from beyond a router.
    #[error("TTL is not 255")]
    HopLimit,
    /// VRID or vhid 0.
    #[error("virtual router identifier 0")]
    IdZero,
    /// The checksum of the IPv4 header is wrong.
    #[error("wrong IP header checksum")]
    IpChecksum,
    /// A fragment. Advertisements are never fragmented.
    #[error("IP fragment")]
    IpFragment,
    /// The IPv4 header length is less than 20 bytes.
    #[error("impossible IP header length")]
    IpHeader,
    /// The IP length is larger than the frame, or smaller than the header.
    #[error("the IP length does not fit the frame")]
    IpLength,
    /// Too short for an IP header.
    #[error("truncated IP header")]
    IpTruncated,
    /// Neither IPv4 nor IPv6.
    #[error("unknown IP version")]
    IpVersion,
    /// Trailing bytes that are no known trailer.
    #[error("unexpected bytes after the message")]
    Length,
    /// An advertisement without any address.
    #[error("no address in the list")]
    NoAddress,
    /// Another IP protocol than 112.
    #[error("not IP protocol 112")]
    Protocol,
    /// The message ends inside its fixed part.
    #[error("truncated message")]
    Truncated,
    /// Not an advertisement (type 1).
    #[error("unknown message type")]
    Type,
    /// Neither version 2 nor version 3.
    #[error("unknown version")]
    Version,
}

impl Error {
    /// A short stable word for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::AddressCount => "address-count",
            Self::ArpFormat => "arp-format",
            Self::CarpAuthLength => "carp-auth-length",
            Self::Checksum => "checksum",
            Self::Family => "family",
            Self::HopLimit => "ttl",
            Self::IdZero => "id-zero",
            Self::IpChecksum => "ip-checksum",
            Self::IpFragment => "ip-fragment",
            Self::IpHeader => "ip-header",
            Self::IpLength => "ip-length",
            Self::IpTruncated => "ip-truncated",
            Self::IpVersion => "ip-version",
            Self::Length => "length",
            Self::NoAddress => "no-address",
            Self::Protocol => "protocol",
            Self::Truncated => "truncated",
            Self::Type => "type",
            Self::Version => "version",
        }
    }
}
