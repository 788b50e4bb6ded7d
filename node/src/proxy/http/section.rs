//! Heads and trailers: lines up to an empty one, in whatever pieces they come.
//!
//! Each line is looked at once, as soon as it is complete, so a slow sender costs no more than a quick one. Where a
//! section came in one piece nothing is copied; else the pieces are held back, up to a limit, until it is whole.

use std::mem;
use std::ops::Range;

use super::refusal::Fault;

/// Whoever looks at the lines. They come without their ends.
pub(super) trait Lines {
    /// A line that is not empty.
    fn line(&mut self, line: &[u8]) -> Result<(), Fault>;
    /// An empty line: whether the section ends with it.
    fn empty(&mut self) -> Result<bool, Fault>;
    /// A line ends with a bare LF.
    fn bare_lf(&self) -> Result<(), Fault>;
    /// The section has no end within [`Lines::bytes_max`].
    fn too_long(&self) -> Fault;
    /// The longest section, bytes.
    fn bytes_max(&self) -> usize;
}

/// Where a complete section lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this input.
    Input(Range<usize>),
    /// In [`Section::held`].
    Held,
}

/// A section that is being read.
#[derive(Debug, Default)]
pub(super) struct Section {
    held: Vec<u8>,
    /// Up to here there is no further line end.
    scanned: usize,
    /// Where the current line begins.
    line: usize,
}

impl Section {
    /// What came with earlier inputs and has not gone on.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes what is held, and begins anew.
    pub(super) fn take(&mut self) -> Vec<u8> {
        (self.scanned, self.line) = (0, 0);
        mem::take(&mut self.held)
    }

    /// Reads `input` from `at`. `Some`: the section is complete, and ends in the input before the given position;
    /// after it has been used, [`Section::take`] makes room for the next. `None`: it needs more; all of the input is
    /// held. After an error what was held before is still held, and nothing of this input.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        at: usize,
        lines: &mut impl Lines,
    ) -> Result<Option<(Place, usize)>, Fault> {
        let rest = &input[at..];
        if self.held.is_empty() {
            return Ok(match self.scan(rest, lines)? {
                Some(end) => Some((Place::Input(at..at + end), at + end)),
                None => {
                    self.held = rest.to_vec();
                    None
                }
            });
        }
        let mut held = mem::take(&mut self.held);
        let before = held.len();
        let room = lines.bytes_max().saturating_sub(before);
        held.extend_from_slice(&rest[..room.min(rest.len())]);
        let end = self.scan(&held, lines);
        held.truncate(match end {
            Ok(Some(end)) => end,
            Ok(None) => held.len(),
            Err(_) => before,
        });
        self.held = held;
        Ok(end?.map(|end| (Place::Held, at + end - before)))
    }

    /// Looks at the lines that are complete now. `Some`: where the section ends.
    fn scan(&mut self, bytes: &[u8], lines: &mut impl Lines) -> Result<Option<usize>, Fault> {
        let bytes_max = lines.bytes_max();
        let bytes = &bytes[..bytes.len().min(bytes_max)];
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let end = self.scanned + found;
            let line = match &bytes[self.line..end] {
                [line @ .., b'\r'] => line,
                line => {
                    lines.bare_lf()?;
                    line
                }
            };
            (self.scanned, self.line) = (end + 1, end + 1);
            if !line.is_empty() {
                lines.line(line)?;
            } else if lines.empty()? {
                return Ok(Some(end + 1));
            }
        }
        self.scanned = bytes.len();
        if bytes.len() == bytes_max { Err(lines.too_long()) } else { Ok(None) }
    }
}

/// What a byte may be part of (RFC 9110 section 5.6.2, RFC 9112 section 3.2).
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let is = byte as u8;
        if is.is_ascii_alphanumeric()
            || matches!(is, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            table[byte] |= TOKEN;
        }
        if is.is_ascii_alphanumeric()
            || matches!(
                is,
                b'!' | b'$' | b'%'..=b'+' | b'-' | b'.' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~'
            )
        {
            table[byte] |= HOST;
        }
        byte += 1;
    }
    table
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;
static CLASSES: [u8; 256] = classes();

/// Whether all bytes may stand in a method or a field's name; false when there are none.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & TOKEN != 0)
}

/// Whether all bytes may stand in a host and its port. Neither a comma nor user information may.
pub(super) fn is_host(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & HOST != 0)
}

/// Whether a line holds a control character other than a tab: a bare CR and NUL among them.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    // Without an early end, for the compiler makes many comparisons at once of it.
    bytes.iter().fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Splits a field line. `None`: no colon, or something else than a token before it.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    is_token(name).then(|| (name, trim(value)))
}

/// Without the blanks and tabs around it.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a list, trimmed; some may be empty.
pub(super) fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// The fields that mean something to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Connection,
    ContentLength,
    Expect,
    Host,
    StrictTransportSecurity,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedProto,
}

/// Which of them it is, in any case, and whether an underscore stands for a hyphen: many servers hand both to their
/// programs under one name (`HTTP_X_FORWARDED_FOR`).
pub(super) fn name_of(name: &[u8]) -> Option<(Name, bool)> {
    let (text, found): (&[u8], _) = match name.len() {
        4 => (b"host", Name::Host),
        6 => (b"expect", Name::Expect),
        7 => (b"upgrade", Name::Upgrade),
        10 => (b"connection", Name::Connection),
        14 => (b"content-length", Name::ContentLength),
        15 => (b"x-forwarded-for", Name::XForwardedFor),
        17 if matches!(name[0], b'x' | b'X') => (b"x-forwarded-proto", Name::XForwardedProto),
        17 => (b"transfer-encoding", Name::TransferEncoding),
        25 => (b"strict-transport-security", Name::StrictTransportSecurity),
        _ => return None,
    };
    let mut underscore = false;
    let same = name.iter().zip(text).all(|(byte, wanted)| match byte {
        b'_' => {
            underscore = true;
            *wanted == b'-'
        }
        _ => byte.eq_ignore_ascii_case(wanted),
    });
    same.then_some((found, underscore))
}

/// The value of a Content-Length (RFC 9110 section 8.6): digits, nothing else, and no more than anybody can count.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 19;
    if value.is_empty() || value.len() > DIGITS_MAX || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = value.iter().fold(0, |length: u64, digit| length * 10 + u64::from(digit - b'0'));
    (length <= super::body::LENGTH_MAX).then_some(length)
}
