//! The watcher on the clock of a capture: pure, records in, findings out.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_ha::events::Severity;
use cygnet_ha::time::Time;
use cygnet_ha::vip::watch::{Anomaly, Reason, WatchEvent, WatchSettings, Watcher};
use cygnet_netlink::pcap;

use super::NANOS_PER_MS;
use super::capture::{Heard, heard};

/// A clock that goes back by so much was set; by less, packets were written out of order.
const CLOCK_SET: Duration = Duration::from_secs(1);

/// What there is to say at one moment of the capture.
pub(super) struct Finding {
    /// The packet that told it, counted from 1; `None` if it was the mere passing of time.
    pub(super) packet: Option<u64>,
    /// Since the first packet.
    pub(super) at: Time,
    pub(super) what: What,
    /// Who holds the address that it is about, and who claims it besides, from then on.
    pub(super) holder: Option<IpAddr>,
    pub(super) rivals: Vec<IpAddr>,
}

pub(super) enum What {
    Event(WatchEvent),
    Discard {
        router: Option<usize>,
        source: Option<IpAddr>,
        reason: Reason,
    },
    /// The recorder kept only the beginning of an advertisement.
    Cut,
    /// The clock of the capture was set back.
    ClockSet(Duration),
}

/// The watcher on the clock of a capture.
pub(super) struct Replay {
    pub(super) watcher: Watcher,
    addresses: Vec<IpAddr>,
    /// Time zero by the capture's clock, nanoseconds since 1970. Moves when the clock is set back.
    pub(super) origin: i128,
    pub(super) now: Time,
    pub(super) packets: u64,
    pub(super) advertisements: u64,
    pub(super) cut: u64,
    pub(super) valid: u64,
    /// ARP and neighbour advertisements among the discarded packets.
    pub(super) neighbours_discarded: u64,
    /// Discarded packets that the watcher has tried to report, less those that it has reported.
    pub(super) discards_unreported: u64,
}

impl Replay {
    pub(super) fn new(own: Vec<IpAddr>, routers: Vec<WatchSettings>) -> Self {
        let addresses = routers.iter().flat_map(|router| router.addresses.iter().copied()).collect();
        let watcher = Watcher::new(own, routers);
        Self {
            watcher,
            addresses,
            origin: 0,
            now: Time::ZERO,
            packets: 0,
            advertisements: 0,
            cut: 0,
            valid: 0,
            neighbours_discarded: 0,
            discards_unreported: 0,
        }
    }

    /// The next record: what it tells, after what has happened until then.
    pub(super) fn record(&mut self, record: &pcap::Record<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.packets += 1;
        if let Some(back) = self.advance(record.time_ns) {
            self.find(None, self.now, What::ClockSet(back), &mut findings);
        }
        self.timers(&mut findings);
        let Some((kind, mac, bytes)) = heard(record.bytes, &self.addresses) else { return findings };
        let is_advertisement = matches!(kind, Heard::Advertisement);
        let is_cut = record.bytes.len() < record.original_length as usize;
        self.advertisements += u64::from(is_advertisement);
        let packet = Some(self.packets);
        if is_cut && !is_advertisement {
            return findings;
        }
        if is_cut {
            self.cut += 1;
            // One is enough: it is the recorder's setting, and so the same for all.
            if self.cut == 1 {
                self.find(packet, self.now, What::Cut, &mut findings);
            }
            return findings;
        }
        let heard = self.watcher.packet(self.now, mac, bytes);
        self.valid += u64::from(heard.valid.is_some());
        self.neighbours_discarded += u64::from(heard.discarded.is_some() && !is_advertisement);
        if let Some(reason) = heard.discarded.filter(|reason| *reason != Reason::UnknownId) {
            self.discards_unreported += 1;
            let what = What::Discard { router: heard.about, source: heard.source, reason };
            self.find(packet, self.now, what, &mut findings);
        }
        for event in heard.events {
            // Each discarded packet is told above; the watcher's report of it is rare.
            let told =
                |anomaly: &Anomaly| matches!(anomaly, Anomaly::Discarded(_) | Anomaly::OtherAddresses { .. });
            if matches!(&event, WatchEvent::Anomaly { anomaly, .. } if told(anomaly)) {
                self.discards_unreported = self.discards_unreported.saturating_sub(1);
            } else {
                self.find(packet, self.now, What::Event(event), &mut findings);
            }
        }
        findings
    }

