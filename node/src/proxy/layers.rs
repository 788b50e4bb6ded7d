//! What lies between the sockets of a connection whose bytes do not pass as they are: TLS on either side, and HTTP
//! heads that are edited. A plain connection has none of this.
//!
//! ```text
//! client -- recv --> TLS -- plain --> HTTP --> TLS -- send or outbox --> server    (and the same way back)
//! ```
//!
//! The buffers between the steps are the worker's; a connection keeps only what a socket did not take. Nothing is read
//! from a side while something waits to be written to the other: one read, with what encryption adds to it, is the bound.

use rustix::io::Errno;

use super::http::{Filter, Output, Refusal};
use super::reactor::Ready;
use super::side::Side;
use super::tls::{INPUT_LEN, ReadOutcome, Scratch, Session, TlsError};

/// What may wait for a side because TLS itself has to say something to it (answers to key updates), before no more is
/// read from that side: 512 KiB, so that one bulk write never counts as too much.
const OUTBOX_MAX: usize = 2 * INPUT_LEN;
/// The output of edited heads keeps this much memory between calls.
const EDITED_KEPT: usize = 64 * 1024;

/// The buffers of a worker that serves such connections: some 800 KiB.
pub(super) struct Workshop {
    pub(super) scratch: Scratch,
    /// Plain bytes of one read.
    pub(super) plain: Box<[u8]>,
    edited: Vec<u8>,
    output: Output,
}

impl Default for Workshop {
    fn default() -> Self {
        let plain = vec![0; INPUT_LEN].into_boxed_slice();
        Self { scratch: Scratch::new(), plain, edited: Vec::new(), output: Output::default() }
    }
}

/// What waits to be written to a socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what the socket takes of what waits and of `bytes` after it, and keeps the rest. `and_end`: the end follows.
    pub(super) fn send(&mut self, side: &mut Side, bytes: &[u8], and_end: bool) -> Result<(), Errno> {
        self.flush(side)?;
        let has_room = self.is_empty() && side.ready().any(Ready::WRITE) && !bytes.is_empty();
        let count = if has_room { side.send(bytes, and_end)? } else { 0 };
        if count < bytes.len() {
            self.bytes.extend_from_slice(&bytes[count..]);
        }
        Ok(())
    }

    /// Writes what the socket takes of what waits.
    pub(super) fn flush(&mut self, side: &mut Side) -> Result<(), Errno> {
        while !self.is_empty() && side.ready().any(Ready::WRITE) {
            self.written += side.send(&self.bytes[self.written..], false)?;
        }
        if self.is_empty() && !self.bytes.is_empty() {
            // The memory goes back: connections with a backlog are few, and they change.
            *self = Self::default();
        }
        Ok(())
    }
}

/// Why a connection with layers cannot go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// A socket failed.
    Socket,
    /// TLS failed.
    Tls(TlsError),
    /// HTTP is refused; the client is to be told.
    Http(Refusal),
}

impl From<Errno> for Stop {
    fn from(_: Errno) -> Self {
        Self::Socket
    }
}

