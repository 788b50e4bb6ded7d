//! One sender of a virtual router: what it claims, for how long that counts, and whether a packet is really its
//! own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use cygnet_netlink::wire::vrrp::{ChecksumForm, Version};
use cygnet_netlink::wire::{Mac, Message};

use super::Reason;
use crate::time::Time;

/// How many different CARP counters of a sender are remembered, 8 bytes each. ucarp counts one up a second, so
/// this is about a minute; an older packet is still refused when it comes from another MAC.
pub const COUNTERS_KEPT: usize = 64;
/// The priority of a backup that has not been heard yet: the default of RFC 9568 section 5.2.4.
const BACKUP_PRIORITY: u8 = 100;
/// Intervals below this are not believed: a timer must not run hot.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const CENTISECOND: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The time that a backup of priority 0 would wait in addition: 1 s (version 2) or the interval (version 3).
    Vrrp {
        skew_unit: Duration,
    },
    Carp {
        advbase: u8,
    },
}

/// What an advertisement says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    kind: Kind,
    /// More is better: priority, or for CARP the inverse of (demote, advbase, advskew).
    pub(super) rank: u32,
    /// Priority (VRRP) or advskew (CARP), for people.
    pub(super) priority: u8,
    /// What deadlines are counted in: the interval, for CARP advbase.
    base: Duration,
    /// The interval as it stands in the packet (CARP: advbase), to compare with what is configured.
    pub(super) told: Duration,
    /// When the next advertisement is due.
    pub(super) interval: Duration,
    pub(super) resigns: bool,
    /// Version 3 over IPv4 only, where there is a choice.
    pub(super) form: Option<ChecksumForm>,
    pub(super) counter: Option<u64>,
}

impl Claim {
    /// `fallback` stands in for an interval of zero.
    pub(super) fn of(message: &Message, over_ipv4: bool, fallback: Duration) -> Self {
        let or_fallback =
            |interval: Duration| if interval.is_zero() { fallback.max(INTERVAL_MIN) } else { interval };
        match message {
            Message::Vrrp(vrrp) => {
                let told = CENTISECOND * u32::from(vrrp.interval_cs);
                let base = or_fallback(told);
                let skew_unit = if vrrp.version == Version::V2 { SECOND } else { base };
                Self {
                    kind: Kind::Vrrp { skew_unit },
                    rank: u32::from(vrrp.priority),
                    priority: vrrp.priority,
                    base,
                    told,
                    interval: base,
                    resigns: vrrp.priority == 0,
                    form: (vrrp.version == Version::V3 && over_ipv4).then_some(vrrp.checksum),
                    counter: None,
                }
            }
            Message::Carp(carp) => {
                let skew = SECOND * u32::from(carp.advskew) / 256;
                let interval = or_fallback(SECOND * u32::from(carp.advbase) + skew);
                let worse = [0, carp.demote, carp.advbase, carp.advskew];
                Self {
                    kind: Kind::Carp { advbase: carp.advbase },
                    rank: 0x00ff_ffff - u32::from_be_bytes(worse),
                    priority: carp.advskew,
                    told: SECOND * u32::from(carp.advbase),
                    base: if carp.advbase == 0 { interval } else { SECOND * u32::from(carp.advbase) },
                    interval,
                    resigns: carp.is_resignation(),
                    form: None,
                    counter: Some(carp.counter),
                }
            }
        }
    }

    /// After this long without a word the sender no longer holds the address: the time after which the best
    /// backup takes over (RFC 9568 section 6.1 Active_Down_Interval; CARP: 3 x advbase + advskew/256 s).
    pub(super) fn down_after(&self, backup: Option<&Self>) -> Duration {
        let backup = backup.map(|claim| claim.priority);
        self.base * 3
            + match self.kind {
                Kind::Vrrp { skew_unit } => {
                    skew_unit * (256 - u32::from(backup.unwrap_or(BACKUP_PRIORITY))) / 256
                }
                Kind::Carp { advbase: 0 } => Duration::ZERO,
                Kind::Carp { .. } => SECOND * u32::from(backup.unwrap_or(self.priority)) / 256,
            }
    }

    /// After this long a holder is taken for dead when another speaks up: two advertisements are missing. A
    /// backup waits for three, so this leaves half an interval for jitter, and a bit more.
    pub(super) fn overdue_after(&self) -> Duration {
        self.base * 5 / 2
    }

    /// After this long a second holder is taken to be gone. `usual` is an interval that is known to be in use:
    /// what the second holder says of its own is not believed beyond it.
    pub(super) fn rival_after(&self, usual: Duration) -> Duration {
        self.interval.min(usual) * 5 / 2
    }

    /// Whether the two say the same, but for what changes in every packet.
    fn same_content(&self, other: &Self) -> bool {
        (self.rank, self.base, self.interval, self.resigns)
            == (other.rank, other.base, other.interval, other.resigns)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) source: IpAddr,
    /// The MAC that the address is bound to, as long as it is heard from there.
    pub(super) mac: Mac,
    mac_heard: Time,
    pub(super) heard: Time,
    pub(super) claim: Claim,
    /// Whether it claims the address now, as the holder or beside it.
    pub(super) active: bool,
    counters: VecDeque<u64>,
}

impl Sender {
    pub(super) fn new(now: Time, source: IpAddr, mac: Mac, claim: Claim) -> Self {
        let counters = claim.counter.into_iter().collect();
        Self { source, mac, mac_heard: now, heard: now, claim, active: false, counters }
    }

    pub(super) fn last_counter(&self) -> Option<u64> {
        self.counters.back().copied()
    }

    fn is_bound(&self, now: Time) -> bool {
        self.active && now.since(self.mac_heard) < self.claim.down_after(None)
    }

    /// Whether a packet with this address is the sender's own.
    ///
    /// - CARP: an older counter coming back is a replay. But ucarp continues from any valid counter that it hears, and so
    ///   may repeat its own: from the sender's own MAC, a counter that follows the last one of anybody is in order.
    ///   An unchanged counter is always in order (OpenBSD).
    /// - Another MAC, while the known one is heard: other content is forged. CARP counts every packet as such, since its
    ///   content is signed only in part. The same content is let through (it changes nothing).
    pub(super) fn accepts(
        &self,
        now: Time,
        mac: Mac,
        claim: &Claim,
        mut last_counters: impl Iterator<Item = u64>,
    ) -> Result<(), Reason> {
        let other_mac = mac != self.mac;
        if let Some(counter) = claim.counter {
            let is_old = self.last_counter() != Some(counter) && self.counters.contains(&counter);
            let follows = last_counters.any(|last| last.wrapping_add(1) == counter);
            if is_old && (other_mac || !follows) {
                return Err(Reason::Replay);
            }
        }
        let harmless = claim.counter.is_none() && claim.same_content(&self.claim);
        if other_mac && self.is_bound(now) && !harmless { Err(Reason::Spoof) } else { Ok(()) }
    }

    /// Takes over what an accepted packet says; true if its MAC is another one.
    pub(super) fn update(&mut self, now: Time, mac: Mac, claim: Claim) -> bool {
        let other_mac = mac != self.mac;
        if !other_mac {
            self.mac_heard = now;
        } else if !self.is_bound(now) {
            self.mac = mac;
            self.mac_heard = now;
        }
        if let Some(counter) = claim.counter.filter(|counter| self.last_counter() != Some(*counter)) {
            self.counters.retain(|known| *known != counter);
            if self.counters.len() == COUNTERS_KEPT {
                self.counters.pop_front();
            }
            self.counters.push_back(counter);
        }
        self.heard = now;
        self.claim = claim;
        other_mac
    }
}
