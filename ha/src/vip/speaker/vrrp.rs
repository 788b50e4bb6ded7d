//! The VRRP election, version 3 over IPv4 and IPv6 (RFC 9568 section 6.4) and version 2 (RFC 3768 section 6.4), pure: adverts
//! and the time go in, actions come out. The diagram and the section numbers are those of RFC 9568; version 2 has the
//! same states, says "Master" for Active, and differs in its timers: the interval is everybody's own and in whole
//! seconds, and Skew_Time does not depend on it.
//!
//! ```text
//!                        +--------------+
//!         +------------->|  Initialize  |<-------------+
//!         |              |    (Down)    |              |
//!  stop   |              +--+--------+--+              | stop: an advert of priority 0
//! (6.4.2) |       start,    |        |     start,      | (6.4.3)
//!         |    below 255    |        |  priority 255   |
//!         |       (6.4.1)   |        |  (6.4.1)        |
//!  +------+-------+         |        |         +-------+------+
//!  |    Backup    |<--------+        +-------->|    Active    |
//!  |  (Standby)   |                            |              |
//!  |              +--------------------------->|              |
//!  |              |  Active_Down_Timer fires   |              |
//!  |              |  (6.4.2)                   |              |
//!  |              |<---------------------------+              |
//!  +--------------+  a better advert (6.4.3),  +--------------+
//!                or any, after it was frozen
//! ```
//!
//! The speaker restarts timers for the adverts that it is given, and is given only those that passed every check (the
//! watcher sees to that): junk on the wire cannot silence an Active router.
//!
//! Four additions to the RFC, none of which another implementation can notice as a fault:
//! - An Active router that hears a lower claim, or a resignation, not only answers with an advert but announces the
//!   address again: hosts may have learnt the other's MAC.
//! - A router that gives way to a better one repeats its own claim once, *after* it has dropped the address. The better one
//!   answers such a claim by announcing (we do, keepalived does). Without it, a split brain that heals with an advert
//!   of the better router is announced by nobody, and hosts keep the wrong MAC for half a minute.
//! - A router that finds its timer overdue by more than Active_Down_Interval (and [`STALL_MIN`]) was frozen: others may have
//!   acted. A Backup starts with a fresh Active_Down_Timer rather than act on an old one. An Active router claims nothing for
//!   one interval: an advert that it finds in its queue, or hears meanwhile, ends its term; if there is none it goes on,
//!   for nobody took over.
//! - Answers are at least [`ANSWER_SPACING`] apart, however many claims come in.
//!
//! And two things that only nodes of one cluster do with each other, over a connection of their own ([`crate::vip::peers`]):
//! a Backup that is told for certain that the Active router is dead, or is asked to take over, does not wait for its timer
//! (6.4.2, "If the Active_Down_Timer fires"); and an Active router that has asked so gives way to the one that it asked, and to no
//! other, as if that one were better (6.4.3), does not repeat its claim, and stands back from preempting it; what the latter hears
//! from the former meanwhile has crossed its own advert, and is no claim.
//!
//! A router of a group ([`crate::vip::group`]) asks before it becomes Active (6.4.2): it stays a Backup that would, until it is told
//! to, or hears a better one.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::vrrp::{Advertisement, Auth, ChecksumForm, Version};

use super::{ANSWER_SPACING, Forbearance, Giver, Reason, STALL_MIN, Wish};
use crate::time::Time;
use crate::vip::Role;

/// Priority of the address owner (RFC 9568 section 6.1); it preempts always.
pub const PRIORITY_OWNER: u8 = 255;

/// Priority in the advert of an Active router that resigns.
pub const PRIORITY_RESIGNS: u8 = 0;

/// Centiseconds in a second, the unit of version 2.
const CS_PER_SECOND: u16 = 100;

/// The longest interval that fits the 12 bits of the field, in centiseconds.
pub const INTERVAL_CS_MAX: u16 = 4095;

