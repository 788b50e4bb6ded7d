//! The keys of TLS session tickets, as the nodes agreed on them: announced first, in use later, so that a node which meets a
//! ticket has had its key for a while. What is here is sealed; only a node that has the key of the cluster's authority opens
//! it (`consensus::seal`).

use std::fmt;

use super::Refusal;
use super::command::{AnnounceTicketKey, UseTicketKey};

/// The longest sealed key, bytes. One of today has 108: a nonce, the 80 bytes of the key, and a tag.
pub const SEALED_MAX: usize = 256;

/// A key with its number.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Counts from 1 over the life of the cluster.
    pub number: u64,
    /// When it was announced, by the clock of the node that made it; ms since 1970.
    pub announced_ms: u64,
    /// When it came into use, by the clock of the node that asked for it; ms since 1970, 0 before.
    pub used_ms: u64,
    /// The key, sealed.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, announced_ms, used_ms, .. } = self;
        write!(f, "SealedKey({number}, announced {announced_ms}, used {used_ms})")
    }
}

/// The keys that are kept: three at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketKeyring {
    newest: u64,
    hurry: bool,
    next: Option<SealedKey>,
    current: Option<SealedKey>,
    previous: Option<SealedKey>,
}

impl TicketKeyring {
    /// No key was ever agreed on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest == 0
    }

    /// The number of the key that was made last; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Announced and not in use yet: opens tickets.
    #[must_use]
    pub fn next(&self) -> Option<&SealedKey> {
        self.next.as_ref()
    }

    /// Seals new tickets.
    #[must_use]
    pub fn current(&self) -> Option<&SealedKey> {
        self.current.as_ref()
    }

    /// The one before: opens the tickets that were sealed with it.
    #[must_use]
    pub fn previous(&self) -> Option<&SealedKey> {
        self.previous.as_ref()
    }

    /// The one that is announced is to come into use before its time: an operator wants it.
    #[must_use]
    pub fn hurries(&self) -> bool {
        self.hurry
    }

    /// All keys, the one in use first.
    pub fn keys(&self) -> impl Iterator<Item = &SealedKey> {
        self.current.iter().chain(&self.next).chain(&self.previous)
    }

    /// Takes a new key in. The number of the key that comes next.
    pub(super) fn announce(&mut self, announce: &AnnounceTicketKey) -> Result<u64, Refusal> {
        if let Some(next) = self.next.as_ref().filter(|_| announce.hurry) {
            // One that every node may know already is better than another.
            self.hurry = true;
            return Ok(next.number);
        }
        if self.next.is_some() || announce.after != self.newest {
            return Err(Refusal::TicketKeyKnown { newest: self.newest });
        }
        self.newest += 1;
        self.hurry = announce.hurry;
        self.next = Some(SealedKey {
            number: self.newest,
            announced_ms: announce.unix_ms,
            used_ms: 0,
            sealed: announce.sealed.clone(),
        });
        Ok(self.newest)
    }

    /// Has the announced key seal from now on; the one before the current is forgotten.
    pub(super) fn switch(&mut self, switch: &UseTicketKey) -> Result<u64, Refusal> {
        match self.next.take_if(|next| next.number == switch.number) {
            None => Err(Refusal::TicketKeyUnknown { number: switch.number }),
            Some(next) => {
                self.hurry = false;
                self.previous = self.current.replace(SealedKey { used_ms: switch.unix_ms, ..next });
                Ok(switch.number)
            }
        }
    }

    /// From a snapshot; `None` if the parts do not belong together.
    pub(super) fn restore(newest: u64, hurry: bool, keys: [Option<SealedKey>; 3]) -> Option<Self> {
        let [next, current, previous] = keys;
        let number = |key: &Option<SealedKey>| key.as_ref().map(|key| key.number);
        let numbers: Vec<u64> = [&previous, &current, &next].into_iter().filter_map(number).collect();
        let ascending = numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers.first() != Some(&0);
        let whole = current.is_some() || previous.is_none();
        let fits = ascending && whole && numbers.last().copied().unwrap_or(0) == newest;
        let short = [&next, &current, &previous]
            .iter()
            .all(|key| key.as_ref().is_none_or(|key| key.sealed.len() <= SEALED_MAX));
        (fits && short).then_some(Self { newest, hurry, next, current, previous })
    }
}

#[cfg(test)]
mod tests;
