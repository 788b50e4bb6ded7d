//! One direction of a relayed connection, as a machine without sockets.
//!
//! ```text
//!          received, all written              end of input
//!         +-----------------------+
//!         v                       |
//!      [ Read ] ------------------+---------------------------+
//!         |  ^                                                v
//!         |  | wrote the rest       wrote the rest      [ Shutdown ] --> [ Nothing ]
//!         v  |
//!      [ Write ]
//! ```
//!
//! Whatever could not be written at once is kept, at most one read of it, and nothing more is read until it is gone:
//! a slow reader slows its sender down, and costs one buffer.

/// What the direction needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// Read from the source, try to write it at once, and report with [`Half::received`] or [`Half::end_of_input`].
    Read,
    /// Write these, and report with [`Half::wrote`].
    Write(&'a [u8]),
    /// Pass the end on, and report with [`Half::passed_end_on`].
    Shutdown,
    /// It is over.
    Nothing,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Read and not yet written; empty (and without memory) nearly always.
    pending: Vec<u8>,
    /// How much of `pending` has been written.
    written: usize,
    eof: bool,
    shut: bool,
}

impl Half {
    /// What to do next.
    pub(super) fn want(&self) -> Want<'_> {
        if !self.pending.is_empty() {
            Want::Write(&self.pending[self.written..])
        } else if !self.eof {
            Want::Read
        } else if !self.shut {
            Want::Shutdown
        } else {
            Want::Nothing
        }
    }

    /// `bytes` were read, and the first `accepted` of them were written.
    pub(super) fn received(&mut self, bytes: &[u8], accepted: usize) {
        debug_assert!(self.pending.is_empty() && !self.eof);
        if let Some(rest @ [_, ..]) = bytes.get(accepted..) {
            self.pending = rest.to_vec();
            self.written = 0;
        }
    }

    /// `count` of the bytes that it wanted to write were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.pending.len() {
            // The memory goes back: connections with a backlog are few, and they change.
            self.pending = Vec::new();
            self.written = 0;
        }
    }

    /// The source will send no more.
    pub(super) fn end_of_input(&mut self) {
        self.eof = true;
    }

    /// The destination knows.
    pub(super) fn passed_end_on(&mut self) {
        self.shut = true;
    }

    /// Everything has been passed on, the end too.
    pub(super) fn is_over(&self) -> bool {
        self.shut
    }

    /// Whether bytes wait to be written.
    pub(super) fn has_backlog(&self) -> bool {
        !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUFFER: usize = 64;

    /// Drives the machine with a source and a destination that give and take what `dice` (0 to its argument) says;
    /// returns what arrived and whether the end was passed on.
    fn run(
        input: &[u8],
        mut dice: impl FnMut(usize) -> usize,
        ends: bool,
    ) -> Result<(Vec<u8>, bool), TestCaseError> {
        let (mut half, mut read, mut out, mut end) = (Half::default(), 0, Vec::new(), false);
        // Each step may move nothing, hence the generous bound.
        for _ in 0..input.len() * 40 + 1_000 {
            prop_assert!(half.pending.len() <= BUFFER, "more than one buffer is pending");
            match half.want() {
                Want::Read if read == input.len() && !ends => break,
                Want::Read if read == input.len() => half.end_of_input(),
                Want::Read => {
                    let bytes = &input[read..input.len().min(read + 1 + dice(BUFFER - 1))];
                    let accepted = dice(bytes.len());
                    out.extend_from_slice(&bytes[..accepted]);
                    half.received(bytes, accepted);
                    read += bytes.len();
                    prop_assert_eq!(half.has_backlog(), accepted < bytes.len());
                }
                Want::Write(bytes) => {
                    prop_assert!(!bytes.is_empty() && !end);
                    let count = dice(bytes.len());
                    out.extend_from_slice(&bytes[..count]);
                    half.wrote(count);
                }
                Want::Shutdown => {
                    prop_assert!(
                        read == input.len() && out.len() == input.len(),
                        "the end before the last byte"
                    );
                    end = true;
                    half.passed_end_on();
                }
                Want::Nothing => {
                    prop_assert!(half.is_over());
                    break;
                }
            }
        }
        Ok((out, end))
    }

    proptest! {
        #[test]
        fn every_byte_passes_once_and_in_order_and_the_end_after_the_last(
            input in prop::collection::vec(any::<u8>(), 0..2_000),
            rolls in prop::collection::vec(any::<usize>(), 1..500),
            ends in any::<bool>(),
        ) {
            let mut rolls = rolls.into_iter().cycle();
            // Every fourth roll is the highest, so that the run comes to its end.
            let mut count = 0u32;
            let dice = |highest: usize| {
                count += 1;
                if count.is_multiple_of(4) { highest } else { rolls.next().unwrap_or(0) % (highest + 1) }
            };
            let (out, end) = run(&input, dice, ends)?;
            prop_assert_eq!(out, input);
            prop_assert_eq!(end, ends);
        }
    }

    #[test]
    fn nothing_is_kept_when_all_was_written_at_once() {
        let mut half = Half::default();
        half.received(b"abc", 3);
        assert_eq!((half.want(), half.pending.capacity()), (Want::Read, 0));
        half.received(b"abc", 1);
        assert_eq!(half.want(), Want::Write(b"bc"));
        half.wrote(2);
        assert_eq!((half.want(), half.pending.capacity()), (Want::Read, 0));
    }
}
