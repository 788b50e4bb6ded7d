//! Why an advertisement was discarded, and how many were.

use std::collections::BTreeMap;

use cygnet_netlink::wire;

/// Discarded packets by [`Reason::name`]. Bounded by the number of names.
pub type Counters = BTreeMap<&'static str, u64>;

/// Why a packet was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Another list of virtual addresses than ours (RFC 3768 section 7.1; keepalived does so for version 3 too).
    AddressMismatch,
    /// Another type of authentication than ours (VRRPv2).
    AuthType,
    /// The HMAC is not that of our password and addresses (CARP).
    Hmac,
    /// Another interval than ours (RFC 3768 section 7.1, version 2 only).
    IntervalMismatch,
    /// From an address that is none of the unicast peers (keepalived's check_unicast_src).
    NotAPeer,
    /// Our own address as source: we have not sent it, for own packets are not captured.
    OwnSource,
    /// Another plain text password than ours (VRRPv2).
    Password,
    /// An old packet sent again (CARP).
    Replay,
    /// From a unicast peer, but beyond more routers than `min_ttl` allows (RFC 5082).
    PeerTtl,
    /// A living sender's address, but another MAC and another content.
    Spoof,
    /// No virtual router of this number is configured here.
    UnknownId,
    /// VRRPv2 where version 3 is configured, or the other way round.
    VersionMismatch,
    /// Malformed, as the wire says.
    Wire(wire::Error),
}

impl Reason {
    /// A short stable word for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddressMismatch => "address-mismatch",
            Self::AuthType => "auth-type",
            Self::Hmac => "hmac",
            Self::IntervalMismatch => "interval-mismatch",
            Self::NotAPeer => "not-a-peer",
            Self::OwnSource => "own-source",
            Self::Password => "password",
            Self::PeerTtl => "peer-ttl",
            Self::Replay => "replay",
            Self::Spoof => "spoof",
            Self::UnknownId => "unknown-id",
            Self::VersionMismatch => "version-mismatch",
            Self::Wire(error) => error.name(),
        }
    }

    /// Whether it counts as junk. Another virtual router on the segment is not.
    #[must_use]
    pub(super) const fn is_junk(self) -> bool {
        !matches!(self, Self::UnknownId)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddressMismatch => {
                f.write_str("another list of virtual addresses is advertised than is configured here")
            }
            Self::AuthType => f.write_str("another type of authentication than is configured here"),
            Self::Hmac => {
                f.write_str("wrong HMAC: another password, or other virtual addresses, than configured here")
            }
            Self::IntervalMismatch => f.write_str("another advertisement interval than is configured here"),
            Self::NotAPeer => f.write_str("the sender is none of the configured `peers`"),
            Self::OwnSource => f.write_str("somebody else sends with an address of this node as source"),
            Self::Password => f.write_str("wrong password"),
            Self::PeerTtl => f.write_str("the TTL is below `min_ttl`: it comes from too far away"),
            Self::Replay => f.write_str("an old advertisement was sent again (replay)"),
            Self::Spoof => f.write_str(
                "the address of a living sender, but another MAC and another content (forged, or a conflict)",
            ),
            Self::UnknownId => f.write_str("a virtual router that is not configured here"),
            Self::VersionMismatch => f.write_str("another version of VRRP than is configured here"),
            Self::Wire(error) => error.fmt(f),
        }
    }
}
