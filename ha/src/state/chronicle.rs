//! What happened on any node, as all nodes remember it: bounded, the oldest goes first. A node's events come from its own
//! memory ([`crate::events`]) in batches, soft: what a node that dies has not sent yet is missing, and what both have not
//! written yet when both die.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use prost::Message;
use serde::{Deserialize, Serialize};

use super::command::EventBatch;
use crate::events::{Event, Severity};

/// How many events the nodes remember together. At some 250 bytes each: 512 KiB of each snapshot; with the longest texts
/// ([`TEXT_MAX`]) 4 MiB.
pub const CHRONICLE_MAX: usize = 2048;

/// The longest text of an event that goes into the log, bytes: two of them and the names stay below 2 KiB.
pub const TEXT_MAX: usize = 768;

/// The most events in one entry: with the longest texts 128 KiB, which a slow link carries within a heartbeat.
pub const BATCH_EVENTS_MAX: usize = 64;

/// An event, with whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Counts from 1 over the life of the cluster, in the order in which the nodes agreed on the events; not that of time.
    pub number: u64,
    /// The node that tells it, by its number in the cluster.
    pub node: u64,
    /// Drawn anew at each start of that node: its sequence begins again.
    pub life: u64,
    /// The event, with that node's sequence and clock.
    #[serde(flatten)]
    pub event: Event,
}

/// The events of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chronicle {
    newest: u64,
    events: VecDeque<Arc<Remembered>>,
    /// Per node: its life, and the last event of it that is in. What arrives twice is taken once.
    heard: BTreeMap<u64, (u64, u64)>,
}

/// One event on the wire and in snapshots.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WireEvent {
    /// The sequence of its node.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// By its node's clock, ms since 1970.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
    /// 0: info, 1: warning, else alert.
    #[prost(uint32, tag = "3")]
    pub severity: u32,
    /// As [`Event::subject`].
    #[prost(string, tag = "4")]
    pub subject: String,
    /// As [`Event::kind`].
    #[prost(string, tag = "5")]
    pub kind: String,
    /// As [`Event::what`].
    #[prost(string, tag = "6")]
    pub what: String,
    /// As [`Event::why`].
    #[prost(string, tag = "7")]
    pub why: String,
}

/// A remembered event in a snapshot.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireRemembered {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    life: u64,
    #[prost(message, optional, tag = "4")]
    event: Option<WireEvent>,
}

/// What was heard of a node, in a snapshot.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WireHeard {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    life: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
}

/// The chronicle in a snapshot.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WireChronicle {
    #[prost(uint64, tag = "1")]
    newest: u64,
    #[prost(message, repeated, tag = "2")]
    events: Vec<WireRemembered>,
    #[prost(message, repeated, tag = "3")]
    heard: Vec<WireHeard>,
}

impl Chronicle {
    /// Nothing was ever remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest == 0
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The events after `number` (0: all that are kept), in the order in which they came in.
    pub fn after(&self, number: u64) -> impl DoubleEndedIterator<Item = &Arc<Remembered>> {
        let at = self.events.partition_point(|event| event.number <= number);
        self.events.range(at..)
    }

    /// Takes the events of `node` that are new; how many.
    pub(super) fn put(&mut self, node: u64, batch: &EventBatch) -> usize {
        let before = self.newest;
        for wire in &batch.events {
            let known = self.heard.get(&node).filter(|(life, _)| *life == batch.life);
            if known.is_some_and(|(_, sequence)| *sequence >= wire.sequence) {
                continue;
            }
            self.heard.insert(node, (batch.life, wire.sequence));
            self.newest += 1;
            let event = wire.to_event();
            let remembered = Remembered { number: self.newest, node, life: batch.life, event };
            self.push(Arc::new(remembered));
        }
        usize::try_from(self.newest - before).unwrap_or(usize::MAX)
    }

    /// A node that is no member any more is not heard of again; what it told stays.
    pub(super) fn forget(&mut self, node: u64) {
        self.heard.remove(&node);
    }

    fn push(&mut self, event: Arc<Remembered>) {
        if self.events.len() == CHRONICLE_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn to_wire(&self) -> WireChronicle {
        let event = |event: &Arc<Remembered>| {
            let Remembered { number, node, life, event } = event.as_ref();
            WireRemembered { number: *number, node: *node, life: *life, event: Some(WireEvent::of(event)) }
        };
        let heard = |(node, (life, sequence)): (&u64, &(u64, u64))| WireHeard {
            node: *node,
            life: *life,
            sequence: *sequence,
        };
        WireChronicle {
            newest: self.newest,
            events: self.events.iter().map(event).collect(),
            heard: self.heard.iter().map(heard).collect(),
        }
    }

    /// `None`: out of order, or more than is kept.
    pub(super) fn from_wire(wire: WireChronicle) -> Option<Self> {
        if wire.events.len() > CHRONICLE_MAX {
            return None;
        }
        let mut chronicle = Self { newest: wire.newest, ..Self::default() };
        let mut last = 0;
        for WireRemembered { number, node, life, event } in wire.events {
            if number <= last || number > wire.newest {
                return None;
            }
            last = number;
            chronicle.push(Arc::new(Remembered { number, node, life, event: event?.to_event() }));
        }
        chronicle.heard =
            wire.heard.into_iter().map(|heard| (heard.node, (heard.life, heard.sequence))).collect();
        Some(chronicle)
    }
}

impl WireEvent {
    /// The event for the wire: a long text is cut.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self {
            sequence: event.sequence,
            unix_ms: event.unix_ms,
            severity: match event.severity {
                Severity::Info => 0,
                Severity::Warning => 1,
                Severity::Alert => 2,
            },
            subject: cut(&event.subject),
            kind: cut(&event.kind),
            what: cut(&event.what),
            why: cut(&event.why),
        }
    }

    fn to_event(&self) -> Event {
        let severity = match self.severity {
            0 => Severity::Info,
            1 => Severity::Warning,
            _ => Severity::Alert,
        };
        let Self { sequence, unix_ms, subject, kind, what, why, .. } = self.clone();
        Event { sequence, unix_ms, severity, subject, kind, what, why }
    }

    /// Its longest text, bytes.
    pub(super) fn longest(&self) -> usize {
        let Self { subject, kind, what, why, .. } = self;
        [subject, kind, what, why].into_iter().map(String::len).max().unwrap_or(0)
    }
}

/// At most [`TEXT_MAX`] bytes, with a sign where something is missing.
fn cut(text: &str) -> String {
    const SIGN: &str = "...";
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TEXT_MAX - SIGN.len());
    format!("{}{SIGN}", &text[..end])
}

#[cfg(test)]
mod tests;
