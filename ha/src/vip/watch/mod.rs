//! Watches the advertisements on one interface and says who holds each virtual address, and what is wrong.
//!
//! Pure: packets and times go in ([`Watcher::packet`], [`Watcher::timeout`]), events come out, the state can be
//! read at any moment. Only an advertisement that passes every check changes anything but a counter, and only
//! such a one is handed on ([`ValidAdvert`]). Memory is bounded whatever comes in; reports are rare, counters
//! miss nothing.
//!
//! What it cannot do: plain VRRP has no protection, so a forged packet with the right MAC, or from an address of
//! its own, is believed (and seen as a second holder); of CARP only a part is signed. Advertisements between
//! unicast peers do not reach a third port of a switch; where the peers are configured, what others claim is discarded.

mod event;
mod limit;
mod neighbour;
mod reason;
mod rhythm;
mod router;
mod segment;
mod sender;
mod tally;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::{Error, HOP_LIMIT, Mac, Message, carp, ip, parse_advertisement};

pub use event::{Anomaly, Change, WatchEvent};
pub use limit::{REPORT_INTERVAL, REPORT_INTERVAL_MAX};
pub use neighbour::{ANSWERS_KEPT, Answer, is_virtual};
pub use reason::{Counters, Reason};
pub use rhythm::Rhythm;
pub use router::{FLAPPING_CHANGES, FLAPPING_WINDOW, Holder, RouterView, SENDERS_KEPT};
pub use segment::{STRANGER_ADDRESSES_KEPT, STRANGERS_KEPT, Stranger};
pub use sender::COUNTERS_KEPT;
pub use tally::{Tallies, Tally};

use crate::time::Time;
use crate::vip::{Protocol, VipSettings};
use limit::{Bucket, Limiter};
use router::Router;
use segment::Segment;

/// So many discarded packets ...
pub const JUNK_PACKETS: usize = 10;
/// ... within this time are reported as a stream of junk.
pub const JUNK_WINDOW: Duration = Duration::from_secs(10);

/// A virtual router as its speakers are configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// The protocol.
    pub protocol: Protocol,
    /// VRID or vhid.
    pub id: u8,
    /// All its addresses, in any order. The first decides the address family.
    pub addresses: Vec<IpAddr>,
    /// Advertisement interval. VRRPv2: must be met exactly; else a first guess, the packets say better.
    pub interval: Duration,
    /// The plain text of VRRPv2, or the key of CARP.
    pub password: Option<String>,
    /// Who may speak, where the speakers are unicast peers; nobody: whoever is on the segment.
    pub peers: Vec<IpAddr>,
    /// The least TTL or hop limit of what comes to a single address from a peer.
    pub min_ttl: u8,
}

impl WatchSettings {
    /// What a watcher needs of the settings of an election.
    #[must_use]
    pub fn of(vip: &VipSettings) -> Self {
        Self {
            protocol: vip.protocol,
            id: vip.id,
            addresses: vip.addresses.clone(),
            interval: vip.interval,
            password: vip.password.clone(),
            peers: vip.peers.clone(),
            min_ttl: vip.min_ttl,
        }
    }

    fn is_ipv4(&self) -> bool {
        self.addresses.first().is_none_or(IpAddr::is_ipv4)
    }

    /// Whether it may come this way: from a peer where there are peers, and from nearby (keepalived checks the TTL of multicast
    /// only; the wire layer has done that).
    fn may_come(&self, packet: &ip::Packet<'_>) -> Result<(), Reason> {
        if !self.peers.is_empty() && !self.peers.contains(&packet.source) {
            return Err(Reason::NotAPeer);
        }
        match self.peers.is_empty() {
            true if packet.hop_limit != HOP_LIMIT => Err(Reason::Wire(Error::HopLimit)),
            false if packet.hop_limit < self.min_ttl => Err(Reason::PeerTtl),
            _ => Ok(()),
        }
    }
}

/// An advertisement that has passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidAdvert {
    /// Index of the virtual router in the settings.
    pub router: usize,
    /// Who sent it.
    pub source: IpAddr,
    /// What it says. The interval of VRRPv3 may be 0.
    pub message: Message,
}

