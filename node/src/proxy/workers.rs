//! All workers: starting them, giving them plans, looking at them, stopping them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cygnet_ha::events::EventLog;
use cygnet_ha::time::Time;
use cygnet_netlink::limits;
use cygnet_netlink::socket::{self, Listening};

use super::accept::{ACCEPTS_PER_TURN, Listener, Plans, defer_seconds};
use super::connection::ConnectionInfo;
use super::engine::{Engine, Limits};
use super::legacy::Legacy;
use super::places::Places;
use super::reactor::{Reactor, Waker};
use super::silence::TICK;
use super::splice::PIPES_MAX;
use super::stats::{self, Stats};
use super::udp;
use super::worker::{Bounds, COMMANDS_QUEUED, Clock, Command, Worker};
use crate::balance::ClientTable;
use crate::config::model::{Endpoint, Transport};
use crate::plan::{ListenAt, Plan, ServicePlan};

/// Clients that may wait in the queue of a listening socket, per worker, unless the settings say otherwise. The kernel
/// cuts it to `net.core.somaxconn`, which is 4096 by default.
const BACKLOG: i32 = 4096;
/// Descriptors that are not for connections: listeners, pipes for bulk, the log, the API, the store.
const DESCRIPTORS_RESERVED: usize = 256;
/// Connections at most, when the limit on descriptors does not say less. At two sockets and some 300 bytes of our own memory
/// each, the kernel's memory is the limit long before.
const CONNECTIONS_MAX: usize = 1 << 20;

/// How long a worker's answer is waited for. It turns ten times a second at least.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// More threads than anybody has processors.
const WORKERS_MAX: usize = 1024;

/// How the workers are to be.
#[derive(Clone, Default)]
pub struct Settings {
    /// Threads, 1..=1024; 0 is taken for 1.
    pub workers: usize,
    /// Clients at once over all workers; further ones wait in the kernel's queue. `None`: half of what the process may
    /// open (see `ulimit -n`), for a client takes two descriptors.
    pub connections_max: Option<usize>,
    /// Connects in progress over all workers; further clients wait in the kernel's queue. `None`: no limit but that on
    /// clients.
    pub pending_max: Option<usize>,
    /// Clients that a worker takes from a listener in one turn. `None`: 64.
    pub accepts_max: Option<usize>,
    /// Clients that may wait in the queue of a listening socket. `None`: 4096.
    pub backlog: Option<i32>,
    /// Sockets are bound and do not listen before [`Workers::open`]: for those who may fail in between.
    pub closed: bool,
    /// Where events go.
    pub events: EventLog,
    /// Sockets that the process before this one listens on; they are used before new ones are opened.
    pub succeeds: Legacy,
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
    places: Arc<Places>,
    backlog: i32,
    threads: Vec<Thread>,
    /// Taken by the first stop.
    joins: Mutex<Vec<JoinHandle<()>>>,
    /// One change at a time.
    listeners: Mutex<BTreeSet<ListenAt>>,
    /// What the workers are to be told when they may begin; `None`: they have.
    held: Mutex<Option<Vec<Opened>>>,
    succeeds: Legacy,
}

/// A listener that was opened, with what each worker is to be told.
type Opened = (ListenAt, Vec<Command>);

struct Thread {
    worker: Arc<Worker>,
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
}

impl Thread {
    /// Tells the worker something; waits while it has too much to do already.
    fn tell(&self, command: Command) {
        // A worker that has ended listens to nobody, and serves nobody.
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }

    /// Asks the worker something; `None` when it does not answer in time, or has too much to do to be asked.
    fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Command) -> Option<T> {
        let (sender, answer) = sync_channel(1);
        self.commands.try_send(question(sender)).ok()?;
        self.waker.wake();
        answer.recv_timeout(ANSWER_TIME).ok()
    }
}

