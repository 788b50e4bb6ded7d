//! One interface: its sockets, its watcher, and who listens there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_netlink::advert::{AdvertSocket, group_of};
use cygnet_netlink::announce::Announcer;
use cygnet_netlink::capture::{Capture, FRAME_MAX};
use cygnet_netlink::wire::{Mac, Message};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::facts::{Own, Seen};
use super::views::OnTheWire;
use crate::time::Time;
use crate::vip::holder::{Ground, Link};
use crate::vip::watch::{WatchSettings, Watcher};
use crate::vip::{VipSettings, WireView};

/// Sockets that could not be opened, or failed, are opened again after this time.
const REOPEN: Duration = Duration::from_secs(1);

/// So many adverts in a row that could not be sent, and this node gives way: its peers have missed as many and are about
/// to take over.
const SEND_FAILURES_MAX: u32 = 3;

/// After an error of the capture socket: a broken one must not spin.
const CAPTURE_REST: Duration = Duration::from_millis(100);

/// The frames of an interface that are read within [`BUDGET_WINDOW`]: 50,000 a second. The thread is scheduled before the data
/// path, so a flood must not make it busy; what is too much is dropped by the kernel, as the flood would have it anyway.
const BUDGET: u32 = 500;

/// See [`BUDGET`]. Well below the shortest time within which a router may miss adverts (36 ms).
const BUDGET_WINDOW: Duration = Duration::from_millis(10);

/// A frame that was heard.
pub(super) struct Frame {
    pub(super) interface: Arc<str>,
    /// Tells frames of a closed socket from those of the present one.
    pub(super) generation: u64,
    pub(super) source_mac: Mac,
    pub(super) bytes: Vec<u8>,
}

/// An advert with its destination.
pub(super) type Written = (IpAddr, Vec<u8>);

/// To whom a virtual router speaks: to the group of a family, or to unicast peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Speaks {
    is_ipv4: bool,
    /// Nobody: the group.
    peers: Vec<IpAddr>,
}

impl Speaks {
    pub(super) fn of(settings: &VipSettings) -> Self {
        Self { is_ipv4: settings.is_ipv4(), peers: settings.peers.clone() }
    }
}

/// The sockets of an interface, for as long as it has one index.
#[derive(Default)]
struct Sockets {
    capture: Option<Listener>,
    /// One for each source that speaks here.
    adverts: BTreeMap<IpAddr, AdvertSocket>,
    announcer: Option<Announcer>,
}

/// The capture socket and the task that reads it; both end with this value.
struct Listener {
    capture: Arc<Capture>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One interface with virtual addresses.
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) seen: Seen,
    pub(super) generation: u64,
    pub(super) watcher: Watcher,
    /// What the watcher was told.
    watched: (Vec<IpAddr>, Vec<WatchSettings>),
    speaks: BTreeSet<Speaks>,
    sockets: Sockets,
    error: Option<String>,
    reopen: Option<Time>,
    send_failures: u32,
}