/// What came of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// To be reported.
    pub events: Vec<WatchEvent>,
    /// The advertisement, if it passed all checks.
    pub valid: Option<ValidAdvert>,
    /// Why it was discarded, otherwise.
    pub discarded: Option<Reason>,
    /// Which virtual router a discarded packet is about, as far as that can be told: a guess if it is malformed.
    pub about: Option<usize>,
    /// The source address of a discarded packet, if it could be read.
    pub source: Option<IpAddr>,
    /// Somebody says by ARP or neighbour advertisement that it has an address of this virtual router: which, and where.
    pub answered: Option<(usize, IpAddr, Mac)>,
}

/// The watcher of one interface.
#[derive(Clone, Debug)]
pub struct Watcher {
    own: Vec<IpAddr>,
    routers: Vec<Router>,
    segment: Segment,
    started: bool,
    discarded: Counters,
    tallies: Tallies,
    /// When the last [`JUNK_PACKETS`] were discarded.
    junk: VecDeque<Time>,
    anomalies: Limiter,
    /// Changes of state have a bucket of their own, so that a flood of anomalies does not hide them.
    changes: Bucket,
    suppressed: u64,
}

impl Watcher {
    /// `own`: this node's fixed addresses on the interface. Call [`Watcher::timeout`] once at the start: the time until
    /// it is said that nothing is heard runs from the first call.
    #[must_use]
    pub fn new(own: Vec<IpAddr>, routers: Vec<WatchSettings>) -> Self {
        Self {
            own,
            routers: routers.into_iter().map(Router::new).collect(),
            segment: Segment::default(),
            started: false,
            discarded: Counters::new(),
            tallies: Tallies::default(),
            junk: VecDeque::new(),
            anomalies: Limiter::default(),
            changes: Bucket::default(),
            suppressed: 0,
        }
    }

    /// Replaces addresses and settings; what is known of a virtual router with unchanged settings is kept.
    pub fn configure(&mut self, own: Vec<IpAddr>, routers: Vec<WatchSettings>) {
        self.own = own;
        let mut old = std::mem::take(&mut self.routers);
        for settings in routers {
            let known = old.iter().position(|router| router.settings == settings);
            self.routers.push(known.map_or_else(|| Router::new(settings), |at| old.swap_remove(at)));
        }
        self.started = false;
    }

