//! One virtual router as it is heard: who holds it, who claims it besides, until when.
//!
//! ```text
//!              valid advertisement                 better one (preempted), or any while
//!   nobody ─────────────────────────▶ holder H ──▶ H is overdue (timed out): holder X
//!     ▲                                 │  ▲
//!     │  H resigns or times out,        │  │ any other: X is a second holder (rival) beside H, until it
//!     └──── no rival is left ───────────┘  └─ resigns or is silent; a rival that is left takes H's place
//! ```
//!
//! Who was preempted is no rival for its last word: one claim within one interval.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::vrrp::Auth;
use cygnet_netlink::wire::{Mac, Message};

use super::event::{Anomaly, Change, WatchEvent};
use super::neighbour::{self, Answer, Neighbours};
use super::rhythm::Rhythm;
use super::sender::{Claim, Sender};
use super::tally::Tallies;
use super::{Counters, Reason, WatchSettings};
use crate::time::Time;
use crate::vip::Protocol;

/// How many senders of one virtual router are remembered; with more, the one heard longest ago is forgotten, but
/// never the holder.
pub const SENDERS_KEPT: usize = 16;
/// So many changes from one node to another ...
pub const FLAPPING_CHANGES: usize = 4;
/// ... within this time are reported as flapping.
pub const FLAPPING_WINDOW: Duration = Duration::from_secs(30);
/// After so many intervals without any valid advertisement since the start it is said that nothing is heard.
const NOTHING_HEARD_INTERVALS: u32 = 4;

/// Who holds a virtual address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The source of its advertisements: the node's identity, whatever the MAC.
    pub source: IpAddr,
    /// Priority (VRRP) or advskew (CARP).
    pub priority: u8,
    /// Since when it holds.
    pub since: Time,
    /// When its last valid advertisement came.
    pub heard: Time,
}

/// What is known of one virtual router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterView {
    /// Who holds it, `None` if nobody is heard.
    pub holder: Option<Holder>,
    /// Who else claims it at this moment, in ascending order.
    pub rivals: Vec<IpAddr>,
    /// Valid advertisements.
    pub valid: u64,
    /// How regular the holder's advertisements are, since it holds the address.
    pub rhythm: Rhythm,
    /// Who says by ARP or neighbour advertisement that it has the address; at most [`neighbour::ANSWERS_KEPT`].
    pub answers: Vec<Answer>,
    /// What was wrong, by name.
    pub anomalies: Tallies,
    /// Discarded packets that carried its number.
    pub discarded: Counters,
}

#[derive(Clone, Debug)]
pub(super) struct Router {
    pub(super) settings: WatchSettings,
    pub(super) view: RouterView,
    senders: Vec<Sender>,
    last_holder: Option<(IpAddr, Time)>,
    /// Who was preempted, and when, until it has spoken once more.
    displaced: Option<(IpAddr, Time)>,
    neighbours: Neighbours,
    changes: VecDeque<Time>,
    nothing_heard_at: Option<Time>,
}

impl Router {
    pub(super) fn new(settings: WatchSettings) -> Self {
        Self {
            settings,
            view: RouterView::default(),
            senders: Vec::new(),
            last_holder: None,
            displaced: None,
            neighbours: Neighbours::default(),
            changes: VecDeque::new(),
            nothing_heard_at: None,
        }
    }

    pub(super) fn start(&mut self, now: Time) {
        if self.view.valid == 0 && self.nothing_heard_at.is_none() {
            self.nothing_heard_at =
                Some(now + self.settings.interval.saturating_mul(NOTHING_HEARD_INTERVALS));
        }
    }

    /// Whether a well-formed message is one of this virtual router and of a sender that may send it.
    pub(super) fn check(
        &self,
        now: Time,
        mac: Mac,
        source: IpAddr,
        message: &Message,
    ) -> Result<Claim, Reason> {
        match message {
            Message::Carp(carp) => {
                let password = self.settings.password.as_deref().unwrap_or_default();
                if !carp.verify(password, &self.settings.addresses) {
                    return Err(Reason::Hmac);
                }
            }
            Message::Vrrp(vrrp) => {
                if self.settings.protocol == Protocol::Vrrp2 {
                    check_auth(self.settings.password.as_deref(), &vrrp.auth)?;
                    if Duration::from_millis(10) * u32::from(vrrp.interval_cs) != self.settings.interval {
                        return Err(Reason::IntervalMismatch);
                    }
                }
                if !same_set(&vrrp.addresses, &self.settings.addresses) {
                    return Err(Reason::AddressMismatch);
                }
            }
        }
        let claim = Claim::of(message, source.is_ipv4(), self.settings.interval);
        if let Some(sender) = self.sender(source) {
            let last_counters = self.senders.iter().filter_map(Sender::last_counter);
            sender.accepts(now, mac, &claim, last_counters)?;
        }
        Ok(claim)
    }

