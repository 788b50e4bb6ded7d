//! The role goes over to another process of this node, without a moment in which nobody has it.
//!
//! ```text
//!   old: Active, advertises ........................... ends without a word, and leaves the address where it is
//!   new: Down; knows that the address is no leftover, and begins as Active: adopts it, announces it, advertises
//! ```
//! For a moment both advertise: the same words from the same address, which to everybody else is one router.

use cygnet_netlink::wire::Message;

use super::Holder;
use crate::time::Time;
use crate::vip::speaker::Action;
use crate::vip::{Mode, Role};

impl Holder {
    /// The process before this one holds the addresses: this one begins as Active, as soon as it can serve.
    pub fn succeed(&mut self) {
        self.succeeds = self.settings.mode == Mode::Hold && self.role == Role::Down;
    }

    /// The process before this one has let go, or has died: what is there now without this one's doing is a leftover.
    pub fn settle_down(&mut self) {
        self.succeeds = false;
    }

    /// Joins the election: from the start, or in the place of the process before.
    pub(super) fn join(&mut self, now: Time) -> Vec<Action<Message>> {
        match std::mem::take(&mut self.succeeds) {
            true => self.speaker.succeed(now),
            false => self.speaker.start(now),
        }
    }

    /// Whether this one still waits to begin in the place of the process before.
    #[must_use]
    pub fn is_to_succeed(&self) -> bool {
        self.succeeds
    }
}
