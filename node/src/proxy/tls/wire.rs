//! The stream that the library believes in: a read takes from memory, a write appends to memory.

use std::io::{self, ErrorKind, Read, Write};

use super::scratch::Input;

/// Between calls it holds nothing but what waits for the first data; during a call it holds the worker's buffers.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) input: Input,
    pub(super) output: Vec<u8>,
    /// Records that go out with the next ones: session tickets. Whatever the library writes comes after them, as the
    /// records are numbered.
    pub(super) held: Vec<u8>,
}

impl Wire {
    /// Keeps back what was written after `mark`.
    pub(super) fn hold_from(&mut self, mark: usize) {
        self.held.extend_from_slice(self.output.get(mark..).unwrap_or_default());
        self.output.truncate(mark);
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(self.input.take(buffer)) }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.held.is_empty() {
            self.output.append(&mut self.held);
            self.held = Vec::new();
        }
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
