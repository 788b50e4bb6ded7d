//! The buffers of a worker, lent to one session at a time.

use std::fmt;

/// How much is read from a socket at once, octets. Bulk costs least with this (measured; half as much costs 15 % more,
/// twice as much 7 %).
pub const INPUT_LEN: usize = 256 * 1024;
/// What stays allocated for output between calls, octets: what comes of [`INPUT_LEN`] plain octets, with room for the
/// headers of its records.
const OUTPUT_KEPT: usize = INPUT_LEN + 8 * 1024;

/// Bytes between a read position and an end, in a buffer that is filled from the wire.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets what is unread; the buffer stays.
    pub(super) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Moves up to `into.len()` octets out; says how many.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let length = into.len().min(self.end - self.start);
        into[..length].copy_from_slice(&self.bytes[self.start..self.start + length]);
        self.start += length;
        length
    }

    /// Adds `more` at the end, for an input that is not filled from a socket.
    pub(super) fn append(&mut self, more: &[u8]) {
        self.bytes.drain(..self.start);
        self.bytes.truncate(self.end - self.start);
        self.bytes.extend_from_slice(more);
        self.start = 0;
        self.end = self.bytes.len();
    }
}

/// What all sessions of a thread share: octets from the wire, and octets for it.
pub struct Scratch {
    pub(super) input: Input,
    /// For the wire. Every call of a session appends to it; send it, or keep it for this connection, before the scratch
    /// serves another one. It also holds something to send after an error: the alert that tells the peer why.
    pub output: Vec<u8>,
}

impl Scratch {
    /// Buffers of [`INPUT_LEN`].
    #[must_use]
    pub fn new() -> Self {
        let input = Input { bytes: vec![0; INPUT_LEN], start: 0, end: 0 };
        Self { input, output: Vec::with_capacity(OUTPUT_KEPT) }
    }

    /// Where the next bytes from the wire go. Empty when [`INPUT_LEN`] octets wait: then a session has to take them.
    pub fn space(&mut self) -> &mut [u8] {
        if self.input.is_empty() {
            self.input.clear();
        }
        &mut self.input.bytes[self.input.end..]
    }

    /// `length` octets of [`Scratch::space`] were filled.
    pub fn filled(&mut self, length: usize) {
        self.input.end = (self.input.end + length).min(self.input.bytes.len());
    }

    /// Whether bytes from the wire wait for a session.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Empties both; what an unusual burst made of the output buffer is given back.
    pub fn clear(&mut self) {
        self.input.clear();
        self.output.clear();
        self.output.shrink_to(OUTPUT_KEPT);
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    /// Lengths only: it holds what clients say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch")
            .field("input", &self.input.unread().len())
            .field("output", &self.output.len())
            .finish()
    }
}
