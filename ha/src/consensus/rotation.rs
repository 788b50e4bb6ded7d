//! When the keys of session tickets are due, by the clock of one node. Pure: time comes in.
//!
//! ```text
//!   announced ── LEAD ──> in use ──────────── LIFE ─────────────> the next one is in use ── LIFE ──> forgotten
//!   (opens)               (seals and opens)                       (opens)
//! ```
//! As with a configuration on trial ([`super::countdown`]) a node that saw a key come counts by a clock that nobody sets; one
//! that found it in a snapshot believes the wall clock of the node that made it, but never that it is from the future. A wrong
//! clock makes a rotation come early, or late by one life at most, on a node that has restarted.

use std::time::Duration;

use crate::state::{SealedKey, TicketKeyring};

/// How long a key seals new tickets; for as long again it opens them. A session lives 2 h in both libraries, so none is refused
/// because of the rotation, and who steals the keys reads at most this twice.
pub const TICKET_KEY_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// So long before it comes into use a key is announced: a node that was cut off for less never meets a ticket that it cannot open.
pub(crate) const ANNOUNCED_BEFORE: Duration = Duration::from_secs(10 * 60);

/// The shortest time between the two, where there is no time to lose: for the first key, for one that is late, and for one that
/// an operator wants. Every node that takes part has it by then: twice the time after which a silent leader is given up.
pub(crate) const SETTLED: Duration = Duration::from_secs(2);

/// A key that is older than its life by more than this is told of: nobody could replace it.
pub(crate) const LATE: Duration = Duration::from_secs(10 * 60);

/// A node that does not lead waits so much longer: for a leader that cannot make keys, such as a witness.
pub(crate) const FOLLOWER_WAITS: Duration = Duration::from_secs(10);

/// The times of a rotation, ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) life: u64,
    pub(crate) before: u64,
    pub(crate) settled: u64,
    pub(crate) late: u64,
}

impl Default for Times {
    fn default() -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { life: ms(TICKET_KEY_LIFE), before: ms(ANNOUNCED_BEFORE), settled: ms(SETTLED), late: ms(LATE) }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key after the one with this number.
    Announce { after: u64 },
    /// The key with this number seals.
    Use { number: u64 },
}

/// The keys as this node counts their time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotation {
    times: Times,
    newest: u64,
    hurry: bool,
    next: Option<Seen>,
    current: Option<Seen>,
    previous: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    seen_ms: u64,
    /// Its age at that moment.
    age_ms: u64,
}

impl Seen {
    fn age(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.seen_ms).saturating_add(self.age_ms)
    }
}

impl Rotation {
    /// With other times, for simulations.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn with(times: Times) -> Self {
        Self { times, ..Self::default() }
    }

    /// The keys are others. `fresh`: what is new in them was made just now, as far as can be known; otherwise it was found on
    /// the disk or in a snapshot. `now_ms` is a clock that only goes on, `unix_ms` the wall clock.
    pub(crate) fn follow(&mut self, keys: &TicketKeyring, fresh: bool, now_ms: u64, unix_ms: u64) {
        let seen = |key: &SealedKey, since_ms: u64, before: Option<Seen>| match before {
            Some(before) if before.number == key.number => before,
            _ => {
                let age_ms = if fresh { 0 } else { unix_ms.saturating_sub(since_ms) };
                Seen { number: key.number, seen_ms: now_ms, age_ms }
            }
        };
        self.next = keys.next().map(|key| seen(key, key.announced_ms, self.next));
        self.current = keys.current().map(|key| seen(key, key.used_ms, self.current));
        self.previous = keys.previous().map(|key| key.number);
        (self.newest, self.hurry) = (keys.newest(), keys.hurries());
    }

    /// What is due now; `patience_ms` later than the leader would say so.
    pub(crate) fn due(&self, now_ms: u64, patience_ms: u64) -> Option<Step> {
        let Times { life, before, settled, .. } = self.times;
        let age = self.current.map(|current| current.age(now_ms).saturating_sub(patience_ms));
        match self.next {
            None => {
                // Without a first key there is nothing to wait for but the leader.
                let first = self.current.is_none() && now_ms >= patience_ms;
                let due = age.map_or(first, |age| age >= life.saturating_sub(before));
                due.then_some(Step::Announce { after: self.newest })
            }
            Some(next) => {
                let known = next.age(now_ms) >= settled.saturating_add(patience_ms);
                let time = self.hurry || age.is_none_or(|age| age >= life);
                (known && time).then_some(Step::Use { number: next.number })
            }
        }
    }

    /// The key in use is older than it should ever get.
    pub(crate) fn is_late(&self, now_ms: u64) -> bool {
        let Times { life, late, .. } = self.times;
        self.current.is_some_and(|current| current.age(now_ms) >= life.saturating_add(late))
    }

    /// Number and age in ms of the key in use.
    pub(crate) fn current(&self, now_ms: u64) -> Option<(u64, u64)> {
        self.current.map(|current| (current.number, current.age(now_ms)))
    }

    /// Number of the key that comes next, and for how long it has been announced, ms.
    pub(crate) fn next(&self, now_ms: u64) -> Option<(u64, u64)> {
        self.next.map(|next| (next.number, next.age(now_ms)))
    }

    /// Number of the key that still opens its tickets.
    pub(crate) fn previous(&self) -> Option<u64> {
        self.previous
    }
}

#[cfg(test)]
mod tests;
