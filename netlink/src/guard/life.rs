//! The guard's whole life.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::lines::{Resignation, Told, Word};
use super::word;
use crate::advert::AdvertSocket;
use crate::kernel::{message, was_absent};
use crate::{scheduling, steer, sys};

/// Bytes read at once.
const READ_LEN: usize = 4096;

/// Reads after the node's death, enough for a full pipe (64 KiB). Bounded, for a child that the node has left behind may
/// hold a copy of the pipe's other end.
const LAST_READS: usize = 32;

/// A guard that notices the end of a lease so late was itself kept waiting (a paused virtual machine, a busy scheduler), and
/// the node perhaps with it.
const OWN_DELAY_MAX: Duration = Duration::from_millis(50);

/// Attempts to remove an address that the kernel refuses to remove (it is short of memory, say).
const ATTEMPTS: usize = 3;

/// Guards the process that started this one, and returns when that has died or said good-bye.
///
/// Errors: only from the first moments (no netlink socket, no session), before anything is guarded.
pub fn run() -> io::Result<()> {
    sys::own_session()?;
    for polite in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        sys::ignore_signal(polite)?;
    }
    // Not to be killed for want of memory just before the node is. Needs a privilege and is no condition.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // The addresses of a dead node are to be gone before its successor adds them again, also on a busy machine.
    let _ = scheduling::make_urgent();
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let watch = Watch {
        input,
        remover: Remover::open()?,
        told: Told::default(),
        parent: None,
        lease_end: None,
        grace_given: false,
    };
    watch.until_the_end()
}

/// The process of the node.
enum Parent {
    /// Its pidfd.
    Known(OwnedFd),
    /// It was gone before we could open one.
    Gone,
    /// No pidfd is to be had (Linux before 5.3); the end of the input will tell.
    Unwatched,
}

struct Watch {
    input: File,
    remover: Remover,
    told: Told,
    parent: Option<Parent>,
    /// When the node counts as frozen.
    lease_end: Option<Instant>,
    /// The lease was prolonged because we were late ourselves; not twice without a word of the node.
    grace_given: bool,
}

/// What came of reading.
#[derive(PartialEq, Eq)]
enum Input {
    Open,
    Closed,
}

impl Watch {
    fn until_the_end(mut self) -> io::Result<()> {
        loop {
            let timeout = self.lease_end.map(|end| end.saturating_duration_since(Instant::now()));
            // Without a pidfd (yet) the input stands in for it: what is polled twice does no harm.
            let process = match &self.parent {
                Some(Parent::Known(process)) => process.as_fd(),
                _ => self.input.as_fd(),
            };
            let [can_read, process_is_ready] = sys::wait_readable([self.input.as_fd(), process], timeout)?;
            let mut died = matches!(self.parent, Some(Parent::Known(_))) && process_is_ready;
            if can_read {
                died |= self.listen() == Input::Closed;
            }
            died |= matches!(self.parent, Some(Parent::Gone));
            if died {
                self.hear_last_words()?;
            }
            if self.told.bye {
                return Ok(());
            }
            if died {
                self.remove_all("the node has died", |guard| {
                    guard.resign();
                    guard.say_last_word();
                });
                self.clear_rules();
                return Ok(());
            }
            self.end_lease()?;
        }
    }

    /// Takes the addresses away if the lease is over.
    fn end_lease(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let Some(end) = self.lease_end.filter(|end| now >= *end) else { return Ok(()) };
        // The node may have spoken since we looked, if we were kept waiting.
        if sys::wait_readable([self.input.as_fd()], Some(Duration::ZERO))? == [true] {
            return Ok(());
        }
        if now - end > OWN_DELAY_MAX && !self.grace_given {
            self.grace_given = true;
            self.lease_end = self.told.lease.map(|time| now + time);
            return Ok(());
        }
        self.lease_end = None;
        // It may wake: no last word. And it must say anew what it holds then: another may hold it by now.
        self.remove_all("the node is frozen", |_| {});
        self.told.resignations.clear();
        Ok(())
    }

