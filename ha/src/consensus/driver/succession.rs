//! The log is closed for another process of this node, and opened again if that one does not come up.

use std::sync::Arc;

use super::Driver;
use crate::consensus::core::{Core, CoreError};
use crate::consensus::handle::ProposeError;
use crate::consensus::status::CoreView;
use crate::consensus::store::redb::RedbStore;

/// Why nothing can be agreed on meanwhile.
const AWAY: &str = "a new process of this node is taking the log over; try again in a moment";

impl Driver {
    /// Closes the log. What waits is refused.
    pub(super) fn suspend(&mut self) {
        if let Some(core) = &mut self.core
            && let Err(error) = core.save_commit()
        {
            tracing::debug!(%error, "the commit index was not saved");
        }
        self.core = None;
        self.leader = None;
        let mut view = CoreView::clone(&self.shared.view.load());
        (view.leader, view.stopped) = (None, Some(AWAY.to_owned()));
        self.shared.view.store(Arc::new(view));
        for (_, pending) in std::mem::take(&mut self.pending) {
            pending.answer(Err(ProposeError::Stopped(AWAY.to_owned())));
        }
        // What was on its way may be in the log; facts are facts, and may be there twice.
        self.land(|_| true);
        self.stopped = Some(AWAY.to_owned());
    }

    /// Goes on as at a start.
    pub(super) fn resume(&mut self, core: Core<RedbStore>) -> Result<(), CoreError> {
        self.shared.set_epoch(core.epoch());
        (self.core, self.stopped) = (Some(core), None);
        self.begin()
    }
}
