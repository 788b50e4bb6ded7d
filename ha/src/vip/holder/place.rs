//! One of the addresses, and what became of it on our interface.

use std::net::IpAddr;

use super::retry::Retry;
use super::types::{Action, Presence};
use crate::vip::VipSettings;

/// One address of the virtual router.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: IpAddr,
    pub(super) presence: Presence,
    /// Added or adopted by us, and not yet removed.
    pub(super) ours: bool,
    pub(super) remove_retry: Option<Retry>,
}

impl Place {
    /// All of a virtual router.
    pub(super) fn of(settings: &VipSettings) -> Vec<Self> {
        let place = |address: &IpAddr| Self {
            address: *address,
            presence: Presence::default(),
            ours: false,
            remove_retry: None,
        };
        settings.addresses.iter().map(place).collect()
    }

    /// It went with the interface.
    pub(super) fn vanish(&mut self) {
        (self.ours, self.presence, self.remove_retry) = (false, Presence::default(), None);
    }

    /// It is not there any more.
    pub(super) fn is_gone(&mut self) {
        (self.ours, self.remove_retry) = (false, None);
        (self.presence.exact, self.presence.marked) = (false, false);
    }

    /// It is there, through us: `new`, or adopted.
    pub(super) fn is_there(&mut self, new: bool) {
        self.ours = true;
        (self.presence.exact, self.presence.marked) = (true, new || self.presence.marked);
    }

    /// There with a shorter prefix: the owner's own address, or one that the operator has put there. It serves as it is.
    pub(super) fn is_own(&self) -> bool {
        self.presence.shorter.is_some() && !self.presence.exact
    }

    pub(super) fn remove(&self) -> Action {
        Action::RemoveAddress(self.address)
    }
}
