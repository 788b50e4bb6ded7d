//! This node's events on their way into the log.

use std::time::Instant;

use super::{Core, Driver};
use crate::consensus::frame::Frame;
use crate::consensus::limits::{EVENT_COSTS, EVENTS_AT_ONCE, EVENTS_EVERY, RESEND_AFTER, TICK};
use crate::state::chronicle::BATCH_EVENTS_MAX;
use crate::state::{Command, EventBatch, Kind, Origin, WireEvent};

/// How far the others know what happened here.
pub(super) struct Reporter {
    /// The last event of this life that is in the log.
    known: u64,
    flight: Option<Flight>,
    not_before: Instant,
    /// When everything that was sent so far is paid for ([`EVENT_COSTS`]).
    paid: Instant,
}

/// The events that are on their way. There is at most one batch: what is sent again after it was lost, or was only slow, is
/// taken once, as long as the order stands.
struct Flight {
    sequence: u64,
    last: u64,
    sent: Instant,
}

impl Reporter {
    pub(super) fn new(now: Instant) -> Self {
        Self { known: 0, flight: None, not_before: now, paid: now }
    }

    /// An entry of ours was applied.
    pub(super) fn agreed(&mut self, sequence: u64) {
        if let Some(flight) = self.flight.take_if(|flight| flight.sequence == sequence) {
            self.known = self.known.max(flight.last);
        }
    }

    /// The leader did not take it.
    pub(super) fn refused(&mut self, sequence: u64, now: Instant) {
        if self.flight.take_if(|flight| flight.sequence == sequence).is_some() {
            self.not_before = now + TICK;
        }
    }

    /// Another node leads, or nobody: what is on its way may never come.
    pub(super) fn ask_again(&mut self, now: Instant) {
        self.flight = None;
        self.not_before = now + TICK;
    }

    /// A batch of so many events is on its way.
    fn sent(&mut self, now: Instant, flight: Flight, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.paid = self.paid.max(now) + EVENT_COSTS * count;
        let credit = EVENT_COSTS * EVENTS_AT_ONCE;
        let owed = self.paid.saturating_duration_since(now).saturating_sub(credit);
        self.not_before = now + EVENTS_EVERY.max(owed);
        self.flight = Some(flight);
    }

    fn is_due(&mut self, now: Instant) -> bool {
        self.flight.take_if(|flight| now.saturating_duration_since(flight.sent) > RESEND_AFTER);
        self.flight.is_none() && now >= self.not_before
    }
}

impl Driver {
    /// Proposes what happened here since the last time. True if a batch was handed to our own core.
    pub(super) fn tell_events(&mut self, now: Instant) -> bool {
        if !self.reporter.is_due(now) {
            return false;
        }
        self.reporter.not_before = now + EVENTS_EVERY;
        let Some(leader) = self.core.as_ref().and_then(Core::leader) else { return false };
        let (reachable, needed) = self.shared.quorum();
        let events = &self.shared.settings.events;
        let new = events.next(self.reporter.known, BATCH_EVENTS_MAX);
        let Some(last) = new.last().map(|event| event.sequence) else { return false };
        let batch = EventBatch { life: events.life(), events: new.iter().map(WireEvent::of).collect() };
        let command = Command::new(Kind::Events(batch));
        if reachable < needed || self.level() < command.level {
            return false;
        }
        let sequence = self.sequence();
        let bytes =
            Command { origin: Some(Origin { node: self.shared.settings.id, sequence }), ..command }.encode();
        let ours = leader == self.shared.settings.id;
        let sent = match &mut self.core {
            Some(core) if ours => core.propose(bytes, true).is_ok(),
            _ => self.shared.send(leader, Frame::Soft(bytes)),
        };
        if sent {
            self.reporter.sent(now, Flight { sequence, last, sent: now }, new.len());
        }
        ours && sent
    }
}
