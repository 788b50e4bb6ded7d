//! What goes on: pieces of the input, and what was put between them.

use std::ops::Range;

/// More room than this is given back when the output is cleared, bytes. One read of pipelined requests fits.
const INSERTED_KEPT_MAX: usize = 64 * 1024;
/// The same for the list of pieces, entries.
const SEGMENTS_KEPT_MAX: usize = 1024;

/// One piece of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes of the input of the call, as they are.
    Input(Range<usize>),
    /// These bytes of [`Output::inserted`].
    Inserted(Range<usize>),
}

/// The output of one call, in order. Made once per worker and cleared before each call, so that a request costs no
/// allocation. It is never longer than the input, what was held back (one head), and one set of lines per head.
#[derive(Debug, Default)]
pub struct Output {
    segments: Vec<Segment>,
    inserted: Vec<u8>,
    length: usize,
}

impl Output {
    /// Forgets everything; the memory stays, within bounds.
    pub fn clear(&mut self) {
        self.segments.clear();
        self.segments.shrink_to(SEGMENTS_KEPT_MAX);
        self.inserted.clear();
        self.inserted.shrink_to(INSERTED_KEPT_MAX);
        self.length = 0;
    }

    /// The pieces; none is empty, and neighbours in the same place are one.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The bytes that did not come with this input: our own lines, and what was held back earlier.
    #[must_use]
    pub fn inserted(&self) -> &[u8] {
        &self.inserted
    }

    /// All pieces together, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing goes on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether all of an input of `length` bytes goes on as it came, and nothing else: it may be written from where it
    /// lies.
    #[must_use]
    pub fn is_all_of(&self, length: usize) -> bool {
        matches!(self.segments.as_slice(), [Segment::Input(range)] if *range == (0..length))
    }

    /// The bytes of the pieces, in order. `input` is the input of the same call.
    pub fn slices<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.segments.iter().filter_map(move |segment| match segment {
            Segment::Input(range) => input.get(range.clone()),
            Segment::Inserted(range) => self.inserted.get(range.clone()),
        })
    }

    /// Appends all bytes to `destination`.
    pub fn append_to(&self, input: &[u8], destination: &mut Vec<u8>) {
        destination.reserve(self.length);
        self.slices(input).for_each(|slice| destination.extend_from_slice(slice));
    }

    pub(super) fn input(&mut self, range: Range<usize>) {
        self.length += range.len();
        match self.segments.last_mut() {
            _ if range.is_empty() => {}
            Some(Segment::Input(last)) if last.end == range.start => last.end = range.end,
            _ => self.segments.push(Segment::Input(range)),
        }
    }

    pub(super) fn insert(&mut self, bytes: &[u8]) {
        let start = self.inserted.len();
        self.inserted.extend_from_slice(bytes);
        self.length += bytes.len();
        match self.segments.last_mut() {
            _ if bytes.is_empty() => {}
            Some(Segment::Inserted(last)) => last.end = self.inserted.len(),
            _ => self.segments.push(Segment::Inserted(start..self.inserted.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_piece_and_empty_pieces_are_none() {
        let mut out = Output::default();
        out.input(0..3);
        out.input(3..5);
        out.insert(b"");
        out.input(7..7);
        out.insert(b"x");
        out.insert(b"y");
        out.input(5..6);
        let expected = [Segment::Input(0..5), Segment::Inserted(0..2), Segment::Input(5..6)];
        assert_eq!(out.segments(), expected);
        let mut bytes = Vec::new();
        out.append_to(b"abcdef", &mut bytes);
        assert_eq!((bytes.as_slice(), out.len()), (b"abcdexyf".as_slice(), 8));
    }

    #[test]
    fn an_input_that_goes_on_as_it_is_can_be_seen_as_such() {
        let mut out = Output::default();
        out.input(0..4);
        assert!(out.is_all_of(4) && !out.is_all_of(5));
        out.insert(b"x");
        assert!(!out.is_all_of(4));
        out.clear();
        assert!(out.is_empty() && !out.is_all_of(0));
    }
}
