//! One interface: its sockets, its watcher, and who listens there.

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
use crate::vip::WireView;
use crate::vip::holder::{Ground, Link};
use crate::vip::watch::{WatchSettings, Watcher};

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

/// The families in which some address of an interface is to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Speaks {
    v4: bool,
    v6: bool,
}

impl Speaks {
    /// Addresses of this family are to be held.
    pub(super) fn add(&mut self, is_ipv4: bool) {
        self.v4 |= is_ipv4;
        self.v6 |= !is_ipv4;
    }
}

/// The sockets of an interface, for as long as it has one index.
#[derive(Default)]
struct Sockets {
    capture: Option<Listener>,
    /// One for each family that speaks here, with its source.
    adverts: [Option<(IpAddr, AdvertSocket)>; 2],
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
    speaks: Speaks,
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
            speaks: Speaks::default(),
            sockets: Sockets::default(),
            error: None,
            reopen: None,
            send_failures: 0,
        }
    }

    /// What is to be heard here, and whether we speak.
    pub(super) fn watch(&mut self, own: Vec<IpAddr>, routers: Vec<WatchSettings>, speaks: Speaks) {
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

    /// What an election over this family needs to know.
    pub(super) fn ground(&self, is_ipv4: bool) -> Ground {
        let source = self.seen.own.of(is_ipv4);
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
        if self.speaks == Speaks::default() {
            (self.sockets.adverts, self.sockets.announcer) = ([None, None], None);
            return Ok(());
        }
        if self.sockets.announcer.is_none() {
            self.sockets.announcer = Some(Announcer::open(&self.name)?);
        }
        let own = self.seen.own;
        let wanted = [
            own.v4.filter(|_| self.speaks.v4).map(IpAddr::V4),
            own.v6.filter(|_| self.speaks.v6).map(IpAddr::V6),
        ];
        for (socket, source) in self.sockets.adverts.iter_mut().zip(wanted) {
            let Some(source) = source else {
                *socket = None;
                continue;
            };
            if socket.as_ref().is_none_or(|(bound, _)| *bound != source) {
                *socket = None;
                *socket = Some((source, AdvertSocket::open(&self.name, source)?));
                self.send_failures = 0;
            }
        }
        Ok(())
    }

    /// Sends an advert over this family. `Err`: it could not be sent although the link is up.
    pub(super) fn send(&mut self, now: Time, is_ipv4: bool, advert: &Message) -> Result<bool, SendFailed> {
        let family = usize::from(!is_ipv4);
        let Some((source, socket)) = &self.sockets.adverts[family] else { return Ok(false) };
        let bytes = match advert {
            Message::Vrrp(advert) => advert.emit(*source, group_of(*source)),
            Message::Carp(advert) => advert.emit().to_vec(),
        };
        match socket.send(&bytes) {
            Ok(()) => {
                self.send_failures = 0;
                Ok(true)
            }
            Err(_) if self.seen.link != Link::Up => Ok(false),
            Err(error) => {
                self.send_failures += 1;
                let gives_way = self.send_failures == SEND_FAILURES_MAX;
                if gives_way {
                    self.sockets.adverts[family] = None;
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
