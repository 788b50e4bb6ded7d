//! CARP version 2 advertisements, as OpenBSD, FreeBSD and ucarp send them. There is no RFC.

use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::Error;
use super::checksum::Sum;
use super::vrrp::{self, Version};

/// The packet, 36 bytes:
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |Version| Type  |     VHID      |    AdvSkew    |  AuthLen (7)  |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// | Demote or pad |    AdvBase    |          Checksum             |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                       Counter (8 bytes)                       |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |                     HMAC-SHA1 (20 bytes)                      |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
mod field {
    use std::ops::Range;

    pub(super) const VERSION_TYPE: usize = 0;
    pub(super) const VHID: usize = 1;
    pub(super) const ADVSKEW: usize = 2;
    pub(super) const AUTHLEN: usize = 3;
    pub(super) const DEMOTE: usize = 4;
    pub(super) const ADVBASE: usize = 5;
    pub(super) const CHECKSUM: Range<usize> = 6..8;
    pub(super) const COUNTER: Range<usize> = 8..16;
    pub(super) const HMAC: Range<usize> = 16..36;
}

/// The length of an advertisement, bytes.
pub const LENGTH: usize = 36;
/// Counter and HMAC in 32-bit words: the only value in use.
pub const AUTHLEN: u8 = 7;
const VERSION: u8 = 2;
const TYPE_ADVERTISEMENT: u8 = 1;
/// The password is padded with zeros, or cut, to this many bytes.
const KEY_LENGTH: usize = 20;
const HMAC_LENGTH: usize = 20;

/// A CARP advertisement. Only counter, vhid and the addresses are signed; `advskew`, `advbase` and `demote` are
/// not, so a replayed packet may carry others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Virtual host identifier, 1..=255.
    pub vhid: u8,
    /// Added to the interval in 1/256 s; less is better.
    pub advskew: u8,
    /// [`AUTHLEN`].
    pub authlen: u8,
    /// OpenBSD: demotion counter, less is better. FreeBSD and ucarp send 0.
    pub demote: u8,
    /// Interval, seconds; less is better.
    pub advbase: u8,
    /// OpenBSD: constant. FreeBSD and ucarp: random until a valid foreign advertisement is heard, then last value
    /// + 1.
    pub counter: u64,
    /// HMAC-SHA1 over version, type, vhid, addresses and counter.
    pub hmac: [u8; HMAC_LENGTH],
}

/// Whether the payload of protocol 112 is to be read as CARP. Both protocols begin with 0x21. Byte 3 is 7 in CARP
/// and the address count in VRRPv2, whose length follows from it: 7 addresses make 44 bytes (72 with keepalived's
/// trailer), and 36 bytes are 5 addresses. So what has a 7 and is not as long as 7 addresses is CARP (36 bytes,
/// or damaged), and what is 36 bytes long and is not 5 addresses is CARP as well.
#[must_use]
pub fn looks_like(payload: &[u8]) -> bool {
    let (Some(first), Some(byte3)) = (payload.first(), payload.get(field::AUTHLEN)) else {
        return false;
    };
    let seven_addresses = vrrp::message_length(Version::V2, usize::from(AUTHLEN), 4);
    let as_vrrp = [seven_addresses, seven_addresses + vrrp::TRAILER_LENGTH];
    let five_addresses = 5;
    match *byte3 {
        _ if first >> 4 != VERSION => false,
        AUTHLEN => !as_vrrp.contains(&payload.len()),
        count => payload.len() == LENGTH && count != five_addresses,
    }
}

impl Advertisement {
    /// Whether this is the bow-out of OpenBSD: whoever sent it goes down.
    #[must_use]
    pub fn is_resignation(&self) -> bool {
        self.advbase == u8::MAX && self.advskew == u8::MAX
    }

