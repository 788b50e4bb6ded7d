//! The CARP election, pure. There is no RFC: this follows what OpenBSD, FreeBSD and ucarp do on the wire. The marks of the
//! diagram name where a transition comes from:
//!
//! - \[1\] OpenBSD, manual carp(4) and `sys/netinet/ip_carp.c`: `carp_setrun` (start, stop, the timers), `carp_proto_input_c` (what
//!   an advert does in each state), `carp_send_ad` (the bow-out);
//! - \[2\] FreeBSD, manual carp(4) (`net.inet.carp.preempt`, `net.inet.carp.demotion`) and `sys/netinet/ip_carp.c`: `carp_setrun`,
//!   `carp_input_c`, `carp_master_down_locked`;
//! - \[3\] UCarp 1.5.2, `src/carp.c`: `carp_setrun`, `carp_master_down`, `packethandler` (equals: the lower address wins);
//! - \[4\] ours: what is told below under "As the VRRP speaker does".
//!
//! ```text
//!                     +--------+
//!         +---------->|  Init  |<------------+
//!         | stop      | (Down) |             | stop: a bow-out (advbase 255, advskew 255) [1]
//!         |           +---+----+             |
//!         |               | start [1,2,3]    |
//!  +------+-------+       |           +------+-------+
//!  |    Backup    |<------+           |    Master    |
//!  |  (Standby)   |                   |   (Active)   |
//!  |              +------------------>|              |
//!  |              | silence for 3 x advbase + advskew/256 s [1,2,3];
//!  |              | or at once: a bow-out, a host that is too slow, a worse one if we preempt [1,2,3]
//!  |              |<------------------+              |
//!  +--------------+  a better advert [1,2,3]; the same from a lower address [3]; any, after it was frozen [4]
//! ```
//!
//! Better is the smaller of (demotion, advbase, advskew): OpenBSD looks at the demotion first, the others send 0. Between
//! equals the lower address wins, as with ucarp; the BSDs give way to an equal whoever it is, so one of two stays in
//! every mixture.
//!
//! The timers of a Backup are made of its own advbase and advskew, never of what it heard. Only adverts that passed
//! every check, the HMAC included, come here (the watcher sees to that). advskew, advbase and demotion are not signed, though:
//! who can repeat an advert on the link can change them.
//!
//! As the VRRP speaker does: the loser repeats its claim once after it has dropped the address, so that the winner announces;
//! answers to claims are spaced; who was frozen listens before it acts; and a host of a group ([`crate::vip::group`]) asks before it
//! takes over.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::carp::{AUTHLEN, Advertisement};

use super::{ANSWER_SPACING, Forbearance, Giver, Rank, Reason, STALL_MIN, Wish};
use crate::time::Time;
use crate::vip::Role;

/// What the driver is to do.
pub type Action = super::Action<Advertisement>;

/// The largest advskew that is not a bow-out.
pub const ADVSKEW_MAX: u8 = 254;
/// advbase and advskew of a bow-out (OpenBSD; every implementation takes it for the end).
const BOW_OUT: u8 = 255;
/// So many of its own advbase a Backup waits, and so many must a foreign interval stay below.
const INTERVALS: u32 = 3;

/// The advskew for a priority of VRRP's kind (higher is better): one number in the node's file serves both protocols.
#[must_use]
pub fn advskew_of(priority: u8) -> u8 {
    ADVSKEW_MAX - priority.min(ADVSKEW_MAX)
}

/// What the speaker needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Virtual host identifier, 1..=255.
    pub vhid: u8,
    /// All addresses of the vhid: they are signed.
    pub addresses: Vec<IpAddr>,
    /// Our own address on the interface: the source of our adverts, and what decides between equals.
    pub source: IpAddr,
    /// Seconds, 1..=254.
    pub advbase: u8,
    /// 1/256 s, 0..=254; less is preferred.
    pub advskew: u8,
    /// Whether a worse master is replaced.
    pub preempt: bool,
    /// For so long a worse master is followed before it is replaced.
    pub preempt_delay: Duration,
    /// Signs the adverts.
    pub password: String,
    /// Where the counter begins: a random number, so that no advert of an earlier life is repeated.
    pub counter: u64,
}

