//! The keys of session tickets: this node's own, and those that the cluster has agreed on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cygnet_ha::consensus::{TICKET_KEY_LIFE, TicketSet};
use cygnet_netlink::ssl::{TicketKey, TicketKeys};

use super::error::ContextError;

/// How long a key of this node seals new tickets; for as long again it opens them. The same as with keys of the cluster.
pub const TICKET_ROTATION: Duration = TICKET_KEY_LIFE;

/// The keys of all services of a node. Tickets are sealed with the key of the cluster where there is one, and with the node's own
/// otherwise; what was sealed with the other before still opens.
#[derive(Debug)]
pub struct Tickets {
    keys: Arc<TicketKeys>,
    sources: Mutex<Sources>,
}

#[derive(Debug)]
struct Sources {
    own: TicketKey,
    own_before: Option<TicketKey>,
    shared: TicketSet,
}

impl Tickets {
    /// With a random key of this node.
    ///
    /// # Errors
    /// If the library has no random numbers.
    pub fn random() -> Result<Self, ContextError> {
        let keys = Arc::new(TicketKeys::random()?);
        let own = TicketKey::random()?;
        let tickets = Self {
            keys,
            sources: Mutex::new(Sources { own, own_before: None, shared: TicketSet::default() }),
        };
        tickets.sources().install(&tickets.keys);
        Ok(tickets)
    }

    /// What handshakes read.
    #[must_use]
    pub fn keys(&self) -> &Arc<TicketKeys> {
        &self.keys
    }

    /// These keys are the cluster's from now on. Without one that seals, the node's own does.
    pub fn share(&self, shared: &TicketSet) {
        let mut sources = self.sources();
        sources.shared.clone_from(shared);
        sources.install(&self.keys);
    }

    /// Replaces the node's own key; the one before goes on opening its tickets. To be called every [`TICKET_ROTATION`], also
    /// while the keys are the cluster's: what was sealed before is forgotten then.
    ///
    /// # Errors
    /// If the library has no random numbers; the keys stay as they are.
    pub fn rotate_own(&self) -> Result<(), ContextError> {
        let fresh = TicketKey::random()?;
        let mut sources = self.sources();
        sources.own_before = Some(std::mem::replace(&mut sources.own, fresh));
        sources.install(&self.keys);
        Ok(())
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sources {
    fn install(&self, keys: &TicketKeys) {
        let others = || self.shared.others.iter().cloned();
        match &self.shared.current {
            Some(current) => keys.set(current.clone(), others().chain([self.own.clone()])),
            None => keys.set(self.own.clone(), self.own_before.iter().cloned().chain(others())),
        }
    }
}
