//! The driver of the virtual addresses: one thread with its own runtime that owns sockets, clock and kernel connection,
//! and does what the pure cores say.
//!
//! ```text
//!   capture (one task an interface) --> bounded queue --+
//!   scout (kernel snapshots) --------> one at a time ---+--> loop: watcher -> holder -> actions
//!   handle (settings, ready, stop) --> newest wins -----+        timers           |
//!                                                            views, known  <------+
//! ```
//!
//! What was heard is dealt with before a timer acts: a thread that the scheduler kept waiting must not take an address over
//! while the adverts of its holder lie unread in the socket.

mod act;
mod bequest;
mod facts;
mod groups;
mod guardian;
mod heard;
mod left;
mod peers;
mod port;
mod preferred;
mod run;
mod scout;
mod succession;
mod survey;
mod transfer;
mod views;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cygnet_netlink::guard::Guard;
use cygnet_netlink::scheduling::{self, Urgency};
use cygnet_netlink::wire::carp;
use tokio::sync::{mpsc, oneshot, watch};

pub use left::Leftover;
pub use peers::{Cluster, HandOver, HandOverReply, Kept, Moved, Say};

use peers::{Asked, WORDS_WAITING};

use super::fitness::Fitness;
use super::speaker::vrrp::{INTERVAL_CS_MAX, PRIORITY_OWNER};
use super::{Mode, Protocol, VipSettings, VipView};
use crate::events::{EventLog, Severity};

/// Virtual addresses that one node handles; what comes after is refused with an event. VRRP has 255 identifiers on an
/// interface; the driver looks through a list of this length for each advert.
pub const VIPS_MAX: usize = 256;

/// Addresses of one virtual router: keepalived sends no more in its advertisements either, and they fit the smallest frame that
/// every link carries (IPv6: 20 x 16 bytes).
pub const ADDRESSES_MAX: usize = 20;

/// Names of Linux interfaces are no longer (IFNAMSIZ less the final zero), bytes.
const INTERFACE_NAME_MAX: usize = 15;

/// What the driver needs from the start.
pub struct DriverSettings {
    /// The guard, started; the driver keeps it alive. Without one a killed process leaves its addresses behind.
    pub guard: Option<Guard>,
    /// Where events go.
    pub events: EventLog,
    /// Addresses of this node that the operator has named as its own (`source`): preferred as the source of adverts.
    pub own_fixed: Vec<IpAddr>,
    /// How a word is said to the other nodes; `None`: there are none.
    pub say: Option<Say>,
    /// Another process of this node holds these addresses, by their names in the configuration, and hands over: they are no
    /// leftovers, and this one begins as Active. Until [`VipHandle::settle`] it has no part in what the nodes say to each other.
    /// `None`: there is no such process.
    pub succeeds: Option<BTreeSet<String>>,
}

/// Whether this node can serve, and why not.
#[derive(Clone, Debug)]
struct Readiness {
    ready: bool,
    reason: String,
}

/// The door to the thread `vip`. Clones share it; when the last is dropped the thread gives up its addresses and ends.
#[derive(Clone)]
pub struct VipHandle {
    inputs: Arc<Inputs>,
    views: watch::Receiver<Arc<Vec<VipView>>>,
    known: Arc<ArcSwap<BTreeSet<IpAddr>>>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

struct Inputs {
    settings: watch::Sender<Arc<Vec<VipSettings>>>,
    ready: watch::Sender<Readiness>,
    stop: watch::Sender<Option<End>>,
    cluster: watch::Sender<peers::Known>,
    words: mpsc::Sender<peers::Heard>,
    asked: mpsc::Sender<Asked>,
    fitness: watch::Sender<Fitness>,
}

/// How the thread is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Resigns, and removes the addresses.
    GivesUp,
    /// Another process of this node has taken over: says nothing, and leaves the addresses where they are.
    Cedes,
}

/// The other ends.
struct Outputs {
    settings: watch::Receiver<Arc<Vec<VipSettings>>>,
    ready: watch::Receiver<Readiness>,
    stop: watch::Receiver<Option<End>>,
    cluster: watch::Receiver<peers::Known>,
    words: mpsc::Receiver<peers::Heard>,
    asked: mpsc::Receiver<Asked>,
    fitness: watch::Receiver<Fitness>,
    views: watch::Sender<Arc<Vec<VipView>>>,
    known: Arc<ArcSwap<BTreeSet<IpAddr>>>,
}

