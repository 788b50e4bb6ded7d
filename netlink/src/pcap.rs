//! Reads captures: the classic libpcap file format, Ethernet only. Bytes in, records out; no I/O.
//!
//! Written for recorded exchanges that are replayed in tests and for `cygnet`'s own diagnosis of a capture; the newer
//! pcapng is refused.

use thiserror::Error;

/// The file header:
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |            Magic: a1b2c3d4 (us) or a1b23c4d (ns)              |
/// |     Major version (2)         |     Minor version (4)         |
/// |       Reserved (8 bytes), Snap length (4), Link type (4)      |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
///
/// The record header: seconds, microseconds or nanoseconds, captured length, original length, 4 bytes each.
mod field {
    pub(super) const MAGIC: usize = 0;
    pub(super) const MAJOR: usize = 4;
    pub(super) const LINK_TYPE: usize = 20;
    pub(super) const FILE_HEADER: usize = 24;
    pub(super) const SECONDS: usize = 0;
    pub(super) const FRACTION: usize = 4;
    pub(super) const CAPTURED: usize = 8;
    pub(super) const ORIGINAL: usize = 12;
    pub(super) const RECORD_HEADER: usize = 16;
}

const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const MAJOR_VERSION: u16 = 2;
const LINK_TYPE_ETHERNET: u32 = 1;
/// The upper bits of the link type hold the length of a frame check sequence.
const LINK_TYPE_MASK: u32 = 0x0fff_ffff;
/// The largest record that libpcap itself accepts, bytes.
const CAPTURED_MAX: u32 = 262_144;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Why a capture, or the rest of it, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Not a classic libpcap file.
    #[error("not a libpcap file (magic {0:#010x})")]
    Magic(u32),
    /// A version that we do not know.
    #[error("libpcap file version {0}")]
    Version(u16),
    /// Another link type than Ethernet.
    #[error("link type {0}, not Ethernet")]
    LinkType(u32),
    /// The file ends inside a header or a record.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// A record longer than libpcap allows, or a fraction of a second or more.
    #[error("impossible record header at byte {0}")]
    Record(usize),
}

/// A frame of the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// The length that the frame had on the wire, bytes.
    pub original_length: u32,
    /// The frame from its Ethernet header on, as far as it was captured.
    pub bytes: &'a [u8],
}

/// Walks over the records of a capture; ends after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    big_endian: bool,
    ns_per_unit: u64,
}

impl<'a> Reader<'a> {
    /// Reads the file header.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Magic`], [`Error::Version`], [`Error::LinkType`].
    pub fn new(file: &'a [u8]) -> Result<Self, Error> {
        let header: &[u8; field::FILE_HEADER] = file.first_chunk().ok_or(Error::Truncated(file.len()))?;
        let magic = u32::from_be_bytes(four(header, field::MAGIC));
        let (big_endian, ns_per_unit) = match (magic, magic.swap_bytes()) {
            (MAGIC_MICROSECONDS, _) => (true, 1000),
            (MAGIC_NANOSECONDS, _) => (true, 1),
            (_, MAGIC_MICROSECONDS) => (false, 1000),
            (_, MAGIC_NANOSECONDS) => (false, 1),
            _ => return Err(Error::Magic(magic)),
        };
        let major = [header[field::MAJOR], header[field::MAJOR + 1]];
        let major = if big_endian { u16::from_be_bytes(major) } else { u16::from_le_bytes(major) };
        if major != MAJOR_VERSION {
            return Err(Error::Version(major));
        }
        let link_type = number(big_endian, four(header, field::LINK_TYPE)) & LINK_TYPE_MASK;
        if link_type != LINK_TYPE_ETHERNET {
            return Err(Error::LinkType(link_type));
        }
        Ok(Self { file, at: field::FILE_HEADER, big_endian, ns_per_unit })
    }

    fn record(&mut self) -> Result<Record<'a>, Error> {
        let start = self.at;
        // After an error there is nothing more to be found.
        self.at = self.file.len();
        let rest = self.file.get(start..).unwrap_or_default();
        let (header, rest) =
            rest.split_first_chunk::<{ field::RECORD_HEADER }>().ok_or(Error::Truncated(start))?;
        let get = |at| number(self.big_endian, four(header, at));
        let fraction = u64::from(get(field::FRACTION)) * self.ns_per_unit;
        let captured = get(field::CAPTURED);
        if captured > CAPTURED_MAX || fraction >= NANOS_PER_SECOND {
            return Err(Error::Record(start));
        }
        let bytes = rest.get(..captured as usize).ok_or(Error::Truncated(start))?;
        let time_ns = u64::from(get(field::SECONDS)) * NANOS_PER_SECOND + fraction;
        self.at = start + field::RECORD_HEADER + bytes.len();
        Ok(Record { time_ns, original_length: get(field::ORIGINAL), bytes })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.file.len()).then(|| self.record())
    }
}

fn four(bytes: &[u8], at: usize) -> [u8; 4] {
    std::array::from_fn(|i| bytes[at + i])
}

fn number(big_endian: bool, bytes: [u8; 4]) -> u32 {
    if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

#[cfg(test)]
mod tests;
