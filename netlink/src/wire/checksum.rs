//! The Internet checksum (RFC 1071), with the pseudo headers of IPv4 and IPv6.

use std::net::IpAddr;

/// A running one's complement sum. Every part that is added must have an even length, except the last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds the bytes as 16-bit words in network order; an odd last byte counts as its word's high byte.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        for pair in bytes.chunks(2) {
            let word = match *pair {
                [high, low] => u16::from_be_bytes([high, low]),
                [high] => u16::from_be_bytes([high, 0]),
                _ => 0,
            };
            sum += u64::from(word);
        }
        Self(sum)
    }

    /// Adds the pseudo header: IPv4 as for UDP (RFC 768), IPv6 by RFC 8200 section 8.1.
    #[must_use]
    pub fn pseudo_header(self, source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Self {
        let sum = self.address(source).address(destination);
        Self(sum.0 + u64::from(protocol) + (length as u64 & 0xffff_ffff))
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.bytes(&v4.octets()),
            IpAddr::V6(v6) => self.bytes(&v6.octets()),
        }
    }

    /// The checksum to be written where zero stood.
    #[must_use]
    pub fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// Whether the bytes added, checksum included, verify.
    #[must_use]
    pub fn verifies(self) -> bool {
        self.finish() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }

    #[test]
    fn an_odd_byte_is_the_high_half_of_its_word() {
        assert_eq!(Sum::default().bytes(&[0x12]).finish(), !0x1200);
    }

    #[test]
    fn the_pseudo_header_counts_addresses_protocol_and_length() {
        let sum = Sum::default().pseudo_header([192, 0, 2, 1].into(), [224, 0, 0, 18].into(), 112, 12);
        // c000 + 0201 + e000 + 0012 + 0070 + 000c = 1a28f, folded a290.
        assert_eq!(sum.finish(), !0xa290);
    }
}
