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
//!
//! A direction that fills the buffer again and again is bulk: it may be given a pipe, and then its bytes are spliced
//! through the kernel. [ Read ] becomes [ Fill ], [ Write ] becomes [ Drain ]. A pipe is filled only when it is
//! empty, so "would block" can only mean that the source has nothing: the same bound, and no guessing.

/// Reads in a row that filled the whole buffer, until a direction counts as bulk: 256 KiB.
const FULL_READS: u8 = 4;
/// Fills in a row of less than [`SMALL_FILL`], until it no longer does. A fast sender that is read faster still trickles for
/// a moment, and is to keep its pipe; 8 and 64 cost the same CPU on long answers.
const SMALL_FILLS: u8 = 64;
/// Below so many bytes a splice costs more than a copy.
const SMALL_FILL: usize = 16 * 1024;

/// What the direction needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// Read from the source, try to write it at once, and report with [`Half::received`] or [`Half::end_of_input`].
    Read,
    /// Write these, and report with [`Half::wrote`].
    Write(&'a [u8]),
    /// Splice from the source into the pipe, and report with [`Half::filled`] or [`Half::end_of_input`].
    Fill,
    /// Splice so many bytes from the pipe to the destination, and report with [`Half::drained`].
    Drain(usize),
    /// Pass the end on, and report with [`Half::passed_end_on`].
    Shutdown,
    /// It is over.
    Nothing,
}

/// Read and not yet written.
#[derive(Debug)]
struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// Without memory nearly always.
    backlog: Option<Box<Backlog>>,
    /// Bytes in the pipe.
    piped: u32,
    /// Full reads in a row; with a pipe: small fills in a row.
    row: u8,
    has_pipe: bool,
    eof: bool,
    shut: bool,
}

