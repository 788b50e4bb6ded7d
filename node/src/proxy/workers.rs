//! All workers: starting them, giving them plans, looking at them, stopping them.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cygnet_ha::events::EventLog;
use cygnet_ha::time::Time;
use cygnet_netlink::{limits, socket};
use tokio::runtime::{Builder, Handle};

use super::accept::{AcceptLoop, Plans, Tap};
use super::places::Places;
use super::stats::{self, Stats};
use super::worker::{Clock, Counted, Worker};
use crate::balance::ClientTable;
use crate::plan::{Limiter, ListenAt, Plan, ServicePlan};

/// Clients that may wait in the queue of a listening socket, per worker. The kernel cuts it to
/// `net.core.somaxconn`, which is 4096 by default.
const BACKLOG: i32 = 4096;
/// Descriptors that are not for connections: listeners, the log, the API, the store.
const DESCRIPTORS_RESERVED: usize = 256;
/// Connections at most, when the limit on descriptors does not say less. At two sockets and some 3 KiB of our own memory
/// each, the kernel's memory is the limit long before.
const CONNECTIONS_MAX: usize = 1 << 20;

/// How the workers are to be.
#[derive(Clone)]
pub struct Settings {
    /// Threads, 1..=1024.
    pub workers: usize,
    /// Clients at once over all workers; further ones wait in the kernel's queue. `None`: half of what the process may
    /// open (see `ulimit -n`), for a client takes two descriptors.
    pub connections_max: Option<usize>,
    /// Where events go.
    pub events: EventLog,
}

/// An address on which a service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("service {service} cannot listen on {address}: {error}")]
pub struct ListenError {
    /// The service.
    pub service: Arc<str>,
    /// The address.
    pub address: ListenAt,
    /// What the kernel said.
    pub error: io::Error,
}

/// What a stop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReport {
    /// Connections that had not ended at the deadline and were cut.
    pub cut: usize,
}

/// The running workers. Dropping them cuts all connections; [`Workers::stop`] is the gentle way.
pub struct Workers {
    clock: Clock,
    plans: Arc<Plans>,
    threads: Vec<Thread>,
    /// Taken by the first stop.
    joins: Mutex<Vec<JoinHandle<()>>>,
    /// One change at a time. The taps of a listening address, one per worker.
    listeners: Mutex<BTreeMap<ListenAt, Vec<Arc<Tap>>>>,
}

struct Thread {
    worker: Arc<Worker>,
    runtime: Handle,
}

