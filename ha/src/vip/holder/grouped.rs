//! What a holder does as a member of a group that moves as one ([`crate::vip::group`]): it asks before it takes over, claims nothing
//! before all have their addresses, and gives way with the others.

use super::{Action, Holder};
use crate::time::Time;
use crate::vip::Role;
use crate::vip::speaker::Reason;

impl Holder {
    /// It is a member of this group from now on, or of none.
    pub fn set_group(&mut self, now: Time, group: Option<String>) -> Vec<Action> {
        self.speaker.ask_before(group.is_some());
        self.settings.sync_group = group;
        self.bar(now, None)
    }

    /// Another member cannot take part, and so this one does not either; `None`: they all can.
    pub fn bar(&mut self, now: Time, why: Option<String>) -> Vec<Action> {
        if self.barred == why {
            return Vec::new();
        }
        self.barred = why;
        self.settle(now)
    }

    /// Why its group keeps it out.
    #[must_use]
    pub fn barred(&self) -> Option<&str> {
        self.barred.as_deref()
    }

    /// Why it would take over, if it may.
    #[must_use]
    pub fn wish(&self) -> Option<&Reason> {
        self.speaker.wish()
    }

    /// It may take over, if it would: it adds its addresses, and waits with all else for [`Holder::claim`].
    pub fn consent(&mut self, now: Time) -> Vec<Action> {
        let said = self.speaker.consent(now);
        self.holds_back = true;
        let actions = self.follow(now, said);
        self.holds_back = false;
        actions
    }

    /// Whether its addresses are there, and it waits for [`Holder::claim`].
    #[must_use]
    pub fn waits_to_claim(&self) -> bool {
        let waits =
            self.adding.as_ref().is_some_and(|pending| pending.holds_back && pending.waiting.is_empty());
        waits && self.role == Role::Active
    }

    /// All members have their addresses: announces, and advertises.
    pub fn claim(&mut self, now: Time) -> Vec<Action> {
        let waits = self.waits_to_claim();
        self.adding.take_if(|_| waits).map(|pending| self.added_all(now, pending)).unwrap_or_default()
    }

    /// Gives way although nobody better was heard.
    pub fn step_down(&mut self, now: Time, why: &str) -> Vec<Action> {
        let said = self.speaker.step_down(now, why);
        self.follow(now, said)
    }

    /// An address could not be added the last time.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.add_retry.is_some()
    }
}
