//! What belongs to one worker thread alone, and so needs no lock.

use std::cell::RefCell;
use std::task::Waker;
use std::time::Duration;

use super::silence::{End, Seat, Silence};

/// The buffer through which all bytes of a worker pass. 8 KiB cost a quarter more CPU on large bodies; a buffer of this
/// size per connection costs half as much again on short ones, for its pages must be fetched each time.
pub(super) const BUFFER: usize = 64 * 1024;

/// A worker thread's own things.
pub(super) struct Local {
    pub(super) buffer: Box<[u8]>,
    pub(super) silence: Silence,
}

thread_local! {
    static LOCAL: RefCell<Local> =
        RefCell::new(Local { buffer: vec![0; BUFFER].into_boxed_slice(), silence: Silence::default() });
}

/// Works with this thread's own things. `None` when the thread is ending, or when it is working with them already
/// (which no code here does).
pub(super) fn with<T>(work: impl FnOnce(&mut Local) -> T) -> Option<T> {
    LOCAL.try_with(|local| local.try_borrow_mut().ok().map(|mut local| work(&mut local))).ok().flatten()
}

/// A connection among those that are watched for silence, for as long as it lives.
pub(super) struct Seated(Option<Seat>);

impl Seated {
    /// Takes a seat; `waker` is woken when the connection must end.
    pub(super) fn enter(waker: &Waker) -> Self {
        Self(with(|local| local.silence.enter(waker.clone())))
    }

    /// From now on the connection may be silent for `time`; `None`: any time.
    pub(super) fn allow(&self, time: Option<Duration>) {
        if let Some(seat) = self.0 {
            let _ = with(|local| local.silence.allow(seat, time));
        }
    }

    /// Whether, and why, the connection must end.
    pub(super) fn end(&self) -> Option<End> {
        with(|local| self.end_in(local)).unwrap_or(Some(End::Stopped))
    }

    /// The same, for those who have the thread's things in hand already.
    pub(super) fn end_in(&self, local: &Local) -> Option<End> {
        self.0.map_or(Some(End::Stopped), |seat| local.silence.end_of(seat))
    }

    /// Bytes have moved.
    pub(super) fn moved_in(&self, local: &mut Local) {
        if let Some(seat) = self.0 {
            local.silence.moved(seat);
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(seat) = self.0 {
            // At the end of the thread the table is gone, and the seat with it.
            let _ = with(|local| local.silence.leave(seat));
        }
    }
}