    /// Reads a payload; bytes after the 36th are ignored, as every implementation does. The HMAC is not checked
    /// here: see [`Advertisement::verify`].
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Version`], [`Error::Type`], [`Error::Checksum`], [`Error::CarpAuthLength`],
    /// [`Error::IdZero`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; LENGTH] = bytes.first_chunk().ok_or(Error::Truncated)?;
        if bytes[field::VERSION_TYPE] >> 4 != VERSION {
            return Err(Error::Version);
        }
        if bytes[field::VERSION_TYPE] & 0xf != TYPE_ADVERTISEMENT {
            return Err(Error::Type);
        }
        if !Sum::default().bytes(bytes).verifies() {
            return Err(Error::Checksum);
        }
        if bytes[field::AUTHLEN] != AUTHLEN {
            return Err(Error::CarpAuthLength);
        }
        if bytes[field::VHID] == 0 {
            return Err(Error::IdZero);
        }
        Ok(Self {
            vhid: bytes[field::VHID],
            advskew: bytes[field::ADVSKEW],
            authlen: bytes[field::AUTHLEN],
            demote: bytes[field::DEMOTE],
            advbase: bytes[field::ADVBASE],
            counter: u64::from_be_bytes(std::array::from_fn(|i| bytes[field::COUNTER.start + i])),
            hmac: std::array::from_fn(|i| bytes[field::HMAC.start + i]),
        })
    }

    /// The packet as it follows the IP header. The HMAC is written as it stands: see [`Advertisement::sign`].
    #[must_use]
    pub fn emit(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[field::VERSION_TYPE] = VERSION << 4 | TYPE_ADVERTISEMENT;
        bytes[field::VHID] = self.vhid;
        bytes[field::ADVSKEW] = self.advskew;
        bytes[field::AUTHLEN] = self.authlen;
        bytes[field::DEMOTE] = self.demote;
        bytes[field::ADVBASE] = self.advbase;
        bytes[field::COUNTER].copy_from_slice(&self.counter.to_be_bytes());
        bytes[field::HMAC].copy_from_slice(&self.hmac);
        let checksum = Sum::default().bytes(&bytes).finish();
        bytes[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Sets the HMAC for `password` and the addresses of the vhid, in any order.
    ///
    /// # Errors
    /// What OpenSSL says (SHA-1 forbidden by policy, for instance).
    pub fn sign(&mut self, password: &str, addresses: &[IpAddr]) -> Result<(), ErrorStack> {
        self.hmac = hmac(password, self.vhid, addresses, self.counter)?;
        Ok(())
    }

    /// Whether the HMAC is that of `password` and `addresses`, in any order. Link-local IPv6 addresses may have
    /// been signed (FreeBSD) or not (OpenBSD). False as well when OpenSSL refuses SHA-1.
    #[must_use]
    pub fn verify(&self, password: &str, addresses: &[IpAddr]) -> bool {
        let matches = |addresses: &[IpAddr]| {
            hmac(password, self.vhid, addresses, self.counter)
                .is_ok_and(|expected| openssl::memcmp::eq(&expected, &self.hmac))
        };
        if matches(addresses) {
            return true;
        }
        let global: Vec<IpAddr> =
            addresses.iter().copied().filter(|address| !is_link_local(*address)).collect();
        global.len() < addresses.len() && matches(&global)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn hmac(
    password: &str,
    vhid: u8,
    addresses: &[IpAddr],
    counter: u64,
) -> Result<[u8; HMAC_LENGTH], ErrorStack> {
    let mut key = [0; KEY_LENGTH];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from;
    }
    // `IpAddr` sorts as the message wants it: IPv4 before IPv6, each ascending.
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    let mut message = vec![VERSION, TYPE_ADVERTISEMENT, vhid];
    for address in addresses {
        match address {
            IpAddr::V4(v4) => message.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => message.extend_from_slice(&v6.octets()),
        }
    }
    message.extend_from_slice(&counter.to_be_bytes());
    let key = PKey::hmac(&key)?;
    let mut signer = Signer::new(MessageDigest::sha1(), &key)?;
    let mut digest = [0; HMAC_LENGTH];
    signer.sign_oneshot(&mut digest, &message)?;
    Ok(digest)
}

#[cfg(test)]
mod tests;
