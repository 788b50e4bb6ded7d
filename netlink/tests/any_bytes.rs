//! Whatever comes in, nothing panics, and what is accepted means the same when it is written again. The bodies are
//! those of the fuzz targets.

#[path = "../../fuzz/bodies/wire.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz targets, where it is a module of a binary")]
mod wire;

#[path = "../../fuzz/bodies/flows.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target, where it is a module of a binary")]
mod flows;

use cygnet_netlink::wire::checksum::Sum;
use proptest::collection::vec;
use proptest::prelude::*;

/// An IPv4 packet of protocol 112 with TTL 255 and right checksums round a damaged payload: random bytes alone would
/// hardly ever pass the IP header.
fn wrap(mut payload: Vec<u8>) -> Vec<u8> {
    if payload.len() >= 8 {
        payload[6..8].fill(0);
        let checksum = Sum::default().bytes(&payload).finish();
        payload[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 255, 112, 0, 0, 192, 0, 2, 1, 224, 0, 0, 18];
    let length = (packet.len() + payload.len()) as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let checksum = Sum::default().bytes(&packet).finish();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.append(&mut payload);
    packet
}

prop_compose! {
    /// A payload whose first bytes are likely to be meant.
    fn plausible()(
        first in prop_oneof![Just(0x21u8), Just(0x31), Just(0x22), any::<u8>()],
        count in prop_oneof![0u8..9, any::<u8>()],
        length in prop_oneof![(0usize..9).prop_map(|n| 8 + 4 * n), (0usize..9).prop_map(|n| 16 + 4 * n), 0usize..120],
        mut bytes in vec(any::<u8>(), 120),
    ) -> Vec<u8> {
        bytes[0] = first;
        bytes[3] = count;
        bytes.truncate(length);
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_list_of_connections_or_end_it(bytes in vec(any::<u8>(), 0..300)) {
        flows::flows(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for body in [wire::advertisement, wire::arp, wire::carp, wire::frame, wire::ip, wire::ndp, wire::pcap, wire::vrrp] {
            body(&bytes);
        }
    }

    #[test]
    fn plausible_payloads_never_panic(payload in plausible()) {
        wire::carp(&payload);
        wire::vrrp(&payload);
        let packet = wrap(payload);
        wire::ip(&packet);
        wire::advertisement(&packet);
    }

    #[test]
    fn damaged_captures_never_panic(at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut file = include_bytes!("../fixtures/captures/vrrp2-malformed.pcap").to_vec();
        let at = at.index(file.len());
        file[at] = value;
        file.truncate(cut.index(file.len()));
        wire::pcap(&file);
    }

    #[test]
    fn damaged_frames_never_panic(
        length: u8, protocol in prop_oneof![Just(6u8), Just(17), any::<u8>()], words: u8, fragment: u16,
        mut bytes in vec(any::<u8>(), 34..200),
    ) {
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14] = 0x40 | words & 0xf;
        bytes[16..18].copy_from_slice(&[0, length]);
        bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        bytes[23] = protocol;
        wire::frame(&bytes);
    }

    #[test]
    fn damaged_arp_never_panics(mut bytes in vec(any::<u8>(), 28..40)) {
        bytes[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        wire::arp(&bytes);
    }
}