impl Port {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            seen: Seen { index: None, mac: Mac::default(), link: Link::Unknown, own: Own::default() },
            generation: 0,
            watcher: Watcher::new(Vec::new(), Vec::new()),
            watched: (Vec::new(), Vec::new()),
            speaks: BTreeSet::new(),
            sockets: Sockets::default(),
            error: None,
            reopen: None,
            send_failures: 0,
        }
    }

    /// What is to be heard here, and whether we speak.
    pub(super) fn watch(&mut self, own: Vec<IpAddr>, routers: Vec<WatchSettings>, speaks: BTreeSet<Speaks>) {
        self.speaks = speaks;
        let wanted = (own, routers);
        if self.watched != wanted {
            self.watcher.configure(wanted.0.clone(), wanted.1.clone());
            self.watched = wanted;
            if let Some(Listener { capture, .. }) = &self.sockets.capture {
                self.hear_neighbours(capture);
            }
        }
    }

    /// Who says that it has one of the addresses is heard too. Without it everything else works.
    fn hear_neighbours(&self, capture: &Capture) {
        let addresses = self.watched.1.iter().flat_map(|router| router.addresses.iter().copied());
        if let Err(error) = capture.hear_neighbours(&addresses.collect::<Vec<_>>()) {
            tracing::warn!(%error, interface = &*self.name, "who answers for the addresses is not heard");
        }
    }

    /// Where such adverts come from.
    pub(super) fn source(&self, speaks: &Speaks) -> Option<IpAddr> {
        self.seen.own.towards(&speaks.peers, speaks.is_ipv4)
    }

    /// What an election whose adverts go there needs to know.
    pub(super) fn ground(&self, speaks: &Speaks) -> Ground {
        let source = self.source(speaks);
        Ground { link: self.seen.link, source, socket_error: self.error.clone() }
    }

    /// Why the sockets cannot be used.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What is known of a virtual router by what was heard.
    pub(super) fn on_the_wire(&self, now: Time, router: usize) -> OnTheWire {
        let Some(view) = self.watcher.get(router) else { return OnTheWire::default() };
        let discarded = view.discarded.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        OnTheWire {
            holder: view.holder.as_ref().map(|holder| (holder.source, holder.priority)),
            heard: view.holder.as_ref().map(|holder| holder.heard),
            rivals: view.rivals.clone(),
            valid: view.valid,
            discarded: discarded.collect(),
            more: WireView::of(now, view, self.watcher.anomalies()),
        }
    }

    /// When [`Port::open`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let watcher = self.watcher.poll_timeout();
        self.reopen.into_iter().chain(watcher).min()
    }

    /// Takes note of the interface, and closes the sockets of one that is gone.
    pub(super) fn update(&mut self, seen: Seen) {
        if seen.index != self.seen.index {
            self.sockets = Sockets::default();
            (self.error, self.reopen, self.send_failures) = (None, None, 0);
        }
        self.seen = seen;
    }

    /// Opens what is missing. Says what newly went wrong.
    pub(super) fn open(&mut self, now: Time, frames: &mpsc::Sender<Frame>) -> Option<String> {
        let index = self.seen.index.filter(|_| self.seen.link != Link::Renamed)?;
        if self.reopen.is_some_and(|due| due > now) {
            return None;
        }
        let before = self.error.take();
        self.reopen = None;
        let opened = self.open_capture(index, frames).and_then(|()| self.open_speaking());
        let error = opened.err()?;
        let text = error.to_string();
        self.reopen = Some(now + REOPEN);
        self.error = Some(text.clone());
        (before.as_ref() != Some(&text)).then_some(text)
    }

    fn open_capture(&mut self, index: u32, frames: &mpsc::Sender<Frame>) -> io::Result<()> {
        if self.sockets.capture.is_some() {
            return Ok(());
        }
        let capture = Capture::open(&self.name)?;
        if capture.interface() != index {
            // Replaced at this moment; the next picture of the kernel will say so.
            return Err(io::Error::other("the interface is being replaced"));
        }
        self.generation += 1;
        let capture = Arc::new(capture);
        self.hear_neighbours(&capture);
        let task = listen(Arc::clone(&capture), Arc::clone(&self.name), self.generation, frames.clone());
        self.sockets.capture = Some(Listener { capture, task: tokio::spawn(task) });
        Ok(())
    }

    fn open_speaking(&mut self) -> io::Result<()> {
        if self.speaks.is_empty() {
            self.sockets.announcer = None;
            self.sockets.adverts.clear();
            return Ok(());
        }
        if self.sockets.announcer.is_none() {
            self.sockets.announcer = Some(Announcer::open(&self.name)?);
        }
        let wanted: BTreeSet<IpAddr> = self.speaks.iter().filter_map(|speaks| self.source(speaks)).collect();
        self.sockets.adverts.retain(|source, _| wanted.contains(source));
        for source in wanted {
            if !self.sockets.adverts.contains_key(&source) {
                self.sockets.adverts.insert(source, AdvertSocket::open(&self.name, source)?);
                self.send_failures = 0;
            }
        }
        Ok(())
    }

    /// The adverts as they go out: from where, and what to whom. The checksum may cover the destination.
    pub(super) fn written(&self, speaks: &Speaks, advert: &Message) -> Option<(IpAddr, Vec<Written>)> {
        let source = self.source(speaks)?;
        let is_other = |peer: &&IpAddr| !self.watched.0.contains(peer) && !self.seen.own.all.contains(peer);
        let peers = speaks.peers.iter().filter(is_other).copied();
        let group = speaks.peers.is_empty().then(|| group_of(source));
        let written = |destination| match advert {
            Message::Vrrp(advert) => (destination, advert.emit(source, destination)),
            Message::Carp(advert) => (destination, advert.emit().to_vec()),
        };
        Some((source, peers.chain(group).map(written).collect()))
    }

    /// Sends an advert to the group, or to each peer. `Err`: it could not be sent to anybody although the link is up.
    pub(super) fn send(&mut self, now: Time, speaks: &Speaks, advert: &Message) -> Result<bool, SendFailed> {
        let Some((source, adverts)) = self.written(speaks, advert) else { return Ok(false) };
        let Some(socket) = self.sockets.adverts.get(&source) else { return Ok(false) };
        // One peer beyond a lost route must not silence this node towards the others.
        let mut sent = Ok(false);
        for (destination, bytes) in &adverts {
            match socket.send(*destination, bytes) {
                Ok(()) => sent = Ok(true),
                Err(error) if !matches!(sent, Ok(true)) => sent = Err(error),
                Err(_) => {}
            }
        }
        match sent {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.send_failures = 0;
                Ok(true)
            }
            Err(_) if self.seen.link != Link::Up => Ok(false),
            Err(error) => {
                self.send_failures += 1;
                let gives_way = self.send_failures == SEND_FAILURES_MAX;
                if gives_way {
                    self.sockets.adverts.remove(&source);
                    self.error = Some(error.to_string());
                    self.reopen = Some(now + REOPEN);
                }
                Err(SendFailed { first: self.send_failures == 1, gives_way, error })
            }
        }
    }

    /// Announces that an address is here.
    pub(super) fn announce(&self, address: IpAddr) -> io::Result<()> {
        match &self.sockets.announcer {
            Some(announcer) => announcer.announce(self.seen.mac, address),
            None => Ok(()),
        }
    }
}