    /// A packet was captured: of IP protocol 112, ARP, or a neighbour advertisement; `bytes` begin with the IP or ARP header.
    pub fn packet(&mut self, now: Time, source_mac: Mac, bytes: &[u8]) -> Heard {
        let mut heard = Heard { events: self.timeout(now), ..Heard::default() };
        if neighbour::is_one(bytes) {
            match neighbour::claim(source_mac, bytes) {
                Ok((address, mac)) => self.answered(now, address, mac, &mut heard),
                Err(error) => self.discard(now, None, None, Reason::Wire(error), &mut heard),
            }
            return heard;
        }
        let packet = match ip::parse(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                self.discard(now, None, None, Reason::Wire(error), &mut heard);
                return heard;
            }
        };
        let source = packet.source;
        match parse_advertisement(&packet) {
            Ok(message) => match self.message(now, source_mac, &packet, &message, &mut heard.events) {
                Ok(router) => heard.valid = Some(ValidAdvert { router, source, message }),
                Err((router, reason)) => {
                    let what = (reason, self.anomaly(router, reason, &message));
                    self.discard_as(now, router, Some(source), what, &mut heard);
                }
            },
            Err(error) => {
                let router = self.guess(packet.payload);
                self.discard(now, router, Some(source), Reason::Wire(error), &mut heard);
            }
        }
        heard
    }

    /// A well-formed message: the index of its virtual router, or why it is discarded.
    fn message(
        &mut self,
        now: Time,
        mac: Mac,
        packet: &ip::Packet<'_>,
        message: &Message,
        events: &mut Vec<WatchEvent>,
    ) -> Result<usize, (Option<usize>, Reason)> {
        let source = packet.source;
        let found = self.find(message, source.is_ipv4());
        if self.own.contains(&source) {
            return Err((found.ok(), Reason::OwnSource));
        }
        if self.shares_number(message) {
            let anomaly = Anomaly::SharedNumber { id: message.id() };
            self.report(now, found.ok(), None, anomaly, events);
        }
        let index = match found {
            Ok(index) => index,
            Err(Reason::UnknownId) => {
                self.stranger(now, source, message, events);
                return Err((None, Reason::UnknownId));
            }
            Err(reason) => return Err((self.with_number(message.id()), reason)),
        };
        let router = &mut self.routers[index];
        router.settings.may_come(packet).map_err(|reason| (Some(index), reason))?;
        let claim = router.check(now, mac, source, message).map_err(|reason| (Some(index), reason))?;
        let mut changes = Vec::new();
        let anomalies = router.hear((now, index), mac, source, claim, &mut changes);
        router.expire(now, index, &mut changes);
        self.announce(now, changes, events);
        for anomaly in anomalies {
            self.report(now, Some(index), Some(source), anomaly, events);
        }
        Ok(index)
    }

    fn answered(&mut self, now: Time, address: IpAddr, mac: Mac, heard: &mut Heard) {
        let has_it = |router: &Router| router.settings.addresses.contains(&address);
        let Some(index) = self.routers.iter().position(has_it) else { return };
        heard.answered = Some((index, address, mac));
        if let Some(anomaly) = self.routers[index].answered(now, mac) {
            self.report(now, Some(index), None, anomaly, &mut heard.events);
        }
    }

    fn stranger(&mut self, now: Time, source: IpAddr, message: &Message, events: &mut Vec<WatchEvent>) {
        let claimed = self.segment.remember(now, source, message, &self.own);
        let anomaly = Anomaly::UnknownRouter { protocol: segment::protocol(message), id: message.id() };
        self.report(now, None, Some(source), anomaly, events);
        if let Some(address) = claimed {
            self.report(now, None, Some(source), Anomaly::OwnAddressClaimed(address), events);
        }
    }

    /// The virtual router of a message. The other version of VRRP under a known number is a mismatch.
    fn find(&self, message: &Message, is_ipv4: bool) -> Result<usize, Reason> {
        let protocol = segment::protocol(message);
        let mut reason = Reason::UnknownId;
        for (index, Router { settings, .. }) in self.routers.iter().enumerate() {
            if settings.id != message.id() || settings.is_ipv4() != is_ipv4 {
                continue;
            }
            if settings.protocol == protocol {
                return Ok(index);
            }
            if settings.protocol != Protocol::Carp && protocol != Protocol::Carp {
                reason = Reason::VersionMismatch;
            }
        }
        Err(reason)
    }

    fn with_number(&self, id: u8) -> Option<usize> {
        self.routers.iter().position(|router| router.settings.id == id)
    }

    /// Which virtual router a malformed payload is probably about, for its counter only.
    fn guess(&self, payload: &[u8]) -> Option<usize> {
        let id = *payload.get(1)?;
        let is_carp = carp::looks_like(payload);
        let fits = |router: &Router| {
            router.settings.id == id && (router.settings.protocol == Protocol::Carp) == is_carp
        };
        self.routers.iter().position(fits).or_else(|| self.with_number(id))
    }

    fn shares_number(&self, message: &Message) -> bool {
        let is_carp = matches!(message, Message::Carp(_));
        let configured = self.routers.iter().any(|Router { settings, .. }| {
            settings.id == message.id() && (settings.protocol == Protocol::Carp) != is_carp
        });
        configured || self.segment.number_in_other_protocol(message)
    }

    fn discard(
        &mut self,
        now: Time,
        router: Option<usize>,
        source: Option<IpAddr>,
        reason: Reason,
        heard: &mut Heard,
    ) {
        self.discard_as(now, router, source, (reason, Anomaly::Discarded(reason)), heard);
    }

    /// What is to be reported of a well-formed message that is discarded.
    fn anomaly(&self, router: Option<usize>, reason: Reason, message: &Message) -> Anomaly {
        match (router.and_then(|index| self.routers.get(index)), message) {
            (Some(router), Message::Vrrp(advert)) if reason == Reason::AddressMismatch => {
                let (ours, theirs) = (&router.settings.addresses, &advert.addresses);
                let only = |here: &[IpAddr], there: &[IpAddr]| {
                    here.iter().filter(|address| !there.contains(address)).copied().collect()
                };
                Anomaly::OtherAddresses { foreign: only(theirs, ours), missing: only(ours, theirs) }
            }
            _ => Anomaly::Discarded(reason),
        }
    }

    fn discard_as(
        &mut self,
        now: Time,
        router: Option<usize>,
        source: Option<IpAddr>,
        (reason, anomaly): (Reason, Anomaly),
        heard: &mut Heard,
    ) {
        heard.discarded = Some(reason);
        (heard.about, heard.source) = (router, source);
        let per_router = router.map(|index| &mut self.routers[index].view.discarded);
        for counters in per_router.into_iter().chain([&mut self.discarded]) {
            let count = counters.entry(reason.name()).or_default();
            *count = count.saturating_add(1);
        }
        if !reason.is_junk() {
            return;
        }
        self.report(now, router, source, anomaly, &mut heard.events);
        if self.junk.len() == JUNK_PACKETS {
            self.junk.pop_front();
        }
        self.junk.push_back(now);
        let recent = self.junk.front().is_some_and(|first| now.since(*first) <= JUNK_WINDOW);
        if self.junk.len() == JUNK_PACKETS && recent {
            let anomaly = Anomaly::JunkRate { packets: JUNK_PACKETS, window: JUNK_WINDOW };
            self.report(now, None, None, anomaly, &mut heard.events);
        }
    }

    fn report(
        &mut self,
        now: Time,
        router: Option<usize>,
        source: Option<IpAddr>,
        anomaly: Anomaly,
        events: &mut Vec<WatchEvent>,
    ) {
        let admitted = self.anomalies.admit(now, (router, anomaly.name(), source));
        let event = WatchEvent::Anomaly { router, source, anomaly, suppressed: admitted.unwrap_or_default() };
        self.note(now, &event);
        match admitted {
            Some(_) => events.push(event),
            None => self.suppressed = self.suppressed.saturating_add(1),
        }
    }

    /// Counts what is wrong, whether it is reported or not.
    fn note(&mut self, now: Time, event: &WatchEvent) {
        let of_router = event.router().and_then(|index| self.routers.get_mut(index));
        of_router.map_or(&mut self.tallies, |router| &mut router.view.anomalies).note(now, event);
    }

    fn announce(&mut self, now: Time, changes: Vec<WatchEvent>, events: &mut Vec<WatchEvent>) {
        for change in changes {
            if change.is_anomaly() {
                self.note(now, &change);
            }
            if self.changes.take(now) {
                events.push(change);
            } else {
                self.suppressed = self.suppressed.saturating_add(1);
            }
        }
    }

    /// To be called when [`Watcher::poll_timeout`] is due; calling it earlier does no harm.
    pub fn timeout(&mut self, now: Time) -> Vec<WatchEvent> {
        if !self.started {
            self.started = true;
            self.routers.iter_mut().for_each(|router| router.start(now));
        }
        let mut changes = Vec::new();
        for (index, router) in self.routers.iter_mut().enumerate() {
            router.expire(now, index, &mut changes);
        }
        let mut events = Vec::new();
        self.announce(now, changes, &mut events);
        events
    }

    /// When something changes by the mere passing of time; at once before the first call of [`Watcher::timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if !self.started {
            return Some(Time::ZERO);
        }
        self.routers.iter().filter_map(Router::poll_timeout).min()
    }

    /// What is known of the virtual router with this index; `None` if there is none.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&RouterView> {
        self.routers.get(index).map(|router| &router.view)
    }

    /// What is known of the virtual router with this index, in the order of the settings.
    ///
    /// # Panics
    /// Like a slice, if there is none.
    #[must_use]
    pub fn router(&self, index: usize) -> &RouterView {
        &self.routers[index].view
    }

    /// Every address that was heard to be virtual: those of configured virtual routers of which something valid
    /// was heard, and those of the others on the segment, without this node's own.
    pub fn heard_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let heard = self.routers.iter().filter(|router| router.view.valid > 0);
        let known = heard.flat_map(|router| &router.settings.addresses);
        known.chain(self.segment.strangers.iter().flat_map(|stranger| &stranger.addresses)).copied()
    }

    /// Senders of virtual routers that are not configured here.
    #[must_use]
    pub fn strangers(&self) -> &[Stranger] {
        &self.segment.strangers
    }

    /// All discarded packets, also those that could not be attributed to a virtual router.
    #[must_use]
    pub fn discarded(&self) -> &Counters {
        &self.discarded
    }

    /// What was wrong on the segment and is about no virtual router of ours, by name.
    #[must_use]
    pub fn anomalies(&self) -> &Tallies {
        &self.tallies
    }

    /// Events that were not reported, because they came too often.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }
}

#[cfg(test)]
mod captures;
#[cfg(test)]
mod tests;
