//! What happened, as the nodes remember it together.

use std::sync::Arc;
use std::time::Instant;

use super::Handle;
use crate::consensus::limits::{EVENTS_PATIENCE, TICK};
use crate::state::{Chronicle, Remembered};

impl Handle {
    /// This node's own memory of events, from which the log takes them.
    #[cfg(test)]
    pub(crate) fn events(&self) -> &crate::events::EventLog {
        &self.shared.settings.events
    }

    /// What happened on any node, as far as the nodes have agreed on it.
    #[must_use]
    pub fn chronicle(&self) -> Arc<Chronicle> {
        Arc::clone(&self.shared.published.load().chronicle)
    }

    /// How many events of this process are not in the chronicle yet.
    #[must_use]
    pub fn events_waiting(&self) -> u64 {
        let (events, chronicle) = (&self.shared.settings.events, self.chronicle());
        let own = |remembered: &&Arc<Remembered>| {
            remembered.node == self.shared.settings.id && remembered.life == events.life()
        };
        let known = chronicle.after(0).rev().find(own).map_or(0, |remembered| remembered.event.sequence);
        events.last().saturating_sub(known)
    }

    /// Waits a moment until the others know what happened here, if they can be reached.
    pub async fn share_events(&self) {
        let deadline = Instant::now() + EVENTS_PATIENCE;
        while Instant::now() < deadline && self.status().quorum && self.events_waiting() > 0 {
            tokio::time::sleep(TICK).await;
        }
    }
}
