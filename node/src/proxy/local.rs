//! What belongs to one worker thread alone, and so needs no lock.

use std::sync::Arc;

use cygnet_ha::time::Time;

use super::greet::Greetings;
use super::layers::Workshop;
use super::reactor::Reactor;
use super::silence::Silence;
use super::slots::Key;
use super::splice::Pipes;
use super::worker::Worker;

/// The buffer through which all bytes of a worker pass. 8 KiB cost a quarter more CPU on large bodies; a buffer of this
/// size per connection costs half as much again on short ones, for its pages must be fetched each time.
pub(super) const BUFFER: usize = 64 * 1024;

/// A worker thread's own things.
pub(super) struct Local {
    pub(super) worker: Arc<Worker>,
    pub(super) reactor: Reactor,
    pub(super) buffer: Box<[u8]>,
    pub(super) silence: Silence,
    pub(super) pipes: Pipes,
    /// Connections that have lent pipes.
    pub(super) lenders: Vec<Key>,
    /// Connections that had more to do than one turn allows.
    pub(super) again: Vec<Key>,
    /// The buffers of connections with layers; memory is taken for the first one.
    pub(super) workshop: Option<Box<Workshop>>,
    /// Clients in the middle of their handshake.
    pub(super) greetings: Greetings,
    /// Connects in progress.
    pub(super) dialling: usize,
    /// The time of this turn: the clock is read once for all that it brings.
    pub(super) now: Time,
}

impl Local {
    pub(super) fn new(reactor: Reactor, worker: Arc<Worker>, pipes: usize) -> Self {
        Self {
            now: worker.clock.now(),
            worker,
            reactor,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            silence: Silence::default(),
            pipes: Pipes::new(pipes),
            lenders: Vec::new(),
            again: Vec::new(),
            workshop: None,
            greetings: Greetings::default(),
            dialling: 0,
        }
    }
}
