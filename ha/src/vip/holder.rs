//! The role of this node for one virtual address, and what follows from it; pure.
//!
//! ```text
//!   hold mode:   adverts, time --> speaker --+
//!                link, source, sockets ------+
//!                readiness, the stop --------+--> role --> add, remove, announce, advertise, events
//!                what the kernel has --------+
//!   watch mode:  link, what the kernel has ---------> role --> events, nothing else
//! ```
//!
//! **Take-over**: add the address; if that worked, announce it, then advertise. The RFC has the advert first, but who
//! cannot add the address must not claim it; and all three are one step, within the millisecond.
//!
//! **Giving up**: remove the address, then say so on the wire. The other way round gains nothing (the new holder waits
//! for its skew time anyway) and loses much: a peer with a short skew would add and announce the address
//! while we still answer ARP for it, and hosts would learn the wrong one last.
//!
//! **Whose address is it?** What we added is ours, and so is a /32 that was there when we became Active (adopted, with an
//! event): from then on it goes when the role goes, for two holders are worse than a surprise. A /32 that is there while
//! we are not Active is removed only if it carries our mark, that is, an earlier process of ours left it; without the mark
//! it is reported and left alone. The address with a shorter prefix is never touched.

mod beat;
mod handover;
mod retry;
mod types;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cygnet_netlink::wire::Message;
use cygnet_netlink::wire::vrrp::{Auth, Version, padded};

pub use handover::LINGER_MAX;
pub use retry::{RETRY_FIRST, RETRY_MAX};
pub use types::{Action, Ground, Link, Presence};

use handover::Linger;
use retry::Retry;

use super::speaker::{self, Reason, Speaker, carp, vrrp};
use super::{Mode, Protocol, Role, VipSettings};
use crate::events::Severity;
use crate::time::Time;

/// The address is announced when it is taken or was claimed by another, and again after these pauses: a single frame may be
/// lost, and a switch may still be learning.
pub const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The address is announced so often while all is quiet: bounds what a host believes wrongly, whatever the cause.
pub const ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);

/// An address that somebody else removes is added again at most so often: against a daemon that fights us.
pub const READD_SPACING: Duration = Duration::from_secs(1);

/// What waits for the address to be added.
#[derive(Clone, Debug, Default)]
struct Pending {
    /// The event of the take-over; without it the address is only added again.
    taken_over: Option<Reason>,
    advert: Option<Message>,
}

/// One virtual address on this node.
#[derive(Clone, Debug)]
pub struct Holder {
    settings: VipSettings,
    speaker: Speaker,
    ground: Ground,
    /// Why this node cannot serve; `None` if it can.
    unready: Option<String>,
    /// Why this holder takes part no more.
    stopped: Option<&'static str>,
    presence: Presence,
    /// Added or adopted by us, and not yet removed.
    ours: bool,
    adding: Option<Pending>,
    add_retry: Option<Retry>,
    remove_retry: Option<Retry>,
    /// Another has it already; it is removed here when this is over.
    linger: Option<Linger>,
    /// The last word, for when the address is gone.
    last_word: Option<Message>,
    readd_not_before: Time,
    /// When to announce, and how many of [`ANNOUNCE_AGAIN`] are done.
    announce: Option<(Time, usize)>,
    role: Role,
    reason: String,
    since: Time,
}

impl Holder {
    /// A holder that waits for its first look at the kernel, and for readiness. `salt` is a random number, for what must
    /// not repeat itself after a restart (the counter of CARP).
    #[must_use]
    pub fn new(now: Time, settings: VipSettings, salt: u64) -> Self {
        let speaker = election(&settings, salt);
        Self {
            settings,
            speaker,
            ground: Ground::default(),
            unready: Some("starting".to_owned()),
            stopped: None,
            presence: Presence::default(),
            ours: false,
            adding: None,
            add_retry: None,
            remove_retry: None,
            linger: None,
            last_word: None,
            readd_not_before: Time::ZERO,
            announce: None,
            role: Role::Down,
            reason: "starting".to_owned(),
            since: now,
        }
    }

    /// What it was made of, with the priority of this moment.
    #[must_use]
    pub fn settings(&self) -> &VipSettings {
        &self.settings
    }

