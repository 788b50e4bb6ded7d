//! Who says by ARP or neighbour advertisement that it has a virtual address.
//!
//! A host that holds the address without advertising (a daemon that was killed and left it behind, a second daemon, a
//! machine that was given the same address) is heard by nothing else. What is heard is what every host on the link
//! believes: the MAC that the packet names.
//!
//! A claim is explained if its MAC is that of somebody who advertises now, or the virtual MAC of the router. One that is
//! not is doubted, until the holder either changes (then it was the announcement of the new one) or advertises again (then
//! two hosts have the address). Where the speakers advertise from virtual MACs but announce real ones, as ucarp does, the
//! first claim of a holder that has settled explains its own MAC, and another one is doubted until that is heard again.

use std::net::IpAddr;

use cygnet_netlink::wire::{Error, Mac, arp, ip, ndp};

use crate::time::Time;

/// How many MACs are remembered for one virtual router; with more, the one heard longest ago is forgotten.
pub const ANSWERS_KEPT: usize = 8;

/// Somebody who says that it has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the address is, by its word.
    pub mac: Mac,
    /// When it said so last.
    pub heard: Time,
    /// How often it did.
    pub count: u64,
}

/// Reads who says that it has which address. `bytes` begin with the ARP or the IPv6 header.
///
/// # Errors
/// Why the packet says nothing that a host would believe.
pub(super) fn claim(source_mac: Mac, bytes: &[u8]) -> Result<(IpAddr, Mac), Error> {
    if !is_ipv6(bytes) {
        let packet = arp::Packet::parse(bytes)?;
        return Ok((packet.sender_ip.into(), packet.sender_mac));
    }
    let advertisement = ndp::Advertisement::parse(&ip::parse(bytes)?)?;
    Ok((IpAddr::V6(advertisement.target), advertisement.mac.unwrap_or(source_mac)))
}

fn is_ipv6(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 4 == 6)
}

/// Whether a captured packet is about neighbours: ARP, whose first byte is 0, or ICMPv6.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    const NEXT_HEADER_AT: usize = 6;
    const ICMPV6: u8 = 58;
    bytes.first() == Some(&0) || is_ipv6(bytes) && bytes.get(NEXT_HEADER_AT) == Some(&ICMPV6)
}

/// Whether a MAC is one of those that VRRP and CARP use for all nodes of a virtual router (IANA's block 00:00:5e:00).
#[must_use]
pub fn is_virtual(mac: Mac) -> bool {
    mac.0[..4] == [0x00, 0x00, 0x5e, 0x00]
}

/// What is heard of one virtual router's addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours {
    /// The MAC of the holder, by its own announcements, where its advertisements do not tell.
    settled: Option<Mac>,
    doubted: Option<Mac>,
}

impl Neighbours {
    /// Another one holds the address: what it says of itself is explained.
    pub(super) fn holder_changed(&mut self) {
        *self = Self::default();
    }

    /// What was doubted has found another explanation.
    pub(super) fn explained(&mut self) {
        self.doubted = None;
    }

    /// Somebody has it, whose advertisements do not come from this MAC. `by_adverts`: these would tell.
    /// Returns a MAC that is now known to be beside the holder's.
    pub(super) fn claimed(&mut self, mac: Mac, by_adverts: bool, has_settled: bool) -> Option<Mac> {
        if by_adverts {
            self.doubted = Some(mac);
            return None;
        }
        if !has_settled {
            return None;
        }
        let settled = *self.settled.get_or_insert(mac);
        if settled == mac {
            return self.doubted.take();
        }
        self.doubted = Some(mac);
        None
    }

    /// The holder has advertised again. Returns a MAC that claims the address beside it.
    pub(super) fn holder_advertised(&mut self) -> Option<Mac> {
        if self.settled.is_some() { None } else { self.doubted.take() }
    }
}

/// Notes that a MAC has claimed the address.
pub(super) fn note(answers: &mut Vec<Answer>, now: Time, mac: Mac) {
    if let Some(known) = answers.iter_mut().find(|known| known.mac == mac) {
        (known.heard, known.count) = (now, known.count.saturating_add(1));
        return;
    }
    if answers.len() == ANSWERS_KEPT {
        let oldest = answers.iter().enumerate().min_by_key(|(_, known)| known.heard).map(|(at, _)| at);
        answers.swap_remove(oldest.unwrap_or(0));
    }
    answers.push(Answer { mac, heard: now, count: 1 });
}