/// What the speaker needs to know of its virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The version to speak; adverts of the other one are not for us.
    pub version: Version,
    /// Virtual router identifier, 1..=255.
    pub vrid: u8,
    /// The virtual addresses, in the order in which they are advertised. Over IPv6 the first should be link-local (RFC
    /// 9568 section 5.2.9).
    pub addresses: Vec<IpAddr>,
    /// Our primary address on the interface (IPv6: the link-local one): the source of our adverts, and what decides between
    /// equal priorities.
    pub source: IpAddr,
    /// 1..=254, or 255 for the owner. Zero counts as 1.
    pub priority: u8,
    /// Advertisement_Interval in centiseconds, 1..=4095 (version 2: whole seconds, 100..=25500); what lies outside counts
    /// as the nearest bound.
    pub interval_cs: u16,
    /// Preempt_Mode.
    pub preempt: bool,
    /// For so long a lower Active router is followed before it is preempted. Not in the RFC; an owner does not wait.
    pub preempt_delay: Duration,
    /// What the adverts carry, version 2 only.
    pub auth: Auth,
    /// The checksum form to send in version 3 over IPv4; `None`: as the router that was heard last.
    pub checksum: Option<ChecksumForm>,
}

/// What the driver is to do.
pub type Action = super::Action<Advertisement>;

/// The state of RFC 9568 section 6.4 with the timer that runs in it.
#[derive(Clone, Debug)]
enum State {
    /// Section 6.4.1.
    Initialize,
    /// Section 6.4.2.
    Backup(Backup),
    /// Section 6.4.3.
    Active(Active),
}

#[derive(Clone, Debug)]
struct Backup {
    /// When the Active_Down_Timer was set.
    set: Time,
    /// The Active router resigned: the timer runs for Skew_Time only.
    resigned: Option<IpAddr>,
    /// Whose advert set the timer.
    heard: Option<IpAddr>,
    /// The last advert that was ignored because its priority is lower than ours.
    lower: Option<(IpAddr, u8)>,
    /// It would take over, but has to ask.
    wish: Option<Wish>,
}

impl Backup {
    fn fresh(now: Time) -> Self {
        Self { set: now, resigned: None, heard: None, lower: None, wish: None }
    }
}

#[derive(Clone, Debug)]
struct Active {
    /// When the Adver_Timer fires.
    advert_due: Time,
    /// Before this time no answer goes out.
    answer_not_before: Time,
    /// A claim came within the pause; it is answered when the pause is over.
    answer_owed: bool,
    /// We were frozen, by so much, and listen until `advert_due` whether somebody has taken over.
    frozen: Option<Duration>,
    /// Whom we have asked to take over.
    heir: Option<IpAddr>,
    /// Who has asked us.
    giver: Option<Giver>,
}

/// One virtual router of this node.
#[derive(Clone, Debug)]
pub struct Speaker {
    settings: Settings,
    state: State,
    /// Active_Adver_Interval: the Active router's interval, our own until one is heard.
    active_interval: Duration,
    /// The checksum form that we send: as the last router that we heard. keepalived's at first, for it is the most common
    /// peer and accepts no other.
    checksum: ChecksumForm,
    /// We have handed over on purpose: who has it now is not preempted.
    stands_back: bool,
    forbearance: Forbearance,
    /// It does not take over before it is told to.
    asks: bool,
}