    /// The role of this node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Why it has this role.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Since when it has this role.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Our own address on the interface.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.ground.source
    }

    /// What was last said of the address.
    #[must_use]
    pub fn presence(&self) -> Presence {
        self.presence
    }

    /// Whether the address is on the interface through us.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.ours
    }

    /// When [`Holder::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let missing = self.lacks_address().then_some(self.readd_not_before);
        let retries = [self.add_retry, self.remove_retry].into_iter().flatten().filter_map(|retry| retry.due);
        let announce = self.announce.map(|(due, _)| due);
        let linger = self.linger.as_ref().map(|linger| linger.until);
        self.speaker
            .poll_timeout()
            .into_iter()
            .chain(retries)
            .chain(announce)
            .chain(missing)
            .chain(linger)
            .min()
    }

    /// The interface, the source or the sockets have changed, or may have.
    pub fn ground(&mut self, now: Time, ground: Ground) -> Vec<Action> {
        if let Some(source) = ground.source {
            self.speaker.set_source(source);
        }
        if ground.link == Link::Missing {
            // The address went with the interface.
            (self.ours, self.presence, self.remove_retry) = (false, Presence::default(), None);
        }
        self.ground = ground;
        self.settle(now)
    }

    /// What the kernel has. Must not be older than the last change that we made ourselves.
    pub fn presence_seen(&mut self, now: Time, presence: Presence) -> Vec<Action> {
        let before = std::mem::replace(&mut self.presence, presence);
        let mut actions = Vec::new();
        if self.settings.mode == Mode::Hold && self.role != Role::Active && presence.exact && !self.ours {
            if presence.marked {
                self.ours = true;
                actions.push(event(
                    Severity::Warning,
                    format!("removes {} from {}", self.settings.address, self.settings.interface),
                    "an earlier process of Cygnet left it there".to_owned(),
                ));
                actions.push(Action::RemoveAddress);
            } else if !before.exact {
                actions.push(event(
                    Severity::Warning,
                    format!("{} is on {} already", self.settings.address, self.settings.interface),
                    "this node is not active and has not added it; it is left alone".to_owned(),
                ));
            }
        }
        if self.role != Role::Active && !presence.exact {
            (self.ours, self.remove_retry) = (false, None);
        }
        actions.extend(self.settle(now));
        actions
    }

    /// This node can serve (listeners up), or cannot, and why.
    pub fn ready(&mut self, now: Time, ready: bool, why: &str) -> Vec<Action> {
        let was_ready = self.unready.is_none();
        self.unready = if ready { None } else { Some(why.to_owned()) };
        let mut actions = self.settle(now);
        if self.settings.mode == Mode::Watch && self.role == Role::Active && was_ready && !ready {
            let what = "this node holds the address but cannot serve".to_owned();
            actions.push(event(Severity::Alert, what, why.to_owned()));
        }
        actions
    }

    /// Takes part no more, for good. `why`: for the operator.
    pub fn stop(&mut self, now: Time, why: &'static str) -> Vec<Action> {
        self.stopped = Some(why);
        self.settle(now)
    }

    /// A valid advert of another router for this one.
    pub fn advert(&mut self, now: Time, source: IpAddr, advert: &Message) -> Vec<Action> {
        if self.settings.mode == Mode::Watch {
            return Vec::new();
        }
        let said = self.speaker.advert(now, source, advert);
        self.follow(now, said)
    }

    /// Changes the priority of the running election.
    pub fn set_priority(&mut self, now: Time, priority: u8) -> Vec<Action> {
        self.settings.priority = priority;
        let said = self.speaker.set_priority(now, priority);
        self.follow(now, said)
    }

    /// This process did not run, for so long, and the guard has taken the addresses away meanwhile, or may have. What is
    /// missing is added again after an interval in which nobody claims it: a peer may hold it.
    pub fn frozen(&mut self, now: Time, time: Duration) -> Vec<Action> {
        if self.settings.mode == Mode::Watch || self.role != Role::Active || self.speaker.listens().is_some()
        {
            return Vec::new();
        }
        let said = self.speaker.frozen(now, time);
        self.follow(now, said)
    }

    /// The time that [`Holder::poll_timeout`] named has come.
    pub fn timeout(&mut self, now: Time) -> Vec<Action> {
        let listened = self.speaker.listens();
        let said = self.speaker.timeout(now);
        let mut actions = Vec::new();
        if let (Some(time), None) = (listened, self.speaker.listens())
            && self.lacks_address()
        {
            // First the address, then the advert and the announcement, which wait in `adding`.
            actions.extend(self.add_again(now, &frozen_meanwhile(time)));
        }
        actions.extend(self.follow(now, said));
        actions.extend(self.end_linger(now));
        // A node whose add failed is Down; it joins again, and adds when it is elected.
        Retry::begin(&mut self.add_retry, now);
        if Retry::begin(&mut self.remove_retry, now) {
            actions.push(Action::RemoveAddress);
        }
        actions.extend(self.settle(now));
        if let Some((_, done)) = self.announce.filter(|(due, _)| *due <= now) {
            self.announce = Some(Self::next_announcement(now, done));
            actions.push(Action::Announce);
        }
        actions
    }

    /// The answer to [`Action::AddAddress`]: whether it was new.
    pub fn added(&mut self, now: Time, answer: Result<bool, String>) -> Vec<Action> {
        let Some(pending) = self.adding.take() else { return Vec::new() };
        match answer {
            Ok(new) => self.added_well(now, new, pending),
            Err(error) => self.failed_to_add(now, &error, &pending),
        }
    }

    /// The answer to [`Action::RemoveAddress`].
    pub fn removed(&mut self, now: Time, answer: Result<bool, String>) -> Vec<Action> {
        match answer {
            Ok(_) => {
                (self.ours, self.remove_retry) = (false, None);
                (self.presence.exact, self.presence.marked) = (false, false);
                self.last_word.take().map(Action::SendAdvert).into_iter().collect()
            }
            Err(error) => {
                let first = self.remove_retry.is_none();
                self.remove_retry = Some(Retry::after(now, self.remove_retry));
                if !first {
                    return Vec::new();
                }
                let what = format!("cannot remove {}: two nodes may hold it", self.settings.address);
                vec![event(Severity::Alert, what, error)]
            }
        }
    }

    fn added_well(&mut self, now: Time, new: bool, pending: Pending) -> Vec<Action> {
        (self.ours, self.add_retry) = (true, None);
        (self.presence.exact, self.presence.marked) = (true, new || self.presence.marked);
        if self.role != Role::Active {
            return vec![Action::RemoveAddress];
        }
        let mut actions = Vec::new();
        if let Some(reason) = &pending.taken_over {
            actions.push(event(
                reason.severity(),
                format!("active: holds {} on {}", self.settings.address, self.settings.interface),
                reason.to_string(),
            ));
            if !new {
                let what = format!("adopts {}, which was there already", self.settings.address);
                actions.push(event(
                    Severity::Info,
                    what,
                    "it is removed when this node is active no more".to_owned(),
                ));
            }
        }
        actions.push(Action::Announce);
        self.announce = Some(Self::next_announcement(now, 0));
        actions.extend(pending.advert.map(Action::SendAdvert));
        actions
    }

    /// A node that cannot add the address must not stay Active: it would be a black hole.
    fn failed_to_add(&mut self, now: Time, error: &str, pending: &Pending) -> Vec<Action> {
        let first = self.add_retry.is_none();
        self.add_retry = Some(Retry::after(now, self.add_retry));
        let mut actions = Vec::new();
        if first {
            let what = format!("cannot add {} to {}", self.settings.address, self.settings.interface);
            actions.push(event(Severity::Alert, what, error.to_owned()));
        }
        let said = self.speaker.stop(&format!("the address cannot be added: {error}"));
        let followed = self.follow(now, said);
        // At a take-over nothing was claimed yet, so there is nothing to resign from.
        let claimed = pending.taken_over.is_none();
        actions.extend(
            followed.into_iter().filter(|action| claimed || !matches!(action, Action::SendAdvert(_))),
        );
        actions
    }

    /// The first reason against taking part.
    fn obstacle(&self) -> Option<String> {
        let interface = &self.settings.interface;
        if let Some(why) = self.stopped {
            return Some(why.to_owned());
        }
        match self.ground.link {
            Link::Unknown => return Some("starting".to_owned()),
            Link::Missing => return Some(format!("there is no interface {interface}")),
            Link::Renamed => return Some(format!("{interface} has another name now")),
            Link::Down => return Some(format!("{interface} is down or has no carrier")),
            Link::Up => {}
        }
        if self.settings.mode == Mode::Watch {
            return None;
        }
        if let Some(error) = &self.ground.socket_error {
            return Some(format!("no socket for advertisements on {interface}: {error}"));
        }
        if self.ground.source.is_none() {
            return Some(format!("{interface} has no IPv4 address of this node"));
        }
        if let Some(why) = &self.unready {
            return Some(format!("not ready: {why}"));
        }
        let waits = self.add_retry.is_some_and(|retry| retry.due.is_some());
        waits.then(|| {
            format!("{} could not be added to {interface}; it is tried again", self.settings.address)
        })
    }

    /// Joins or leaves the election as the obstacles say, and puts right what the kernel has.
    fn settle(&mut self, now: Time) -> Vec<Action> {
        let obstacle = self.obstacle();
        if self.settings.mode == Mode::Watch {
            return self.watched(now, obstacle);
        }
        let said = match obstacle {
            Some(why) if self.speaker.role() == Role::Down => {
                // Still Down, perhaps for another reason than before.
                self.reason = why;
                Vec::new()
            }
            Some(why) => self.speaker.stop(&why),
            None => self.speaker.start(now),
        };
        let mut actions = self.follow(now, said);
        if self.lacks_address() && self.readd_not_before <= now {
            actions.extend(
                self.add_again(now, "somebody else removed it; this node is active and adds it again"),
            );
        }
        actions
    }

    /// Adds an address that is gone although this node is Active.
    fn add_again(&mut self, now: Time, why: &str) -> [Action; 2] {
        self.readd_not_before = now + READD_SPACING;
        self.adding = Some(Pending::default());
        let what = format!("{} was gone from {}", self.settings.address, self.settings.interface);
        [event(Severity::Warning, what, why.to_owned()), Action::AddAddress]
    }

    /// Active, and free to speak, but the kernel does not have the address any more.
    fn lacks_address(&self) -> bool {
        self.settings.mode == Mode::Hold
            && self.role == Role::Active
            && self.speaker.listens().is_none()
            && self.adding.is_none()
            && !self.presence.any()
    }

    /// Watch mode: the role is what the kernel shows.
    fn watched(&mut self, now: Time, obstacle: Option<String>) -> Vec<Action> {
        let (address, interface) = (self.settings.address, &self.settings.interface);
        let (role, why) = match obstacle {
            Some(why) => (Role::Down, why),
            None if self.presence.any() => (Role::Active, format!("{address} is on {interface}")),
            None => (Role::Standby, format!("{address} is not on {interface}")),
        };
        if role == self.role {
            self.reason = why;
            return Vec::new();
        }
        self.enter(now, role, why.clone());
        let severity = if role == Role::Down { Severity::Warning } else { Severity::Info };
        let mut actions = vec![event(severity, RoleName(role).to_string(), why)];
        if let (Role::Active, Some(unready)) = (role, &self.unready) {
            let what = "this node holds the address but cannot serve".to_owned();
            actions.push(event(Severity::Alert, what, unready.clone()));
        }
        actions
    }

    /// Turns what the speaker says into actions.
    fn follow(&mut self, now: Time, said: Vec<speaker::Action<Message>>) -> Vec<Action> {
        let mut actions = Vec::new();
        for action in said {
            match action {
                speaker::Action::BecomeActive(reason) => self.take_over(now, reason, &mut actions),
                speaker::Action::BecomeStandby(reason) => {
                    self.give_up(now, Role::Standby, &reason, &mut actions);
                }
                speaker::Action::BecomeDown(reason) => {
                    self.give_up(now, Role::Down, &reason, &mut actions);
                }
                speaker::Action::Announce => match self.adding {
                    Some(_) => {}
                    None => {
                        self.announce = Some(Self::next_announcement(now, 0));
                        actions.push(Action::Announce);
                    }
                },
                speaker::Action::Send(advert) => match &mut self.adding {
                    Some(pending) if self.role == Role::Active => pending.advert = Some(advert),
                    _ => match &mut self.linger {
                        // The last word comes after the address is gone.
                        Some(linger) if self.role == Role::Standby => linger.last_word = Some(advert),
                        _ => actions.push(Action::SendAdvert(advert)),
                    },
                },
            }
        }
        actions
    }

    fn take_over(&mut self, now: Time, reason: Reason, actions: &mut Vec<Action>) {
        self.enter(now, Role::Active, reason.to_string());
        (self.remove_retry, self.linger, self.last_word) = (None, None, None);
        self.readd_not_before = now;
        if let (Some(prefix), false) = (self.presence.shorter, self.presence.exact) {
            // The owner's own address, or an address that the operator has put there: it serves as it is.
            let (address, interface) = (self.settings.address, &self.settings.interface);
            let what = format!("active: {address}/{prefix} is on {interface} as this node's own");
            actions.push(event(reason.severity(), what, reason.to_string()));
            actions.push(Action::Announce);
            self.announce = Some(Self::next_announcement(now, 0));
            return;
        }
        self.adding = Some(Pending { taken_over: Some(reason), advert: None });
        actions.push(Action::AddAddress);
    }

    fn give_up(&mut self, now: Time, role: Role, reason: &Reason, actions: &mut Vec<Action>) {
        let held = self.role == Role::Active;
        self.enter(now, role, reason.to_string());
        self.announce = None;
        self.last_word = None;
        self.linger = (held && self.ours && reason.has_successor()).then(|| self.begin_linger(now, reason));
        if self.ours && self.linger.is_none() {
            actions.push(Action::RemoveAddress);
        }
        let severity = match role {
            Role::Down if held && self.stopped.is_none() => Severity::Alert,
            Role::Down if self.stopped.is_none() => Severity::Warning,
            _ => reason.severity(),
        };
        let what = match held {
            true => format!("{}: gives up {}", RoleName(role), self.settings.address),
            false => RoleName(role).to_string(),
        };
        actions.push(event(severity, what, reason.to_string()));
    }

    fn enter(&mut self, now: Time, role: Role, reason: String) {
        if self.role != role {
            self.since = now;
        }
        (self.role, self.reason) = (role, reason);
    }

    fn next_announcement(now: Time, done: usize) -> (Time, usize) {
        match ANNOUNCE_AGAIN.get(done) {
            Some(pause) => (now + *pause, done + 1),
            None => (now + ANNOUNCE_REFRESH, done),
        }
    }
}

