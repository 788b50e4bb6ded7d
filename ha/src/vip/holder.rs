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

mod adding;
mod beat;
mod election;
mod grouped;
mod handover;
mod obstacle;
mod place;
mod retry;
mod succession;
mod types;
mod watched;

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::Message;

pub use adding::READD_SPACING;
pub use handover::LINGER_MAX;
pub use retry::{RETRY_FIRST, RETRY_MAX};
pub use types::{Action, Ground, Link, Presence};

use adding::Pending;
use election::election;
use handover::Linger;
use place::Place;
use retry::Retry;

use super::speaker::{self, Reason, Speaker};
use super::{Mode, Role, VipSettings, shown};
use crate::events::Severity;
use crate::time::Time;

/// The address is announced when it is taken or was claimed by another, and again after these pauses: a single frame may be
/// lost, and a switch may still be learning.
pub const ANNOUNCE_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// The address is announced so often while all is quiet: bounds what a host believes wrongly, whatever the cause.
pub const ANNOUNCE_REFRESH: Duration = Duration::from_secs(60);

/// One virtual router on this node.
#[derive(Clone, Debug)]
pub struct Holder {
    settings: VipSettings,
    speaker: Speaker,
    ground: Ground,
    /// Why this node cannot serve; `None` if it can.
    unready: Option<String>,
    /// Why its group keeps it out.
    barred: Option<String>,
    /// What is taken over now waits for the group.
    holds_back: bool,
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
        let mut speaker = election(&settings, salt);
        speaker.ask_before(settings.sync_group.is_some());
        Self {
            places: Place::of(&settings),
            settings,
            speaker,
            ground: Ground::default(),
            unready: Some("starting".to_owned()),
            barred: None,
            holds_back: false,
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

    /// Joins or leaves the election as the obstacles say, and puts right what the kernel has.
    fn settle(&mut self, now: Time) -> Vec<Action> {
        let obstacle = self.obstacle().or_else(|| self.barred.clone());
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

    /// Turns what the speaker says into actions.
    fn follow(&mut self, now: Time, said: Vec<speaker::Action<Message>>) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut claimed = true;
        for action in said {
            match action {
                speaker::Action::BecomeActive(reason) => self.take_over(now, reason, &mut actions),
                speaker::Action::BecomeStandby(reason) => {
                    claimed = self.give_up(now, Role::Standby, &reason, &mut actions);
                }
                speaker::Action::BecomeDown(reason) => {
                    claimed = self.give_up(now, Role::Down, &reason, &mut actions);
                }
                speaker::Action::Announce => match self.adding {
                    Some(_) => {}
                    None => {
                        self.announce = Some(Self::next_announcement(now, 0));
                        actions.push(Action::Announce);
                    }
                },
                // Who has claimed nothing has nothing to resign from.
                speaker::Action::Send(_) if !claimed => {}
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
        actions.extend(waiting.iter().copied().map(Action::AddAddress));
        let holds_back = self.holds_back;
        let pending = Pending { taken_over: Some(reason), waiting, holds_back, ..Pending::default() };
        if pending.is_complete() {
            actions.extend(self.added_all(now, pending));
        } else {
            self.adding = Some(pending);
        }
    }

    /// Whether anything was claimed.
    fn give_up(&mut self, now: Time, role: Role, reason: &Reason, actions: &mut Vec<Action>) -> bool {
        let claimed = self.adding.take().is_none_or(|pending| pending.taken_over.is_none());
        let held = self.role == Role::Active && claimed;
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
            true => format!("{}: gives up {}", role.word(), shown(&self.settings.addresses)),
            false => role.word().to_owned(),
        };
        actions.push(event(severity, what, reason.to_string()));
        claimed
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

fn frozen_meanwhile(time: Duration) -> String {
    let ms = time.as_millis();
    format!(
        "the guard took it away because this process did not run for {ms} ms; nobody else claims it, so it is added again"
    )
}

fn event(severity: Severity, what: String, why: String) -> Action {
    Action::Event { severity, what, why }
}

#[cfg(test)]
mod tests;
