//! The body of a message: how far it goes (RFC 9112 sections 6 and 7). Its bytes are never changed.

use super::refusal::{Fault, bad};

/// The longest line before a chunk, its extensions included, bytes. Nobody uses extensions; 256 is plenty.
pub(super) const CHUNK_LINE_MAX: usize = 256;
/// The longest chunk size, hexadecimal digits: more do not fit 64 bits, leading zeros or not.
const CHUNK_DIGITS_MAX: u8 = 16;
/// The longest length of a body or chunk. Beyond it programs that count in signed numbers would disagree with us.
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All until the connection ends.
    UntilClose,
}

/// Where we are in a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    phase: Phase,
    /// The chunk's size, then what is left of it.
    size: u64,
    digits: u8,
    /// Bytes of the line so far.
    line: u16,
    /// Whether blanks may follow the size, as old servers send them.
    padded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Size,
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// What comes after the bytes that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More of this body.
    More,
    /// The next message.
    End,
    /// The trailer section.
    Trailer,
}

impl Body {
    /// A body in chunks. `padded`: blanks may follow a chunk's size.
    pub(super) fn chunked(padded: bool) -> Self {
        Self::Chunked(Chunked::new(padded))
    }

    /// How many of the next bytes are data, whatever they are.
    pub(super) fn data(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(chunked) if chunked.phase == Phase::Data => chunked.size,
            Self::Chunked(_) => 0,
            Self::UntilClose => u64::MAX,
        }
    }

    /// `count` bytes of data, at most [`Self::data`], went by.
    pub(super) fn passed(&mut self, count: u64) -> Next {
        match self {
            Self::Length(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 { Next::End } else { Next::More }
            }
            Self::Chunked(chunked) => {
                chunked.size = chunked.size.saturating_sub(count);
                if chunked.size == 0 {
                    chunked.phase = Phase::DataCr;
                }
                Next::More
            }
            Self::UntilClose => Next::More,
        }
    }

    /// Looks at `input`: how many bytes of it are of this body and in order, and what comes then.
    pub(super) fn look(&mut self, input: &[u8]) -> (usize, Result<Next, Fault>) {
        let mut at = 0;
        while at < input.len() {
            let data = usize::try_from(self.data()).unwrap_or(usize::MAX).min(input.len() - at);
            let next = if data > 0 {
                at += data;
                self.passed(data as u64)
            } else {
                let Self::Chunked(chunked) = self else { return (at, Ok(Next::End)) };
                match chunked.byte(input[at]) {
                    Ok(next) => {
                        at += 1;
                        next
                    }
                    Err(fault) => return (at, Err(fault)),
                }
            };
            if next != Next::More {
                return (at, Ok(next));
            }
        }
        (at, Ok(Next::More))
    }
}

impl Chunked {
    fn new(padded: bool) -> Self {
        Self { phase: Phase::Size, size: 0, digits: 0, line: 0, padded }
    }

    /// One byte that is not data.
    fn byte(&mut self, byte: u8) -> Result<Next, Fault> {
        self.line += 1;
        if usize::from(self.line) > CHUNK_LINE_MAX {
            return Err(bad("the line before a chunk is too long"));
        }
        match (self.phase, byte) {
            (Phase::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte)?,
            (Phase::Size | Phase::Blank, b';') if self.digits > 0 => self.phase = Phase::Extension,
            (Phase::Size | Phase::Blank, b' ' | b'\t') if self.digits > 0 => self.phase = Phase::Blank,
            (Phase::Size, b'\r') if self.digits > 0 => self.phase = Phase::SizeLf,
            (Phase::Blank, b'\r') if self.padded => self.phase = Phase::SizeLf,
            (Phase::Size | Phase::Blank, _) => return Err(bad("a chunk size is not a hexadecimal number")),
            (Phase::Extension, b'\r') => self.phase = Phase::SizeLf,
            (Phase::Extension, b'\t' | b' '..=b'~' | 0x80..) => {}
            (Phase::Extension, _) => return Err(bad("a control character in a chunk extension")),
            (Phase::SizeLf, b'\n') if self.size == 0 => return Ok(Next::Trailer),
            (Phase::SizeLf, b'\n') => (self.phase, self.line) = (Phase::Data, 0),
            (Phase::DataCr, b'\r') => self.phase = Phase::DataLf,
            (Phase::DataLf, b'\n') => *self = Self::new(self.padded),
            (Phase::SizeLf, _) => return Err(bad("a bare CR in the line before a chunk")),
            (Phase::Data | Phase::DataCr | Phase::DataLf, _) => {
                return Err(bad("a chunk does not end where its size says"));
            }
        }
        Ok(Next::More)
    }

    fn digit(&mut self, byte: u8) -> Result<(), Fault> {
        let value = char::from(byte).to_digit(16).unwrap_or(0);
        self.digits += 1;
        self.size = self.size << 4 | u64::from(value);
        if self.digits > CHUNK_DIGITS_MAX || self.size > LENGTH_MAX {
            return Err(bad("a chunk size is too large"));
        }
        Ok(())
    }
}
