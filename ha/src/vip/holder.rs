//! The role of this node for one virtual router, and what follows from it for its addresses; pure.
//!
//! ```text
//!   hold mode:   adverts, time --> speaker --+
//!                link, source, sockets ------+
//!                readiness, the stop --------+--> role --> add, remove, announce, advertise, events
//!                what the kernel has --------+
//!   watch mode:  link, what the kernel has ---------> role --> events, nothing else
//! ```
//!
//! **Take-over**: add the addresses; if that worked, announce them, then advertise. The RFC has the advert first, but who
//! cannot add an address must not claim it; and all three are one step, within the millisecond. One that cannot be added
//! is enough to give up all: they move together.
//!
//! **Giving up**: remove the addresses, then say so on the wire. The other way round gains nothing (the new holder waits
//! for its skew time anyway) and loses much: a peer with a short skew would add and announce the address
//! while we still answer ARP for it, and hosts would learn the wrong one last.
//!
//! **Whose address is it?** What we added is ours, and so is a /32 that was there when we became Active (adopted, with an
//! event): from then on it goes when the role goes, for two holders are worse than a surprise. A /32 that is there while
//! we are not Active is removed only if it carries our mark, that is, an earlier process of ours left it; without the mark
//! it is reported and left alone. The address with a shorter prefix is never touched.

mod beat;
mod handover;
mod place;
mod retry;
mod succession;
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
use place::Place;
use retry::Retry;

use super::speaker::{self, Reason, Speaker, carp, vrrp};
use super::{Mode, Protocol, Role, VipSettings, shown};
use crate::events::Severity;
use crate::time::Time;

/// The address is announced when it is taken or was claimed by another, and again after these pauses: a single frame may be
/// lost, and a switch may still be learning.
pub const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The address is announced so often while all is quiet: bounds what a host believes wrongly, whatever the cause.
pub const ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);

/// An address that somebody else removes is added again at most so often: against a daemon that fights us.
pub const READD_SPACING: Duration = Duration::from_secs(1);

/// What waits for addresses to be added.
#[derive(Clone, Debug, Default)]
struct Pending {
    /// The event of the take-over; without it the addresses are only added again.
    taken_over: Option<Reason>,
    advert: Option<Message>,
    /// Those that the kernel has not answered for.
    waiting: Vec<IpAddr>,
    /// Those that were there already.
    adopted: Vec<IpAddr>,
}

/// One virtual router on this node.
#[derive(Clone, Debug)]
pub struct Holder {
    settings: VipSettings,
    speaker: Speaker,
    ground: Ground,
    /// Why this node cannot serve; `None` if it can.
    unready: Option<String>,
    /// Why this holder takes part no more.
    stopped: Option<&'static str>,
    places: Vec<Place>,
    adding: Option<Pending>,
    add_retry: Option<Retry>,
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
    /// Another process of this node holds the address until this one does.
    succeeds: bool,
}

impl Holder {
    /// A holder that waits for its first look at the kernel, and for readiness. `salt` is a random number, for what must
    /// not repeat itself after a restart (the counter of CARP).
    #[must_use]
    pub fn new(now: Time, settings: VipSettings, salt: u64) -> Self {
        let speaker = election(&settings, salt);
        Self {
            places: Place::of(&settings),
            settings,
            speaker,
            ground: Ground::default(),
            unready: Some("starting".to_owned()),
            stopped: None,
            adding: None,
            add_retry: None,
            linger: None,
            last_word: None,
            readd_not_before: Time::ZERO,
            announce: None,
            role: Role::Down,
            reason: "starting".to_owned(),
            since: now,
            succeeds: false,
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

    /// Whether all addresses are on the interface, by what was last said of them.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.places.iter().all(|place| place.presence.any())
    }

    /// Whether some address is on the interface through us.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.places.iter().any(|place| place.ours)
    }

