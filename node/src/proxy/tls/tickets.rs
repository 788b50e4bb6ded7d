//! The rotation of session ticket keys.

use std::sync::Arc;
use std::time::Duration;

use cygnet_ha::time::Time;
use cygnet_netlink::ssl::{TicketKey, TicketKeys};

use super::error::ContextError;

/// How long a key seals new tickets; for as long again it opens them. A session lives 2 h in both libraries, so none is
/// refused because of the rotation, and who steals the keys reads at most this twice.
pub const TICKET_ROTATION: Duration = Duration::from_secs(2 * 60 * 60);

/// Makes a new key every [`TICKET_ROTATION`]. One for all services of a node; not to be used where keys come from
/// outside.
#[derive(Debug)]
pub struct TicketRotation {
    keys: Arc<TicketKeys>,
    due: Time,
}

impl TicketRotation {
    /// Rotates `keys`, for the first time one interval after `now`.
    #[must_use]
    pub fn new(keys: Arc<TicketKeys>, now: Time) -> Self {
        Self { keys, due: now + TICKET_ROTATION }
    }

    /// Rotates if it is time; says whether it did. Cheap: call it as often as you like, from any slow thread.
    ///
    /// # Errors
    /// If the library has no random numbers; the keys stay as they are.
    pub fn tick(&mut self, now: Time) -> Result<bool, ContextError> {
        if now < self.due {
            return Ok(false);
        }
        self.keys.rotate(TicketKey::random()?);
        self.due = now + TICKET_ROTATION;
        Ok(true)
    }
}
