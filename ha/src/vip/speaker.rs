//! The elections: one pure state machine per protocol, behind one face.

pub mod carp;
mod reason;
pub mod vrrp;

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::Message;

pub use reason::{Rank, Reason};

use super::Role;
use crate::time::Time;

/// Who finds its timer less late than this was not frozen but waits for a CPU: a busy machine without real-time scheduling
/// keeps a thread waiting that long now and then, and with short intervals the time that a Backup waits (36 ms at 10 ms) is
/// less.
pub const STALL_MIN: Duration = Duration::from_millis(200);

/// At least so long between two answers to foreign claims: the shortest interval that VRRP knows. A flood of claims makes
/// us send 100 adverts and announcements a second, no more; a claim within the pause is answered at its end.
pub const ANSWER_SPACING: Duration = Duration::from_millis(10);

/// Whoever hands over to us advertises until it hears us: for so long, or an interval if that is less, its adverts may have crossed
/// ours. Its elections may be late by some tens of milliseconds on a busy machine, hardly by more.
pub const CROSSING_MAX: Duration = Duration::from_millis(200);

/// Who has handed over to us, and until when its adverts are from before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Giver {
    from: IpAddr,
    until: Time,
}

impl Giver {
    fn new(now: Time, from: IpAddr, interval: Duration) -> Self {
        Self { from, until: now + interval.min(CROSSING_MAX) }
    }

    /// Whether an advert is no claim: it was on its way when we took over.
    fn is_from_before(self, now: Time, source: IpAddr) -> bool {
        source == self.from && now < self.until
    }
}

/// What the driver is to do, in this order; `A` is the advert of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<A> {
    /// Send this advert.
    Send(A),
    /// Announce the address again (gratuitous ARP): somebody else claimed it, or has just let go of it.
    Announce,
    /// Hold the address from now on, and announce it.
    BecomeActive(Reason),
    /// Do not hold the address. Also said when a Backup restarts its timer after it was frozen.
    BecomeStandby(Reason),
    /// Take no part.
    BecomeDown(Reason),
}

impl<A> Action<A> {
    fn map<B>(self, wrap: impl FnOnce(A) -> B) -> Action<B> {
        match self {
            Self::Send(advert) => Action::Send(wrap(advert)),
            Self::Announce => Action::Announce,
            Self::BecomeActive(reason) => Action::BecomeActive(reason),
            Self::BecomeStandby(reason) => Action::BecomeStandby(reason),
            Self::BecomeDown(reason) => Action::BecomeDown(reason),
        }
    }
}

/// How long a worse holder has been heard, and nobody else: it is replaced after a delay (keepalived's preempt_delay), so that a
/// node that has just come back does not take the address before it has settled.
#[derive(Clone, Copy, Debug, Default)]
struct Forbearance {
    since: Option<Time>,
}

impl Forbearance {
    /// A worse holder is heard: whether it is still to be left alone.
    fn lasts(&mut self, now: Time, delay: Duration) -> bool {
        now.since(*self.since.get_or_insert(now)) < delay
    }

    /// Another one is heard, or none.
    fn end(&mut self) {
        self.since = None;
    }
}

/// A Backup would take over, and asks first: it is of a group that moves as one ([`crate::vip::group`]).
#[derive(Clone, Debug)]
struct Wish {
    reason: Reason,
    /// The timer runs on, so that a freeze is noticed.
    again: Time,
}

/// The election for one virtual address, of either protocol. The methods are those of the machines.
#[derive(Clone, Debug)]
pub enum Speaker {
    /// Version 2 or 3.
    Vrrp(vrrp::Speaker),
    /// Version 2.
    Carp(carp::Speaker),
}

fn vrrps(actions: Vec<vrrp::Action>) -> Vec<Action<Message>> {
    actions.into_iter().map(|action| action.map(Message::Vrrp)).collect()
}

fn carps(actions: Vec<carp::Action>) -> Vec<Action<Message>> {
    actions.into_iter().map(|action| action.map(Message::Carp)).collect()
}

