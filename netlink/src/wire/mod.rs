//! Packets on the wire: bytes to types and back, without any I/O.
//!
//! [`ip::parse`] takes what a packet socket delivers, [`parse_advertisement`] what is inside. Whatever the bytes,
//! nothing here panics: a packet is either understood in full or refused with an [`Error`] that names the reason.

pub mod arp;
pub mod carp;
pub mod checksum;
mod error;
pub mod ethernet;
pub mod ip;
pub mod ndp;
pub mod tcp;
pub mod transit;
pub mod vrrp;

use std::fmt;

pub use error::Error;

/// The IP protocol number of VRRP, which CARP uses as well.
pub const PROTOCOL_VRRP: u8 = 112;
/// Advertisements are sent with this TTL or hop limit, and those to the group are refused with any other: they cannot come
/// from beyond a router (RFC 9568 sections 5.1.1.3 and 5.1.2.3).
pub const HOP_LIMIT: u8 = 255;

/// A link-layer address (Ethernet).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An advertisement of either protocol that shares IP protocol 112.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// VRRP version 2 or 3.
    Vrrp(vrrp::Advertisement),
    /// CARP version 2.
    Carp(carp::Advertisement),
}

impl Message {
    /// The VRID or vhid.
    #[must_use]
    pub fn id(&self) -> u8 {
        match self {
            Self::Vrrp(advertisement) => advertisement.vrid,
            Self::Carp(advertisement) => advertisement.vhid,
        }
    }
}

/// Reads the advertisement in `packet`: protocol, TTL, and all that can be checked without knowing the virtual
/// router (RFC 9568 section 7.1, RFC 3768 section 7.1). The HMAC of CARP needs [`carp::Advertisement::verify`]. The TTL of
/// one to a single address is left to whoever knows whether the speakers are configured as unicast peers, which may be
/// beyond a router.
///
/// # Errors
/// The first reason found for which a receiver must discard the packet.
pub fn parse_advertisement(packet: &ip::Packet<'_>) -> Result<Message, Error> {
    if packet.protocol != PROTOCOL_VRRP {
        return Err(Error::Protocol);
    }
    if packet.hop_limit != HOP_LIMIT && packet.destination.is_multicast() {
        return Err(Error::HopLimit);
    }
    if carp::looks_like(packet.payload) {
        return carp::Advertisement::parse(packet.payload).map(Message::Carp);
    }
    vrrp::Advertisement::parse(packet.payload, packet.source, packet.destination).map(Message::Vrrp)
}

#[cfg(test)]
mod tests;
