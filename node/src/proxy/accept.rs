//! Taking clients in: one loop per worker and listening address.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use cygnet_ha::events::Severity;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::dial::is_exhaustion;
use super::places::Place;
use super::worker::{Counted, Worker, serve};
use crate::plan::{Limiter, ListenAt, Plan, ServicePlan};

/// After an error of accept (descriptors used up, most likely) the loop rests for this time: the listener stays
/// readable, and without a rest the worker would do nothing else.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How often the loop looks for a free place when all are taken. The client is in no hurry that it would notice, and a
/// full balancer has better things to do.
const PLACE_REST: Duration = Duration::from_millis(5);
/// Not more than one event of a kind per listener in this time.
const EVENT_INTERVAL: Duration = Duration::from_secs(10);
/// Clients taken from a listener that is being closed, at most: its queue, and those who came meanwhile.
const LAST_CLIENTS_MAX: usize = 65_536;

/// The current plan, as the workers see it.
pub(super) struct Plans {
    plan: ArcSwap<Plan>,
    /// The generation of `plan`; one number to compare, so that a client costs no look at a shared counter.
    generation: AtomicU64,
}

impl Plans {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self { generation: AtomicU64::new(plan.generation), plan: ArcSwap::new(plan) }
    }

    pub(super) fn set(&self, plan: Arc<Plan>) {
        let generation = plan.generation;
        self.plan.store(plan);
        self.generation.store(generation, Ordering::Release);
    }

    pub(super) fn current(&self) -> Arc<Plan> {
        self.plan.load_full()
    }
}

/// Tells the accept loop of a listener to end.
#[derive(Default)]
pub(super) struct Tap {
    closed: AtomicBool,
    wake: Notify,
}

impl Tap {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    async fn closed(&self) {
        while !self.closed.load(Ordering::Acquire) {
            self.wake.notified().await;
        }
    }
}

/// One loop.
pub(super) struct AcceptLoop {
    pub(super) address: ListenAt,
    pub(super) worker: Arc<Worker>,
    pub(super) plans: Arc<Plans>,
    pub(super) tap: Arc<Tap>,
    /// What is served here, as of `generation`.
    pub(super) service: Arc<ServicePlan>,
    pub(super) generation: u64,
    pub(super) crowded: Limiter,
    pub(super) failing: Limiter,
}

impl AcceptLoop {
    /// Takes clients in until the tap is closed; then those who are in the queue; then closes the listener.
    pub(super) async fn run(mut self, listener: std::net::TcpListener, _counted: Counted) {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return self.report(&error, "cannot listen"),
        };
        let tap = Arc::clone(&self.tap);
        let mut closed = pin!(tap.closed());
        loop {
            let next = poll_fn(|cx| match listener.poll_accept(cx) {
                Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                Poll::Pending => closed.as_mut().poll(cx).map(|()| None),
            });
            match next.await {
                Some(Ok((client, peer))) => self.admit(client, peer).await,
                Some(Err(error)) => self.rest(&error).await,
                None => break,
            }
        }
        if let Ok(listener) = listener.into_std() {
            self.last_clients(&listener).await;
        }
    }

    /// The runtime may not know yet what is in the queue; the kernel does.
    async fn last_clients(&mut self, listener: &std::net::TcpListener) {
        for _ in 0..LAST_CLIENTS_MAX {
            let Ok((client, peer)) = listener.accept() else { return };
            let client = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client));
            if let Ok(client) = client {
                self.admit(client, peer).await;
            }
        }
    }

    async fn admit(&mut self, client: TcpStream, peer: SocketAddr) {
        let place = self.place().await;
        let service = Arc::clone(self.service());
        let shard = service.state.shard(self.worker.index);
        shard.accepted.add(1);
        self.worker.figures.accepted.fetch_add(1, Ordering::Relaxed);
        let counted = Counted::new(&self.worker, |figures| &figures.connections);
        tokio::spawn(serve(client, peer, service, counted, place));
    }

    /// A place for a client; waits when all are taken, and leaves further clients in the kernel's queue meanwhile.
    async fn place(&self) -> Place {
        if let Some(place) = self.worker.places.take() {
            return place;
        }
        if let Some(held_back) = self.crowded.pass(self.worker.clock.now(), EVENT_INTERVAL) {
            let what = format!("all places for clients are taken ({held_back} times before)");
            let why = "the limit on connections is reached; clients wait until others have ended";
            self.worker.events.record(Severity::Alert, &self.subject(), what, why);
        }
        loop {
            sleep(PLACE_REST).await;
            if let Some(place) = self.worker.places.take() {
                return place;
            }
        }
    }

    /// What is served at this address by the current plan.
    fn service(&mut self) -> &Arc<ServicePlan> {
        if self.plans.generation.load(Ordering::Acquire) != self.generation {
            let plan = self.plans.current();
            self.generation = plan.generation;
            // A plan without this address: the tap is about to be closed, and the queue belongs to the old service.
            if let Some(service) = plan.service_at(&self.address) {
                self.service = Arc::clone(service);
            }
        }
        &self.service
    }

    async fn rest(&self, error: &io::Error) {
        // A client that gave up while it was in the queue is nobody's fault (accept(2) lists more of the kind).
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        let what = if is_exhaustion(error) {
            "clients wait: descriptors or memory are used up"
        } else {
            "clients cannot be accepted"
        };
        self.report(error, what);
        sleep(ACCEPT_REST).await;
    }

    fn report(&self, error: &io::Error, what: &str) {
        if let Some(held_back) = self.failing.pass(self.worker.clock.now(), EVENT_INTERVAL) {
            let what = format!("{what} at {} ({held_back} times before)", self.address);
            self.worker.events.record(Severity::Alert, &self.subject(), what, error.to_string());
        }
    }

    fn subject(&self) -> String {
        format!("service {}", self.service.name)
    }
}