impl Speaker {
    /// The role, in this program's terms.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::Vrrp(speaker) => speaker.role(),
            Self::Carp(speaker) => speaker.role(),
        }
    }

    /// Active, but silent: it was frozen, for so long, and listens whether somebody has taken over.
    #[must_use]
    pub fn listens(&self) -> Option<Duration> {
        match self {
            Self::Vrrp(speaker) => speaker.listens(),
            Self::Carp(speaker) => speaker.listens(),
        }
    }

    /// When [`Speaker::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Self::Vrrp(speaker) => speaker.poll_timeout(),
            Self::Carp(speaker) => speaker.poll_timeout(),
        }
    }

    /// When the next regular advert is due, if this node sends any.
    #[must_use]
    pub fn beat_due(&self) -> Option<Time> {
        match self {
            Self::Vrrp(speaker) => speaker.beat_due(),
            Self::Carp(speaker) => speaker.beat_due(),
        }
    }

    /// The regular advert alone, if it is due.
    pub fn beat(&mut self, now: Time) -> Option<Message> {
        match self {
            Self::Vrrp(speaker) => speaker.beat(now).map(Message::Vrrp),
            Self::Carp(speaker) => speaker.beat(now).map(Message::Carp),
        }
    }

    /// Joins the election. Does nothing when it has joined.
    pub fn start(&mut self, now: Time) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.start(now)),
            Self::Carp(speaker) => carps(speaker.start(now)),
        }
    }

    /// Joins as Active, because another process of this node is.
    pub fn succeed(&mut self, now: Time) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.succeed(now)),
            Self::Carp(speaker) => carps(speaker.succeed(now)),
        }
    }

    /// Leaves the election; who is Active resigns. The address goes first, then the advert; `holder` says why.
    pub fn stop(&mut self, why: &str) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.stop(why)),
            Self::Carp(speaker) => carps(speaker.stop(why)),
        }
    }

    /// What it would say if it ended now, if it holds the address.
    #[must_use]
    pub fn resignation(&self) -> Option<Message> {
        match self {
            Self::Vrrp(speaker) => speaker.resignation().map(Message::Vrrp),
            Self::Carp(speaker) => speaker.resignation().map(Message::Carp),
        }
    }

    /// A valid advert from another router; one of another protocol is nobody's.
    pub fn advert(&mut self, now: Time, source: IpAddr, message: &Message) -> Vec<Action<Message>> {
        match (self, message) {
            (Self::Vrrp(speaker), Message::Vrrp(advert)) => vrrps(speaker.advert(now, source, advert)),
            (Self::Carp(speaker), Message::Carp(advert)) => carps(speaker.advert(now, source, advert)),
            _ => Vec::new(),
        }
    }

    /// The time that [`Speaker::poll_timeout`] named has come. Harmless if it has not.
    pub fn timeout(&mut self, now: Time) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.timeout(now)),
            Self::Carp(speaker) => carps(speaker.timeout(now)),
        }
    }

    /// Changes the priority of a running election (1..=255).
    pub fn set_priority(&mut self, now: Time, priority: u8) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.set_priority(now, priority)),
            Self::Carp(speaker) => carps(speaker.set_advskew(now, carp::advskew_of(priority))),
        }
    }

    /// The router at `source` holds nothing any more, for certain and for this reason.
    pub fn bereft(
        &mut self,
        now: Time,
        source: IpAddr,
        at_once: bool,
        reason: Reason,
    ) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.bereft(now, source, at_once, reason)),
            Self::Carp(speaker) => carps(speaker.bereft(now, source, at_once, reason)),
        }
    }

    /// Whether a Backup takes over only when it is told to ([`Speaker::consent`]).
    pub fn ask_before(&mut self, asks: bool) {
        match self {
            Self::Vrrp(speaker) => speaker.ask_before(asks),
            Self::Carp(speaker) => speaker.ask_before(asks),
        }
    }

    /// Why this Backup would take over, if it would.
    #[must_use]
    pub fn wish(&self) -> Option<&Reason> {
        match self {
            Self::Vrrp(speaker) => speaker.wish(),
            Self::Carp(speaker) => speaker.wish(),
        }
    }

    /// It may take over, if it would.
    pub fn consent(&mut self, now: Time) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.consent(now)),
            Self::Carp(speaker) => carps(speaker.consent(now)),
        }
    }

    /// Gives way although nobody better was heard, and resigns, but stays in the election.
    pub fn step_down(&mut self, now: Time, why: &str) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.step_down(now, why)),
            Self::Carp(speaker) => carps(speaker.step_down(now, why)),
        }
    }

    /// Takes over from a router that hands over to us.
    pub fn take(&mut self, now: Time, from: IpAddr) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.take(now, from)),
            Self::Carp(speaker) => carps(speaker.take(now, from)),
        }
    }

    /// Gives way to the next advert from there, while Active.
    pub fn set_heir(&mut self, heir: Option<IpAddr>) {
        match self {
            Self::Vrrp(speaker) => speaker.set_heir(heir),
            Self::Carp(speaker) => speaker.set_heir(heir),
        }
    }

    /// Our own address on the interface has changed.
    pub fn set_source(&mut self, source: IpAddr) {
        match self {
            Self::Vrrp(speaker) => speaker.set_source(source),
            Self::Carp(speaker) => speaker.set_source(source),
        }
    }

    /// This process did not run, for so long: whoever was Backup may have taken over.
    pub fn frozen(&mut self, now: Time, late: Duration) -> Vec<Action<Message>> {
        match self {
            Self::Vrrp(speaker) => vrrps(speaker.frozen(now, late)),
            Self::Carp(speaker) => carps(speaker.frozen(now, late)),
        }
    }
}
