//! Direct server return: requests come through this node, answers go from the servers straight to the clients. And the
//! tarpit, which keeps those busy who knock at addresses that nobody has.
//!
//! The service's address is on no interface of this node; the node answers for it in ARP, and sends each frame for it on to
//! a server, with nothing changed but the hardware addresses. The servers have the service's address too, where ARP does not
//! show it (on the loopback interface, with `arp_ignore = 1` and `arp_announce = 2`), and are on the same link. There is no memory of connections:
//! a client's address (and port, if asked for) says which server it is (`table.rs`), the same one on both nodes of a pair.
//!
//! A server gets clients as long as it is not blacklisted or drained, and answers in ARP.
//!
//! IPv4 only: IPv6 has no ARP.

mod core;
mod table;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use cygnet_ha::time::Time;
use cygnet_netlink::frames::{Frames, Wanted};

use self::core::{Core, Served, Target};
use crate::balance::Permits;
use crate::config::model::Transport;
use crate::plan::{Admin, ServicePlan};

pub(crate) use self::table::SERVERS_MAX;

/// How often servers are looked at, asked for, and their bytes counted.
const TICK: Duration = Duration::from_millis(100);
/// Batches that are taken in before the next look at the clock.
const BATCHES_PER_TURN: usize = 32;
/// How long to wait before an interface that went away is opened again.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// The shard of the counters that this thread writes to.
const SHARD: usize = 0;

/// What is to be served, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The interface on which clients (or their router) and servers are.
    pub interface: String,
    /// The service's address, on no interface of this node.
    pub address: Ipv4Addr,
    /// Its port; `None`: all of them.
    pub port: Option<u16>,
    /// TCP or UDP; the other one is dropped.
    pub transport: Transport,
    /// Clients are told apart by their port, too.
    pub with_port: bool,
    /// There may be a tarpit ([`Dsr::set_tarpit`]): segments to any address are looked at.
    pub tarpit: bool,
}

/// The addresses of a tarpit.
pub type Pit = Arc<dyn Permits>;

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that came in.
    pub received: u64,
    /// Frames that went on to servers, and answers.
    pub sent: u64,
    /// Frames that were too long, or that the interface had no room for.
    pub lost: u64,
    /// Servers that can get clients now.
    pub reachable: usize,
}

/// The running service. Dropping it ends it.
#[derive(Debug)]
pub struct Dsr {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    service: ArcSwap<ServicePlan>,
    pit: ArcSwapOption<Pit>,
    stop: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    reachable: AtomicUsize,
}

/// The data path's clock, by which servers are blacklisted.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// Starts to serve, on a thread of its own.
///
/// Errors: no such interface (`ENODEV`), `Unsupported` for one without Ethernet, no permission (CAP_NET_RAW), no thread.
pub fn start(settings: Settings, service: Arc<ServicePlan>, clock: Clock) -> io::Result<Dsr> {
    let frames = open(&settings)?;
    let shared = Arc::new(Shared {
        service: ArcSwap::new(service),
        pit: ArcSwapOption::empty(),
        stop: AtomicBool::new(false),
        received: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        reachable: AtomicUsize::new(0),
    });
    let inner = Arc::clone(&shared);
    let run = move || Driver::new(settings, frames, inner, clock).run();
    let thread = std::thread::Builder::new().name("dsr".into()).spawn(run)?;
    Ok(Dsr { shared, thread: Some(thread) })
}

impl Dsr {
    /// These are the servers from now on (within a tenth of a second).
    pub fn serve(&self, service: Arc<ServicePlan>) {
        self.shared.service.store(service);
    }

    /// For these addresses, unless they are a server's, this node answers in ARP; to first segments that come there it says
    /// yes, and nothing more ever.
    pub fn set_tarpit(&self, pit: Option<Pit>) {
        self.shared.pit.store(pit.map(Arc::new));
    }