    /// Sets the time to that of a record; by how much the clock was set back, if it was.
    fn advance(&mut self, time_ns: u64) -> Option<Duration> {
        let time = i128::from(time_ns);
        if self.packets == 1 {
            self.origin = time;
        }
        let elapsed = time - self.origin;
        let back = i128::from(self.now.0) - elapsed;
        if back >= CLOCK_SET.as_nanos() as i128 {
            self.origin = time - i128::from(self.now.0);
            return Some(Duration::from_nanos(u64::try_from(back).unwrap_or(u64::MAX)));
        }
        self.now = self.now.max(Time(u64::try_from(elapsed.max(0)).unwrap_or(u64::MAX)));
        None
    }

    /// What happens by the mere passing of time until now, each at its own moment.
    fn timers(&mut self, findings: &mut Vec<Finding>) {
        while let Some(due) = self.watcher.poll_timeout().filter(|due| *due <= self.now) {
            for event in self.watcher.timeout(due) {
                self.find(None, due, What::Event(event), findings);
            }
            if self.watcher.poll_timeout() == Some(due) {
                break;
            }
        }
    }

    fn find(&self, packet: Option<u64>, at: Time, what: What, findings: &mut Vec<Finding>) {
        let view = what.router().and_then(|router| self.watcher.get(router));
        let holder = view.and_then(|view| view.holder).map(|holder| holder.source);
        let rivals = view.map_or_else(Vec::new, |view| view.rivals.clone());
        findings.push(Finding { packet, at, what, holder, rivals });
    }

    pub(super) fn unix_ms(&self, at: Time) -> u64 {
        u64::try_from((self.origin + i128::from(at.0)) / i128::from(NANOS_PER_MS)).unwrap_or(0)
    }

    /// Reports that were not made because they repeat themselves, or came too fast.
    pub(super) fn suppressed(&self) -> u64 {
        self.watcher.suppressed().saturating_sub(self.discards_unreported)
    }
}

impl What {
    pub(super) fn router(&self) -> Option<usize> {
        match self {
            Self::Event(event) => event.router(),
            Self::Discard { router, .. } => *router,
            Self::Cut | Self::ClockSet(_) => None,
        }
    }

    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Event(event) => event.severity(),
            Self::Discard { router, source, reason } => {
                let anomaly = Anomaly::Discarded(*reason);
                WatchEvent::Anomaly { router: *router, source: *source, anomaly, suppressed: 0 }.severity()
            }
            Self::Cut | Self::ClockSet(_) => Severity::Warning,
        }
    }

    /// What kind of line it is, and a short stable word for what it says.
    pub(super) fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::Discard { reason, .. } => ("discard", reason.name()),
            Self::Cut => ("recording", "cut"),
            Self::ClockSet(_) => ("recording", "clock-set"),
            Self::Event(event) => ("event", event.name()),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Event(event) => event.to_string(),
            Self::Discard { source, reason, .. } => {
                let from = source.map_or_else(String::new, |source| format!(", from {source}"));
                format!("discarded ({}): {reason}{from}", reason.name())
            }
            Self::Cut => {
                "the recorder kept only a part of the advertisements: these are left out (`tcpdump -s 0` keeps all)"
                    .to_owned()
            }
            Self::ClockSet(back) => {
                format!("the clock of the capture was set back by {} s; times go on as if not", back.as_secs())
            }
        }
    }
}