impl Workers {
    /// Starts the threads. They serve nothing before the first [`Workers::apply`].
    pub fn start(settings: Settings, clients: &Arc<ClientTable>) -> io::Result<Self> {
        let clock = Clock::start();
        let places = settings.connections_max.unwrap_or_else(connections_by_descriptors);
        let places = Arc::new(Places::new(places.min(CONNECTIONS_MAX)));
        let threads = (0..settings.workers.clamp(1, 1024))
            .map(|index| {
                let (clients, events) = (Arc::clone(clients), settings.events.clone());
                spawn(Arc::new(Worker::new(index, clock, clients, events, Arc::clone(&places))))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (threads, joins) = threads.into_iter().unzip();
        Ok(Self {
            clock,
            plans: Arc::new(Plans::new(Arc::new(Plan::default()))),
            threads,
            joins: Mutex::new(joins),
            listeners: Mutex::default(),
        })
    }

    /// Makes `plan` the current one: for all clients accepted from now on. Listeners that both plans have stay open;
    /// those that only the old one had take in who is in their queue and close. Running connections go on as they are.
    ///
    /// When some addresses cannot be listened on, the plan is in force without them; applying it again tries again.
    pub fn apply(&self, plan: &Arc<Plan>) -> Result<(), Vec<ListenError>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut opened, mut errors) = (Vec::new(), Vec::new());
        for (address, service) in plan.listeners().filter(|(address, _)| !listeners.contains_key(*address)) {
            match self.open(address) {
                Ok(sockets) => opened.push((address, service, sockets)),
                Err(error) => {
                    errors.push(ListenError {
                        service: Arc::clone(&service.name),
                        address: address.clone(),
                        error,
                    });
                }
            }
        }
        self.plans.set(Arc::clone(plan));
        listeners.retain(|address, taps| {
            let keep = plan.service_at(address).is_some();
            if !keep {
                taps.iter().for_each(|tap| tap.close());
            }
            keep
        });
        for (address, service, sockets) in opened {
            listeners.insert(address.clone(), self.begin(address, service, plan.generation, sockets));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.plans.current()
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn listening(&self) -> Vec<ListenAt> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// When each worker last turned, by the workers' own clock. Each does so ten times a second.
    pub fn turned(&self) -> impl Iterator<Item = Time> {
        let turned = |thread: &Thread| thread.worker.figures.turned.load(Ordering::Relaxed);
        self.threads.iter().map(move |thread| Time(turned(thread)))
    }

    /// The figures at this moment. Locks nothing that a connection needs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let workers = self.threads.iter().map(|thread| &*thread.worker);
        stats::collect(&self.plans.current(), workers, self.clock.now())
    }

    /// Stops listening (who is in the queues is still served), waits until all connections have ended, at most until
    /// `deadline` from now, and cuts the rest: with a reset, so that nobody takes half an answer for a whole one.
    /// Blocks for that time; call it from a thread that may. What is applied afterwards serves nobody.
    pub fn stop(&self, deadline: Duration) -> StopReport {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *listeners).into_values().flatten().for_each(|tap| tap.close());
        drop(listeners);
        let deadline = self.clock.now() + deadline;
        self.threads.iter().for_each(|thread| thread.worker.stop_at(deadline));
        for join in std::mem::take(&mut *self.joins.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A worker that has panicked has no connections any more.
            let _ = join.join();
        }
        let cut = |thread: &Thread| thread.worker.figures.cut.load(Ordering::Relaxed);
        StopReport { cut: self.threads.iter().map(cut).sum() }
    }

    pub(super) fn open(&self, at: &ListenAt) -> io::Result<Vec<std::net::TcpListener>> {
        let address = at.endpoint.inet().ok_or_else(|| io::Error::other("Unix sockets are not served"))?;
        self.threads.iter().map(|_| socket::listen(address, BACKLOG)).collect()
    }

    fn begin(
        &self,
        address: &ListenAt,
        service: &Arc<ServicePlan>,
        generation: u64,
        sockets: Vec<std::net::TcpListener>,
    ) -> Vec<Arc<Tap>> {
        let begin_one = |(thread, socket): (&Thread, std::net::TcpListener)| {
            let tap = Arc::new(Tap::default());
            let accept_loop = AcceptLoop {
                address: address.clone(),
                worker: Arc::clone(&thread.worker),
                plans: Arc::clone(&self.plans),
                tap: Arc::clone(&tap),
                service: Arc::clone(service),
                generation,
                crowded: Limiter::default(),
                failing: Limiter::default(),
            };
            let counted = Counted::new(&thread.worker, |figures| &figures.listeners);
            thread.runtime.spawn(accept_loop.run(socket, counted));
            tap
        };
        self.threads.iter().zip(sockets).map(begin_one).collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn spawn(worker: Arc<Worker>) -> io::Result<(Thread, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(1);
    let inner = Arc::clone(&worker);
    let join = std::thread::Builder::new().name(format!("worker-{}", worker.index)).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let _ = sender.send(Ok(runtime.handle().clone()));
        // As a task of its own: waking the one of `block_on` takes a system call each time.
        let _ = runtime.block_on(runtime.spawn(inner.run()));
    })?;
    let runtime = receiver.recv().map_err(io::Error::other)??;
    Ok((Thread { worker, runtime }, join))
}

/// How many connections fit into a limit on open files: each takes two, and some are for other things. At least one.
#[must_use]
pub fn connections_that_fit(open_files: u64) -> usize {
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    (open_files.saturating_sub(DESCRIPTORS_RESERVED) / 2).clamp(1, CONNECTIONS_MAX)
}

/// As many as this process may have now.
fn connections_by_descriptors() -> usize {
    limits::open_files().map_or(CONNECTIONS_MAX, |limit| connections_that_fit(limit.soft))
}