#[derive(Clone, Debug)]
enum State {
    Init,
    Backup(Backup),
    Master(Master),
}

#[derive(Clone, Debug)]
struct Backup {
    /// When the timer was set.
    set: Time,
    /// Whose advert set it.
    heard: Option<IpAddr>,
    /// It would take over, but has to ask.
    wish: Option<Wish>,
}

impl Backup {
    fn new(set: Time, heard: Option<IpAddr>) -> Self {
        Self { set, heard, wish: None }
    }
}

#[derive(Clone, Debug)]
struct Master {
    advert_due: Time,
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

/// One vhid of this node.
#[derive(Clone, Debug)]
pub struct Speaker {
    settings: Settings,
    state: State,
    /// We have handed over on purpose: who has it now is not preempted.
    stands_back: bool,
    forbearance: Forbearance,
    /// It does not take over before it is told to.
    asks: bool,
    /// The counter of what is said for us when this process is gone.
    last_counter: u64,
}

impl Speaker {
    /// A host in Init.
    #[must_use]
    pub fn new(mut settings: Settings) -> Self {
        settings.advbase = settings.advbase.clamp(1, BOW_OUT - 1);
        settings.advskew = settings.advskew.min(ADVSKEW_MAX);
        let last_counter = settings.counter.wrapping_add(u64::MAX / 2);
        let forbearance = Forbearance::default();
        Self { settings, state: State::Init, forbearance, stands_back: false, asks: false, last_counter }
    }

