//! What stands beside a datagram: which of this node's addresses it came to, or is to leave from (`IP_PKTINFO` of ip(7),
//! `IPV6_PKTINFO` of ipv6(7) and RFC 3542 section 6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A control message's header: its length with the header (a `size_t`), level and type (an `int` each).
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// Control messages begin at multiples of it.
const ALIGN: usize = size_of::<usize>();
/// Bytes for control messages, the longest one (`in6_pktinfo`) and some to spare.
const LENGTH: usize = 64;
/// `in_pktinfo`: the interface's index, the local address, the address in the IP header.
const V4_INFO: usize = 12;
const V4_LOCAL_AT: usize = 4;
const V4_HEADER_AT: usize = 8;
/// `in6_pktinfo`: the address, the interface's index.
const V6_INFO: usize = 20;
const V6_INDEX_AT: usize = 16;

/// Room for control messages, aligned as they must be.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control([u8; LENGTH]);

impl Default for Control {
    fn default() -> Self {
        Self([0; LENGTH])
    }
}

/// One of this node's addresses, with the interface where it matters (link-local ones; else 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) address: IpAddr,
    pub(super) interface: u32,
}

impl Control {
    /// The bytes that the kernel may write.
    pub(super) const LENGTH: usize = LENGTH;

    /// Where the datagram was sent to, if the first `length` bytes say so.
    pub(super) fn parse(&self, length: usize) -> Option<Local> {
        let mut rest = self.0.get(..length)?;
        while rest.len() >= HEADER {
            let message = number(rest).filter(|length| (HEADER..=rest.len()).contains(length))?;
            let (level, kind) = (word(rest, ALIGN), word(rest, ALIGN + 4));
            let data = &rest[HEADER..message];
            match (level, kind) {
                (libc::SOL_IP, libc::IP_PKTINFO) if data.len() >= V4_INFO => {
                    let address = data[V4_HEADER_AT..].first_chunk::<4>()?;
                    return Some(Local { address: Ipv4Addr::from(*address).into(), interface: 0 });
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) if data.len() >= V6_INFO => {
                    let address = Ipv6Addr::from(*data.first_chunk::<16>()?);
                    let index = word(data, V6_INDEX_AT).cast_unsigned();
                    let interface = if address.is_unicast_link_local() { index } else { 0 };
                    return Some(Local { address: address.into(), interface });
                }
                _ => rest = rest.get(message.next_multiple_of(ALIGN)..)?,
            }
        }
        None
    }

    /// Writes that the datagram is to leave from here, and returns the length.
    pub(super) fn write(&mut self, local: Local) -> usize {
        self.0 = [0; LENGTH];
        let (level, kind, info) = match local.address {
            IpAddr::V4(v4) => {
                self.0[HEADER + V4_LOCAL_AT..][..4].copy_from_slice(&v4.octets());
                (libc::SOL_IP, libc::IP_PKTINFO, V4_INFO)
            }
            IpAddr::V6(v6) => {
                self.0[HEADER..][..16].copy_from_slice(&v6.octets());
                self.0[HEADER + V6_INDEX_AT..][..4].copy_from_slice(&local.interface.to_ne_bytes());
                (libc::SOL_IPV6, libc::IPV6_PKTINFO, V6_INFO)
            }
        };
        self.0[..ALIGN].copy_from_slice(&(HEADER + info).to_ne_bytes());
        self.0[ALIGN..][..4].copy_from_slice(&level.to_ne_bytes());
        self.0[ALIGN + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        (HEADER + info).next_multiple_of(ALIGN)
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|bytes| usize::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_to_leave_from_an_address_names_it() {
        let mut control = Control([0xa5; LENGTH]);
        let local = Local { address: "2001:db8::1".parse().unwrap(), interface: 0 };
        let length = control.write(local);
        assert_eq!(control.parse(length), Some(local));
        let link = Local { address: "fe80::1".parse().unwrap(), interface: 7 };
        let length = control.write(link);
        assert_eq!(control.parse(length), Some(link));
        assert_eq!(control.parse(length - 8), None, "cut short");
    }

    #[test]
    fn the_address_in_the_header_of_a_received_datagram_counts() {
        let mut control = Control::default();
        let length = control.write(Local { address: "192.0.2.1".parse().unwrap(), interface: 0 });
        control.0[HEADER + V4_HEADER_AT..][..4].copy_from_slice(&[192, 0, 2, 9]);
        let expected = Local { address: "192.0.2.9".parse().unwrap(), interface: 0 };
        assert_eq!(control.parse(length), Some(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: [u8; 32], length in 0usize..=LENGTH + 8) {
            let mut control = Control::default();
            control.0[..32].copy_from_slice(&bytes);
            // Lengths that a kernel would write, too.
            let _ = control.parse(length);
            control.0[..8].copy_from_slice(&usize::from(bytes[0] % 40).to_ne_bytes());
            let _ = control.parse(length);
        }
    }
}