    /// Whether this address is on the interface through us.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.places.iter().any(|place| place.ours && place.address == address)
    }

    /// Another holder looks after these from now on: they are not removed by this one.
    pub fn cede(&mut self, addresses: &[IpAddr]) {
        for place in self.places.iter_mut().filter(|place| addresses.contains(&place.address)) {
            (place.ours, place.remove_retry) = (false, None);
        }
    }

    /// When [`Holder::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let missing = self.lacks_address().then_some(self.readd_not_before);
        let removals = self.places.iter().filter_map(|place| place.remove_retry);
        let retries = removals.chain(self.add_retry).filter_map(|retry| retry.due);
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
            self.places.iter_mut().for_each(Place::vanish);
        }
        self.ground = ground;
        self.settle(now)
    }

    /// What the kernel has of each address, in the order of the settings. Must not be older than the last change that we made
    /// ourselves.
    pub fn presence_seen(&mut self, now: Time, presences: &[Presence]) -> Vec<Action> {
        let mut actions = Vec::new();
        for (which, presence) in presences.iter().enumerate().take(self.places.len()) {
            self.place_seen(which, *presence, &mut actions);
        }
        actions.extend(self.settle(now));
        actions
    }

    fn place_seen(&mut self, which: usize, presence: Presence, actions: &mut Vec<Action>) {
        let Some(place) = self.places.get_mut(which) else { return };
        let before = std::mem::replace(&mut place.presence, presence);
        if self.role == Role::Active || self.succeeds {
            return;
        }
        if self.settings.mode == Mode::Hold && presence.exact && !place.ours {
            let (address, interface) = (place.address, &self.settings.interface);
            if presence.marked {
                place.ours = true;
                let what = format!("removes {address} from {interface}");
                let why = "an earlier process of Cygnet left it there".to_owned();
                actions.extend([event(Severity::Warning, what, why), place.remove()]);
            } else if !before.exact {
                let what = format!("{address} is on {interface} already");
                let why = "this node is not active and has not added it; it is left alone".to_owned();
                actions.push(event(Severity::Warning, what, why));
            }
        }
        if !presence.exact {
            (place.ours, place.remove_retry) = (false, None);
        }
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
        for place in &mut self.places {
            if Retry::begin(&mut place.remove_retry, now) {
                actions.push(place.remove());
            }
        }
        actions.extend(self.settle(now));
        if let Some((_, done)) = self.announce.filter(|(due, _)| *due <= now) {
            self.announce = Some(Self::next_announcement(now, done));
            actions.push(Action::Announce);
        }
        actions
    }

    /// The answer to [`Action::AddAddress`]: whether it was new.
    pub fn added(&mut self, now: Time, address: IpAddr, answer: Result<bool, String>) -> Vec<Action> {
        let Some(place) = self.places.iter_mut().find(|place| place.address == address) else {
            return Vec::new();
        };
        if let Ok(new) = answer {
            place.is_there(new);
        }
        let Some(mut pending) = self.adding.take().filter(|_| self.role == Role::Active) else {
            // Another one of them failed meanwhile.
            return if place.ours && self.role != Role::Active { vec![place.remove()] } else { Vec::new() };
        };
        match answer {
            Ok(new) => {
                pending.waiting.retain(|waiting| *waiting != address);
                pending.adopted.extend((!new).then_some(address));
            }
            Err(error) => return self.failed_to_add(now, address, &error, &pending),
        }
        if pending.waiting.is_empty() {
            return self.added_all(now, pending);
        }
        self.adding = Some(pending);
        Vec::new()
    }

    /// The answer to [`Action::RemoveAddress`].
    pub fn removed(&mut self, now: Time, address: IpAddr, answer: Result<bool, String>) -> Vec<Action> {
        let Some(place) = self.places.iter_mut().find(|place| place.address == address) else {
            return Vec::new();
        };
        match answer {
            Ok(_) => {
                place.is_gone();
                if self.is_ours() {
                    return Vec::new();
                }
                self.last_word.take().map(Action::SendAdvert).into_iter().collect()
            }
            Err(error) => {
                self.last_word = None;
                let first = place.remove_retry.is_none();
                place.remove_retry = Some(Retry::after(now, place.remove_retry));
                if !first {
                    return Vec::new();
                }
                let what = format!("cannot remove {address}: two nodes may hold it");
                vec![event(Severity::Alert, what, error)]
            }
        }
    }

    fn added_all(&mut self, now: Time, pending: Pending) -> Vec<Action> {
        self.add_retry = None;
        let mut actions = Vec::new();
        if let Some(reason) = &pending.taken_over {
            let (all, interface) = (shown(&self.settings.addresses), &self.settings.interface);
            actions.push(event(
                reason.severity(),
                format!("active: holds {all} on {interface}"),
                reason.to_string(),
            ));
            if !pending.adopted.is_empty() {
                let what = format!("adopts {}, which was there already", shown(&pending.adopted));
                let why = "it is removed when this node is active no more".to_owned();
                actions.push(event(Severity::Info, what, why));
            }
        }
        actions.push(Action::Announce);
        self.announce = Some(Self::next_announcement(now, 0));
        actions.extend(pending.advert.map(Action::SendAdvert));
        actions
    }

    /// A node that cannot add the address must not stay Active: it would be a black hole.
    fn failed_to_add(&mut self, now: Time, address: IpAddr, error: &str, pending: &Pending) -> Vec<Action> {
        let first = self.add_retry.is_none();
        self.add_retry = Some(Retry::after(now, self.add_retry));
        let mut actions = Vec::new();
        if first {
            let what = format!("cannot add {address} to {}", self.settings.interface);
            actions.push(event(Severity::Alert, what, error.to_owned()));
        }
        let said = self.speaker.stop(&format!("{address} cannot be added: {error}"));
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
            // Over IPv6 adverts come from the link-local one (RFC 9568 section 5.1.2.1), which the kernel tries out for a second.
            let kind = if self.settings.is_ipv4() { "IPv4" } else { "link-local IPv6" };
            return Some(format!("{interface} has no {kind} address of this node that may be used"));
        }
        if let Some(why) = &self.unready {
            return Some(format!("not ready: {why}"));
        }
        let waits = self.add_retry.is_some_and(|retry| retry.due.is_some());
        waits.then(|| {
            let all = shown(&self.settings.addresses);
            format!("{all} could not be added to {interface}; it is tried again")
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
            None => self.join(now),
        };
        let mut actions = self.follow(now, said);
        if self.lacks_address() && self.readd_not_before <= now {
            actions.extend(
                self.add_again(now, "somebody else removed it; this node is active and adds it again"),
            );
        }
        actions
    }

    /// Adds the addresses that are gone although this node is Active.
    fn add_again(&mut self, now: Time, why: &str) -> Vec<Action> {
        self.readd_not_before = now + READD_SPACING;
        let gone = self.places.iter().filter(|place| !place.presence.any());
        let waiting: Vec<IpAddr> = gone.map(|place| place.address).collect();
        let what = format!("{} was gone from {}", shown(&waiting), self.settings.interface);
        let event = event(Severity::Warning, what, why.to_owned());
        let actions = std::iter::once(event).chain(waiting.iter().copied().map(Action::AddAddress)).collect();
        self.adding = Some(Pending { waiting, ..Pending::default() });
        actions
    }

    /// Active, and free to speak, but the kernel does not have all addresses any more.
    fn lacks_address(&self) -> bool {
        self.settings.mode == Mode::Hold
            && self.role == Role::Active
            && self.speaker.listens().is_none()
            && self.adding.is_none()
            && !self.is_present()
    }

    /// Watch mode: the role is what the kernel shows.
    fn watched(&mut self, now: Time, obstacle: Option<String>) -> Vec<Action> {
        let interface = &self.settings.interface;
        let here: Vec<IpAddr> =
            self.places.iter().filter(|place| place.presence.any()).map(|place| place.address).collect();
        let (role, why) = match obstacle {
            Some(why) => (Role::Down, why),
            None if !here.is_empty() => (Role::Active, format!("{} is on {interface}", shown(&here))),
            None => {
                let all = shown(&self.settings.addresses);
                (Role::Standby, format!("{all} is not on {interface}"))
            }
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
        self.places.iter_mut().for_each(|place| place.remove_retry = None);
        (self.linger, self.last_word) = (None, None);
        self.readd_not_before = now;
        let missing = self.places.iter().filter(|place| !place.is_own()).map(|place| place.address);
        let waiting: Vec<IpAddr> = missing.collect();
        if waiting.is_empty() {
            let (all, interface) = (shown(&self.settings.addresses), &self.settings.interface);
            let what = format!("active: {all} is on {interface} as this node's own");
            actions.push(event(reason.severity(), what, reason.to_string()));
            actions.push(Action::Announce);
            self.announce = Some(Self::next_announcement(now, 0));
            return;
        }
        actions.extend(waiting.iter().copied().map(Action::AddAddress));
        self.adding = Some(Pending { taken_over: Some(reason), waiting, ..Pending::default() });
    }

    fn give_up(&mut self, now: Time, role: Role, reason: &Reason, actions: &mut Vec<Action>) {
        let held = self.role == Role::Active;
        self.enter(now, role, reason.to_string());
        self.announce = None;
        self.last_word = None;
        let lingers = held && self.is_ours() && reason.has_successor();
        self.linger = lingers.then(|| self.begin_linger(now, reason));
        if !lingers {
            actions.extend(self.places.iter().filter(|place| place.ours).map(Place::remove));
        }
        let severity = match role {
            Role::Down if held && self.stopped.is_none() => Severity::Alert,
            Role::Down if self.stopped.is_none() => Severity::Warning,
            _ => reason.severity(),
        };
        let what = match held {
            true => format!("{}: gives up {}", RoleName(role), shown(&self.settings.addresses)),
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
    let source = if settings.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let (addresses, preempt) = (settings.addresses.clone(), settings.preempt);
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
                preempt_delay: settings.preempt_delay,
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
        preempt_delay: settings.preempt_delay,
        auth: settings.password.as_ref().map_or(Auth::None, password),
        checksum: settings.checksum,
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
