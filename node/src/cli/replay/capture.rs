//! The file: records out of a capture of any size, and what a node would hear of a frame.

use std::io::{self, Read};
use std::net::IpAddr;

use cygnet_netlink::pcap;
use cygnet_netlink::wire::{Mac, PROTOCOL_VRRP};

use crate::control::types::{ApiError, ErrorCode};

/// The file header of a capture, bytes.
const FILE_HEADER: usize = 24;
/// The header of each record, bytes.
const RECORD_HEADER: usize = 16;
/// How much of a capture is in memory at once, bytes: four times the longest record that its format allows.
const PIECE: usize = 1024 * 1024;

/// What is wrong with a capture, and what helps.
pub(super) fn explain(name: &str, error: pcap::Error) -> ApiError {
    /// The first four bytes of a pcapng file, the same in either byte order.
    const PCAPNG: u32 = 0x0a0d_0d0a;
    let (what, remedy) = match error {
        pcap::Error::Magic(PCAPNG) => (
            "is a pcapng file; only the classic pcap format is read".to_owned(),
            format!("convert it with `editcap -F pcap {name} OUT.pcap`, or record with `tcpdump -w`"),
        ),
        pcap::Error::LinkType(_) => (
            format!("cannot be read: {error}"),
            "record on one Ethernet interface (`tcpdump -i eth0 -w FILE`), not on `any`".to_owned(),
        ),
        pcap::Error::Truncated(at) if at < FILE_HEADER => {
            (format!("is not a pcap file: it has {at} bytes"), "record with `tcpdump -w`".to_owned())
        }
        pcap::Error::Truncated(_) => (
            format!("is not complete: {error}"),
            "what was recorded before is told above; the recorder was perhaps killed".to_owned(),
        ),
        pcap::Error::Magic(_) | pcap::Error::Version(_) => {
            (format!("cannot be read: {error}"), "record with `tcpdump -w`".to_owned())
        }
        pcap::Error::Record(_) => {
            (format!("is damaged: {error}"), "what was recorded before is told above".to_owned())
        }
    };
    ApiError::new(ErrorCode::Error, format!("{name} {what}"), remedy)
}

/// Why the records of a capture ended early.
pub(super) enum Broken {
    Input(io::Error),
    Output(io::Error),
    Format(pcap::Error),
}

/// Gives the records of a capture to `take`, one after the other. The file's header stays in front of each piece, so
/// that a piece is a capture in itself.
pub(super) fn records(
    input: &mut dyn Read,
    mut take: impl FnMut(&pcap::Record<'_>) -> io::Result<()>,
) -> Result<(), Broken> {
    let mut piece = vec![0; PIECE];
    let mut kept = 0;
    // Bytes of the file before what stands behind the header in the piece.
    let mut passed = 0;
    loop {
        let filled = kept + fill(input, &mut piece[kept..]).map_err(Broken::Input)?;
        let ended = filled < PIECE;
        let mut used = FILE_HEADER;
        for record in pcap::Reader::new(&piece[..filled]).map_err(Broken::Format)? {
            match record {
                Ok(record) => {
                    used += RECORD_HEADER + record.bytes.len();
                    take(&record).map_err(Broken::Output)?;
                }
                Err(pcap::Error::Truncated(_)) if !ended => break,
                Err(pcap::Error::Truncated(at)) => {
                    return Err(Broken::Format(pcap::Error::Truncated(passed + at)));
                }
                Err(pcap::Error::Record(at)) => {
                    return Err(Broken::Format(pcap::Error::Record(passed + at)));
                }
                Err(error) => return Err(Broken::Format(error)),
            }
        }
        if ended {
            return Ok(());
        }
        piece.copy_within(used..filled, FILE_HEADER);
        kept = FILE_HEADER + filled - used;
        passed += used - FILE_HEADER;
    }
}

/// Reads until the buffer is full or the input ends; returns how much.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a node's capture lets through of an Ethernet frame.
pub(super) enum Heard {
    /// A packet of protocol 112.
    Advertisement,
    /// Somebody says by ARP or neighbour advertisement that it has one of the addresses.
    Neighbour,
}

/// The MAC and the packet of an Ethernet frame, if a node that watches `addresses` would hear it.
pub(super) fn heard<'f>(frame: &'f [u8], addresses: &[IpAddr]) -> Option<(Heard, Mac, &'f [u8])> {
    /// A frame may have two VLAN tags (IEEE 802.1ad).
    const TAGS_MAX: usize = 2;
    const ICMPV6: u8 = 58;
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let mut rest = frame.get(12..)?;
    for _ in 0..TAGS_MAX {
        if matches!(rest.first_chunk(), Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00])) {
            rest = rest.get(4..)?;
        }
    }
    let (kind, packet) = rest.split_first_chunk()?;
    let claimed: IpAddr = match kind {
        [0x08, 0x00] if *packet.get(9)? == PROTOCOL_VRRP => return Some((Heard::Advertisement, mac, packet)),
        [0x86, 0xdd] if *packet.get(6)? == PROTOCOL_VRRP => return Some((Heard::Advertisement, mac, packet)),
        [0x86, 0xdd] if *packet.get(6)? == ICMPV6 && *packet.get(40)? == NEIGHBOUR_ADVERTISEMENT => {
            <[u8; 16]>::try_from(packet.get(48..64)?).ok()?.into()
        }
        [0x08, 0x06] => <[u8; 4]>::try_from(packet.get(14..18)?).ok()?.into(),
        _ => return None,
    };
    addresses.contains(&claimed).then_some((Heard::Neighbour, mac, packet))
}
