//! Client facts on their way from the queue into the log.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Driver;
use crate::consensus::frame::Frame;
use crate::consensus::limits::{RESEND_AFTER, SOFT_EVERY, TICK};
use crate::state::command::BATCH_FACTS_MAX;
use crate::state::{ClientBatch, ClientFact, Command, Kind, Origin};

/// The batch of client facts that is on its way. There is at most one.
pub(super) struct Flight {
    pub(super) sequence: u64,
    pub(super) facts: Vec<ClientFact>,
    sent: Instant,
}

impl Driver {
    /// Takes the batch in flight back if it is lost.
    pub(super) fn land(&mut self, lost: impl Fn(&Flight) -> bool) {
        if let Some(flight) = self.flight.take_if(|flight| lost(flight)) {
            self.soft.give_back(flight.facts);
            // Not at once: whoever refused it needs a moment.
            self.soft_not_before = Instant::now() + TICK;
        }
    }

    /// Sends batches of client facts; at most one is on its way. True if one was handed to our own core.
    pub(super) fn pump_soft(&mut self, now: Instant) -> bool {
        self.take_offered();
        self.land(|flight| now.saturating_duration_since(flight.sent) > RESEND_AFTER);
        let Some(core) = &mut self.core else { return false };
        let Some(leader) = core.leader() else { return false };
        if self.flight.is_some() || now < self.soft_not_before {
            return false;
        }
        let (reachable, needed) = self.shared.quorum();
        if reachable < needed {
            // A leader that has lost its followers will notice soon; look again at the next tick.
            self.soft_not_before = now + TICK;
            return false;
        }
        let facts = self.soft.take(BATCH_FACTS_MAX);
        if facts.is_empty() {
            return false;
        }
        self.next_sequence += 1;
        let sequence = self.next_sequence;
        let origin = Some(Origin { node: self.shared.settings.id, sequence });
        let bytes = Command { origin, ..Command::new(Kind::Clients(ClientBatch::pack(&facts))) }.encode();
        let ours = leader == self.shared.settings.id;
        let sent = if ours {
            core.propose(bytes, true).is_ok()
        } else {
            self.shared.send(leader, Frame::Soft(bytes))
        };
        self.soft_not_before = now + SOFT_EVERY;
        self.flight = Some(Flight { sequence, facts, sent: now });
        if !sent {
            self.land(|_| true);
        }
        ours && sent
    }

    fn take_offered(&mut self) {
        // Before the facts: whoever puts some down afterwards signals anew.
        self.shared.soft_signalled.store(false, Ordering::Relaxed);
        let (facts, dropped) = self.shared.offered().take();
        self.soft.count_dropped(dropped);
        facts.into_iter().for_each(|fact| self.soft.offer(fact));
    }
}