/// The election that the settings ask for. Our source comes later, with the ground.
fn election(settings: &VipSettings, salt: u64) -> Speaker {
    let source = match settings.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (addresses, preempt) = (vec![settings.address], settings.preempt);
    let version = match settings.protocol {
        Protocol::Vrrp2 => Version::V2,
        Protocol::Vrrp3 => Version::V3,
        Protocol::Carp => {
            return Speaker::Carp(carp::Speaker::new(carp::Settings {
                vhid: settings.id,
                addresses,
                source,
                advbase: u8::try_from(settings.interval.as_secs()).unwrap_or(u8::MAX),
                advskew: carp::advskew_of(settings.priority),
                preempt,
                password: settings.password.clone().unwrap_or_default(),
                counter: salt,
            }));
        }
    };
    let password = |word: &String| Auth::Simple(padded(word));
    Speaker::Vrrp(vrrp::Speaker::new(vrrp::Settings {
        version,
        vrid: settings.id,
        addresses,
        source,
        priority: settings.priority,
        interval_cs: u16::try_from(settings.interval.as_millis() / 10).unwrap_or(u16::MAX),
        preempt,
        auth: settings.password.as_ref().map_or(Auth::None, password),
        checksum: None,
    }))
}

fn frozen_meanwhile(time: Duration) -> String {
    let ms = time.as_millis();
    format!(
        "the guard took it away because this process did not run for {ms} ms; nobody else claims it, so it is added again"
    )
}

fn event(severity: Severity, what: String, why: String) -> Action {
    Action::Event { severity, what, why }
}

struct RoleName(Role);

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Role::Down => "down",
            Role::Standby => "standby",
            Role::Active => "active",
        })
    }
}

#[cfg(test)]
mod tests;
