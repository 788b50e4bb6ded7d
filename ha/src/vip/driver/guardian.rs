//! Keeps the guard process alive, and tells it what we hold and that we are not frozen.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cygnet_netlink::guard::{Guard, LOOPBACK, LastWord, Resignation};
use cygnet_netlink::scheduling::Urgency;

use crate::events::{EventLog, Severity};
use crate::time::Time;

/// The guard is looked after so often; one that cannot be started is tried again as often.
const CHECK: Duration = Duration::from_secs(1);

/// The guard takes the addresses of a frozen node away after so many advertisement intervals: its peers take over after at
/// most four (three, and a skew of less than one), so that nothing is taken away that would still serve.
const LEASE_INTERVALS: u32 = 4;

/// ... but not earlier than this: a real-time thread comes late only when the whole machine stands still for a moment.
const LEASE_MIN_REALTIME: Duration = Duration::from_millis(200);

/// ... or this, where real-time scheduling is not allowed: a busy scheduler is no frozen process. With four busy loops on two
/// CPUs an ordinary thread was up to 0.8 s late (see `cygnet_netlink::scheduling`).
const LEASE_MIN_ORDINARY: Duration = Duration::from_secs(1);

/// A lease is renewed so many times while it runs.
const LEASE_RENEWALS: u32 = 4;

/// The guard, if there is one.
pub(super) struct Guardian {
    guard: Option<Guard>,
    /// By interface index. At most as many as there are virtual addresses.
    held: BTreeSet<(u32, IpAddr)>,
    next_check: Time,
    /// It does not run or does not listen.
    broken: bool,
    /// The shortest lease.
    lease_min: Duration,
    /// So long it trusts us without a word; zero while nothing is held.
    lease: Duration,
    next_lease: Time,
    /// When the lease was told last.
    told: Time,
}

impl Guardian {
    pub(super) fn new(guard: Option<Guard>, urgency: Option<Urgency>) -> Self {
        Self {
            guard,
            held: BTreeSet::new(),
            next_check: Time::ZERO,
            broken: false,
            lease_min: match urgency {
                Some(Urgency::RealTime) => LEASE_MIN_REALTIME,
                Some(Urgency::Preferred) | None => LEASE_MIN_ORDINARY,
            },
            lease: Duration::ZERO,
            next_lease: Time::ZERO,
            told: Time::ZERO,
        }
    }

    /// When [`Guardian::check`] wants to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.guard.as_ref()?;
        let lease = (!self.lease.is_zero()).then_some(self.next_lease);
        Some(lease.map_or(self.next_check, |lease| lease.min(self.next_check)))
    }

    /// How long we did not run, if that was so long that the guard has taken our addresses away, or may have: its lease runs
    /// from a little later. The next [`Guardian::check`] renews the lease.
    pub(super) fn lapsed(&self, now: Time) -> Option<Duration> {
        let silent = now.since(self.told);
        (self.guard.is_some() && !self.lease.is_zero() && silent >= self.lease).then_some(silent)
    }

    /// Renews the lease, and starts the guard again if it is gone. `interval`: the longest advertisement interval of the
    /// addresses that we hold, `None` if there are none.
    pub(super) fn check(&mut self, now: Time, interval: Option<Duration>, events: &EventLog) {
        let Some(guard) = &mut self.guard else {
            if interval.is_some() && !std::mem::replace(&mut self.broken, true) {
                let what = "there is no guard process: if this process is killed, its addresses stay behind";
                events.record(Severity::Warning, "guard", what, "");
            }
            return;
        };
        let lease =
            interval.map_or(Duration::ZERO, |interval| (interval * LEASE_INTERVALS).max(self.lease_min));
        if lease != self.lease || (!lease.is_zero() && self.next_lease <= now) {
            self.broken |= guard.lease(lease).is_err();
            (self.lease, self.next_lease, self.told) = (lease, now + lease / LEASE_RENEWALS, now);
        }
        if self.next_check > now {
            return;
        }
        self.next_check = now + CHECK;
        if guard.alive() && !self.broken {
            return;
        }
        match guard.respawn() {
            Ok(()) => {
                self.broken = guard.lease(self.lease).is_err();
                let what = "the guard process had ended, or did not listen; it was started again";
                events.record(
                    Severity::Warning,
                    "guard",
                    what,
                    "it takes our addresses away should this process die",
                );
            }
            Err(error) => {
                if !std::mem::replace(&mut self.broken, true) {
                    let what = "no guard process: if this process is killed, its addresses stay behind";
                    events.record(Severity::Alert, "guard", what, error.to_string());
                }
            }
        }
    }

    /// What the guard says to the peers should this process die.
    pub(super) fn last_word(&mut self, word: &LastWord, own: SocketAddr, peers: &[SocketAddr]) {
        if let Some(guard) = &mut self.guard {
            self.broken |= guard.last_word(word, own, peers).is_err();
        }
    }

    /// What the guard sends to routers that are no peers of the cluster should this process die. One that it cannot take is left
    /// out: these routers wait for their interval then.
    pub(super) fn resign(&mut self, resignation: &Resignation) {
        let Some(guard) = &mut self.guard else { return };
        match guard.resign(resignation.clone()) {
            Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                tracing::debug!(%error, "the guard");
            }
            told => self.broken |= told.is_err(),
        }
    }

    /// Takes it back.
    pub(super) fn unresign(&mut self, resignation: &Resignation) {
        if let Some(guard) = &mut self.guard {
            self.broken |= guard.unresign(resignation).is_err();
        }
    }

    /// To be said before the address is added.
    pub(super) fn hold(&mut self, interface: u32, address: IpAddr) {
        if let Some(guard) = &mut self.guard
            && self.held.insert((interface, address))
        {
            self.broken |= guard.hold(interface, address).is_err();
        }
    }

    /// Rules will be in the kernel.
    pub(super) fn rules(&mut self) {
        if let Some(guard) = &mut self.guard {
            self.broken |= guard.rules().is_err();
        }
    }

    /// The address is not on the loopback any more.
    pub(super) fn release_loopback(&mut self, address: IpAddr) {
        if let Some(guard) = &mut self.guard
            && self.held.remove(&(LOOPBACK, address))
        {
            self.broken |= guard.release(LOOPBACK, address).is_err();
        }
    }

    /// To be said after the address has been removed, or has gone with its interface.
    pub(super) fn release(&mut self, address: IpAddr) {
        let Some(guard) = &mut self.guard else { return };
        let gone: Vec<(u32, IpAddr)> =
            self.held.iter().filter(|held| held.1 == address && held.0 != LOOPBACK).copied().collect();
        for (interface, address) in gone {
            self.held.remove(&(interface, address));
            self.broken |= guard.release(interface, address).is_err();
        }
    }

    /// The end, with all that is held: another process of this node has a guard for it.
    pub(super) fn cede(&mut self) {
        self.held.clear();
        self.end();
    }

    /// The end. What could not be removed is left to the guard.
    pub(super) fn end(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        if self.held.is_empty()
            && let Err(error) = guard.bye()
        {
            tracing::debug!(%error, "the guard");
        }
    }
}