    /// The role, in this program's terms.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Init => Role::Down,
            State::Backup(_) => Role::Standby,
            State::Master(_) => Role::Active,
        }
    }

    /// Master, but silent: it was frozen, for so long, and listens whether somebody has taken over.
    #[must_use]
    pub fn listens(&self) -> Option<Duration> {
        match &self.state {
            State::Master(master) => master.frozen,
            State::Init | State::Backup(_) => None,
        }
    }

    /// Between two adverts: advbase + advskew/256 s.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.advbase)) + self.skew()
    }

    /// How long a Backup waits: 3 x advbase + advskew/256 s.
    #[must_use]
    pub fn down_interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.advbase)) * INTERVALS + self.skew()
    }

    /// When [`Speaker::timeout`] wants to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.state {
            State::Init => None,
            State::Backup(Backup { wish: Some(wish), .. }) => Some(wish.again),
            State::Backup(backup) => Some(backup.set + self.down_interval()),
            State::Master(master) if master.answer_owed => {
                Some(master.advert_due.min(master.answer_not_before))
            }
            State::Master(master) => Some(master.advert_due),
        }
    }

    /// Joins as Backup. Does nothing in another state.
    pub fn start(&mut self, now: Time) -> Vec<Action> {
        if !matches!(self.state, State::Init) {
            return Vec::new();
        }
        self.state = State::Backup(Backup::new(now, None));
        vec![Action::BecomeStandby(Reason::Started)]
    }

    /// Goes on as Master where another process of this node does. Does nothing in another state than Init.
    pub fn succeed(&mut self, now: Time) -> Vec<Action> {
        if !matches!(self.state, State::Init) {
            return Vec::new();
        }
        self.become_master(now, Reason::Succeeds)
    }

    /// Leaves; a Master bows out, after the address is gone.
    pub fn stop(&mut self, why: &str) -> Vec<Action> {
        let before = std::mem::replace(&mut self.state, State::Init);
        let down = Action::BecomeDown(Reason::Withdrawn(why.to_owned()));
        match before {
            State::Init => Vec::new(),
            State::Backup(_) => vec![down],
            State::Master(_) => std::iter::once(down).chain(self.signed(BOW_OUT, BOW_OUT)).collect(),
        }
    }

    /// The bow-out of a Master that ends now, for somebody who says it should this process be killed. It has a counter of its own,
    /// which no regular advert reaches, so that it is always the same and no replay.
    #[must_use]
    pub fn resignation(&self) -> Option<Advertisement> {
        matches!(self.state, State::Master(_))
            .then(|| self.advertisement(BOW_OUT, BOW_OUT, self.last_counter))?
    }

    /// A valid advert from another host.
    pub fn advert(&mut self, now: Time, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        let same_family = source.is_ipv4() == self.settings.source.is_ipv4();
        if advert.vhid != self.settings.vhid || !same_family {
            return Vec::new();
        }
        let mut actions = self.notice_a_stall(now);
        match self.state {
            State::Init => {}
            State::Backup(_) => actions.extend(self.advert_in_backup(now, source, advert)),
            State::Master(_) => actions.extend(self.advert_in_master(now, source, advert)),
        }
        actions
    }

    /// The time that [`Speaker::poll_timeout`] named has come. Harmless if it has not.
    pub fn timeout(&mut self, now: Time) -> Vec<Action> {
        let mut actions = self.notice_a_stall(now);
        if self.poll_timeout().is_none_or(|due| now < due) {
            return actions;
        }
        match &self.state {
            State::Init => {}
            State::Backup(backup) => {
                let reason = Reason::Silence { last: backup.heard, waited: now.since(backup.set) };
                actions.extend(self.elected(now, reason));
            }
            State::Master(_) => actions.extend(self.advert_timer(now)),
        }
        actions
    }

    /// When the next regular advert is due, if this host sends any.
    #[must_use]
    pub fn beat_due(&self) -> Option<Time> {
        match &self.state {
            State::Master(master) if master.frozen.is_none() => Some(master.advert_due),
            State::Init | State::Backup(_) | State::Master(_) => None,
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
        if let State::Master(master) = &mut self.state {
            master.advert_due = next;
        }
        self.own_advert().into_iter().find_map(|action| match action {
            Action::Send(advert) => Some(advert),
            _ => None,
        })
    }

    /// Changes the advskew of a running election. A Master tells at once.
    pub fn set_advskew(&mut self, now: Time, advskew: u8) -> Vec<Action> {
        let advskew = advskew.min(ADVSKEW_MAX);
        if advskew == self.settings.advskew {
            return Vec::new();
        }
        self.settings.advskew = advskew;
        self.stands_back = false;
        let next = now + self.interval();
        match &mut self.state {
            State::Master(master) if master.frozen.is_none() => {
                master.advert_due = next;
                self.own_advert()
            }
            State::Master(_) | State::Init | State::Backup(_) => Vec::new(),
        }
    }

    /// The host at `source` is gone for certain: its process has ended, and its addresses with it. A Backup that follows it
    /// takes over: `at_once`, or after the skew that it would add to its interval, when a better one does.
    pub fn bereft(&mut self, now: Time, source: IpAddr, at_once: bool, reason: Reason) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        if !stalled.is_empty() {
            return stalled;
        }
        let (skew, wait) = (self.skew(), self.down_interval());
        let State::Backup(backup) = &mut self.state else { return Vec::new() };
        if backup.heard != Some(source) {
            return Vec::new();
        }
        if at_once {
            return self.elected(now, reason);
        }
        // What is left of its wait is the skew.
        backup.set = now + skew - wait;
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
            State::Init | State::Master(_) => None,
        }
    }

    /// It may take over, if it would.
    pub fn consent(&mut self, now: Time) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        match self.wish().cloned() {
            // Whoever was frozen wishes for nothing any more.
            Some(reason) => self.become_master(now, reason),
            None => stalled,
        }
    }

    /// A Master bows out, and is a Backup from now on.
    pub fn step_down(&mut self, now: Time, why: &str) -> Vec<Action> {
        if !matches!(self.state, State::Master(_)) {
            return Vec::new();
        }
        self.state = State::Backup(Backup::new(now, None));
        let standby = Action::BecomeStandby(Reason::Together(why.to_owned()));
        std::iter::once(standby).chain(self.signed(BOW_OUT, BOW_OUT)).collect()
    }

    /// The Master at `from` hands over to us.
    pub fn take(&mut self, now: Time, from: IpAddr) -> Vec<Action> {
        let stalled = self.notice_a_stall(now);
        match self.state {
            // Whoever was frozen does not know how old that is.
            _ if !stalled.is_empty() => stalled,
            State::Backup(_) => self.inherit(now, from),
            State::Init | State::Master(_) => Vec::new(),
        }
    }

    fn inherit(&mut self, now: Time, from: IpAddr) -> Vec<Action> {
        let actions = self.become_master(now, Reason::Inherits(from));
        let giver = Giver::new(now, from, self.interval());
        if let State::Master(master) = &mut self.state {
            master.giver = Some(giver);
        }
        actions
    }

    /// A Master gives way to the next advert from there; `None`: to better ones only, as always.
    pub fn set_heir(&mut self, heir: Option<IpAddr>) {
        if let State::Master(master) = &mut self.state {
            master.heir = heir;
        }
    }

    /// Our own address on the interface has changed.
    pub fn set_source(&mut self, source: IpAddr) {
        self.settings.source = source;
    }

    /// This process did not run, for so long: whoever was Backup may have taken over.
    pub fn frozen(&mut self, now: Time, late: Duration) -> Vec<Action> {
        let next = now + self.interval();
        match &mut self.state {
            State::Init => Vec::new(),
            State::Backup(backup) => {
                *backup = Backup::new(now, None);
                vec![Action::BecomeStandby(Reason::Stalled { late })]
            }
            State::Master(master) => {
                (master.advert_due, master.answer_owed, master.frozen) = (next, false, Some(late));
                Vec::new()
            }
        }
    }

    fn notice_a_stall(&mut self, now: Time) -> Vec<Action> {
        let Some(due) = self.poll_timeout() else { return Vec::new() };
        let late = now.since(due);
        if late <= self.down_interval().max(STALL_MIN) { Vec::new() } else { self.frozen(now, late) }
    }

    fn skew(&self) -> Duration {
        Duration::from_secs(1) * u32::from(self.settings.advskew) / 256
    }

    fn rank(&self) -> Rank {
        Rank { demote: 0, advbase: self.settings.advbase, advskew: self.settings.advskew }
    }

    fn own_advert(&mut self) -> Vec<Action> {
        self.signed(self.settings.advbase, self.settings.advskew)
    }

    /// An advert with the next counter, unless OpenSSL refuses to sign it (SHA-1 forbidden by policy; the driver has tried
    /// that before it let the election begin).
    fn signed(&mut self, advbase: u8, advskew: u8) -> Vec<Action> {
        self.settings.counter = self.settings.counter.wrapping_add(1);
        let advert = self.advertisement(advbase, advskew, self.settings.counter);
        advert.into_iter().map(Action::Send).collect()
    }

    fn advertisement(&self, advbase: u8, advskew: u8, counter: u64) -> Option<Advertisement> {
        let vhid = self.settings.vhid;
        let mut advert =
            Advertisement { vhid, advskew, authlen: AUTHLEN, demote: 0, advbase, counter, hmac: [0; 20] };
        advert.sign(&self.settings.password, &self.settings.addresses).ok().map(|()| advert)
    }

    fn advert_in_backup(&mut self, now: Time, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        let (own, theirs) = (self.rank(), rank(advert));
        if advert.is_resignation() {
            return self.elected(now, Reason::Resigned(source));
        }
        // Else our timer would end between two of its adverts, again and again.
        let patience = Duration::from_secs(u64::from(self.settings.advbase)) * INTERVALS;
        if Duration::from_secs(u64::from(advert.advbase)) > patience {
            return self.elected(now, Reason::TooSlow { from: source, rank: theirs });
        }
        // OpenBSD: a host that demotes itself wants to be replaced, whoever preempts.
        let preempt = self.settings.preempt
            && !self.stands_back
            && !self.forbearance.lasts(now, self.settings.preempt_delay);
        if own < theirs && (preempt || theirs.demote > own.demote) {
            return self.elected(now, Reason::PreemptsRank { from: source, rank: theirs });
        }
        if own >= theirs {
            self.forbearance.end();
        }
        if let State::Backup(backup) = &mut self.state {
            *backup = Backup::new(now, Some(source));
        }
        Vec::new()
    }

    fn advert_in_master(&mut self, now: Time, source: IpAddr, advert: &Advertisement) -> Vec<Action> {
        let (own, theirs) = (self.rank(), rank(advert));
        if advert.is_resignation() {
            return self.answer_claim(now);
        }
        if let Some(late) = self.listens() {
            self.state = State::Backup(Backup::new(now, Some(source)));
            let bow = self.signed(BOW_OUT, BOW_OUT);
            return std::iter::once(Action::BecomeStandby(Reason::Stalled { late })).chain(bow).collect();
        }
        if let State::Master(Master { giver: Some(giver), .. }) = self.state
            && giver.is_from_before(now, source)
        {
            return Vec::new();
        }
        if let State::Master(Master { heir: Some(heir), .. }) = self.state
            && heir == source
        {
            self.stands_back = true;
            self.state = State::Backup(Backup::new(now, Some(source)));
            return vec![Action::BecomeStandby(Reason::HandedOver(source))];
        }
        let reason = match theirs.cmp(&own) {
            std::cmp::Ordering::Less => Reason::Better { to: source, rank: theirs },
            std::cmp::Ordering::Equal if source < self.settings.source => Reason::LowerAddress(source),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => return self.answer_claim(now),
        };
        self.state = State::Backup(Backup::new(now, Some(source)));
        // The repeated claim of the loser: the winner announces when it hears it.
        std::iter::once(Action::BecomeStandby(reason)).chain(self.own_advert()).collect()
    }

    /// A worse host claims the address, or lets go of it: our advert tells it, the announcement heals what hosts have
    /// learnt.
    fn answer_claim(&mut self, now: Time) -> Vec<Action> {
        let State::Master(master) = &mut self.state else { return Vec::new() };
        if now < master.answer_not_before {
            master.answer_owed = true;
            return Vec::new();
        }
        master.answer_not_before = now + ANSWER_SPACING;
        master.answer_owed = false;
        std::iter::once(Action::Announce).chain(self.own_advert()).collect()
    }

    /// Nobody better is there: takes over, or asks for leave.
    fn elected(&mut self, now: Time, reason: Reason) -> Vec<Action> {
        if !self.asks {
            return self.become_master(now, reason);
        }
        let again = now + self.down_interval();
        if let State::Backup(backup) = &mut self.state {
            backup.wish = Some(Wish { reason, again });
        }
        Vec::new()
    }

    fn become_master(&mut self, now: Time, reason: Reason) -> Vec<Action> {
        self.stands_back = false;
        self.forbearance.end();
        self.state = State::Master(Master {
            advert_due: now + self.interval(),
            answer_not_before: now,
            answer_owed: false,
            frozen: None,
            heir: None,
            giver: None,
        });
        std::iter::once(Action::BecomeActive(reason)).chain(self.own_advert()).collect()
    }

    fn advert_timer(&mut self, now: Time) -> Vec<Action> {
        let interval = self.interval();
        let State::Master(master) = &mut self.state else { return Vec::new() };
        if master.advert_due > now {
            return self.answer_claim(now);
        }
        // From the time that it was due, so that small delays do not add up; unless one is missed altogether.
        let steady = master.advert_due + interval;
        master.advert_due = if steady > now { steady } else { now + interval };
        // Nobody took over while we were frozen; hosts may have lost us all the same.
        let again = master.frozen.take().is_some() || std::mem::take(&mut master.answer_owed);
        again.then_some(Action::Announce).into_iter().chain(self.own_advert()).collect()
    }
}

fn rank(advert: &Advertisement) -> Rank {
    Rank { demote: advert.demote, advbase: advert.advbase, advskew: advert.advskew }
}

#[cfg(test)]
mod tests;