impl Speaker {
    /// A virtual router in Initialize.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        settings.priority = settings.priority.max(1);
        settings.interval_cs = match settings.version {
            Version::V3 => settings.interval_cs.clamp(1, INTERVAL_CS_MAX),
            // What the field can say, so that what is sent is what we go by.
            Version::V2 => (settings.interval_cs / CS_PER_SECOND).clamp(1, 255) * CS_PER_SECOND,
        };
        let active_interval = centiseconds(settings.interval_cs);
        let checksum = settings.checksum.unwrap_or(ChecksumForm::PseudoHeader);
        Self {
            settings,
            state: State::Initialize,
            active_interval,
            checksum,
            forbearance: Forbearance::default(),
            stands_back: false,
            asks: false,
        }
    }

    /// The role, in this program's terms.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Initialize => Role::Down,
            State::Backup(_) => Role::Standby,
            State::Active(_) => Role::Active,
        }
    }

    /// Active, but silent: it was frozen, for so long, and listens whether somebody has taken over.
    #[must_use]
    pub fn listens(&self) -> Option<Duration> {
        match &self.state {
            State::Active(active) => active.frozen,
            State::Initialize | State::Backup(_) => None,
        }
    }

    /// The settings, with the priority of this moment.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Skew_Time (RFC 9568 section 6.1), exact rather than in whole centiseconds: at an interval of 10 ms these would
    /// make all priorities equal. In version 2 it is a part of one second, whatever the interval (RFC 3768 section 6.1).
    #[must_use]
    pub fn skew(&self) -> Duration {
        let whole = match self.settings.version {
            Version::V3 => self.active_interval,
            Version::V2 => Duration::from_secs(1),
        };
        whole * (256 - u32::from(self.settings.priority)) / 256
    }

    /// Active_Down_Interval (RFC 9568 section 6.1).
    #[must_use]
    pub fn active_down_interval(&self) -> Duration {
        self.active_interval * 3 + self.skew()
    }

    /// When [`Speaker::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Initialize => None,
            State::Backup(Backup { wish: Some(wish), .. }) => Some(wish.again),
            State::Backup(backup) => Some(backup.set + self.down_wait(backup)),
            State::Active(active) if active.answer_owed => {
                Some(active.advert_due.min(active.answer_not_before))
            }
            State::Active(active) => Some(active.advert_due),
        }
    }

    /// Startup (RFC 9568 section 6.4.1). Does nothing in another state.
    pub fn start(&mut self, now: Time) -> Vec<Action> {
        if !matches!(self.state, State::Initialize) {
            return Vec::new();
        }
        self.active_interval = self.interval();
        if self.settings.priority == PRIORITY_OWNER {
            return self.become_active(now, Reason::Owner);
        }
        self.state = State::Backup(Backup::fresh(now));
        vec![Action::BecomeStandby(Reason::Started)]
    }

    /// Goes on in Active where another process of this node does: no state of the RFC's, for to the others it is one router that
    /// advertises all the while. Does nothing in another state than Initialize.
    pub fn succeed(&mut self, now: Time) -> Vec<Action> {
        if !matches!(self.state, State::Initialize) {
            return Vec::new();
        }
        self.become_active(now, Reason::Succeeds)
    }

    /// Shutdown (RFC 9568 sections 6.4.2 and 6.4.3): an Active router resigns. The address goes first, then the advert;
    /// `holder` says why.
    pub fn stop(&mut self, why: &str) -> Vec<Action> {
        let before = std::mem::replace(&mut self.state, State::Initialize);
        let down = Action::BecomeDown(Reason::Withdrawn(why.to_owned()));
        match before {
            State::Initialize => Vec::new(),
            State::Backup(_) => vec![down],
            State::Active(_) => vec![down, Action::Send(self.advertisement(PRIORITY_RESIGNS))],
        }
    }

    /// What an Active router would say if it ended now (RFC 9568 section 6.4.3): for somebody who says it should this process be
    /// killed.
    #[must_use]
    pub fn resignation(&self) -> Option<Advertisement> {
        matches!(self.state, State::Active(_)).then(|| self.advertisement(PRIORITY_RESIGNS))
    }

    /// A valid advert from another router.
    pub fn advert(&mut self, now: Time, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        let same_family = source.is_ipv4() == self.settings.source.is_ipv4();
        if advert.version != self.settings.version || advert.vrid != self.settings.vrid || !same_family {
            return Vec::new();
        }
        let mut actions = self.notice_a_stall(now);
        match self.state {
            State::Initialize => return actions,
            State::Backup(_) => self.advert_in_backup(now, source, advert),
            State::Active(_) => actions.extend(self.advert_in_active(now, source, advert)),
        }
        self.checksum = self.settings.checksum.unwrap_or(advert.checksum);
        actions
    }

    /// The time that [`Speaker::poll_timeout`] named has come. Harmless if it has not.
    pub fn timeout(&mut self, now: Time) -> Vec<Action> {
        let mut actions = self.notice_a_stall(now);
        if self.poll_timeout().is_none_or(|due| now < due) {
            return actions;
        }
        match self.state.clone() {
            State::Initialize => {}
            State::Backup(backup) => actions.extend(self.active_down_timer(now, &backup)),
            State::Active(active) => actions.extend(self.adver_timer(now, active)),
        }
        actions
    }

    /// When the next regular advert is due, if this router sends any.
    #[must_use]
    pub fn beat_due(&self) -> Option<Time> {
        match &self.state {
            State::Active(active) if active.frozen.is_none() => Some(active.advert_due),
            State::Initialize | State::Backup(_) | State::Active(_) => None,
        }
    }

    /// The regular advert alone, if it is due: for a driver that waits for something else, and must not fall silent meanwhile.
    /// One that is so late that this process must have been frozen is left to [`Speaker::timeout`].
    pub fn beat(&mut self, now: Time) -> Option<Advertisement> {
        let due = self.beat_due().filter(|due| *due <= now)?;
        if now.since(due) > self.interval() {
            return None;
        }
        let next = due + self.interval();
        if let State::Active(active) = &mut self.state {
            active.advert_due = next;
        }
        Some(self.advertisement(self.settings.priority))
    }

    /// Changes the priority of a running election (1..=255). An Active router tells at once, so that a better one need not
    /// wait; the timer of a Backup runs on from where it was set, with the new skew.
    pub fn set_priority(&mut self, now: Time, priority: u8) -> Vec<Action> {
        let priority = priority.max(1);
        if priority == self.settings.priority {
            return Vec::new();
        }
        self.settings.priority = priority;
        self.stands_back = false;
        let next = now + self.interval();
        let own = self.advertisement(priority);
        match &mut self.state {
            // It claims nothing yet.
            State::Active(Active { frozen: Some(_), .. }) => Vec::new(),
            State::Active(active) => {
                active.advert_due = next;
                vec![Action::Send(own)]
            }
            State::Initialize | State::Backup(_) => Vec::new(),
        }
    }

    /// The router at `source` is gone for certain: its process has ended, and its addresses with it. A Backup that follows it
    /// takes over: `at_once`, or as after a resignation, when a better one does.
    pub fn bereft(&mut self, now: Time, source: IpAddr, at_once: bool, reason: Reason) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        if !stalled.is_empty() {
            return stalled;
        }
        let State::Backup(backup) = &mut self.state else { return Vec::new() };
        let lower = backup.lower.map(|(source, _)| source);
        if ![backup.heard, lower, backup.resigned].contains(&Some(source)) {
            return Vec::new();
        }
        if at_once {
            return self.elected(now, reason);
        }
        *backup = Backup { resigned: Some(source), ..Backup::fresh(now) };
        Vec::new()
    }

    /// Whether a Backup takes over only when it is told to.
    pub fn ask_before(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// Why this Backup would take over, if it would.
    #[must_use]
    pub fn wish(&self) -> Option<&Reason> {
        match &self.state {
            State::Backup(backup) => backup.wish.as_ref().map(|wish| &wish.reason),
            State::Initialize | State::Active(_) => None,
        }
    }

    /// It may take over, if it would.
    pub fn consent(&mut self, now: Time) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        match self.wish().cloned() {
            // Whoever was frozen wishes for nothing any more.
            Some(reason) => self.become_active(now, reason),
            None => stalled,
        }
    }

    /// An Active router resigns, and is a Backup from now on.
    pub fn step_down(&mut self, now: Time, why: &str) -> Vec<Action> {
        if !matches!(self.state, State::Active(_)) {
            return Vec::new();
        }
        self.state = State::Backup(Backup::fresh(now));
        let resigns = Action::Send(self.advertisement(PRIORITY_RESIGNS));
        vec![Action::BecomeStandby(Reason::Together(why.to_owned())), resigns]
    }

    /// The Active router at `from` hands over to us.
    pub fn take(&mut self, now: Time, from: IpAddr) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        match self.state {
            // Whoever was frozen does not know how old that is.
            _ if !stalled.is_empty() => stalled,
            State::Backup(_) => self.inherit(now, from),
            State::Initialize | State::Active(_) => Vec::new(),
        }
    }

    fn inherit(&mut self, now: Time, from: IpAddr) -> Vec<Action> {
        let actions = self.become_active(now, Reason::Inherits(from));
        let giver = Giver::new(now, from, self.interval());
        if let State::Active(active) = &mut self.state {
            active.giver = Some(giver);
        }
        actions
    }

    /// An Active router gives way to the next advert from there; `None`: to better ones only, as always.
    pub fn set_heir(&mut self, heir: Option<IpAddr>) {
        if let State::Active(active) = &mut self.state {
            active.heir = heir;
        }
    }

    /// Our primary address on the interface has changed.
    pub fn set_source(&mut self, source: IpAddr) {
        self.settings.source = source;
    }

    /// Advertisement_Interval.
    fn interval(&self) -> Duration {
        centiseconds(self.settings.interval_cs)
    }

    /// How long the Active_Down_Timer runs.
    fn down_wait(&self, backup: &Backup) -> Duration {
        if backup.resigned.is_some() { self.skew() } else { self.active_down_interval() }
    }

    fn advertisement(&self, priority: u8) -> Advertisement {
        Advertisement {
            version: self.settings.version,
            vrid: self.settings.vrid,
            priority,
            interval_cs: self.settings.interval_cs,
            addresses: self.settings.addresses.clone(),
            auth: if self.settings.version == Version::V2 { self.settings.auth } else { Auth::None },
            checksum: self.checksum,
        }
    }

    /// Not in the RFC: a timer that is overdue by more than Active_Down_Interval says that we did not run. Whoever was
    /// Backup may have taken over by now, so the old timers are worth nothing.
    fn notice_a_stall(&mut self, now: Time) -> Vec<Action> {
        let Some(due) = self.poll_timeout() else { return Vec::new() };
        let late = now.since(due);
        if late <= self.active_down_interval().max(STALL_MIN) {
            return Vec::new();
        }
        self.frozen(now, late)
    }

    /// This process did not run, for so long: whoever was Backup may have taken over.
    pub fn frozen(&mut self, now: Time, late: Duration) -> Vec<Action> {
        let next = now + self.interval();
        match &mut self.state {
            State::Initialize => Vec::new(),
            State::Backup(backup) => {
                *backup = Backup::fresh(now);
                vec![Action::BecomeStandby(Reason::Stalled { late })]
            }
            State::Active(active) => {
                (active.advert_due, active.answer_owed, active.frozen) = (next, false, Some(late));
                Vec::new()
            }
        }
    }

    /// Somebody holds the address since we were frozen. Our kernel answered ARP for it all the while: the new holder
    /// announces again when it hears that we resign.
    fn give_way(&mut self, now: Time, late: Duration, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        self.state = State::Backup(Backup::fresh(now));
        self.advert_in_backup(now, source, advert);
        vec![
            Action::BecomeStandby(Reason::Stalled { late }),
            Action::Send(self.advertisement(PRIORITY_RESIGNS)),
        ]
    }

    /// RFC 9568 section 6.4.2, "If an ADVERTISEMENT is received".
    fn advert_in_backup(&mut self, now: Time, source: IpAddr, advert: &Advertisement) {
        let preempt = self.settings.preempt || self.settings.priority == PRIORITY_OWNER;
        let preempt = preempt && !self.stands_back;
        let own_priority = self.settings.priority;
        let State::Backup(backup) = &mut self.state else { return };
        if advert.priority == PRIORITY_RESIGNS {
            *backup = Backup { resigned: Some(source), ..Backup::fresh(now) };
        } else if preempt
            && advert.priority < own_priority
            && (own_priority == PRIORITY_OWNER || !self.forbearance.lasts(now, self.settings.preempt_delay))
        {
            backup.lower = Some((source, advert.priority));
        } else {
            if advert.priority >= own_priority {
                self.forbearance.end();
            }
            *backup = Backup { heard: Some(source), ..Backup::fresh(now) };
            self.adopt_interval(advert);
        }
    }

    /// RFC 9568 section 6.4.3, "If an ADVERTISEMENT is received".
    fn advert_in_active(&mut self, now: Time, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        let own = (self.settings.priority, self.settings.source);
        if let State::Active(Active { frozen: Some(late), .. }) = self.state
            && advert.priority != PRIORITY_RESIGNS
        {
            return self.give_way(now, late, source, advert);
        }
        if advert.priority == PRIORITY_RESIGNS {
            return self.answer_claim(now, true);
        }
        if let State::Active(Active { giver: Some(giver), .. }) = self.state
            && giver.is_from_before(now, source)
        {
            return Vec::new();
        }
        if let State::Active(Active { heir: Some(heir), .. }) = self.state
            && heir == source
        {
            self.stands_back = true;
            self.state = State::Backup(Backup { heard: Some(source), ..Backup::fresh(now) });
            self.adopt_interval(advert);
            return vec![Action::BecomeStandby(Reason::HandedOver(source))];
        }
        if (advert.priority, source) <= own {
            return self.answer_claim(now, false);
        }
        let reason = if advert.priority > own.0 {
            Reason::Higher { to: source, priority: advert.priority }
        } else {
            Reason::HigherAddress(source)
        };
        self.state = State::Backup(Backup { heard: Some(source), ..Backup::fresh(now) });
        self.adopt_interval(advert);
        // The repeated claim of the loser: see the top of this file.
        vec![Action::BecomeStandby(reason), Action::Send(self.advertisement(own.0))]
    }

    /// RFC 9568 section 6.4.3: an advert at once, "to assert the Active state"; and the announcement, which heals what
    /// hosts have learnt from the other.
    fn answer_claim(&mut self, now: Time, restart: bool) -> Vec<Action> {
        let advert = self.advertisement(self.settings.priority);
        let next = now + self.interval();
        let State::Active(active) = &mut self.state else { return Vec::new() };
        if now < active.answer_not_before {
            active.answer_owed = true;
            return Vec::new();
        }
        active.answer_not_before = now + ANSWER_SPACING;
        active.answer_owed = false;
        if restart {
            active.advert_due = next;
        }
        vec![Action::Announce, Action::Send(advert)]
    }

    /// Sections 6.4.2 and 6.4.3: Active_Adver_Interval is what the Active router says; Skew_Time and
    /// Active_Down_Interval follow from it. Zero says nothing, so that our own stands.
    fn adopt_interval(&mut self, advert: &Advertisement) {
        self.active_interval = match advert.interval_cs {
            // Version 2: everybody's own, and a differing one is not valid (RFC 3768 section 7.1).
            _ if self.settings.version == Version::V2 => self.interval(),
            0 => self.interval(),
            said => centiseconds(said),
        };
    }

    /// RFC 9568 section 6.4.2, "If the Active_Down_Timer fires".
    fn active_down_timer(&mut self, now: Time, backup: &Backup) -> Vec<Action> {
        let reason = match (backup.resigned, backup.lower) {
            (Some(source), _) => Reason::Resigned(source),
            (None, Some((from, priority))) => Reason::Preempts { from, priority },
            (None, None) => Reason::Silence { last: backup.heard, waited: now.since(backup.set) },
        };
        self.elected(now, reason)
    }

    /// Nobody better is there: takes over, or asks for leave.
    fn elected(&mut self, now: Time, reason: Reason) -> Vec<Action> {
        if !self.asks {
            return self.become_active(now, reason);
        }
        let again = now + self.active_down_interval();
        if let State::Backup(backup) = &mut self.state {
            backup.wish = Some(Wish { reason, again });
        }
        Vec::new()
    }

    /// Transition to Active: sections 6.4.1 and 6.4.2 alike.
    fn become_active(&mut self, now: Time, reason: Reason) -> Vec<Action> {
        self.forbearance.end();
        self.active_interval = self.interval();
        self.stands_back = false;
        self.state = State::Active(Active {
            advert_due: now + self.interval(),
            answer_not_before: now,
            answer_owed: false,
            frozen: None,
            heir: None,
            giver: None,
        });
        // The holder adds and announces the address before the advert goes out; the RFC has the advert first, but a router
        // that cannot add the address must not have claimed it.
        vec![Action::BecomeActive(reason), Action::Send(self.advertisement(self.settings.priority))]
    }

    /// RFC 9568 section 6.4.3, "If the Adver_Timer fires", and the answer that is owed.
    fn adver_timer(&mut self, now: Time, mut active: Active) -> Vec<Action> {
        let mut actions = Vec::new();
        if active.answer_owed && active.answer_not_before <= now {
            actions = self.answer_claim(now, false);
        }
        if active.advert_due <= now {
            // From the time that it was due, so that small delays do not add up; unless one is missed altogether.
            let steady = active.advert_due + self.interval();
            active.advert_due = if steady > now { steady } else { now + self.interval() };
            if let State::Active(current) = &mut self.state {
                current.advert_due = active.advert_due;
                // Nobody took over while we were frozen; hosts may have lost us all the same.
                if current.frozen.take().is_some() {
                    actions.push(Action::Announce);
                    actions.push(Action::Send(self.advertisement(self.settings.priority)));
                }
            }
            if actions.is_empty() {
                actions.push(Action::Send(self.advertisement(self.settings.priority)));
            }
        }
        actions
    }
}

/// A duration in the protocol's unit.
fn centiseconds(count: u16) -> Duration {
    Duration::from_millis(u64::from(count) * 10)
}

#[cfg(test)]
mod tests;