    fn sender(&self, source: IpAddr) -> Option<&Sender> {
        self.senders.iter().find(|sender| sender.source == source)
    }

    /// Takes in a checked advertisement; the anomalies that it shows are returned.
    pub(super) fn hear(
        &mut self,
        (now, index): (Time, usize),
        mac: Mac,
        source: IpAddr,
        claim: Claim,
        events: &mut Vec<WatchEvent>,
    ) -> Vec<Anomaly> {
        self.view.valid += 1;
        self.nothing_heard_at = None;
        let mut anomalies = Vec::new();
        let differs = |other: &Sender| other.source != source && other.claim.form != claim.form;
        let is_news = self.sender(source).is_none_or(|known| known.claim.form != claim.form);
        if is_news && self.senders.iter().any(differs) {
            anomalies.push(Anomaly::MixedChecksums);
        }
        let configured = self.settings.interval;
        if claim.told != configured && !claim.resigns {
            anomalies.push(Anomaly::OtherInterval { told: claim.told, configured });
        }
        let Some(at) = self.senders.iter().position(|sender| sender.source == source) else {
            // A stranger's resignation says nothing and is not remembered.
            if !claim.resigns {
                self.admit(index, Sender::new(now, source, mac, claim), events);
                self.claim(now, index, source, events);
            }
            return anomalies;
        };
        let before = self.senders[at].claim.priority;
        if self.senders[at].update(now, mac, claim) {
            anomalies.push(Anomaly::OtherMac);
        }
        if claim.resigns {
            self.resign(now, index, source, events);
            return anomalies;
        }
        let held_on = self.view.holder.is_some_and(|holder| holder.source == source);
        if self.view.holder.is_some_and(|holder| holder.source == source) && before != claim.priority {
            events.push(WatchEvent::PriorityChanged {
                router: index,
                holder: source,
                from: before,
                to: claim.priority,
            });
        }
        self.claim(now, index, source, events);
        if held_on && self.view.holder.is_some_and(|holder| holder.source == source) {
            anomalies.extend(self.neighbours.holder_advertised().map(Anomaly::OtherAnswers));
        }
        anomalies
    }

    /// Somebody says by ARP or neighbour advertisement that it has the address.
    pub(super) fn answered(&mut self, now: Time, mac: Mac) -> Option<Anomaly> {
        neighbour::note(&mut self.view.answers, now, mac);
        let speakers = || self.senders.iter().filter(|sender| sender.active);
        if neighbour::is_virtual(mac) || speakers().any(|sender| sender.mac == mac) {
            return None;
        }
        if !self.view.rivals.is_empty() {
            // Two speak, and that is said; which of them this is cannot be known.
            self.neighbours.explained();
            return None;
        }
        let by_adverts = speakers().all(|sender| !neighbour::is_virtual(sender.mac));
        let settled = now.since(self.view.holder?.since) > self.usual_interval() * 2;
        self.neighbours.claimed(mac, by_adverts, settled).map(Anomaly::OtherAnswers)
    }

    fn admit(&mut self, index: usize, sender: Sender, events: &mut Vec<WatchEvent>) {
        if self.senders.len() == SENDERS_KEPT {
            let holder = self.view.holder.map(|holder| holder.source);
            let others = self.senders.iter().enumerate().filter(|(_, sender)| Some(sender.source) != holder);
            let oldest = others.min_by_key(|(_, sender)| sender.heard).map(|(at, _)| at);
            let gone = self.senders.swap_remove(oldest.unwrap_or(0));
            self.lose_rival(index, gone.source, events);
        }
        self.senders.push(sender);
    }