    /// What the node wrote before it died may still be in the pipe.
    fn hear_last_words(&mut self) -> io::Result<()> {
        for _ in 0..LAST_READS {
            let waiting = sys::wait_readable([self.input.as_fd()], Some(Duration::ZERO))? == [true];
            if !waiting || self.listen() == Input::Closed {
                break;
            }
        }
        Ok(())
    }

    /// Reads once and takes it in.
    fn listen(&mut self) -> Input {
        let mut buffer = [0; READ_LEN];
        let leases = self.told.leases;
        match self.input.read(&mut buffer) {
            Ok(0) => return Input::Closed,
            Ok(len) => self.told.hear(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Input::Closed,
        }
        if self.told.leases != leases {
            self.lease_end = self.told.lease.map(|time| Instant::now() + time);
            self.grace_given = false;
        }
        if let (None, Some(pid)) = (&self.parent, self.told.parent) {
            self.parent = Some(watch_parent(pid));
        }
        Input::Open
    }

    /// Now that no address of the dead node answers any more. Each once: they come at most a moment before the peers would miss
    /// an advertisement anyway.
    fn resign(&self) {
        for Resignation { interface, source, destination, payload } in &self.told.resignations {
            let sent =
                AdvertSocket::open(interface, *source).and_then(|socket| socket.send(*destination, payload));
            if let Err(error) = sent {
                let _ = writeln!(io::stderr(), "cygnet guard: no resignation on {interface}: {error}");
            }
        }
    }

    /// Now that no address of the dead node answers any more.
    fn say_last_word(&self) {
        let Some(Word { word: last, own, peers }) = &self.told.word else { return };
        if let Err(error) = word::say(last, *own, peers) {
            let _ = writeln!(io::stderr(), "cygnet guard: the peers are not told of the death: {error}");
        }
    }

    /// After the addresses: without them the rules steer nothing that would not be lost anyway.
    fn clear_rules(&self) {
        if let Some(Err(error)) = self.told.rules.then(steer::clear) {
            let _ = writeln!(io::stderr(), "cygnet guard: the rules of the dead node stay: {error}");
        }
    }

    /// `then`: what is to be done when all of them are gone.
    fn remove_all(&mut self, reason: &str, then: impl FnOnce(&Self)) {
        let results: Vec<_> = self
            .told
            .held
            .iter()
            .map(|&(interface, address)| (address, self.remover.remove(interface, address)))
            .collect();
        if results.iter().all(|(_, result)| result.is_ok()) {
            then(self);
        }
        // Only now, and without a panic if nobody is left to read it: the addresses come first.
        for (address, result) in results {
            let _ = match result {
                Ok(true) => writeln!(io::stderr(), "cygnet guard: {reason}: {address} removed"),
                Ok(false) => writeln!(io::stderr(), "cygnet guard: {reason}: {address} was not there"),
                Err(error) => writeln!(io::stderr(), "cygnet guard: {reason}: {address} stays: {error}"),
            };
        }
    }
}

/// A pidfd of our parent. Numbers are used again: if it is still our parent after the descriptor was opened, then the
/// number was its own at that moment.
fn watch_parent(pid: u32) -> Parent {
    let process = sys::pidfd_open(pid);
    if std::os::unix::process::parent_id() != pid {
        return Parent::Gone;
    }
    match process {
        Ok(process) => Parent::Known(process),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Parent::Gone,
        Err(_) => Parent::Unwatched,
    }
}

/// A netlink socket, open beforehand. The kernel removes the address within `send`, so there is nothing to wait for.
struct Remover {
    socket: Socket,
}

impl Remover {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Whether it was there.
    fn remove(&self, interface: u32, address: IpAddr) -> io::Result<bool> {
        let mut last = Err(io::Error::from(io::ErrorKind::TimedOut));
        for _ in 0..ATTEMPTS {
            last = match self.try_remove(interface, address) {
                Err(error) if was_absent(&error) => Ok(false),
                Err(error) => Err(error),
                Ok(()) => Ok(true),
            };
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn try_remove(&self, interface: u32, address: IpAddr) -> io::Result<()> {
        let removal = RouteNetlinkMessage::DelAddress(message::exact_address(interface, address));
        let mut request = NetlinkMessage::from(removal);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(answer) if answer.code.is_some() => Err(answer.to_io()),
            _ => Ok(()),
        }
    }
}