    /// The figures at this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let figure = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Stats {
            received: figure(&self.shared.received),
            sent: figure(&self.shared.sent),
            lost: figure(&self.shared.lost),
            reachable: self.shared.reachable.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Dsr {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // One that has panicked sends nothing any more.
            let _ = thread.join();
        }
    }
}

fn open(settings: &Settings) -> io::Result<Frames> {
    let wanted = Wanted { address: settings.address, all_tcp: settings.tarpit };
    Frames::open(&settings.interface, wanted)
}

/// What the thread has.
struct Driver {
    settings: Settings,
    frames: Frames,
    core: Core,
    shared: Arc<Shared>,
    clock: Clock,
}

impl Driver {
    fn new(settings: Settings, frames: Frames, shared: Arc<Shared>, clock: Clock) -> Self {
        let core = Core::new(served(&settings), frames.mac());
        Self { settings, frames, core, shared, clock }
    }

    fn run(mut self) {
        let mut next = Time::ZERO;
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = (self.clock)();
            if now >= next {
                next = now + TICK;
                self.tick(now);
            }
            if let Err(error) = self.turn(now, next.since(now)) {
                tracing::warn!(%error, interface = self.settings.interface, "direct server return is interrupted");
                self.open_again();
            }
        }
    }

    fn turn(&mut self, now: Time, rest: Duration) -> io::Result<()> {
        if !self.frames.wait(rest)? {
            return Ok(());
        }
        let Self { core, shared, .. } = self;
        let pit = shared.pit.load();
        let is_in_the_pit =
            |address| pit.as_ref().is_some_and(|pit| pit.permits(std::net::IpAddr::V4(address)));
        let tarpit: Option<&core::Tarpit<'_>> = if pit.is_some() { Some(&is_in_the_pit) } else { None };
        for _ in 0..BATCHES_PER_TURN {
            let turn = self.frames.turn(|frame| core.frame(frame, tarpit, now))?;
            let add = |figure: &AtomicU64, amount: usize| figure.fetch_add(amount as u64, Ordering::Relaxed);
            add(&self.shared.received, turn.received);
            add(&self.shared.sent, turn.sent);
            add(&self.shared.lost, turn.lost);
            if turn.received == 0 {
                break;
            }
        }
        Ok(())
    }

    fn tick(&mut self, now: Time) {
        let service = self.shared.service.load_full();
        let (positions, targets): (Vec<usize>, Vec<Target>) = targets(&service, now).unzip();
        self.core.set_servers(&targets);
        for request in self.core.announcement(now).into_iter().chain(self.core.tick(now)) {
            if let Err(error) = self.frames.send(&request) {
                tracing::debug!(%error, "an ARP packet could not be sent");
            }
        }
        for (position, bytes) in positions.into_iter().zip(self.core.take_bytes()) {
            service.servers[position].state.shard(SHARD).to_server.add(bytes);
        }
        self.shared.reachable.store(self.core.reachable(), Ordering::Relaxed);
    }

    /// Waits for the interface to come back.
    fn open_again(&mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            std::thread::sleep(OPEN_EVERY);
            if let Ok(frames) = open(&self.settings) {
                self.core = Core::new(served(&self.settings), frames.mac());
                self.frames = frames;
                return;
            }
        }
    }
}

fn served(settings: &Settings) -> Served {
    Served {
        address: settings.address,
        port: settings.port,
        transport: settings.transport,
        with_port: settings.with_port,
    }
}

/// The servers that can be reached in this way: those with an IPv4 address; with their positions in the service.
fn targets(service: &ServicePlan, now: Time) -> impl Iterator<Item = (usize, Target)> {
    service.regular().iter().enumerate().filter_map(move |(position, server)| {
        let std::net::IpAddr::V4(address) = server.address.inet()?.ip() else { return None };
        let is_well = !server.state.standing(now, service.blacklist).is_left_alone();
        let available = is_well && server.admin == Admin::Ready;
        Some((position, Target { address, weight: server.weight, available }))
    })
}