/// An advert did not leave.
pub(super) struct SendFailed {
    /// The first one after a success.
    pub(super) first: bool,
    /// There were too many: the elections on this interface must end.
    pub(super) gives_way: bool,
    pub(super) error: io::Error,
}

/// Reads frames into the queue. When it is full the rest waits in the kernel's buffer, and what does not fit there is
/// dropped: adverts come again.
async fn listen(capture: Arc<Capture>, interface: Arc<str>, generation: u64, frames: mpsc::Sender<Frame>) {
    let mut buffer = vec![0; FRAME_MAX];
    let (mut window, mut left) = (Instant::now(), BUDGET);
    loop {
        if window.elapsed() >= BUDGET_WINDOW {
            (window, left) = (Instant::now(), BUDGET);
        } else if left == 0 {
            tokio::time::sleep_until(window + BUDGET_WINDOW).await;
        }
        left = left.saturating_sub(1);
        match capture.next(&mut buffer).await {
            Ok(frame) => {
                let bytes = frame.bytes.to_vec();
                let (interface, source_mac) = (Arc::clone(&interface), frame.source_mac);
                if frames.send(Frame { interface, generation, source_mac, bytes }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, interface = &*interface, "capture");
                tokio::time::sleep(CAPTURE_REST).await;
            }
        }
    }
}