impl VipHandle {
    /// Starts the thread. It does nothing until [`VipHandle::configure`], and holds nothing until
    /// [`VipHandle::set_ready`].
    ///
    /// # Errors
    /// No thread, no runtime, no connection to the kernel.
    pub fn start(settings: DriverSettings) -> io::Result<Self> {
        let (vips, vips_seen) = watch::channel(Arc::new(Vec::new()));
        let (ready, ready_seen) = watch::channel(Readiness { ready: false, reason: "starting".to_owned() });
        let (stop, stop_seen) = watch::channel(None);
        let (cluster, cluster_seen) = watch::channel(None);
        let (fitness, fitness_seen) = watch::channel(Fitness::default());
        let (words, words_heard) = mpsc::channel(WORDS_WAITING);
        let (asked, asked_heard) = mpsc::channel(WORDS_WAITING);
        let (publish, views) = watch::channel(Arc::new(Vec::new()));
        let (alive, ended) = watch::channel(());
        let known = Arc::new(ArcSwap::from_pointee(BTreeSet::new()));
        let outputs = Outputs {
            settings: vips_seen,
            ready: ready_seen,
            stop: stop_seen,
            cluster: cluster_seen,
            words: words_heard,
            asked: asked_heard,
            fitness: fitness_seen,
            views: publish,
            known: Arc::clone(&known),
        };
        let (started, start) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("vip".to_owned()).spawn(move || {
            let events = settings.events.clone();
            let life = AssertUnwindSafe(|| live(settings, outputs, &started));
            if std::panic::catch_unwind(life).is_err() {
                // An address that nobody advertises, on a node that looks alive, is the worst of both: end, and let
                // the guard take the address away.
                let what = "the election has failed by a fault of this program, which ends itself";
                events.record(Severity::Alert, "vip", what, "so that the address can move");
                std::process::abort();
            }
            drop(alive);
        })?;
        start.recv().map_err(|_| io::Error::other("the thread ended while starting"))??;
        let inputs = Inputs { settings: vips, ready, stop, cluster, words, asked, fitness };
        Ok(Self { inputs: Arc::new(inputs), views, known, ended })
    }

    /// Replaces the set of virtual addresses. Elections whose settings are the same go on undisturbed; where only the
    /// priority differs, it changes in the running election.
    pub fn configure(&self, vips: Vec<VipSettings>) {
        // At once: whoever chooses a source address next must not have to wait for the thread.
        self.known.rcu(|known| {
            let configured = vips.iter().flat_map(|vip| &vip.addresses).copied();
            known.iter().copied().chain(configured).collect::<BTreeSet<_>>()
        });
        self.inputs.settings.send_replace(Arc::new(vips));
    }

    /// Says whether this node can serve. Until it can it does not contend, and `reason` is shown.
    pub fn set_ready(&self, ready: bool, reason: &str) {
        self.inputs.ready.send_replace(Readiness { ready, reason: reason.to_owned() });
    }

    /// Names the other nodes, and the address on which their last words are heard.
    pub fn set_cluster(&self, cluster: Cluster) {
        self.inputs.cluster.send_replace(Some(Arc::new(cluster)));
    }

    /// What this node cannot do, to be compared with what the others can: who is worse yields.
    pub fn set_fitness(&self, fitness: Fitness) {
        self.inputs.fitness.send_if_modified(|old| {
            let changed = *old != fitness;
            *old = fitness;
            changed
        });
    }

    /// A word of another node's elections. Never waits; when the thread does not read it is lost, and said again.
    pub fn hear(&self, from: u64, word: Vec<u8>) {
        let _ = self.inputs.words.try_send((from, word));
    }

    /// Hands addresses over to another node of the cluster: that one takes each, announces it, and only then this one lets go.
    /// What cannot be handed over stays here, with the reason. Returns within some seconds.
    pub async fn hand_over(&self, what: HandOver) -> HandOverReply {
        let (reply, answer) = oneshot::channel();
        let refused = |vip: &String| Kept { vip: vip.clone(), why: "the elections have ended".to_owned() };
        let ended =
            HandOverReply { refused: what.vips.iter().map(refused).collect(), ..HandOverReply::default() };
        if self.inputs.asked.send(Asked::HandOver { what, reply }).await.is_err() {
            return ended;
        }
        answer.await.unwrap_or(ended)
    }

