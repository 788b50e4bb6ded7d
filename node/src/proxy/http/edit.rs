//! Writing a head anew: byte for byte what it was, without the lines that do not go on, and with ours at its end.

use std::ops::Range;

use super::output::Output;
use super::request::RequestHead;
use super::section::{Name, Place, elements, field, name_of};
use crate::config::model::Forwarded;

/// A complete head, and where it goes.
pub(super) struct Head<'a> {
    bytes: &'a [u8],
    /// Where it begins in the input; `None`: it was held, and is copied.
    input: Option<usize>,
    out: &'a mut Output,
}

impl<'a> Head<'a> {
    /// `held`: what the section holds.
    pub(super) fn new(input: &'a [u8], held: &'a [u8], place: &Place, out: &'a mut Output) -> Self {
        match place {
            Place::Input(range) => Self { bytes: &input[range.clone()], input: Some(range.start), out },
            Place::Held => Self { bytes: held, input: None, out },
        }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What `from` leaves, with `lines` before the empty line at the end.
    pub(super) fn with_lines(&mut self, from: usize, lines: &[&[u8]]) {
        let end = self.end();
        self.keep(from..end);
        lines.iter().for_each(|line| self.out.insert(line));
        self.keep(end..self.bytes.len());
    }

    /// The same, with what `fate` says done to each line.
    pub(super) fn with_each<'b>(
        &mut self,
        from: usize,
        lines: &[&[u8]],
        mut fate: impl FnMut(&[u8]) -> Fate<'b>,
    ) {
        let end = self.end();
        let mut start = from;
        while start < end {
            let next = memchr::memchr(b'\n', &self.bytes[start..end]).map_or(end, |found| start + found + 1);
            let text = without_end(&self.bytes[start..next]);
            match fate(text) {
                Fate::Keep => self.keep(start..next),
                Fate::Drop => {}
                Fate::Extend(more) => {
                    self.keep(start..start + text.len());
                    more.iter().for_each(|bytes| self.out.insert(bytes));
                    self.keep(start + text.len()..next);
                }
            }
            start = next;
        }
        lines.iter().for_each(|line| self.out.insert(line));
        self.keep(end..self.bytes.len());
    }

    /// Where the empty line at the end begins.
    fn end(&self) -> usize {
        self.bytes.len() - if self.bytes.ends_with(b"\r\n") { 2 } else { 1 }
    }

    fn keep(&mut self, range: Range<usize>) {
        match self.input {
            Some(at) => self.out.input(at + range.start..at + range.end),
            None => self.out.insert(&self.bytes[range]),
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    Keep,
    Drop,
    /// These come after what it says.
    Extend([&'a [u8]; 2]),
}

/// The lines that one connection's requests get.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnLines {
    /// `X-Forwarded-Proto: ...` and, after it, `X-Forwarded-For: ...`.
    bytes: Box<[u8]>,
    /// Where the second begins.
    middle: usize,
}

const FOR: &str = "X-Forwarded-For: ";
const LINE_END: &str = "\r\n";

impl OwnLines {
    pub(super) fn new(address: std::net::IpAddr, https: bool) -> Self {
        let proto = if https { "X-Forwarded-Proto: https\r\n" } else { "X-Forwarded-Proto: http\r\n" };
        let bytes = format!("{proto}{FOR}{address}{LINE_END}").into_bytes().into_boxed_slice();
        Self { bytes, middle: proto.len() }
    }

    fn proto(&self) -> &[u8] {
        &self.bytes[..self.middle]
    }

    fn client(&self) -> &[u8] {
        &self.bytes[self.middle..]
    }

    fn address(&self) -> &[u8] {
        &self.bytes[self.middle + FOR.len()..self.bytes.len() - LINE_END.len()]
    }
}

/// Writes the head of a request by the rule. `from`: where its request line begins, or what goes on before it.
pub(super) fn request(
    head: &mut Head<'_>,
    from: usize,
    facts: &RequestHead,
    rule: Forwarded,
    own: &OwnLines,
) {
    let (there_for, there_proto) = (facts.forwarded_for > 0, facts.forwarded_proto);
    let dropped = rule == Forwarded::Replace;
    let adds = |there: bool| rule != Forwarded::Keep && (!there || dropped);
    let proto: &[u8] = if adds(there_proto) { own.proto() } else { b"" };
    let client: &[u8] = if adds(there_for) { own.client() } else { b"" };
    let touched = match rule {
        Forwarded::Keep | Forwarded::IfAbsent => false,
        Forwarded::Replace => there_for || there_proto || facts.forwarded_alias,
        Forwarded::Append => there_for || facts.forwarded_alias,
    };
    if touched || facts.superfluous {
        let mut editor = Editor { facts, rule, own, lengths: 0, forwarded: 0 };
        head.with_each(from, &[proto, client], |line| editor.fate(line));
    } else {
        head.with_lines(from, &[proto, client]);
    }
}

struct Editor<'a> {
    facts: &'a RequestHead,
    rule: Forwarded,
    own: &'a OwnLines,
    /// Content-Lengths seen.
    lengths: u16,
    /// X-Forwarded-Fors seen.
    forwarded: u16,
}

impl<'a> Editor<'a> {
    fn fate(&mut self, line: &[u8]) -> Fate<'a> {
        let Some((name, value)) = field(line) else { return Fate::Keep };
        match (name_of(name), self.rule) {
            (Some((Name::ContentLength, false)), _) if self.facts.superfluous => {
                self.lengths += 1;
                if self.lengths > 1 { Fate::Drop } else { Fate::Keep }
            }
            (Some((Name::Upgrade, false)), _) if self.facts.superfluous && names_h2c(value) => Fate::Drop,
            (Some((Name::XForwardedFor | Name::XForwardedProto, _)), Forwarded::Replace)
            | (Some((Name::XForwardedFor | Name::XForwardedProto, true)), Forwarded::Append) => Fate::Drop,
            (Some((Name::XForwardedFor, false)), Forwarded::Append) => {
                self.forwarded += 1;
                let between: &[u8] = if value.is_empty() { b" " } else { b", " };
                if self.forwarded < self.facts.forwarded_for {
                    Fate::Keep
                } else {
                    Fate::Extend([between, self.own.address()])
                }
            }
            _ => Fate::Keep,
        }
    }
}

/// Whether an Upgrade asks for HTTP/2 without TLS.
pub(super) fn names_h2c(value: &[u8]) -> bool {
    elements(value).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c"))
}

/// Writes the head of an answer: without a Content-Length that does not count, and with `line`.
pub(super) fn response(head: &mut Head<'_>, drops_length: bool, line: &[u8]) {
    if drops_length {
        head.with_each(0, &[line], |line| match field(line).and_then(|(name, _)| name_of(name)) {
            Some((Name::ContentLength, false)) => Fate::Drop,
            _ => Fate::Keep,
        });
    } else {
        head.with_lines(0, &[line]);
    }
}
