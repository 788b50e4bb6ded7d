//! Ethernet II frames (IEEE 802.3 clause 3), as far as forwarding them takes: no VLAN tags, which the kernel takes off.

use super::{Error, Mac};

/// The EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// The EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// Bytes before the payload.
pub const HEADER: usize = 14;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// For whom it is.
    pub destination: Mac,
    /// Who sent it on this link.
    pub source: Mac,
    /// What the payload is.
    pub ethertype: u16,
}

impl Header {
    /// Reads the header, and returns it with the payload (which may end with padding).
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (header, payload) = frame.split_first_chunk::<HEADER>().ok_or(Error::Truncated)?;
        let mac = |at: usize| Mac(std::array::from_fn(|i| header[at + i]));
        let ethertype = u16::from_be_bytes([header[12], header[13]]);
        Ok((Self { destination: mac(0), source: mac(6), ethertype }, payload))
    }

    /// Writes the header over that of a frame; `None` if the frame is too short for one.
    #[must_use]
    pub fn write(&self, frame: &mut [u8]) -> Option<()> {
        let header = frame.first_chunk_mut::<HEADER>()?;
        header[..6].copy_from_slice(&self.destination.0);
        header[6..12].copy_from_slice(&self.source.0);
        header[12..].copy_from_slice(&self.ethertype.to_be_bytes());
        Some(())
    }
}

impl Mac {
    /// For everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it is one station's: neither a group nor nobody.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self != Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_written() {
        let mut frame = [0xa5; 20];
        let header = Header { destination: Mac::BROADCAST, source: Mac([2, 0, 0, 0, 0, 1]), ethertype: ARP };
        header.write(&mut frame).expect("long enough");
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(Header::parse(&frame), Ok((header, &[0xa5; 6][..])));
        assert_eq!(Header::parse(&frame[..13]), Err(Error::Truncated));
        assert_eq!(header.write(&mut frame[..13]), None);
    }

    #[test]
    fn groups_and_nobody_are_no_stations() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast());
        for other in [Mac::BROADCAST, Mac::default(), Mac([1, 0, 0x5e, 0, 0, 18])] {
            assert!(!other.is_unicast());
        }
    }
}