impl Half {
    /// What to do next.
    pub(super) fn want(&self) -> Want<'_> {
        if let Some(backlog) = &self.backlog {
            Want::Write(&backlog.bytes[backlog.written..])
        } else if self.piped > 0 {
            Want::Drain(self.piped as usize)
        } else if self.eof {
            if self.shut { Want::Nothing } else { Want::Shutdown }
        } else if self.has_pipe {
            Want::Fill
        } else {
            Want::Read
        }
    }

    /// `bytes` were read into a buffer of `room` bytes, and the first `accepted` of them were written.
    pub(super) fn received(&mut self, bytes: &[u8], room: usize, accepted: usize) {
        debug_assert!(self.backlog.is_none() && self.piped == 0);
        self.row = if bytes.len() == room { self.row.saturating_add(1) } else { 0 };
        if let Some(rest @ [_, ..]) = bytes.get(accepted..) {
            self.backlog = Some(Box::new(Backlog { bytes: rest.to_vec(), written: 0 }));
        }
    }

    /// These were read before there was a destination.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.backlog.is_none() && self.piped == 0);
        self.backlog = (!bytes.is_empty()).then(|| Box::new(Backlog { bytes, written: 0 }));
    }

    /// `count` of the bytes that it wanted to write were written.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Some(backlog) = &mut self.backlog {
            backlog.written += count;
            if backlog.written >= backlog.bytes.len() {
                // The memory goes back: connections with a backlog are few, and they change.
                self.backlog = None;
            }
        }
    }

    /// Whether a pipe is worth its while.
    pub(super) fn is_bulk(&self) -> bool {
        !self.has_pipe && self.row >= FULL_READS
    }

    /// From now on bytes go through a pipe; `false`: there is none to be had, and it may be asked for again later.
    pub(super) fn take_pipe(&mut self, there_is_one: bool) {
        self.has_pipe = there_is_one;
        self.row = 0;
    }

    /// Whether the pipe is empty and of no use any more.
    pub(super) fn is_done_with_pipe(&self) -> bool {
        self.has_pipe && self.piped == 0 && (self.row >= SMALL_FILLS || self.eof)
    }

    /// Whether it has a pipe with nothing in it.
    pub(super) fn has_empty_pipe(&self) -> bool {
        self.has_pipe && self.piped == 0
    }

    /// The pipe has been taken back.
    pub(super) fn give_pipe(&mut self) {
        debug_assert!(self.piped == 0);
        self.has_pipe = false;
        self.row = 0;
    }

    /// `count` bytes went into the pipe.
    pub(super) fn filled(&mut self, count: usize) {
        self.piped = u32::try_from(count).unwrap_or(u32::MAX);
        self.row = if count < SMALL_FILL { self.row.saturating_add(1) } else { 0 };
    }

    /// `count` bytes went out of the pipe.
    pub(super) fn drained(&mut self, count: usize) {
        self.piped = self.piped.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The source will send no more.
    pub(super) fn end_of_input(&mut self) {
        self.eof = true;
    }

    /// Whether the source will send no more.
    pub(super) fn has_input_ended(&self) -> bool {
        self.eof
    }

    /// The destination knows.
    pub(super) fn passed_end_on(&mut self) {
        self.shut = true;
    }

    /// Everything has been passed on, the end too.
    pub(super) fn is_over(&self) -> bool {
        self.shut
    }

    /// Bytes that wait to be written.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.bytes.len() - backlog.written) + self.piped as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUFFER: usize = 64;
    const PIPE: usize = 256;

    /// Drives the machine with a source and a destination that give and take what `dice` (0 to its argument) says;
    /// returns what arrived, whether the end was passed on, and how often it went over to a pipe.
    fn run(
        input: &[u8],
        mut dice: impl FnMut(usize) -> usize,
        ends: bool,
    ) -> Result<(Vec<u8>, bool, u32), TestCaseError> {
        let (mut half, mut read, mut out, mut end, mut pipes) = (Half::default(), 0, Vec::new(), false, 0);
        // Each step may move nothing, hence the generous bound.
        for _ in 0..input.len() * 40 + 1_000 {
            prop_assert!(half.backlog() <= PIPE, "more than one buffer is pending");
            if half.is_bulk() {
                half.take_pipe(dice(3) > 0);
                pipes += u32::from(half.has_empty_pipe());
            }
            if half.is_done_with_pipe() || half.has_empty_pipe() && dice(20) == 0 {
                half.give_pipe();
            }
            match half.want() {
                Want::Read | Want::Fill if read == input.len() && !ends => break,
                Want::Read | Want::Fill if read == input.len() => half.end_of_input(),
                Want::Read => {
                    // Bulk fills the buffer.
                    let size = if dice(4) > 0 { BUFFER } else { 1 + dice(BUFFER - 1) };
                    let bytes = &input[read..input.len().min(read + size)];
                    let accepted = dice(bytes.len());
                    out.extend_from_slice(&bytes[..accepted]);
                    half.received(bytes, BUFFER, accepted);
                    read += bytes.len();
                    prop_assert_eq!(half.backlog(), bytes.len() - accepted);
                }
                Want::Write(bytes) => {
                    prop_assert!(!bytes.is_empty() && !end);
                    let count = dice(bytes.len());
                    out.extend_from_slice(&bytes[..count]);
                    half.wrote(count);
                }
                Want::Fill => {
                    let count = (1 + dice(PIPE - 1)).min(input.len() - read);
                    half.filled(count);
                    read += count;
                }
                Want::Drain(held) => {
                    let count = dice(held);
                    out.extend_from_slice(&input[read - held..read - held + count]);
                    half.drained(count);
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
        Ok((out, end, pipes))
    }

    proptest! {
        #[test]
        fn every_byte_passes_once_and_in_order_and_the_end_after_the_last(
            input in prop::collection::vec(any::<u8>(), 0..4_000),
            rolls in prop::collection::vec(any::<usize>(), 1..500),
            ends in any::<bool>(),
        ) {
            let mut rolls = rolls.into_iter().cycle();
            // Some rolls are the highest, three in a row, so that the run comes to its end.
            let mut count = 0u32;
            let dice = |highest: usize| {
                count += 1;
                if count % 8 > 4 { highest } else { rolls.next().unwrap_or(0) % (highest + 1) }
            };
            let (out, end, _) = run(&input, dice, ends)?;
            prop_assert_eq!(out, input);
            prop_assert_eq!(end, ends);
        }
    }

    #[test]
    fn a_direction_that_fills_the_buffer_goes_over_to_a_pipe() {
        let input = vec![7; 100 * BUFFER];
        let (out, end, pipes) = run(&input, |highest| highest, true).expect("no failure");
        assert!(out == input && end && pipes > 0);
    }

    #[test]
    fn a_pipe_that_carries_little_is_given_back() {
        let mut half = Half::default();
        (0..FULL_READS).for_each(|_| half.received(&[0; BUFFER], BUFFER, BUFFER));
        assert!(half.is_bulk());
        half.take_pipe(true);
        for _ in 0..SMALL_FILLS {
            assert!(!half.is_done_with_pipe());
            assert_eq!(half.want(), Want::Fill);
            half.filled(SMALL_FILL - 1);
            assert!(!half.is_done_with_pipe(), "there are bytes in it");
            half.drained(SMALL_FILL - 1);
        }
        assert!(half.is_done_with_pipe());
        half.give_pipe();
        assert_eq!((half.want(), half.is_bulk()), (Want::Read, false));
    }

    #[test]
    fn nothing_is_kept_when_all_was_written_at_once() {
        let mut half = Half::default();
        half.received(b"abc", BUFFER, 3);
        assert_eq!((half.want(), half.backlog()), (Want::Read, 0));
        half.received(b"abc", BUFFER, 1);
        assert_eq!(half.want(), Want::Write(b"bc"));
        half.wrote(2);
        assert!(half.backlog.is_none(), "the memory is given back");
    }
}
