//! The head of an answer, and what follows from it and its request (RFC 9112 section 6.3).

use super::awaited::Kind;
use super::body::Body;
use super::refusal::{Fault, bad_answer};
use super::section::{Lines, Name, content_length, elements, field, has_control, name_of};

/// The longest head of an answer, bytes: cookies and security policies are long.
pub(super) const RESPONSE_HEAD_MAX: usize = 64 * 1024;
/// The most field lines of a head.
pub(super) const FIELDS_MAX: u16 = 256;

/// What has been learnt from the lines so far.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    old: bool,
    fields: u16,
    length: Option<u64>,
    coded: Option<Coded>,
    /// The server has set Strict-Transport-Security itself.
    pub(super) hsts: bool,
}

/// The last transfer coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coded {
    Chunked,
    Other,
}

/// What comes after a complete head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Another head for the same request.
    Interim,
    /// The end of HTTP: both sides speak another protocol from here on.
    Tunnel,
    /// The end of the answer.
    Complete,
    /// A body.
    Body(Body),
}

impl ResponseHead {
    /// The head is complete, and answers a request of this kind.
    pub(super) fn finish(&self, kind: Kind) -> Result<Meaning, Fault> {
        Ok(match (self.status, kind) {
            (101, Kind::Upgrade) | (200..=299, Kind::Connect) => Meaning::Tunnel,
            (101, _) => return Err(bad_answer("the server switches protocols without being asked")),
            (100..=199, _) => Meaning::Interim,
            (204 | 304, _) | (_, Kind::Head) => Meaning::Complete,
            _ if self.old && self.coded.is_some() => {
                return Err(bad_answer("the server sends Transfer-Encoding in HTTP/1.0"));
            }
            _ => match (self.coded, self.length) {
                (Some(Coded::Chunked), _) => Meaning::Body(Body::chunked(true)),
                (Some(Coded::Other), _) | (None, None) => Meaning::Body(Body::UntilClose),
                (None, Some(0)) => Meaning::Complete,
                (None, Some(length)) => Meaning::Body(Body::Length(length)),
            },
        })
    }

    /// A Content-Length that does not count must not go on (RFC 9112 section 6.3, rule 3).
    pub(super) fn drops_length(&self) -> bool {
        self.coded.is_some() && self.length.is_some()
    }

    fn status_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let fault = bad_answer("the server sends something else than an HTTP/1 answer");
        let (version, rest) = line.split_at_checked(9).ok_or(fault)?;
        self.old = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return Err(fault),
        };
        let (status, reason) = rest.split_at_checked(3).ok_or(fault)?;
        if !status.iter().all(u8::is_ascii_digit) || !matches!(reason, [] | [b' ', ..]) || has_control(reason)
        {
            return Err(fault);
        }
        self.status = status.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
        if self.status < 100 { Err(fault) } else { Ok(()) }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(bad_answer("the server sends too many header fields"));
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(bad_answer("the server sends a folded line"));
        }
        let Some((name, value)) = field(line) else {
            return Err(bad_answer("the server sends a header field without a proper name"));
        };
        if has_control(value) {
            return Err(bad_answer("the server sends a control character in a header field"));
        }
        match name_of(name) {
            Some((Name::ContentLength, false)) => {
                let length = content_length(value)
                    .filter(|length| self.length.is_none_or(|other| other == *length))
                    .ok_or(bad_answer(
                        "the server sends a Content-Length that is no number, or two of them",
                    ))?;
                self.length = Some(length);
            }
            Some((Name::TransferEncoding, false)) => self.transfer_encoding(value)?,
            Some((Name::StrictTransportSecurity, false)) => self.hsts = true,
            _ => {}
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        for coding in elements(value) {
            if self.coded == Some(Coded::Chunked) {
                return Err(bad_answer("the server sends a transfer coding after chunked"));
            }
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.coded = Some(if chunked { Coded::Chunked } else { Coded::Other });
        }
        Ok(())
    }
}

impl Lines for ResponseHead {
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.status == 0 { self.status_line(line) } else { self.field(line) }
    }

    fn empty(&mut self) -> Result<bool, Fault> {
        if self.status == 0 {
            Err(bad_answer("the server sends an empty line instead of an answer"))
        } else {
            Ok(true)
        }
    }

    /// Servers are not our enemies, and what the client makes of it is its own affair.
    fn bare_lf(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn too_long(&self) -> Fault {
        bad_answer("the server sends a head that is too long")
    }

    fn bytes_max(&self) -> usize {
        RESPONSE_HEAD_MAX
    }
}

/// Whether these first bytes can begin an answer.
pub(super) fn could_begin(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/1.").all(|(byte, wanted)| byte == wanted)
}
