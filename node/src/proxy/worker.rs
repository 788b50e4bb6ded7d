//! One worker: a thread with a single-threaded runtime, its clock and its figures.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cygnet_ha::events::EventLog;
use cygnet_ha::time::Time;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::dial::dial;
use super::local::{self, Seated};
use super::places::{Place, Places};
use super::relay::{Outcome, Relay};
use super::silence::{End, TICK};
use crate::balance::ClientTable;
use crate::plan::ServicePlan;

/// How often a worker that stops looks whether its connections have ended.
const STOP_TICK: Duration = Duration::from_millis(5);
/// What connections get to end by themselves after the deadline: they are woken and close their sockets.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Not stopping.
const NEVER: u64 = u64::MAX;

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

/// What a worker's thread, its connections, and those who look at it from outside share.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) clock: Clock,
    pub(super) clients: Arc<ClientTable>,
    pub(super) events: EventLog,
    /// Places for clients, over all workers.
    pub(super) places: Arc<Places>,
    pub(super) figures: Figures,
    stop: Stop,
}

/// A worker's own figures, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Figures {
    /// Clients now.
    pub(super) connections: AtomicUsize,
    /// Accept loops that still run.
    pub(super) listeners: AtomicUsize,
    /// Clients accepted so far.
    pub(super) accepted: AtomicU64,
    /// When the worker last turned, in nanoseconds of its clock.
    pub(super) turned: AtomicU64,
    /// Connections that were cut at the deadline of a stop.
    pub(super) cut: AtomicUsize,
}

struct Stop {
    /// When to have stopped, in nanoseconds of the clock.
    deadline: AtomicU64,
    wake: Notify,
}

impl Worker {
    pub(super) fn new(
        index: usize,
        clock: Clock,
        clients: Arc<ClientTable>,
        events: EventLog,
        places: Arc<Places>,
    ) -> Self {
        let stop = Stop { deadline: AtomicU64::new(NEVER), wake: Notify::new() };
        Self { index, clock, clients, events, places, figures: Figures::default(), stop }
    }

    /// Ends the worker when its connections have ended, at the latest at `deadline`. Its accept loops must be told
    /// before.
    pub(super) fn stop_at(&self, deadline: Time) {
        self.stop.deadline.store(deadline.0, Ordering::Release);
        self.stop.wake.notify_one();
    }

    /// The life of the thread's main task.
    pub(super) async fn run(self: Arc<Self>) {
        while self.stop.deadline.load(Ordering::Acquire) == NEVER {
            self.figures.turned.store(self.clock.now().0, Ordering::Relaxed);
            let _ = local::with(|local| local.silence.tick());
            tokio::select! {
                () = sleep(TICK) => {}
                () = self.stop.wake.notified() => {}
            }
        }
        self.end(Time(self.stop.deadline.load(Ordering::Acquire))).await;
    }

    async fn end(&self, deadline: Time) {
        while !self.is_at_rest() && self.clock.now() < deadline {
            self.figures.turned.store(self.clock.now().0, Ordering::Relaxed);
            sleep(STOP_TICK).await;
        }
        self.figures.cut.store(self.figures.connections.load(Ordering::Relaxed), Ordering::Relaxed);
        let _ = local::with(|local| local.silence.end_all());
        let grace = self.clock.now() + STOP_GRACE;
        while self.figures.connections.load(Ordering::Relaxed) > 0 && self.clock.now() < grace {
            sleep(STOP_TICK).await;
        }
    }

    fn is_at_rest(&self) -> bool {
        self.figures.connections.load(Ordering::Relaxed) == 0
            && self.figures.listeners.load(Ordering::Relaxed) == 0
    }
}

/// Counts one among the figures for as long as it lives.
pub(super) struct Counted {
    worker: Arc<Worker>,
    figure: fn(&Figures) -> &AtomicUsize,
}

impl Counted {
    pub(super) fn new(worker: &Arc<Worker>, figure: fn(&Figures) -> &AtomicUsize) -> Self {
        figure(&worker.figures).fetch_add(1, Ordering::Relaxed);
        Self { worker: Arc::clone(worker), figure }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.figure)(&self.worker.figures).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The life of a client's connection.
pub(super) async fn serve(
    client: TcpStream,
    peer: SocketAddr,
    service: Arc<ServicePlan>,
    counted: Counted,
    _place: Place,
) {
    let worker = &*counted.worker;
    let seated = poll_fn(|cx| Poll::Ready(Seated::enter(cx.waker()))).await;
    let Some(upstream) = dial(&service, peer, worker, &seated).await else {
        // An end in good order could be taken for an empty answer.
        let _ = client.set_zero_linger();
        return;
    };
    let outcome = Relay::new(client, peer.ip(), upstream, &service, worker, &seated).run().await;
    let shard = service.state.shard(worker.index);
    match outcome {
        Outcome::Finished => {}
        Outcome::Aborted => shard.aborted.add(1),
        Outcome::Ended(End::Silent) => shard.idle.add(1),
        Outcome::Ended(End::Stopped) => {}
    }
}
