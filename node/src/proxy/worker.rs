//! What a worker's thread and those who look at it from outside share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cygnet_ha::events::EventLog;
use cygnet_ha::time::Time;

use super::accept::Listener;
use super::connection::ConnectionInfo;
use super::places::Places;
use super::udp::Receiver;
use crate::balance::ClientTable;
use crate::plan::ListenAt;

/// Commands that may wait for a worker. It takes all of them in each turn; whoever finds the queue full waits for that.
pub(super) const COMMANDS_QUEUED: usize = 64;
/// Not stopping.
const NEVER: u64 = u64::MAX;

/// What a worker is told.
pub(super) enum Command {
    /// To take clients in.
    Listen(Box<Listener>),
    /// To take datagrams in.
    Receive(Box<Receiver>),
    /// To take in who waits at this address, and close it.
    Unlisten(ListenAt),
    /// To tell of its connections, so many at most.
    Connections(usize, SyncSender<Vec<ConnectionInfo>>),
    /// To give copies of the sockets on which it listens.
    Sockets(SyncSender<io::Result<Vec<(ListenAt, OwnedFd)>>>),
    /// To close the connection at this place, and say whether there was one.
    Close(usize, SyncSender<bool>),
}

/// The time of the data path: [`Time`] since the workers' start, the same for all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    /// Seconds since 1970, for the client table.
    pub(super) fn unix(self) -> u32 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        u32::try_from(since).unwrap_or(u32::MAX)
    }
}

/// How many clients a worker may take in; may change at any time.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Connects in progress, above which no clients are taken in.
    pending: AtomicUsize,
    /// Clients taken from a listener in one turn.
    accepts: AtomicUsize,
}

impl Bounds {
    pub(super) fn new(pending: usize, accepts: usize) -> Self {
        let bounds = Self { pending: AtomicUsize::new(1), accepts: AtomicUsize::new(accepts.max(1)) };
        bounds.set_pending(pending);
        bounds
    }

    pub(super) fn set_pending(&self, pending: usize) {
        self.pending.store(pending.max(1), Ordering::Relaxed);
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn accepts(&self) -> usize {
        self.accepts.load(Ordering::Relaxed)
    }
}

/// What a worker's thread, its connections, and those who look at it from outside share.
pub(super) struct Worker {
    pub(super) index: usize,
    /// How many workers there are.
    pub(super) count: usize,
    pub(super) clock: Clock,
    pub(super) clients: Arc<ClientTable>,
    pub(super) events: EventLog,
    /// Places for clients, over all workers.
    pub(super) places: Arc<Places>,
    pub(super) bounds: Bounds,
    pub(super) figures: Figures,
    /// When to have stopped, in nanoseconds of the clock.
    deadline: AtomicU64,
}

/// A worker's own figures, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Figures {
    /// Clients now.
    pub(super) connections: AtomicUsize,
    /// Clients accepted so far.
    pub(super) accepted: AtomicU64,
    /// Connections to servers that are kept open without a client.
    pub(super) idlers: AtomicUsize,
    /// When the worker last turned, in nanoseconds of its clock.
    pub(super) turned: AtomicU64,
    /// Connections that were cut at the deadline of a stop.
    pub(super) cut: AtomicUsize,
}

impl Worker {
    pub(super) fn new(
        (index, count): (usize, usize),
        clock: Clock,
        clients: Arc<ClientTable>,
        events: EventLog,
        places: Arc<Places>,
        bounds: Bounds,
    ) -> Self {
        let (figures, deadline) = (Figures::default(), AtomicU64::new(NEVER));
        Self { index, count, clock, clients, events, places, bounds, figures, deadline }
    }

    /// Stops taking clients in, and ends the worker when its connections have ended, at the latest at `deadline`. It must
    /// be woken for that.
    pub(super) fn stop_at(&self, deadline: Time) {
        self.deadline.store(deadline.0, Ordering::Release);
    }

    /// When to have stopped.
    pub(super) fn stops_at(&self) -> Option<Time> {
        let deadline = self.deadline.load(Ordering::Acquire);
        (deadline != NEVER).then_some(Time(deadline))
    }
}
