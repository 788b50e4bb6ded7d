//! What belongs to one worker thread alone, and so needs no lock.

use std::cell::RefCell;

use super::silence::Silence;

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