impl Workers {
    /// Starts the threads. They serve nothing before the first [`Workers::apply`].
    pub fn start(settings: Settings, clients: &Arc<ClientTable>) -> io::Result<Self> {
        let clock = Clock::start();
        let places = settings.connections_max.unwrap_or_else(connections_by_descriptors);
        let places = Arc::new(Places::new(places.min(CONNECTIONS_MAX)));
        let plans = Arc::new(Plans::new(Arc::new(Plan::default())));
        let count = settings.workers.clamp(1, WORKERS_MAX);
        let (pending, accepts) =
            (pending_of_one(settings.pending_max, count), settings.accepts_max.unwrap_or(ACCEPTS_PER_TURN));
        let limits = Limits {
            pipes: PIPES_MAX.div_ceil(count),
            flows: udp::Limits::of_one(count, settings.connections_max, descriptors()),
        };
        let threads = (0..count)
            .map(|index| {
                let (clients, events) = (Arc::clone(clients), settings.events.clone());
                let (places, bounds) = (Arc::clone(&places), Bounds::new(pending, accepts));
                let worker = Worker::new((index, count), clock, clients, events, places, bounds);
                spawn(Arc::new(worker), &plans, &limits)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (threads, joins) = threads.into_iter().unzip();
        Ok(Self {
            clock,
            plans,
            places,
            backlog: settings.backlog.unwrap_or(BACKLOG),
            threads,
            joins: Mutex::new(joins),
            listeners: Mutex::default(),
            held: Mutex::new(settings.closed.then(Vec::new)),
            succeeds: settings.succeeds,
        })
    }

    /// Lets clients in, where [`Settings::closed`] kept them out so far.
    pub fn open(&self) -> Result<(), Vec<ListenError>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut errors = Vec::new();
        let wanted = self.listening();
        for (address, commands) in held.into_iter().flatten() {
            if !wanted.contains(&address) {
                continue;
            }
            let opened = commands.iter().try_for_each(|command| match command {
                Command::Listen(listener) => listener.open(self.backlog),
                _ => Ok(()),
            });
            match opened {
                Ok(()) => self.tell_each(commands),
                Err(error) => {
                    let service = self.plans.current().service_at(&address).map(|at| Arc::clone(&at.name));
                    errors.push(ListenError { service: service.unwrap_or_default(), address, error });
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Changes [`Settings::connections_max`] and [`Settings::pending_max`]; those who are inside stay. Flows of datagrams
    /// keep the limit of the start.
    pub fn limit(&self, connections_max: Option<usize>, pending_max: Option<usize>) {
        let connections = connections_max.unwrap_or_else(connections_by_descriptors);
        self.places.set_max(connections.min(CONNECTIONS_MAX));
        let pending = pending_of_one(pending_max, self.threads.len());
        self.threads.iter().for_each(|thread| thread.worker.bounds.set_pending(pending));
    }

    /// Each worker gets its own of these; what is more than there are workers goes round again.
    fn tell_each(&self, commands: Vec<Command>) {
        self.threads.iter().cycle().zip(commands).for_each(|(thread, command)| thread.tell(command));
    }

    /// Makes `plan` the current one: for all clients accepted from now on. Listeners that both plans have stay open;
    /// those that only the old one had take in who is in their queue and close. Running connections go on as they are.
    ///
    /// When some addresses cannot be listened on, the plan is in force without them; applying it again tries again.
    pub fn apply(&self, plan: &Arc<Plan>) -> Result<(), Vec<ListenError>> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut opened, mut errors) = (Vec::new(), Vec::new());
        for (address, service) in plan.listeners().filter(|(address, _)| !listeners.contains(*address)) {
            match self.prepare(address, service, plan.generation) {
                Ok(commands) => opened.push((address, commands)),
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
        listeners.retain(|address| {
            let keep = plan.service_at(address).is_some();
            if !keep {
                self.threads.iter().for_each(|thread| thread.tell(Command::Unlisten(address.clone())));
            }
            keep
        });
        for (address, commands) in opened {
            listeners.insert(address.clone());
            match self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(held) => held.push((address.clone(), commands)),
                None => self.tell_each(commands),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The time by the workers' clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.plans.current()
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn listening(&self) -> Vec<ListenAt> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The data path's clock, for what serves beside the workers ([`super::dsr::start`]).
    #[must_use]
    pub fn clock(&self) -> super::dsr::Clock {
        let clock = self.clock;
        Arc::new(move || clock.now())
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

    /// Connections to servers that are kept open without a client ([`ServicePlan::idlers`]); those whose connect is in
    /// progress do not count.
    #[must_use]
    pub fn idlers(&self) -> usize {
        let idlers = |thread: &Thread| thread.worker.figures.idlers.load(Ordering::Relaxed);
        self.threads.iter().map(idlers).sum()
    }

    /// Connections as they are now, at most `limit` of them. A worker that does not answer within a second is left out.
    #[must_use]
    pub fn connections(&self, limit: usize) -> Vec<ConnectionInfo> {
        let mut infos = Vec::new();
        for thread in &self.threads {
            let left = limit - infos.len();
            infos.extend(thread.ask(|answer| Command::Connections(left, answer)).unwrap_or_default());
        }
        infos
    }

    /// Closes a connection by its [`ConnectionInfo::id`], with a reset; `false`: there is none with this number.
    pub fn close(&self, id: u64) -> bool {
        let thread = usize::try_from(id >> 32).ok().and_then(|worker| self.threads.get(worker));
        let place = (id & u64::from(u32::MAX)) as usize;
        thread.and_then(|thread| thread.ask(|answer| Command::Close(place, answer))).unwrap_or(false)
    }

    /// Copies of all sockets on which the workers listen, for another process of this node.
    ///
    /// # Errors
    /// A worker does not answer within a second, or there are no descriptors left.
    pub fn sockets(&self) -> io::Result<Legacy> {
        let all = Legacy::default();
        for thread in &self.threads {
            let silent = || {
                let why = format!("worker {} does not answer", thread.worker.index);
                io::Error::new(io::ErrorKind::TimedOut, why)
            };
            let sockets = thread.ask(Command::Sockets).ok_or_else(silent)??;
            sockets.into_iter().for_each(|(at, socket)| all.add(at, socket));
        }
        Ok(all)
    }

    /// Connections and flows at this moment.
    #[must_use]
    pub fn busy(&self) -> usize {
        let busy = |thread: &Thread| thread.worker.figures.connections.load(Ordering::Relaxed);
        self.threads.iter().map(busy).sum()
    }

    /// While [`Workers::stop`] waits: another deadline, from now.
    pub fn stop_within(&self, deadline: Duration) {
        let deadline = self.clock.now() + deadline;
        for thread in &self.threads {
            thread.worker.stop_at(deadline);
            thread.waker.wake();
        }
    }

    /// Stops listening (who is in the queues is still served), waits until all connections have ended, at most until
    /// `deadline` from now, and cuts the rest: with a reset, so that nobody takes half an answer for a whole one.
    /// Blocks for that time; call it from a thread that may. What is applied afterwards serves nobody.
    pub fn stop(&self, deadline: Duration) -> StopReport {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.stop_within(deadline);
        for join in std::mem::take(&mut *self.joins.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A worker that has panicked has no connections any more.
            let _ = join.join();
        }
        let cut = |thread: &Thread| thread.worker.figures.cut.load(Ordering::Relaxed);
        StopReport { cut: self.threads.iter().map(cut).sum() }
    }

    /// One socket per worker: of its own, or the same for all, for the kernel does not spread clients of Unix sockets over
    /// several.
    fn open_sockets(&self, at: &ListenAt, service: &ServicePlan) -> io::Result<Vec<OwnedFd>> {
        let is_closed = self.held.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let backlog = (!is_closed).then_some(self.backlog);
        match &at.endpoint {
            Endpoint::Inet(address) => {
                let how = Listening {
                    backlog,
                    // As Pen's users know it.
                    both_families: service.is_pen(),
                    keepalive: service.keepalive,
                    defer: defer_seconds(service),
                };
                let mut sockets = self.succeeds.take(at);
                for _ in sockets.len()..self.threads.len() {
                    sockets.push(socket::listen(*address, how)?);
                }
                Ok(sockets)
            }
            Endpoint::Unix(path) => {
                let socket = match self.succeeds.take(at).pop() {
                    Some(socket) => socket,
                    None => socket::listen_unix(path, backlog)?,
                };
                self.threads.iter().map(|_| socket.try_clone()).collect()
            }
        }
    }

    /// What the workers, one after the other, are to be told to serve at this address. The sockets are open then.
    fn prepare(
        &self,
        at: &ListenAt,
        service: &Arc<ServicePlan>,
        generation: u64,
    ) -> io::Result<Vec<Command>> {
        if at.transport == Transport::Udp {
            let address = at.endpoint.inet().ok_or(io::ErrorKind::Unsupported)?;
            let receive = |socket| {
                let receiver = udp::Receiver { at: address, socket, service: Arc::clone(service) };
                Command::Receive(Box::new(receiver))
            };
            let before = self.succeeds.take(at).into_iter();
            let mut sockets: Vec<_> =
                before.map(|socket| cygnet_netlink::udp::Listener::succeed(socket, address)).collect();
            for _ in sockets.len()..self.threads.len() {
                sockets.push(cygnet_netlink::udp::listen(address, !service.is_pen())?);
            }
            return Ok(sockets.into_iter().map(receive).collect());
        }
        let shared = matches!(at.endpoint, Endpoint::Unix(_));
        let listen = |socket| {
            let listener = Listener::new(at.clone(), socket, shared, Arc::clone(service), generation);
            Command::Listen(Box::new(listener))
        };
        Ok(self.open_sockets(at, service)?.into_iter().map(listen).collect())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn spawn(worker: Arc<Worker>, plans: &Arc<Plans>, limits: &Limits) -> io::Result<(Thread, JoinHandle<()>)> {
    let (commands, receiver) = sync_channel(COMMANDS_QUEUED);
    // What can fail is done here; the rest belongs to the thread from its first moment.
    let reactor = Reactor::new(TICK)?;
    let waker = reactor.waker();
    let name = format!("worker-{}", worker.index);
    let (own, plans, limits) = (Arc::clone(&worker), Arc::clone(plans), *limits);
    let run = move || Engine::new(reactor, own, plans, receiver, &limits).run();
    let join = std::thread::Builder::new().name(name).spawn(run)?;
    Ok((Thread { worker, commands, waker }, join))
}

/// What falls to one of so many workers of the limit on connects in progress.
fn pending_of_one(all: Option<usize>, workers: usize) -> usize {
    all.map_or(usize::MAX, |all| all.div_ceil(workers.max(1)))
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

/// Descriptors that this process may have.
fn descriptors() -> usize {
    limits::open_files().map_or(usize::MAX, |limit| usize::try_from(limit.soft).unwrap_or(usize::MAX))
}