    /// The connections that go on here although their address was moved: of all addresses at most `limit` one by one.
    pub async fn left(&self, limit: usize) -> Vec<Leftover> {
        let (reply, answer) = oneshot::channel();
        if self.inputs.asked.send(Asked::Left { limit, reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// What is known of each virtual address, refreshed on change and at least every 200 ms.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<Vec<VipView>>> {
        self.views.clone()
    }

    /// Every address that is known to be virtual: configured, or heard in a valid advert.
    #[must_use]
    pub fn known_virtual(&self) -> Arc<BTreeSet<IpAddr>> {
        self.known.load_full()
    }

    /// Resigns, removes the addresses and ends the thread; returns when that is done, or has failed for
    /// two seconds.
    pub async fn stop(&self) {
        self.end(End::GivesUp).await;
    }

    /// Ends the thread as it is: another process of this node holds the addresses now. They stay, nothing is said on the wire, and the
    /// guard is told that there is nothing left to guard.
    pub async fn cede(&self) {
        self.end(End::Cedes).await;
    }

    /// The process before this one has let go ([`DriverSettings::succeeds`]), or has died.
    pub async fn settle(&self) {
        // The thread may have ended.
        let _ = self.inputs.asked.send(Asked::Settle).await;
    }

    async fn end(&self, how: End) {
        self.inputs.stop.send_replace(Some(how));
        let mut ended = self.ended.clone();
        // Nothing is ever sent: this returns when the sender is gone.
        while ended.changed().await.is_ok() {}
    }
}

/// The thread's work is small, and must not wait behind the data path's. Says what the kernel has allowed.
fn hurry(events: &EventLog) -> Option<Urgency> {
    let (urgency, why) = match scheduling::make_urgent() {
        Ok(Urgency::RealTime) => return Some(Urgency::RealTime),
        Ok(Urgency::Preferred) => {
            (Some(Urgency::Preferred), "real-time scheduling is not allowed".to_owned())
        }
        Err(error) => (None, error.to_string()),
    };
    let what =
        "the election is not scheduled in real time; with intervals below 50 ms a busy machine may flap";
    events.record(Severity::Info, "vip", what, why);
    urgency
}

/// The life of the thread.
fn live(settings: DriverSettings, outputs: Outputs, started: &std::sync::mpsc::SyncSender<io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let urgency = hurry(&settings.events);
    runtime.block_on(async {
        match run::Driver::new(settings, outputs, urgency) {
            Ok(driver) => {
                let _ = started.send(Ok(()));
                driver.run().await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
    // A task of the kernel connection may still wait; nobody waits for it.
    runtime.shutdown_timeout(Duration::ZERO);
}

/// Whether the driver can do what is asked.
///
/// # Errors
/// What cannot be done, and what can, in one line.
pub fn supported(vip: &VipSettings) -> Result<(), String> {
    if vip.id == 0 {
        return Err("the identifier 0 is not allowed; use 1 to 255".to_owned());
    }
    if vip.interface.is_empty() || vip.interface.len() > INTERFACE_NAME_MAX {
        return Err(format!("`{}` cannot be the name of an interface", vip.interface));
    }
    supported_addresses(vip)?;
    match vip.mode {
        Mode::Watch if vip.sync_group.is_some() => {
            Err("another daemon moves it: a group is of addresses that this program holds".to_owned())
        }
        Mode::Watch => Ok(()),
        Mode::Hold => supported_to_hold(vip),
    }
}

fn supported_addresses(vip: &VipSettings) -> Result<(), String> {
    let Some(first) = vip.addresses.first() else { return Err("there is no virtual address".to_owned()) };
    if vip.addresses.len() > ADDRESSES_MAX {
        return Err(format!("{} addresses; one advertisement carries {ADDRESSES_MAX}", vip.addresses.len()));
    }
    let impossible =
        |address: &&IpAddr| address.is_unspecified() || address.is_multicast() || address.is_loopback();
    if let Some(address) = vip.addresses.iter().find(impossible) {
        return Err(format!("{address} cannot be a virtual address"));
    }
    if let Some(other) = vip.addresses.iter().find(|other| other.is_ipv4() != first.is_ipv4()) {
        return Err(format!("{first} and {other} are of two families; give each family its own"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = vip.addresses.iter().find(|address| !seen.insert(**address)) {
        return Err(format!("{twice} is there twice"));
    }
    if vip.protocol == Protocol::Vrrp2 && first.is_ipv6() {
        return Err("VRRP version 2 knows no IPv6; use vrrp3".to_owned());
    }
    Ok(())
}

/// CARP signs with SHA-1, which a policy of the system may forbid.
fn can_sign(vip: &VipSettings) -> Result<(), String> {
    let Some(password) = &vip.password else {
        return Err("CARP needs the password that the other hosts have".to_owned());
    };
    let mut probe = carp::Advertisement {
        vhid: vip.id,
        advskew: 0,
        authlen: carp::AUTHLEN,
        demote: 0,
        advbase: 1,
        counter: 0,
        hmac: [0; 20],
    };
    probe
        .sign(password, &vip.addresses)
        .map_err(|error| format!("OpenSSL does not sign CARP with SHA-1: {error}"))
}

fn supported_to_hold(vip: &VipSettings) -> Result<(), String> {
    if vip.priority == 0 && vip.protocol != Protocol::Carp {
        return Err("the priority 0 is not allowed; use 1 to 254, or 255 for the owner".to_owned());
    }
    if vip.priority == PRIORITY_OWNER && vip.sync_group.is_some() {
        return Err(
            "the owner (priority 255) takes it at once, whatever its group does; use 1 to 254".to_owned()
        );
    }
    let interval = vip.interval;
    if vip.protocol != Protocol::Vrrp3 {
        let (name, most) =
            if vip.protocol == Protocol::Carp { ("CARP", 254) } else { ("VRRP version 2", 255) };
        let whole = interval.subsec_nanos() == 0 && (1..=most).contains(&interval.as_secs());
        if !whole {
            return Err(format!("{name} advertises every 1 to {most} whole seconds, not {interval:?}"));
        }
        return if vip.protocol == Protocol::Carp { can_sign(vip) } else { Ok(()) };
    }
    let centiseconds = interval.as_millis() / 10;
    let whole = interval == Duration::from_millis(10) * u32::try_from(centiseconds).unwrap_or(0);
    if !whole || !(1..=u128::from(INTERVAL_CS_MAX)).contains(&centiseconds) {
        return Err(format!(
            "the interval {interval:?} cannot be advertised; use 10 ms to 40.95 s in steps of 10 ms"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