    /// `source` has said that it holds the address.
    fn claim(&mut self, now: Time, index: usize, source: IpAddr, events: &mut Vec<WatchEvent>) {
        let Some(claimant) = self.senders.iter_mut().find(|sender| sender.source == source) else { return };
        claimant.active = true;
        let rank = claimant.claim.rank;
        let holder = self.view.holder.map(|holder| holder.source);
        let Some(holder) = holder.and_then(|holder| self.sender(holder)) else {
            self.install(now, index, source, None, events);
            return;
        };
        if holder.source == source {
            self.refresh_holder(source);
            self.prefer_better_rival(now, index, rank, events);
            return;
        }
        let overdue = now.since(holder.heard) > holder.claim.overdue_after();
        let (held_by, change) = (holder.source, if overdue { Change::TimedOut } else { Change::Preempted });
        let better = rank > holder.claim.rank;
        if overdue || better {
            self.set_active(held_by, false);
            self.install(now, index, source, Some((held_by, change)), events);
            let says_a_last_word = better && self.settings.protocol != Protocol::Carp;
            self.displaced = says_a_last_word.then_some((held_by, now));
        } else if self.is_last_word(now, source) {
            self.set_active(source, false);
        } else if !self.view.rivals.contains(&source) {
            self.view.rivals.push(source);
            self.view.rivals.sort_unstable();
            self.neighbours.explained();
            events.push(WatchEvent::SecondHolder { router: index, holder: held_by, rival: source });
        }
    }

    /// Whoever was just preempted may speak once more, within one interval: it repeats its claim so that the better one
    /// announces the address again (we do; keepalived with `higher_prio_send_advert`), or its advert and the better one's
    /// have crossed. Not with CARP: ucarp notices up to a second late, and holds the address until then.
    fn is_last_word(&mut self, now: Time, source: IpAddr) -> bool {
        let Some((_, since)) = self.displaced.filter(|(displaced, _)| *displaced == source) else {
            return false;
        };
        self.displaced = None;
        let claimed = self.sender(source).map(|sender| sender.claim.interval);
        now.since(since) <= self.usual_interval().min(claimed.unwrap_or_default())
    }

    /// An interval that is known to be in use.
    fn usual_interval(&self) -> Duration {
        let holder = self.view.holder.and_then(|holder| self.sender(holder.source));
        holder.map_or(self.settings.interval, |holder| holder.claim.interval.max(self.settings.interval))
    }

    /// The holder has lowered itself below a rival.
    fn prefer_better_rival(&mut self, now: Time, index: usize, rank: u32, events: &mut Vec<WatchEvent>) {
        let Some((best, held_by)) = self.best_rival().zip(self.view.holder) else { return };
        if self.sender(best).is_some_and(|sender| sender.claim.rank > rank) {
            self.install(now, index, best, Some((held_by.source, Change::Preempted)), events);
            self.view.rivals.push(held_by.source);
            self.view.rivals.sort_unstable();
        }
    }

    fn best_rival(&self) -> Option<IpAddr> {
        let rivals = self.senders.iter().filter(|sender| self.view.rivals.contains(&sender.source));
        rivals.max_by_key(|sender| (sender.claim.rank, sender.heard)).map(|sender| sender.source)
    }

    fn refresh_holder(&mut self, source: IpAddr) {
        let sender = self.senders.iter().find(|sender| sender.source == source);
        if let Some((sender, holder)) = sender.zip(self.view.holder.as_mut()) {
            self.view.rhythm.beat(sender.heard.since(holder.heard), sender.claim.interval);
            holder.priority = sender.claim.priority;
            holder.heard = sender.heard;
            self.last_holder = Some((source, sender.heard));
        }
    }

    fn set_active(&mut self, source: IpAddr, active: bool) {
        for sender in self.senders.iter_mut().filter(|sender| sender.source == source) {
            sender.active = active;
        }
    }

    /// Makes `source` the holder. `from`: whom it replaces without a moment of nobody, and how.
    fn install(
        &mut self,
        now: Time,
        index: usize,
        source: IpAddr,
        from: Option<(IpAddr, Change)>,
        events: &mut Vec<WatchEvent>,
    ) {
        let Some(sender) = self.sender(source) else { return };
        let (priority, heard) = (sender.claim.priority, sender.heard);
        self.view.rhythm = Rhythm::begin(sender.claim.interval);
        self.neighbours.holder_changed();
        events.push(match from {
            Some((from, change)) => WatchEvent::Changed { router: index, from, to: source, priority, change },
            None => {
                let gap = self.last_holder.map(|(_, last)| heard.since(last));
                WatchEvent::Appeared { router: index, holder: source, priority, gap }
            }
        });
        if self.last_holder.is_some_and(|(last, _)| last != source) {
            self.note_change(now, index, events);
        }
        self.view.rivals.retain(|rival| *rival != source);
        self.view.holder = Some(Holder { source, priority, since: now, heard });
        self.last_holder = Some((source, heard));
    }

