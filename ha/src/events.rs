//! What happened on this node, with the reason, in a bounded ring: the memory behind `cygnet events`. The log carries it on to
//! the other nodes ([`crate::state::Chronicle`]).

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// How many events a node remembers. At some 200 bytes each: 400 KiB. The oldest goes first.
pub const EVENTS_KEPT: usize = 2048;

/// How much an event matters to the person who is woken by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Part of normal life.
    Info,
    /// Worth a look: redundancy or a server was lost, an anomaly was heard.
    Warning,
    /// Service is, or may be, affected.
    Alert,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 since the start of the process; a gap means that the ring has turned.
    pub sequence: u64,
    /// Milliseconds since 1970, by this node's clock.
    pub unix_ms: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: `vip www`, `service web`, `cluster`, `config`.
    pub subject: String,
    /// A stable word for programs where there is one: the role that a node came to have (`active`, `standby`, `down`), or what
    /// a watcher noticed (`second-holder`, `replay`, ...). Empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What happened, in one line.
    pub what: String,
    /// Why it happened; empty if there is nothing to add.
    pub why: String,
}

/// The node's events. Cloning shares the ring. Never used on the data path's hot way.
#[derive(Clone)]
pub struct EventLog {
    ring: Arc<Mutex<Ring>>,
    life: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { ring: Arc::default(), life: RandomState::new().hash_one("life") }
    }
}

#[derive(Default)]
struct Ring {
    next: u64,
    events: VecDeque<Event>,
}

impl EventLog {
    /// Remembers an event and writes it to the log.
    pub fn record(&self, severity: Severity, subject: &str, what: impl Into<String>, why: impl Into<String>) {
        self.record_kind(severity, subject, "", what, why);
    }

    /// As [`EventLog::record`], of an event that has a word of its own ([`Event::kind`]).
    pub fn record_kind(
        &self,
        severity: Severity,
        subject: &str,
        kind: &str,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        let (what, why) = (what.into(), why.into());
        match severity {
            Severity::Info => tracing::info!(subject, why, "{what}"),
            Severity::Warning => tracing::warn!(subject, why, "{what}"),
            Severity::Alert => tracing::error!(subject, why, "{what}"),
        }
        let unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.next += 1;
        let (sequence, subject, kind) = (ring.next, subject.to_owned(), kind.to_owned());
        let event = Event { sequence, unix_ms, severity, subject, kind, what, why };
        if ring.events.len() == EVENTS_KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
    }

    /// Drawn anew at each start: says that the sequence has begun again.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }

    /// The sequence of the newest event; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).next
    }

    /// At most `count` events after `sequence`, the oldest first.
    #[must_use]
    pub fn next(&self, sequence: u64, count: usize) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ring.events.partition_point(|event| event.sequence <= sequence);
        ring.events.range(at..).take(count).cloned().collect()
    }

    /// The events after `sequence` (0: all that are kept), oldest first.
    #[must_use]
    pub fn after(&self, sequence: u64) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.events.iter().filter(|event| event.sequence > sequence).cloned().collect()
    }

    /// The newest events that `wanted` takes, at most `count`, oldest first.
    #[must_use]
    pub fn newest(&self, count: usize, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events: Vec<Event> =
            ring.events.iter().rev().filter(|event| wanted(event)).take(count).cloned().collect();
        events.reverse();
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_counts_on() {
        let log = EventLog::default();
        for n in 0..EVENTS_KEPT + 3 {
            log.record(Severity::Info, "test", format!("event {n}"), "");
        }
        let events = log.after(0);
        assert_eq!(events.len(), EVENTS_KEPT);
        assert_eq!(events[0].sequence, 4);
        assert_eq!(log.after(EVENTS_KEPT as u64 + 2).len(), 1);
        let next =
            |after, count| log.next(after, count).iter().map(|event| event.sequence).collect::<Vec<_>>();
        assert_eq!((next(0, 2), next(6, 1), next(EVENTS_KEPT as u64 + 3, 9)), (vec![4, 5], vec![7], vec![]));
    }

    #[test]
    fn the_newest_of_a_kind_are_given_in_their_order() {
        let log = EventLog::default();
        for kind in ["active", "", "standby", "active", ""] {
            log.record_kind(Severity::Info, "vip www", kind, "", "");
        }
        let kinds = |count| {
            let newest = log.newest(count, |event| !event.kind.is_empty());
            newest.into_iter().map(|event| event.sequence).collect::<Vec<_>>()
        };
        assert_eq!((kinds(2), kinds(9)), (vec![3, 4], vec![1, 3, 4]));
    }
}
