//! What stands beside a datagram: which of this node's addresses it came to, or is to leave from (`IP_PKTINFO` of ip(7),
//! `IPV6_PKTINFO` of ipv6(7) and RFC 3542 section 6), and where the datagrams of a train begin (`UDP_SEGMENT`, `UDP_GRO` of udp(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

/// A control message's header: its length with the header (a `size_t`), level and type (an `int` each).
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// Control messages begin at multiples of it.
const ALIGN: usize = size_of::<usize>();
/// Bytes for control messages: the longest one (`in6_pktinfo`, 40) and the length of a train's datagrams.
const LENGTH: usize = 40 + SEGMENT;
/// What the length of a train's datagrams takes: a `u16` towards the kernel, an `int` from it.
const SEGMENT: usize = HEADER + ALIGN;
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

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Where it was sent to, or is to leave from.
    pub(super) local: Option<Local>,
    /// It is a train of datagrams of so many bytes each, but for the last one, which may have fewer.
    pub(super) segment: Option<NonZeroU16>,
}

impl Control {
    /// The bytes that the kernel may write.
    pub(super) const LENGTH: usize = LENGTH;
    /// What [`Control::write`] writes for the segment, behind everything else.
    pub(super) const SEGMENT: usize = SEGMENT;

    /// What the first `length` bytes say.
    pub(super) fn parse(&self, length: usize) -> Notes {
        let mut notes = Notes::default();
        let mut rest = self.0.get(..length).unwrap_or_default();
        while let Some((level, kind, data, next)) = message(rest) {
            match (level, kind) {
                (libc::SOL_IP, libc::IP_PKTINFO) if data.len() >= V4_INFO => {
                    let address = Ipv4Addr::from_bits(u32::from_be(word(data, V4_HEADER_AT).cast_unsigned()));
                    notes.local = Some(Local { address: address.into(), interface: 0 });
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) if data.len() >= V6_INFO => {
                    let address = Ipv6Addr::from(data.first_chunk().copied().unwrap_or([0; 16]));
                    let index = word(data, V6_INDEX_AT).cast_unsigned();
                    let interface = if address.is_unicast_link_local() { index } else { 0 };
                    notes.local = Some(Local { address: address.into(), interface });
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= size_of::<i32>() => {
                    notes.segment = u16::try_from(word(data, 0)).ok().and_then(NonZeroU16::new);
                }
                _ => {}
            }
            rest = next;
        }
        notes
    }

    /// Writes it for the kernel, and returns the length.
    pub(super) fn write(&mut self, notes: Notes) -> usize {
        self.0 = [0; LENGTH];
        let mut length = 0;
        if let Some(local) = notes.local {
            let data = &mut self.0[HEADER..];
            let (level, kind, info) = match local.address {
                IpAddr::V4(v4) => {
                    data[V4_LOCAL_AT..][..4].copy_from_slice(&v4.octets());
                    (libc::SOL_IP, libc::IP_PKTINFO, V4_INFO)
                }
                IpAddr::V6(v6) => {
                    data[..16].copy_from_slice(&v6.octets());
                    data[V6_INDEX_AT..][..4].copy_from_slice(&local.interface.to_ne_bytes());
                    (libc::SOL_IPV6, libc::IPV6_PKTINFO, V6_INFO)
                }
            };
            length = self.head(0, level, kind, info);
        }
        if let Some(segment) = notes.segment {
            self.0[length + HEADER..][..2].copy_from_slice(&segment.get().to_ne_bytes());
            length = self.head(length, libc::SOL_UDP, libc::UDP_SEGMENT, size_of::<u16>());
        }
        length
    }

    /// Writes a header at `at`, and returns where the next one begins.
    fn head(&mut self, at: usize, level: i32, kind: i32, data: usize) -> usize {
        self.0[at..][..ALIGN].copy_from_slice(&(HEADER + data).to_ne_bytes());
        self.0[at + ALIGN..][..4].copy_from_slice(&level.to_ne_bytes());
        self.0[at + ALIGN + 4..][..4].copy_from_slice(&kind.to_ne_bytes());
        at + (HEADER + data).next_multiple_of(ALIGN)
    }
}

/// The first control message: level, type, data, and what comes after it.
fn message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let length = number(bytes).filter(|length| (HEADER..=bytes.len()).contains(length))?;
    let next = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    Some((word(bytes, ALIGN), word(bytes, ALIGN + 4), &bytes[HEADER..length], next))
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

    fn of(local: Local) -> Notes {
        Notes { local: Some(local), segment: None }
    }

    #[test]
    fn what_is_to_leave_from_an_address_names_it() {
        let mut control = Control([0xa5; LENGTH]);
        let local = Local { address: "2001:db8::1".parse().unwrap(), interface: 0 };
        let length = control.write(of(local));
        assert_eq!(control.parse(length), of(local));
        let link = Local { address: "fe80::1".parse().unwrap(), interface: 7 };
        let length = control.write(of(link));
        assert_eq!(control.parse(length), of(link));
        assert_eq!(control.parse(length - 8), Notes::default(), "cut short");
    }

    #[test]
    fn the_address_in_the_header_of_a_received_datagram_counts() {
        let mut control = Control::default();
        let length = control.write(of(Local { address: "192.0.2.1".parse().unwrap(), interface: 0 }));
        control.0[HEADER + V4_HEADER_AT..][..4].copy_from_slice(&[192, 0, 2, 9]);
        let expected = Local { address: "192.0.2.9".parse().unwrap(), interface: 0 };
        assert_eq!(control.parse(length), of(expected));
    }

    #[test]
    fn a_train_says_so_beside_either_address() {
        let segment = NonZeroU16::new(1200);
        for address in ["192.0.2.1", "2001:db8::1"] {
            let local = Some(Local { address: address.parse().unwrap(), interface: 0 });
            let mut control = Control([0xa5; LENGTH]);
            let without = Control::default().write(Notes { local, segment: None });
            let length = control.write(Notes { local, segment });
            assert_eq!(length, without + Control::SEGMENT);
            assert!(length <= LENGTH);
            assert_eq!(control.parse(length).segment, None, "the kernel says it in another way");
            // As the kernel writes it: another type, and an int.
            control.0[without + 16..][..4].copy_from_slice(&1200_i32.to_ne_bytes());
            control.head(without, libc::SOL_UDP, libc::UDP_GRO, 4);
            assert_eq!(control.parse(length).segment, segment);
        }
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