    fn note_change(&mut self, now: Time, index: usize, events: &mut Vec<WatchEvent>) {
        self.changes.push_back(now);
        while self.changes.front().is_some_and(|first| now.since(*first) > FLAPPING_WINDOW) {
            self.changes.pop_front();
        }
        if self.changes.len() >= FLAPPING_CHANGES {
            let (changes, window) = (self.changes.len(), FLAPPING_WINDOW);
            self.changes.clear();
            events.push(WatchEvent::Flapping { router: index, changes, window });
        }
    }

    fn resign(&mut self, now: Time, index: usize, source: IpAddr, events: &mut Vec<WatchEvent>) {
        self.set_active(source, false);
        if self.view.holder.is_some_and(|holder| holder.source == source) {
            self.last_holder = Some((source, now));
            self.lose_holder(now, index, Change::Resigned, events);
        } else {
            self.lose_rival(index, source, events);
        }
    }

    /// The holder is gone: a rival takes its place, or nobody.
    fn lose_holder(&mut self, now: Time, index: usize, change: Change, events: &mut Vec<WatchEvent>) {
        let Some(Holder { source: holder, heard, .. }) = self.view.holder else { return };
        self.set_active(holder, false);
        if let Some(next) = self.best_rival() {
            self.install(now, index, next, Some((holder, change)), events);
            return;
        }
        self.view.holder = None;
        self.neighbours.holder_changed();
        events.push(match change {
            Change::Resigned => WatchEvent::Resigned { router: index, holder },
            _ => WatchEvent::TimedOut { router: index, holder, silent: now.since(heard) },
        });
    }

    fn lose_rival(&mut self, index: usize, rival: IpAddr, events: &mut Vec<WatchEvent>) {
        self.set_active(rival, false);
        if self.view.rivals.contains(&rival) {
            self.view.rivals.retain(|known| *known != rival);
            events.push(WatchEvent::SecondHolderGone { router: index, rival });
        }
    }

    /// Does what is due. One thing may make another one due (deadlines depend on who else speaks); each step ends
    /// a claim.
    pub(super) fn expire(&mut self, now: Time, index: usize, events: &mut Vec<WatchEvent>) {
        for _ in 0..=SENDERS_KEPT {
            if self.poll_timeout().is_none_or(|due| due > now) {
                return;
            }
            self.expire_once(now, index, events);
        }
    }

    fn expire_once(&mut self, now: Time, index: usize, events: &mut Vec<WatchEvent>) {
        for rival in self.view.rivals.clone() {
            if self.rival_deadline(rival).is_some_and(|deadline| deadline <= now) {
                self.lose_rival(index, rival, events);
            }
        }
        if self.holder_deadline().is_some_and(|deadline| deadline <= now) {
            self.lose_holder(now, index, Change::TimedOut, events);
        }
        if self.nothing_heard_at.is_some_and(|due| due <= now) {
            self.nothing_heard_at = None;
            events.push(WatchEvent::NothingHeard { router: index });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let rivals = self.view.rivals.iter().filter_map(|rival| self.rival_deadline(*rival));
        rivals.chain(self.holder_deadline()).chain(self.nothing_heard_at).min()
    }

    fn holder_deadline(&self) -> Option<Time> {
        let holder = self.sender(self.view.holder?.source)?;
        let others =
            self.senders.iter().filter(|other| other.source != holder.source && !other.claim.resigns);
        let backup = others.max_by_key(|other| other.claim.rank).map(|other| &other.claim);
        Some(holder.heard + holder.claim.down_after(backup))
    }

    fn rival_deadline(&self, rival: IpAddr) -> Option<Time> {
        let sender = self.sender(rival)?;
        Some(sender.heard + sender.claim.rival_after(self.usual_interval()))
    }
}

/// RFC 2338 section 10.2 for what RFC 3768 has dropped and keepalived keeps.
fn check_auth(password: Option<&str>, auth: &Auth) -> Result<(), Reason> {
    match (password, auth) {
        (None, Auth::None) => Ok(()),
        (Some(password), Auth::Simple(data)) => {
            let padded = password.bytes().chain(std::iter::repeat(0)).take(data.len());
            if padded.eq(data.iter().copied()) { Ok(()) } else { Err(Reason::Password) }
        }
        _ => Err(Reason::AuthType),
    }
}

fn same_set(heard: &[IpAddr], ours: &[IpAddr]) -> bool {
    heard.len() == ours.len() && heard.iter().all(|address| ours.contains(address))
}