impl From<TlsError> for Stop {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// One side's TLS, if it has any, and what waits for its socket.
#[derive(Default)]
pub(super) struct End {
    pub(super) tls: Option<Session>,
    pub(super) outbox: Outbox,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// Bytes in the worker's plain buffer.
    pub(super) count: usize,
    /// Nothing comes after them.
    pub(super) ended: bool,
}

impl End {
    /// Reads plain bytes into the worker's buffer. `strict`: an end without a proper close of TLS is an error.
    pub(super) fn read(&mut self, side: &mut Side, shop: &mut Workshop, strict: bool) -> Result<Plain, Stop> {
        let Some(session) = &mut self.tls else {
            let has_some = side.ready().any(Ready::READ);
            let count = if has_some { side.recv(&mut shop.plain)? } else { None };
            let ended = count == Some(0) || count.is_some() && side.has_ended();
            return Ok(Plain { count: count.unwrap_or(0), ended });
        };
        let Workshop { scratch, plain, .. } = shop;
        let mut got = Plain { count: 0, ended: false };
        let outcome = loop {
            match decrypt(session, scratch, plain, &mut got) {
                Ok(()) if got.ended || got.count == plain.len() => break Ok(()),
                Ok(()) => {}
                // What came before it is passed on first; the session says it again.
                Err(_) if got.count > 0 => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            // Half a buffer is worth a write; the rest of a long stream comes with the next turn.
            if !side.ready().any(Ready::READ) || got.count > plain.len() / 2 {
                break Ok(());
            }
            match side.recv(scratch.space())? {
                None => break Ok(()),
                Some(0) if strict => break Err(Stop::Socket),
                Some(0) => got.ended = true,
                Some(count) => scratch.filled(count),
            }
        };
        // TLS itself may have something to say: an alert, an answer to a key update.
        if !scratch.output.is_empty() {
            self.outbox.send(side, &scratch.output, false)?;
            scratch.clear();
        }
        outcome.map(|()| got)
    }

    /// Whether so much waits for this side that nothing more may be read from it.
    pub(super) fn is_clogged(&self) -> bool {
        self.outbox.len() > OUTBOX_MAX
    }

    /// Whether a read might give something, by what is known of the socket and of the session.
    pub(super) fn may_have_more(&self, side: &Side) -> bool {
        side.ready().any(Ready::READ) || self.tls.as_ref().is_some_and(Session::has_left)
    }

    /// Writes plain bytes, encrypted if this side has TLS; then its end, if nothing follows.
    pub(super) fn write(
        &mut self,
        side: &mut Side,
        plain: &[u8],
        ended: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Stop> {
        let Some(session) = &mut self.tls else {
            return Ok(self.outbox.send(side, plain, ended)?);
        };
        if !plain.is_empty() {
            session.write(scratch, plain)?;
        }
        if ended {
            session.close(scratch);
        }
        let sent = self.outbox.send(side, &scratch.output, ended);
        scratch.clear();
        Ok(sent?)
    }
}

/// Decrypts what is there, as far as there is room.
fn decrypt(
    session: &mut Session,
    scratch: &mut Scratch,
    plain: &mut [u8],
    got: &mut Plain,
) -> Result<(), TlsError> {
    while got.count < plain.len() {
        match session.read(scratch, &mut plain[got.count..])? {
            ReadOutcome::Bytes(count) => got.count += count,
            ReadOutcome::NeedsInput => break,
            ReadOutcome::Closed => {
                got.ended = true;
                break;
            }
        }
    }
    Ok(())
}

/// The layers of a connection.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) client: End,
    pub(super) server: End,
    pub(super) filter: Option<Box<Filter>>,
    /// The client's first bytes, while it is not known yet whom they are for.
    pub(super) first: Vec<u8>,
    /// The client has been told that it ends here; only that is still to be written.
    pub(super) refused: bool,
}

/// The two ways through a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Workshop {
    /// Passes the plain bytes of a read through the filter; gives what goes on, and the scratch for the next step.
    pub(super) fn edit(
        &mut self,
        filter: Option<&mut Filter>,
        way: Way,
        got: Plain,
    ) -> (&[u8], &mut Scratch, Option<Refusal>) {
        let bytes = &self.plain[..got.count];
        let Some(filter) = filter else { return (bytes, &mut self.scratch, None) };
        self.output.clear();
        let out = &mut self.output;
        let mut outcome = match way {
            Way::Up => filter.request(bytes, out),
            Way::Down => filter.response(bytes, out),
        };
        if outcome.is_ok() && got.ended {
            outcome = match way {
                Way::Up => filter.request_end(out),
                Way::Down => filter.response_end(out),
            };
        }
        if outcome.is_ok() && self.output.is_all_of(got.count) {
            return (bytes, &mut self.scratch, None);
        }
        self.edited.clear();
        self.edited.shrink_to(EDITED_KEPT);
        self.output.append_to(bytes, &mut self.edited);
        (&self.edited, &mut self.scratch, outcome.err())
    }
}
